"""A camera for tests: GStreamer's RTSP server gives a clip over and over, with number and time burnt into each frame.

Run as a script by the Python that has GStreamer (Debian's); `serving` does that for a test. Row 0 of the squares holds
the frame's number, row 1 the milliseconds of the monotonic clock when it was drawn.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEBIANS_PYTHON = "/usr/bin/python3"
USER, PASSWORD = "viewer", "p@ss#w rd:1"


class Server:
    """The process, and the address that it serves."""

    def __init__(self, clip: Path, port: int = 0, password: bool = False) -> None:
        self.command = [DEBIANS_PYTHON, __file__, str(clip), *(["--password"] if password else [])]
        self.port = port
        self.start()

    def start(self) -> None:
        """At the port that it had before."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [*self.command, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(b"serving "):
            self.kill()
            raise RuntimeError("the RTSP server did not start")
        self.port = int(line.split()[1])

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def url(self, path: str = "/live", credentials: str = "") -> str:
        return f"rtsp://{credentials}127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def serving(clip: Path, password: bool = False) -> Iterator[Server]:
    server = Server(clip, password=password)
    try:
        yield server
    finally:
        server.kill()


def missing() -> str | None:
    """Why there can be no such server here, or None."""
    probe = "import cv2, gi; gi.require_version('GstRtspServer', '1.0')"
    with contextlib.suppress(OSError):
        if subprocess.run([DEBIANS_PYTHON, "-E", "-c", probe], capture_output=True).returncode == 0:
            return None
    packages = "python3-gi python3-opencv gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly"
    return f"Debian, Ubuntu: sudo apt install {packages}"


def main() -> None:
    import cv2
    import gi

    for name in ("Gst", "GstApp", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    from burnt import burn
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

    parser = argparse.ArgumentParser()
    parser.add_argument("clip")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--password", action="store_true")
    arguments = parser.parse_args()
    Gst.init(None)

    clip = cv2.VideoCapture(arguments.clip)
    rate = round(clip.get(cv2.CAP_PROP_FPS))
    pictures = []
    while (read := clip.read())[0] and len(pictures) < 300:
        pictures.append(read[1])
    height, width = pictures[0].shape[:2]
    sources: list = []

    def draw() -> None:
        start = time.monotonic()
        for number in itertools.count():
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            picture = pictures[number % len(pictures)].copy()
            burn(picture, 0, number)
            burn(picture, 1, int(1e3 * time.monotonic()))
            for source in sources[-1:]:
                source.emit("push-buffer", Gst.Buffer.new_wrapped(picture.tobytes()))

    factory = GstRtspServer.RTSPMediaFactory()
    caps = f"video/x-raw,format=BGR,width={width},height={height},framerate={rate}/1"
    factory.set_launch(
        "( appsrc name=camera is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream "
        f"caps={caps} "
        "! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 "
        "bitrate=4000 threads=1 ! rtph264pay name=pay0 config-interval=1 )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", lambda _, media: sources.append(media.get_element().get_by_name("camera")))
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(arguments.port))
    if arguments.password:
        factory.set_permissions(viewers(GstRtspServer))
        server.set_auth(keeper(GstRtspServer, GstRtsp.RTSPAuthMethod.DIGEST))
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    threading.Thread(target=draw, daemon=True).start()
    print("serving", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


def viewers(rtsp: Any) -> Any:
    permissions = rtsp.RTSPPermissions()
    permissions.add_role("viewer")
    for what in ("access", "construct"):
        permissions.add_permission_for_role("viewer", f"media.factory.{what}", True)
    return permissions


def keeper(rtsp: Any, digest: Any) -> Any:
    """Asks for the password, as most cameras do, by digest."""
    auth = rtsp.RTSPAuth()
    auth.set_supported_methods(digest)
    token = rtsp.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_digest(USER, PASSWORD, token)
    return auth


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
