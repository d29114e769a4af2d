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
from fcn_edge.video.frames import Frame

PATIENCE = 5.0  # seconds without a frame before a camera counts as lost; slow ones take 2 to start
TICKS = 90_000  # a second
VIDIOC_REQBUFS, VIDIOC_ENUM_FMT = 0xC0145608, 0xC0405602
CAPTURE, MMAP = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP
FORMAT = "III32sI16x"  # struct v4l2_fmtdesc: index, type, flags, description, pixelformat
MOST_FORMATS = 64


class Newest:
    """The newest frame of a capture, read in a thread of its own."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self.dropped = 0
        self._capture = capture
        self._frame: tuple[np.ndarray, int, float] | None = None  # image, number, clock
        self._changed = threading.Condition()
        self._running = True
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        number = 0
        while self._running:
            ok, image = self._capture.read()
            with self._changed:
                if not ok:
                    self._running = False
                else:
                    self.dropped += self._frame is not None
                    self._frame = (image, number, time.monotonic())
                self._changed.notify_all()
            number += 1

    def take(self) -> tuple[np.ndarray, int, float] | None:
        """Image, number and clock of a frame that was not taken before; None where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or not self._running, PATIENCE)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        self._running = False
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():  # a driver that hangs in read() must not have its capture freed beneath it
            self._capture.release()


class CameraSource:
    """The camera with this number, or at this device path."""

    live = True
    still = False
    total: int | None = None
    time_base: Fraction | None = Fraction(1, TICKS)
    pixel_aspect = Fraction(1)
    reconnects = 0
    lost_since: float | None = None

    def __init__(self, camera: str) -> None:
        self.uri = f"camera:{camera}"
        self.files: list[Path] = []
        self.problems: list[str] = []
        if sys.platform == "linux":
            check_device(Path(f"/dev/video{camera}" if camera.isdigit() else camera))
        capture = cv2.VideoCapture(int(camera)) if camera.isdigit() else cv2.VideoCapture(camera)
        if not capture.isOpened():
            raise SourceError(f"{self.uri}: there is no such camera, or OpenCV cannot open it. See: fcn-edge doctor")
        height, width = capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)
        self.size: tuple[int, int] | None = (int(height), int(width))
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate: Fraction | None = Fraction(rate).limit_denominator(1001) if rate > 0 else Fraction(30)
        self._newest = Newest(capture)

    @property
    def dropped(self) -> int:
        return self._newest.dropped

    def __iter__(self) -> Iterator[Frame]:
        start: float | None = None
        while (newest := self._newest.take()) is not None:
            image, number, clock = newest
            start = clock if start is None else start
            seconds = Fraction(round((clock - start) * TICKS), TICKS)
            yield Frame(image, number, seconds, f"camera_{number:06d}", None, clock)
        if start is None:
            raise SourceError(f"{self.uri}: opened, but gave no frame within {PATIENCE:g} s: it is busy or broken.")
        self.problems.append(f"{self.uri}: gave no more frames.")

    def __enter__(self) -> CameraSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._newest.close()


def check_device(device: Path) -> None:
    """Raise SourceError that says whether a camera is not there, not permitted or busy: OpenCV only says no."""
    if not device.exists():
        there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"{device}: there is no such camera. Cameras here: {there}.")
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        try:
            _request_no_buffers(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise SourceError(f"{device}: {_reason(device, error)}") from error


def _request_no_buffers(handle: int) -> None:
    """Asks the driver for zero buffers, which changes nothing, but fails where another program has some."""
    import fcntl

    request = struct.pack("IIIII", 0, CAPTURE, MMAP, 0, 0)
    with contextlib.suppress(BlockingIOError):
        fcntl.ioctl(handle, VIDIOC_REQBUFS, request)


def formats(device: Path) -> list[str]:
    """The codes of what a camera can send, as in MJPG and YUYV; none where it cannot be asked."""
    import fcntl

    codes: list[str] = []
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return codes
    try:
        for index in range(MOST_FORMATS):
            answer = fcntl.ioctl(handle, VIDIOC_ENUM_FMT, struct.pack(FORMAT, index, CAPTURE, 0, b"", 0))
            number = struct.unpack(FORMAT, answer)[4]
            codes.append(struct.pack("<I", number).decode("latin-1").strip())
    except OSError:
        pass  # the last one was there
    finally:
        os.close(handle)
    return codes


def _reason(device: Path, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted. Join the group video and log in again: sudo usermod -aG video $USER"
    if error.errno == errno.EBUSY:
        return f"the camera is busy: another program has it. Close that program (fuser -v {device} names it)."
    if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ENODEV, errno.ENXIO):
        return "is not a camera that gives pictures. Try the next number."
    return f"cannot be opened: {error.strerror}."
