"""Whether a run that goes on for days grows.

    python benchmarks/soak.py [--frames 50000] [--losses 1000] [--seconds S] [--out soak]

`demo:` at a small size plays as a camera does, in a process of its own, through the network into a recording that is
cut, into label masks and figures; again and again the capturing process is killed, and the source is found again.
What this process holds of memory, threads and file handles is written to OUT.csv and drawn in OUT.png. With --seconds
it goes on for as long, whatever the frames: two days are 172800.

Fails where memory grew by more than 1 MB in 10,000 frames after the first 5,000, or where threads or handles were left.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from fcn_edge.segmenter import Segmenter
from fcn_edge.video import open_source
from fcn_edge.video.frames import Source
from fcn_edge.video.painter import Painter
from fcn_edge.video.pipeline import Feed, Limits, process
from fcn_edge.video.recording import VideoSink
from fcn_edge.video.series import Cut
from fcn_edge.video.sinks import LabelSink, Sink, StatsSink

SOURCE = "demo:#live,size=72x128,rate=300"
NETWORK = 65  # its size: small, so that a day's frames fit into minutes
SETTLED = 5_000  # frames until allocators and caches hold what they will hold
PER = 10_000  # frames
MOST_GROWTH = 1.0  # MB in as many
SAMPLES = 200


@dataclass(frozen=True)
class Sample:
    seconds: float
    frames: int
    reconnects: int
    megabytes: float  # resident
    threads: int
    handles: int


def sample(feed: Feed, start: float) -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    handles = len(os.listdir("/proc/self/fd"))
    frames, reconnects = feed.tally.frames, feed.source.reconnects
    return Sample(round(time.monotonic() - start, 1), frames, reconnects, megabytes, threading.active_count(), handles)


def children() -> Iterator[int]:
    """The processes that this one started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields_[1]) == os.getpid() and fields_[0] != "Z":
            yield int(stat.parent.name)


class Soak:
    """Kills the capture so often that the losses are spread over the frames, and samples what is held."""

    def __init__(self, frames: int, losses: int, seconds: float | None, stop: threading.Event) -> None:
        self.frames, self.losses, self.seconds, self.stop = frames, losses, seconds, stop
        self.start = time.monotonic()
        self.samples: list[Sample] = []
        self.killed = 0

    def after(self, feed: Feed) -> None:
        done, source = feed.tally.frames, feed.source
        if done % max(1, self.frames // SAMPLES) == 0:
            self.samples.append(sample(feed, self.start))
        found = source.lost_since is None and source.reconnects == self.killed
        if found and done >= (self.killed + 1) * self.frames // (self.losses + 1):
            self.killed += 1
            for child in children():
                os.kill(child, signal.SIGKILL)
        long_enough = done >= self.frames if self.seconds is None else time.monotonic() - self.start >= self.seconds
        if long_enough and (self.seconds is not None or source.reconnects >= self.losses):
            self.stop.set()


def sinks(folder: Path, source: Source, segmenter: Segmenter) -> list[Sink]:
    return [
        VideoSink(folder / "soak.mp4", source, True, "", Cut(bytes=2_000_000, keep=3)),
        LabelSink(folder / "masks", segmenter.spec.palette, True, ""),
        StatsSink(folder / "soak.jsonl", {}, dict, True, True),
    ]


def clear(folder: Path, stop: threading.Event) -> None:
    """Masks are for the disk's sake removed as they come."""
    while not stop.wait(5):
        for mask in (folder / "masks").glob("*.png"):
            mask.unlink(missing_ok=True)


def growth(samples: list[Sample]) -> float:
    """MB in PER frames once settled, by least squares."""
    settled = [each for each in samples if each.frames >= SETTLED]
    if len(settled) < 3:
        return float("nan")
    slope = np.polyfit([each.frames for each in settled], [each.megabytes for each in settled], 1)[0]
    return float(slope) * PER


def soak(frames: int, losses: int, seconds: float | None) -> list[Sample]:
    """What was held along the way, the first before anything was opened and the last after all was closed."""
    stop = threading.Event()
    work = Soak(frames, losses, seconds, stop)
    with tempfile.TemporaryDirectory() as name, Segmenter(size=NETWORK) as segmenter:
        threads, handles = threading.active_count(), len(os.listdir("/proc/self/fd"))
        cleaner = threading.Thread(target=clear, args=(Path(name), stop))
        with open_source(SOURCE) as source:
            feed = Feed(source, Painter(segmenter.spec), sinks(Path(name), source, segmenter))
            cleaner.start()
            process([feed], segmenter, Limits(), stop, work.after)
        cleaner.join()
        gc.collect()
        left = sample(feed, work.start)
    for error in feed.tally.errors:
        print(error)
    tally = feed.tally
    print(f"{tally.frames} frames in {tally.seconds:.0f} s, {source.reconnects} times lost and found, "
          f"{feed.dropped} dropped, lost by sinks {tally.lost}")  # fmt: skip
    print(f"threads: {left.threads - threads:+d}, file handles: {left.handles - handles:+d} once all was closed")
    if left.threads > threads or left.handles > handles or tally.errors:
        sys.exit("soak: something was left behind, or failed.")
    return work.samples


def draw(samples: list[Sample], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    memory, counts = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    frames = [each.frames for each in samples]
    memory.plot(frames, [each.megabytes for each in samples])
    memory.axvline(SETTLED, color="gray", linestyle=":")
    memory.set_ylim(0, 1.1 * max(each.megabytes for each in samples))
    memory.set_ylabel("resident MB")
    counts.plot(frames, [each.threads for each in samples], label="threads")
    counts.plot(frames, [each.handles for each in samples], label="file handles")
    counts.set_ylim(0)
    counts.legend()
    counts.set_xlabel("frames")
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--losses", type=int, default=1_000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    arguments = parser.parse_args()
    samples = soak(arguments.frames, arguments.losses, arguments.seconds)
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(each) for each in samples)
    draw(samples, arguments.out.with_suffix(".png"))
    grown = growth(samples)
    print(f"memory at the end: {samples[-1].megabytes:.0f} MB, grown by {grown:+.2f} MB in {PER:,} frames after the "
          f"first {SETTLED:,} (target {MOST_GROWTH:g})")  # fmt: skip
    if grown > MOST_GROWTH:
        sys.exit("soak: memory grows.")


if __name__ == "__main__":
    main()
