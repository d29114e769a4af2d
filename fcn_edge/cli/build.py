"""`fcn-edge build`: an ONNX file to a TensorRT engine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_edge.cli import common
from fcn_edge.errors import UsageError

if TYPE_CHECKING:
    from fcn_edge.engine.builder import Built
    from fcn_edge.engine.profiles import Device, Options, Profile, Shape
    from fcn_edge.spec import ModelSpec

EPILOG = common.examples(
    "fcn-edge build --backend tensorrt-rtx --shapes 288x512",
    "fcn-edge build export/fcn8s-lite.onnx --profile rtx-desktop --min 64x64 --opt 288x512 --max 512x512 --json",
)

Model = Annotated[str, typer.Argument(metavar="MODEL.onnx", help="An ONNX file, or a bundled name.")]
Backend = Annotated[
    str, typer.Option("--backend", help="tensorrt, for this GPU; tensorrt-rtx, for RTX cards; auto: what is here.")
]
DeviceProfile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="orin-nano, orin-nx, agx-orin, thor, rtx-desktop, data-centre, or a TOML file like theirs; else the one "
        "that is written for this machine.",
    ),
]
Shapes = Annotated[
    str | None,
    typer.Option("--shapes", help="Network sizes, as in 288x512,384x512: a static profile each; else 16:9, 4:3, 1:1."),
]
Least = Annotated[str | None, typer.Option("--min", help="Instead one dynamic profile: its smallest size, HxW.")]
Best = Annotated[str | None, typer.Option("--opt", help="The size that it is tuned for.")]
Most = Annotated[str | None, typer.Option("--max", help="Its largest size, which its memory follows.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the engine; the project's engines/ where absent.")]
Workspace = Annotated[int | None, typer.Option("--workspace", help="MiB of scratch memory that a layer may take.")]
Level = Annotated[int | None, typer.Option("--level", help="Builder optimisation level, 0 to 5; TensorRT's own is 3.")]
Targets = Annotated[
    str | None, typer.Option("--targets", help="TensorRT-RTX: compute capabilities, as in 8.6,8.9; else 8.0 and later.")
]
DlaCore = Annotated[int | None, typer.Option("--dla-core", help="Orin's accelerator, 0 or 1, where it can serve.")]
Hardware = Annotated[
    str | None, typer.Option("--hardware-compatible", help="ampere_plus or same_compute_capability; may cost speed.")
]
Versions = Annotated[
    bool, typer.Option("--version-compatible", help="Loads in newer TensorRT too; larger, and costs speed.")
]
Tf32 = Annotated[bool, typer.Option("--tf32", help="Float32 products in TF32: faster, with 10 bits of mantissa.")]


def register(app: typer.Typer) -> None:
    app.command("build", epilog=EPILOG)(command)


def command(
    model: Model = common.DEFAULT_MODEL,
    backend: Backend = "auto",
    profile: DeviceProfile = None,
    shapes: Shapes = None,
    least: Least = None,
    best: Best = None,
    most: Most = None,
    out: Out = None,
    workspace: Workspace = None,
    level: Level = None,
    targets: Targets = None,
    dla_core: DlaCore = None,
    hardware_compatible: Hardware = None,
    version_compatible: Versions = False,
    tf32: Tf32 = False,
    spec: common.SpecFile = None,
    project: common.Project = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Build a TensorRT engine, with a sidecar that says what it is.

    Precision is the file's own: fcn-edge export --precision. An engine that is there already is not built again.
    Ctrl-C cancels a build.
    """
    from fcn_edge.engine import profiles
    from fcn_edge.engine.builder import build
    from fcn_edge.engine.cache import engines_folder
    from fcn_edge.engine.machine import this_machine
    from fcn_edge.folders import project_folder
    from fcn_edge.runtime.files import find, read_spec
    from fcn_edge.spec import from_toml
    from fcn_edge.video.writing import sink_errors

    device = None if profile is None else profiles.load_device(profile)
    path = find(model)
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: fcn-edge build takes ONNX files. Make one: fcn-edge export")
    described = read_spec(path) if spec is None else from_toml(spec)
    product = _product(backend, device)
    if profile is None and (profile := profiles.device_for(this_machine(product))) is not None:
        device = profiles.load_device(profile)
        common.say(f"device profile {profile}, {device.about}: taken for this machine; --profile names another")
    given: dict[str, Any] = {
        "workspace": None if workspace is None else workspace * profiles.MIB,
        "level": level,
        "dla_core": dla_core,
        "hardware_compatible": hardware_compatible,
        "targets": None if targets is None else tuple(part.strip() for part in targets.split(",")),
        "version_compatible": version_compatible or None,
        "tf32": tf32 or None,
    }
    options = _overridden(device, given)
    wanted = _profiles(described, device, shapes, (least, best, most))
    folder = out or engines_folder(project_folder(project))
    for line in _costs(options):
        common.say(line)
    common.say(f"{path}: {len(wanted)} profile{'s' * (len(wanted) > 1)}, {'; '.join(map(str, wanted))}")
    with sink_errors(folder), common.bar(1000, "Building") as show:
        built = build(
            path,
            described,
            product,
            wanted,
            folder,
            options,
            lambda share, phase: show(round(1000 * share), phase),
            force,
            shlex.join(
                [
                    "fcn-edge",
                    *(argument for argument in sys.argv[1:] if argument not in ("--json", "--force", "--debug")),
                ]
            ),
        )
    _report(built, device, json)


