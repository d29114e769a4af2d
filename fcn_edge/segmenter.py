"""The one door between frames and labels: everything that segments or measures goes through `Segmenter`.

So a figure in a report is a figure of what ships. Two frames are in flight in `stream`: while the network
runs on one, the one before it is decoded and the next is prepared. A backend that takes whole frames does
all three on its device.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import cv2
import numpy as np

from fcn_edge.decode import decode
from fcn_edge.engine.profiles import CAMERAS
from fcn_edge.errors import BackendError, FcnEdgeError, ModelError, SourceError, UsageError, unknown
from fcn_edge.prepare import Ending, Layout, Size, end, lay_out, prepare
from fcn_edge.refine import Refine, open_refine
from fcn_edge.resources import DEFAULT_MODEL
from fcn_edge.runtime import SERVERS, Progress, fastest_form, open_backend
from fcn_edge.runtime.files import bundled, look_up, read_spec
from fcn_edge.runtime.protocol import Backend, FrameBackend
from fcn_edge.spec import ModelSpec, Resize

if TYPE_CHECKING:
    from fcn_edge.tiling import Tiling

IN_FLIGHT = 2
BATCHES = (4, 2, 1)  # frames at once: some runtimes compile for each number, and more gain a CPU nothing
RESIZES = (*get_args(Resize), "tiles")
STAGES = ("prepare", "to_device", "infer", "from_device", "steady", "decode", "refine")  # as a frame meets them, about

# A source's scores, float32 (C, h, w), its frame, and how they lie on it; gives the scores to decode instead.
Steady = Callable[[np.ndarray, np.ndarray, Ending], np.ndarray]
Batch = Sequence[tuple[np.ndarray, Steady | None]]  # frames that are there at one time, one a source

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One frame's labels, and what they were made from."""

    labels: np.ndarray  # uint8 (H, W), at the frame's size
    scores: np.ndarray | None  # float32 (C, h, w) before the last upsampling; None where labels came off the device
    # Seconds: prepare, infer, decode, and to_device and from_device where the backend takes whole frames; they add up.
    # What infer waited for the frame before is left out; of a batch, each frame gets its part. steady is there where
    # labels were steadied, and refine in place of decode where they were refined.
    timings: dict[str, float]
    spec: ModelSpec
    frame: np.ndarray  # uint8 (H, W, 3), BGR: the caller's own array, not a copy

    def overlay(self, alpha: float = 0.5) -> np.ndarray:
        """The frame with its classes in the model's colours: uint8 (H, W, 3), BGR."""
        from fcn_edge.overlay import overlay  # its kernels are loaded only where something is drawn

        return overlay(self.frame, self.labels, self.spec.palette, alpha)


@dataclass
class _Job:
    """A frame on its way through the network."""

    frame: np.ndarray
    layout: Layout
    ending: Ending
    whole: bool  # the backend prepares it
    prepare: float
    steady: Steady | None


