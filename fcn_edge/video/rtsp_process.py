"""The process that serves RTSP, seen from outside: found, started, fed, and ended whatever it is doing.

It runs in the Python that has GStreamer's bindings, which is the system's more often than this one: pip cannot install
them without a compiler. One process serves all streams of a port.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fcn_edge.errors import SinkError

PROGRAM = Path(__file__).with_name("rtsp_serving.py")
START_SECONDS = 30.0  # GStreamer looks through all its plugins on a machine's first start
WRITE_SECONDS = 5.0  # for one picture; a server that takes none for so long hangs
END_SECONDS = 1.0
F_SETPIPE_SZ, PIPE_BYTES = 1031, 2**20  # <linux/fcntl.h>; 2**20 is what a user may ask for without privileges
INSTALL = (
    "Debian, Ubuntu, JetPack: sudo apt install python3-gi gir1.2-gst-rtsp-server-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)


@dataclass(frozen=True)
class Address:
    """Where a stream is served; `str()` of it leaves the password out."""

    host: str
    port: int
    path: str
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


class RtspProcess:
    """A server at one port, shared by the streams of this process. `lease` it, and `release` it as often."""

    _running: dict[tuple[str, int], RtspProcess] = {}  # noqa: RUF012 - one of this process, like its ports
    _choosing = threading.Lock()

    def __init__(self, address: Address) -> None:
        """Raises SinkError where the server cannot be had, or the port is taken."""
        self.watched: set[str] = set()  # paths that somebody plays
        self.port = address.port
        self.encoder = ""
        self._address = address
        self._paths: set[str] = set()
        self._process = subprocess.Popen(
            [find_python(), "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # GStreamer's own log; GST_DEBUG_FILE takes it elsewhere
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the one who started it
        )
        self._sending = threading.Lock()
        self._answered = threading.Condition()
        self._answer: dict[str, Any] | None = None
        self._listener = threading.Thread(target=self._listen, name="rtsp", daemon=True)
        self._listener.start()
        try:
            self._pipe = self._input()
            wish = {name: getattr(address, name) for name in ("host", "port", "user", "password")}
            self.send(wish)
            self._await_start()
        except BaseException:
            self._end()
            raise

    @classmethod
    def lease(cls, address: Address) -> RtspProcess:
        """The server of this address's port with room for its path. Raises SinkError."""
        with cls._choosing:
            key = (address.host, address.port)
            server = cls._running.get(key)
            if server is None:
                server = cls._running[key] = cls(address)
            if address.path in server._paths:
                raise SinkError(f"{address}: is served already. Name another path.")
            server._paths.add(address.path)
            return server

    def release(self, path: str) -> None:
        with self._choosing:
            self._paths.discard(path)
            if not self._paths:
                self._running.pop((self._address.host, self._address.port), None)
                self._end()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any], data: memoryview | None = None) -> None:
        """A line of JSON and what belongs to it. Raises SinkError where the server has ended or hangs."""
        with self._sending:
            self._write(memoryview(json.dumps(message).encode() + b"\n"))
            if data is not None:
                self._write(data)

    def _write(self, rest: memoryview) -> None:
        while rest:
            if not select.select([], [self._pipe], [], WRITE_SECONDS)[1]:
                self._process.kill()  # half a picture is in the pipe, so that nothing could follow
                raise SinkError(f"{self._address}: its server took nothing for {WRITE_SECONDS:g} s, so it was ended.")
            try:
                rest = rest[os.write(self._pipe, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise SinkError(f"{self._address}: its server has ended.") from error

    def _input(self) -> int:
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        os.set_blocking(pipe, False)
        with contextlib.suppress(OSError):  # a smaller pipe serves too
            fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)
        return pipe

    def _await_start(self) -> None:
        with self._answered:
            self._answered.wait_for(lambda: self._answer is not None, START_SECONDS)
            answer = self._answer or {"error": f"it did not start within {START_SECONDS:g} s"}
        if "error" in answer:
            raise SinkError(f"{self._address}: {_reason(str(answer['error']))}")
        self.port, self.encoder = answer["port"], answer["encoder"]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "watched" in message:
                (self.watched.add if message["watched"] else self.watched.discard)(message["path"])
            else:
                self._tell(message)
        self._tell({"error": "it ended"})

    def _tell(self, answer: dict[str, Any]) -> None:
        with self._answered:
            self._answer = self._answer or answer
            self._answered.notify_all()

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


def _reason(error: str) -> str:
    if error == "port":
        return "that port is in use, or not this machine's. Name another one."
    if error == "encoder":
        return f"GStreamer has no H.264 encoder that works here. {INSTALL}"
    return f"GStreamer's RTSP server is not there, or does not start ({error}). {INSTALL}"


def look() -> GStreamer:
    """What GStreamer can do for a stream here."""
    python = find_python()
    found: dict[str, Any]
    try:
        command = [python, "-I", str(PROGRAM), "--look"]
        answer = subprocess.run(command, capture_output=True, timeout=START_SECONDS, check=True)
        found = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        found = {"error": f"{type(error).__name__} while looking"}
    if "error" in found:
        return GStreamer(python, None, None, [], f"no RTSP server ({found['error']}). {INSTALL}")
    return GStreamer(python, found["version"], found["encoder"], found["hardware"], None)


@functools.cache
def find_python() -> str:
    """The Python that has GStreamer's bindings: this one, or else the system's, which may have them or not."""
    if find_spec("gi") is not None:
        return sys.executable
    return shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
