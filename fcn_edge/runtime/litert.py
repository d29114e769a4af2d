"""LiteRT (TensorFlow Lite) on the CPU, for `.tflite` files: the usual form of quantised mobile networks.

Its files have one fixed size and channels last, scores too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcn_edge.errors import BackendError, ModelError
from fcn_edge.runtime.common import (
    Array,
    Worker,
    check_input,
    check_output,
    first_line,
    library,
    settle_precision,
    which_output,
    wrong_shape,
)
from fcn_edge.runtime.host import cpu_device, physical_cores
from fcn_edge.spec import ModelSpec


class LiteRt:
    """The backend protocol over LiteRT's interpreter with its XNNPACK kernels."""

    name = "litert"
    library, distribution = "ai_edge_litert.interpreter", "ai-edge-litert"
    install = "pip install ai-edge-litert"
    suffixes = (".tflite",)
    compiles = False

    @classmethod
    def precisions(cls) -> list[str]:
        """What a float file can be computed in here, the default first. Raises BackendError as opening does."""
        library(cls.library, cls.install)
        return ["fp32"]

    def __init__(self, path: Path, spec: ModelSpec, precision: str | None = None, threads: int | None = None) -> None:
        litert = library(self.library, self.install)
        self.precision = settle_precision(self.name, path, spec, precision, self.precisions())
        self.versions: dict[str, str] = {"ai-edge-litert": library("ai_edge_litert", self.install).__version__}
        threads = threads or physical_cores()
        self.device = cpu_device(threads)
        try:
            self._interpreter: Any = litert.Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: LiteRT cannot load it: {first_line(error)}") from error
        self._path, self._spec = path, spec
        self._input: dict[str, Any] = self._interpreter.get_input_details()[0]
        outputs: list[dict[str, Any]] = self._interpreter.get_output_details()
        self._output: int = outputs[which_output(path, spec, [each["name"] for each in outputs])]["index"]
        names = [each["name"] for each in self._interpreter.get_input_details()]
        check_input(path, spec, names, self._input["dtype"].__name__)
        self._worker = Worker(self._run)

    @property
    def seconds(self) -> float:
        return self._worker.seconds

    def infer(self, frames: Array) -> Array:
        return self._worker.infer(frames)

    def submit(self, frames: Array) -> None:
        self._worker.submit(frames)

    def collect(self) -> Array:
        return self._worker.collect()

    def close(self) -> None:
        self._worker.close()
        self._interpreter = None

    def _run(self, frames: Array) -> Array:
        if tuple(self._input["shape"]) != frames.shape:
            raise wrong_shape(self._path, list(self._input["shape"]), frames.shape)
        try:
            self._interpreter.set_tensor(self._input["index"], frames)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"LiteRT failed on {self._path}: {first_line(error)}") from error
        output: Array = self._interpreter.get_tensor(self._output)
        if output.ndim == 4 and output.shape[3] == len(self._spec.classes):
            output = np.ascontiguousarray(np.moveaxis(output, 3, 1))
        return check_output(self._path, self._spec, output)
