"""Which candidate to use under bounds on accuracy, latency and memory, and why.

Latency is held to its 95th percentile: a median of 19 ms says nothing of whether a camera's 20 ms are kept. Of what
fits, the most accurate is taken where time has a bound, and the fastest where it has none; a difference in mean IoU
below CLOSE counts as none, for it is within what another set of pictures would give.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fcn_edge.bench.schema import Cell
from fcn_edge.errors import FcnEdgeError, unknown
from fcn_edge.report.view import Board, accuracy, mean_iou, seconds
from fcn_edge.report.words import figure, ms, plural, size

CLOSE = 0.005  # of mean IoU


@dataclass(frozen=True)
class Bounds:
    """None: no bound. `data` names the set that `min_miou` is held to; the report's first where None."""

    min_miou: float | None = None
    max_latency: float | None = None  # seconds, 95th percentile
    max_memory: float | None = None  # bytes, host's and device's peaks together
    data: str | None = None


@dataclass(frozen=True)
class Answer:
    """Of one board. `cell` is None where nothing fits; `why` then says what comes nearest."""

    board: str
    data: str | None
    cell: Cell | None
    why: list[str]
    doubts: list[str]
    fitting: list[str]  # keys of all that fit, the chosen one among them

    @property
    def command(self) -> str | None:
        """How to use it."""
        cell = self.cell
        if cell is None:
            return None
        model = _word(cell.file or cell.model) + (f" --spec {_word(cell.spec)}" if cell.spec else "")
        options = f"--model {model} --backend {cell.backend} --precision {cell.precision} --size {cell.size}"
        options += f" --refine {cell.refine}" if cell.refine else ""
        return f"fcn-edge run {options} --source clip.mp4 --out overlay.mp4"

    def document(self) -> dict[str, Any]:
        """For JSON: null where nothing fits. Seconds and bytes. docs/report.md names every key."""
        cell = self.cell
        return {
            "board": self.board,
            "data": self.data,
            "candidate": cell
            and {
                "key": cell.key,
                "model": cell.model,
                "backend": cell.backend,
                "precision": cell.precision,
                "size": cell.size,
                "refine": cell.refine,
                "mean_iou": {each.data: each.mean_iou for each in cell.accuracy},
                "p50": cell.latency and cell.latency.total.p50,
                "p95": cell.latency and cell.latency.total.p95,
                "memory": _memory(cell),
            },
            "command": self.command,
            "why": self.why,
            "doubts": self.doubts,
            "fitting": self.fitting,
        }


def _word(path: str) -> str:
    """For a shell, which takes ~ for the home folder only where it is not quoted."""
    home = "~/" if path.startswith("~/") else ""
    return home + shlex.quote(path.removeprefix(home))


def recommend(board: Board, bounds: Bounds) -> Answer:
    """The candidate of the board to use.

    Raises UsageError for data that the report does not name, FcnEdgeError where a bound is on what was not measured.
    """
    data = _data(board, bounds)
    able = [cell for cell in board.timed if cell.trained and not cell.failed]
    fitting = [cell for cell in able if not _misses(cell, bounds, data)]
    keys = [cell.key for cell in fitting]
    if not fitting:
        return Answer(board.name, data, None, _nearest(board, able, bounds, data), [], keys)
    fastest = min(fitting, key=_p95)
    chosen = fastest if bounds.max_latency is None else _most_accurate(fitting, data)
    why = [_figures(chosen, data, bounds), _rule(len(fitting), len(able), bounds, data)]
    if chosen is not fastest:
        why.append(f"The fastest that fits: {fastest.key}, {_brief(fastest, data)}.")
    if chosen.seen:
        why.append(f"In training its weights have seen {chosen.seen}; figures on that flatter it.")
    return Answer(board.name, data, chosen, why, _doubts(board, chosen), keys)


def text(answer: Answer) -> str:
    """For people."""
    if answer.cell is None:
        return f"{answer.board}: nothing fits. {' '.join(answer.why)}"
    cell = answer.cell
    refined = f", refined by {cell.refine}" if cell.refine else ""
    lines = [f"{answer.board}: {cell.model}, {cell.backend}, {cell.precision}, size {cell.size}{refined}"]
    lines += [f"  {line}" for line in (*answer.why, *(f"But: {doubt}" for doubt in answer.doubts))]
    return "\n".join([*lines, f"  {answer.command}"])


