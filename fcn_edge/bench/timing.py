"""How a candidate is timed, and what its runs say: the protocol and the statistics, without a model.

Runs that follow each other are alike, because clocks, caches and neighbours change more slowly than frames come. So a
thousand runs in a row are not a thousand witnesses: intervals are drawn over rounds, which lie apart in time.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from msgspec import Struct, structs

from fcn_edge.bench.schema import Latency, Summary

Seconds = Mapping[str, float]  # a stage's name and what it took

WINDOW_RUNS, WINDOW_SECONDS = 5, 0.5  # what is compared while warming up: clocks need some tenths of a second to rise
SETTLED = 0.02  # two windows' medians that are no further apart
WARM_UP_MOST = 30.0  # seconds; a board that heats up never settles
CATCH_UP_RUNS, CATCH_UP_SECONDS = 2, 0.1  # at the head of a round: a network of 2.5 ms needs 25 ms to get there
BLOCKS = 5  # what a round that stands alone is cut into
FEW = 5  # rounds, below which their medians' median says too little
RESAMPLES = 10_000
SEED = 0
OUTLIER = 3.0  # interquartile ranges above the upper quartile
Z = 1.959964  # of the normal distribution, for 95 %

NOISY_SPREAD = 0.10  # between the least and the largest of the rounds' medians
NOISY_INTERVAL = 0.05  # half of the interval, of the mean
NOISY_TAIL = 0.5  # of the 95th percentile above the median

WARM_UP = (
    f"Each candidate ran until the medians of two windows in a row were within {SETTLED:.0%}, of {WINDOW_SECONDS} s "
    f"and {WINDOW_RUNS} runs at least, or for {WARM_UP_MOST:g} s; the first {CATCH_UP_SECONDS} s of each round, and "
    f"{CATCH_UP_RUNS} runs at least, are not counted."
)


class Round(Struct, frozen=True):
    """What one candidate took when it was its turn, in seconds and in the order of the runs."""

    total: list[float]  # a frame in memory to labels in memory
    stages: dict[str, list[float]]  # prepare, infer, ...; `draw` is not in the total, and had fewer runs
    not_counted: int = 0  # runs before those: in no figure, but in the energy of the round


class Difference(Struct, frozen=True):
    """How much slower the second of two is, as a share of the first: 0.05 is five percent slower."""

    share: float
    low: float  # of the 95 % interval
    high: float

    @property
    def significant(self) -> bool:
        return self.low > 0 or self.high < 0


# ---- the protocol


def warm_up(run: Callable[[], Any], beat: Callable[[], None] = lambda: None) -> str:
    """Call `run` until it takes the same time again and again; a line that says how long that was.

    beat: called after each run, outside of what is timed.
    """
    taken: list[float] = []
    begun = perf_counter()
    while not settled(taken) and perf_counter() - begun < WARM_UP_MOST:
        start = perf_counter()
        run()
        taken.append(perf_counter() - start)
        beat()
    state = "stable" if settled(taken) else "still unstable"
    return f"{state} after {len(taken)} runs in {perf_counter() - begun:.1f} s"


def settled(taken: Sequence[float]) -> bool:
    """Whether the last two windows of runs have the same median, to `SETTLED`."""
    last = _window(taken)
    before = _window(taken[: len(taken) - len(last)])
    if not last or not before:
        return False
    late, early = statistics.median(last), statistics.median(before)
    return abs(late - early) <= SETTLED * early


def _window(taken: Sequence[float]) -> Sequence[float]:
    """The last runs that make a window; empty where there are too few."""
    total = 0.0
    for count, seconds in enumerate(reversed(taken), start=1):
        total += seconds
        if count >= WINDOW_RUNS and total >= WINDOW_SECONDS:
            return taken[-count:]
    return []


def time_round(run: Callable[[], Seconds], runs: int, seconds: float, beat: Callable[[], None] = lambda: None) -> Round:
    """Call `run`, which returns its stages' seconds, at least `runs` times and for at least `seconds`.

    beat: called after each run, outside of what is timed.
    """
    before = catch_up(run, beat)
    return structs.replace(take(run, runs, seconds, beat), not_counted=before)


def catch_up(run: Callable[[], Any], beat: Callable[[], None] = lambda: None) -> int:
    """Call `run` until caches and clocks are its own again; how often that was."""
    gc.collect()  # so that it is not due in the middle; it turns the caches over, hence before all
    begun, runs = perf_counter(), 0
    while runs < CATCH_UP_RUNS or perf_counter() - begun < CATCH_UP_SECONDS:
        run()
        beat()
        runs += 1
    return runs


def take(run: Callable[[], Seconds], runs: int, seconds: float, beat: Callable[[], None] = lambda: None) -> Round:
    """The timed part of a round."""
    total: list[float] = []
    stages: list[Seconds] = []
    end = perf_counter() + seconds
    while True:
        start = perf_counter()
        told = run()
        now = perf_counter()
        total.append(now - start)
        stages.append(told)
        if now >= end and len(total) >= runs:
            break
        beat()
    return Round(total, {name: [told[name] for told in stages] for name in stages[0]})


def overhead(runs: int = 20_000) -> float:
    """Seconds that timing adds to a run: those of a run that does nothing, less what calling it takes."""
    stages = {"prepare": 0.0, "infer": 0.0, "decode": 0.0}

    def nothing() -> Seconds:
        return stages

    def timed() -> float:
        start = perf_counter()
        take(nothing, runs, 0.0)
        return perf_counter() - start

    def bare() -> float:
        start = perf_counter()
        for _ in range(runs):
            nothing()
        return perf_counter() - start

    return max(0.0, min(timed() for _ in range(3)) - min(bare() for _ in range(3))) / runs


# ---- what the runs say


def latency(rounds: Sequence[Round]) -> Latency:
    """All rounds of one candidate. Raises ValueError where there is none."""
    totals = [each.total for each in rounds]
    names = dict.fromkeys(name for each in rounds for name in each.stages)
    stages = {name: summary([each.stages[name] for each in rounds if each.stages.get(name)]) for name in names}
    return Latency(
        total=summary(totals),
        stages=stages,
        rounds=[[round(seconds, 6) for seconds in each] for each in totals],
        outliers=outliers(totals),
        noisy=noisy(totals),
    )


def summary(rounds: Sequence[Sequence[float]]) -> Summary:
    """Of all runs of some rounds, in seconds; the interval is bootstrapped over the rounds, with a fixed seed."""
    pooled = np.concatenate([np.asarray(each, float) for each in rounds])
    low, high = interval(rounds)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(pooled, [50, 90, 95, 99]))
    least, most, mean = float(pooled.min()), float(pooled.max()), float(pooled.mean())
    return Summary(len(pooled), mean, low, high, p50, p90, p95, p99, least, most)


def interval(rounds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean over all runs, by drawing whole rounds anew.

    The percentiles are spread as Hesterberg 2015 (section 5.2 of "What teachers should know about the bootstrap")
    advises for few rounds, for which the plain ones are too narrow. Ten rounds hold the truth 93 times in a hundred
    (plain: 88), five 90 times, three 72 times whatever is done: simulated, with normal rounds.
    """
    parts = _parts(rounds)
    sums = np.array([sum(each) for each in parts])
    counts = np.array([len(each) for each in parts])
    drawn = np.random.default_rng(SEED).integers(0, len(parts), (RESAMPLES, len(parts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    many = len(parts)
    tail = statistics.NormalDist().cdf(-math.sqrt(many / (many - 1)) * _t(many - 1)) if many > 1 else 0.0
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def outliers(rounds: Sequence[Sequence[float]]) -> int:
    """Runs that took far longer than the others. They stay in every figure: a camera meets them too."""
    pooled = np.concatenate([np.asarray(each, float) for each in rounds])
    lower, upper = np.percentile(pooled, [25, 75])
    return int((pooled > upper + OUTLIER * (upper - lower)).sum())


def noisy(rounds: Sequence[Sequence[float]]) -> str | None:
    """Why these figures are doubtful; None where they are not."""
    found: list[str] = []
    medians = [statistics.median(each) for each in rounds]
    low, high = interval(rounds)
    pooled = np.concatenate([np.asarray(each, float) for each in rounds])
    middle, late = np.percentile(pooled, [50, 95])
    if (spread := max(medians) / min(medians) - 1) > NOISY_SPREAD:
        found.append(f"the medians of its rounds are up to {spread:.0%} apart")
    if (half := (high - low) / 2 / pooled.mean()) > NOISY_INTERVAL:
        found.append(f"its mean is known to {half:.0%} only")
    if (tail := late / middle - 1) > NOISY_TAIL:
        found.append(f"one run in twenty takes {tail:.0%} longer than the median")
    return "; ".join(found) or None


def differs(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    """How much slower `second` is than `first`, two candidates' rounds that were not taken side by side.

    Of the rounds' medians the median, because another program spoils some rounds whole and not all of them a little;
    bootstrapped over rounds. Where a fifth of ten rounds takes up to three times as long, that finds 5 % in four cases
    of ten, and a mean in one; where none does, both find it always, and find 3 % of differences that there are not.
    """
    ours, theirs = (np.log([statistics.median(part) for part in _parts(rounds)]) for rounds in (first, second))
    if min(len(ours), len(theirs)) < FEW:
        return _welch(ours, theirs)
    random = np.random.default_rng(SEED)
    drawn = (each[random.integers(0, len(each), (RESAMPLES, len(each)))] for each in (ours, theirs))
    early, late = (np.median(each, axis=1) for each in drawn)
    return _difference(np.median(theirs) - np.median(ours), *np.quantile(late - early, [0.025, 0.975]))


def _welch(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Of means: the medians of very few rounds would be sure of differences that there are not."""
    gap = theirs.mean() - ours.mean()
    if min(len(ours), len(theirs)) < 2:
        return _difference(gap, -math.inf, math.inf)
    errors = [each.var(ddof=1) / len(each) for each in (ours, theirs)]
    error = sum(errors)
    if error == 0:
        return _difference(gap, gap, gap)
    freedom = error**2 / sum(part**2 / (len(each) - 1) for part, each in zip(errors, (ours, theirs), strict=True))
    half = _t(freedom) * math.sqrt(error)
    return _difference(gap, gap - half, gap + half)


def _difference(gap: float, low: float, high: float) -> Difference:
    """Shares from differences of logarithms."""
    return Difference(*(float(np.expm1(each)) for each in (gap, low, high)))


def _parts(rounds: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """The rounds; of one that stands alone, stretches of it."""
    if len(rounds) > 1:
        return list(rounds)
    (only,) = rounds
    size = max(1, math.ceil(len(only) / BLOCKS))
    return [only[start : start + size] for start in range(0, len(only), size)]


def _t(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, to 0.2 % from three degrees of freedom on.

    Abramowitz and Stegun 26.7.5; below three its terms do not fall, and the two exact values stand in for it.
    """
    if freedom < 2:
        return 12.7062
    if freedom < 3:
        return 4.3027
    z = Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
