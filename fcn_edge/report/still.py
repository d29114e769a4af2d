"""The same plots as files, by matplotlib: for a README, a slide, paper.

A figure's bytes depend on the report alone (no date, ids seeded), so that a repository that keeps them sees a change
only where a figure changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from fcn_edge.bench.schema import Cell, Data
from fcn_edge.report.interactive import COLORS, MOST
from fcn_edge.report.tables import STAGES
from fcn_edge.report.view import Board, accuracy, champions, frontier, mean_iou, seconds, shown

MARKERS = ["o", "s", "D", "^", "P", "*", "v", "p", "X", "h"]
HATCHES = ["", "///", "\\\\\\", "xxx", "---", "...", "+++"]

STYLE: Any = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: smaller, and a reader can search it
    "svg.hashsalt": "fcn-edge",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
}


def pareto(board: Board, data: Data, models: Sequence[str], limits: tuple[float, float]) -> Any:
    """Mean IoU against latency, one symbol a model, the frontier numbered as in its table; limits in milliseconds."""
    figure, axes = _figure(6.4, 4.4)
    best = frontier(board.report.cells, data.name)
    for index, model in enumerate(models):
        cells = [cell for cell in board.timed if cell.model == model and accuracy(cell, data.name)]
        x, y = [1e3 * seconds(cell) for cell in cells], [mean_iou(cell, data.name) for cell in cells]
        if cells:
            axes.plot(x, y, linestyle="none", label=model, **_look(index))
    x, y = [1e3 * seconds(cell) for cell in best], [mean_iou(cell, data.name) for cell in best]
    axes.step(x, y, where="post", color="gray", linestyle=":", zorder=1, label="frontier")
    for number, place in enumerate(zip(x, y, strict=True), 1):
        axes.annotate(str(number), place, xytext=(-3, 5), textcoords="offset points", ha="right")
    axes.set(xlabel="median milliseconds from a frame to its labels", ylabel=f"mean IoU, {data.name}")
    axes.set(title=board.name, xlim=limits)
    _log(axes)
    axes.grid(alpha=0.3)
    _legend(figure)
    return figure


def latencies(board: Board, models: Sequence[str]) -> Any:
    """Every run of a candidate as a box, with its outliers."""
    cells = shown(board, MOST)
    figure, axes = _figure(8, 1.2 + 0.26 * len(cells))
    runs = [[1e3 * run for runs in cell.latency.rounds for run in runs] for cell in cells if cell.latency]
    boxes = axes.boxplot(runs, orientation="horizontal", patch_artist=True, flierprops={"marker": ".", "markersize": 4})
    for cell, box, median in zip(cells, boxes["boxes"], boxes["medians"], strict=True):
        box.set_facecolor(COLORS[models.index(cell.model) % len(COLORS)])
        median.set_color("black")
    _rows(axes, cells, 1)
    axes.set(xlabel="milliseconds from a frame to its labels", title=board.name)
    _log(axes)
    return figure


def stages(board: Board) -> Any:
    """The median of each stage, one after the other."""
    cells = shown(board, MOST)
    figure, axes = _figure(8, 1.6 + 0.26 * len(cells))
    ends = [0.0] * len(cells)
    for index, stage in enumerate(STAGES):
        found = [cell.latency.stages.get(stage) if cell.latency else None for cell in cells]
        if any(found):
            widths = [1e3 * each.p50 if each else 0.0 for each in found]
            look: dict[str, Any] = {"color": COLORS[index], "hatch": HATCHES[index], "edgecolor": "white"}
            axes.barh(range(len(cells)), widths, left=ends, label=STAGES[stage], linewidth=0, **look)
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
    _rows(axes, cells, 0)
    axes.set(xlabel="median milliseconds; drawing is no part of the total", title=board.name)
    _legend(figure)
    return figure


def classes(board: Board, data: Data, models: Sequence[str]) -> Any:
    """IoU of each class, of each model's most accurate candidate."""
    cells = champions(board, data.name)
    found = [each.per_class_iou for cell in cells if (each := accuracy(cell, data.name))]
    names = [name for name in data.classes if any(ious.get(name) is not None for ious in found)]
    figure, axes = _figure(max(6, 0.9 + 0.5 * len(names)), 3.8)
    width = 0.8 / max(1, len(cells))
    for place, (cell, ious) in enumerate(zip(cells, found, strict=True)):
        index = models.index(cell.model)
        axes.bar(
            [row - 0.4 + (place + 0.5) * width for row in range(len(names))],
            [ious.get(name) or 0.0 for name in names],
            width,
            label=cell.key,
            color=COLORS[index % len(COLORS)],
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
        )
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set(ylim=(0, 1), ylabel=f"IoU, {data.name}", title=board.name)
    _legend(figure)
    return figure


def drawn(figure: Any, kind: str) -> bytes:
    """The figure as "png" or "svg", saying what made it."""
    import matplotlib

    metadata = {"Software": "fcn-edge report"} if kind == "png" else {"Creator": "fcn-edge report", "Date": None}
    to = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(to, format=kind, dpi=130, metadata=metadata)
    return to.getvalue()


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _look(index: int) -> dict[str, Any]:
    count = len(COLORS)
    return {"color": COLORS[index % count], "marker": MARKERS[(index + index // count) % count], "markersize": 6}


def _rows(axes: Any, cells: Sequence[Cell], first: int) -> None:
    axes.set_yticks([first + row for row in range(len(cells))], [cell.key for cell in cells])
    axes.set_ylim(first + len(cells) - 0.5, first - 0.5)
    axes.grid(axis="x", alpha=0.3)


def _log(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Any) -> None:
    """Below the axes, in as many columns as the longest name leaves room for."""
    longest = max((len(text) for text in figure.axes[0].get_legend_handles_labels()[1]), default=0)
    columns = int(figure.get_figwidth() / (0.4 + 0.061 * longest))  # inches: symbol and gaps, a letter of 8 points
    figure.legend(loc="outside lower center", ncols=min(4, max(1, columns)), fontsize=8)
