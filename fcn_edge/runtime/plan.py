"""An engine on the GPU: its tensors by name, one execution context a profile, a CUDA graph a shape.

Contexts share the GPU in turns, so whatever runs on one must be queued behind what ran before: two frames in
flight overlap their copies, never their networks, which would fill the GPU alone anyway. A context keeps its
tensors at the same addresses for life. A captured graph names those addresses and the shape that was set, and is void
once another is set (NVIDIA/TensorRT #3798); before a capture the shape must have run once (NVIDIA/TensorRT #2603).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fcn_edge.cuda.memory import Buffer, Cuda, Graph, Stream
from fcn_edge.engine.profiles import Profile
from fcn_edge.engine.sidecar import Sidecar
from fcn_edge.engine.versions import ERROR, Line, Trt
from fcn_edge.errors import BackendError, ModelError

Shape = tuple[int, ...]
MakeContext = Callable[[Any], Any]  # an execution context of an engine

DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT8": "int8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool",
}  # fmt: skip
LOCATION = re.compile(r"\s*\(?In \w+ at \S+\)?.*$")  # in TensorRT's own source, at the end of each of its messages
SHAPE_OPTIONS = ("--shapes", "--min", "--opt", "--max")


class Plan:
    """A plan that was loaded.

    make: gives an execution context of the engine.
    Raises ModelError where TensorRT does not take it, with TensorRT's own reason.
    """

    def __init__(self, path: Path, papers: Sidecar, trt: Trt, cuda: Cuda, make: MakeContext) -> None:
        self.path, self.cuda, self.profiles = path, cuda, papers.profiles
        self._trt, self._rebuild, self._make = trt, papers.rebuild, make
        options = papers.key.options
        with cuda.current(), trt.listening() as lines:
            try:
                self._runtime: Any = trt.api.Runtime(trt.logger)
            except TypeError as error:  # pybind's word for the null that comes where driver or GPU do not serve it
                why = LOCATION.sub("", lines[-1][1].strip()).rstrip(".") if lines else "it does not say why"
                raise BackendError(f"{trt.title} does not start: {why}. Look at the driver: fcn-edge doctor") from error
            if options.dla_core is not None:
                self._runtime.DLA_core = options.dla_core
            if options.version_compatible:
                self._runtime.engine_host_code_allowed = True  # such a plan brings its own lean runtime
            self.engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            version = ".".join(map(str, trt.version))
            why = complaint(lines)
            raise ModelError(f"{path} could not be loaded by {trt.title} {version}{why}. Rebuild: {papers.rebuild}")
        names = [str(self.engine.get_tensor_name(index)) for index in range(self.engine.num_io_tensors)]
        inside = [self.engine.get_tensor_mode(name) == trt.api.TensorIOMode.INPUT for name in names]
        self.inputs = [name for name, into in zip(names, inside, strict=True) if into]
        self.outputs = [name for name, into in zip(names, inside, strict=True) if not into]
        self._contexts: dict[int, Context] = {}

    @property
    def is_rtx(self) -> bool:
        return self._trt.is_rtx

    def dtype(self, tensor: str) -> str:
        """As NumPy names it. Raises ModelError for a type that NumPy has not."""
        kind = self.engine.get_tensor_dtype(tensor).name
        if kind not in DTYPES:
            raise ModelError(f"{self.path}: its tensor {tensor} is of type {kind}, which cannot be read here.")
        return DTYPES[kind]

    def context(self, shape: tuple[int, int], batch: int, stream: Stream) -> Context:
        """The context that takes frames of that shape; made where it is the first.

        Raises BackendError where no profile does, with their range and the command that widens it.
        """
        index = choose(self.profiles, shape, batch)
        if index is None:
            raise self.refused(shape, batch)
        if index not in self._contexts:
            with self.cuda.current():
                made = self.tried("no execution context could be made", lambda: self._make(self.engine))
                self._contexts[index] = Context(self, made, index, stream)
        return self._contexts[index]

    def refused(self, shape: tuple[int, int], batch: int) -> BackendError:
        """The error for frames that no profile takes."""
        return BackendError(outside(self.path, self.profiles, shape, batch, self._rebuild))

    def tried(self, failure: str, call: Callable[[], Any]) -> Any:
        """What `call` of TensorRT returns; BackendError with its own reason where that is None or False: it failed."""
        with self._trt.listening() as lines:
            answer = call()
        if answer is None or answer is False:
            raise BackendError(f"{self.path}: {failure}{complaint(lines)}.")
        return answer

    def close(self, between: Callable[[], None]) -> None:
        """Release contexts and engine, in the order that TensorRT wants; calling it again does nothing.

        between: releases what was made by the engine and for the contexts, once these are gone and before that is.
        """
        with self.cuda.current():
            for context in self._contexts.values():
                with suppress(BackendError):  # after a fault on the GPU no call succeeds: all is lost with the context
                    context.close()
            self._contexts.clear()
            with suppress(BackendError):
                between()
            self.engine = self._runtime = None


class Context:
    """One profile at work: its tensors, allocated once for the profile's largest shape, and a graph of the last one."""

    def __init__(self, plan: Plan, context: Any, index: int, stream: Stream) -> None:
        self._plan = plan
        self._context: Any = context
        self._shape: Shape = ()
        self._runs = 0  # since the shape was set
        self._graph: Graph | None = None
        self.captures = not plan.is_rtx  # which captures by itself
        if context.active_optimization_profile != index:  # 0 in an engine's first context, in all others none
            use = context.set_optimization_profile_async
            plan.tried(f"its profile {index} cannot be used", lambda: use(index, stream.handle))
        stream.synchronize()
        (name,) = plan.inputs
        self._set(tuple(plan.engine.get_tensor_profile_shape(name, index)[2]))
        self.buffers: dict[str, Buffer] = {}
        for tensor in (name, *plan.outputs):
            made = self.buffers[tensor] = plan.cuda.device(self.nbytes(tensor))
            take = partial(context.set_tensor_address, tensor, made.pointer)
            plan.tried(f"its tensor {tensor} takes no address", take)

    @property
    def input(self) -> Buffer:
        return self.buffers[self._plan.inputs[0]]

    def shape(self, tensor: str) -> Shape:
        """At the shape that the input has now."""
        return tuple(self._context.get_tensor_shape(tensor))

    def nbytes(self, tensor: str) -> int:
        return int(np.prod(self.shape(tensor))) * np.dtype(self._plan.dtype(tensor)).itemsize

    def reshape(self, shape: Shape, wait: Callable[[], None]) -> None:
        """Give the input this shape, after waiting for what is in flight, which has another."""
        if shape != self._shape:
            wait()
            self._set(shape)

    def _set(self, shape: Shape) -> None:
        self.drop_graph()
        with self._plan.cuda.current():
            sides = "x".join(map(str, shape))
            take = partial(self._context.set_input_shape, self._plan.inputs[0], shape)
            self._plan.tried(f"its input does not take the shape {sides}", take)
        self._shape, self._runs = shape, 0

    def enqueue(self, stream: Stream) -> None:
        """Queue the network: as TensorRT queues it the first time, captured the second, replayed from then on."""
        if self._graph is None and self.captures and self._runs == 1:
            self._graph = self._capture(stream)
        self._runs += 1
        if self._graph is not None:
            self._graph.launch(stream)
        else:
            self.execute(stream)

    def execute(self, stream: Stream) -> None:
        """Queue the network without a graph."""
        with self._plan.cuda.current():
            self._plan.tried("the network failed", partial(self._context.execute_async_v3, stream.handle))

    def _capture(self, stream: Stream) -> Graph | None:
        stream.synchronize()  # what the first run set up must be done
        try:
            return stream.capture(lambda: self.execute(stream))
        except BackendError:
            self.captures = False  # engines with loops or conditions cannot; they run as before
            return None

    @property
    def replays(self) -> bool:
        return self._graph is not None

    def drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
        self._graph = None

    def close(self) -> None:
        try:
            self.drop_graph()
            for buffer in self.buffers.values():
                buffer.close()
        finally:
            self._context = None


