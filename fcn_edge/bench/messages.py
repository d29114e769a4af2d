"""What passes between a worker and its child: requests one way, answers the other, each a line of JSON.

Every request gets one answer with a result or an error; before it there may be beats, which say that work goes on.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Open(Struct, tag=True, frozen=True):
    """Open the candidate: arguments as `Segmenter` takes them, and the frame that it is timed with."""

    model: str
    backend: str
    precision: str | None
    size: int | tuple[int, int] | None
    resize: str | None
    spec: str | None
    threads: int | None
    frame: str | None
    frame_size: tuple[int, int]
    refine: str | None = None


class WarmUp(Struct, tag=True, frozen=True):
    pass


class TakeRound(Struct, tag=True, frozen=True):
    runs: int
    seconds: float
    draws: int


class MeasureThroughput(Struct, tag=True, frozen=True):
    seconds: float


class Evaluate(Struct, tag=True, frozen=True):
    data: list[str]
    split: str | None
    classes: list[str] | None
    limit: int | None
    reference: str | None
    keep: str | None


class TellLayers(Struct, tag=True, frozen=True):
    pass


class TellMemory(Struct, tag=True, frozen=True):
    pass


Request = Open | WarmUp | TakeRound | MeasureThroughput | Evaluate | TellLayers | TellMemory


class Answer(Struct, frozen=True, omit_defaults=True):
    """One of the three."""

    result: Any = None
    error: tuple[str, str] | None = None  # the name of its kind in `fcn_edge.errors`, its line
    beat: tuple[float, str] | None = None  # share that is done, what is being done


class Opened(Struct, frozen=True):
    """What a candidate turned out to be."""

    backend: str
    choice: str  # why this backend
    precision: str  # what is really computed in
    device: str
    versions: dict[str, str]
    network: tuple[int, int]  # (h, w) for the frame
    load: float  # seconds from the file to a backend that is ready, the runtime's own loading with it
    first: float  # seconds of the first frame
    spec_name: str
    variant: str
    trained: bool
    seen: str | None  # what its weights were trained on
    holds: str  # precision of the file
    classes: list[str]
    palette: list[tuple[int, int, int]]
    path: str  # the file that was really opened: of a bundled name it may be the int8 form
    sha256: str
    bytes: int
    parameters: int | None
