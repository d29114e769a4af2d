"""How near `fcn-edge run` comes to what the machine allows.

    python benchmarks/pipeline.py VIDEO [--live 20] [--photo PHOTO] [--memory-frames 3000]

Each stage is measured alone: frames a second of wall time, and CPU seconds a frame over all threads. No
pipeline of these stages can be faster than its slowest stage alone, nor than cores / (CPU seconds a
frame of all stages together); the smaller of the two is the bound that the real rate is held against.

With --live the video then plays at its own rate as a camera does, captured by a process of its own, for so
many seconds; its rate is a third bound. Told is the age of a frame when it was written, from its delivery by the
capture backend, in milliseconds and in frame times of the rate that was achieved.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from fcn_edge.segmenter import Segmentation, Segmenter
from fcn_edge.video.frames import Frame
from fcn_edge.video.painter import Painter
from fcn_edge.video.pipeline import Feed, Limits, process
from fcn_edge.video.recording import VideoSink
from fcn_edge.video.sinks import Result
from fcn_edge.video.sources import open_source

HELD = 60  # frames kept in memory and gone round: 170 MB at 1280x720
ROUNDS = 3
FCN_EDGE = [sys.executable, "-m", "fcn_edge.cli.main"]


@dataclass(frozen=True)
class Cost:
    """Seconds a frame of one stage alone."""

    wall: float
    cpu: float


def cost(work: Callable[[], int]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    frames = work()
    return Cost((time.perf_counter() - wall) / frames, (time.process_time() - cpu) / frames)


class Stages:
    """The four stages of a run, each fed from memory."""

    def __init__(self, video: Path, segmenter: Segmenter, folder: Path) -> None:
        self.video, self.segmenter, self.folder = video, segmenter, folder
        self.painter = Painter(segmenter.spec)
        with open_source(video) as source:
            self.frames = [frame for frame, _ in zip(source, range(HELD), strict=False)]
        segmenter.warm_up(self.frames[0].image.shape[:2])
        self.results = list(segmenter.stream(frame.image for frame in self.frames))
        self.pictures = [self.paint(result) for result in self.results]

    def paint(self, result: Segmentation):
        labels = self.painter.labels(result.labels)
        return self.painter.draw(result, labels, self.painter.shares(labels), "30.0 fps")

    def read(self) -> int:
        with open_source(self.video) as source:
            return sum(1 for _ in source)

    def infer(self) -> int:
        return sum(1 for _ in self.segmenter.stream(frame.image for frame in self.frames * 3))

    def draw(self) -> int:
        for result in self.results * 3:
            self.paint(result)
        return 3 * len(self.results)

    def encode(self) -> int:
        with open_source(self.video) as source, VideoSink(self.folder / "alone.mp4", source, True, "") as sink:
            step = 1 / (source.rate or Fraction(25))
            for number, picture in enumerate(self.pictures * 3):
                frame = Frame(picture, number, number * step, str(number))
                sink.write(Result(frame, self.results[0].labels, picture, {}, {}))
        return 3 * len(self.pictures)

    def all(self) -> float:
        """Frames a second of the real pipeline, from the first frame asked for to the closed file."""
        before = time.perf_counter()
        tally = self.run(str(self.video), Limits()).tally
        return tally.frames / (time.perf_counter() - before)

    def run(self, source: str, limits: Limits) -> Feed:
        with open_source(source) as opened:
            feed = Feed(opened, self.painter, [VideoSink(self.folder / "all.mp4", opened, True, "")])
            process([feed], self.segmenter, limits, threading.Event())
        return feed


def live(stages: Stages, seconds: float, bound: float) -> None:
    """Age and rate of the video as a camera."""
    feed = stages.run(f"{stages.video}#live", Limits(seconds=seconds))
    rate, age = feed.tally.fps, feed.tally.age
    bound = min(bound, float(feed.source.rate or math.inf))
    print(f"as a camera: {rate:.1f} fps of {float(feed.source.rate or 0):.1f}, {feed.dropped} dropped, "
          f"{feed.tally.lost} lost by the sink; fraction of the bound: {rate / bound:.3f} (target 0.9)")  # fmt: skip
    for percent, target in ((50, ""), (95, " (target 2.5)"), (99, "")):
        taken = age.percentile(percent)
        print(f"  age p{percent}: {1e3 * taken:.0f} ms, {taken * rate:.2f} frame times{target}")
    stages_ms = ", ".join(f"{name} {1e3 * spread.percentile(50):.1f}" for name, spread in feed.tally.spreads.items())
    print(f"  ms a frame, p50: {stages_ms}")


def speed(video: Path, threads: int | None, folder: Path, live_seconds: float) -> None:
    cores = len(os.sched_getaffinity(0))
    with Segmenter(threads=threads) as segmenter:
        stages = Stages(video, segmenter, folder)
        print(f"{segmenter.spec.name}{'' if segmenter.spec.trained else ' (UNTRAINED: seeded noise)'}")
        print(f"{segmenter.backend.name}, {segmenter.backend.precision}, {segmenter.backend.device}, {cores} cores")
        rounds: dict[str, list[Cost]] = {}
        rates, fractions = [], []
        for _ in range(ROUNDS):
            now = {name: cost(getattr(stages, name)) for name in ("read", "infer", "draw", "encode")}
            rates.append(stages.all())
            fractions.append(rates[-1] / bound(now, cores))
            for name, measured in now.items():
                rounds.setdefault(name, []).append(measured)
        middle = {
            name: Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))
            for name, costs in rounds.items()
        }
        if live_seconds:
            live(stages, live_seconds, bound(middle, cores))
    print(f"{'stage alone':12} {'wall ms':>8} {'CPU ms':>8} {'fps':>8}")
    for name, measured in middle.items():
        print(f"{name:12} {1e3 * measured.wall:8.2f} {1e3 * measured.cpu:8.2f} {1 / measured.wall:8.1f}")
    total = sum(measured.cpu for measured in middle.values())
    print(f"{'sum':12} {'':8} {1e3 * total:8.2f}")
    print(
        f"bound: min(slowest stage {1 / max(c.wall for c in middle.values()):.1f}, cores / CPU {cores / total:.1f}) fps"
    )
    print(f"run: {statistics.median(rates):.1f} fps, rounds {', '.join(f'{rate:.1f}' for rate in rates)}")
    print(f"fraction of the bound: {statistics.median(fractions):.3f} (target 0.9), rounds "
          f"{', '.join(f'{fraction:.3f}' for fraction in fractions)}")  # fmt: skip


def bound(costs: dict[str, Cost], cores: int) -> float:
    return min(1 / max(c.wall for c in costs.values()), cores / sum(c.cpu for c in costs.values()))


def memory(video: Path, frames: int, folder: Path) -> None:
    """Peak of the command on the video, and growth over a long run; each in a process of its own."""
    out = folder / "memory.mp4"
    peak = subprocess.run([sys.executable, __file__, "--peak", str(video), str(out)], capture_output=True, text=True)
    print(f"peak memory of run on the video: {int(peak.stdout) / 1024:.0f} MB (target 700)")
    grown = subprocess.run(
        [sys.executable, __file__, "--growth", str(frames), str(folder / "growth.mp4")], capture_output=True, text=True
    )
    early, late = json.loads(grown.stdout)
    print(f"memory at frame 200: {early:.0f} MB, at frame {frames}: {late:.0f} MB, grown by {late - early:+.1f} MB")


def peak(video: str, out: str) -> None:
    subprocess.run([*FCN_EDGE, "run", "--source", video, "--out", out, "--json"], capture_output=True, check=True)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def growth(frames: str, out: str) -> None:
    sizes: dict[int, float] = {}

    def note(feed: Feed) -> None:
        if feed.tally.frames in (200, int(frames)):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            sizes[feed.tally.frames] = pages * resource.getpagesize() / 2**20

    with Segmenter() as segmenter, open_source("demo:") as source:
        feed = Feed(source, Painter(segmenter.spec), [VideoSink(Path(out), source, True, "")])
        process([feed], segmenter, Limits(frames=int(frames)), threading.Event(), note)
    print(json.dumps(list(sizes.values())))


def start_up(photo: Path, folder: Path) -> None:
    for label, command, target in (
        ("--help", ["--help"], 0.3),
        ("run on a photo, start to end", ["run", "--source", str(photo), "--out", str(folder / "a.png")], 3.0),
    ):
        taken = []
        for _ in range(5):
            before = time.perf_counter()
            subprocess.run([*FCN_EDGE, *command], capture_output=True, check=True)
            taken.append(time.perf_counter() - before)
        print(f"{label}: median {statistics.median(taken):.2f} s, first {taken[0]:.2f} s (target {target:g})")


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] in ("--peak", "--growth"):
        {"--peak": peak, "--growth": growth}[sys.argv[1]](*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--photo", type=Path, help="for the cold start; left out where absent")
    parser.add_argument("--memory-frames", type=int, default=0, help="length of the run that must not grow, as 3000")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--live", type=float, default=0, metavar="SECONDS", help="play the video as a camera, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed(arguments.video, arguments.threads, folder, arguments.live)
        if arguments.photo:
            start_up(arguments.photo, folder)
        if arguments.memory_frames:
            memory(arguments.video, arguments.memory_frames, folder)


if __name__ == "__main__":
    main()
