"""Fully convolutional segmentation networks, from PyTorch to the edge.

The public names are loaded when they are first used, so `import fcn_edge` costs nothing. `decode` is the
function, though a module of that name holds it: `import fcn_edge.decode` binds the function too.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcn_edge.decode import decode as decode
    from fcn_edge.segmenter import Segmentation as Segmentation
    from fcn_edge.segmenter import Segmenter as Segmenter
    from fcn_edge.spec import ModelSpec as ModelSpec
    from fcn_edge.video import open_source as open_source

__version__ = "0.1.0"
__all__ = ["ModelSpec", "Segmentation", "Segmenter", "__version__", "decode", "open_source"]

_HOMES = {
    "ModelSpec": "fcn_edge.spec",
    "Segmentation": "fcn_edge.segmenter",
    "Segmenter": "fcn_edge.segmenter",
    "open_source": "fcn_edge.video",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The import system binds a submodule to its package when it is loaded, over a function of its name."""

    @property
    def decode(self) -> Any:
        return import_module("fcn_edge.decode").decode

    @decode.setter
    def decode(self, module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
