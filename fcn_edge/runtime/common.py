"""What the backends share: finding their library, settling the precision, a thread to run ahead on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fcn_edge.errors import BackendError, ModelError
from fcn_edge.spec import VOID, ModelSpec

Array = np.ndarray[Any, Any]


def library(module: str, install: str) -> Any:
    """The imported module; BackendError with the line that installs it, or that says why it does not load."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise BackendError(f"{module} is not installed: {install}") from error
    except ImportError as error:
        raise BackendError(f"{module} is installed but does not load: {first_line(error)} Try: {install}") from error


def settle_precision(backend: str, path: Path, spec: ModelSpec, asked: str | None, able: Sequence[str]) -> str:
    """What to compute in: `asked`, or the first of `able`, which the backend can do with a float file.

    Raises BackendError where the file or the machine does not have what was asked.
    """
    if spec.precision == "int8" or asked == "int8":
        if spec.precision == "int8" and asked in (None, "int8"):
            return "int8"
        if asked == "int8":
            raise BackendError(f"{path} holds {spec.precision} weights; int8 needs a quantised file.")
        raise BackendError(f"{path} is quantised to int8 and cannot be computed in {asked}. Take the float file.")
    if asked is None:
        return able[0]
    if asked not in able:
        raise BackendError(f"{backend} on this machine computes {path.name} in {' or '.join(able)}, not in {asked}.")
    return asked


def check_input(path: Path, spec: ModelSpec, names: Sequence[str], dtype: str) -> None:
    """Raises ModelError unless the file has one input, of the type that the spec says; `dtype` as NumPy names it."""
    if len(names) != 1:
        raise ModelError(f"{path} has {len(names)} inputs ({', '.join(names)}); one is possible, a batch of pictures.")
    if dtype != spec.input.dtype:
        mend = "Mend input.dtype in its spec." if dtype in ("uint8", "float32") else "Only those two are possible."
        raise ModelError(f"{path} takes {dtype}, its spec says {spec.input.dtype}. {mend}")


def which_output(path: Path, spec: ModelSpec, names: Sequence[str]) -> int:
    """The index of the output that the spec means. Raises ModelError where the file has none of that name."""
    if spec.output.name is None:
        return 0
    if spec.output.name not in names:
        raise ModelError(
            f"{path} has no output {spec.output.name!r}. Name one of its own in output.name: {', '.join(names)}."
        )
    return list(names).index(spec.output.name)


def check_output(path: Path, spec: ModelSpec, output: Array) -> Array:
    """`output` as float32 scores (N, C, h, w) or uint8 labels (N, H, W); ModelError where it is neither.

    Exporters differ: some leave an axis of one in their labels or none for the batch, most give labels as
    64-bit integers, and some have the classes last.
    """
    classes = len(spec.classes)
    if spec.output.kind == "labels":
        labels = output[:, 0] if output.ndim == 4 and output.shape[1] == 1 else output
        labels = labels[None] if labels.ndim == 2 else labels
        if labels.ndim == 3:
            return _labels(path, labels, classes)
    else:
        scores = output[None] if output.ndim == 3 else output
        if scores.ndim == 4 and scores.shape[1] != classes and scores.shape[3] == classes:
            scores = np.ascontiguousarray(np.moveaxis(scores, 3, 1))
        if scores.ndim == 4 and scores.shape[1] == classes:
            return scores.astype(np.float32, copy=False)
    wanted = "labels (N, H, W)" if spec.output.kind == "labels" else f"scores (N, {classes}, h, w)"
    raise ModelError(f"{path} gives an output of shape {output.shape}, its spec promises {wanted}.")


def _labels(path: Path, labels: Array, classes: int) -> Array:
    highest = int(labels.max(initial=0))
    if highest >= classes and highest != VOID:
        raise ModelError(f"{path} gives the label {highest}, its spec names {classes} classes. Name them all.")
    return labels.astype(np.uint8, copy=False)


def wrong_shape(path: Path, taken: Sequence[object], given: Sequence[int]) -> BackendError:
    """The error for a file that takes frames of one size and was given another."""
    sizes = ["x".join(str(side) for side in shape) for shape in (taken, given)]
    return BackendError(
        f"{path} takes frames of {sizes[0]} only, not {sizes[1]}. Correct input.layout, size or resize in its spec."
    )


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, as a sentence: OpenVINO begins with lines of its own source."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Exception from ")]
    return (lines[0] if lines else type(error).__name__).rstrip(".") + "."


class Worker:
    """Runs a blocking call in order on a thread of its own, which overlaps where the call releases the GIL.

    end: called last, on that thread. seconds: how long the output that was last returned took to compute.
    """

    def __init__(self, run: Callable[[Array], Array], end: Callable[[], None] | None = None) -> None:
        self._run = run
        self._end = end
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fcn-edge-infer")
        self._pending: deque[Future[tuple[Array, float]]] = deque()
        self.seconds = 0.0

    def infer(self, frames: Array) -> Array:
        return self._take(self._pool.submit(self._timed, frames))

    def submit(self, frames: Array) -> None:
        self._pending.append(self._pool.submit(self._timed, frames))

    def collect(self) -> Array:
        return self._take(self._pending.popleft())

    def close(self) -> None:
        self._pending.clear()
        if self._end is not None:
            self._pool.submit(self._end)
            self._end = None
        self._pool.shutdown()

    def _timed(self, frames: Array) -> tuple[Array, float]:
        start = time.perf_counter()
        return self._run(frames), time.perf_counter() - start

    def _take(self, future: Future[tuple[Array, float]]) -> Array:
        output, self.seconds = future.result()
        return output
