"""What float16 costs the bundled models in accuracy: labelled pictures through each file as it is and rounded.

    python benchmarks/float16.py --data val=VOC:val --data clean=EXTRA:coco

A CPU computes float16 files in float32, so a float16 file shows nothing there. Here each value that is float16 in the
file is rounded to it (`onnx_export.half.rounding`) and sums within a layer are float32's, as on tensor cores.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime

from fcn_edge.cli.common import track
from fcn_edge.data import Sample, open_data, read_image, read_truth
from fcn_edge.metrics import Scores, confusion, mean
from fcn_edge.onnx_export.half import halve, rounding
from fcn_edge.resources import PACKAGE
from fcn_edge.segmenter import Segmenter


class Counted(NamedTuple):
    """Of one model on one data set."""

    full: np.ndarray  # confusion matrix in float32, int64 (C, C)
    half: np.ndarray  # the same in float16
    changed: int  # labels that float16 changed
    pixels: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=ROOT:LIST")
    parser.add_argument("--models", nargs="+", default=["fcn8s-lite", "fcn8s-lite-small", "fcn8s-lite-large"])
    parser.add_argument("--limit", type=int, help="only the first N pictures of each")
    options = parser.parse_args()
    sets = [named.partition("=") for named in options.data]
    print(HEADING)
    for model in options.models:
        for name, _, place in sets:
            samples = open_data([place]).samples[: options.limit]
            print(row(model, name, len(samples), count(model, samples)), flush=True)
    print(f"\nONNX Runtime {onnxruntime.__version__}, onnx {onnx.__version__}")


HEADING = """\
| model | pictures | mean IoU, float32 | float16 | difference, points | labels changed |
| --- | --- | --- | --- | --- | --- |"""


def row(model: str, name: str, pictures: int, counted: Counted) -> str:
    full, half = (mean(Scores(matrix).per_class_iou) for matrix in counted[:2])
    changed = counted.changed / counted.pixels
    return f"| {model} | {name}, {pictures} | {full:.4f} | {half:.4f} | {100 * (half - full):+.3f} | {changed:.3%} |"


def count(model: str, samples: Sequence[Sample]) -> Counted:
    """Both forms of a bundled model on the same pictures."""
    file = PACKAGE / "weights" / f"{model}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / "rounded.onnx"
        graph = onnx.load(file)
        halve(graph, model)
        onnx.save(rounding(graph), rounded)
        with Segmenter(file, "onnxruntime") as full, Segmenter(rounded, "onnxruntime") as half:
            found = [both(full, half, sample) for sample in track(samples, model, len(samples))]
    full, half, changed, pixels = zip(*found, strict=True)
    return Counted(np.sum(full, axis=0), np.sum(half, axis=0), sum(changed), sum(pixels))


def both(full: Segmenter, half: Segmenter, sample: Sample) -> Counted:
    frame, truth = read_image(sample.image), read_truth(sample)
    labels, rounded = full.segment(frame).labels, half.segment(frame).labels
    classes = len(full.spec.classes)
    changed = int((labels != rounded).sum())
    return Counted(confusion(truth, labels, classes), confusion(truth, rounded, classes), changed, labels.size)


if __name__ == "__main__":
    main()
