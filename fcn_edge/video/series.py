"""Recordings in several files: when the next one begins, what it is called, how many are kept.

Files of a live source carry the moment of their first frame, in UTC, so that a run that was started
again goes on beside what the one before it left; those of other sources are numbered.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path

from fcn_edge.errors import UsageError
from fcn_edge.video.writing import growing_name, is_ours

SECONDS = {"s": 1, "min": 60, "h": 3600}
BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9}
SHORTEST, SMALLEST = 1, 10**5  # a second, 100 kB: below, nearly every frame would begin a file


@dataclass(frozen=True)
class Cut:
    """Where a recording goes on in another file: after so many seconds or bytes, whichever is first.

    keep: how many files stay beside the one that is written; the oldest are removed. None: all.
    """

    seconds: float | None = None
    bytes: int | None = None
    keep: int | None = None


def parse_cut(text: str) -> Cut:
    """The value of --segment: `10min`, `100MB`, either with `keep=48`, joined by commas. Raises UsageError."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, value = _part(part.strip()) or ("", 0)
        if not name or name in found:
            raise UsageError(
                f"--segment {text}: write a length as 10min, 90s or 1h, a size as 100MB or 2GB, "
                "and how many files to keep as keep=48, joined by commas."
            )
        found[name] = value
    if found.get("seconds", SHORTEST) < SHORTEST or found.get("bytes", SMALLEST) < SMALLEST:
        raise UsageError(f"--segment {text}: a file holds at least 1s or 100kB.")
    if found.keys() == {"keep"}:
        raise UsageError(f"--segment {text}: says what to keep, but not when a file ends. Add 10min or 100MB.")
    keep, size = found.get("keep"), found.get("bytes")
    return Cut(found.get("seconds"), None if size is None else int(size), None if keep is None else int(keep))


def _part(text: str) -> tuple[str, float] | None:
    if match := re.fullmatch(r"keep=([1-9]\d{0,8})", text):
        return "keep", int(match[1])
    if match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?) ?([a-zA-Z]+)", text):
        number, unit = float(match[1]), match[2].lower()
        if unit in SECONDS:
            return "seconds", number * SECONDS[unit]
        if unit in BYTES:
            return "bytes", number * BYTES[unit]
    return None


class Series:
    """The files of one recording, of which `path` is the first, or the pattern where it is cut."""

    def __init__(self, path: Path, cut: Cut | None, live: bool) -> None:
        self.path = path
        self.cut = cut
        self.dated = live and cut is not None
        self.begun = 0
        self.removed = 0
        self.finished: deque[Path] = deque()
        if self.dated:
            self.finished.extend(self._left())

    def is_full(self, seconds: Fraction, size: int) -> bool:
        """Whether a file of this length and of so many bytes should end."""
        cut = self.cut or Cut()
        return (cut.seconds is not None and seconds >= cut.seconds) or (cut.bytes is not None and size >= cut.bytes)

    def next(self, captured: datetime) -> Path:
        """What the file is called whose first frame came at that time."""
        self.begun += 1
        if self.dated:
            return self._unused(f"{captured:%Y%m%dT%H%M%SZ}")
        if self.cut is not None:
            return self._named(f"{self.begun:04d}")
        return self.path if self.begun == 1 else self._named(str(self.begun))

    def done(self, path: Path) -> None:
        """`path` is finished; what is more than `keep` goes. Of files that others made none is touched."""
        if self.cut is None or self.cut.keep is None:
            return
        self.finished.append(path)
        while len(self.finished) > self.cut.keep:
            oldest = self.finished.popleft()
            if oldest.exists() and is_ours(oldest):
                with contextlib.suppress(OSError):
                    oldest.unlink()
                    self.removed += 1

    def _named(self, addition: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{addition}{self.path.suffix}")

    def _unused(self, stamp: str) -> Path:
        number, path = 1, self._named(stamp)
        while growing_name(path).exists() or path.exists():  # in this order: it may get its name in between
            number += 1
            path = self._named(f"{stamp}-{number}")
        return path

    def _left(self) -> list[Path]:
        """What earlier runs left, finished or not, the oldest first."""
        name = re.compile(
            rf"{re.escape(self.path.stem)}-\d{{8}}T\d{{6}}Z(-\d+)?(\.part\d*)?{re.escape(self.path.suffix)}"
        )
        with contextlib.suppress(OSError):
            found = [path for path in self.path.parent.iterdir() if name.fullmatch(path.name)]
            return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))
        return []
