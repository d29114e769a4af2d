"""The clock of a run: when its state is worth saving again, and the means that its log gets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SAVE_SECONDS = 60  # at most this much work is lost to a kill
SAVE_SHARE = 20  # saving takes at most a twentieth of the time: a VGG16 run's state has 1.6 GB


class Saving:
    """When the state is worth saving again."""

    def __init__(self) -> None:
        self.ended, self.took, self.began = time.monotonic(), 0.0, 0.0

    def is_due(self) -> bool:
        return time.monotonic() - self.ended > max(SAVE_SECONDS, SAVE_SHARE * self.took)

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.ended = time.monotonic()
        self.took = self.ended - self.began


class Meter:
    """Means since the last reading. They are the run's and go on where it does; the clock is this process's."""

    def __init__(self, batch: int, sums: dict[str, float], count: int) -> None:
        self.batch, self.sums, self.count = batch, sums, count
        self.loss, self.speed = float("nan"), 0.0
        self.timed, self.since = 0, time.monotonic()

    def add(self, values: dict[str, float]) -> None:
        self.count += 1
        self.timed += 1
        self.sums = {key: self.sums.get(key, 0.0) + value for key, value in values.items()}

    def read(self) -> dict[str, float]:
        means = {key: value / self.count for key, value in self.sums.items()}
        self.loss, self.speed = means["loss"], self.timed * self.batch / (time.monotonic() - self.since)
        self.sums, self.count = {}, 0
        self.timed, self.since = 0, time.monotonic()
        return means | {"pictures_per_second": self.speed}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within is no part of the speed."""
        began = time.monotonic()
        yield
        self.since += time.monotonic() - began
