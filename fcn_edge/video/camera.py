"""What the kernel says of a camera: OpenCV only says that it could not open one, and not why."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from pathlib import Path

from fcn_edge.errors import SourceError

VIDIOC_REQBUFS, VIDIOC_ENUM_FMT = 0xC0145608, 0xC0405602
CAPTURE, MMAP = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP
FORMAT = "III32sI16x"  # struct v4l2_fmtdesc: index, type, flags, description, pixelformat
MOST_FORMATS = 64


def check_device(device: Path) -> None:
    """Raises SourceError where a camera is not there, not permitted, busy, or no camera."""
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
