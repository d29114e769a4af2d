"""What was measured so far, kept by content under `.bench` of the report's folder, so that nothing is measured twice.

A folder is one artefact as one backend runs it here: the hash of the file, of its description, of what it is computed
in, of this machine and of every version that decides about speed or labels. A part of it is a file that appears when it
is whole; one that cannot be read counts as not there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fcn_edge import __version__, opencv
from fcn_edge.engine.machine import find_gpu
from fcn_edge.files import replacing, sha256
from fcn_edge.runtime import backend_class
from fcn_edge.runtime.host import cpu_info, physical_cores

FOLDER = ".bench"
DIGITS = 16
DECIDING = ("numpy", "numba", *opencv.WHEELS)  # distributions, beside the backend's own

T = TypeVar("T")


class Store:
    """The parts of all cells of one report's folder. Raises OSError where they cannot be written."""

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER

    @property
    def root(self) -> Kept:
        """What belongs to no cell."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Kept(self.folder)

    def machine(self) -> Kept:
        """What belongs to this machine alone."""
        return self.cell({"machine": _machine(), "versions": _versions("openvino")})

    def cell(self, identity: Mapping[str, Any]) -> Kept:
        """The parts of what `identity` describes."""
        text = msgspec.json.encode(identity, order="deterministic")
        folder = self.folder / hashlib.sha256(text).hexdigest()[:DIGITS]
        if not (folder / "identity.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / "identity.json", identity)  # for people: what the folder's name stands for
        return Kept(folder)


class Kept:
    """The parts of one cell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, part: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.folder / f"{part}.json").read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError):
            return None

    def put(self, part: str, value: Any) -> None:
        _write(self.folder / f"{part}.json", value)

    def drop(self, part: str) -> None:
        (self.folder / f"{part}.json").unlink(missing_ok=True)

    def forget(self) -> None:
        """Every part, so that all is measured anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)


def identity(
    path: Path,
    backend: str,
    precision: str,
    size: object,
    resize: str | None,
    spec: Path | None,
    threads: int | None,
    refine: str | None = None,
) -> dict[str, Any]:
    """Everything that decides how fast a candidate is and which labels it gives. Raises OSError."""
    return {
        **({"refine": refine} if refine else {}),  # what was measured before there were back ends stays known
        "artefact": sha256(path),
        "spec": None if spec is None else sha256(spec),
        "backend": backend,
        "precision": precision,
        "size": size,
        "resize": resize,
        "threads": threads,
        "versions": {"fcn-edge": __version__, **_versions(backend)},
        "machine": _machine(),
    }


@lru_cache
def _versions(backend: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in (backend_class(backend).distribution, *DECIDING):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache
def _machine() -> dict[str, Any]:
    info, gpu = cpu_info(), find_gpu()
    flags = info.get("flags") or info.get("Features") or ""
    return {
        "cpu": info.get("model name", ""),
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:DIGITS],
        "cores": physical_cores(),
        "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": None if gpu is None else f"{gpu.name}, driver {gpu.driver}",
    }


def _write(path: Path, value: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.encode(value))
