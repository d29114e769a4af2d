"""OpenVINO on the CPU: the fastest here, at the price of compiling for each shape.

A graph with open sides runs at half the speed of one with fixed sides, so the file is specialised once for
each shape that comes, and the last few are kept: a video source has one. A frame alone gets all threads;
of two in flight each gets half, as threads that need not wait for each other after every layer do the same
work in two thirds of the CPU time. By default OpenVINO computes a
float file in bfloat16 where the CPU has it; it says so, and float32 can be asked for.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_edge.errors import BackendError, ModelError
from fcn_edge.runtime.common import (
    Array,
    check_input,
    check_output,
    first_line,
    library,
    settle_precision,
    which_output,
    wrong_shape,
)
from fcn_edge.runtime.host import cpu_device, has_vnni, physical_cores, saturates
from fcn_edge.runtime.protocol import LayerTime
from fcn_edge.spec import ModelSpec

KEPT_SHAPES = 8  # pictures of a data set come in a dozen shapes; each holds 30 MB at 513x513 and takes 0.3 s to compile
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
KERNELS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}  # at the end of a kernel's name


class OpenVino:
    """The backend protocol over OpenVINO's infer requests."""

    name = "openvino"
    library = distribution = "openvino"
    install = "pip install openvino"
    suffixes = (".onnx",)
    compiles = False

    @classmethod
    def precisions(cls) -> list[str]:
        """What a float file can be computed in here, the default first. Raises BackendError as opening does."""
        core = library(cls.library, cls.install).Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        able = ["fp32", *(name for name in ("bf16", "fp16") if name.upper() in capabilities)]
        own = core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
        return sorted(able, key=lambda name: HINTS[name] != own)

    @classmethod
    def gains_from_int8(cls) -> bool:
        """Whether an int8 file is faster here than the float one (docs/int8.md)."""
        return has_vnni()

    def __init__(self, path: Path, spec: ModelSpec, precision: str | None = None, threads: int | None = None) -> None:
        self._ov = library(self.library, self.install)
        self._core: Any = self._ov.Core()
        self.precision = settle_precision(self.name, path, spec, precision, self.precisions())
        if self.precision == "int8" and saturates() and _weight_bits(spec) > 7:
            raise BackendError(
                f"{path} has 8-bit weights, and this CPU has no VNNI: OpenVINO then adds two products in 16 bits, "
                "where they do not fit, and labels come out wrong (docs/int8.md). Export it with --weight-bits 7, take "
                "the float file, or --backend onnxruntime, which is exact and slow."
            )
        self.versions: dict[str, str] = {"openvino": self._ov.__version__.partition("-")[0]}
        self._threads = threads or physical_cores()
        self.device = cpu_device(self._threads)
        self._path, self._spec = path, spec
        self._model: Any = self._read(path)
        inputs: list[Any] = self._model.inputs
        dtype = str(inputs[0].get_element_type().to_dtype()) if inputs else ""
        check_input(path, spec, [_name(each) for each in inputs], dtype)
        self._output = which_output(path, spec, [_name(each, spec.output.name) for each in self._model.outputs])
        self._compiled: OrderedDict[tuple[int, ...], _Network] = OrderedDict()
        self._pending: deque[_Flight] = deque()
        self.seconds = 0.0

    def infer(self, frames: Array) -> Array:
        return self._finish(self._start(frames, 1))

    def submit(self, frames: Array) -> None:
        self._pending.append(self._start(frames, min(2, self._threads)))

    def collect(self) -> Array:
        return self._finish(self._pending.popleft())

    def profile(self, frames: Array, runs: int) -> list[LayerTime]:
        """As protocol.ProfilingBackend says."""
        compiled = self._specialise(frames.shape, 1, PERF_COUNT=True)
        request: Any = compiled.create_infer_request()
        request.set_input_tensor(self._ov.Tensor(frames, shared_memory=True))
        taken: Counter[str] = Counter()
        for turn in range(runs + 1):
            request.infer()
            if turn:
                taken.update({each.node_name: each.real_time.total_seconds() for each in request.profiling_info})
        nodes: list[Any] = compiled.get_runtime_model().get_ordered_ops()
        told = {node.get_friendly_name(): node for node in nodes}
        return [_layer(each, taken[each.node_name] / runs, told) for each in request.profiling_info if _ran(each)]

    def close(self) -> None:
        for flight in self._pending:
            flight.request.wait()
        self._pending.clear()
        self._compiled.clear()
        self._model = None

    def _read(self, path: Path) -> Any:
        """The graph, by the ONNX front end alone: a broken file would be tried by all others, noisily."""
        frontend = library("openvino.frontend", self.install).FrontEndManager().load_by_framework("onnx")
        try:
            return frontend.convert(frontend.load(str(path)))
        except Exception as error:  # the front end's failures share no base but this
            reason = str(error).strip().splitlines()[-1:] or [""]
            raise ModelError(f"{path}: OpenVINO cannot load it: {reason[0]}") from error

    def _start(self, frames: Array, streams: int) -> _Flight:
        key = (streams, *frames.shape)
        network = self._compiled.get(key)
        if network is None:
            network = self._compiled[key] = _Network(self._specialise(frames.shape, streams), streams)
            while len(self._compiled) > KEPT_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        request = network.idle.pop() if network.idle else network.compiled.create_infer_request()
        request.set_input_tensor(self._ov.Tensor(frames, shared_memory=True))
        flight = _Flight(network, request, frames, time.perf_counter())
        request.start_async()
        return flight

    def _finish(self, flight: _Flight) -> Array:
        try:
            flight.request.wait()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on {self._path}: {first_line(error)}") from error
        self.seconds = flight.network.busy(flight.started, flight.request.latency / 1000)
        output = flight.request.get_output_tensor(self._output).data.copy()  # the request's own memory is written again
        flight.network.idle.append(flight.request)
        return check_output(self._path, self._spec, output)

    def _specialise(self, frames: tuple[int, ...], streams: int, **more: Any) -> Any:
        taken = self._model.inputs[0].get_partial_shape()
        if not taken.compatible(self._ov.PartialShape(list(frames))):
            raise wrong_shape(self._path, list(taken), frames)
        options: dict[str, Any] = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": self._threads, **more}
        if self.precision in HINTS:
            options["INFERENCE_PRECISION_HINT"] = HINTS[self.precision]
        try:
            model = self._model
            if taken.is_dynamic:
                model = model.clone()
                model.reshape({0: list(frames)})
            return self._core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot compile {self._path}: {first_line(error)}") from error


