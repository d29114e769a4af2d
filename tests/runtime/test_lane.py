"""The stages of a frame in flight, from marks that were passed at known times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from fcn_edge.runtime.lane import MARKS, Lane


@dataclass
class Passed:
    """A stand-in for an event of CUDA: `since` of two is what lies between."""

    at: float

    def since(self, earlier: Passed) -> float:
        return self.at - earlier.at


def lane(staged: float, **marks: float) -> Lane:
    made = object.__new__(Lane)  # without a GPU's streams and memory
    made.staged = staged
    made.marks = cast("Any", {name: Passed(marks[name]) for name in MARKS})
    return made


AT = {"begin": 0.0, "up": 1.0, "turn": 3.0, "prepared": 3.5, "scored": 7.5, "free": 8.0, "end": 8.25}


def test_labels_are_decoded_before_they_are_copied() -> None:
    assert lane(0.1, **AT).stages(0.01, decoded=True) == pytest.approx(
        {"to_device": 1.1, "prepare": 0.5, "infer": 4.0, "decode": 0.5, "from_device": 0.26}
    )


def test_scores_are_only_copied() -> None:
    assert lane(0.1, **AT).stages(0.01, decoded=False) == pytest.approx(
        {"to_device": 1.1, "prepare": 0.5, "infer": 4.0, "decode": 0.0, "from_device": 0.76}
    )
