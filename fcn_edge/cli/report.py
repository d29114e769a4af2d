"""`fcn-edge report`: the page, the Markdown and the plots of measured reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_edge.cli import common

Reports = Annotated[
    list[Path], typer.Argument(help="report.json files, or folders with one: a column each.", show_default=False)
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder for what is made; that of the first report where absent.")
]

EPILOG = common.examples(
    "fcn-edge report bench/report.json", "fcn-edge report bench orin/report.json --out both --json"
)


def register(app: typer.Typer) -> None:
    app.command("report", epilog=EPILOG)(command)


def command(
    reports: Reports,
    out: Out = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Make the page of a benchmark: report.html, report.md, and the plots as SVG and PNG."""
    from fcn_edge.report import NEEDED, make

    common.need(*NEEDED, extra="report")
    first = reports[0]
    folder = out or (first if first.is_dir() else first.parent)
    written = make(reports, folder, force, lambda items: common.track(list(items), "Drawing"))
    if json:
        common.print_json({"files": [str(path) for path in written]})
        common.say(f"{folder / 'report.html'}: open it in a browser")
    else:
        print(f"{folder / 'report.html'}: open it in a browser; {len(written) - 1} more files beside it")
