"""What timing costs: frames that are timed one by one against frames that are only counted.

    python benchmarks/timer.py

`fcn-edge bench` reads the clock before and after every frame and keeps the stages that `Segmenter` told. Here the same
loop is run over a job of 2 ms beside one that reads the clock at its two ends alone, in short turns, so that a machine
whose speed changes harms both alike; once with a job that spins until the clock says that 2 ms are over, and once with
a network of about 2 ms, whose caches the timer could spoil. The loop over a job that does nothing tells the
same without noise; that figure is `timer_overhead` in every report.json.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import cv2

from fcn_edge import Segmenter
from fcn_edge.bench.subject import read_frame
from fcn_edge.bench.timing import catch_up, overhead, take

TARGET = 0.01
FRAME_SECONDS = 0.002
IN_A_TURN = 5  # frames: the fewer, the more alike the machine is for the two
STAGES: Mapping[str, float] = {"prepare": 0.0, "infer": 0.0, "decode": 0.0}

Job = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Turns:
    """Seconds a frame of each turn, timed and counted."""

    timed: list[float]
    counted: list[float]

    @property
    def added(self) -> list[float]:
        return [timed - counted for timed, counted in zip(self.timed, self.counted, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1000, help="of each of the two, 5 frames a turn")
    parser.add_argument("--size", type=int, default=192, help="of the network")
    arguments = parser.parse_args()
    print(f"a job that does nothing: {1e6 * overhead():.2f} us a frame, {overhead() / FRAME_SECONDS:.3%} of 2 ms")
    report("2 ms of spinning", race(spin, arguments.turns))
    cv2.setNumThreads(1)
    frame = read_frame(None, (192, 320))
    with Segmenter("fcn8s-lite-small", size=arguments.size, threads=1) as segmenter:
        segmenter.warm_up((192, 320))
        where = f"{segmenter.backend.name}, {segmenter.backend.precision}, 1 thread"
        report(f"a network ({where})", race(lambda: segmenter.segment(frame).timings, arguments.turns))


def spin() -> Mapping[str, float]:
    """The processor is at work for 2 ms, however fast it is."""
    end = perf_counter() + FRAME_SECONDS
    while perf_counter() < end:
        pass
    return STAGES


def race(job: Job, turns: int) -> Turns:
    found = Turns([], [])
    catch_up(job)
    for turn in range(turns):
        for timed in (turn % 2 == 0, turn % 2 == 1):  # so that neither always follows the other
            (found.timed if timed else found.counted).append(timed_turn(job) if timed else counted_turn(job))
    return found


def timed_turn(job: Job) -> float:
    """Seconds a frame of the loop that `bench` runs, by a clock around all of it."""
    begun = perf_counter()
    take(job, IN_A_TURN, 0.0)
    return (perf_counter() - begun) / IN_A_TURN


def counted_turn(job: Job) -> float:
    begun = perf_counter()
    for _ in range(IN_A_TURN):
        job()
    return (perf_counter() - begun) / IN_A_TURN


def report(what: str, turns: Turns) -> None:
    """Medians, because a turn that another program broke into says nothing of the timer."""
    base = statistics.median(turns.counted)
    low, middle, high = (value / base for value in middle_of(turns.added))
    verdict = "reached" if high < TARGET else "MISSED" if low > TARGET else "this machine is too restless to tell"
    print(
        f"{what}: {1e3 * base:.4f} ms a frame counted; timed {middle:+.3%} (95 % interval {low:+.3%} to {high:+.3%}), "
        f"target below {TARGET:.0%}: {verdict}"
    )


def middle_of(values: list[float]) -> tuple[float, float, float]:
    """The median between the ends of its 95 % interval, which are order statistics too."""
    ranked = sorted(values)
    half = round(0.98 * math.sqrt(len(ranked)))
    at = len(ranked) // 2
    return ranked[max(0, at - half)], statistics.median(ranked), ranked[min(len(ranked) - 1, at + half)]


if __name__ == "__main__":
    main()
