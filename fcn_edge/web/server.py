"""The page's server: uvicorn in a thread, on a socket that is opened first, so that what is wrong with it is known.

What a client can hold is bounded: connections by number, the head of a request by time, and what was sent and not
taken by the kernel's own clock, because a phone that left the room says no goodbye.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.web.app import create_app
from fcn_edge.web.guard import check_token, make_token
from fcn_edge.web.hub import Hub

MOST_CONNECTIONS = 128
HEAD_WITHIN = 10.0  # seconds from connecting to a whole request
IDLE_FOR = 30  # seconds between two requests of a connection
UNTAKEN_FOR = 20_000  # milliseconds that a client may take nothing of what was sent
SEND_BUFFER = 256 * 1024  # bytes in the kernel: one picture, not seconds of a stream
ENDS_WITHIN = 0.3  # seconds for answers under way


class Hurried(H11Protocol):
    """Ends a connection whose request is not whole in time; uvicorn waits for its head for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_WITHIN, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way:
            self._stop_clock()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_WITHIN, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in self.server_state.connections:  # some clients take nothing, and would be waited for
            asyncio.get_running_loop().call_later(ENDS_WITHIN, connection.transport.abort)
        await super().shutdown(sockets)


class WebServer:
    """Serves `hub` while it is entered.

    token: who does not have it gets nothing; null: on a loopback address none is needed, on others one is made.
    Raises UsageError for a token that is too short, SinkError where the address cannot be served on.
    """

    def __init__(self, hub: Hub, host: str = "127.0.0.1", port: int = 8080, token: str | None = None) -> None:
        if token is not None:
            check_token(token)
        self.hub = hub
        self._socket = _listen(host, port)
        address = self._socket.getsockname()
        self.port: int = address[1]
        local = ipaddress.ip_address(address[0]).is_loopback
        self.token = token if token is not None or local else make_token()
        self.url = f"http://{_shown(host, address[0])}:{self.port}/"
        options: dict[str, Any] = {
            "log_config": None,
            "log_level": "error",
            "access_log": False,
            "server_header": False,
        }
        config = uvicorn.Config(
            create_app(hub, self.token),
            http=Hurried,
            ws="none",
            lifespan="off",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=IDLE_FOR,
            timeout_graceful_shutdown=2,
            **options,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="web", daemon=True)

    @property
    def greeting(self) -> str:
        """Where to look, for people; with the token, which is theirs to keep."""
        return f"{self.url}?token={self.token}" if self.token else self.url

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all requests and the thread; calling it again does nothing."""
        self.hub.end()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(5)
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    where = f"--host {host} --port {port}"
    if not 0 <= port <= 65_535:  # getaddrinfo would take what is left of it
        raise UsageError(f"{where}: a port is a number from 0 to 65535.")
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"{where}: there is no such address. Name one of this machine's, or 0.0.0.0 for all."
        ) from error
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_FOR)
        listening.bind(address)
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise SinkError(f"{where}: {_reason(error, port)}") from error
    return listening


def _reason(error: OSError, port: int) -> str:
    number = error.errno
    if number == errno.EADDRINUSE:
        return f"port {port} is taken by another program. Name another one, as --port {min(port + 1, 65_535)}."
    if number == errno.EACCES:
        return f"not permitted to serve on port {port}. Name one from 1024 on."
    if number == errno.EADDRNOTAVAIL:
        return "is no address of this machine. Name one of its own, or 0.0.0.0 for all."
    return f"cannot be served on: {error.strerror}."


def _shown(host: str, address: str) -> str:
    """What to type into a browser: for `all addresses`, the one that this machine has in its network."""
    if ipaddress.ip_address(address).is_unspecified:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # of no network (RFC 5737); a datagram socket sends nothing for it
                return probe.getsockname()[0]
            except OSError:
                return socket.gethostname()
    return f"[{address}]" if ":" in address else (host or address)
