"""The process that one candidate runs in: `python -m fcn_edge.bench.child`, started by a `Worker`.

Libraries print what they like to stdout, from C++ too, so the answers go through a copy of that descriptor, and the
descriptor itself leads to stderr before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from fcn_edge.bench.messages import (
    KEPT_ERRORS,
    Answer,
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

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.bench.schema import Accuracy, Layer, Memory, Throughput
    from fcn_edge.bench.timing import Round, Seconds
    from fcn_edge.data import Sample
    from fcn_edge.segmenter import Segmentation, Segmenter

T = TypeVar("T")

BEAT = 0.5  # seconds between two signs of life, at least
PARENT_DEATH = 1  # PR_SET_PDEATHSIG, linux/prctl.h
SPARE_MEMORY = 0.5  # of what is available, that Segmenters side by side may take


def main() -> None:
    end_with_the_parent()
    answers, requests = take_over_streams()
    say = Saying(answers)
    child = Child(say.beat)
    for line in requests:
        say.answer(child, line)


def end_with_the_parent() -> None:
    """A child that was stopped would otherwise outlive a parent that was killed, and hold its memory for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the parent ends this
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def take_over_streams() -> tuple[int, Iterable[bytes]]:
    """The descriptor that answers go to, and the requests; both out of every library's reach."""
    answers, requests = os.dup(1), os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return answers, requests


class Saying:
    """Answers and signs of life, as lines."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last = 0.0

    def answer(self, child: Child, line: bytes) -> None:
        try:
            result = child.do(msgspec.json.decode(line, type=Request))
        except FcnEdgeError as error:
            kind = type(error).__name__
            self._write(Answer(error=(kind if kind in KEPT_ERRORS else "BackendError", str(error))))
        except MemoryError:
            self._write(Answer(error=("BackendError", "it ran out of memory. Take a smaller --size or --frame.")))
        except Exception as error:  # a runtime's own; in a report it is a cell that failed
            sys.excepthook(type(error), error, error.__traceback__)
            self._write(Answer(error=("BackendError", f"it failed with {type(error).__name__}: {error}")))
        else:
            self._write(Answer(result=result))

    def beat(self, share: float = 0.0, what: str = "") -> None:
        """Say that work goes on, not more often than is of use."""
        now = perf_counter()
        if now - self._last >= BEAT:
            self._last = now
            self._write(Answer(beat=(share, what)))

    def _write(self, answer: Answer) -> None:
        data = memoryview(msgspec.json.encode(answer) + b"\n")
        while data:
            data = data[os.write(self._descriptor, data) :]


class Child:
    """One candidate and what is asked of it."""

    def __init__(self, beat: Callable[..., None]) -> None:
        self._beat = beat
        self._base: int | None = None  # bytes, before the model was opened
        self._peak: int | None = None  # bytes, of one frame after the other and of a stream
        self._spread = False  # whether it held more than that since
        self._request: Open
        self._segmenter: Segmenter | None = None
        self._frame: np.ndarray

    def do(self, request: Request) -> Any:
        """What the request asks for. Raises FcnEdgeError, and whatever a runtime raises."""
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
            raise BackendError("nothing is opened yet.")
        return self._segmenter

    # ---- opening

    def _open(self, request: Open) -> Opened:
        import cv2

        from fcn_edge.files import sha256

        if request.threads:
            cv2.setNumThreads(request.threads)
        self._request = request
        self._frame = read_frame(request.frame, request.frame_size)
        self._base = peak_memory()
        start = perf_counter()
        segmenter = self._segmenter = self._new(request.threads)
        load = perf_counter() - start
        self._beat()
        start = perf_counter()
        segmenter.segment(self._frame)
        first = perf_counter() - start
        self._note_peak()
        spec, backend = segmenter.spec, segmenter.backend
        seen = spec.provenance.get("seen")
        return Opened(
            backend=backend.name,
            choice=segmenter.choice,
            precision=backend.precision,
            device=backend.device,
            versions={**backend.versions, "opencv": cv2.__version__},
            network=segmenter.network_size(request.frame_size),
            load=load,
            first=first,
            spec_name=spec.name,
            variant=spec.variant,
            trained=spec.trained,
            seen=None if seen is None else str(seen),
            holds=spec.precision,
            classes=list(spec.classes),
            palette=list(spec.palette),
            path=str(segmenter.path),
            sha256=sha256(segmenter.path),
            bytes=segmenter.path.stat().st_size,
            parameters=None,
        )

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
        )

    # ---- timing

    def _warm_up(self) -> str:
        from fcn_edge.bench import timing

        self._opened.warm_up(self._request.frame_size)
        self._beat()
        said = timing.warm_up(self._run, self._beat)
        self._draw(1)  # loads what drawing needs
        self._note_peak()
        return said

    def _run(self) -> Seconds:
        return self._opened.segment(self._frame).timings

    def _round(self, request: TakeRound) -> Round:
        from fcn_edge.bench import timing

        taken = timing.time_round(self._run, request.runs, request.seconds, self._beat)
        if request.draws:
            taken.stages["draw"] = self._draw(request.draws)
        self._note_peak()
        return taken

    def _draw(self, times: int) -> list[float]:
        """Seconds of drawing one frame's labels over it."""
        result = self._opened.segment(self._frame)
        taken: list[float] = []
        for _ in range(times):
            start = perf_counter()
            result.overlay()
            taken.append(perf_counter() - start)
        return taken

    def _throughput(self, seconds: float) -> Throughput:
        from fcn_edge.bench.schema import Throughput

        alone = self._rate(seconds, (1 for _ in iter(self._run, None)))
        ways = {"one at a time": (alone, 1)}
        stream = self._opened.stream(self._again_and_again())
        ways["a stream with two in flight"] = (self._rate(seconds, (1 for _ in stream)), 2)
        self._note_peak()
        if (count := self._room_for()) > 1:
            with suppress(FcnEdgeError):  # what cannot be had twice is not the best
                ways[f"{count} Segmenters side by side"] = (self._side_by_side(count, seconds), count)
        how, (best, concurrency) = max(ways.items(), key=lambda way: way[1][0])
        return Throughput(alone, best, concurrency, how)

    def _again_and_again(self) -> Iterator[np.ndarray]:
        while True:
            yield self._frame

    def _rate(self, seconds: float, results: Iterator[Any]) -> float:
        """Results a second, after the first few."""
        for _ in range(4):
            next(results)
        count, start = 0, perf_counter()
        while (elapsed := perf_counter() - start) < seconds or not count:
            next(results)
            count += 1
            self._beat()
        with suppress(AttributeError):
            cast("Any", results).close()
        return count / elapsed

    def _room_for(self) -> int:
        """How many Segmenters side by side are worth trying: one a thread on a CPU, two on a GPU; 0: none."""
        from fcn_edge.runtime.host import physical_cores

        backend = self._opened.backend
        if backend.name == "torch":  # its number of threads is the process's, not a network's
            return 0
        count = (self._request.threads or physical_cores()) if backend.device.startswith("CPU") else 2
        one, free = (self._peak or 0) - (self._base or 0), available_memory()
        return count if free is None or one * (count - 1) < SPARE_MEMORY * free else 0

    def _side_by_side(self, count: int, seconds: float) -> float:
        """Frames a second of `count` Segmenters, each on a thread of its own."""
        self._spread = True
        others = [self._new(1) for _ in range(count)]
        try:
            return self._race(others, seconds)
        finally:
            for each in others:
                each.close()

    def _race(self, segmenters: list[Segmenter], seconds: float) -> float:
        counts = [0] * len(segmenters)
        failures: list[BaseException] = []
        ready = threading.Barrier(len(segmenters) + 1)
        over = threading.Event()

        def work(index: int) -> None:
            try:
                segmenters[index].warm_up(self._request.frame_size)
                ready.wait()
                while not over.is_set():
                    segmenters[index].segment(self._frame)
                    counts[index] += 1
            except threading.BrokenBarrierError:
                pass
            except BaseException as error:
                failures.append(error)
                ready.abort()

        threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(segmenters))]
        for thread in threads:
            thread.start()
        with suppress(threading.BrokenBarrierError):
            ready.wait()
        start = perf_counter()
        while not failures and perf_counter() - start < seconds:
            over.wait(BEAT)
            self._beat()
        done, elapsed = sum(counts), perf_counter() - start
        over.set()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return done / elapsed

    # ---- accuracy

    def _evaluate(self, request: Evaluate) -> Iterator[Accuracy]:
        from fcn_edge.bench import labelled
        from fcn_edge.bench.schema import Accuracy
        from fcn_edge.evaluation import evaluate

        self._spread = True  # pictures come in many sizes, and a runtime may keep something for each
        for text in request.data:
            name = labelled.name(text, request.split)
            data = labelled.open_labelled(text, request.split, request.limit)
            kept = Keeping(name, request.keep, request.reference)
            watched = partial(self._watched, len(data.samples), f"pictures of {name}")
            result = evaluate(
                self._opened,
                data.samples,
                request.classes,
                watched,
                data.classes,
                on_picture=kept,
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
                agreement=kept.agreement,
            )

    def _watched(self, many: int, what: str, items: Iterable[T]) -> Iterator[T]:
        for count, item in enumerate(items):
            yield item
            self._beat(count / many, what)

    # ---- what else is asked

    def _layers(self) -> list[Layer]:
        from fcn_edge.bench.layers import layers

        self._spread = True  # a runtime that profiles opens the model once more
        return layers(self._opened, self._frame)

    def _memory(self) -> Memory:
        from fcn_edge.bench.schema import Memory

        return Memory(self._peak, self._base, None)

    def _note_peak(self) -> None:
        if not self._spread:
            self._peak = peak_memory()


