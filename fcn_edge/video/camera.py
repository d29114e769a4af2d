"""A camera always gives its newest frame.

A driver queues frames; whoever is slower than the camera would fall behind by that queue. So a thread
reads all the time and keeps one frame; what nobody took before the next one came counts as dropped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fcn_edge.errors import SourceError
from fcn_edge.video.sources import Frame

PATIENCE = 5.0  # seconds without a frame before a camera counts as lost; cheap ones take 2 to start
VIDIOC_REQBUFS = 0xC0145608
CAPTURE, MMAP = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP


class CameraSource:
    """The camera with this number, or at this device path."""

    live = True
    still = False
    total: int | None = None
    time_base: Fraction | None = Fraction(1, 90_000)
    pixel_aspect = Fraction(1)

    def __init__(self, camera: str) -> None:
        self.uri = f"camera:{camera}"
        self.files: list[Path] = []
        self.problems: list[str] = []
        self.dropped = 0
        if sys.platform == "linux":
            check_device(Path(f"/dev/video{camera}" if camera.isdigit() else camera))
        self.capture = cv2.VideoCapture(int(camera) if camera.isdigit() else camera)
        if not self.capture.isOpened():
            raise SourceError(f"{self.uri}: there is no such camera, or it cannot be opened. See fcn-edge doctor.")
        self.size: tuple[int, int] | None = (
            int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate: Fraction | None = Fraction(rate).limit_denominator(1001) if rate > 0 else Fraction(30)
        self._newest: tuple[np.ndarray, int, float] | None = None  # image, number, clock
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        number = 0
        while self._open:
            ok, image = self.capture.read()
            clock = time.monotonic()
            with self._changed:
                if not ok:
                    self._open = False
                else:
                    self.dropped += self._newest is not None
                    self._newest = (image, number, clock)
                self._changed.notify_all()
            number += 1

    def _take(self) -> tuple[np.ndarray, int, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or not self._open, PATIENCE)
            newest, self._newest = self._newest, None
            return newest

    def __iter__(self) -> Iterator[Frame]:
        start: float | None = None
        while (newest := self._take()) is not None:
            image, number, clock = newest
            start = clock if start is None else start
            seconds = Fraction(round((clock - start) * 90_000), 90_000)
            yield Frame(image, number, seconds, f"camera_{number:06d}")
        if start is None:
            raise SourceError(f"{self.uri}: opened, but gave no frame within {PATIENCE:g} s: it is busy or broken.")
        self.problems.append(f"{self.uri}: gave no more frames.")

    def __enter__(self) -> CameraSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._open = False
        self._thread.join(PATIENCE)
        self.capture.release()


def check_device(device: Path) -> None:
    """Raise SourceError that says whether a camera is not there, not permitted or busy: OpenCV only says no."""
    if not device.exists():
        there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"{device}: there is no such camera. Cameras here: {there}.")
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError as error:
        raise SourceError(
            f"{device}: not permitted. Join the group that may use cameras and log in again: "
            "sudo usermod -aG video $USER"
        ) from error
    except OSError as error:
        raise SourceError(_unusable(device, error)) from error
    try:
        _request_no_buffers(handle)
    except OSError as error:
        raise SourceError(_unusable(device, error)) from error
    finally:
        os.close(handle)


def _request_no_buffers(handle: int) -> None:
    """Asks the driver for zero buffers, which changes nothing, but fails where another program has some."""
    import fcntl

    request = struct.pack("IIIII", 0, CAPTURE, MMAP, 0, 0)
    with contextlib.suppress(BlockingIOError):
        fcntl.ioctl(handle, VIDIOC_REQBUFS, request)


def _unusable(device: Path, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"{device}: the camera is busy: another program has it. Close that program (fuser -v {device} names it)."
    if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ENODEV, errno.ENXIO):
        return f"{device}: is not a camera that gives pictures. Try the next number."
    return f"{device}: cannot be opened: {error.strerror}."
