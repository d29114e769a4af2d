"""One candidate, opened in the process that is its own, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fcn_edge.bench.messages import (
    Evaluate,
    MeasureThroughput,
    Open,
    Opened,
    Request,
    TakeRound,
    TellLayers,
    TellMemory,
    WarmUp,
)
from fcn_edge.errors import BackendError, FcnEdgeError

if TYPE_CHECKING:  # what is loaded before the model is, is counted apart from it
    import numpy as np

    from fcn_edge.bench.schema import Accuracy, Layer, Memory, Throughput
    from fcn_edge.bench.timing import Round, Seconds
    from fcn_edge.segmenter import Segmenter

T = TypeVar("T")


class Subject:
    """What one process measures. `beat` is called, with a share and what it is of, while something takes its time."""

    def __init__(self, beat: Callable[..., None]) -> None:
        self._beat = beat
        self._base: int | None = None  # bytes, before the model was opened
        self._peak: int | None = None  # bytes, with one frame after the other and with a stream
        self._device_base: int | None = None  # bytes of the GPU that all processes used before
        self._device_peak: int | None = None
        self._spread = False  # whether it held more than that since
        self._request: Open
        self._frame: np.ndarray
        self._segmenter: Segmenter | None = None

    def do(self, request: Request) -> Any:
        """What was asked for. Raises FcnEdgeError, and whatever a runtime raises."""
        match request:
            case Open():
                return self._open(request)
            case WarmUp():
                return self._warm_up()
            case TakeRound():
                return self._round(request)
            case MeasureThroughput():
                return self._throughput(request.seconds)
            case Evaluate():
                return list(self._evaluate(request))
            case TellLayers():
                return self._layers()
            case TellMemory():
                return self._memory()

    @property
    def _opened(self) -> Segmenter:
        if self._segmenter is None:
            raise BackendError("it was not opened.")
        return self._segmenter

    def _open(self, request: Open) -> Opened:
        import cv2

        import_module(
            "fcn_edge.segmenter"
        )  # what this loads is the same for all candidates, and in no figure of theirs
        cv2.setNumThreads(request.threads or cv2.getNumThreads())
        self._request = request
        self._frame = read_frame(request.frame, request.frame_size)
        self._base, self._device_base = peak_memory(), device_memory()
        start = perf_counter()
        segmenter: Segmenter = self._new(request.threads)
        load = perf_counter() - start
        self._segmenter = segmenter
        self._beat(0.0, "a first frame")
        start = perf_counter()
        segmenter.segment(self._frame)
        first = perf_counter() - start
        self._note_peak()
        return describe(segmenter, request.frame_size, load, first)

    def _new(self, threads: int | None) -> Segmenter:
        from fcn_edge.segmenter import Segmenter

        asked = self._request
        return Segmenter(
            asked.model,
            asked.backend,
            asked.precision,
            asked.size,
            cast("Any", asked.resize),
            None if asked.spec is None else Path(asked.spec),
            threads,
            progress=self._beat,
            refine=asked.refine,
        )

    def _warm_up(self) -> str:
        from fcn_edge.bench.timing import warm_up

        self._opened.warm_up(self._request.frame_size)
        said = warm_up(self._run, partial(self._beat, 0.0, "warming up"))
        self._draw(1)  # loads what drawing needs
        self._note_peak()
        return said

    def _run(self) -> Seconds:
        return self._opened.segment(self._frame).timings

    def _round(self, request: TakeRound) -> Round:
        from fcn_edge.bench.timing import time_round

        taken = time_round(self._run, request.runs, request.seconds, partial(self._beat, 0.0, "timing"))
        if request.draws:
            taken.stages["draw"] = self._draw(request.draws)
        self._note_peak()
        return taken

    def _draw(self, times: int) -> list[float]:
        """Seconds of drawing a frame's labels over it."""
        result = self._opened.segment(self._frame)
        taken: list[float] = []
        for _ in range(times):
            start = perf_counter()
            result.overlay()
            taken.append(perf_counter() - start)
        return taken

    def _throughput(self, seconds: float) -> Throughput:
        from fcn_edge.bench import throughput
        from fcn_edge.bench.schema import Throughput

        beat = partial(self._beat, 0.0, "throughput")
        segmenter, frame = self._opened, self._frame
        alone = throughput.alone(segmenter, frame, seconds, beat)
        ways = {"one at a time": (alone, 1)}
        ways["a stream with two in flight"] = (throughput.stream(segmenter, frame, seconds, beat), 2)
        self._note_peak()
        taken = (self._peak or 0) - (self._base or 0)
        if count := throughput.how_many(segmenter, self._request.threads, taken, available_memory()):
            self._spread = True
            open_one = partial(self._new, 1)
            with suppress(FcnEdgeError, MemoryError):  # what cannot be had several times is not the best way
                together = throughput.side_by_side(open_one, count, frame, seconds, beat)
                ways[f"{count} Segmenters side by side"] = (together, count)
        how, (best, concurrency) = max(ways.items(), key=lambda way: way[1][0])
        return Throughput(alone, best, concurrency, how)

    def _evaluate(self, request: Evaluate) -> Iterator[Accuracy]:
        from fcn_edge.bench import labelled
        from fcn_edge.bench.schema import Accuracy
        from fcn_edge.evaluation import evaluate

        self._spread = True  # pictures come in many sizes, and a runtime may keep something for each
        for text in request.data:
            name = labelled.name(text, request.split)
            data = labelled.open_labelled(text, request.split, request.limit)
            keeping = labelled.Keeping(name, request.keep, request.reference)
            watched = partial(self._watched, len(data.samples), f"pictures of {name}")
            result = evaluate(
                self._opened, data.samples, request.classes, watched, data.classes, on_picture=keeping.add
            )
            document = result.document()
            yield Accuracy(
                data=name,
                images=result.images,
                left_out=result.left_out,
                mean_iou=result.mean_iou,
                pixel_accuracy=result.scores.pixel_accuracy,
                boundary_f=document["boundary_f_score"],
                per_class_iou=document["per_class_iou"],
                agreement=keeping.agreement,
            )

    def _watched(self, many: int, what: str, items: Iterable[T]) -> Iterator[T]:
        for count, item in enumerate(items):
            yield item
            self._beat(count / many, what)

    def _layers(self) -> list[Layer]:
        from fcn_edge.bench.layers import layers

        self._spread = True  # a runtime that profiles opens the model once more
        return layers(self._opened, self._frame)

    def _memory(self) -> Memory:
        from fcn_edge.bench.schema import Memory

        on_device = not self._opened.backend.device.startswith("CPU")
        return Memory(self._peak, self._base, self._device_peak if on_device else None)

    def _note_peak(self) -> None:
        if self._spread:
            return
        self._peak = peak_memory()
        used = device_memory()
        if used is not None and self._device_base is not None:
            self._device_peak = max(used - self._device_base, self._device_peak or 0)