class Segmenter:
    """A model, opened to segment frames. Not thread-safe: one thread calls it.

    model:     a bundled name, whose int8 form is taken where it is the faster, or a path: an ONNX or TFLite file, a
               checkpoint.
    backend:   a name of `fcn_edge.runtime`; `choice` says why `auto` took the one it took.
    precision: what to compute in; None leaves it to the backend, whose `precision` says what that is.
    size:      of the network: the longer side or a box (H, W); None: the model's own.
    resize:    "fit", "stretch", "native", "letterbox" or "tiles" (docs/tiles.md); None: the model's own.
    spec:      describes a model file that does not describe itself: a ModelSpec or a TOML file.
    scores:    every result has them, where a backend would be faster to bring home labels alone.
    progress:  called with a share from 0 to 1 and a phase while an engine is built, which takes minutes.
    url:       HOST:PORT of the server that has a model of that name, for the backend "triton".
    refine:    "guided", "crf" or "mrf" makes labels with a second look at the frame (docs/refine.md) in place of
               `decode`; None: each pixel by its own scores.
    overlap:   of tiles: pixels that a score sees to either side, where the model's file does not say it, or too much.

    Raises UsageError for unknown names, ModelError, SpecError and BackendError as their docs say.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        backend: str = "auto",
        precision: str | None = None,
        size: int | Size | None = None,
        resize: Resize | Literal["tiles"] | None = None,
        spec: ModelSpec | Path | str | None = None,
        threads: int | None = None,
        scores: bool = False,
        progress: Progress | None = None,
        refine: str | None = None,
        url: str | None = None,
        overlap: int | None = None,
    ) -> None:
        if resize is not None and resize not in RESIZES:
            raise unknown("resize", resize, RESIZES)
        if overlap is not None and (resize != "tiles" or overlap < 0):
            raise UsageError("--overlap: is of tiles, and at least 0. Add --resize tiles.")
        if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
            raise UsageError(f"a network size is at least 1 pixel, not {size}.")
        if (url is not None) != (backend in SERVERS):
            raise UsageError("a served model wants two options: --backend triton --url HOST:PORT.")
        self.path, self.spec = look_up(model, spec, url)
        self.resize: Resize | Literal["tiles"] = resize or self.spec.resize
        self.size = size
        self.tiling: Tiling | None = None  # how frames are cut, where they are
        if resize == "tiles":
            from fcn_edge.tiling import open_tiling  # loaded only where frames are cut

            self.tiling = open_tiling(self.spec, self.path, size, overlap)
        self.backend: Backend
        self.choice: str  # why this backend
        shapes = self._usual_sizes()
        if spec is None and url is None and str(model) in bundled():
            self.path = fastest_form(self.path, backend, precision, shapes)
            self.spec = read_spec(self.path)
        self.refine = refine
        self._refine = None if refine is None else self._open_refine(refine)
        scores = scores or refine is not None
        opened = open_backend(self.path, self.spec, backend, precision, threads, shapes, progress)
        self.backend, self.choice = opened
        if self.tiling is not None:
            self.choice += f"; {self.tiling}"
        self._frames = opened[0] if isinstance(opened[0], FrameBackend) else None
        if self._frames and scores and "scores" in self._frames.ways:
            self._frames.way = "scores"
        self._settled = self._frames is None or scores or len(self._frames.ways) == 1  # which way it takes
        self._batching: bool | None = None if self._frames is None else False  # None: not tried yet
        self._said_nan = False
        self._streaming = False

    def segment(self, frame: np.ndarray, steady: Steady | None = None) -> Segmentation:
        """The labels of one frame: uint8 (H, W, 3), BGR, any size from 1x1.

        steady: called with the scores before they are decoded; it keeps what it knows of the source. Where the
                backend can bring labels home, it needs a Segmenter opened with `scores`.

        Raises SourceError where it is not that, BackendError where an engine was not built for its size, ModelError
        where there are no scores to steady.
        """
        if self.tiling is not None:
            return self._segment_in_tiles(self.tiling, frame, steady)
        job, batch = self._prepare(frame, steady)
        if batch is None:
            return self._segment_whole(job)
        start = time.perf_counter()
        output = self.backend.infer(batch)
        return self._finish(job, output, {"infer": time.perf_counter() - start})

    __call__ = segment

    def segment_batch(self, frames: Sequence[np.ndarray]) -> list[Segmentation]:
        """The labels of several frames, of one size or not, computed together where sizes and backend allow."""
        return list(self.stream_batches([[(frame, None) for frame in frames]]))

    def stream(
        self, frames: Iterable[np.ndarray | None], steady: Steady | None = None
    ) -> Generator[Segmentation, None, None]:
        """The frames' segmentations in their order, the next ones being computed meanwhile; `steady` as in `segment`.

        A frame must not be written to until its result came. None in place of a frame says that the next one is not
        there yet, so that the oldest result is not kept waiting for it. What `frames` raises is raised here after
        the results of all frames that it gave.
        """
        return self.stream_batches(None if frame is None else [(frame, steady)] for frame in frames)

    def stream_batches(self, batches: Iterable[Batch | None]) -> Generator[Segmentation, None, None]:
        """As `stream`, of several sources' frames, which go through the network together where sizes and backend allow.

        The results come one by one, in the order of the frames.
        """
        if self.tiling is not None:
            yield from (self.segment(frame, steady) for batch in batches for frame, steady in batch or ())
            return
        if self._streaming:
            raise BackendError("this Segmenter is already streaming. Close that stream, or open a second Segmenter.")
        self._streaming = True
        flights: deque[list[_Job]] = deque()  # what was given to the backend at once
        source = iter(batches)
        failure: Exception | None = None
        try:
            while failure is None:
                try:
                    batch = next(source)
                    for jobs, tensor in self._departures(batch or ()):
                        if len(flights) == IN_FLIGHT:
                            yield from self._collect(flights)
                        self._submit(jobs, tensor, alone=not flights)
                        flights.append(jobs)
                except Exception as error:  # StopIteration too: the end, like an error, waits for the results
                    failure, batch = error, None
                if flights and (batch is None or len(flights) == IN_FLIGHT):
                    yield from self._collect(flights)
            while flights:
                yield from self._collect(flights)
            if not isinstance(failure, StopIteration):
                raise failure
        finally:
            while flights:  # the caller left early, or a frame failed
                with suppress(FcnEdgeError):
                    self._output(flights.popleft())
            self._streaming = False

    def warm_up(self, frame_size: Size) -> None:
        """Do what the first frame of (H, W) pixels would pay for, alone or in a stream: some runtimes compile."""
        frame = np.zeros((*frame_size, 3), np.uint8)
        settled, self._settled = self._settled, True  # how long labels take to make, a black frame does not tell
        try:
            self.segment(frame)
            deque(self.stream([frame]), maxlen=0)
        finally:
            self._settled = settled

    def network_size(self, frame_size: Size) -> Size:
        """The network's input (h, w) for a frame of (H, W) pixels, or for each of its tiles."""
        if self.tiling is not None:
            return self.tiling.cut(frame_size).tile
        return self._lay_out(frame_size).network

    def infer_tile(self, tile: np.ndarray, network: Size, seconds: dict[str, float]) -> np.ndarray:
        """A tile's own scores, float32 (C, h, w), of uint8 (h, w, 3) BGR of at most `network` pixels.

        Adds what it took to `prepare` and `infer` in `seconds`.
        """
        start = time.perf_counter()
        batch = prepare(self.spec, tile, Layout(network, (tile.shape[0], tile.shape[1])))
        prepared = time.perf_counter()
        scores = self.backend.infer(batch)[0]
        self._check_finite(scores)
        for stage, taken in (("prepare", prepared - start), ("infer", time.perf_counter() - prepared)):
            seconds[stage] = seconds.get(stage, 0.0) + taken
        return scores

    def _segment_in_tiles(self, tiling: Tiling, frame: np.ndarray, steady: Steady | None) -> Segmentation:
        _check_frame(frame)
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        scores = tiling.scores(frame, lambda tile, network: self.infer_tile(tile, network, seconds))
        joining = time.perf_counter() - start - sum(seconds.values())
        size = frame.shape[0], frame.shape[1]
        ending = tiling.ending(size)
        job = _Job(frame, Layout(ending.size, size), ending, False, seconds["prepare"], steady)
        return self._finish(job, scores[None], {"infer": seconds["infer"], "decode": joining})

    def _lay_out(self, frame_size: Size) -> Layout:
        return lay_out(self.spec, frame_size, cast("Resize", self.resize), self.size)

    def _open_refine(self, name: str) -> Refine:
        refine = open_refine(name)
        if self.spec.output.kind == "labels":
            raise ModelError(
                f"{self.path}: gives finished labels, so there are no scores for --refine {name}. "
                "Export it with --output scores."
            )
        return refine

    def _usual_sizes(self) -> list[Size]:
        """Of the network, for usual cameras' frames; none where each frame keeps its own."""
        if self.resize == "native":
            return []
        if self.tiling is not None:
            return [self.tiling.side]
        frames = [size for high, wide in CAMERAS for size in ((high, wide), (wide, high))]
        return list(dict.fromkeys(map(self.network_size, frames)))

    def _prepare(self, frame: np.ndarray, steady: Steady | None) -> tuple[_Job, np.ndarray | None]:
        """The frame as the network takes it, or None where the backend prepares it itself."""
        start = time.perf_counter()
        _check_frame(frame)
        if steady is not None:
            self._check_scores()
        size = frame.shape[0], frame.shape[1]
        layout = self._lay_out(size)
        whole = self._frames is not None and self._frames.takes(size, layout)
        batch = None if whole else prepare(self.spec, frame, layout)
        ending = end(self.spec, layout, cast("Resize", self.resize), size)
        return _Job(frame, layout, ending, whole, time.perf_counter() - start, steady), batch

    def _check_scores(self) -> None:
        """Raise ModelError where a frame's scores do not come home."""
        if self.spec.output.kind == "labels":
            raise ModelError(
                f"{self.path}: gives finished labels, so there are no scores to steady over time. "
                "Export it with --output scores."
            )
        if self._frames is not None and self._frames.way != "scores":
            raise ModelError(f"{self.path}: its labels come off the device. Open it with scores=True to steady them.")

    def _departures(self, batch: Batch) -> Iterator[tuple[list[_Job], np.ndarray | None]]:
        """What can be computed at once: neighbours whose tensors have one shape."""
        prepared = [self._prepare(frame, steady) for frame, steady in batch]
        for shape, group in groupby(prepared, lambda each: None if each[1] is None else each[1].shape):
            left = list(group)
            while left:
                most = len(left) if shape is not None and self._batching is not False else 1
                count = next(count for count in BATCHES if count <= most)
                jobs, tensors = zip(*left[:count], strict=True)
                tensor = tensors[0] if count == 1 else np.concatenate(tensors)
                if count > 1 and not self._batches(tensor):
                    continue
                del left[:count]
                yield list(jobs), tensor

    def _batches(self, tensor: np.ndarray) -> bool:
        """Whether the backend and the file take several frames at once: found out by giving them some."""
        if self._batching is None:
            try:
                self._batching = len(self.backend.infer(tensor)) == len(tensor)
            except FcnEdgeError:
                self._batching = False
        return self._batching

    def _submit(self, jobs: list[_Job], tensor: np.ndarray | None, alone: bool) -> None:
        if tensor is not None:
            self.backend.submit(tensor)
            return
        assert self._frames is not None
        if alone:
            self._settle(self._frames, jobs[0])
        self._frames.submit_frame(jobs[0].frame, jobs[0].layout, jobs[0].ending)

    def _segment_whole(self, job: _Job) -> Segmentation:
        assert self._frames is not None
        if not self._streaming:
            self._settle(self._frames, job)
        output = self._frames.infer_frame(job.frame, job.layout, job.ending)
        return self._finish(job, output, self._frames.stages)

    def _settle(self, backend: FrameBackend, job: _Job) -> None:
        """Find out on the first frame, with nothing else in flight, which way from scores to labels is the fastest."""
        if self._settled:
            return
        from fcn_edge.runtime.ways import fastest

        def run(way: str) -> None:
            backend.way = way
            self._finish(job, backend.infer_frame(job.frame, job.layout, job.ending), backend.stages)

        where = f"{backend.identity} {job.frame.shape[0]}x{job.frame.shape[1]} {job.layout} {job.ending}"
        backend.way, seconds = fastest(backend.ways, where, run)
        self._settled = True
        measured = ", ".join(f"{way} {1e3 * taken:.2f} ms" for way, taken in seconds.items())
        self.choice += f"; labels by {backend.way} ({measured} a frame)"

    def _collect(self, flights: deque[list[_Job]]) -> Iterator[Segmentation]:
        jobs = flights.popleft()
        output, stages = self._output(jobs)
        for number, job in enumerate(jobs):
            yield self._finish(job, output if job.whole else output[number : number + 1], stages)

    def _output(self, jobs: list[_Job]) -> tuple[np.ndarray, dict[str, float]]:
        """What the backend made of the oldest flight, and the seconds that it took for each of its frames."""
        if jobs[0].whole:
            assert self._frames is not None
            return self._frames.collect_frame(), self._frames.stages
        output = self.backend.collect()
        return output, {"infer": self.backend.seconds / len(jobs)}

    def _finish(self, job: _Job, output: np.ndarray, stages: dict[str, float]) -> Segmentation:
        start = time.perf_counter()
        steadying = 0.0
        if output.ndim == 2:
            scores, labels = None, output
        elif self.spec.output.kind == "labels":
            scores, labels = None, _stretch(_crop(output[0], job.layout.content), job.frame.shape[:2])
        else:
            self._check_finite(output[0])
            scores = _used(output[0], job.ending)
            if job.steady is not None:
                before = time.perf_counter()
                scores = job.steady(scores, job.frame, job.ending)
                steadying = time.perf_counter() - before
            labels = self._label(scores, job)
        last = "decode" if self._refine is None else "refine"
        own = {"prepare": job.prepare, last: time.perf_counter() - start - steadying}
        if job.steady is not None:
            own["steady"] = steadying
        timings = {
            stage: stages.get(stage, 0.0) + own.get(stage, 0.0) for stage in STAGES if stage in stages or stage in own
        }
        return Segmentation(labels, scores, timings, self.spec, job.frame)

    def _label(self, scores: np.ndarray, job: _Job) -> np.ndarray:
        grid, ending = self.spec.output.grid, job.ending
        if self._refine is not None:
            return self._refine(scores, job.frame, ending, grid)
        return _stretch(_crop(decode(scores, ending.size, grid), ending.content), ending.labels)

    def _check_finite(self, scores: np.ndarray) -> None:
        if not self._said_nan and np.isnan(scores.min()):  # the least of them is NaN if any is
            self._said_nan = True
            log.warning("%s gives scores that are not numbers; they count as the lowest.", self.path)

    def close(self) -> None:
        """Release the backend; calling it again does nothing."""
        self.backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise SourceError(
            f"a frame is uint8 (height, width, 3) in BGR order, not {frame.dtype} {frame.shape}. Convert it first."
        )


def _used(scores: np.ndarray, ending: Ending) -> np.ndarray:
    """The scores that lie on the frame."""
    return scores if ending.used is None else scores[:, : ending.used[0], : ending.used[1]]


def _crop(labels: np.ndarray, content: Size) -> np.ndarray:
    return labels[: content[0], : content[1]]


def _stretch(labels: np.ndarray, size: Size) -> np.ndarray:
    """Labels at `size`, each pixel the nearest one's; a contiguous array of the result's own."""
    if labels.shape != size:
        return cv2.resize(np.ascontiguousarray(labels), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.ascontiguousarray(labels)
