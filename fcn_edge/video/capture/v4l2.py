"""Cameras of the Video4Linux kind: USB's, and whatever else is a /dev/video.

Uncompressed, 1280x720 goes through USB 2 at 10 pictures a second; as MJPG at 30. So MJPG is what is asked for. A driver
grants what it likes and says nothing, so what was granted is looked up and told.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2

from fcn_edge.errors import SourceError
from fcn_edge.video.camera import check_device, formats
from fcn_edge.video.capture.protocol import Shot
from fcn_edge.video.options import SourceOptions
from fcn_edge.video.uri import Uri

CODEC = "mjpg"
RAW = ("BA", "BG", "GB", "GR", "RG", "BYR", "pBA", "pgA", "pGA", "pRA")  # how codes of sensors without colours begin


class V4l2Capture:
    """A camera as OpenCV opens it."""

    pixel_aspect = Fraction(1)

    def __init__(self, uri: Uri) -> None:
        self._uri = uri
        self._device = Path(uri.target)
        self._capture = _opened(self._device)
        if not self._capture.isOpened():
            raise SourceError(f"{uri.name}: OpenCV cannot open this camera. {_advice(self._device)}")
        _ask(self._capture, uri.options)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if rate > 0 else None
        self.notes = [f"{uri.name}: {granted(self._capture, uri.options)}"]

    def read(self) -> Shot | None:
        while self._capture.grab():
            captured = time.monotonic()
            done, image = self._capture.retrieve()
            if done:
                return Shot(image, captured)
            # A JPEG that a bad cable cut short; the next one may be whole.
        if not self._device.exists():
            raise SourceError(f"{self._uri.name}: was unplugged.")
        raise SourceError(f"{self._uri.name}: gives no more pictures.")

    def close(self) -> None:
        self._capture.release()


def open_capture(uri: Uri) -> V4l2Capture:
    if sys.platform == "linux":
        check_device(Path(uri.target))
    return V4l2Capture(uri)


def _opened(device: Path) -> cv2.VideoCapture:
    if sys.platform == "linux":
        return cv2.VideoCapture(str(device), cv2.CAP_V4L2)
    return cv2.VideoCapture(int(device.name.removeprefix("video")))  # elsewhere cameras have numbers and no paths


def _ask(capture: cv2.VideoCapture, options: SourceOptions) -> None:
    """The format first, for it decides which sizes there are; then the size, which decides the rates."""
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*_fourcc(options)))
    if options.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size[1])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size[0])
    if options.rate is not None:
        capture.set(cv2.CAP_PROP_FPS, float(options.rate))


def _fourcc(options: SourceOptions) -> str:
    return f"{options.codec or CODEC:4.4}".upper()


def granted(capture: cv2.VideoCapture, options: SourceOptions) -> str:
    """What the driver settled on, and what of it is not what was asked for."""
    height, width = (round(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    rate = capture.get(cv2.CAP_PROP_FPS)
    number = int(capture.get(cv2.CAP_PROP_FOURCC))
    codec = "".join(chr(number >> 8 * place & 0xFF) for place in range(4)).strip("\0 ")
    refused = list(_refused(options, (height, width), rate, codec))
    return f"gives {width}x{height} at {rate:g} a second as {codec or 'an unknown format'}" + (
        f"; asked for {', '.join(refused)}" if refused else ""
    )


def _refused(options: SourceOptions, size: tuple[int, int], rate: float, codec: str) -> Iterator[str]:
    if options.size is not None and options.size != size:
        yield f"{options.size[1]}x{options.size[0]}"
    if options.rate is not None and abs(float(options.rate) - rate) > 0.5:
        yield f"{float(options.rate):g} a second"
    if _fourcc(options).strip() != codec.upper():
        yield _fourcc(options).strip()


def _advice(device: Path) -> str:
    found = formats(device)
    if found and all(code.startswith(RAW) for code in found):
        return f"It gives raw {found[0]}, so it is a sensor: name it csi://0 (on a Jetson), or gst://libcamerasrc."
    return f"It offers {', '.join(found)}." if found else "See: fcn-edge doctor"