def describe(segmenter: Segmenter, frame_size: tuple[int, int], load: float, first: float) -> Opened:
    import cv2

    from fcn_edge.files import sha256

    spec, backend = segmenter.spec, segmenter.backend
    told = {"trained on": spec.provenance.get("data"), "has seen": spec.provenance.get("seen")}
    return Opened(
        backend=backend.name,
        choice=segmenter.choice,
        precision=backend.precision,
        device=backend.device,
        versions={**backend.versions, "opencv": cv2.__version__},
        network=segmenter.network_size(frame_size),
        load=load,
        first=first,
        spec_name=spec.name,
        variant=spec.variant,
        trained=spec.trained,
        seen="; ".join(f"{how} {what}" for how, what in told.items() if what) or None,
        holds=spec.precision,
        classes=list(spec.classes),
        palette=list(spec.palette),
        path=str(segmenter.path),
        sha256=sha256(segmenter.path),
        bytes=segmenter.path.stat().st_size,
        parameters=None,
    )


def read_frame(path: str | None, size: tuple[int, int]) -> np.ndarray:
    """The middle of a picture, scaled to fill (H, W): uint8 (H, W, 3), BGR; of the package's own photo where none is
    named.

    A photo, because how long decoding takes depends on how many borders there are between classes.
    Raises DataError where it cannot be read.
    """
    import cv2
    import numpy as np

    from fcn_edge.data import read_image
    from fcn_edge.resources import demo_photos

    picture = read_image(Path(path) if path else demo_photos()[0])
    scale = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    sides = tuple(max(want, round(have * scale)) for want, have in zip(size, picture.shape[:2], strict=True))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(picture, sides[::-1], interpolation=way)
    top, left = (sides[0] - size[0]) // 2, (sides[1] - size[1]) // 2
    return np.ascontiguousarray(scaled[top : top + size[0], left : left + size[1]])


def peak_memory() -> int | None:
    """Bytes that this process held at most, resident; None where the system does not tell."""
    return _kilobytes("/proc/self/status", "VmHWM:")


def device_memory() -> int | None:
    """Bytes of the GPU that all processes use; None where there is none, or it does not tell."""
    from fcn_edge.bench.nvml import find_nvml

    nvml = find_nvml()
    if nvml is None:
        return None
    try:
        return nvml.used_bytes()
    finally:
        nvml.close()


def available_memory() -> int | None:
    """Bytes that programs can have yet; None where the system does not tell."""
    return _kilobytes("/proc/meminfo", "MemAvailable:")


def _kilobytes(file: str, key: str) -> int | None:
    with suppress(OSError), open(file) as lines:
        for line in lines:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return None
