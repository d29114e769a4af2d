"""A data set through a Segmenter: the figures of the very artefact that ships.

Labels are compared at each picture's own size, in one confusion matrix over the whole data set; a mean
of per-picture means weighs a class by how few pictures hold it, and stands beside it only because others
publish it. Masks that do not fit are found before the first picture is segmented, not after an hour, and
a picture that the model was trained on is never one of them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcn_edge.boundary import TOLERANCE, BoundaryScores, contours
from fcn_edge.data import Progress, Sample, check, read_image, read_truth, unseen
from fcn_edge.data.reading import mask_size
from fcn_edge.errors import DataError, unknown
from fcn_edge.metrics import Scores, confusion, mean
from fcn_edge.segmenter import Segmentation, Segmenter
from fcn_edge.spec import VOID

NAMED_IN_AN_ERROR = 5  # classes: enough to see a pattern, short enough for one line
READ_AHEAD = 4  # pictures decoded while one is segmented: more only holds memory, a picture takes 5 ms to read


@dataclass(frozen=True)
class Evaluation:
    """What one model did on one data set. `document` is the form that is written down."""

    matrix: np.ndarray  # int64 (C, C), rows truth, columns labels, void left out
    names: tuple[str, ...]  # of the C classes
    over: tuple[int, ...]  # indices of the classes that the means are over
    contours: dict[float, np.ndarray]  # by tolerance in pixels: int64 (C, 4), as `boundary.contours` counts them
    image_pixel_accuracies: tuple[float, ...]  # of each picture, in no order; NaN where all is void
    image_mean_ious: tuple[float, ...]  # of each picture, over the chosen classes that occur in its truth; NaN for none
    images: int
    left_out: int  # pictures that the model was trained or calibrated on
    unknown: tuple[str, ...]  # classes of the model that the data do not know: their labels count as wrong
    model: str
    trained: bool
    backend: str
    device: str
    precision: str  # what was really computed in
    versions: dict[str, str]
    resize: str
    refine: str | None
    network_sizes: dict[tuple[int, int], int]  # (h, w) of the network's input: pictures that took it
    milliseconds: dict[str, float]  # median over the pictures: prepare, infer, decode or refine, total

    @property
    def scores(self) -> Scores:
        return Scores(self.matrix)

    @property
    def mean_iou(self) -> float:
        """Over the chosen classes that occur in the truth."""
        return mean(self.scores.per_class_iou, self.over)

    @property
    def mean_accuracy(self) -> float:
        """Over the chosen classes that occur in the truth."""
        return mean(self.scores.per_class_accuracy, self.over)

    @property
    def tolerance(self) -> float:
        """Of `boundary_scores`, in pixels: the last one that was asked for."""
        return list(self.contours)[-1]

    @property
    def boundary_scores(self) -> BoundaryScores:
        return BoundaryScores(self.contours[self.tolerance])

    @property
    def boundary_f(self) -> float:
        """Over the chosen classes that have a contour in the truth."""
        return self.boundary_fs[self.tolerance]

    @property
    def boundary_fs(self) -> dict[float, float]:
        """The same by tolerance."""
        return {each: mean(BoundaryScores(counts).per_class_f, self.over) for each, counts in self.contours.items()}

    @property
    def per_image_pixel_accuracy(self) -> float:
        """The mean of the pictures' own figures, each weighing the same."""
        return mean(np.array(self.image_pixel_accuracies))

    @property
    def per_image_mean_iou(self) -> float:
        """The mean of the pictures' own figures, each weighing the same."""
        return mean(np.array(self.image_mean_ious))

    @property
    def absent(self) -> list[str]:
        """Chosen classes without a pixel in the truth: no mean counts them."""
        occurs = self.scores.occurs
        return [self.names[index] for index in self.over if not occurs[index]]

    def document(self) -> dict[str, Any]:
        """For JSON. IoU is null for a class that does not occur; `confusion_matrix` is in the order of
        `per_class_iou`, rows truth; `classes` are those that the means are over; `network_size` is the
        commonest (h, w) and `network_sizes` counts them all. docs/data.md names every key.
        """
        scores = self.scores
        sizes = sorted(self.network_sizes.items(), key=lambda item: -item[1])
        return {
            "model": self.model,
            "trained": self.trained,
            "backend": self.backend,
            "device": self.device,
            "precision": self.precision,
            "versions": self.versions,
            "network_size": list(sizes[0][0]),
            "network_sizes": {f"{height}x{width}": count for (height, width), count in sizes},
            "resize": self.resize,
            "refine": self.refine,
            "images": self.images,
            "left_out": self.left_out,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "mean_iou": self.mean_iou,
            "frequency_weighted_iou": scores.frequency_weighted_iou,
            "boundary_f_score": _number(self.boundary_f),
            "boundary_tolerance": self.tolerance,
            "boundary_f_scores": {f"{each:g}": _number(value) for each, value in self.boundary_fs.items()},
            "per_image": {
                "pixel_accuracy": self.per_image_pixel_accuracy,
                "mean_iou": _number(self.per_image_mean_iou),
            },
            "classes": [self.names[index] for index in self.over],
            "absent": self.absent,
            "unknown_to_the_data": list(self.unknown),
            "per_class_iou": dict(zip(self.names, map(_number, scores.per_class_iou), strict=True)),
            "per_class_boundary_f_score": dict(
                zip(self.names, map(_number, self.boundary_scores.per_class_f), strict=True)
            ),
            "confusion_matrix": self.matrix.tolist(),
            "milliseconds": self.milliseconds,
        }


