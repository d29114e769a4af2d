"""The HTML page: one file that opens offline, in light, dark and print.

plotly's own 5 MB of script travel inside, so that nothing is fetched; a policy in the head holds the page to it. On
paper, and where scripts are off, matplotlib's drawings take the plots' place.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import fcn_edge
from fcn_edge.report import pictures, story, tables
from fcn_edge.report.plots import Plot, Plots
from fcn_edge.report.tables import Table
from fcn_edge.report.view import Board, frontier

FOLDER = Path(__file__).parent
TITLE = "Accuracy and latency"
LONG = 40  # rows of a table that is folded: two screens


@dataclass
class Group:
    """Plots side by side, then tables, then tables that are unfolded on a click, then rows of pictures."""

    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    fold: str = ""
    folded: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, list[pictures.Shown]]] = field(default_factory=list)


@dataclass
class Section:
    id: str
    title: str
    lines: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


def page(boards: Sequence[Board], drawn: Sequence[Plots]) -> str:
    """The page's text. Raises ImportError without jinja2 and plotly."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    template = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html")
    live = [plot for each in drawn for plot in each.all]
    figures = "{" + ",".join(f'"{plot.name}":{plot.live}' for plot in live) + "}"
    return template.render(
        title=TITLE,
        subtitle="; ".join(f"{board.name}, {board.report.begun[:10]}" for board in boards),
        head=story.head(boards),
        sections=sections(boards, drawn),
        figures=Markup(figures.replace("<", "\\u003c")) if live else "",  # no text can end the script
        plotly=Markup(get_plotlyjs()),
        css=Markup((FOLDER / "page.css").read_text()),
        js=Markup((FOLDER / "page.js").read_text()),
        version=fcn_edge.__version__,
        sources=f"{len(boards)} report.json",
        uri=_uri,
        long=LONG,
    )


def sections(boards: Sequence[Board], drawn: Sequence[Plots]) -> list[Section]:
    """What there is to show, in the order in which a reader asks for it; sections that would be empty are left out."""
    made = [
        _choice(boards, drawn),
        Section("boards", "Side by side", groups=[Group(tables=[tables.overview(boards)])] if len(boards) > 1 else []),
        _latency(boards, drawn),
        _stages(boards, drawn),
        Section("costs", "Memory, size, energy", groups=_each(boards, tables.cost_table)),
        _accuracy(boards, drawn),
        Section(
            "pictures", "Where they differ most", groups=[Group(pictures=pictures.rows(board)) for board in boards]
        ),
        Section("roofline", "Roofline", groups=_each(boards, tables.roofline_table)),
        _layers(boards),
        Section("failed", "Failed", groups=_each(boards, tables.failures_table)),
        _timed(boards),
        Section("environment", "Environment", groups=[Group(tables=[tables.environment_table(boards)])]),
        Section("again", "To measure it again", code=[board.report.command for board in boards]),
    ]
    return [section for section in made if section.code or section.lines or any(map(_holds, section.groups))]


def _choice(boards: Sequence[Board], drawn: Sequence[Plots]) -> Section:
    """A row a data set, a column a board; of one board, a column a data set."""
    section = Section("frontier", "Which to take")
    for name in dict.fromkeys(data.name for board in boards for data in board.report.data):
        group = Group(plots=[each.pareto[name] for each in drawn if name in each.pareto])
        for board in boards:
            found = [tables.frontier_table(board, data) for data in board.report.data if data.name == name]
            group.tables += [_titled(boards, board, table) for table in found]
        section.groups.append(group)
    if len(boards) == 1:  # then it is the data sets that stand side by side
        section.groups = [
            Group(
                [plot for group in section.groups for plot in group.plots],
                [table for group in section.groups for table in group.tables],
            )
        ]
    if any(frontier(board.report.cells, data.name) for board in boards for data in board.report.data):
        section.lines.append(
            "On the frontier is what no other candidate matches in both: each is the most accurate at its latency or "
            "below. Accuracy and latency are of the same file on the same machine."
        )
    section.groups.append(Group(tables=[tables.seen_table(boards)]))
    return section


def _latency(boards: Sequence[Board], drawn: Sequence[Plots]) -> Section:
    groups = [
        Group(
            [each.latencies] if each.latencies else [],
            [_titled(boards, board, make(board)) for make in (tables.latency_table, tables.start_table)],
            fold="Why figures are marked noisy",
            folded=_filled(_titled(boards, board, tables.noise_table(board))),
        )
        for board, each in zip(boards, drawn, strict=True)
    ]
    return Section("latency", "Latency", groups=groups)


def _stages(boards: Sequence[Board], drawn: Sequence[Plots]) -> Section:
    groups = [
        Group(
            [each.stages] if each.stages else [],
            fold="The figures, as a table",
            folded=[_titled(boards, board, tables.stages_table(board))],
        )
        for board, each in zip(boards, drawn, strict=True)
        if board.timed
    ]
    return Section("stages", "Stages", groups=groups)


def _accuracy(boards: Sequence[Board], drawn: Sequence[Plots]) -> Section:
    section = Section("accuracy", "Accuracy")
    for board, each in zip(boards, drawn, strict=True):
        for data in board.report.data:
            plot = each.classes.get(data.name)
            classes = [_titled(boards, board, tables.classes_table(board, data))]
            section.groups.append(Group(tables=[_titled(boards, board, tables.accuracy_table(board, data))]))
            section.groups.append(Group([plot] if plot else [], fold="IoU of each class, as a table", folded=classes))
    section.groups = [group for group in section.groups if _holds(group)]
    if section.groups:
        section.lines.append(
            "Labels at each picture's own size against its mask, void left out, one confusion matrix over the data "
            "set; pictures that a model was trained or calibrated on are left out."
        )
    return section


def _layers(boards: Sequence[Board]) -> Section:
    profiled = [cell for board in boards for cell in board.report.cells if cell.layers]
    groups = [Group(fold=f"Layers of {cell.key}", folded=[tables.layers_table(cell)]) for cell in profiled]
    return Section("layers", "Costliest layers", groups=groups)


def _timed(boards: Sequence[Board]) -> Section:
    """What was timed and what was not; once for all boards that were measured alike."""
    told = list(dict.fromkeys(line for board in boards for line in story.timed(board.report.protocol)))
    return Section("timed", "What was timed, and what was not", told, groups=_each(boards, tables.unmeasured_table))


def _each(boards: Sequence[Board], make: Callable[[Board], Table]) -> list[Group]:
    return [Group(tables=[_titled(boards, board, make(board))]) for board in boards]


def _titled(boards: Sequence[Board], board: Board, table: Table) -> Table:
    """The table with its board's name in the title, where there are several."""
    return table if len(boards) == 1 else replace(table, title=f"{table.title}, {board.name}")


def _filled(table: Table) -> list[Table]:
    return [table] if table.rows else []


def _holds(group: Group) -> bool:
    return bool(group.plots or group.pictures or any(table.rows for table in (*group.tables, *group.folded)))


def _uri(data: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"
