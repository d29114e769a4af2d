"""What the back ends of `--refine` bring and what they cost, on labelled pictures.

    python benchmarks/refine.py --data VOC2012:val --data extra:coco --kept refine.json
    python benchmarks/refine.py --data VOC2012:trainaug --held-back --refine guided --try weight=2,4,8 color=40,60
    python benchmarks/refine.py --data VOC2012:trainaug --held-back --refine crf --published
    python benchmarks/refine.py --data VOC2012:val --time
    python benchmarks/refine.py --draw docs/refine --masks extra/JPEGImages/coco_000000187334.jpg

The network runs once a picture, and every back end gets the same scores; `none` is `decode`. Mean IoU and boundary F at
1, 3 and 5 pixels are those of `fcn-edge eval`, in per cent. A picture that the model has met is left out; --held-back
takes of a training list every tenth, which training held back to choose its candidates by, and of those the ones that
the model has not met: parameters are chosen on them alone. What was measured is kept in --kept every few pictures, and
a second start goes on from there.

--time prints milliseconds a call, back ends in turn, on pictures of the data and on frames of `demo:` at 1280x720.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import msgspec
import numpy as np

from fcn_edge.boundary import BoundaryScores, contours
from fcn_edge.data import Sample, open_data, read_image, read_truth, unseen
from fcn_edge.decode import decode
from fcn_edge.files import replacing
from fcn_edge.metrics import Scores, confusion, mean
from fcn_edge.prepare import Ending, end, lay_out
from fcn_edge.refine import REFINES, open_refine
from fcn_edge.refine.crf import Crf, CrfFigures
from fcn_edge.refine.guided import Guided
from fcn_edge.refine.mrf import Mrf, MrfFigures
from fcn_edge.refine.recipe import OURS, read_figures
from fcn_edge.resources import demo_photos
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import Grid, Resize
from fcn_edge.video import open_source

TOLERANCES = (1, 3, 5)  # pixels
SAVE_EVERY = 25  # pictures
HELD_BACK = 10  # every so many pictures of a training list, in its order
NONE = "none"
RECIPES: dict[str, Any] = {"crf": (Crf, CrfFigures), "mrf": (Mrf, MrfFigures)}
GUIDED_COUNTS = ("passes",)

Labels = Callable[[np.ndarray, np.ndarray, Ending, Grid], np.ndarray]


def decoded(scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
    """What labels are without a back end; only for networks whose labels need no scaling."""
    return decode(scores, ending.size, grid)[: ending.content[0], : ending.content[1]]


def open_ways(names: Sequence[str]) -> dict[str, Labels]:
    return {name: decoded if name == NONE else open_refine(name) for name in names}


@dataclass
class Tally:
    """What one way did on the first `pictures` of a list."""

    classes: int
    pictures: int = 0
    matrix: np.ndarray = field(init=False)
    contours: np.ndarray = field(init=False)  # int64 (tolerances, C, 4)

    def __post_init__(self) -> None:
        self.matrix = np.zeros((self.classes, self.classes), np.int64)
        self.contours = np.zeros((len(TOLERANCES), self.classes, 4), np.int64)

    def add(self, truth: np.ndarray, labels: np.ndarray) -> None:
        self.matrix += confusion(truth, labels, self.classes)
        self.contours += [contours(truth, labels, self.classes, each) for each in TOLERANCES]
        self.pictures += 1

    def document(self) -> dict[str, Any]:
        return {"pictures": self.pictures, "matrix": self.matrix.tolist(), "contours": self.contours.tolist()}

    @classmethod
    def of(cls, classes: int, document: dict[str, Any] | None) -> Tally:
        tally = cls(classes)
        if document:
            tally.pictures = document["pictures"]
            tally.matrix, tally.contours = np.array(document["matrix"]), np.array(document["contours"])
        return tally

    def __str__(self) -> str:
        figures = [mean(Scores(self.matrix).per_class_iou), *(BoundaryScores(each).mean_f for each in self.contours)]
        return "".join(f"{100 * each:8.2f}" for each in figures)


class Opened:
    """A model, and the scores that it gives for a picture."""

    def __init__(self, model: str) -> None:
        self.segmenter = Segmenter(model, scores=True)
        self.grid: Grid = self.segmenter.spec.output.grid

    def given(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, Ending, Grid]:
        """What a back end is called with."""
        one = self.segmenter
        resize = cast("Resize", one.resize)  # never tiles
        size = frame.shape[0], frame.shape[1]
        scores = one.segment(frame).scores
        assert scores is not None
        return scores, frame, end(one.spec, lay_out(one.spec, size, resize, one.size), resize, size), self.grid

    def samples(self, data: str, held_back: bool, every: int) -> list[Sample]:
        samples = open_data([data]).samples
        fresh = unseen(samples[::HELD_BACK] if held_back else samples, self.segmenter.spec)
        if not held_back and len(fresh) < len(samples):
            raise SystemExit(f"{data}: the model has met {len(samples) - len(fresh)} of {len(samples)} pictures.")
        return fresh[::every]


def measure(opened: Opened, data: str, samples: Sequence[Sample], ways: dict[str, Labels], kept: Path | None) -> None:
    classes = len(opened.segmenter.spec.classes)
    file = json.loads(kept.read_text()) if kept and kept.is_file() else {}
    tallies = {name: Tally.of(classes, file.get(f"{data} {name}")) for name in ways}
    for number, sample in enumerate(samples):
        missing = [name for name, tally in tallies.items() if tally.pictures == number]
        if missing:
            truth, given = read_truth(sample), opened.given(read_image(sample.image))
            for name in missing:
                tallies[name].add(truth, ways[name](*given))
        if kept and missing and (number % SAVE_EVERY == SAVE_EVERY - 1 or number == len(samples) - 1):
            file |= {f"{data} {name}": tally.document() for name, tally in tallies.items()}
            with replacing(kept) as temporary:
                temporary.write_text(json.dumps(file))
    print(f"\n{data}, {len(samples)} pictures: mean IoU, boundary F at {', '.join(map(str, TOLERANCES))} pixels")
    for name, tally in tallies.items():
        print(f"  {name:24}{tally}")


# ---- time


def timed(opened: Opened, frames: Sequence[np.ndarray], ways: dict[str, Labels], rounds: int, what: str) -> None:
    given = [opened.given(frame) for frame in frames]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for each in given:
            for name, way in ways.items():
                start = time.perf_counter()
                way(*each)
                taken[name].append(1e3 * (time.perf_counter() - start))
    print(f"\n{what}, {len(frames)} of them: milliseconds a call, the median and 10 to 90 %")
    for name, all_taken in taken.items():
        low, high = np.percentile(all_taken, [10, 90])
        print(f"  {name:8} {statistics.median(all_taken):8.2f} ({low:.2f} to {high:.2f})")


def demo_frames(count: int) -> list[np.ndarray]:
    with open_source("demo:") as source:
        return [frame.image for frame in itertools.islice(source, 0, 5 * count, 5)]


# ---- pictures


def draw(opened: Opened, ways: dict[str, Labels], folder: Path) -> None:
    """Each demo photo with the outline of every way's labels, two beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    for photo in demo_photos():
        frame = read_image(photo)
        given = opened.given(frame)
        shown = [named(outlined(frame, way(*given)), name) for name, way in ways.items()]
        shown += [np.zeros_like(frame)] * (len(shown) % 2)
        grid = np.vstack([np.hstack(pair) for pair in zip(shown[::2], shown[1::2], strict=True)])
        cv2.imwrite(str(folder / f"{photo.stem}.jpg"), grid, [cv2.IMWRITE_JPEG_QUALITY, 85])


