"""The tables of a report, the same for the page and for Markdown.

Every plot has one beside it, because a plot can't be read aloud, searched or copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fcn_edge.bench.schema import Cell, Data, Summary
from fcn_edge.report.view import Board, accuracy, by_key, champions, frontier, seconds
from fcn_edge.report.words import NONE, digits, figure, ms, pixels, plural, scaled, share, size

STAGES = {  # in the order in which a frame passes them
    "prepare": "prepare",
    "to_device": "to device",
    "infer": "infer",
    "from_device": "from device",
    "decode": "decode",
    "refine": "refine",
    "draw": "draw",
}
COSTLIEST = 10  # layers of a profile that are shown; report.json has all
WHO = ["model", "backend", "precision", "size"]


@dataclass(frozen=True)
class Table:
    """`words`: how many columns at the left are no figures; the first names the row."""

    title: str
    head: list[str]
    rows: list[list[str]]
    words: int = 1
    note: str = ""

    @property
    def candidate(self) -> int | None:
        """The column at which a candidate's four begin."""
        return self.head.index(WHO[0]) if [name for name in self.head if name in WHO] == WHO else None


def who(cell: Cell) -> list[str]:
    refined = f" + {cell.refine}" if cell.refine else ""
    untrained = "" if cell.trained else " (UNTRAINED)"
    return [cell.model + refined + untrained, cell.backend, cell.precision, cell.size]


def frontier_table(board: Board, data: Data) -> Table:
    cells = frontier(board.report.cells, data.name)
    rows = []
    for number, cell in enumerate(cells, 1):
        total, found = _total(cell), accuracy(cell, data.name)
        assert found
        rows.append([str(number), *who(cell), figure(found.mean_iou), ms(total.p50), ms(total.p95), _noisy(cell)])
    head = ["no.", *WHO, "mean IoU", "median, ms", "p95, ms", "noise"]
    return _dense(Table(f"On the frontier: {data.name}", head, rows, 5))


def overview(boards: Sequence[Board]) -> Table:
    """Median milliseconds of every candidate, a column a board."""
    rows = []
    for cells in by_key(boards).values():
        known = next(cell for cell in cells if cell)
        rows.append([*who(known), *(_brief(cell) for cell in cells)])
    return Table("Median milliseconds, a column a board", [*WHO, *(board.name for board in boards)], rows, 4)


def latency_table(board: Board) -> Table:
    rows = []
    for cell in board.timed:
        assert cell.latency
        total = cell.latency.total
        middle = [ms(value) for value in (total.p50, total.p90, total.p95, total.p99)]
        mean = f"{ms(total.mean)} ({ms(total.low)} to {ms(total.high)})"
        ends = f"{ms(total.least)} to {ms(total.most)}"
        counts = [str(total.runs), str(cell.latency.outliers)]
        rows.append([*who(cell), pixels(cell.network), *middle, mean, ends, *counts, _noisy(cell)])
    head = [*WHO, "network", "median", "p90", "p95", "p99", "mean (95 % interval)", "least to most", "runs", "outliers"]
    return _dense(Table("Milliseconds from a frame to its labels", [*head, "noise"], rows, 5))


def stages_table(board: Board) -> Table:
    there = [stage for stage in STAGES if any(cell.latency and stage in cell.latency.stages for cell in board.timed)]
    rows = []
    for cell in board.timed:
        assert cell.latency
        stages = cell.latency.stages
        rows.append([*who(cell), *(ms(stages[stage].p50) if stage in stages else NONE for stage in there)])
    head = [*WHO, *(STAGES[stage] for stage in there)]
    return Table("Median milliseconds of each stage", head, rows, 4, "Drawing the overlay is no part of the total.")


def start_table(board: Board) -> Table:
    rows = []
    for cell in board.timed:
        rate = cell.throughput
        fps = [digits(rate.alone), digits(rate.best), rate.how or str(rate.concurrency)] if rate else [NONE] * 3
        rows.append([*who(cell), ms(cell.load), ms(cell.first), *fps])
    head = [*WHO, "load, ms", "first frame, ms", "frames/s, one at a time", "frames/s, at best", "with"]
    return _dense(Table("Start and throughput", head, rows, 4))


def cost_table(board: Board) -> Table:
    rows = []
    for cell in board.timed:
        memory, energy = cell.memory, cell.energy
        figures = [size(cell.bytes), scaled(cell.parameters, ""), scaled(cell.operations, "")]
        figures += [size(memory.host), size(memory.base), size(memory.device)] if memory else [NONE] * 3
        figures += [digits(energy.watts), digits(energy.idle), digits(energy.joules)] if energy else [NONE] * 3
        rows.append([*who(cell), *figures, energy.source if energy else NONE])
    head = ["file", "parameters", "operations a frame", "host memory, peak", "before opening", "device memory, peak"]
    head += ["W", "W idle", "J a frame", "read by"]
    return _dense(Table("What each costs", [*WHO, *head], rows, 4))


def roofline_table(board: Board) -> Table:
    rows = []
    for cell in board.timed:
        if roof := cell.roofline:
            figures = [
                scaled(roof.operations, "op"),
                size(roof.traffic),
                digits(roof.operations / roof.traffic),
                scaled(roof.peak, "op/s"),
                scaled(roof.bandwidth, "B/s"),
                share(roof.fraction),
            ]
            rows.append([*who(cell), *figures])
    head = ["operations", "bytes at least", "operations a byte", "peak", "bandwidth", "of the roof"]
    note = (
        "The roof is what the machine's measured peak in that precision and its memory bandwidth allow a network of so "
        "many operations a byte; beside it stand the operations over the median of infer."
    )
    return Table("How close to the machine's limits", [*WHO, *head], rows, 4, note)


