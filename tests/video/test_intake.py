from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fcn_edge.video.frames import Frame
from fcn_edge.video.intake import LATE, Pace


def at(seconds: float) -> Frame:
    return Frame(np.zeros((1, 1, 3), np.uint8), 0, Fraction(seconds).limit_denominator(1000), "frame")


def taken(pace: Pace, offers: list[tuple[float, Frame]]) -> list[float]:
    """When each frame is taken that is offered at a time, the next one not before the one before it was."""
    times = []
    now = 0.0
    for offered, frame in offers:
        now = max(now, offered)
        now += pace.wait(frame, now)
        pace.took(frame, now)
        times.append(now)
    return times


def test_without_limits_nothing_waits():
    assert taken(Pace(None, False), [(0, at(0)), (0, at(1))]) == [0, 0]


def test_a_highest_rate_spaces_frames_that_are_all_there():
    assert taken(Pace(20, False), [(0, at(0))] * 4) == pytest.approx([0, 0.05, 0.1, 0.15])


def test_a_highest_rate_is_reached_on_average_by_a_source_that_is_not_a_multiple_of_it():
    thirty = [(number / 30, at(number / 30)) for number in range(300)]
    pace, times = Pace(20, False), []
    for offered, frame in thirty:
        if not pace.wait(frame, offered):
            pace.took(frame, offered)
            times.append(offered)
    assert len(times) == pytest.approx(200, abs=2)
    assert min(np.diff(times)) > 1 / 60


def test_after_a_pause_nothing_is_made_up_for():
    assert taken(Pace(20, False), [(0, at(0)), (3, at(0)), (3, at(0))]) == pytest.approx([0, 3, 3.05])


def test_a_file_plays_in_its_own_time_and_catches_up_a_little():
    offers = [(0, at(0)), (0, at(0.1)), (0.35, at(0.2)), (0.35, at(0.3)), (0.35, at(0.4))]
    assert taken(Pace(None, True), offers) == pytest.approx([0, 0.1, 0.35, 0.35, 0.4])


def test_a_file_that_fell_far_behind_goes_on_from_there():
    offers = [(0, at(0)), (2 + LATE, at(0.1)), (0, at(0.2))]
    assert taken(Pace(None, True), offers) == pytest.approx([0, 2 + LATE, 2.1 + LATE])
