"""The variants: what can be built, trained and exported by name.

Naming them needs no torch; building one does. A new variant is one file in this folder and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from fcn_edge.errors import unknown

if TYPE_CHECKING:
    from fcn_edge.models.network import Network


@dataclass(frozen=True)
class Variant:
    """An architecture: what makes it that one, and where it is built."""

    summary: str
    builder: str  # "module:function", called with the number of classes


VARIANTS = {
    "fcn8s-lite": Variant(
        "MobileNetV2 trunk, class scores at strides 8, 16 and 32 fused by addition, context at stride 32",
        "fcn_edge.models.lite:fcn8s_lite",
    ),
}


def build(variant: str, classes: int) -> Network:
    """The untrained network of that name. Raises UsageError for a name that is not listed."""
    if variant not in VARIANTS:
        raise unknown("variant", variant, VARIANTS)
    module, function = VARIANTS[variant].builder.split(":")
    builder: Callable[[int], Network] = getattr(import_module(module), function)
    return builder(classes)
