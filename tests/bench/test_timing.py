"""The clock of these tests stands still unless a run lets it go on, so every figure is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from fcn_edge.bench import timing
from fcn_edge.bench.timing import Round


class Clock:
    """A stand-in for `perf_counter`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stand_in = Clock()
    monkeypatch.setattr(timing, "perf_counter", stand_in)
    return stand_in


class Job:
    """A run that takes the next of some times, and the last of them for ever."""

    def __init__(self, clock: Clock, times: Iterable[float]) -> None:
        self._clock, self._times = clock, iter(times)
        self._last = 0.0
        self.runs = 0

    def __call__(self) -> dict[str, float]:
        self._last = next(self._times, self._last)
        self._clock.now += self._last
        self.runs += 1
        return {"prepare": 0.25 * self._last, "infer": 0.75 * self._last}


# ---- the protocol


def test_a_round_takes_the_runs_and_the_time_that_it_was_given(clock: Clock) -> None:
    many = timing.time_round(Job(clock, [0.125]), runs=8, seconds=0.5)
    assert many.total == [0.125] * 8
    long = timing.time_round(Job(clock, [0.125]), runs=3, seconds=0.5)
    assert long.total == [0.125] * 4


def test_what_comes_first_in_a_round_is_not_counted(clock: Clock) -> None:
    taken = timing.time_round(Job(clock, [9.0, 5.0, 0.5]), runs=3, seconds=0.0)
    assert taken == Round([0.5] * 3, {"prepare": [0.125] * 3, "infer": [0.375] * 3}, not_counted=2)
    quick = timing.time_round(Job(clock, [*[1 / 32] * 4, 1 / 64]), runs=1, seconds=0.0)
    assert (quick.total, quick.not_counted) == ([1 / 64], 4)  # a tenth of a second is over after four


def test_signs_of_life_are_in_no_figure(clock: Clock) -> None:
    def beat() -> None:
        clock.now += 7.0

    assert timing.time_round(Job(clock, [0.5]), runs=3, seconds=0.0, beat=beat).total == [0.5] * 3


def test_warming_up_ends_when_two_windows_agree(clock: Clock) -> None:
    job = Job(clock, [*np.linspace(1.0, 0.25, 8), 0.25])
    said = timing.warm_up(job)
    assert job.runs == 15  # from the eighth on all are alike: the median of runs 6 to 10 is that of 11 to 15
    assert said == "stable after 15 runs in 6.8 s"


def test_a_window_is_long_enough_for_a_clock_to_rise(clock: Clock) -> None:
    job = Job(clock, [1 / 512])
    timing.warm_up(job)
    assert job.runs == 512  # two windows of half a second


def test_warming_up_gives_up_on_what_never_settles(clock: Clock) -> None:
    def restless() -> Iterator[float]:
        length = 1.0
        while True:
            length *= 1.05
            yield length

    assert timing.warm_up(Job(clock, restless())).startswith("still unstable after 1")


def test_the_timer_costs_something_and_says_how_much() -> None:
    assert 0 < timing.overhead(runs=1000) < math.inf


# ---- what runs say


def test_a_summary_is_of_all_runs() -> None:
    found = timing.summary([[float(n) for n in range(first, 101, 4)] for first in (1, 2, 3, 4)])
    assert (found.runs, found.mean, found.least, found.most) == (100, 50.5, 1.0, 100.0)
    assert [found.p50, found.p90, found.p95, found.p99] == pytest.approx([50.5, 90.1, 95.05, 99.01])
    assert found.low < 50.5 < found.high


def test_the_same_runs_have_the_same_interval() -> None:
    rounds = [[1.0, 1.1], [1.2, 1.0], [0.9, 1.0]]
    assert timing.interval(rounds) == timing.interval(rounds)


def drifting(rng: np.random.Generator, rounds: int, mean: float = 1.0) -> list[list[float]]:
    """Runs of a machine whose speed changes from round to round and hardly within one."""
    return [list(level + rng.normal(0, 0.002, 30)) for level in rng.normal(mean, 0.02, rounds)]


