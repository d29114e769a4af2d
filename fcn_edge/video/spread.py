"""How seconds are spread, counted for weeks in 8 KB.

A run that never ends cannot keep its values, so they are counted in buckets, each 2 % wider than the one
before it: a percentile is off by at most 1 %, and everything else is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

LEAST = 1e-6  # seconds; what is shorter counts as that
RATIO = 1.02
BUCKETS = math.ceil(math.log(1e9, RATIO))  # up to 1000 s
STEP = math.log(RATIO)


class Spread:
    """Seconds that something took, over and over. One thread adds; any may read."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.most = 0.0
        self._counts = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        bucket = int(math.log(max(seconds, LEAST) / LEAST) / STEP)
        self._counts[min(bucket, BUCKETS - 1)] += 1
        self.count += 1
        self.total += seconds
        self.most = max(self.most, seconds)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Seconds that so many percent of the values did not exceed; 0 where there are none."""
        counts = list(self._counts)
        left = sum(counts) * percent / 100
        for bucket, count in enumerate(counts):
            left -= count
            if count and left <= 0:
                return min(LEAST * RATIO ** (bucket + 0.5), self.most)
        return self.most

    def milliseconds(self) -> dict[str, float]:
        """For people and JSON: mean, p50, p95, p99 and the most, in milliseconds."""
        values = {"mean": self.mean, **{f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)}}
        return {name: round(1e3 * value, 3) for name, value in {**values, "max": self.most}.items()}

    @classmethod
    def of(cls, spreads: Iterable[Spread]) -> Spread:
        """All values of several."""
        whole = cls()
        for spread in spreads:
            whole._counts = [one + other for one, other in zip(whole._counts, spread._counts, strict=True)]
            whole.count += spread.count
            whole.total += spread.total
            whole.most = max(whole.most, spread.most)
        return whole
