"""`fcn-edge export`: a checkpoint to an ONNX file that is checked against PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcn_edge.cli import common
from fcn_edge.errors import UsageError, unknown

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.cli.quantise import Wanted
    from fcn_edge.data.calibration import Calibration
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
    "fcn-edge export --precision int8 --calib photos --remainder fp16",
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
        str, typer.Option("--precision", help="fp32; fp16, with what needs float32 kept in it; or int8, with --calib.")
    ] = "fp32",
    calib: Annotated[
        str | None,
        typer.Option(
            "--calib", help="int8: a calibration set, a data set's ROOT (its train list), or a picture folder."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="int8: ROOT with the set's pictures; ROOT:LIST labelled, for --max-drop."),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="int8: at most so many pictures of --calib.")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="int8: minmax (usual), percentile, entropy or mse.")
    ] = None,
    percentile: Annotated[
        float | None, typer.Option("--percentile", help="int8: of --method percentile; 99.99 where absent.")
    ] = None,
    remainder: Annotated[
        str | None, typer.Option("--remainder", help="int8: what the rest is in: fp32 (usual), or fp16 for TensorRT.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            help="int8: points of mean IoU that may be lost on --data ROOT:LIST, a list that is reported nowhere.",
        ),
    ] = None,
    weight_bits: Annotated[
        int | None,
        typer.Option(
            "--weight-bits", min=7, max=8, help="int8: 7 for x86 CPUs without VNNI, whose sums overflow with 8."
        ),
    ] = None,
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
        str | None,
        typer.Option("--size", help="Of DeepStream's network, 16:9 by its longer side; of int8's while calibrating."),
    ] = None,
    quality: Annotated[
        Path | None, typer.Option("--quality", help="JSON with measured figures, for the file to carry.")
    ] = None,
    project: common.Project = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Write a network as ONNX with dynamic N, H and W, checked against PyTorch on real photos."""
    from fcn_edge.cli.quantise import Wanted
    from fcn_edge.folders import project_folder

    form = _Form.chosen(precision, input, output, triton, deepstream)
    wanted = Wanted(calib, tuple(data or ()), count, method, percentile, remainder, max_drop, weight_bits)
    wanted.check(precision)
    _check_places(out, triton, deepstream, size, precision)
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
    int8 = _Int8(wanted, wanted.calibration(), folder / "calib") if precision == "int8" else None
    exported, serving = _write(
        chosen.network, spec, path, form, triton, deepstream, common.parse_size(size), force, int8
    )
    _tell(exported, serving)
    if json:
        common.print_json(
            {
                "path": str(exported.path),
                "nodes": exported.nodes,
                "megabytes": exported.megabytes,
                "float32": exported.float32,
                **({} if int8 is None else int8.document),
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
        for option, value, known in (
            ("precision", precision, ("fp32", "fp16", "int8")),
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
        precision = "fp32" if self.precision == "int8" else self.precision  # it is made of a float32 file
        return replace(spec, input=given, output=result, precision=cast("Precision", precision))

    def stem(self, name: str, padding: str | None) -> str:
        """The name of an export that is given none, without its ending."""
        parts = (name, padding or "same", self.input, self.output, self.precision)
        return ".".join(part for part in parts if part not in ("same", "fp32", *self.usual))


def _check_places(
    out: Path | None, triton: Path | None, deepstream: Path | None, size: str | None, precision: str
) -> None:
    if out and (triton or deepstream):
        raise UsageError(f"--{'triton' if triton else 'deepstream'} names the folder, so drop --out.")
    if size and not deepstream and precision != "int8":
        raise UsageError("a file takes any size, so --size goes with --deepstream and --precision int8 alone.")
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
    int8: _Int8 | None,
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
        float32 = temporary[path].with_suffix(".fp32") if int8 else temporary[path]
        exported = export(network, spec, float32, _photos(), probabilities=form.output == "probabilities")
        if int8:
            exported = int8.write(exported, temporary[path], path, size)
        texts = beside(exported.spec)
        for place, text in texts.items():
            with sink_errors(place):
                temporary[place].write_text(text, encoding="utf-8")
    return replace(exported, path=path), list(texts)


@dataclass
class _Int8:
    """How a float32 file becomes an int8 one; `document` is what became of it, for JSON."""

    wanted: Wanted
    calibration: Calibration
    cache: Path
    document: dict[str, Any] = field(default_factory=dict[str, Any])

    def write(self, float32: Exported, out: Path, named: Path, size: int | tuple[int, int] | None) -> Exported:
        """`float32`, which goes, in int8 at `out`; with a budget, its plot beside `named`, where `out` will be."""
        from fcn_edge.cli import quantise
        from fcn_edge.onnx_export import Exported

        quantise.warn_of_size(float32.spec, size)
        try:
            made, budget = quantise.write(float32.path, out, self.wanted, self.calibration, size, _photos(), self.cache)
        finally:
            float32.path.unlink(missing_ok=True)
        quantise.tell(made, float32.megabytes, budget, named)
        self.document = {"layers": made.layers, "budget": None if budget is None else budget.document()}
        return Exported(out, made.spec, made.nodes, made.megabytes, made.parity)


def _tell(exported: Exported, serving: list[Path]) -> None:
    reference = "the float32 file" if exported.spec.precision == "int8" else "PyTorch"
    for parity in exported.parity:
        of = "" if parity.part == 1 else f" of the {parity.part:.0%} that differ least"
        common.say(
            f"  {parity.size[0]}x{parity.size[1]}: {parity.label_agreement:.4%} of the labels as in {reference}, "
            f"largest score difference{of} {parity.largest_difference:.2g}"
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
