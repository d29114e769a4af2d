"""Engines kept by content: the same ONNX file, TensorRT, GPU, profiles and options, and nothing is built again.

An engine is named NAME.KEY8.plan, NAME being its ONNX file's and KEY8 the first digits of its key's hash, so that
engines of several GPUs and versions lie side by side, and a folder tells which belong together.
"""

from __future__ import annotations

from pathlib import Path

from fcn_edge.engine.key import Key as Key
from fcn_edge.engine.key import difference as difference
from fcn_edge.engine.key import make_key as make_key


def engines_folder(project: Path | None = None) -> Path:
    """`engines/` of the project folder, or `~/.cache/fcn-edge/engines` where None: what `run` builds by itself."""
    raise NotImplementedError


def plan_name(name: str, key: Key) -> str:
    """`NAME.KEY8.plan`; name: the ONNX file's name without `.onnx`."""
    raise NotImplementedError


def find(folder: Path, key: Key) -> Path | None:
    """The whole, unchanged plan in `folder` that was built with just this key, under whatever name; else None."""
    raise NotImplementedError


def stale(folder: Path, name: str, key: Key) -> str:
    """Why the engines of `name` in `folder` do not serve, as one line with the difference; "" where there are none."""
    raise NotImplementedError
