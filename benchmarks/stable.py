"""What `fcn-edge run --stable` does to labelled clips: how much calmer the labels are, and what it costs.

    python benchmarks/stable.py FOLDER [--model NAME] [--sweep CLIP] [--rounds N]

FOLDER holds NAME.mp4 and NAME/*.png, one mask of class indices a frame, as DAVIS 2016's clips have for their main
object. IoU is of that one class, over all frames of a clip in one confusion matrix. Flicker is the share of pixels
whose label changes from one frame to the next although the truth's does not; it is given for the labelled class
alone (is it that class, or is it not) and for all labels, of which the truth knows less. Every clip goes through the
same `Segmenter` once without and once with `Stable`, as `fcn-edge run` drives them.

--sweep prints one clip under a grid of parameters. Those of fcn_edge/video/stable.py were chosen so, on the clip
rollerblade; dog-agility had no part in it. The time is of `Stable` alone on `demo:`, 1280x720.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from fcn_edge.data.reading import read_mask
from fcn_edge.metrics import Scores, confusion
from fcn_edge.prepare import end, lay_out
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import VOID, Resize
from fcn_edge.video import open_source
from fcn_edge.video.stable import Stable

MEMORIES = (0.5, 0.6, 0.7, 0.8, 0.9)
TOLERANCES = (8.0, 16.0, 32.0)
TARGET_MS = 1.0


@dataclass(frozen=True)
class Clip:
    """A video with the truth of every frame."""

    name: str
    frames: list[np.ndarray]
    truths: list[np.ndarray]
    index: int  # of the one labelled class


@dataclass(frozen=True)
class Figures:
    iou: float
    flicker: float  # of the labelled class
    all_flicker: float

    def __str__(self) -> str:
        return f"{100 * self.iou:6.2f}   {100 * self.flicker:7.3f}   {100 * self.all_flicker:7.3f}"


def read_clip(video: Path) -> Clip:
    truths = [read_mask(path) for path in sorted(video.with_suffix("").glob("*.png"))]
    with open_source(video) as source:
        frames = [frame.image for frame in source]
    if len(frames) != len(truths):
        raise SystemExit(f"{video}: {len(frames)} frames, {len(truths)} masks.")
    named = sorted({int(value) for truth in truths for value in np.unique(truth)} - {0, VOID})
    if len(named) != 1:
        raise SystemExit(f"{video}: its masks name the classes {named}, not one.")
    return Clip(video.stem, frames, truths, named[0])


def measure(clip: Clip, labels: Sequence[np.ndarray]) -> Figures:
    counts = np.zeros((2, 2), np.int64)
    changed = all_changed = still = 0
    ours = [(label == clip.index).astype(np.uint8) for label in labels]
    truths = [np.where(truth == VOID, VOID, truth == clip.index).astype(np.uint8) for truth in clip.truths]
    for our, truth in zip(ours, truths, strict=True):
        counts += confusion(truth, our, 2)
    for now in range(1, len(labels)):
        same = (truths[now] == truths[now - 1]) & (truths[now] != VOID)
        still += int(same.sum())
        changed += int(((ours[now] != ours[now - 1]) & same).sum())
        all_changed += int(((labels[now] != labels[now - 1]) & same).sum())
    return Figures(float(Scores(counts).per_class_iou[1]), changed / still, all_changed / still)


def labels_of(segmenter: Segmenter, clip: Clip, steady: Stable | None) -> Iterator[np.ndarray]:
    return (result.labels for result in segmenter.stream(clip.frames, steady))


def report(segmenter: Segmenter, clips: Sequence[Clip]) -> None:
    backend = segmenter.backend
    print(f"{segmenter.spec.name}, {backend.name}, {backend.precision}; the class that is labelled, in per cent")
    print(f"{'clip':14} {'class':8} {'frames':>6}  {'':7}     IoU   flicker   of all labels")
    for clip in clips:
        plain = measure(clip, list(labels_of(segmenter, clip, None)))
        calm = measure(clip, list(labels_of(segmenter, clip, Stable(segmenter.spec.output.grid))))
        label = segmenter.spec.classes[clip.index]
        print(f"{clip.name:14} {label:8} {len(clip.frames):6}  plain    {plain}")
        print(f"{'':30}  stable   {calm}   (flicker {calm.flicker / plain.flicker - 1:+.0%}, "
              f"of all labels {calm.all_flicker / plain.all_flicker - 1:+.0%})")  # fmt: skip


def sweep(segmenter: Segmenter, clip: Clip) -> None:
    print(f"{clip.name}: {'memory':>6} {'tolerance':>9}      IoU   flicker   of all labels")
    for memory in MEMORIES:
        for tolerance in TOLERANCES:
            steady = Stable(segmenter.spec.output.grid, memory, tolerance)
            figures = measure(clip, list(labels_of(segmenter, clip, steady)))
            print(f"{'':{len(clip.name)}}  {memory:6g} {tolerance:9g}   {figures}")


def timed(segmenter: Segmenter, rounds: int) -> None:
    """Milliseconds of one call on frames and scores as a run has them, on one thread and on all."""
    with open_source("demo:") as source:
        frames = [frame.image for frame in islice(source, 30)]
    scores = [segmenter.segment(frame).scores for frame in frames]
    size = frames[0].shape[:2]
    resize = cast("Resize", segmenter.resize)  # never tiles
    ending = end(segmenter.spec, lay_out(segmenter.spec, size, resize, segmenter.size), resize, size)
    threads = cv2.getNumThreads()
    for count in dict.fromkeys((1, threads)):
        cv2.setNumThreads(count)
        steady = Stable(segmenter.spec.output.grid)
        taken = []
        for _ in range(rounds):
            for frame, one in zip(frames, scores, strict=True):
                assert one is not None
                before = time.perf_counter()
                steady(one, frame, ending)
                taken.append(1e3 * (time.perf_counter() - before))
        low, high = np.percentile(taken, [10, 90])
        print(f"Stable, 1280x720, OpenCV with {count} threads: {statistics.median(taken):.2f} ms a frame "
              f"({low:.2f} to {high:.2f}, {len(taken)} calls), target {TARGET_MS:g}")  # fmt: skip
    cv2.setNumThreads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="fcn8s-lite")
    parser.add_argument("--sweep", metavar="CLIP", help="one clip under a grid of parameters, and nothing else")
    parser.add_argument("--rounds", type=int, default=10, help="of 30 frames, for the time")
    arguments = parser.parse_args()
    videos = sorted(arguments.folder.glob("*.mp4"))
    with Segmenter(arguments.model, scores=True) as segmenter:
        if arguments.sweep:
            sweep(segmenter, read_clip(arguments.folder / f"{arguments.sweep}.mp4"))
            return
        report(segmenter, [read_clip(video) for video in videos])
        timed(segmenter, arguments.rounds)


if __name__ == "__main__":
    main()