def _name(port: Any, meant: str | None = None) -> str:
    """What the file calls an input or output: `meant`, if that is one of the names that OpenVINO has for it."""
    names: set[str] = port.get_names()
    return meant if meant in names else min(names, default="unnamed")


def _ran(layer: Any) -> bool:
    """Most of what OpenVINO lists was fused into something else."""
    return layer.status.name == "EXECUTED"


def _layer(layer: Any, seconds: float, nodes: dict[str, Any]) -> LayerTime:
    """node: of the graph that was compiled, which has the shape; its precision is that of the kernel that was taken."""
    node = nodes.get(layer.node_name)
    kernel = layer.exec_type.rpartition("_")[2].lower()  # "brgconv_avx512_1x1_bf16"
    shape = node.output(0).get_partial_shape() if node is not None and node.get_output_size() else None
    known = shape is not None and shape.is_static
    return LayerTime(
        name=layer.node_name,
        op=layer.node_type,
        seconds=seconds,
        precision=KERNELS.get(kernel),
        output=tuple(shape.to_shape()) if shape is not None and known else None,
    )


class _Network:
    """The file compiled for one shape, and its requests that are free."""

    def __init__(self, compiled: Any, streams: int) -> None:
        self.compiled = compiled
        self.idle: list[Any] = []
        self._ends = deque([0.0] * streams)  # when each stream was last done, the earliest first

    def busy(self, started: float, latency: float) -> float:
        """Seconds that a request took, without its wait for a stream, which OpenVINO's latency counts in."""
        end = started + latency
        self._ends.append(end)
        return end - max(started, self._ends.popleft())


@dataclass
class _Flight:
    """A request under way."""

    network: _Network
    request: Any
    frames: Array  # OpenVINO reads this memory and holds no reference to it
    started: float


def _weight_bits(spec: ModelSpec) -> int:
    """Of an int8 file's weights; 8 where it does not say so."""
    told: dict[str, Any] = spec.provenance.get("int8") or {}
    return int(told.get("weight_bits", 8))
