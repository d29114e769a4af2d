"""What TensorRT's parser and builder refuse, each told in one line: node, operator and the likely mend."""

from __future__ import annotations

from pathlib import Path

from fcn_edge.errors import ModelError


def complaint(path: Path, errors: list[str]) -> ModelError:
    """The error for a file that was refused with these words."""
    raise NotImplementedError