def test_the_interval_holds_the_truth_more_often_than_plain_percentiles_would() -> None:
    rng = np.random.default_rng(1)
    ours, plain = [], []
    for _ in range(400):
        rounds = drifting(rng, 10)
        low, high = timing.interval(rounds)
        ours.append(low <= 1.0 <= high)
        means = np.mean(rounds, axis=1)
        low, high = np.quantile(means[rng.integers(0, 10, (2000, 10))].mean(axis=1), [0.025, 0.975])
        plain.append(low <= 1.0 <= high)
    assert np.mean(plain) < 0.90
    assert 0.92 < np.mean(ours) < 0.98


def test_a_round_that_stands_alone_is_cut_into_stretches() -> None:
    slow_end = [1.0] * 80 + [2.0] * 20
    low, high = timing.interval([slow_end])
    # Five stretches of twenty, of which one is slow. Of a thousand draws of five one is beyond the interval at either
    # end: that none of five is slow comes 328 times, that four are 6 times, that all are 0.3 times.
    assert (low, high) == (pytest.approx(1.0), pytest.approx(1.8))
    assert timing.interval([[1.0]]) == (1.0, 1.0)


def test_outliers_are_counted_and_kept() -> None:
    runs = [[1.0, 1.1, 1.2, 1.3] * 5, [1.0, 1.1, 1.2, 9.0]]
    assert timing.outliers(runs) == 1
    found = timing.latency([Round(each, {"infer": each}) for each in runs])
    assert (found.outliers, found.total.most, found.rounds) == (1, 9.0, runs)


def test_stages_are_summed_up_each_over_the_runs_that_had_it() -> None:
    found = timing.latency([Round([3.0, 3.0], {"infer": [1.0, 2.0], "draw": [0.5]})] * 2)
    assert list(found.stages) == ["infer", "draw"]
    assert (found.stages["infer"].runs, found.stages["infer"].mean) == (4, 1.5)
    assert (found.stages["draw"].runs, found.stages["draw"].mean) == (2, 0.5)


def test_doubtful_figures_say_why() -> None:
    steady = [[1.0, 1.01, 0.99] * 10] * 5
    assert timing.noisy(steady) is None
    assert "rounds are up to 20% apart" in str(timing.noisy([*steady, [1.2] * 30]))
    assert timing.noisy([[1.0] * 9 + [1.6]] * 3) == "one run in twenty takes 60% longer than the median"
    assert "its mean is known to" in str(timing.noisy([[1.0] * 30, [1.05] * 30, [1.5] * 30]))


def test_of_few_rounds_a_difference_is_welchs_of_their_medians() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    first, second = drifting(rng, 7), drifting(rng, 4, 1.1)
    found = timing.differs(first, second)
    logs = [np.log(np.median(rounds, axis=1)) for rounds in (second, first)]
    theirs = stats.ttest_ind(*logs, equal_var=False).confidence_interval()
    assert found.low == pytest.approx(math.expm1(theirs.low), rel=0.01)
    assert found.high == pytest.approx(math.expm1(theirs.high), rel=0.01)
    assert found.share == pytest.approx(math.expm1(logs[0].mean() - logs[1].mean()))
    assert found.significant


@pytest.mark.parametrize("rounds", [3, 5, 10])
def test_what_is_the_same_is_hardly_ever_found_to_differ(rounds: int) -> None:
    rng = np.random.default_rng(5)
    found = [timing.differs(drifting(rng, rounds), drifting(rng, rounds)).significant for _ in range(300)]
    assert np.mean(found) < 0.08


def test_a_tenth_is_found_though_other_programs_spoiled_some_rounds() -> None:
    steady = [[1.0], [1.01], [0.99], [1.0], [1.02], [0.98], [1.0], [3.0], [1.01], [0.99]]
    slower = [[1.1 * each for each in taken] for taken in steady]
    slower[2] = [2.5]
    found = timing.differs(steady, slower)
    assert found.significant
    assert found.share == pytest.approx(0.1, abs=0.015)


def test_one_slow_frame_makes_no_difference() -> None:
    steady = [[1.0, 1.001, 0.999] * 10, [1.002] * 30, [0.998] * 30]
    slow_once = [[*each[:-1], 20.0] for each in steady]
    assert not timing.differs(steady, slow_once).significant


def test_two_runs_alone_cannot_be_told_apart() -> None:
    found = timing.differs([[1.0]], [[1.5]])
    assert (found.share, found.significant) == (pytest.approx(0.5), False)
    assert timing.differs([[1.0] * 3] * 2, [[1.5] * 3] * 2).significant  # without any spread there is no doubt