def _overridden(device: Device | None, given: dict[str, Any]) -> Options:
    """The device profile's options, and over them those of the command line."""
    from dataclasses import replace

    from fcn_edge.engine.profiles import Options, check_options

    options = replace(
        Options() if device is None else device.options, **{k: v for k, v in given.items() if v is not None}
    )
    check_options(options, "the command line")
    return options


def _product(backend: str, device: Device | None) -> str:
    """The TensorRT to build with: as asked for, the device profile's, or what is here."""
    from fcn_edge.engine.machine import find_gpu
    from fcn_edge.engine.versions import PRODUCTS, load
    from fcn_edge.errors import BackendError, unknown

    if backend != "auto":
        if backend not in PRODUCTS:
            raise unknown("backend that builds engines", backend, ("auto", *PRODUCTS))
        if device is not None and device.backend != backend:
            raise UsageError(f"that profile is for --backend {device.backend}, not {backend}. Drop one of them.")
        return backend
    if device is not None:
        return device.backend
    problems: list[str] = []
    for product in PRODUCTS if find_gpu() else reversed(PRODUCTS):  # without a GPU only TensorRT-RTX builds
        try:
            load(product)
            return product
        except BackendError as error:
            problems.append(str(error))
    raise BackendError(" Or ".join(problems))


def _profiles(
    spec: ModelSpec, device: Device | None, shapes: str | None, ends: tuple[str | None, str | None, str | None]
) -> list[Profile]:
    """The optimisation profiles that the command line, else the device profile, else the default names."""
    from fcn_edge.engine.profiles import Profile, default_profiles, static_profiles

    batch = (1, 1, 1) if device is None else device.batch
    if any(ends):
        if shapes is not None or not all(ends):
            raise UsageError("--min, --opt and --max go together and without --shapes: they are one dynamic profile.")
        least, best, most = (_shape(spec, text) for text in ends if text)
        return [Profile(least, best, most, batch)]
    named = shapes.split(",") if shapes is not None else list(device.shapes) if device else []
    if named:
        return static_profiles((_shape(spec, text) for text in named), batch)
    return default_profiles(spec, batch)


def _shape(spec: ModelSpec, text: str) -> Shape:
    """The network size that the spec's sides allow nearest to "288x512"; it is said where that is another."""
    from fcn_edge.engine.profiles import allowed, sides_told

    parts = text.strip().lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{text or repr(text)} is no network size. Give rows by columns, as in 288x512.")
    size = int(parts[0]), int(parts[1])
    near = allowed(spec, size)
    if near != size:
        common.say(f"{size[0]}x{size[1]} becomes {near[0]}x{near[1]}: {spec.name} takes sides of {sides_told(spec)}")
    return near


def _costs(options: Options) -> list[str]:
    """What the options cost that buy something else than speed."""
    from fcn_edge.engine.profiles import COSTS

    asked = [options.hardware_compatible, "version_compatible" * options.version_compatible, "tf32" * options.tf32]
    return [f"{name}: {COSTS[name]}" for name in asked if name in COSTS]


def _report(built: Built, device: Device | None, json: bool) -> None:
    sidecar = built.sidecar
    if json:
        common.print_json(
            {
                "path": str(built.path),
                "cached": built.cached,
                "reason": built.reason,
                "fallen_back": built.fallen_back,
                "sidecar": sidecar,
            }
        )
    tell = common.say if json else print
    precision = sidecar.precision
    counted = precision.network if precision.achieved is None else precision.achieved
    layers = " and ".join(f"{count} layers in {name}" for name, count in counted.items())
    whose = f"of the network; {precision.reason}" if precision.achieved is None else "of the engine, by its inspector"
    megabytes = f"{sidecar.bytes / 1e6:.1f} MB"
    if built.cached:
        tell(f"{built.path}: there already, {megabytes}. --force builds it again.")
    else:
        why = f" ({built.reason})" if built.reason else ""
        tell(f"{built.path}: {megabytes} in {sidecar.seconds:.1f} s{why}")
    tell(f"  {layers}: {whose}")
    if sidecar.activation_bytes is not None:
        tell(f"  {sidecar.activation_bytes / 1e6:.1f} MB of device memory while it runs")
    if built.fallen_back:
        tell(f"  {len(built.fallen_back)} layers fall back from the DLA to the GPU: {', '.join(built.fallen_back)}")
    if device is not None and device.power:
        tell(f"  before you measure: {device.power}")
