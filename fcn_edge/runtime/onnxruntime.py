"""ONNX Runtime on the CPU: everywhere, every operator, float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from fcn_edge.runtime.host import cpu_device, physical_cores, saturates
from fcn_edge.spec import ModelSpec

TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
FATAL = 4  # log level: errors come as exceptions, and once is enough


class OnnxRuntime:
    """The backend protocol over `onnxruntime.InferenceSession`."""

    name = "onnxruntime"
    library = distribution = "onnxruntime"
    install = "pip install onnxruntime"
    suffixes = (".onnx",)
    compiles = False

    @classmethod
    def precisions(cls) -> list[str]:
        """What a float file can be computed in here, the default first. Raises BackendError as opening does."""
        library(cls.library, cls.install)
        return ["fp32"]

    @classmethod
    def gains_from_int8(cls) -> bool:
        """Whether an int8 file is faster here than the float one: at half the float file's rate it is not (1.31)."""
        return False

    def __init__(self, path: Path, spec: ModelSpec, precision: str | None = None, threads: int | None = None) -> None:
        ort = library(self.library, self.install)
        self.precision = settle_precision(self.name, path, spec, precision, self.precisions())
        self.versions: dict[str, str] = {"onnxruntime": ort.__version__}
        threads = threads or physical_cores()
        self.device = cpu_device(threads)
        ort.set_default_logger_severity(FATAL)
        options: Any = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = FATAL
        if spec.remainder == "fp16":  # optimised, its casts and scales are fused to wrong labels (1.31)
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if spec.precision == "int8" and saturates():
            options.add_session_config_entry("session.x64quantprecision", "1")  # exact sums, at some cost
        try:
            self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base but this
            raise ModelError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}") from error
        self._path, self._spec = path, spec
        inputs: list[Any] = self._session.get_inputs()
        kind = str(inputs[0].type) if inputs else ""
        check_input(path, spec, [each.name for each in inputs], TYPES.get(kind, kind))
        outputs = [each.name for each in self._session.get_outputs()]
        self._input: Any = inputs[0]
        self._output: str = outputs[which_output(path, spec, outputs)]
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
        self._session = None

    def _run(self, frames: Array) -> Array:
        taken = self._input.shape
        fixed = [(side, given) for side, given in zip(taken, frames.shape, strict=False) if isinstance(side, int)]
        if len(taken) != frames.ndim or any(side != given for side, given in fixed):
            raise wrong_shape(self._path, taken, frames.shape)
        try:
            outputs = self._session.run([self._output], {self._input.name: frames})
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed on {self._path}: {first_line(error)}") from error
        return check_output(self._path, self._spec, outputs[0])
