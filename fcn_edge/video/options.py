"""What may be asked of a source: `size=720x1280,rate=30,flip=180`, on the command line or behind a URI's '#'.

Every option is None where nobody asked, so that each kind of source keeps its own habit, and an option
that means nothing to a kind is refused rather than passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from fcn_edge.errors import UsageError, unknown

FLIPS = ("180", "90", "270", "horizontal", "vertical")
UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "": 1.0}
MOST_PIXELS = 1 << 30  # OpenCV's own limit
WAIT = 15.0  # seconds to the first frame: a key frame may be 10 away
STALL = 5.0  # seconds without a frame; cameras that lengthen exposure in the dark still give one a second
FASTEST = 1000  # frames a second; beyond it a rate is a slip of the hand


@dataclass(frozen=True)
class SourceOptions:
    """What was asked of a source; None where nothing was.

    size:      (H, W) asked of a camera, or drawn by demo:.
    rate:      frames a second, likewise.
    codec:     what a camera is asked to send, or what an rtp:// address carries, as in mjpg or h264.
    flip:      one of FLIPS; 90 and 270 turn clockwise.
    loop:      a file or folder starts again at its end.
    live:      a file or demo: plays at its own rate and waits for nobody, as a camera does.
    latency:   seconds that packets of a network may wait for those before them.
    transport: tcp or udp, for RTSP.
    hardware:  the decoder: auto, none, or its name, as in vaapi or nvv4l2decoder.
    reconnect: seconds for which a lost source is looked for; asked for, it holds for the first connection too.
    stall:     seconds without a frame that make a source lost.
    wait:      seconds that a source may take from opening to its first frame.
    """

    size: tuple[int, int] | None = None
    rate: Fraction | None = None
    codec: str | None = None
    flip: str | None = None
    loop: bool | None = None
    live: bool | None = None
    latency: float | None = None
    transport: str | None = None
    hardware: str | None = None
    reconnect: float | None = None
    stall: float | None = None
    wait: float | None = None

    def updated(self, text: str) -> SourceOptions:
        """These with those that `text` names in their place. Raises UsageError."""
        return replace(self, **dict(_option(part) for part in text.split(",") if part.strip()))

    @property
    def asked(self) -> list[str]:
        """The names of the options that somebody asked for."""
        return [name for name in OPTIONS if getattr(self, name) is not None]


def are_options(text: str) -> bool:
    """Whether `text` is meant as options: what stands behind a '#' may also be part of a name."""
    parts = [part.strip() for part in text.split(",")]
    return all(re.fullmatch(r"[a-z]+=[^=]*", part) or part in SWITCHES for part in parts)


def _option(part: str) -> tuple[str, Any]:
    name, _, value = (side.strip() for side in part.partition("="))
    if name not in OPTIONS:
        raise unknown("source option", name, OPTIONS)
    try:
        return name, OPTIONS[name](value)
    except ValueError as error:
        raise UsageError(f"{name}={value}: is not {error}") from None


def _size(value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value.lower())
    height, width = (int(side) for side in match.groups()) if match else (0, 0)
    if not 0 < height * width <= MOST_PIXELS:
        raise ValueError("a size. Write rows by columns, as in size=720x1280.")
    return height, width


def _rate(value: str) -> Fraction:
    if not re.fullmatch(r"\d{1,7}(\.\d{1,6})?|\d{1,7}/[1-9]\d{0,6}", value) or not 0 < Fraction(value) <= FASTEST:
        raise ValueError(f"a rate up to {FASTEST}. Write frames a second, as in rate=30 or rate=30000/1001.")
    return Fraction(value)


def _word(value: str) -> str:
    if not re.fullmatch(r"[\w-]{1,40}", value):
        raise ValueError("a name. Write it as in codec=mjpg or hardware=vaapi.")
    return value.lower()


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"known. Write one of {', '.join(words)}.")
        return value

    return parse


def _switch(value: str) -> bool:
    if value not in ("", "yes", "no"):
        raise ValueError("yes or no.")
    return value != "no"


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|min|h|)", value)
        seconds = float(match[1]) * UNITS[match[2]] if match else math.inf if value == "forever" else math.nan
        if not least <= seconds <= most:
            limits = f"from {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
            raise ValueError(f"a time {limits} seconds. Write it as in 5, 200ms or 10min.")
        return seconds

    return parse


OPTIONS: dict[str, Callable[[str], Any]] = {
    "size": _size,
    "rate": _rate,
    "codec": _word,
    "flip": _one_of(*FLIPS),
    "loop": _switch,
    "live": _switch,
    "latency": _seconds(0, 60),
    "transport": _one_of("tcp", "udp"),
    "hardware": _word,
    "reconnect": _seconds(0, math.inf),
    "stall": _seconds(0.1, 86_400),
    "wait": _seconds(0.1, 86_400),
}
SWITCHES = ("loop", "live")