def _data(board: Board, bounds: Bounds) -> str | None:
    names = [data.name for data in board.report.data]
    if bounds.data is not None and bounds.data not in names:
        raise unknown("data", bounds.data, names)
    if bounds.min_miou is not None and not names:
        raise FcnEdgeError(
            f"the report of {board.name} holds latency only. Measure accuracy too: fcn-edge bench --data ROOT:LIST"
        )
    return bounds.data or next(iter(names), None)


def _misses(cell: Cell, bounds: Bounds, data: str | None) -> list[str]:
    """Which bounds the candidate does not keep; what was not measured keeps none."""
    memory = _memory(cell)
    missed = {
        "accuracy": bounds.min_miou is not None and (data is None or mean_iou(cell, data) < bounds.min_miou),
        "latency": bounds.max_latency is not None and _p95(cell) > bounds.max_latency,
        "memory": bounds.max_memory is not None and (memory is None or memory > bounds.max_memory),
    }
    return [name for name, is_missed in missed.items() if is_missed]


def _rule(fitting: int, able: int, bounds: Bounds, data: str | None) -> str:
    """By which rule it was chosen."""
    if fitting == 1:
        return f"It alone fits, of {plural(able, 'candidate')}."
    if bounds.max_latency is None or data is None:
        return f"The fastest of the {fitting} that fit, of {able}."
    return f"The most accurate of the {fitting} that fit, of {able}; of those within {CLOSE} of each other the fastest."


def _most_accurate(cells: Sequence[Cell], data: str | None) -> Cell:
    """Within CLOSE of the best the fastest; the fastest at once where no accuracy was measured."""
    if data is None:
        return min(cells, key=_p95)
    best = max(mean_iou(cell, data) for cell in cells)
    return min((cell for cell in cells if mean_iou(cell, data) >= best - CLOSE), key=_p95)


def _nearest(board: Board, able: Sequence[Cell], bounds: Bounds, data: str | None) -> list[str]:
    """For each bound, what comes nearest to it among those that keep all others."""
    distance: dict[str, Callable[[Cell], float]] = {
        "accuracy": lambda cell: -mean_iou(cell, data or ""),
        "latency": _p95,
        "memory": lambda cell: _memory(cell) or float("inf"),
    }
    said = []
    for bound, far in distance.items():
        cells = [cell for cell in able if _misses(cell, bounds, data) == [bound]]
        if cells:
            cell = min(cells, key=far)
            said.append(f"Nearest, missing {bound} alone: {cell.key}, {_brief(cell, data)}.")
    if not able:
        return [f"None of its {plural(len(board.report.cells), 'candidate')} was timed, trained and without failure."]
    return said or [f"Each of its {plural(len(able), 'candidate')} misses more than one bound."]


def _figures(cell: Cell, data: str | None, bounds: Bounds) -> str:
    """What it reaches, and what was asked."""
    parts = []
    if data is not None:
        asked = f" (at least {bounds.min_miou:g})" if bounds.min_miou is not None else ""
        parts.append(f"mean IoU {figure(mean_iou(cell, data))} on {data}{asked}")
        parts += [f"{figure(each.mean_iou)} on {each.data}" for each in cell.accuracy if each.data != data]
    asked = f" (at most {ms(bounds.max_latency)})" if bounds.max_latency is not None else ""
    parts.append(f"95 of 100 frames within {ms(_p95(cell))} ms{asked}, median {ms(seconds(cell))} ms")
    if (memory := _memory(cell)) is not None:
        asked = f" (at most {size(bounds.max_memory)})" if bounds.max_memory is not None else ""
        parts.append(f"{size(memory)} of memory at its peak{asked}")
    return "; ".join(parts) + "."


def _brief(cell: Cell, data: str | None) -> str:
    parts = [] if data is None or not accuracy(cell, data) else [f"mean IoU {figure(mean_iou(cell, data))}"]
    memory = _memory(cell)
    parts += [f"p95 {ms(_p95(cell))} ms", *([] if memory is None else [size(memory)])]
    return ", ".join(parts)


def _doubts(board: Board, cell: Cell) -> list[str]:
    doubts = [sentence.rstrip(".") for sentence in board.report.machine.noise]
    if cell.latency and cell.latency.noisy:
        doubts.append(cell.latency.noisy)
    if not cell.accuracy:
        doubts.append("accuracy was not measured")
    return doubts


def _p95(cell: Cell) -> float:
    return cell.latency.total.p95 if cell.latency else float("inf")


def _memory(cell: Cell) -> int | None:
    """Bytes on the host and on the device at their peaks; None where the host's was not measured."""
    memory = cell.memory
    return None if memory is None or memory.host is None else memory.host + (memory.device or 0)
