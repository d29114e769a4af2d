"""The overlay as an RTSP stream, for whatever plays one: a recorder, a wall of monitors, VLC.

GStreamer's server does it, in a process of its own, so that neither its crash nor a viewer reaches the pipeline. While
nobody watches nothing is encoded, and one picture a second handed over.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.video.frames import Source
from fcn_edge.video.rtsp_process import Address, RtspProcess
from fcn_edge.video.sinks import Result

PORT, PATH = 8554, "/live"
DEFAULT_RATE = 30.0
UNWATCHED_SECONDS = 1.0  # between pictures while nobody watches; a new viewer is shown the last one


def parse_address(text: str) -> Address:
    """The address in `rtsp://[USER:PASSWORD@][HOST][:PORT][/PATH]`; without a host, this machine alone.

    Raises UsageError where it is none, or where anybody on the network could watch.
    """
    try:
        parts = urlsplit(text)
        port = PORT if parts.port is None else parts.port
    except ValueError:
        raise UsageError("--out rtsp://: that address cannot be. Write it as in rtsp://:8554/live.") from None
    path = PATH if parts.path in ("", "/") else parts.path
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    address = Address(parts.hostname or "127.0.0.1", port, path, user, password)
    if not _is_loopback(address.host) and not (user and password):
        raise UsageError(
            f"--out {address}: whoever reaches this machine could watch. Ask for a password, as in "
            f"rtsp://USER:PASSWORD@{address.host}:{address.port}{address.path}, or leave the host out."
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RtspSink:
    """H.264 over RTSP, encoded by the GPU or the board where it can be.

    Raises SinkError where the server cannot be had or the port is taken, and from `write` once it has ended or hangs.
    """

    wants_picture = True
    live = True

    def __init__(self, address: Address, source: Source) -> None:
        self._path = address.path
        self._rate = float(source.rate or DEFAULT_RATE)
        self._size: tuple[int, int] | None = None
        self._shown = -UNWATCHED_SECONDS
        self._server: RtspProcess | None = RtspProcess.lease(address)
        self.where = str(replace(address, port=self._server.port))
        self.notes = [f"{self.where}: encoded by {self._server.encoder} while somebody watches"]

    def write(self, result: Result) -> None:
        server = self._server
        assert server is not None
        assert result.picture is not None
        if not server.alive:
            raise SinkError(f"{self.where}: its server has ended.")
        now = time.monotonic()
        if self._path not in server.watched and now - self._shown < UNWATCHED_SECONDS:
            return
        self._shown = now
        if self._size is None:
            self._size = result.picture.shape[:2]
            server.send({"path": self._path, "rate": self._rate, **_layout(*self._size)})
        planes = _planes(result.picture, self._size)
        server.send({"path": self._path, "bytes": planes.size}, planes.data.cast("B"))

    def __enter__(self) -> RtspSink:
        return self

    def __exit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.release(self._path)
            self._server = None


def _layout(height: int, width: int) -> dict[str, int]:
    """How the planes lie, and what of them is the picture, with the even sides that H.264 has."""
    return {
        "width": width + -width % 8,
        "height": height + height % 2,
        "crop_width": width + width % 2,
        "crop_height": height + height % 2,
    }


def _planes(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`picture` as I420 of this (H, W), its width filled up to a multiple of 8: GStreamer pads each row to 4 bytes."""
    height, width = size
    if picture.shape[:2] != size:  # a stream has one size, and its viewers should stay
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    if height % 2 or width % 8:
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, -width % 8, cv2.BORDER_REPLICATE)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
