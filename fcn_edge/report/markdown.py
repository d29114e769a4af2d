"""The report as Markdown, for a repository: the page's sections, with the plots as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fcn_edge.report import story
from fcn_edge.report.page import TITLE, Group, sections
from fcn_edge.report.plots import Plots
from fcn_edge.report.tables import Table
from fcn_edge.report.view import Board

MARK = "<!-- made by fcn-edge report -->"


def markdown(boards: Sequence[Board], drawn: Sequence[Plots]) -> str:
    """The page without its pictures, which are not for everyone's repository."""
    parts = [MARK, f"# {TITLE}", "; ".join(f"{_plain(board.name)}, {board.report.begun[:10]}" for board in boards)]
    parts += ["\n".join(f"- **{_plain(line)}**" for line in story.head(boards))]
    for section in sections(boards, drawn):
        if section.id == "pictures":
            continue
        parts += [f"## {section.title}", *map(_plain, section.lines), *(f"```\n{code}\n```" for code in section.code)]
        for group in section.groups:
            parts += _group(group)
    return "\n\n".join(part for part in parts if part) + "\n"


def _group(group: Group) -> list[str]:
    images = [f"![{_plain(f'{plot.title}. {plot.told}')}]({plot.name}.svg)" for plot in group.plots]
    if len(images) > 1:  # side by side
        images = [f"| {' | '.join(images)} |\n|{' --- |' * len(images)}"]
    return [*images, *(_table(table) for table in (*group.tables, *group.folded) if table.rows)]


def _table(table: Table) -> str:
    rule = ["---" if index < table.words else "---:" for index in range(len(table.head))]
    lines = ["| " + " | ".join(map(_plain, row)) + " |" for row in (table.head, *table.rows)]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n\n".join(filter(None, (f"**{_plain(table.title)}**", "\n".join(lines), _plain(table.note))))


def _plain(text: str) -> str:
    """As it stands: no name or message becomes markup, a link or a second line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", re.sub(r"\s+", " ", text))
