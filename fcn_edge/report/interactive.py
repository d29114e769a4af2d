"""The page's plots, by plotly: what lies under the pointer is told in full.

Colours were chosen to stand out by 3:1 on white and on the page's black alike, so that a figure needs no second set of
them, and symbols, patterns and numbers say the same. Whatever names come in are escaped, as plotly reads HTML in texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from fcn_edge.bench.schema import Cell, Data, Summary
from fcn_edge.report.tables import STAGES
from fcn_edge.report.view import Board, accuracy, champions, frontier, mean_iou, seconds, shown
from fcn_edge.report.words import figure, ms, pixels

COLORS = ["#3b7dd8", "#d4600a", "#1d9a63", "#9a6fd6", "#d64550", "#1593a3", "#a5762f", "#d1589f", "#6b9a1a", "#7f8790"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "pentagon", "x", "hexagon"]
PATTERNS = ["", "/", "\\", "x", "-", ".", "+"]
MOST = 30  # rows of a plot: what a tall screen shows; the tables have all
ROW = 38  # pixels of a candidate's row: two lines of text
HEIGHT = 460  # pixels of a plot without rows
TICKS = 6  # on an axis: more overlap on a phone
GRID = "rgba(128, 128, 128, 0.3)"
MIDDLE = "#808080"  # on white and on black


def pareto(board: Board, data: Data, models: Sequence[str], limits: tuple[float, float]) -> str:
    """Mean IoU against latency, one symbol a model, the frontier numbered as in its table; limits in milliseconds."""
    from plotly.graph_objects import Scatter

    cells = [cell for cell in board.timed if accuracy(cell, data.name)]
    best = frontier(board.report.cells, data.name)
    line = Scatter(
        x=[1e3 * seconds(cell) for cell in best],
        y=[mean_iou(cell, data.name) for cell in best],
        mode="lines+markers+text",
        marker={"symbol": "circle-open", "size": 17, "color": MIDDLE},  # a ring, which keeps its number off the point
        text=[str(number) for number in range(1, len(best) + 1)],
        textposition="top center",
        line={"color": MIDDLE, "shape": "hv", "dash": "dot"},
        name="frontier",
        hoverinfo="skip",
    )
    points = [
        Scatter(
            x=[1e3 * seconds(cell) for cell in cells if cell.model == model],
            y=[mean_iou(cell, data.name) for cell in cells if cell.model == model],
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 10},
            name=escape(model),
            text=["<br>".join(map(escape, _details(cell, data))) for cell in cells if cell.model == model],
            hoverinfo="text",
        )
        for model, color, symbol in _looks(models)
        if any(cell.model == model for cell in cells)
    ]
    layout = {
        "height": height(len(points)),
        "xaxis": {"title": "median ms, frame to labels", **_log(*limits)},
        "yaxis": {"title": f"mean IoU, {escape(data.name)}"},
    }
    return _json([line, *points], layout)


def latencies(board: Board, models: Sequence[str]) -> str:
    """Every run of a candidate as a box, with its outliers; plotly's JSON."""
    from plotly.graph_objects import Box

    cells = shown(board, MOST)
    boxes = [
        Box(
            x=[round(1e3 * run, 4) for runs in cell.latency.rounds for run in runs],
            name=_two_lines(cell),
            orientation="h",
            boxpoints="outliers",
            marker={"color": color, "symbol": symbol, "size": 5},
            line={"width": 1.5},
            showlegend=False,
        )
        for cell in cells
        for model, color, symbol in _looks(models)
        if model == cell.model and cell.latency
    ]
    totals = [cell.latency.total for cell in cells if cell.latency]
    limits = 900 * min(total.least for total in totals), 1100 * max(total.most for total in totals)
    layout = {
        "height": rows_height(len(cells)),
        "xaxis": {"title": "ms, frame to labels", **_log(*limits)},
        "yaxis": {"autorange": "reversed"},
    }
    return _json(boxes, layout)


def stages(board: Board) -> str:
    """The median of each stage, one after the other; plotly's JSON."""
    from plotly.graph_objects import Bar

    cells = shown(board, MOST)
    there = [stage for stage in STAGES if any(cell.latency and stage in cell.latency.stages for cell in cells)]
    bars = [
        Bar(
            y=[_two_lines(cell) for cell in cells],
            x=[1e3 * found.p50 if (found := _stage(cell, stage)) else None for cell in cells],
            name=STAGES[stage],
            orientation="h",
            marker=_filled(COLORS[index], index),
            hovertemplate=f"{STAGES[stage]}: %{{x:.3g}} ms<extra></extra>",
        )
        for index, stage in enumerate(STAGES)
        if stage in there
    ]
    layout = {
        "barmode": "stack",
        "height": rows_height(len(cells)),
        "xaxis": {"title": "median ms; draw is no part of the total"},
        "yaxis": {"autorange": "reversed"},
    }
    return _json(bars, layout)


