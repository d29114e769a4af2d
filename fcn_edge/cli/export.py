"""`fcn-edge export`: a checkpoint to an ONNX file that is checked against PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcn_edge.cli import common
from fcn_edge.errors import UsageError, unknown

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.models.network import Network
    from fcn_edge.models.weights import Resolved
    from fcn_edge.onnx_export import Exported
    from fcn_edge.spec import ModelSpec, Precision

INPUTS = ("frame", "planar", "normalised")
OUTPUTS = ("scores", "labels", "probabilities")

EPILOG = common.examples(
    "fcn-edge export --weights runs/fcn8s-lite/fcn8s-lite.safetensors",
    "fcn-edge export --variant fcn8s-lite --weights untrained --output labels --out export/untrained.onnx",
    "fcn-edge export --precision fp16 --triton models",
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
    precision: Annotated[
        str, typer.Option("--precision", help="fp32; or fp16, with what needs float32 kept in it.")
    ] = "fp32",
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="frame: uint8 (N, H, W, 3), BGR; planar: float32 (N, 3, H, W), RGB, 0 to 255; normalised: planar, "
            "less the mean and over the deviation that the spec names.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            help="scores, before the last upsampling; labels, with it inside; or probabilities, at the frame's size.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file; export/NAME.onnx where absent.")] = None,
    triton: Annotated[
        Path | None, typer.Option("--triton", help="Write a model repository for Triton into this folder.")
    ] = None,
    deepstream: Annotated[
        Path | None, typer.Option("--deepstream", help="Write a model and nvinfer's configuration into this folder.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Of DeepStream's network: the longer side of 16:9, or HxW.")
    ] = None,
    quality: Annotated[
        Path | None, typer.Option("--quality", help="JSON with measured figures, for the file to carry.")
    ] = None,
    project: common.Project = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Write a network as ONNX with dynamic N, H and W, checked against PyTorch on real photos."""
    from fcn_edge.folders import project_folder

    form = _Form.chosen(precision, input, output, triton, deepstream)
    _check_places(out, triton, deepstream, size)
    folder = project_folder(project)
    shape = common.parse_padding(padding)
    if out is not None:
        _check_free(out, force)  # before anything is loaded or downloaded
    common.need("torch", "onnx", "onnxsim", "onnxruntime", extra="export")
    from fcn_edge.models.weights import resolve

    def fetch(name: str) -> Path:
        _check_free(_path(folder, out, triton, deepstream, form.stem(variant or common.DEFAULT_MODEL, shape)), force)
        return common.fetch_published(name)

    chosen = resolve(weights, variant, shape, folder, fetch)
    common.say(_origin(chosen))
    spec = form.spec(chosen.network, chosen.spec)
    if quality:
        spec = replace(spec, quality=_figures(quality))
    path = _path(folder, out, triton, deepstream, form.stem(spec.name, spec.padding))
    exported, serving = _write(chosen.network, spec, path, form, triton, deepstream, common.parse_size(size), force)
    _tell(exported, serving)
    if json:
        common.print_json(
            {
                "path": str(exported.path),
                "nodes": exported.nodes,
                "megabytes": exported.megabytes,
                "float32": exported.float32,
                "serving": [str(path) for path in serving],
                "weights": {"origin": chosen.origin, "path": None if chosen.path is None else str(chosen.path)},
                "parity": [asdict(parity) for parity in exported.parity],
                "spec": exported.spec,
            }
        )


