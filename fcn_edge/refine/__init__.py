"""Back ends, found by name: what looks at the frame again before scores become labels.

A network's scores lie 8 to 32 pixels apart, so its upsampled labels are smooth where the object is not. A back end
knows where the frame's own edges are. A new one is a file in this folder and a line here.
"""

from __future__ import annotations

from importlib import import_module

from fcn_edge.errors import unknown
from fcn_edge.refine.protocol import Refine

REFINES = {  # the fastest first
    "guided": "fcn_edge.refine.guided:Guided",
    "crf": "fcn_edge.refine.crf:Crf",
    "mrf": "fcn_edge.refine.mrf:Mrf",
}


def open_refine(name: str) -> Refine:
    """The back end of that name, with the parameters that its documentation names (docs/refine.md).

    Raises UsageError for a name that is not listed, BackendError where a library that it needs is missing.
    """
    if name not in REFINES:
        raise unknown("refine", name, REFINES)
    module, attribute = REFINES[name].split(":")
    return getattr(import_module(module), attribute)()
