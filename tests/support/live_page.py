"""A live page on loopback, asked as any program would ask it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

import cv2
import numpy as np

from fcn_edge.web.hub import Hub
from fcn_edge.web.server import WebServer


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> dict[str, bytes]:
        """Of a multipart form, taken apart by the standard library's mail parser."""
        message = message_from_bytes(f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode() + self.body)
        return {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)  # type: ignore[misc]
            for part in message.get_payload()
        }


@dataclass
class Page:
    hub: Hub
    server: WebServer

    def get(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Headers with underscores for dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


@contextmanager
def serving(hub: Hub, token: str | None = None, host: str = "127.0.0.1") -> Iterator[Page]:
    with WebServer(hub, host, 0, token) as server:
        yield Page(hub, server)


def decoded(data: bytes) -> np.ndarray:
    """A picture file's pixels as they are stored."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image
