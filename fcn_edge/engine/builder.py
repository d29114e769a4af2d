"""An ONNX file to a plan and its sidecar.

Precision is the file's: networks are strongly typed, and what was asked for is counted on the network before the build
and on the engine after it. TensorRT-RTX builds ahead of time for GPUs that are not here; TensorRT for the one that is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from fcn_edge import __version__
from fcn_edge.engine import cache, complaints, dla, sidecar
from fcn_edge.engine.inspection import check_achieved, check_asked, check_pools, count_types, inspect
from fcn_edge.engine.machine import Gpu, Machine, targets, this_machine
from fcn_edge.engine.profiles import Options, Profile, check_options, check_profiles, input_shape
from fcn_edge.engine.progress import Progress, interruptible, monitor
from fcn_edge.engine.sidecar import Achieved, Sidecar
from fcn_edge.engine.versions import Trt, load
from fcn_edge.errors import BackendError, ModelError, UsageError
from fcn_edge.files import replacing, sha256
from fcn_edge.folders import cache_folder
from fcn_edge.spec import ModelSpec

if TYPE_CHECKING:
    import tensorrt


@dataclass(frozen=True)
class Built:
    """A plan that is there."""

    path: Path
    sidecar: Sidecar
    cached: bool  # it was there already
    reason: str  # why it was built although an engine of this name is there: the difference; "" where none is
    fallen_back: tuple[str, ...] = ()  # layers that a DLA left to the GPU


@dataclass(frozen=True)
class _Plan:
    """What came out of the builder."""

    memory: Any  # buffer
    precision: Achieved
    activation_bytes: int | None
    fallen_back: tuple[str, ...]


def build(
    onnx: Path,
    spec: ModelSpec,
    product: str,
    profiles: Sequence[Profile],
    out: Path,
    options: Options | None = None,
    progress: Progress | None = None,
    force: bool = False,
    rebuild: str | None = None,
) -> Built:
    """The engine of an ONNX file, from the folder `out` where it lies there already, else built into it.

    spec:    what the file says of itself.
    force:   build even where it is there.
    rebuild: the command line that builds it again, for the sidecar; None: one with the product and the shapes.
    A KeyboardInterrupt cancels the build at TensorRT's next step and is raised then; nothing is left behind.
    Raises BackendError without TensorRT or a GPU that it needs, ModelError for a file that is refused or whose
    precision is not kept, UsageError for profiles and options that cannot be, OSError where `out` cannot be written.
    """
    trt = load(product)
    machine = this_machine(product)
    check_profiles(spec, profiles)
    options = settle(trt, machine, options or Options())
    key = cache.make_key(onnx, machine, profiles, options)
    found = None if force else cache.find(out, key)
    if found is not None:
        return Built(found, sidecar.read(found), True, "")
    reason = cache.stale(out, onnx.stem, key)
    out.mkdir(parents=True, exist_ok=True)
    path = out / cache.plan_name(onnx.stem, key)
    start = time.monotonic()
    with replacing(path) as temporary:
        temporary.touch()  # where this cannot be done, better now than after the build
        plan = interruptible(lambda cancelled: _build(trt, machine, onnx, spec, profiles, options, progress, cancelled))
        temporary.write_bytes(plan.memory)
        written = Sidecar(
            fcn_edge=__version__,
            spec=spec,
            source=str(onnx),
            rebuild=rebuild or command_line(onnx, product, profiles),
            key=key,
            precision=plan.precision,
            built=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(time.monotonic() - start, 3),
            bytes=temporary.stat().st_size,
            sha256=sha256(temporary),
            activation_bytes=plan.activation_bytes,
        )
    try:
        sidecar.write(path, written)
    except BaseException:
        path.unlink(missing_ok=True)  # without its sidecar it is of no use
        raise
    return Built(path, written, False, reason, plan.fallen_back)


def settle(trt: Trt, machine: Machine, options: Options) -> Options:
    """The options as this TensorRT takes them on this machine: TensorRT-RTX's targets are named.

    Raises UsageError for a target that it does not know, BackendError for what it cannot do, with the reason.
    """
    check_options(options, "these options")
    level = options.hardware_compatible
    if trt.is_rtx:
        if level or options.version_compatible:
            raise BackendError(
                "TensorRT-RTX has no hardware or version compatibility: its engines serve all GPUs of their targets. "
                "Name those with --targets, and build again for another version."
            )
        return replace(options, targets=targets(trt.targets, options.targets, machine.gpu))
    if options.targets:
        raise BackendError(
            "TensorRT builds for the GPU that it finds: --targets is TensorRT-RTX's. Take --backend tensorrt-rtx, or "
            "--hardware-compatible."
        )
    if level and machine.l4t:
        raise BackendError("JetPack's TensorRT has no hardware compatibility. Build on each board, without it.")
    if level and level not in trt.hardware_levels:
        raise BackendError(
            f"TensorRT {machine.version} does not know {level}. It knows: {', '.join(trt.hardware_levels) or 'none'}."
        )
    return options


def command_line(onnx: Path, product: str, profiles: Sequence[Profile]) -> str:
    """The command that builds an engine of these shapes again."""
    shapes = ",".join("x".join(map(str, profile.opt)) for profile in profiles)
    if not all(profile.static for profile in profiles):
        ends = (f"--{name} {'x'.join(map(str, getattr(profiles[0], name)))}" for name in ("min", "opt", "max"))
        return f"fcn-edge build {onnx} --backend {product} {' '.join(ends)}"
    return f"fcn-edge build {onnx} --backend {product} --shapes {shapes}"


def device_cache(kind: str, machine: Machine) -> Path:
    """The file in the user's cache for what TensorRT learns of one GPU and keeps between builds or runs.

    kind: "timing", measured tactics, or "runtime", kernels that TensorRT-RTX compiled. Per version and device.
    """
    gpu = machine.gpu
    device = "none" if gpu is None else f"{gpu.name}-{gpu.compute_capability}-{gpu.sm_count}"
    board = f"-{machine.board}-{machine.l4t}" if machine.board or machine.l4t else ""
    name = re.sub(r"[^\w.-]+", "_", f"{machine.product}-{machine.version}-{device}{board}")
    return cache_folder() / kind / f"{name}.cache"


def _build(
    trt: Trt,
    machine: Machine,
    onnx: Path,
    spec: ModelSpec,
    profiles: Sequence[Profile],
    options: Options,
    progress: Progress | None,
    cancelled: Event,
) -> _Plan:
    """The plan's bytes, and what was counted on the way."""
    with trt.listening() as lines:
        try:
            builder = trt.api.Builder(trt.logger)
        except TypeError as error:  # pybind's word for the null that comes where driver or GPU are missing
            raise complaints.no_builder(trt, lines) from error
        network = builder.create_network(trt.network_flags)
        parser = trt.api.OnnxParser(network, trt.logger)  # it owns the weights: it has to outlive the build
        _parse(trt, parser, network, onnx)
        counted = count_types(trt, network)
        check_asked(onnx, spec, counted)
        check_pools(onnx, trt, network)
        config = builder.create_builder_config()
        _configure(trt, config, options)
        trt.allow_types(config, counted)
        _add_profiles(onnx, spec, builder, network, config, profiles)
        fallen_back: list[str] = []
        if options.dla_core is not None:
            dla.check_dla(trt, machine, options.dla_core, profiles, counted)
            fallen_back = dla.place(trt, network, config, options.dla_core)
        watcher = monitor(trt, progress, cancelled) if trt.has_progress else None  # has to outlive the build
        if watcher is not None:
            config.progress_monitor = watcher
        with _timing_cache(trt, machine, config):
            memory: Any = builder.build_serialized_network(network, config)
        if cancelled.is_set():
            raise BackendError(f"{onnx}: the build was cancelled.")
        if memory is None:
            raise complaints.failed(onnx, trt, lines)
        precision, activation = _look_inside(trt, machine, onnx, memory, counted, options)
        del watcher, parser
        return _Plan(memory, precision, activation, tuple(fallen_back))


