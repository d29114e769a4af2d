"""Which plots a report has, each in its two forms, with the sentence that stands for it where it can't be seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fcn_edge.bench.schema import Data
from fcn_edge.report import interactive, still
from fcn_edge.report.view import Board, champions, frontier, mean_iou, models, seconds, shown
from fcn_edge.report.words import figure, ms, plural


@dataclass(frozen=True)
class Plot:
    """`name` is its file's without the ending, `live` plotly's JSON, `figure` matplotlib's."""

    name: str
    title: str
    told: str
    live: str
    figure: Any
    height: int  # pixels of the live one
    note: str = ""  # for those who see it
    wide: bool = False  # not to be squeezed into a phone's width

    @cached_property
    def svg(self) -> bytes:
        return still.drawn(self.figure, "svg")

    @cached_property
    def png(self) -> bytes:
        return still.drawn(self.figure, "png")


@dataclass(frozen=True)
class Plots:
    """Of one board."""

    pareto: dict[str, Plot]  # by Data.name; none where nothing was measured
    latencies: Plot | None
    stages: Plot | None
    classes: dict[str, Plot]

    @property
    def all(self) -> list[Plot]:
        return [*self.pareto.values(), *filter(None, (self.latencies, self.stages)), *self.classes.values()]


def plots(boards: Sequence[Board]) -> list[Plots]:
    """The plots of each board; axes of latency are the same on all, so that boards can be held side by side."""
    names = models(boards)
    medians = [1e3 * seconds(cell) for board in boards for cell in board.timed]
    limits = (0.8 * min(medians), 1.25 * max(medians)) if medians else (1.0, 10.0)
    made = []
    for number, board in enumerate(boards, 1):
        tail = f"-{number}" if len(boards) > 1 else ""
        where = f", {board.name}" if len(boards) > 1 else ""
        measured = [data for data in board.report.data if champions(board, data.name)]
        made.append(
            Plots(
                {data.name: _pareto(board, data, names, limits, tail, where) for data in measured},
                _latencies(board, names, tail, where) if board.timed else None,
                _stages(board, tail, where) if board.timed else None,
                {data.name: _classes(board, data, names, tail, where) for data in measured},
            )
        )
    return made


def _pareto(board: Board, data: Data, names: Sequence[str], limits: tuple[float, float], tail: str, where: str) -> Plot:
    best = frontier(board.report.cells, data.name)
    told = "; ".join(f"{cell.key}: {figure(mean_iou(cell, data.name))} at {ms(seconds(cell))} ms" for cell in best)
    return Plot(
        f"pareto-{_slug(data.name)}{tail}",
        f"Mean IoU on {data.name} against latency{where}",
        f"The frontier, fastest first: {told}." if best else "Nothing is on the frontier.",
        interactive.pareto(board, data, names, limits),
        still.pareto(board, data, names, limits),
        interactive.height(len(champions(board, data.name, len(names)))),
    )


def _latencies(board: Board, names: Sequence[str], tail: str, where: str) -> Plot:
    return Plot(
        f"latency{tail}",
        f"Every run, as boxes: quartiles, whiskers, outliers{where}",
        f"{_part(board)} The table below holds the percentiles.",
        interactive.latencies(board, names),
        still.latencies(board, names),
        interactive.rows_height(len(shown(board, interactive.MOST))),
        _part(board),
    )


def _stages(board: Board, tail: str, where: str) -> Plot:
    return Plot(
        f"stages{tail}",
        f"Where the time goes{where}",
        f"{_part(board)} The table below holds the figures.",
        interactive.stages(board),
        still.stages(board),
        interactive.rows_height(len(shown(board, interactive.MOST))),
        _part(board),
    )


def _classes(board: Board, data: Data, names: Sequence[str], tail: str, where: str) -> Plot:
    return Plot(
        f"classes-{_slug(data.name)}{tail}",
        f"IoU of each class of {data.name}{where}",
        "Each model's most accurate candidate. The table below holds the figures.",
        interactive.classes(board, data, names),
        still.classes(board, data, names),
        interactive.HEIGHT,
        "Each model's most accurate candidate.",
        wide=True,
    )


def _part(board: Board) -> str:
    """Which candidates a plot of rows shows."""
    count, all_of_them = len(shown(board, interactive.MOST)), len(board.timed)
    if count == all_of_them:
        return f"All {plural(count, 'candidate')} that were timed."
    return f"{count} of {all_of_them} candidates: the frontiers', each model's fastest, and the fastest of the others."


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
