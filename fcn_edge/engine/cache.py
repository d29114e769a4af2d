"""Engines kept by content: the same ONNX file, TensorRT, GPU, profiles and options, and nothing is built again.

An engine is named NAME.KEY8.plan, NAME being its ONNX file's and KEY8 the first digits of its key's hash, so that
engines of several GPUs and versions lie side by side, and a folder tells which belong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Any

import msgspec

from fcn_edge.engine.key import Key as Key
from fcn_edge.engine.key import difference as difference
from fcn_edge.engine.key import make_key as make_key
from fcn_edge.engine.sidecar import Sidecar, check_whole, read, sidecar_path
from fcn_edge.errors import ModelError, SpecError
from fcn_edge.folders import cache_folder

DIGITS = 8


def engines_folder(project: Path | None = None) -> Path:
    """`engines/` of the project folder, or `~/.cache/fcn-edge/engines` where None: what `run` builds by itself."""
    return (cache_folder() if project is None else project) / "engines"


def plan_name(name: str, key: Key) -> str:
    """`NAME.KEY8.plan`; name: the ONNX file's name without `.onnx`."""
    return f"{name}.{key.digest()[:DIGITS]}.plan"


def find(folder: Path, key: Key) -> Path | None:
    """The whole, unchanged plan in `folder` that was built with just this key, under whatever name; else None.

    It has passed every check that a plan passes before loading, but for the GPU being there.
    """
    for plan, sidecar in _engines(folder, "*.plan"):
        if _is_of(plan, key):
            try:
                check_whole(sidecar, plan)
                return plan
            except (ModelError, OSError):
                continue
    return None


def stale(folder: Path, name: str, key: Key) -> str:
    """Why no engine of `name` in `folder` serves: the difference of the nearest one, or its damage; "" without any."""
    reasons: list[str] = []
    for plan, sidecar in _engines(folder, f"{escape(name)}.{'[0-9a-f]' * DIGITS}.plan"):
        reasons.append(difference(sidecar.key, key) or "the fcn-edge that built it")
        if _is_of(plan, key):
            return "the engine that is there is damaged"
    return min(reasons, key=lambda reason: reason.count(", "), default="")


def _is_of(plan: Path, key: Key) -> bool:
    """Whether the sidecar has this key as it is written: with a field that this fcn-edge does not know it has not."""
    try:
        written: dict[str, Any] = msgspec.json.decode(sidecar_path(plan).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return False
    return written["key"] == msgspec.json.decode(msgspec.json.encode(key))


def _engines(folder: Path, pattern: str) -> Iterator[tuple[Path, Sidecar]]:
    """The plans of such names whose sidecar can be read, the newest first."""
    try:
        plans = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return
    for plan in plans:
        try:
            yield plan, read(plan)
        except (ModelError, SpecError):
            continue
