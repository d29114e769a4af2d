"""`fcn-edge build`: an ONNX file to a TensorRT engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_edge.cli import common

EPILOG = common.examples(
    "fcn-edge build export/fcn8s-lite.onnx",
    "fcn-edge build export/fcn8s-lite.onnx --backend tensorrt-rtx --shapes 288x512,384x512 --profile rtx-desktop",
)


def register(app: typer.Typer) -> None:
    app.command("build", epilog=EPILOG)(command)


def command(model: Annotated[Path, typer.Argument(help="An ONNX file.")]) -> None:
    """Build a TensorRT engine from an ONNX file, with a sidecar that says what it is."""
    raise NotImplementedError