def complaint(lines: Sequence[Line]) -> str:
    """The first error among what TensorRT logged, as the end of a sentence; "" where there is none."""
    errors = [text.strip() for severity, text in lines if severity <= ERROR and text.strip()]
    return f": {LOCATION.sub('', errors[0].splitlines()[0]).rstrip('.')}" if errors else ""


def choose(profiles: Sequence[Profile], shape: tuple[int, int], batch: int = 1) -> int | None:
    """The index of the profile that suits the shape best; None where none takes it.

    A static one was tuned for nothing else; of the others the one whose own optimum is nearest.
    """
    able = [index for index, profile in enumerate(profiles) if profile.takes(shape, batch)]

    def distance(index: int) -> tuple[bool, int]:
        profile = profiles[index]
        return not profile.static, abs(profile.opt[0] - shape[0]) + abs(profile.opt[1] - shape[1])

    return min(able, key=distance, default=None)


def outside(path: Path, profiles: Sequence[Profile], shape: tuple[int, int], batch: int, rebuild: str) -> str:
    """The line for a shape that no profile takes: what they take, and the command that adds it."""
    ranges = [str(profile) for profile in profiles]
    shown = ", ".join(ranges[:8]) + (f" and {len(ranges) - 8} more" if len(ranges) > 8 else "")
    given = f"{batch} frames of {shape[0]}x{shape[1]}" if batch > 1 else f"{shape[0]}x{shape[1]}"
    words = shlex.split(rebuild)
    kept = [
        word
        for word, before in zip(words, ["", *words], strict=False)
        if before not in SHAPE_OPTIONS and word.partition("=")[0] not in SHAPE_OPTIONS
    ]
    wider = shlex.join([*kept, *_wider(profiles, shape)])
    return f"{path} takes {shown} (rows x columns), not {given}. Widen it: {wider}"


def _wider(profiles: Sequence[Profile], shape: tuple[int, int]) -> list[str]:
    """The options of `fcn-edge build` that take what was taken and the shape too."""
    if all(profile.static for profile in profiles):
        shapes = dict.fromkeys([*(profile.opt for profile in profiles), shape])
        return ["--shapes", ",".join(f"{rows}x{columns}" for rows, columns in shapes)]
    first = profiles[0]
    least = tuple(min(side, new) for side, new in zip(first.min, shape, strict=True))
    most = tuple(max(side, new) for side, new in zip(first.max, shape, strict=True))
    sides = zip(("--min", "--opt", "--max"), (least, first.opt, most), strict=True)
    return [word for option, side in sides for word in (option, f"{side[0]}x{side[1]}")]
