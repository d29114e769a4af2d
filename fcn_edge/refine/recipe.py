"""The figures of a back end, read from recipes/refine/NAME.toml: ours, and published ones beside them.

They lie one folder below the training recipes, which are found by listing theirs.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from fcn_edge.resources import folder

OURS = "ours"  # the figures that a back end takes where it is given none

Figures = TypeVar("Figures")


def read_figures(name: str, kind: type[Figures]) -> dict[str, Figures]:
    """The tables of a back end's recipe: `ours` first, then those of others."""
    path = folder("recipes") / "refine" / f"{name}.toml"
    return msgspec.toml.decode(path.read_bytes(), type=dict[str, kind])