class Keeping:
    """Labels as they come, written down and held against those of a reference."""

    def __init__(self, data: str, folder: str | None, reference: str | None) -> None:
        self._data = data
        self._folder, self._reference = folder, reference
        self._same = self._pixels = 0

    def __call__(self, sample: Sample, result: Segmentation) -> None:
        if self._folder:
            keep(labelled_file(self._folder, self._data, sample), result.labels)
        if self._reference and (file := labelled_file(self._reference, self._data, sample)).is_file():
            from fcn_edge.data import read_mask

            theirs = read_mask(file)
            if theirs.shape == result.labels.shape:
                self._same += int((theirs == result.labels).sum())
                self._pixels += theirs.size

    @property
    def agreement(self) -> float | None:
        """The share of pixels with the reference's label; None where there is nothing of it."""
        return self._same / self._pixels if self._pixels else None


def labelled_file(folder: str, data: str, sample: Sample) -> Path:
    from fcn_edge.bench.labelled import labels_file

    return labels_file(Path(folder), data, sample.id)


def keep(path: Path, labels: np.ndarray) -> None:
    """Raises DataError where the file cannot be written."""
    import cv2

    from fcn_edge.errors import SinkError
    from fcn_edge.files import replacing

    _, encoded = cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror}.") from error


def read_frame(path: str | None, size: tuple[int, int]) -> np.ndarray:
    """The middle of a picture, scaled to fill (H, W); of the package's own photo where none is named.

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


def available_memory() -> int | None:
    return _kilobytes("/proc/meminfo", "MemAvailable:")


def _kilobytes(file: str, key: str) -> int | None:
    with suppress(OSError), open(file) as lines:
        for line in lines:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    main()
