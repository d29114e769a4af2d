"""What is far from every border stays as the network has it."""

from __future__ import annotations

import msgspec
import numpy as np

from fcn_edge.decode import decode
from fcn_edge.prepare import Ending
from fcn_edge.refine.core import insisting
from fcn_edge.refine.crf import Crf, CrfFigures

STRONG = CrfFigures(
    iterations=5,
    appearance=10.0,
    appearance_place=80.0,
    appearance_colour=20.0,
    smoothness=3.0,
    smoothness_place=3.0,
)


def test_only_pixels_farther_from_a_border_than_the_reach_are_certain() -> None:
    logits = np.zeros((2, 9, 20), np.float32)
    logits[1, :, 10:] = 1
    sure = insisting(logits.copy(), 4)
    changed = (sure != logits).any(axis=0)
    assert changed[:, :5].all()
    assert changed[:, 15:].all()
    assert not changed[:, 5:15].any()
    np.testing.assert_array_equal(sure.argmax(axis=0), logits.argmax(axis=0))


def test_without_a_reach_nothing_is_certain() -> None:
    logits = np.random.default_rng(0).normal(0, 1, (3, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(insisting(logits.copy(), None), logits)


def test_a_thing_of_which_the_network_is_unsure_vanishes_unless_its_core_stands() -> None:
    frame = np.full((125, 160, 3), 120, np.uint8)
    scores = np.zeros((2, 25, 32), np.float32)
    scores[0] = 3
    scores[:, 8:17, 10:22] = np.array([0, 0.5], np.float32)[:, None, None]
    ending = Ending(None, (125, 160), (125, 160), (125, 160))
    before = decode(scores, (125, 160))
    assert (before == 1).mean() > 0.1
    assert not Crf(STRONG)(scores, frame, ending, "half_pixel").any()
    after = Crf(msgspec.structs.replace(STRONG, reach=25.0))(scores, frame, ending, "half_pixel")
    assert after[62, 80] == 1
