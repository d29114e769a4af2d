"""A camera for tests: MJPEG over HTTP, that drops, stalls, changes its size and vanishes when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
from burnt import burn

BOUNDARY = "picture"


class Camera:
    """What every viewer sees: frames `rate` times a second, their number burnt in, as told by the attributes.

    size: (H, W). stalled: connections stay open and nothing comes. mode: good, silent (accepts and says nothing),
    html (no video at all) or broken (a part that is no JPEG among the good ones).
    """

    def __init__(self) -> None:
        self.size = (64, 192)
        self.rate = 50.0
        self.stalled = False
        self.mode = "good"
        self.number = 0
        self.viewers = 0
        self.password: str | None = None  # as HTTP sends it: Basic and base64
        self._handlers: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    def picture(self) -> bytes:
        image = np.full((*self.size, 3), 90, np.uint8)
        burn(image, 0, self.number)
        self.number += 1
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/video"

    def appear(self) -> None:
        """At the port that it had before."""
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._handlers.add(self.connection)
                camera.viewers += 1
                with contextlib.suppress(OSError):
                    camera._answer(self)
                camera._handlers.discard(self.connection)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def hang_up(self) -> None:
        """Ends every connection in the middle of whatever it sends."""
        for connection in list(self._handlers):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def vanish(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()
            self.hang_up()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.password is not None and handler.headers.get("Authorization") != self.password:
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
            handler.end_headers()
            return
        while self.mode == "silent" and self._server is not None:
            time.sleep(0.01)
        if handler.path != "/video":
            handler.send_error(404)
            return
        handler.send_response(200)
        kind = "text/html" if self.mode == "html" else f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        if self.mode == "html":
            handler.wfile.write(b"<html><body>Please log in</body></html>" * 50)
            return
        while self._server is not None:
            if not self.stalled:
                data = self.picture()
                if self.mode == "broken" and self.number % 3 == 0:
                    data = data[: len(data) // 2] + b"\0" * 99
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                handler.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(1 / self.rate)


@contextlib.contextmanager
def filming() -> Iterator[Camera]:
    camera = Camera()
    camera.appear()
    try:
        yield camera
    finally:
        camera.vanish()