@dataclass(frozen=True)
class _Form:
    """In which form a network is to leave."""

    precision: str
    input: str
    output: str
    usual: tuple[str, str]  # input and output where none is named

    @classmethod
    def chosen(
        cls, precision: str, input: str | None, output: str | None, triton: Path | None, deepstream: Path | None
    ) -> _Form:
        """What the options say, checked; DeepStream has defaults of its own."""
        if precision == "int8":
            raise UsageError("--precision int8 is not there yet. Take fp32 or fp16.")
        for option, value, known in (
            ("precision", precision, ("fp32", "fp16")),
            ("input", input or "frame", INPUTS),
            ("output", output or "scores", OUTPUTS),
        ):
            if value not in known:
                raise unknown(option, value, known)
        if triton and deepstream:
            raise UsageError("--triton and --deepstream want different models. Name one at a time.")
        if deepstream and input == "frame":
            raise UsageError("DeepStream feeds float planes, not frames: --input planar or normalised, or none.")
        if deepstream and output not in (None, "probabilities"):
            raise UsageError(
                f"DeepStream's own parser holds each class against a threshold from 0 on, which {output} are not made "
                "for: drop --output."
            )
        usual = ("planar", "probabilities") if deepstream else ("frame", "scores")
        return cls(precision, input or usual[0], output or usual[1], usual)

    def spec(self, network: Network, spec: ModelSpec) -> ModelSpec:
        """What a file in this form says of itself."""
        from fcn_edge.onnx_export.forms import PLANAR
        from fcn_edge.spec import Output

        given, moments = spec.input, network.normalisation
        if self.input != "frame":
            given = PLANAR if self.input == "planar" else replace(PLANAR, mean=moments.mean, std=moments.std)
        result = spec.output if self.output != "labels" else Output("labels", 1, spec.output.grid)
        return replace(spec, input=given, output=result, precision=cast("Precision", self.precision))

    def stem(self, name: str, padding: str | None) -> str:
        """The name of an export that is given none, without its ending."""
        parts = (name, padding or "same", self.input, self.output, self.precision)
        return ".".join(part for part in parts if part not in ("same", "fp32", *self.usual))


def _check_places(out: Path | None, triton: Path | None, deepstream: Path | None, size: str | None) -> None:
    if out and (triton or deepstream):
        raise UsageError(f"--{'triton' if triton else 'deepstream'} names the folder, so drop --out.")
    if size and not deepstream:
        raise UsageError("a file takes any size, so --size goes with --deepstream alone.")
    common.parse_size(size)


def _path(folder: Path, out: Path | None, triton: Path | None, deepstream: Path | None, stem: str) -> Path:
    """Where an export goes."""
    if triton:
        return triton / stem / "1" / "model.onnx"
    return out or (deepstream or folder / "export") / f"{stem}.onnx"


def _write(
    network: Network,
    spec: ModelSpec,
    path: Path,
    form: _Form,
    triton: Path | None,
    deepstream: Path | None,
    size: int | tuple[int, int] | None,
    force: bool,
) -> tuple[Exported, list[Path]]:
    """The file, and what a server needs beside it."""
    from fcn_edge.onnx_export import export, serving
    from fcn_edge.video.writing import sink_errors

    def beside(spec: ModelSpec) -> dict[Path, str]:
        if triton:
            return serving.triton(path, spec)
        return serving.deepstream(path, spec, size) if deepstream else {}

    places = [path, *beside(spec)]
    for place in places:
        _check_free(place, force)
    with sink_errors(path), serving.together(places) as temporary:
        exported = export(network, spec, temporary[path], _photos(), probabilities=form.output == "probabilities")
        texts = beside(exported.spec)
        for place, text in texts.items():
            with sink_errors(place):
                temporary[place].write_text(text, encoding="utf-8")
    return replace(exported, path=path), list(texts)


def _tell(exported: Exported, serving: list[Path]) -> None:
    for parity in exported.parity:
        common.say(
            f"  {parity.size[0]}x{parity.size[1]}: {parity.label_agreement:.4%} of the labels as in PyTorch, "
            f"largest score difference {parity.largest_difference:.2g}"
        )
    if exported.float32:
        parts = "; ".join(f"{part} ({len(nodes)} nodes)" for part, nodes in exported.float32.items())
        common.say(f"  in float32: {parts}")
    for path in serving:
        common.say(f"  {path}")
    untrained = "" if exported.spec.trained else " UNTRAINED: its weights are seeded noise."
    following = f"Next: fcn-edge run --model {exported.path}" if not serving else "How to serve it: docs/serving.md"
    common.say(f"{exported.path}: {exported.nodes} nodes, {exported.megabytes:.1f} MB.{untrained} {following}")


def _check_free(path: Path, force: bool) -> None:
    from fcn_edge.errors import SinkError

    if path.is_dir():
        raise SinkError(f"{path}: is a folder, not a file. Name another place.")
    if path.exists() and not force:
        raise SinkError(f"{path} is there already. Name another place, or --force to replace it.")


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
