"""A stand-in for TensorRT's runtime, where no GPU can be had: an "engine" whose network is the tiny one, in NumPy.

It answers the calls that fcn_edge makes of a runtime, an engine and a context, and computes in the memory of the
emulated GPU (emulated.py), in the order in which its streams are told. It refuses what TensorRT would not forgive:
a context that runs before its addresses and shape are set, a shape outside its profile or before there is one, as all
contexts but an engine's first begin. What it shows is which
buffers, shapes, contexts and graphs are used when. It shows nothing of TensorRT.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import emulated
import numpy as np
import tiny

from fcn_edge.cuda.kernels import Kernels
from fcn_edge.cuda.memory import Cuda
from fcn_edge.engine.profiles import Profile

INPUT, OUTPUT = "frame", "scores"


class StandIn:
    """What `versions.load` gives, and the GPU: patch them in with `install`."""

    def __init__(self, profiles: Sequence[Profile], dtype: str = "float32", labels: bool = False) -> None:
        self.profiles, self.dtype, self.labels = profiles, dtype, labels
        self.product, self.title, self.version, self.is_rtx = "tensorrt", "TensorRT", (10, 3, 0), False
        self.logger = None
        self.loads = self.starts = True
        self.classes_last = False  # as some exporters of foreign files leave them
        self.lines: list[tuple[int, str]] = []
        self.contexts: list[Context] = []
        self.cudas: list[Cuda] = []
        self.api = self.module = SimpleNamespace(
            Runtime=self.start,
            TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        )

    def install(self, monkeypatch: Any, machine: Any) -> StandIn:
        from fcn_edge.engine import versions
        from fcn_edge.runtime import engines, tensorrt

        monkeypatch.setattr(versions, "load", lambda product: self)
        for module in (engines, tensorrt):
            monkeypatch.setattr(module, "this_machine", lambda product: machine)
        monkeypatch.setattr(engines, "find_gpu", lambda: machine.gpu)
        monkeypatch.setattr(engines, "note_achieved", lambda *given: None)
        monkeypatch.setattr(tensorrt, "open_cuda", self.open)
        monkeypatch.setattr(tensorrt, "Kernels", kernels)
        return self

    def open(self) -> Cuda:
        self.cudas.append(Cuda(cast(Any, emulated.Emulated())))
        return self.cudas[-1]

    @contextmanager
    def listening(self) -> Iterator[list[tuple[int, str]]]:
        yield self.lines

    def make_context(self, engine: Engine) -> Context:
        self.contexts.append(Context(engine))
        return self.contexts[-1]

    def start(self, logger: None) -> SimpleNamespace:
        if not self.starts:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return SimpleNamespace(deserialize_cuda_engine=self.deserialize)

    def deserialize(self, plan: bytes) -> Engine | None:
        return Engine(self) if self.loads else None


class Engine:
    num_io_tensors = 2

    def __init__(self, trt: StandIn) -> None:
        self.trt = trt

    def get_tensor_name(self, index: int) -> str:
        return (INPUT, OUTPUT)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == INPUT else "output"

    def get_tensor_dtype(self, name: str) -> Any:
        types = {"uint8": "UINT8", "float32": "FLOAT", "float16": "HALF"}
        return SimpleNamespace(name=types["uint8" if name == INPUT or self.trt.labels else self.trt.dtype])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        profile = self.trt.profiles[index]
        sides = (profile.min, profile.opt, profile.max)
        return [(batch, *side, 3) for batch, side in zip(profile.batch, sides, strict=True)]


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.active_optimization_profile = -1 if engine.trt.contexts else 0
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.calls = 0  # of execute_async_v3, captured ones too

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.active_optimization_profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.active_optimization_profile < 0:
            return False
        profile = self.engine.trt.profiles[self.active_optimization_profile]
        self.shape = tuple(shape)
        return profile.takes(cast(tuple[int, int], self.shape[1:3]), self.shape[0])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        count, rows, columns, _ = self.shape
        if name == INPUT:
            return self.shape
        if self.trt.labels:
            return count, rows, columns
        return (count, rows, columns, 4) if self.trt.classes_last else (count, 4, rows, columns)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return True

    @property
    def trt(self) -> StandIn:
        return self.engine.trt

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self.addresses) == {INPUT, OUTPUT}
        shape, addresses = self.shape, dict(self.addresses)
        dtype = np.dtype("uint8" if self.trt.labels else self.trt.dtype)

        def run() -> None:
            assert shape == self.shape, "a graph of another shape was replayed"
            scores = tiny.scores_of(_at(addresses[INPUT], shape, np.dtype("uint8")))
            output = scores.argmax(1) if self.trt.labels else scores
            if self.trt.classes_last:
                output = np.moveaxis(output, 1, 3)
            _at(addresses[OUTPUT], output.shape, dtype)[:] = output

        self.calls += 1
        driver = cast(emulated.Emulated, self.trt.cudas[-1].driver)
        driver._do(stream, run)
        return True


def kernels(cuda: Cuda) -> Kernels:
    module = cuda.module(b"")
    return cast(Kernels, SimpleNamespace(cuda=cuda, function=module.function, close=module.close))


def _at(pointer: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    memory = (ctypes.c_uint8 * (int(np.prod(shape)) * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(cast(Any, memory), dtype).reshape(shape)
