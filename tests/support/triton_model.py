"""What Triton's Python backend runs in the tests: the ONNX file beside it, by ONNX Runtime.

Copied into a model repository as 1/model.py. It runs in the server's own Python, which looks at no PYTHONPATH: what it
may import besides lies in TRITON_PACKAGES.
"""

from __future__ import annotations

import json
import os
import site
from pathlib import Path
from typing import Any

site.addsitedir(os.environ["TRITON_PACKAGES"])

import numpy as np
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
        (output,) = self.session.run([self.output], {"frame": frame})
        return triton.Tensor(self.output, np.asarray(output, self.kind))
