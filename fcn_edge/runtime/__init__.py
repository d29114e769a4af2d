"""The backends, found by name. A new one is a file in this folder and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fcn_edge.errors import BackendError, FcnEdgeError, ModelError, unknown
from fcn_edge.runtime.files import int8_form
from fcn_edge.runtime.protocol import Backend
from fcn_edge.spec import ModelSpec

Size = tuple[int, int]  # rows, columns
Progress = Callable[[float, str], None]

BACKENDS = {  # for each kind of file the fastest first, as benchmarks/latency.py measures
    "tensorrt": "fcn_edge.runtime.tensorrt:TensorRt",
    "tensorrt-rtx": "fcn_edge.runtime.tensorrt:TensorRtRtx",
    "openvino": "fcn_edge.runtime.openvino:OpenVino",
    "onnxruntime": "fcn_edge.runtime.onnxruntime:OnnxRuntime",
    "litert": "fcn_edge.runtime.litert:LiteRt",
    "torch": "fcn_edge.runtime.torch:Torch",
}
SERVERS = {  # which compute elsewhere what is asked for by name, and are no choice of `auto`
    "triton": "fcn_edge.runtime.triton:Triton",
}
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


def names() -> list[str]:
    """What `backend` may be."""
    return ["auto", *BACKENDS, *SERVERS]


def backend_class(name: str) -> Any:
    """The class behind a name; its library is not loaded. Raises UsageError for a name that is not listed.

    Beside the protocol it has `library` and `distribution` (the module it needs and the package that brings
    it), `install` (the line that installs it), `suffixes` (of the files that it runs), `precisions()` and `compiles`
    (whether it builds for minutes what it runs: then `lacking()` says why `auto` does not take it for a file; else
    `gains_from_int8()` whether an int8 file is faster on this machine than the float one).
    """
    known = {**BACKENDS, **SERVERS}
    if name not in known:
        raise unknown("backend", name, names())
    module, attribute = known[name].split(":")
    return getattr(import_module(module), attribute)


def is_installed(name: str) -> bool:
    """Whether the backend's library is there; it is not loaded, so it may still turn out to be broken."""
    package = backend_class(name).library.partition(".")[0]
    return find_spec(package) is not None


def installed() -> list[str]:
    """The backends whose library is there."""
    return [name for name in BACKENDS if is_installed(name)]


def fastest_form(path: Path, backend: str, precision: str | None, shapes: Sequence[Size] = ()) -> Path:
    """The file of a bundled model that its backend runs fastest: the int8 form where that gains; any other as it is.

    PyTorch's is the checkpoint beside it.
    Arguments as `open_backend` takes them. An engine that was built of the float file goes before its int8 form.
    """
    if backend != "auto" and path.suffix not in backend_class(backend).suffixes:
        checkpoint = path.with_suffix(".safetensors")
        return checkpoint if checkpoint.is_file() else path
    int8 = int8_form(path)
    if int8 is None or precision not in (None, "int8"):
        return path
    if precision == "int8":
        return int8
    for name in BACKENDS if backend == "auto" else [backend]:
        kind = backend_class(name)
        if path.suffix not in kind.suffixes or not is_installed(name):
            continue
        if not kind.compiles:
            return int8 if kind.gains_from_int8() else path
        if backend != "auto" or kind.lacking(path, True, shapes) is None:
            return path
    return path


def open_backend(
    path: Path,
    spec: ModelSpec,
    backend: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    shapes: Sequence[Size] = (),
    progress: Progress | None = None,
) -> tuple[Backend, str]:
    """The backend that runs the file, and the line that says why it is this one.

    shapes:   (h, w) of the network that will be asked for, for backends that build for them; others take any.
    progress: called with a share from 0 to 1 and a phase where something is built, which may take minutes.

    Raises UsageError for an unknown backend or precision, BackendError where it is not installed or cannot
    do what was asked, ModelError where the file is broken or of a kind that nothing here runs.
    """
    if precision is not None and precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if threads is not None and threads < 1:
        raise BackendError(f"{threads} threads were asked for; at least 1 is needed.")
    building = (shapes, progress)
    if backend != "auto":
        kind = backend_class(backend)
        if backend not in SERVERS:
            _check_suffix(path, kind.suffixes, backend)
        opened = kind(path, spec, precision, threads, *(building if kind.compiles else ()))
        return opened, f"{backend}: asked for"
    return _fastest(path, spec, precision, threads, building)


def _fastest(
    path: Path,
    spec: ModelSpec,
    precision: str | None,
    threads: int | None,
    building: tuple[Sequence[Size], Progress | None],
) -> tuple[Backend, str]:
    candidates = [name for name in BACKENDS if path.suffix in backend_class(name).suffixes]
    if not candidates:
        _check_suffix(path, sorted({s for name in BACKENDS for s in backend_class(name).suffixes}), "fcn-edge")
    passed_over: list[FcnEdgeError] = []
    for name in candidates:
        kind = backend_class(name)
        try:
            if kind.compiles and (lacking := kind.lacking(path, is_installed(name), building[0])) is not None:
                if not lacking:
                    continue
                raise BackendError(lacking)
            if not is_installed(name):
                raise BackendError(f"{name} is not installed: {kind.install}.")
            opened = kind(path, spec, precision, threads, *(building if kind.compiles else ()))
        except (BackendError, ModelError) as error:
            passed_over.append(error)
            continue
        reason = f"{name}: the fastest here for {path.suffix} files"
        return opened, "; passed over: ".join([reason, *(str(error).rstrip(".") for error in passed_over)])
    broken = all(isinstance(error, ModelError) for error in passed_over)
    lines = dict.fromkeys(str(error) for error in passed_over)  # what is the file's fault, each backend says alike
    raise (ModelError if broken else BackendError)(" ".join(lines))


def _check_suffix(path: Path, suffixes: list[str] | tuple[str, ...], who: str) -> None:
    if path.suffix not in suffixes:
        raise ModelError(f"{path}: {who} runs files that end in {', '.join(suffixes)}.")