def _parse(trt: Trt, parser: Any, network: tensorrt.INetworkDefinition, onnx: Path) -> None:
    if not parser.parse_from_file(str(onnx)):
        raise complaints.refused(onnx, trt, trt.parser_complaints(parser))
    if network.num_inputs != 1 or network.num_outputs < 1:  # text that is no ONNX is parsed without an error
        raise ModelError(
            f"{onnx} has {network.num_inputs} inputs and {network.num_outputs} outputs; fcn-edge builds files with one "
            "input, the frame. Export it anew, or correct it."
        )


def _configure(trt: Trt, config: tensorrt.IBuilderConfig, options: Options) -> None:
    api = trt.api
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED  # else the inspector tells no types
    if options.workspace is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if not options.tf32:
        config.clear_flag(api.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible is not None:
        config.hardware_compatibility_level = trt.hardware_levels[options.hardware_compatible]
    if options.targets:
        trt.set_targets(config, options.targets)


def _add_profiles(
    onnx: Path,
    spec: ModelSpec,
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    config: tensorrt.IBuilderConfig,
    profiles: Sequence[Profile],
) -> None:
    frame: Any = network.get_input(0)  # the stubs know of no tuples where shapes are meant
    fixed = tuple(frame.shape)
    for profile in profiles:
        shapes = [
            input_shape(spec, batch, shape)
            for batch, shape in zip(profile.batch, (profile.min, profile.opt, profile.max), strict=True)
        ]
        for shape in shapes:
            if len(shape) != len(fixed) or any(
                side not in (-1, asked) for side, asked in zip(fixed, shape, strict=True)
            ):
                taken = "x".join("any" if side == -1 else str(side) for side in fixed)
                raise UsageError(
                    f"{onnx} takes frames of {taken}, not of {'x'.join(map(str, shape))}. Name shapes that it takes "
                    "(--shapes 288x512), correct input.layout in its spec, or export it with free sides."
                )
        added: Any = builder.create_optimization_profile()
        added.set_shape(frame.name, *shapes)
        config.add_optimization_profile(added)


@contextmanager
def _timing_cache(trt: Trt, machine: Machine, config: Any) -> Generator[None, None, None]:
    """Within it the build reads what earlier ones measured on this GPU; afterwards its own is kept with it."""
    if not trt.has_timing_cache:
        yield
        return
    path = device_cache("timing", machine)
    known = b""
    with suppress(OSError):
        known = path.read_bytes()
    measured = config.create_timing_cache(known)
    if measured is None or not config.set_timing_cache(measured, False):  # of another version or GPU after all
        measured = config.create_timing_cache(b"")
        config.set_timing_cache(measured, False)
    yield
    measured = config.get_timing_cache()
    if measured is not None:
        with suppress(OSError):  # a cache that cannot be kept costs time the next time, and nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(measured.serialize())


def _look_inside(
    trt: Trt, machine: Machine, onnx: Path, memory: Any, counted: dict[str, int], options: Options
) -> tuple[Achieved, int | None]:
    """What the engine computes in and the device memory it takes, where it can be loaded here.

    Raises ModelError where that is not what the file asks for.
    """
    reason = _why_not_here(machine.gpu, options)
    if reason:
        return Achieved(network=counted, reason=reason), None
    with trt.listening() as lines:
        engine = _loaded(trt, memory, options)
    if engine is None:  # the plan is as good as one built ahead of time, for a driver that serves it
        why = complaints.clean(lines[-1][1]) if lines else ""
        return Achieved(network=counted, reason=f"it could not be loaded here: {why or 'no reason was given'}"), None
    achieved = inspect(trt, engine)
    if not achieved:
        return Achieved(network=counted, reason="the inspector names no types"), trt.activation_bytes(engine)
    check_achieved(onnx, counted, achieved, engine.num_optimization_profiles)
    return Achieved(network=counted, achieved=achieved), trt.activation_bytes(engine)


def _loaded(trt: Trt, memory: Any, options: Options) -> Any:
    """The engine that was just built; None where this machine's driver does not serve it."""
    try:
        runtime: Any = trt.api.Runtime(trt.logger)
    except TypeError:  # pybind's word for the null that comes where driver or GPU do not serve it
        return None
    if options.version_compatible:
        runtime.engine_host_code_allowed = True  # the lean runtime inside the plan
    return runtime.deserialize_cuda_engine(memory)


def _why_not_here(gpu: Gpu | None, options: Options) -> str:
    if gpu is None:
        return "built ahead of time: CUDA shows no GPU here"
    if options.targets and gpu.compute_capability not in options.targets:
        return f"built for other GPUs than this one ({gpu.compute_capability})"
    return ""
