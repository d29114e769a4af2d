"""What a reader compares: boards side by side, who is on the frontier, whom a plot has room for.

A board is one report.json. Only trained candidates that were measured on both axes can be on a frontier; the median is
its latency, because the mean of a machine with other load is that load's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.bench.schema import Accuracy, Cell, Report

CHAMPIONS = 6  # candidates whose classes and masks stand side by side: more do not fit a page's width

PLACES = 3  # of mean IoU


@dataclass(frozen=True)
class Board:
    """One report, a column where there are several. `folder` is where its report.json lies, with `pictures`."""

    name: str
    report: Report
    folder: Path

    @property
    def timed(self) -> list[Cell]:
        return [cell for cell in self.report.cells if cell.latency]


def boards(reports: Iterable[tuple[Report, Path]]) -> list[Board]:
    """A board each, named as its machine; where two have one name, the time they began tells them apart."""
    reports = list(reports)
    names = Counter(report.machine.name for report, _ in reports)
    made = []
    for number, (report, folder) in enumerate(reports, 1):
        name = report.machine.name
        if names[name] > 1:
            name = f"{name}, {number}: {report.begun}"
        made.append(Board(name, report, folder))
    return made


def seconds(cell: Cell) -> float:
    """The median of a frame in memory to its labels; infinite where it was not measured."""
    return cell.latency.total.p50 if cell.latency else float("inf")


def accuracy(cell: Cell, data: str) -> Accuracy | None:
    return next((each for each in cell.accuracy if each.data == data), None)


def mean_iou(cell: Cell, data: str) -> float:
    """On that data; below every figure where it was not measured."""
    found = accuracy(cell, data)
    return found.mean_iou if found else -1.0


def frontier(cells: Iterable[Cell], data: str) -> list[Cell]:
    """Those that no other matches in both, the fastest first: each is the most accurate at its latency or below.

    Mean IoU counts to three digits, as it is shown: what is 0.0004 better in twice the time is no choice.
    """
    able = [cell for cell in cells if cell.trained and cell.latency and accuracy(cell, data)]
    able.sort(key=lambda cell: (seconds(cell), -mean_iou(cell, data)))
    best, kept = -1.0, []
    for cell in able:
        if round(mean_iou(cell, data), PLACES) > best:
            best = round(mean_iou(cell, data), PLACES)
            kept.append(cell)
    return kept


def frontiers(board: Board) -> list[Cell]:
    """All that are on the frontier of some data, in the report's order."""
    kept = {cell.key for data in board.report.data for cell in frontier(board.report.cells, data.name)}
    return [cell for cell in board.report.cells if cell.key in kept]


def champions(board: Board, data: str, most: int = CHAMPIONS) -> list[Cell]:
    """Each model's most accurate candidate on that data, of equals the fastest; the best of them first."""
    best: dict[str, Cell] = {}
    for cell in sorted(board.report.cells, key=lambda cell: (-mean_iou(cell, data), seconds(cell))):
        if accuracy(cell, data):
            best.setdefault(cell.model, cell)
    return list(best.values())[:most]


def shown(board: Board, most: int) -> list[Cell]:
    """At most so many that were timed, in the report's order: the frontiers, each model's fastest, then the fastest."""
    fastest: dict[str, Cell] = {}
    ranked = sorted(board.timed, key=seconds)
    for cell in ranked:
        fastest.setdefault(cell.model, cell)
    chosen = dict.fromkeys(cell.key for cell in (*frontiers(board), *fastest.values(), *ranked))
    kept = set(list(chosen)[:most])
    return [cell for cell in board.timed if cell.key in kept]


def models(all_boards: Sequence[Board]) -> list[str]:
    """Every model's name, in order: its place decides its colour and symbol in all plots."""
    return list(dict.fromkeys(cell.model for board in all_boards for cell in board.report.cells))


def by_key(all_boards: Sequence[Board]) -> dict[str, list[Cell | None]]:
    """For every candidate of any board its cell on each."""
    found = [{cell.key: cell for cell in board.report.cells} for board in all_boards]
    keys = dict.fromkeys(cell.key for board in all_boards for cell in board.report.cells)
    return {key: [cells.get(key) for cells in found] for key in keys}
