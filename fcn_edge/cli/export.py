"""`fcn-edge export`: a checkpoint to an ONNX file that is checked against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_edge.cli import common

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.models.network import Network
    from fcn_edge.spec import ModelSpec

CLASSES_UNTRAINED = 21

EPILOG = common.examples(
    "fcn-edge export --weights runs/fcn8s-lite/fcn8s-lite.safetensors",
    "fcn-edge export --variant fcn8s-lite --output labels --out export/untrained.onnx",
)


def register(app: typer.Typer) -> None:
    app.command("export", epilog=EPILOG)(command)


def command(
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A checkpoint; seeded noise where absent, and the file says so.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="What the checkpoint is taken for; its own where absent.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", help="scores, before the last upsampling; or labels, with it inside.")
    ] = "scores",
    out: Annotated[Path | None, typer.Option("--out", help="The file; export/NAME.onnx where absent.")] = None,
    quality: Annotated[
        Path | None, typer.Option("--quality", help="JSON with measured figures, for the file to carry.")
    ] = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Write a network as ONNX with dynamic N, H and W, checked against PyTorch on real photos."""
    from dataclasses import asdict, replace

    from fcn_edge.errors import SinkError, unknown
    from fcn_edge.spec import Output

    if output not in ("scores", "labels"):
        raise unknown("output", output, ("scores", "labels"))
    common.need("torch", "onnx", "onnxsim", "onnxruntime", extra="export")
    from fcn_edge.onnx_export import export

    network, spec = _network(weights, variant)
    if output == "labels":
        spec = replace(spec, output=Output("labels", 1, spec.output.grid))
    if quality:
        spec = replace(spec, quality=_figures(quality))
    path = out or Path("export") / f"{spec.name}{'' if output == 'scores' else '.labels'}.onnx"
    if path.exists() and not force:
        raise SinkError(f"{path} is there already. Name another --out, or --force to replace it.")
    exported = export(network, spec, path, _photos())
    for parity in exported.parity:
        common.say(
            f"  {parity.size[0]}x{parity.size[1]}: {parity.label_agreement:.4%} of the labels as in PyTorch, "
            f"largest score difference {parity.largest_difference:.2g}"
        )
    untrained = "" if spec.trained else " UNTRAINED: its weights are seeded noise."
    common.say(f"{path}: {exported.nodes} nodes, {exported.megabytes:.1f} MB.{untrained}")
    if json:
        common.print_json(
            {
                "path": str(path),
                "nodes": exported.nodes,
                "megabytes": exported.megabytes,
                "parity": [asdict(parity) for parity in exported.parity],
                "spec": spec,
            }
        )


def _network(weights: Path | None, variant: str | None) -> tuple[Network, ModelSpec]:
    from fcn_edge.models.checkpoint import load, untrained

    if weights is None:
        return untrained(variant or common.DEFAULT_MODEL)
    return load(weights, variant)


def _figures(path: Path) -> dict[str, Any]:
    import msgspec

    from fcn_edge.errors import DataError

    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path}: not a JSON object with figures: {error}.") from error


def _photos() -> list[np.ndarray]:
    from fcn_edge.data import read_image
    from fcn_edge.resources import demo_photos

    return [read_image(path) for path in demo_photos()]