def classes(board: Board, data: Data, models: Sequence[str]) -> str:
    """IoU of each class, of each model's most accurate candidate; plotly's JSON."""
    from plotly.graph_objects import Bar

    cells = champions(board, data.name)
    looks = {model: (color, index) for index, (model, color, _) in enumerate(_looks(models))}
    bars = []
    for cell in cells:
        found = accuracy(cell, data.name)
        assert found
        names = [name for name in data.classes if found.per_class_iou.get(name) is not None]
        color, index = looks[cell.model]
        bars.append(
            Bar(
                x=[escape(name) for name in names],
                y=[found.per_class_iou[name] for name in names],
                name=escape(cell.key),
                marker=_filled(color, index),
                hovertemplate=f"{escape(cell.key)}<br>%{{x}}: %{{y:.3f}}<extra></extra>",
            )
        )
    layout = {"barmode": "group", "height": HEIGHT, "yaxis": {"title": f"IoU, {escape(data.name)}", "range": [0, 1]}}
    return _json(bars, layout)


def height(models: int) -> int:
    """Pixels of a plot with so many names above it, which take a line for two."""
    return HEIGHT + 12 * max(0, models - 4)


def rows_height(count: int) -> int:
    """Pixels of a plot with a row a candidate."""
    return 140 + ROW * count


def _details(cell: Cell, data: Data) -> list[str]:
    assert cell.latency
    total, found = cell.latency.total, accuracy(cell, data.name)
    assert found
    lines = [
        cell.key + ("" if cell.trained else " (UNTRAINED)"),
        f"mean IoU {figure(found.mean_iou)}, pixel accuracy {figure(found.pixel_accuracy)}",
        f"median {ms(total.p50)} ms, p95 {ms(total.p95)}, p99 {ms(total.p99)}",
        f"mean {ms(total.mean)} ms ({ms(total.low)} to {ms(total.high)}), {total.runs} runs",
        f"network {pixels(cell.network)}, {cell.device or 'device not told'}",
    ]
    return [*lines, f"noisy: {cell.latency.noisy}"] if cell.latency.noisy else lines


def _stage(cell: Cell, stage: str) -> Summary | None:
    return cell.latency.stages.get(stage) if cell.latency else None


def _looks(models: Sequence[str]) -> list[tuple[str, str, str]]:
    """(model, colour, symbol): beyond ten models the pairs go on, the symbol one ahead."""
    count = len(COLORS)
    return [
        (model, COLORS[index % count], SYMBOLS[(index + index // count) % count]) for index, model in enumerate(models)
    ]


def _filled(color: str, index: int) -> dict[str, Any]:
    pattern = {"shape": PATTERNS[index % len(PATTERNS)], "bgcolor": color, "fgcolor": "white", "size": 5}
    return {"color": color, "pattern": pattern}


def _two_lines(cell: Cell) -> str:
    """The candidate's key, broken after the model where it begins with it."""
    model, rest = escape(cell.model), escape(cell.key.removeprefix(cell.model).strip())
    return f"{model}<br>{rest}" if cell.key.startswith(cell.model) and rest else escape(cell.key)


def _log(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis, with 1, 2 and 5 of each power marked in full; 1 and 3 where a phone has no room for those."""
    kept = []
    for steps in ((1, 2, 5), (1, 3)):
        if not kept or len(kept) > TICKS:
            ticks = [step * 10.0**power for power in range(-3, 6) for step in steps]
            kept = [tick for tick in ticks if low <= tick <= high]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickangle": 0,
        "tickvals": kept,
        "ticktext": [f"{tick:g}" for tick in kept],
    }


def _json(traces: Sequence[Any], layout: dict[str, Any]) -> str:
    from plotly.graph_objects import Figure

    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": MIDDLE, "automargin": True}
    common = {
        "template": "none",
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "margin": {"l": 56, "r": 12, "t": 28, "b": 48},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "legend": {"orientation": "h", "traceorder": "normal", "yanchor": "bottom", "y": 1.02, "x": 0},
    }
    for name in ("xaxis", "yaxis"):
        layout[name] = {**axis, **layout.get(name, {})}
    text = Figure(list(traces), {**common, **layout}).to_json()
    assert text
    return text
