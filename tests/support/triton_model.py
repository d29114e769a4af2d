"""What Triton's Python backend runs in the tests: the ONNX file beside it, by ONNX Runtime.

Copied into a model repository as 1/model.py; it runs in the server's own Python, not in the tests'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        output = json.loads(args["model_config"])["output"][0]
        self.output, self.kind = output["name"], triton.triton_string_to_numpy(output["data_type"])
        folder = Path(args["model_repository"], args["model_version"])
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse([self.answer(request)]) for request in requests]

    def answer(self, request: Any) -> Any:
        frame = triton.get_input_tensor_by_name(request, "frame").as_numpy()
        return triton.Tensor(self.output, self.session.run([self.output], {"frame": frame})[0].astype(self.kind))