def accuracy_table(board: Board, data: Data) -> Table:
    rows = []
    for cell in board.report.cells:
        if found := accuracy(cell, data.name):
            figures = [found.mean_iou, found.pixel_accuracy, found.boundary_f]
            counts = [str(found.images), str(found.left_out)]
            rows.append([*who(cell), *map(figure, figures), figure(found.agreement, 4), *counts])
    head = ["mean IoU", "pixel accuracy", "boundary F", "agreement with fp32", "pictures", "left out"]
    note = "" if data.over is None else f"Means are over {', '.join(data.over)} alone."
    return _dense(Table(f"Accuracy on {data.name}", [*WHO, *head], rows, 4, note))


def classes_table(board: Board, data: Data) -> Table:
    """IoU of each class, of each model's most accurate candidate."""
    cells = champions(board, data.name)
    found = [each.per_class_iou for cell in cells if (each := accuracy(cell, data.name))]
    names = [name for name in data.classes if any(ious.get(name) is not None for ious in found)]
    rows = [[name, *(figure(ious.get(name)) for ious in found)] for name in names]
    note = "Each model's most accurate candidate; report.json has all."
    return Table(f"IoU of each class: {data.name}", ["class", *(cell.key for cell in cells)], rows, 1, note)


def layers_table(cell: Cell) -> Table:
    ranked = sorted(cell.layers, key=lambda layer: -layer.seconds)[:COSTLIEST]
    rows = [
        [
            layer.name,
            layer.op,
            layer.precision or NONE,
            "x".join(map(str, layer.output)) if layer.output else NONE,
            ms(layer.seconds),
            share(layer.share),
        ]
        for layer in ranked
    ]
    total = share(sum(layer.share for layer in ranked))
    note = f"{len(ranked)} of {plural(len(cell.layers), 'layer')}, {total} of the time that layers take."
    return Table(f"Layers of {cell.key}", ["layer", "op", "precision", "output", "ms", "of all"], rows, 4, note)


def noise_table(board: Board) -> Table:
    rows = [[cell.key, cell.latency.noisy] for cell in board.timed if cell.latency and cell.latency.noisy]
    return Table("Marked noisy", ["candidate", "because"], rows, 2)


def failures_table(board: Board) -> Table:
    rows = [[cell.key, cell.failed] for cell in board.report.cells if cell.failed]
    return Table("Failed", ["candidate", "why, and how to mend it"], rows, 2)


def seen_table(boards: Sequence[Board]) -> Table:
    """Who has met what in training: figures on that flatter it."""
    told = {cell.model: cell.seen or "not stated" for board in boards for cell in board.report.cells if not cell.failed}
    return Table(
        "Seen in training",
        ["model", "what its weights have seen, with labels or without"],
        [[*pair] for pair in told.items()],
        2,
    )


def unmeasured_table(board: Board) -> Table:
    """What is missing and why, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in board.report.cells:
        for field, reason in cell.not_measured.items():
            reasons.setdefault((field, reason), []).append(cell.key)
    count = len([cell for cell in board.report.cells if not cell.failed])
    rows = [
        [field, reason, "all" if len(keys) >= count else plural(len(keys), "candidate")]
        for (field, reason), keys in reasons.items()
    ]
    return Table("Not measured", ["what", "why", "of"], rows, 3)


def environment_table(boards: Sequence[Board]) -> Table:
    """The environment in full, a column a board."""
    facts = [_facts(board) for board in boards]
    names = list(dict.fromkeys(name for each in facts for name in each))
    rows = [[name, *(each.get(name, NONE) for each in facts)] for name in names]
    return Table("Environment", ["", *(board.name for board in boards)], rows, 1 + len(boards))


def _facts(board: Board) -> dict[str, str]:
    report, machine = board.report, board.report.machine
    facts = {
        "measured": f"{report.begun} to {report.ended}",
        "by": report.made_by,
        "system": machine.system,
        "CPU": machine.cpu,
        "instruction sets": ", ".join(machine.flags) or NONE,
        "physical cores": str(machine.cores),
        "memory": size(machine.memory),
        "GPU": machine.gpu or "none",
        "board": machine.board or NONE,
        "power mode": machine.power_mode or NONE,
        "governor": machine.governor or NONE,
    }
    facts |= {f"{name} clock": text for name, text in machine.clocks.items()}
    facts |= {f"{name} version": text for name, text in machine.versions.items()}
    for name in dict.fromkeys((*machine.before, *machine.after)):
        both = (machine.before.get(name), machine.after.get(name))
        facts[f"{name}, before and after"] = ", ".join(scaled(value, "") for value in both)
    return facts


def _total(cell: Cell) -> Summary:
    assert cell.latency
    return cell.latency.total


def _brief(cell: Cell | None) -> str:
    if cell is None:
        return "not in it"
    if not cell.latency:
        return "failed" if cell.failed else NONE
    return f"{ms(seconds(cell))} (noisy)" if cell.latency.noisy else ms(seconds(cell))


def _noisy(cell: Cell) -> str:
    return "noisy" if cell.latency and cell.latency.noisy else ""


def _dense(table: Table) -> Table:
    """Without the columns of figures that are empty from top to bottom."""
    kept = [
        index
        for index in range(len(table.head))
        if index < table.words or any(row[index] not in ("", NONE) for row in table.rows)
    ]
    return replace(
        table, head=[table.head[index] for index in kept], rows=[[row[index] for index in kept] for row in table.rows]
    )