def evaluate(
    segmenter: Segmenter,
    samples: Sequence[Sample],
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
    truth_classes: Sequence[str] | None = None,
    tolerances: Sequence[float] = (TOLERANCE,),
    on_picture: Callable[[Sample, Segmentation], None] | None = None,
) -> Evaluation:
    """Segment every picture of `samples` that the model has not met and hold its labels against its mask.

    classes:       names that the means are over; all where None.
    progress:      wraps the iteration over the pictures.
    truth_classes: what the masks' indices mean, all of them classes of the model; the model's own where None.
    tolerances:    of the boundary F-score, in pixels, at least one; the last is the main one.
    on_picture:    called with every picture's result: to keep its labels.
    Raises UsageError for a class that the model does not have, DataError where pictures and masks do not
    fit each other or the model's classes (all of them are named in the log), or where nothing is left to measure.
    """
    spec = segmenter.spec
    over = _indices(spec.classes, classes)
    theirs = spec.classes if truth_classes is None else tuple(truth_classes)
    table = _table(theirs, spec.classes, spec.name)
    check(samples, len(theirs))
    fresh = _by_network_size(unseen(samples, spec), segmenter)
    if not fresh:
        raise DataError(f"{spec.name} was trained or calibrated on all {len(samples)} pictures: name others.")
    tally = _Tally(len(spec.classes), over, tolerances)
    sizes: Counter[tuple[int, int]] = Counter()
    seconds: list[dict[str, float]] = []
    pictures: Iterable[tuple[np.ndarray, np.ndarray]] = _read_ahead(fresh)
    pictures = pictures if progress is None else progress(pictures)
    for sample, (frame, truth) in zip(fresh, pictures, strict=True):
        result = segmenter.segment(frame)
        tally.add(table[truth], result.labels)
        sizes[segmenter.network_size((frame.shape[0], frame.shape[1]))] += 1
        seconds.append(dict(result.timings))
        if on_picture is not None:
            on_picture(sample, result)
    if not tally.matrix.any():
        raise DataError(f"None of the {len(fresh)} masks holds anything but void: there is nothing to measure.")
    backend = segmenter.backend
    return Evaluation(
        matrix=tally.matrix,
        names=spec.classes,
        over=over,
        contours=tally.contours,
        image_pixel_accuracies=tuple(tally.pixel_accuracies),
        image_mean_ious=tuple(tally.mean_ious),
        images=len(fresh),
        left_out=len(samples) - len(fresh),
        unknown=tuple(name for name in spec.classes if name not in theirs),
        model=spec.name,
        trained=spec.trained,
        backend=backend.name,
        device=backend.device,
        precision=backend.precision,
        versions=dict(backend.versions),
        resize=segmenter.resize,
        refine=segmenter.refine,
        network_sizes=dict(sizes),
        milliseconds=_medians(seconds),
    )


class _Tally:
    """What is counted while pictures go by."""

    def __init__(self, num_classes: int, over: tuple[int, ...], tolerances: Sequence[float]) -> None:
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self.contours = {float(each): np.zeros((num_classes, 4), np.int64) for each in tolerances}
        self.pixel_accuracies: list[float] = []
        self.mean_ious: list[float] = []
        self._over = over

    def add(self, truth: np.ndarray, labels: np.ndarray) -> None:
        matrix = confusion(truth, labels, len(self.matrix))
        self.matrix += matrix
        for tolerance, counts in self.contours.items():
            counts += contours(truth, labels, len(self.matrix), tolerance)
        scores = Scores(matrix)
        self.pixel_accuracies.append(scores.pixel_accuracy)
        self.mean_ious.append(mean(scores.per_class_iou, self._over))


def _table(theirs: tuple[str, ...], ours: tuple[str, ...], model: str) -> np.ndarray:
    """uint8 (256,): the model's index of each index of the data, by name; void stays void."""
    strange = [name for name in theirs if name not in ours]
    if strange:
        raise DataError(
            f"{model} has no class {_some(strange)}, which the data have; its {len(ours)} classes are {_some(ours)}. "
            "Evaluate it on data of its own classes, or give both the same names."
        )
    table = np.full(256, VOID, np.uint8)
    table[: len(theirs)] = [ours.index(name) for name in theirs]
    return table


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED_IN_AN_ERROR
    return ", ".join(names[:NAMED_IN_AN_ERROR]) + (f" and {more} more" if more > 0 else "")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _indices(names: tuple[str, ...], chosen: Sequence[str] | None) -> tuple[int, ...]:
    if chosen is None:
        return tuple(range(len(names)))
    for name in chosen:
        if name not in names:
            raise unknown("class", name, names)
    return tuple(dict.fromkeys(names.index(name) for name in chosen))


def _by_network_size(samples: Sequence[Sample], segmenter: Segmenter) -> list[Sample]:
    """Those of one size together: a runtime that compiles for each size keeps a few, and a data set has many."""

    def network_size(sample: Sample) -> tuple[int, int]:
        assert sample.mask is not None  # as `check` saw; and that it has its picture's size, which takes longer to read
        return segmenter.network_size(mask_size(sample.mask))

    return sorted(samples, key=network_size)


def _read_ahead(samples: Sequence[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(picture, truth) in order, read in a thread while the caller works on an earlier one."""

    def read(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        return read_image(sample.image), read_truth(sample)

    waiting: deque[Future[tuple[np.ndarray, np.ndarray]]] = deque()
    with ThreadPoolExecutor(max_workers=1) as pool:
        for sample in samples:
            waiting.append(pool.submit(read, sample))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _medians(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median milliseconds of each stage and of their sum."""
    names = dict.fromkeys(stage for timing in seconds for stage in timing)  # a GPU may take some pictures and not all
    stages = {stage: [timing.get(stage, 0.0) for timing in seconds] for stage in names}
    stages["total"] = [sum(timing.values()) for timing in seconds]
    return {stage: round(1000 * float(np.median(values)), 3) for stage, values in stages.items()}
