"""How long the measures take: 500 label maps of 500x375 with 21 classes, on one core.

    python benchmarks/metrics.py [--data ROOT:LIST] [--maps N] [--rounds N]

Without --data the truth is made: patches of classes with a void border, as VOC's masks have. The labels are the
truth, moved by six pixels, so that contours are partly met and partly searched for in vain. Printed are the median
and the range of the rounds in seconds for all maps, in processor time, which other work on the machine lengthens
less than the clock's, and scikit-learn's time for the confusion matrix alone, where it is installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from fcn_edge.boundary import contours
from fcn_edge.data import open_data, read_truth
from fcn_edge.metrics import Scores, confusion

CLASSES, HEIGHT, WIDTH = 21, 375, 500
SHIFT = 6
Maps = list[tuple[np.ndarray, np.ndarray]]


def main() -> None:
    options = arguments()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    maps = made(options.maps) if options.data is None else read(options.data, options.maps)
    print(
        f"{len(maps)} maps of {maps[0][0].shape[1]}x{maps[0][0].shape[0]}; {platform.processor() or platform.machine()}"
    )
    contestants: dict[str, Callable[[], object]] = {
        "confusion matrix": lambda: [confusion(*pair, CLASSES) for pair in maps],
        "and per-image means": lambda: [per_image(confusion(*pair, CLASSES)) for pair in maps],
        "boundary F": lambda: [contours(*pair, CLASSES) for pair in maps],
        "all of it": lambda: [(per_image(confusion(*pair, CLASSES)), contours(*pair, CLASSES)) for pair in maps],
    }
    medians = {name: report(name, call, options.rounds) for name, call in contestants.items()}
    try:
        from sklearn.metrics import confusion_matrix
    except ImportError:
        print("scikit-learn is not installed: no comparison")
        return
    few = maps[:: max(1, len(maps) // 20)]
    theirs = report(
        "scikit-learn's matrix", lambda: [sklearn(confusion_matrix, *pair) for pair in few], 1, len(maps) / len(few)
    )
    print(f"the confusion matrix takes 1/{theirs / medians['confusion matrix']:.0f} of scikit-learn's time")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="masks of a data set instead, in VOC's indices")
    parser.add_argument("--maps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def made(count: int) -> Maps:
    return [shifted(patches(np.random.default_rng(number))) for number in range(count)]


def patches(random: np.random.Generator) -> np.ndarray:
    """A ground and three ellipses of other classes, each with a void border five pixels wide."""
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index in random.integers(1, CLASSES, 3):
        centre, axes = random.integers((0, 0), (WIDTH, HEIGHT)), random.integers(20, 150, 2)
        place = (centre.tolist(), axes.tolist(), float(random.integers(180)), 0, 360)
        cv2.ellipse(truth, *place, int(index), -1)
        cv2.ellipse(truth, *place, 255, 5)
    return truth


def read(text: str, count: int) -> Maps:
    return [shifted(read_truth(sample)) for sample in open_data([text]).samples[:count]]


def shifted(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    filled = np.where(truth == 255, 0, truth)
    return truth, np.ascontiguousarray(np.roll(filled, SHIFT, 1))


def per_image(matrix: np.ndarray) -> tuple[float, float]:
    scores = Scores(matrix)
    return scores.pixel_accuracy, scores.mean_iou


def sklearn(confusion_matrix: Callable[..., np.ndarray], truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    seen = truth != 255
    return confusion_matrix(truth[seen], labels[seen], labels=range(CLASSES))


def report(name: str, call: Callable[[], object], rounds: int, scale: float = 1) -> float:
    """Print and return the median of `rounds` calls, in seconds of processor time times `scale`."""
    seconds: Sequence[float] = sorted(scale * timed(call) for _ in range(rounds))
    median = seconds[len(seconds) // 2]
    print(f"{name:24} {median:6.2f} s   ({seconds[0]:.2f} to {seconds[-1]:.2f})")
    return median


def timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
