"""How the figures of a back end were chosen: on pictures that the network never trained on and no table is made of.

    python benchmarks/refine_figures.py crf ROOT:LIST --every 10 [--only LIST2] [--try appearance=3,4,6 iterations=5,10]

Of ROOT's LIST every n-th picture is taken, which is what training held back to choose its candidates by; --only leaves
those that a second list has too. The network sees each picture once; then the back end runs over all of them with the
figures of every table of recipes/refine/NAME.toml, or with all combinations of --try, the rest being `ours`. Mean IoU
and boundary F at 1, 3 and 5 pixels are over the classes that occur, the time is the median of a picture.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import msgspec
import numpy as np

from fcn_edge.boundary import BoundaryScores, contours
from fcn_edge.data.opening import open_data
from fcn_edge.data.reading import read_image, read_truth
from fcn_edge.decode import decode
from fcn_edge.metrics import Scores, confusion
from fcn_edge.prepare import Ending, end, lay_out
from fcn_edge.refine.crf import Crf, CrfFigures
from fcn_edge.refine.mrf import Mrf, MrfFigures
from fcn_edge.refine.recipe import OURS, read_figures
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import Grid

BACK_ENDS = {"crf": (Crf, CrfFigures), "mrf": (Mrf, MrfFigures)}
TOLERANCES = (1.0, 3.0, 5.0)


@dataclass(frozen=True)
class Seen:
    """A picture as a back end gets it, and its truth."""

    scores: np.ndarray
    frame: np.ndarray
    ending: Ending
    truth: np.ndarray


def see(segmenter: Segmenter, places: str, every: int, only: str | None) -> Iterator[Seen]:
    samples = list(open_data([places]).samples)[::every]
    if only is not None:
        chosen = {sample.image for sample in open_data([f"{places.rpartition(':')[0]}:{only}"]).samples}
        samples = [sample for sample in samples if sample.image in chosen]
    for sample in samples:
        frame = read_image(sample.image)
        scores = segmenter.segment(frame).scores
        assert scores is not None
        size = frame.shape[0], frame.shape[1]
        layout = lay_out(segmenter.spec, size, segmenter.resize, segmenter.size)
        yield Seen(scores, frame, end(segmenter.spec, layout, segmenter.resize, size), read_truth(sample))


def measure(seen: Sequence[Seen], classes: int, grid: Grid, refine: Callable[..., np.ndarray]) -> str:
    counts = np.zeros((classes, classes), np.int64)
    edges = {tolerance: np.zeros((classes, 4), np.int64) for tolerance in TOLERANCES}
    seconds = []
    for each in seen:
        start = time.perf_counter()
        labels = refine(each.scores, each.frame, each.ending, grid)
        seconds.append(time.perf_counter() - start)
        counts += confusion(each.truth, labels, classes)
        for tolerance, edge in edges.items():
            edge += contours(each.truth, labels, classes, tolerance)
    figures = [Scores(counts).mean_iou, *(BoundaryScores(edge).mean_f for edge in edges.values())]
    times = f"{1e3 * statistics.median(seconds):7.1f} {1e3 * max(seconds):7.1f}"
    return "  ".join(f"{100 * figure:6.2f}" for figure in figures) + f"  {times}"


def plain(scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
    return decode(scores, ending.size, grid)


def sets(tried: Sequence[str], ours: CrfFigures | MrfFigures) -> Iterator[tuple[str, CrfFigures | MrfFigures]]:
    names, values = zip(*(word.split("=") for word in tried), strict=True)
    for chosen in product(*(text.split(",") for text in values)):
        changes = dict(zip(names, map(float, chosen), strict=True))
        told = " ".join(f"{name}={value:g}" for name, value in changes.items())
        yield told, msgspec.convert(msgspec.to_builtins(ours) | changes, type(ours), strict=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(BACK_ENDS))
    parser.add_argument("data", help="ROOT:LIST")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--only")
    parser.add_argument("--model", default="fcn8s-lite")
    parser.add_argument("--try", dest="tried", nargs="+", metavar="FIGURE=VALUES")
    arguments = parser.parse_args()
    back_end, kind = BACK_ENDS[arguments.name]
    known = read_figures(arguments.name, kind)
    with Segmenter(arguments.model, scores=True) as segmenter:
        seen = list(see(segmenter, arguments.data, arguments.every, arguments.only))
        grid, classes = segmenter.spec.output.grid, len(segmenter.spec.classes)
        name = f"{segmenter.spec.name}, {segmenter.backend.name}"
        print(f"{name}, {len(seen)} pictures; in per cent, then ms: median, most")
    print(f"{'':44}    IoU    F@1     F@3     F@5")
    print(f"{'none':44} {measure(seen, classes, grid, plain)}", flush=True)
    chosen = sets(arguments.tried, known[OURS]) if arguments.tried else iter(known.items())
    for told, figures in chosen:
        print(f"{told:44} {measure(seen, classes, grid, back_end(figures))}", flush=True)


if __name__ == "__main__":
    main()
