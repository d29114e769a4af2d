"""Every mask is looked at before anything starts, and all that are wrong are named at once.

An epoch takes an hour on a small machine; the one mask that does not fit its picture would end it at a
random step, and the next one the next run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fcn_edge.data.reading import picture_size, read_mask, truth_of_stored
from fcn_edge.data.samples import Sample
from fcn_edge.errors import DataError
from fcn_edge.spec import VOID

log = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]  # wraps what is iterated over, such as in a bar


def check(samples: Sequence[Sample], num_classes: int, progress: Progress | None = None) -> None:
    """Look at every picture and its mask; all that are wrong are named in the log, a line each.

    Raises one DataError then, which counts them and names the first.
    Wrong is: a file that is missing or unreadable, a mask of another size than its picture, colours
    instead of indices, an index that is neither below `num_classes` nor void.
    """
    if not samples:
        raise DataError("There are no pictures to check.")
    with ThreadPoolExecutor() as pool:
        problems: Iterable[str | None] = pool.map(lambda sample: problem(sample, num_classes), samples)
        if progress is not None:
            problems = progress(problems)
        wrong = [found for found in problems if found]
    if wrong:
        if len(wrong) > 1:
            for found in wrong:
                log.warning("%s", found)
        above = "; all are named above" if len(wrong) > 1 else ""
        raise DataError(
            f"{len(wrong)} of {len(samples)} masks or their pictures cannot be used, first: {wrong[0]}{above}. "
            "Mend what is named, or take its id off the list."
        )


def problem(sample: Sample, num_classes: int) -> str | None:
    """What is wrong with one sample, in a few words; None where nothing is."""
    try:
        size = picture_size(sample.image)
        if sample.mask is None:
            return f"{sample.image} has no mask: there is no SegmentationClass folder"
        mask = read_mask(sample.mask)
    except DataError as error:
        return str(error).rstrip(".")
    if mask.shape[::-1] != size:
        return f"{sample.mask} is {mask.shape[1]}x{mask.shape[0]}, its picture {size[0]}x{size[1]}"
    stored = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    truth = truth_of_stored(sample.void)[stored]
    strange = stored[(truth >= num_classes) & (truth != VOID)]
    if strange.size:
        last = num_classes if sample.void < num_classes else num_classes - 1  # as the mask counts
        void = "" if sample.void == VOID else f", {sample.void} is void"
        return f"{sample.mask} holds index {strange[0]}, {num_classes} classes end at {last}{void}"
    return None
