"""ONNX Runtime on the CPU: everywhere, every operator, float32."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

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
from fcn_edge.runtime.protocol import LayerTime
from fcn_edge.spec import ModelSpec

TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
PRECISIONS = {"float": "fp32", "float16": "fp16", "uint8": "int8", "int8": "int8"}  # of what a layer gives
KERNEL_TIME = "_kernel_time"
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
        self._path, self._spec, self._ort, self._threads = path, spec, ort, threads
        self._session: Any = self._open(self._options())
        inputs: list[Any] = self._session.get_inputs()
        kind = str(inputs[0].type) if inputs else ""
        check_input(path, spec, [each.name for each in inputs], TYPES.get(kind, kind))
        outputs = [each.name for each in self._session.get_outputs()]
        self._input: Any = inputs[0]
        self._output: str = outputs[which_output(path, spec, outputs)]
        self._worker = Worker(self._run)

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = FATAL
        if self._spec.remainder == "fp16":  # optimised, its casts and scales are fused to wrong labels (1.31)
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self._spec.precision == "int8" and saturates():
            options.add_session_config_entry("session.x64quantprecision", "1")  # exact sums, at some cost
        return options

    def _open(self, options: Any) -> Any:
        try:
            return self._ort.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base but this
            raise ModelError(f"{self._path}: ONNX Runtime cannot load it: {first_line(error)}") from error

    @property
    def seconds(self) -> float:
        return self._worker.seconds

    def infer(self, frames: Array) -> Array:
        return self._worker.infer(frames)

    def submit(self, frames: Array) -> None:
        self._worker.submit(frames)

    def collect(self) -> Array:
        return self._worker.collect()

    def profile(self, frames: Array, runs: int) -> list[LayerTime]:
        """As protocol.ProfilingBackend says."""
        options = self._options()
        options.enable_profiling = True
        with TemporaryDirectory(prefix="fcn-edge-profile-") as folder:
            options.profile_file_prefix = str(Path(folder) / "layers")
            session = self._open(options)
            for _ in range(runs + 1):
                self._through(session, frames)
            events: list[dict[str, Any]] = msgspec.json.decode(Path(session.end_profiling()).read_bytes())
        kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL_TIME)]
        return _layers(kernels, runs)

    def close(self) -> None:
        self._worker.close()
        self._session = None

    def _run(self, frames: Array) -> Array:
        return self._through(self._session, frames)

    def _through(self, session: Any, frames: Array) -> Array:
        taken = self._input.shape
        fixed = [(side, given) for side, given in zip(taken, frames.shape, strict=False) if isinstance(side, int)]
        if len(taken) != frames.ndim or any(side != given for side, given in fixed):
            raise wrong_shape(self._path, taken, frames.shape)
        try:
            outputs = session.run([self._output], {self._input.name: frames})
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed on {self._path}: {first_line(error)}") from error
        return check_output(self._path, self._spec, outputs[0])


def _layers(kernels: list[dict[str, Any]], runs: int) -> list[LayerTime]:
    """The mean of each layer from what the profiler wrote down: the runs one after the other, the first to warm up."""
    taken: dict[str, list[float]] = {}
    told: dict[str, dict[str, Any]] = {}
    for event in kernels:
        name = event["name"].removesuffix(KERNEL_TIME)
        taken.setdefault(name, []).append(event["dur"] / 1e6)
        told[name] = event["args"]
    layers: list[LayerTime] = []
    for name, seconds in taken.items():
        each = len(seconds) // (runs + 1)  # of this name in a run: names are unique in most files, and need not be
        outputs: list[dict[str, list[int]]] = told[name].get("output_type_shape", [])
        kind, shape = next(iter(outputs[0].items())) if outputs else ("", None)
        layers.append(
            LayerTime(
                name=name,
                op=told[name].get("op_name", ""),
                seconds=sum(seconds[each:]) / runs,
                precision=PRECISIONS.get(kind),
                output=tuple(shape) if shape is not None else None,
            )
        )
    return layers
