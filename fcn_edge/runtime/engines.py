"""The engine for an ONNX file: found among those that were built, or built.

An engine of other shapes than the default ones, which `fcn-edge build` made, serves as well as one that `run` built by
itself, so the key's profiles are not asked for to the letter: what counts is the file, the machine, and whether the
profiles take what this run will need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fcn_edge.engine import builder, sidecar
from fcn_edge.engine.cache import engines_folder, make_key, stale
from fcn_edge.engine.inspection import check_achieved, inspect
from fcn_edge.engine.machine import Machine, find_gpu, this_machine
from fcn_edge.engine.profiles import Options, Shape, device_for, load_device, static_profiles
from fcn_edge.engine.progress import Progress
from fcn_edge.engine.sidecar import Achieved, Sidecar
from fcn_edge.engine.versions import Trt
from fcn_edge.errors import BackendError, FcnEdgeError, ModelError
from fcn_edge.files import sha256
from fcn_edge.folders import project_folder
from fcn_edge.spec import ModelSpec

log = logging.getLogger(__name__)


def check_product(path: Path, product: str) -> None:
    """Raises ModelError for a plan without a sidecar or of another product: told before what is missing here."""
    if path.suffix == ".plan" and (made_by := sidecar.read(path).key.product) != product:
        raise ModelError(f"{path} is an engine of {made_by}, not of {product}. Run it with --backend {made_by}.")


def obtain(
    path: Path,
    spec: ModelSpec,
    trt: Trt,
    machine: Machine,
    shapes: Sequence[Shape],
    progress: Progress | None,
    check: Callable[[], None],
) -> tuple[Path, Sidecar]:
    """The plan that runs `path`, which is it or is found or built, and what it says of itself.

    check: raises where something is missing that running it needs; asked before a build, which takes minutes.
    Raises as `sidecar.check`, `builder.build` and `check` do, and BackendError without a GPU.
    """
    if path.suffix == ".plan":
        papers = sidecar.read(path)
        sidecar.check(papers, machine, path)
        return path, papers
    product = machine.product
    if machine.gpu is None:
        raise no_gpu(product)
    found = find(path, machine, shapes)
    if found is not None:
        return found
    if not shapes:
        raise BackendError(
            f"{path} has no engine for this machine yet, and which sizes its frames will have is not known. Name them: "
            f"fcn-edge build {path} --backend {product} --shapes 720x1280"
        )
    check()
    profiles = static_profiles(shapes)
    device = device_for(machine)  # as `fcn-edge build` takes it too, so that both build the same engine
    options = builder.settle(trt, machine, Options() if device is None else load_device(device).options)
    why = stale(engines_folder(), path.stem, make_key(path, machine, profiles, options)) or "there is none yet"
    sizes = ", ".join(map(str, profiles))
    log.warning("Building an engine of %s for %s, which may take minutes: %s.", path, sizes, why)
    try:
        built = builder.build(path, spec, product, profiles, engines_folder(), options, progress)
    except OSError as error:
        raise BackendError(
            f"The engine cannot be kept in {engines_folder()}: {error.strerror}. Make room for it there, or "
            "name another place in XDG_CACHE_HOME."
        ) from error
    return built.path, built.sidecar


def no_gpu(product: str) -> BackendError:
    return BackendError(f"{product} needs an NVIDIA GPU, and CUDA shows none here. Look with fcn-edge doctor.")


def lacking(path: Path, product: str, installed: bool, shapes: Sequence[Shape]) -> str | None:
    """Why `auto` leaves `path` to others: a line, or "" where nobody need know; None where an engine fits."""
    if path.suffix == ".plan":
        return None if sidecar.read(path).key.product == product else ""
    if not installed or find_gpu() is None:
        return ""
    machine = this_machine(product)
    if find(path, machine, shapes) is not None:
        return None
    return f"{product} has no engine of {path} for this machine: fcn-edge build {path} --backend {product}"


def find(path: Path, machine: Machine, shapes: Sequence[Shape]) -> tuple[Path, Sidecar] | None:
    """The newest engine of the ONNX file `path` that `machine` can load and that takes all of `shapes`."""
    content = ""
    for folder in (engines_folder(project_folder()), engines_folder()):
        for plan in _newest_first(folder):
            try:
                papers = sidecar.read(plan)
                content = content or sha256(path)  # half a gigabyte at most, and not where there is nothing to find
                if papers.key.onnx == content and papers.key.product == machine.product and _serves(papers, shapes):
                    sidecar.check(papers, machine, plan)
                    return plan, papers
            except (FcnEdgeError, OSError):
                continue  # another machine's, or damaged: it is as if it were not there
    return None


def note_achieved(plan: Path, papers: Sidecar, trt: Trt, engine: Any) -> None:
    """Add to the sidecar of an engine that was built ahead of time what only its first load could tell.

    Raises ModelError where that is not the precision that its file asks for.
    """
    if papers.precision.achieved is not None or papers.activation_bytes is not None:
        return
    achieved = inspect(trt, engine)
    if achieved:
        check_achieved(plan, papers.precision.network, achieved, len(papers.profiles))
    reason = None if achieved else "the inspector names no types"
    precision = Achieved(network=papers.precision.network, achieved=achieved or None, reason=reason)
    noted = msgspec.structs.replace(papers, precision=precision, activation_bytes=trt.activation_bytes(engine))
    with suppress(OSError):  # a folder that cannot be written to: the next load looks again
        sidecar.write(plan, noted)


def _serves(papers: Sidecar, shapes: Sequence[Shape]) -> bool:
    return all(any(profile.takes(shape) for profile in papers.profiles) for shape in shapes)


def _newest_first(folder: Path) -> list[Path]:
    dated: list[tuple[float, Path]] = []
    for plan in folder.glob("*.plan"):
        with suppress(OSError):  # it was deleted meanwhile
            dated.append((plan.stat().st_mtime, plan))
    return [plan for _, plan in sorted(dated, reverse=True)]
