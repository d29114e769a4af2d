"""The overlay as an RTSP stream, for whatever plays one: a recorder, a wall of monitors, VLC.

GStreamer's server does it, in a process of its own: its bindings belong to the system's Python, and neither its crash
nor a viewer can reach the pipeline. Nothing is encoded, and one picture a second handed over, while nobody watches.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import ipaddress
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.video.frames import Source
from fcn_edge.video.sinks import Result

PROGRAM = Path(__file__).with_name("rtsp_serving.py")
PORT, PATH = 8554, "/live"
DEFAULT_RATE = 30.0
START_SECONDS = 30.0  # GStreamer looks through all its plugins on a machine's first start
WRITE_SECONDS = 5.0  # for one picture; a server that takes none for so long hangs
END_SECONDS = 1.0
UNWATCHED_SECONDS = 1.0  # between pictures while nobody watches; a new viewer is shown the last one
F_SETPIPE_SZ, PIPE_BYTES = 1031, 2**20  # <linux/fcntl.h>; 2**20 is what a user may ask for without privileges
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)
INSTALL = f"Debian, Ubuntu, JetPack: sudo apt install {PACKAGES}"


@dataclass(frozen=True)
class Address:
    """Where a stream is served; `str()` of it leaves the password out."""

    host: str = "127.0.0.1"
    port: int = PORT
    path: str = PATH
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"rtsp://{host}:{self.port}{self.path}"


@dataclass(frozen=True)
class GStreamer:
    """What is there to serve a stream with."""

    python: str  # whose bindings they are
    version: str | None
    encoder: str | None  # the first that works, hardware before software
    hardware: list[str]  # elements that decode or encode without the CPU
    problem: str | None  # why it cannot serve, with the mend


def parse_address(text: str) -> Address:
    """The address in `rtsp://[USER:PASSWORD@][HOST][:PORT][/PATH]`; without a host, this machine alone.

    Raises UsageError where it is none, or where anybody on the network could watch.
    """
    try:
        parts = urlsplit(text)
        port = parts.port or PORT
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
        self.where = str(address)
        self.notes: list[str] = []
        self.watched = False  # set by the server's messages
        self._rate = float(source.rate or DEFAULT_RATE)
        self._size: tuple[int, int] | None = None
        self._shown = -UNWATCHED_SECONDS
        self._process = subprocess.Popen(
            [find_python(), "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # GStreamer's own log; GST_DEBUG_FILE takes it elsewhere
            bufsize=0,
        )
        self._answers = threading.Condition()
        self._answer: dict[str, Any] | None = None
        self._listener = threading.Thread(target=self._listen, name="rtsp", daemon=True)
        self._listener.start()
        try:
            self._start(address)
        except BaseException:
            self._end()
            raise

    def _start(self, address: Address) -> None:
        self._pipe = self._input()
        wish = {name: getattr(address, name) for name in ("host", "port", "path", "user", "password")}
        self._send(json.dumps(wish).encode() + b"\n")
        with self._answers:
            self._answers.wait_for(lambda: self._answer is not None, START_SECONDS)
            answer = self._answer or {"error": "silent"}
        if "error" in answer:
            raise SinkError(_reason(address, str(answer["error"])))
        self.where = str(Address(address.host, answer["port"], address.path))
        self.notes.append(f"{self.where}: encoded by {answer['encoder']} while somebody watches")

    def _input(self) -> int:
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        os.set_blocking(pipe, False)
        with contextlib.suppress(OSError):  # a smaller pipe serves too
            fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)
        return pipe

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "watched" in message:
                self.watched = message["watched"]
                continue
            with self._answers:
                self._answer = message
                self._answers.notify_all()
        with self._answers:
            self._answer = {"error": "ended"}
            self._answers.notify_all()

    def write(self, result: Result) -> None:
        now = time.monotonic()
        if not self.watched and now - self._shown < UNWATCHED_SECONDS and self._process.poll() is None:
            return
        self._shown = now
        assert result.picture is not None
        height, width = result.picture.shape[:2]
        if self._size is None:
            self._size = (height, width)
            self._send(json.dumps(_video(height, width, self._rate)).encode() + b"\n")
        self._send(memoryview(_planes(result.picture, self._size)).cast("B"))

    def _send(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            if not select.select([], [self._pipe], [], WRITE_SECONDS)[1]:
                raise SinkError(f"{self.where}: its server took no picture for {WRITE_SECONDS:g} s, so it was ended.")
            try:
                rest = rest[os.write(self._pipe, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise SinkError(f"{self.where}: its server has ended. Start the run again.") from error

    def __enter__(self) -> RtspSink:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _video(height: int, width: int, rate: float) -> dict[str, Any]:
    """What the server is told of the pictures; see `_planes` for their width."""
    return {
        "width": width + -width % 8,
        "height": height + height % 2,
        "crop_width": width + width % 2,
        "crop_height": height + height % 2,
        "rate": rate,
    }


def _planes(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`picture` as I420 of this (H, W), its width filled up to a multiple of 8: GStreamer pads each row to 4 bytes."""
    height, width = size
    if picture.shape[:2] != size:  # a stream has one size, and its viewers should stay
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    if height % 2 or width % 8:
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, -width % 8, cv2.BORDER_REPLICATE)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)


def _reason(address: Address, error: str) -> str:
    if error == "port":
        return f"{address}: that port is in use, or not this machine's. Name another one."
    if error == "encoder":
        return f"{address}: GStreamer has no H.264 encoder that works here. {INSTALL}"
    if error == "silent":
        return f"{address}: GStreamer's server did not start within {START_SECONDS:g} s. See: fcn-edge doctor"
    return f"{address}: GStreamer's RTSP server is not there, or does not start ({error}). {INSTALL}"


def look() -> GStreamer:
    """What GStreamer can do for a stream here."""
    python = find_python()
    try:
        command = [python, "-I", str(PROGRAM), "--look"]
        answer = subprocess.run(command, capture_output=True, timeout=START_SECONDS, check=True)
        found = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        found = {"error": f"{type(error).__name__} while looking"}
    if "error" in found:
        return GStreamer(python, None, None, [], f"has no RTSP server here ({found['error']}). {INSTALL}")
    return GStreamer(python, found["version"], found["encoder"], found["hardware"], None)


@functools.cache
def find_python() -> str:
    """The Python that has GStreamer's bindings: this one, or else the system's, which may have them or not."""
    if find_spec("gi") is not None:
        return sys.executable
    return shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
