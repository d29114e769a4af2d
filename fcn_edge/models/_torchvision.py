"""The one door to torchvision, which opens even where its compiled part does not load.

A CPU build of torch beside a torchvision built for CUDA is a common pair, because a package index carries
only one of torchvision's builds. Its operators (box suppression and the like) are missing then, and
`import torchvision` stops at the first that it wants to describe; nothing here uses any of them. So where,
and only where, the import fails so, the operators are declared without a body and it is tried again.

Everything imports it from here: `from fcn_edge.models._torchvision import torchvision`.
"""

from __future__ import annotations

import sys
from importlib import import_module

import torch

from fcn_edge.errors import FcnEdgeError

# What torchvision 0.28 describes while it is imported, whether or not its compiled part is there.
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
MISSING = "operator torchvision::"
_declared: list[torch.library.Library] = []  # kept: they end with the object that declares them


def _open() -> None:
    """Import torchvision. Raises FcnEdgeError where it is missing, or fails for more than its compiled part."""
    try:
        import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise FcnEdgeError(
            "torchvision is missing, whose trunk this variant stands on. In a checkout of fcn-edge: "
            "pip install -e '.[export]'"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(MISSING):
            raise _misfit(error) from error
        _forget()
        _declare()
        try:
            import_module("torchvision")
        except RuntimeError as again:
            raise _misfit(again) from again


def _misfit(error: RuntimeError) -> FcnEdgeError:
    return FcnEdgeError(
        f"torchvision does not go with torch {torch.__version__}: {str(error).splitlines()[0].rstrip('.')}. "
        "Install the one that was released with it: https://github.com/pytorch/vision#installation"
    )


def _forget() -> None:
    """Half-imported modules would be taken for whole ones."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)


_open()

import torchvision  # noqa: E402
import torchvision.models.segmentation  # noqa: E402

__all__ = ["torchvision"]
