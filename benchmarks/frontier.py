"""Whether anybody else's model is worth taking, by a report of both on one machine.

    fcn-edge bench --models all,THEIRS --specs SPECS --data ROOT:LIST --out bench
    python benchmarks/frontier.py bench --theirs THEIRS

For each data set: who is on the frontier, and for each of their models, at its fastest and at its most accurate, our
fastest candidate that is at least as accurate, with the share of its latency (medians) that ours takes. Where none of
ours is, how much is missing. Mean IoU is compared to the three digits that are shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fcn_edge.bench.schema import Cell, read_report
from fcn_edge.report.view import PLACES, accuracy, frontier, mean_iou, seconds

TARGET = 0.5  # of a peer's latency


def told(cell: Cell, data: str) -> str:
    return f"{cell.key}: mean IoU {mean_iou(cell, data):.3f}, {1e3 * seconds(cell):.2f} ms"


def points(theirs: Sequence[Cell], data: str) -> list[Cell]:
    """Of each model and file that of best accuracy, and of those as accurate the fastest."""
    best: dict[str, Cell] = {}
    for cell in sorted(theirs, key=lambda cell: (-round(mean_iou(cell, data), PLACES), seconds(cell))):
        best.setdefault(cell.model, cell)
    fastest = {cell.model: cell for cell in sorted(theirs, key=seconds, reverse=True)}
    return list({cell.key: cell for cell in (*best.values(), *fastest.values())}.values())


def beside(theirs: Cell, ours: Sequence[Cell], data: str) -> str:
    wanted = round(mean_iou(theirs, data), PLACES)
    able = [cell for cell in ours if round(mean_iou(cell, data), PLACES) >= wanted]
    if not able:
        best = max(ours, key=lambda cell: mean_iou(cell, data))
        missing = 100 * (mean_iou(theirs, data) - mean_iou(best, data))
        share = seconds(best) / seconds(theirs)
        return (
            f"  none of ours is as accurate; {told(best, data)} lacks {missing:.1f} points, in {share:.2f} of its time"
        )
    cell = min(able, key=seconds)
    return f"  {told(cell, data)}: {seconds(cell) / seconds(theirs):.2f} of its time (target {TARGET})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--theirs", required=True, help="names of their models in the report, joined by commas")
    arguments = parser.parse_args()
    report = read_report(arguments.report)
    names = [Path(name).name for name in arguments.theirs.split(",")]
    for name in names:
        if name not in {cell.model for cell in report.cells}:
            parser.error(f"the report has no model {name}")
    for data in report.data:
        able = [cell for cell in report.cells if cell.trained and cell.latency and accuracy(cell, data.name)]
        ours = [cell for cell in able if cell.model not in names]
        theirs = [cell for cell in able if cell.model in names]
        print(f"{data.name}, {data.images} pictures: the frontier")
        for cell in frontier(able, data.name):
            print(f"  {'THEIRS ' if cell in theirs else ''}{told(cell, data.name)}")
        for cell in points(theirs, data.name):
            print(f"{told(cell, data.name)}\n{beside(cell, ours, data.name)}")


if __name__ == "__main__":
    main()
