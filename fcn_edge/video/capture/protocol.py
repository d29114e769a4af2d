"""What a kind of capture is: a module with `open_capture`, found by the kind of the URI.

A capture runs in a process of its own that does nothing but read it, so `read` may block for as long as it
likes, keeps no thread, and knows nothing of reconnecting: whoever started the process ends it, and starts
another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from fcn_edge.errors import SourceError
from fcn_edge.video.uri import Uri

# A kind of URI to the module of this package that captures it.
MODULES = {
    "v4l2": "v4l2",
    "csi": "gstreamer",
    "gst": "gstreamer",
    "rtsp": "av",
    "rtsps": "av",
    "http": "av",
    "https": "av",
    "udp": "av",
    "rtp": "av",
    "demo": "play",
    "file": "play",
}
JETSON = Path("/etc/nv_tegra_release")  # its decoder is reached by GStreamer alone


@dataclass(frozen=True)
class Shot:
    """One picture as the capture backend delivered it.

    image: uint8 (H, W, 3) BGR, good until the next read; its rows may be padded. The size may change between shots.
    captured: time.monotonic() when the backend had it whole, before it was converted.
    """

    image: np.ndarray
    captured: float


class Capture(Protocol):
    """An opened source that gives its newest picture. Used by one thread."""

    rate: Fraction | None  # frames a second, where known
    pixel_aspect: Fraction  # width of a pixel by its height
    notes: list[str]  # what the user should know: what was granted in place of what was asked, a line each

    def read(self) -> Shot | None:
        """Waits for the next picture; None where there will be none, and that is no fault.

        Reads without a pause: whatever it returns late was kept by the backend, so that one keeps one picture.
        Raises SourceError where the source is lost.
        """
        ...

    def close(self) -> None: ...


OpenCapture = Callable[[Uri], Capture]  # options are in the Uri; raises SourceError, one line with `uri.name` in front


def open_capture(uri: Uri) -> Capture:
    """The capture for this kind of URI. Raises SourceError where it cannot be opened."""
    try:
        return import_module(f"fcn_edge.video.capture.{_module(uri)}").open_capture(uri)
    except ModuleNotFoundError as error:
        raise SourceError(f"{uri.name}: needs {error.name}, which is not installed.") from error


def _module(uri: Uri) -> str:
    """GStreamer's only where it was asked for or has what nothing else reaches: to ask it costs 0.2 s."""
    wanted = uri.options.hardware
    if uri.kind in ("rtsp", "rtsps") and (wanted not in (None, "auto", "none") or JETSON.exists()):
        from fcn_edge.video.capture.gstreamer import decodes

        if decodes(uri):
            return "gstreamer"
    return MODULES[uri.kind]
