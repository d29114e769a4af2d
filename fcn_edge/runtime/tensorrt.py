"""TensorRT and TensorRT-RTX: engines on NVIDIA GPUs, built from ONNX files where one is lacking.

A frame goes over the bus once, as bytes, is scaled, segmented and decoded on the GPU, and comes back as labels. While
one frame is computed the next is on its way up and the one before on its way down, each on a stream of its own;
what computes takes turns, because a context and its tensors are one frame's at a time.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fcn_edge.cuda import open_cuda
from fcn_edge.cuda.kernels import Decode, Kernels, Scale
from fcn_edge.cuda.memory import Cuda, Event
from fcn_edge.engine import versions
from fcn_edge.engine.builder import device_cache
from fcn_edge.engine.machine import find_gpu, this_machine
from fcn_edge.engine.profiles import Shape
from fcn_edge.engine.progress import Progress
from fcn_edge.engine.sidecar import Sidecar
from fcn_edge.errors import BackendError
from fcn_edge.files import replacing
from fcn_edge.runtime import engines
from fcn_edge.runtime.common import Array, check_input, check_output, which_output
from fcn_edge.runtime.lane import Lane
from fcn_edge.runtime.plan import Context, Plan
from fcn_edge.runtime.plan_layers import profile
from fcn_edge.runtime.protocol import LayerTime
from fcn_edge.spec import ModelSpec

if TYPE_CHECKING:
    from fcn_edge.prepare import Ending, Layout

KEPT_STEPS = 8  # sizes of frames whose kernels stay prepared; a stream has one
LARGEST_SIDE = 16_384  # pixels, that the kernels take
DECODED = ("float32", "float16")  # scores that the kernel takes
MAPPED = "kernel over mapped memory"  # the GPU reads and writes the host's: no copies, where that is its memory too


@dataclass
class _Steps:
    """What turns frames of one size into labels: worked out once a size."""

    context: Context
    shape: tuple[int, ...]  # of the network's input
    scale: Scale
    decode: Decode | None  # None: the graph gives labels, or scores that only the CPU can put right

    def close(self) -> None:
        self.scale.close()
        if self.decode is not None:
            self.decode.close()


@dataclass
class _Flight:
    """A frame under way; `shape` and `dtype` are of what comes back."""

    lane: Lane
    shape: tuple[int, ...]
    dtype: str
    finished: bool  # labels at the frame's own size


class TensorRt:
    """The backend protocol over TensorRT, for whole frames too.

    shapes:   that it will be asked for, (h, w) of the network: an engine that is built is built for them.
    progress: called with a share from 0 to 1 and a phase while an engine is built, for minutes.
    Raises as every backend, and ModelError for a plan that does not fit this machine.
    """

    name: ClassVar[str] = "tensorrt"
    library = distribution = "tensorrt"
    install = "pip install tensorrt"
    suffixes = (".plan", ".onnx")
    compiles = True

    @classmethod
    def precisions(cls) -> list[str]:
        """What a float file can be computed in here: its own types. Raises BackendError as opening does."""
        versions.load(cls.name)
        if find_gpu() is None:
            raise engines.no_gpu(cls.name)
        return ["fp32", "fp16"]

    @classmethod
    def lacking(cls, path: Path, installed: bool, shapes: Sequence[Shape]) -> str | None:
        """Why `auto` does not take it for the file: a line, "" where nobody need know; None where it does."""
        return engines.lacking(path, cls.name, installed, shapes)

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        precision: str | None = None,
        threads: int | None = None,
        shapes: Sequence[Shape] = (),
        progress: Progress | None = None,
    ) -> None:
        if precision not in (None, spec.precision):
            raise BackendError(
                f"{path} holds {spec.precision}, and an engine computes in its file's own types. "
                f"Export another file: fcn-edge export --precision {precision}"
            )
        engines.check_product(path, self.name)
        self._trt = versions.load(self.name)
        self._machine = this_machine(self.name)
        plan, papers = engines.obtain(path, spec, self._trt, self._machine, shapes, progress, _check_kernels)
        self._spec, self._path = spec, plan
        self.precision = spec.precision
        self.stages = dict.fromkeys(("to_device", "prepare", "infer", "decode", "from_device"), 0.0)
        self._idle: list[Lane] = []
        self._flights: deque[_Flight] = deque()
        self._steps: OrderedDict[tuple[object, ...], _Steps] = OrderedDict()
        self._computed: Event | None = None  # since when the network is free again
        self._plan: Plan | None = None
        self._cuda: Cuda = open_cuda()
        try:
            self._open(plan, papers)
        except BaseException:
            self.close()
            raise

    def _open(self, plan: Path, papers: Sidecar) -> None:
        opened = self._plan = Plan(plan, papers, self._trt, self._cuda, self._make_context)
        engines.note_achieved(plan, papers, self._trt, opened.engine)
        names = opened.inputs
        check_input(plan, self._spec, names, opened.dtype(names[0]) if names else "")
        self._output = opened.outputs[which_output(plan, self._spec, opened.outputs)]
        self._kernels = Kernels(self._cuda)
        gpu = self._cuda.gpu
        self.device = f"GPU: {gpu.name}"
        self.versions: dict[str, str] = {self.name: ".".join(map(str, self._trt.version)), **self._cuda.versions}
        self.identity = " ".join([papers.sha256, gpu.name, *(f"{key} {value}" for key, value in self.versions.items())])
        self.ways: Sequence[str] = self._offered()
        self.way = self.ways[0]

    def _make_context(self, engine: Any) -> Any:
        """An execution context whose scratch memory is that of its profile, not of the largest one."""
        return self._trt.make_context(engine)

    def _offered(self) -> list[str]:
        if self._spec.output.kind == "labels":
            return ["labels in the graph"]
        return ["kernel", *([MAPPED] if self._cuda.gpu.integrated else []), "scores"]

    @property
    def seconds(self) -> float:
        return self.stages["infer"]

    def takes(self, frame: Shape, layout: Layout) -> bool:
        return max(*frame, *layout.network) <= LARGEST_SIDE

    def infer_frame(self, frame: Array, layout: Layout, ending: Ending) -> Array:
        with self._cuda.current():  # once, and not by each of a dozen calls
            return self._land(self._launch_frame(frame, layout, ending))

    def submit_frame(self, frame: Array, layout: Layout, ending: Ending) -> None:
        with self._cuda.current():
            self._flights.append(self._launch_frame(frame, layout, ending))

    def collect_frame(self) -> Array:
        with self._cuda.current():
            return self._land(self._flights.popleft())

    def infer(self, frames: Array) -> Array:
        with self._cuda.current():
            return self._land(self._launch(frames))

    def submit(self, frames: Array) -> None:
        with self._cuda.current():
            self._flights.append(self._launch(frames))

    collect = collect_frame

    def profile(self, frames: Array, runs: int) -> list[LayerTime]:
        """As protocol.ProfilingBackend says."""
        with self._cuda.current():
            return profile(self._loaded, self._trt, frames, self._sides(frames), runs, Lane(self._cuda))

    def _sides(self, frames: Array) -> Shape:
        first = 1 if self._spec.input.layout == "NHWC" else 2
        return frames.shape[first], frames.shape[first + 1]

    def _launch_frame(self, frame: Array, layout: Layout, ending: Ending) -> _Flight:
        """Queue all of it: up, scale, network, decode, down."""
        lane = self._lane()
        try:
            steps = self._steps_for(lane, frame.shape[:2], layout, ending)
            steps.context.reshape(steps.shape, self._wait)
            lane.stage(frame, steps.scale.frame_bytes)
            lane.mark("begin")
            if self.way != MAPPED:
                lane.stream.upload(lane.frame.device, lane.frame.host, frame.nbytes)
            lane.mark("up")
            self._take_turn(lane)
            source = lane.frame.host if self.way == MAPPED else lane.frame.device
            steps.scale.launch(lane.stream, source.pointer, steps.context.input.pointer)
            lane.mark("prepared")
            steps.context.enqueue(lane.stream)
            lane.mark("scored")
            if steps.decode is None or self.way == "scores":
                return self._bring_output(lane, steps.context)
            return self._bring_labels(lane, steps.context, steps.decode, ending.labels)
        except BaseException:
            self._retire(lane)
            raise

    def _launch(self, frames: Array) -> _Flight:
        """Queue a batch that was prepared on the CPU."""
        lane = self._lane()
        try:
            context = self._loaded.context(self._sides(frames), frames.shape[0], lane.stream)
            context.reshape(frames.shape, self._wait)
            lane.stage(frames, frames.nbytes)
            lane.mark("begin")
            lane.mark("up")
            self._take_turn(lane)
            lane.stream.upload(context.input, lane.frame.host, frames.nbytes)
            lane.mark("prepared")
            context.enqueue(lane.stream)
            lane.mark("scored")
            return self._bring_output(lane, context)
        except BaseException:
            self._retire(lane)
            raise

    def _bring_labels(self, lane: Lane, context: Context, decode: Decode, size: Shape) -> _Flight:
        lane.result.fit(decode.labels_bytes)
        target = lane.result.host if self.way == MAPPED else lane.result.device
        decode.launch(lane.stream, context.buffers[self._output].pointer, target.pointer)
        lane.mark("free")
        if self.way != MAPPED:
            lane.stream.download(lane.result.host, lane.result.device, decode.labels_bytes)
        return self._off(lane, size, "uint8", finished=True)

    def _bring_output(self, lane: Lane, context: Context) -> _Flight:
        nbytes = context.nbytes(self._output)
        lane.result.fit(nbytes)
        lane.stream.download(lane.result.host, context.buffers[self._output], nbytes)
        lane.mark("free")
        return self._off(lane, context.shape(self._output), self._loaded.dtype(self._output), finished=False)

    def _off(self, lane: Lane, shape: tuple[int, ...], dtype: str, finished: bool) -> _Flight:
        lane.mark("end")
        self._computed = lane.marks["free"]
        return _Flight(lane, shape, dtype, finished)

    def _land(self, flight: _Flight) -> Array:
        lane = flight.lane
        try:
            lane.marks["end"].synchronize()
            start = perf_counter()
            output = np.array(lane.result.array(flight.shape, flight.dtype))
            self.stages = lane.stages(perf_counter() - start, flight.finished)
        except BaseException:
            self._retire(lane)
            raise
        self._idle.append(lane)
        return output if flight.finished else check_output(self._path, self._spec, output)

    def _steps_for(self, lane: Lane, frame: tuple[int, int], layout: Layout, ending: Ending) -> _Steps:
        key = (frame, layout, ending)
        steps = self._steps.get(key)
        if steps is None:
            steps = self._steps[key] = self._work_out(lane, frame, layout, ending)
            while len(self._steps) > KEPT_STEPS:
                self._wait()  # a frame in flight may be reading the tables
                self._steps.popitem(last=False)[1].close()
        self._steps.move_to_end(key)
        return steps

    def _work_out(self, lane: Lane, frame: tuple[int, int], layout: Layout, ending: Ending) -> _Steps:
        context = self._loaded.context(layout.network, 1, lane.stream)
        rows, columns = layout.network
        shape = (1, rows, columns, 3) if self._spec.input.layout == "NHWC" else (1, 3, rows, columns)
        scale = Scale(self._kernels, frame, layout.content, layout.network, self._spec.input)
        context.reshape(shape, self._wait)
        scores, dtype = context.shape(self._output), self._loaded.dtype(self._output)
        if len(scores) != 4 or scores[1] != len(self._spec.classes) or dtype not in DECODED:
            return _Steps(context, shape, scale, None)  # labels; or what a foreign file lays out in another way
        decode = Decode(
            self._kernels,
            (scores[1], scores[2], scores[3]),
            dtype,
            ending.size,
            self._spec.output.grid,
            ending.used,
            ending.content,
            ending.labels,
        )
        return _Steps(context, shape, scale, decode)

    def _lane(self) -> Lane:
        """A lane that is free: two are in flight, and a frame alone may come between."""
        return self._idle.pop() if self._idle else Lane(self._cuda)

    def _retire(self, lane: Lane) -> None:
        """What became of a lane whose frame failed is unknown, so it is not used again."""
        if self._computed is lane.marks["free"]:
            self._computed = None
        with suppress(BackendError):  # after a fault on the GPU no call succeeds; what failed first is told
            lane.close()

    def _take_turn(self, lane: Lane) -> None:
        """What is queued on the lane from now on waits until the network is free."""
        if self._computed is not None:
            lane.stream.wait(self._computed)
        lane.mark("turn")

    def _wait(self) -> None:
        if self._computed is not None:
            self._computed.synchronize()

    @property
    def _loaded(self) -> Plan:
        if self._plan is None:
            raise BackendError(f"{self._path} was closed. Open it again.")
        return self._plan

    def close(self) -> None:
        """Release the GPU; calling it again does nothing."""
        if self._plan is not None:
            with suppress(BackendError):
                for flight in self._flights:
                    flight.lane.stream.synchronize()
            with suppress(BackendError):
                self._plan.close(self._keep)
            self._plan = None
        self._idle.clear()
        self._flights.clear()
        self._steps.clear()
        self._cuda.close()

    def _keep(self) -> None:
        """Keep for the next time what was worked out in this one; the contexts are gone."""

    def __del__(self) -> None:
        # A model that was forgotten without closing gives its memory back; at the process's end the driver takes it.
        if hasattr(self, "_cuda") and not sys.is_finalizing():
            self.close()


def _check_kernels() -> None:
    """Raises BackendError where CUDA or NVRTC is missing."""
    with open_cuda() as cuda:
        Kernels(cuda)


class TensorRtRtx(TensorRt):
    """The same over TensorRT-RTX.

    It finishes its kernels when they are first needed, which the runtime cache spares the next process, and it
    captures graphs by itself, again where a shape or an address changed.
    """

    name = "tensorrt-rtx"
    library = "tensorrt_rtx"
    distribution = "tensorrt-rtx"
    install = "pip install tensorrt-rtx"
    _cache: Any = None
    _cached = 0  # bytes that were in it
    _configs: Sequence[Any] = ()  # which, like the cache, have to outlive the contexts that were made with them

    def _make_context(self, engine: Any) -> Any:
        rtx: Any = self._trt.module
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = rtx.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        config.set_execution_context_allocation_strategy(rtx.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            with suppress(OSError):
                kept = device_cache("runtime", self._machine).read_bytes()
                self._cached = len(kept) if self._cache.deserialize(kept) else 0
        config.set_runtime_cache(self._cache)
        self._configs = *self._configs, config
        return engine.create_execution_context(config)

    def _keep(self) -> None:
        if self._cache is None:
            return
        serialized = self._cache.serialize()
        content = b"" if serialized is None else bytes(serialized)
        self._cache, self._configs = None, ()
        if content and len(content) != self._cached:
            file = device_cache("runtime", self._machine)
            with suppress(OSError):  # a full or read-only disk costs the next process seconds, not this one its result
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as temporary:
                    temporary.write_bytes(content)