def draw_masks(opened: Opened, ways: dict[str, Labels], photo: Path, folder: Path) -> None:
    """What is no background of one picture, by every way beside each other: of a photo that may not be shown itself."""
    given = opened.given(read_image(photo))
    masks = [np.where(way(*given)[..., None] > 0, 235, 40).astype(np.uint8).repeat(3, axis=2) for way in ways.values()]
    shown = [named(mask, name) for mask, name in zip(masks, ways, strict=True)]
    cv2.imwrite(str(folder / f"{photo.stem}.png"), np.hstack(shown))


def named(picture: np.ndarray, name: str) -> np.ndarray:
    for color, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(picture, name, (10, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.8, color, width, cv2.LINE_AA)
    return picture


def outlined(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The frame, darker where there is background, with a line around each class."""
    picture = np.where(labels[..., None] > 0, frame, frame // 2)
    edge = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    picture[edge] = (0, 255, 255)
    return picture


# ---- parameters


def candidates(name: str, tried: Sequence[str] | None, published: bool) -> Iterator[tuple[str, Labels]]:
    """A back end with other figures than its own, under what tells them apart."""
    if published:
        back_end, kind = RECIPES[name]
        yield from ((told, back_end(figures)) for told, figures in read_figures(name, kind).items())
    pairs = [word.split("=") for word in tried or ()]
    names = [name for name, _ in pairs]
    for chosen in itertools.product(*(values.split(",") for _, values in pairs)) if pairs else ():
        changes = dict(zip(names, map(float, chosen), strict=True))
        yield " ".join(f"{key} {value:g}" for key, value in changes.items()), with_figures(name, changes)


def with_figures(name: str, changes: dict[str, float]) -> Labels:
    if name == Guided.name:
        whole: dict[str, Any] = {key: int(value) for key, value in changes.items() if key in GUIDED_COUNTS}
        return Guided(**{**changes, **whole})
    back_end, kind = RECIPES[name]
    ours = msgspec.to_builtins(read_figures(name, kind)[OURS])
    return back_end(msgspec.convert(ours | changes, kind, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], help="ROOT:LIST")
    parser.add_argument("--model", default="fcn8s-lite")
    parser.add_argument("--refine", default=",".join([NONE, *REFINES]))
    parser.add_argument("--held-back", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="take every n-th picture")
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--try", dest="tried", nargs="+", metavar="FIGURE=VALUES", help="of the one --refine")
    parser.add_argument("--published", action="store_true", help="the figures of every table of its recipe")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draw", type=Path, metavar="FOLDER")
    parser.add_argument("--masks", type=Path, metavar="PICTURE", help="with --draw: its labels alone, too")
    arguments = parser.parse_args()
    opened = Opened(arguments.model)
    ways = {} if arguments.tried or arguments.published else open_ways(arguments.refine.split(","))
    if arguments.tried or arguments.published:
        ways = {NONE: decoded, **dict(candidates(arguments.refine, arguments.tried, arguments.published))}
    if arguments.draw:
        draw(opened, ways, arguments.draw)
        if arguments.masks:
            draw_masks(opened, ways, arguments.masks, arguments.draw)
    for data in arguments.data:
        samples = opened.samples(data, arguments.held_back, arguments.every)
        if arguments.time:
            frames = [read_image(each.image) for each in samples[:10]]
            timed(opened, frames, ways, arguments.rounds, f"pictures of {data}")
        else:
            measure(opened, data, samples, ways, arguments.kept)
    if arguments.time:
        timed(opened, demo_frames(10), ways, arguments.rounds, "frames of 1280x720")


if __name__ == "__main__":
    main()
