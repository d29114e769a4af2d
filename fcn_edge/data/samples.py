"""What a data set is once its layout is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fcn_edge.spec import VOID


@dataclass(frozen=True)
class Sample:
    """One labelled picture; `mask` is None where the data set has no masks at all.

    `void` is the index that the mask stores for void beside 255, as CamVid's 11; classes above it move down by one.
    """

    id: str
    image: Path
    mask: Path | None
    void: int = VOID


@dataclass(frozen=True)
class DataSet:
    """Samples whose truth (`read_truth`) holds indices of `classes` and void."""

    samples: list[Sample]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]  # RGB, one a class
