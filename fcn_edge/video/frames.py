"""What a source gives, and what it promises of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    image: uint8 (H, W, 3) BGR, upright; read-only for whoever gets it.
    time, duration: seconds since the source's own zero, exact; duration is None where unknown.
    name: unique within the source and fit for a file name.
    captured: what time.monotonic() said when the capture backend delivered it; one clock for all processes.
    """

    image: np.ndarray
    sequence: int
    time: Fraction
    name: str
    duration: Fraction | None = None
    captured: float = field(default_factory=monotonic)


class Source(Protocol):
    """Frames, iterated once, by one thread. A context manager; `close` may be called more than once.

    `close` of a live source may be called by another thread than the one that waits for a frame: the iteration ends
    at once, whatever it waited for, and `close` itself returns within a second.
    """

    uri: str
    files: list[Path]  # what is read from
    live: bool  # true: frames come when they come, and only the newest is worth having
    still: bool  # true: single pictures, whose time means nothing
    total: int | None  # frames to come, where the source knows
    size: tuple[int, int] | None  # (H, W) of every frame, where they have one size
    rate: Fraction | None  # mean frames a second
    time_base: Fraction | None  # what the source counts its times in
    pixel_aspect: Fraction  # width of a pixel by its height
    problems: list[str]  # what could not be read, a line each
    notes: list[str]  # what to know of it, such as what a camera granted in place of what was asked, a line each

    @property
    def dropped(self) -> int: ...  # frames of a live source that nobody took
    @property
    def reconnects(self) -> int: ...  # how often a live source was lost and came back
    @property
    def lost_since(self) -> float | None: ...  # time.monotonic() of its last frame while it is lost; else None
    @property
    def trouble(self) -> str | None: ...  # why it is lost, a line, while it is

    def __iter__(self) -> Iterator[Frame]: ...
    def __enter__(self) -> Source: ...
    def __exit__(self, *error: object) -> None: ...
    def close(self) -> None: ...
