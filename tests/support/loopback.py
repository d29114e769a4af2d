"""A web server on loopback that serves one file well, or badly in a way that a test names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], object]


class Handler(BaseHTTPRequestHandler):
    """Answers a GET as the server's function for its path does; see `serving`."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        with suppress(BrokenPipeError, ConnectionResetError):  # the client had enough
            self.server.answers[self.path](self)

    def send(self, status: int, body: bytes = b"", **headers: object) -> None:
        """Headers with underscores for dashes; Content-Length is the body's unless it is given (None: none)."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def start(self) -> int:
        """The first byte that was asked for."""
        return int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """asked: path and Range of every request, in order. released: set when the test is over."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked: list[tuple[str, str | None]] = []
        self.released = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


@contextmanager
def serving(**answers: Answer) -> Iterator[Server]:
    """A server that answers /NAME with the function of that name."""
    with Server({f"/{name}": answer for name, answer in answers.items()}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def whole(body: bytes) -> Answer:
    """The file as a good server gives it, from any byte on."""

    def answer(handler: Handler) -> None:
        start = handler.start()
        if not start:
            handler.send(200, body)
        elif start < len(body):
            handler.send(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send(416, Content_Range=f"bytes */{len(body)}")

    return answer
