"""A data set through a Segmenter: the figures of the very artefact that ships.

Labels are compared at each picture's own size, in one confusion matrix over the whole data set; a mean
of per-picture means would weigh a class by how few pictures hold it. Masks that do not fit are
found before the first picture is segmented, not after an hour.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcn_edge.data import Progress, Sample, check, read_image, read_mask
from fcn_edge.errors import DataError, unknown
from fcn_edge.metrics import Scores, confusion, mean
from fcn_edge.segmenter import Segmenter

READ_AHEAD = 4  # pictures decoded while one is segmented: more only holds memory, a picture takes 5 ms to read


@dataclass(frozen=True)
class Evaluation:
    """What one model did on one data set. `document` is the form that is written down."""

    matrix: np.ndarray  # int64 (C, C), rows truth, columns labels, void left out
    names: tuple[str, ...]  # of the C classes
    over: tuple[int, ...]  # indices of the classes that the means are over
    images: int
    model: str
    trained: bool
    backend: str
    device: str
    precision: str  # what was really computed in
    versions: dict[str, str]
    resize: str
    network_sizes: dict[tuple[int, int], int]  # (h, w) of the network's input: pictures that took it
    milliseconds: dict[str, float]  # median over the pictures: prepare, infer, decode, total

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
    def absent(self) -> list[str]:
        """Chosen classes without a pixel in the truth: no mean counts them."""
        occurs = self.scores.occurs
        return [self.names[index] for index in self.over if not occurs[index]]

    def document(self) -> dict[str, Any]:
        """For JSON. IoU is null for a class that does not occur; `confusion_matrix` is in the order of
        `per_class_iou`, rows truth; `classes` are those that the two means are over; `network_size` is the
        commonest (h, w) and `network_sizes` counts them all.
        """
        scores = self.scores
        sizes = sorted(self.network_sizes.items(), key=lambda item: -item[1])
        ious = (None if np.isnan(iou) else float(iou) for iou in scores.per_class_iou)
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
            "images": self.images,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "mean_iou": self.mean_iou,
            "frequency_weighted_iou": scores.frequency_weighted_iou,
            "classes": [self.names[index] for index in self.over],
            "absent": self.absent,
            "per_class_iou": dict(zip(self.names, ious, strict=True)),
            "confusion_matrix": self.matrix.tolist(),
            "milliseconds": self.milliseconds,
        }


def evaluate(
    segmenter: Segmenter,
    samples: Sequence[Sample],
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Segment every picture of `samples` and hold its labels against its mask.

    classes:  names that the two means are over; all where None.
    progress: wraps the iteration over the pictures.
    Raises UsageError for a class that the model does not have, DataError where pictures and masks do not
    fit each other or the model's classes (all of them are named), or where no pixel is labelled.
    """
    spec = segmenter.spec
    over = _indices(spec.classes, classes)
    check(samples, len(spec.classes))
    matrix = np.zeros((len(spec.classes),) * 2, np.int64)
    sizes: Counter[tuple[int, int]] = Counter()
    seconds: list[dict[str, float]] = []
    pictures: Iterable[tuple[np.ndarray, np.ndarray]] = _read_ahead(samples)
    for frame, truth in pictures if progress is None else progress(pictures):
        result = segmenter.segment(frame)
        matrix += confusion(truth, result.labels, len(spec.classes))
        sizes[segmenter.network_size((frame.shape[0], frame.shape[1]))] += 1
        seconds.append(dict(result.timings))
    if not matrix.any():
        raise DataError(f"None of the {len(samples)} masks holds anything but void: there is nothing to measure.")
    backend = segmenter.backend
    return Evaluation(
        matrix=matrix,
        names=spec.classes,
        over=over,
        images=len(samples),
        model=spec.name,
        trained=spec.trained,
        backend=backend.name,
        device=backend.device,
        precision=backend.precision,
        versions=dict(backend.versions),
        resize=segmenter.resize,
        network_sizes=dict(sizes),
        milliseconds=_medians(seconds),
    )


def _indices(names: tuple[str, ...], chosen: Sequence[str] | None) -> tuple[int, ...]:
    if chosen is None:
        return tuple(range(len(names)))
    for name in chosen:
        if name not in names:
            raise unknown("class", name, names)
    return tuple(dict.fromkeys(names.index(name) for name in chosen))


def _read_ahead(samples: Sequence[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(picture, truth) in order, read in a thread while the caller works on an earlier one."""

    def read(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        assert sample.mask is not None  # `check` has refused such samples
        return read_image(sample.image), read_mask(sample.mask)

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
    stages = {stage: [timing[stage] for timing in seconds] for stage in seconds[0]}
    stages["total"] = [sum(timing.values()) for timing in seconds]
    return {stage: round(1000 * float(np.median(values)), 3) for stage, values in stages.items()}
