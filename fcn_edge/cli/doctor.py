"""`fcn-edge doctor`: what this machine can run."""

from __future__ import annotations

import typer

from fcn_edge.cli import common

EPILOG = common.examples("fcn-edge doctor", "fcn-edge doctor --json")


def register(app: typer.Typer) -> None:
    app.command("doctor", epilog=EPILOG)(command)


def command(json: common.Json = False) -> None:
    """Tell what this machine can run: backends, OpenCV, video, cameras, and what to mend."""
    from fcn_edge.doctor import examine, text

    report = examine()
    if json:
        common.print_json(report)
    else:
        print(text(report))
