"""Drawing a calibration set, so that thin classes are in it.

Of the 1,464 pictures of VOC 2012 train 442 hold people and 65 a bicycle (the statistics published with it): among 64
drawn blindly there would be three bicycles, and in one set of twenty none.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from fcn_edge.data.calibration import clashes, refuse_noise
from fcn_edge.data.calibration_set import CalibrationSet, Entry, Source, bare
from fcn_edge.data.checking import problem
from fcn_edge.data.likeness import Look, Track, looks
from fcn_edge.data.reading import read_truth
from fcn_edge.data.samples import Sample
from fcn_edge.errors import DataError, UsageError
from fcn_edge.spec import VOID

NOT_STATED = "not stated"


def draw_set(
    source: Source,
    count: int,
    seed: int = 0,
    name: str | None = None,
    provenance: str = NOT_STATED,
    licence: str = NOT_STATED,
    against: Sequence[Sample] = (),
    track: Track | None = None,
) -> CalibrationSet:
    """A set of `count` pictures, or of all where there are fewer, drawn evenly over the classes that masks hold.

    against: evaluation pictures; what is one of them, or nearly looks like one, is passed over. So is a picture that
             was drawn already, under another name.
    Raises DataError for pictures or masks that cannot be read, where nothing is left, and for noise.
    """
    if count < 1:
        raise UsageError(f"--count {count} draws nothing. Give at least 1.")
    holds = _held(source, track)
    drawn, passed_over = _draw(source.samples, evenly(holds, seed), count, against, track)
    if not drawn:
        raise DataError(f"{source.root}: all of its {len(source.samples)} pictures are evaluation pictures.")
    refuse_noise(list(drawn.values()), str(source.root))
    pictures = Counter(label for index in drawn for label in holds[index])
    return CalibrationSet(
        name=name or source.name.lower(),
        source=":".join(filter(None, (source.name, ",".join(source.lists)))),
        drawn=_told(len(drawn), len(source.samples), bool(pictures), len(against), passed_over),
        seed=seed,
        provenance=provenance,
        licence=licence,
        classes={source.classes[label]: pictures[label] for label in sorted(pictures)},
        pictures=tuple(
            Entry(source.samples[index].id, each.sha256, f"{each.hash:016x}") for index, each in drawn.items()
        ),
    )


def evenly(holds: Sequence[frozenset[int]], seed: int) -> Iterator[int]:
    """All indices of `holds`, the sets of classes that pictures hold, in an order whose every beginning is even.

    The next picture is the first, in a seeded order, that holds the class which the fewest so far hold; pictures
    without any come last.
    """
    order = list(range(len(holds)))
    random.Random(seed).shuffle(order)
    waiting = {label: deque(index for index in order if label in holds[index]) for label in frozenset().union(*holds)}
    counts: Counter[int] = Counter()
    done: set[int] = set()
    while waiting:
        scarcest = min(waiting, key=lambda label: (counts[label], len(waiting[label]), label))
        index = waiting[scarcest].popleft()
        if not waiting[scarcest]:
            del waiting[scarcest]
        if index not in done:
            done.add(index)
            counts.update(holds[index])
            yield index
    yield from (index for index in order if index not in done)


def _draw(
    samples: Sequence[Sample], order: Iterator[int], count: int, against: Sequence[Sample], track: Track | None
) -> tuple[dict[int, Look], int]:
    """The first `count` of `order` that may be taken, and how many evaluation pictures were passed over."""
    known = looks([sample.image for sample in against], track)
    known_ids = [bare(sample.image.name) for sample in against]
    drawn: dict[int, Look] = {}
    met: set[str] = set()
    passed_over = 0
    while batch := list(islice(order, count - len(drawn))):
        paths = [samples[index].image for index in batch]
        found = looks(paths, track)
        evaluated = {ours for ours, _, _ in clashes([bare(path.name) for path in paths], found, known_ids, known)}
        passed_over += len(evaluated)
        for position, (index, each) in enumerate(zip(batch, found, strict=True)):
            if position not in evaluated and each.sha256 not in met:
                drawn[index] = each
                met.add(each.sha256)
    return drawn, passed_over


def _held(source: Source, track: Track | None) -> list[frozenset[int]]:
    """The classes that each picture holds; none without masks."""

    def held(sample: Sample) -> frozenset[int]:
        if sample.mask is None:
            return frozenset()
        labels = frozenset(np.flatnonzero(np.bincount(read_truth(sample).ravel(), minlength=256)).tolist()) - {VOID}
        if labels and max(labels) >= len(source.classes):
            raise DataError(f"{problem(sample, len(source.classes))}. Mend the mask, or take its id off the list.")
        return labels

    with ThreadPoolExecutor() as pool:
        found: Iterable[frozenset[int]] = pool.map(held, source.samples)
        return list(found if track is None else track(found, len(source.samples)))


def _told(drawn: int, pool: int, by_class: bool, against: int, passed_over: int) -> str:
    how = "evenly over the classes that their masks hold" if by_class else "evenly"
    compared = f"; compared with {against} evaluation pictures, {passed_over} passed over" if against else ""
    return f"{drawn} of {pool} pictures, {how}{compared}"
