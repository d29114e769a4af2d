"""Which way from scores to labels is the fastest here: measured once a model, device and size of frame, and kept.

The network takes the same time in all of them. A kernel that decodes on the GPU brings bytes home and costs the CPU
nothing; a CPU that decodes well on a bus that is fast may still be ahead of a small GPU. Scores cross in the type that
the file gives them. A choice may change the speed and not the labels, so labels made inside the graph are no third of
these: they are of the network's size, coarser than the others where the frame is larger, and of another file
(fcn-edge export --output labels). Where that is opened there are no scores to bring home, and no choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec

from fcn_edge.files import replacing
from fcn_edge.folders import cache_folder

WARM_UP = 4  # runs: the first sets shapes, the second captures the graph, and clocks rise
ROUNDS = 15  # the ways in turn, so that a clock that changes meets them all


def fastest(ways: Sequence[str], what: str, run: Callable[[str], object]) -> tuple[str, dict[str, float]]:
    """The fastest of `ways`, and the seconds of each.

    what: everything that the answer holds for; a kept answer for the same is taken. run: does it once in that way.
    """
    file = cache_folder() / "ways" / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"
    seconds = _kept(file, ways)
    if seconds is None:
        seconds = measure(ways, run)
        with suppress(OSError):  # measured again the next time
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                temporary.write_bytes(msgspec.json.encode({"what": what, "seconds": seconds}))
    return min(ways, key=lambda way: seconds[way]), seconds


def measure(ways: Sequence[str], run: Callable[[str], object]) -> dict[str, float]:
    """The median seconds of each way."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways:
        for _ in range(WARM_UP):
            run(way)
    for _ in range(ROUNDS):
        for way in ways:
            start = perf_counter()
            run(way)
            taken[way].append(perf_counter() - start)
    return {way: median(times) for way, times in taken.items()}


class _Kept(msgspec.Struct):
    what: str
    seconds: dict[str, float]


def _kept(file: Path, ways: Sequence[str]) -> dict[str, float] | None:
    try:
        seconds = msgspec.json.decode(file.read_bytes(), type=_Kept).seconds
    except (OSError, msgspec.MsgspecError):
        return None
    return seconds if set(seconds) == set(ways) else None
