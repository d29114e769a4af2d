"""`fcn-edge inspect`: what a file says of itself."""

from __future__ import annotations

from typing import Annotated

import typer

from fcn_edge.cli import common

EPILOG = common.examples("fcn-edge inspect fcn8s-lite", "fcn-edge inspect fcn8s-lite-small --json")


def register(app: typer.Typer) -> None:
    app.command("inspect", epilog=EPILOG)(command)


def command(
    file: Annotated[
        str,
        typer.Argument(help="An ONNX file, an engine, safetensors, a PyTorch or TFLite file, or a bundled name."),
    ],
    json: common.Json = False,
) -> None:
    """Tell what a file says of itself: kind, versions, inputs, classes, where it came from and what it fits."""
    from fcn_edge.inspection import inspect, text
    from fcn_edge.runtime.files import find

    document = inspect(find(file))
    if json:
        common.print_json(document)
    else:
        print(text(document))
    if document["problems"]:
        raise typer.Exit(1)
