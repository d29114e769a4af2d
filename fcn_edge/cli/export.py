"""`fcn-edge export`: a checkpoint to an ONNX file that is checked against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_edge.cli import common

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.models.weights import Resolved

EPILOG = common.examples(
    "fcn-edge export --weights runs/fcn8s-lite/fcn8s-lite.safetensors",
    "fcn-edge export --variant fcn8s-lite --weights untrained --output labels --out export/untrained.onnx",
)


def register(app: typer.Typer) -> None:
    app.command("export", epilog=EPILOG)(command)


def command(
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="A file, published or untrained; else the project's newest, the bundled or the published ones.",
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="An architecture, as `fcn-edge models` lists them; the file's own.")
    ] = None,
    padding: common.Padding = None,
    output: Annotated[
        str, typer.Option("--output", help="scores, before the last upsampling; or labels, with it inside.")
    ] = "scores",
    out: Annotated[Path | None, typer.Option("--out", help="The file; export/NAME.onnx where absent.")] = None,
    quality: Annotated[
        Path | None, typer.Option("--quality", help="JSON with measured figures, for the file to carry.")
    ] = None,
    project: common.Project = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Write a network as ONNX with dynamic N, H and W, checked against PyTorch on real photos."""
    from dataclasses import asdict, replace

    from fcn_edge.errors import unknown
    from fcn_edge.folders import project_folder
    from fcn_edge.spec import Output

    if output not in ("scores", "labels"):
        raise unknown("output", output, ("scores", "labels"))
    common.need("torch", "onnx", "onnxsim", "onnxruntime", extra="export")
    from fcn_edge.models.weights import resolve
    from fcn_edge.onnx_export import export
    from fcn_edge.video.writing import sink_errors

    folder = project_folder(project)
    if out is not None:
        _check_free(out, force)  # before anything is read or downloaded

    def fetch(name: str) -> Path:
        _check_free(out or _path(folder, variant or common.DEFAULT_MODEL, form or "same", output), force)
        return common.fetch_published(name)

    form = common.parse_padding(padding)
    chosen = resolve(weights, variant, form, folder, fetch)
    spec = chosen.spec
    common.say(_origin(chosen))
    if output == "labels":
        spec = replace(spec, output=Output("labels", 1, spec.output.grid))
    if quality:
        spec = replace(spec, quality=_figures(quality))
    path = out or _path(folder, spec.name, spec.padding, output)
    _check_free(path, force)
    photos = _photos()
    with sink_errors(path):
        exported = export(chosen.network, spec, path, photos)
    for parity in exported.parity:
        common.say(
            f"  {parity.size[0]}x{parity.size[1]}: {parity.label_agreement:.4%} of the labels as in PyTorch, "
            f"largest score difference {parity.largest_difference:.2g}"
        )
    untrained = "" if spec.trained else " UNTRAINED: its weights are seeded noise."
    common.say(
        f"{path}: {exported.nodes} nodes, {exported.megabytes:.1f} MB.{untrained} Next: fcn-edge run --model {path}"
    )
    if json:
        common.print_json(
            {
                "path": str(path),
                "nodes": exported.nodes,
                "megabytes": exported.megabytes,
                "weights": {"origin": chosen.origin, "path": None if chosen.path is None else str(chosen.path)},
                "parity": [asdict(parity) for parity in exported.parity],
                "spec": spec,
            }
        )


def _path(folder: Path, name: str, padding: str, output: str) -> Path:
    """Where an export goes that names no file."""
    parts = [name, *([] if padding == "same" else [padding]), *([] if output == "scores" else [output]), "onnx"]
    return folder / "export" / ".".join(parts)


def _check_free(path: Path, force: bool) -> None:
    from fcn_edge.errors import SinkError

    if path.exists() and not force:
        raise SinkError(f"{path} is there already. Name another --out, or --force to replace it.")


def _origin(chosen: Resolved) -> str:
    """Which weights were taken, for people."""
    about = {
        "file": "as asked for",
        "project": "the newest of this project",
        "bundled": "bundled with fcn-edge",
        "published": "published",
    }
    if chosen.origin == "untrained":
        return f"{chosen.spec.variant}: UNTRAINED weights, seeded noise"
    return f"{chosen.spec.variant}: weights from {chosen.path}, {about[chosen.origin]}"


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
