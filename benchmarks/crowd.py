"""Clients of a live page, good and bad: `crowd.py PORT SLOW VANISHING BROWSERS`, until it is ended. For web.py.

A file of its own that imports little, because what starting it costs would be counted against the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys

SIP, SIPS_A_SECOND = 16 * 1024, 4  # bytes at a time: 64 KB a second
VANISH_EVERY = 1.0  # seconds


async def crowd(port: int, slow: int, vanishing: int, browsers: int) -> None:
    tasks = [sip(port, number % 2 == 0) for number in range(slow)]
    tasks += [vanish(port) for _ in range(vanishing)]
    tasks += [browse(port) for _ in range(browsers)]
    await asyncio.gather(*tasks)


async def sip(port: int, stream: bool) -> None:
    """Reads slowly, for ever."""
    while True:
        with contextlib.suppress(OSError), small_socket(port) as connection:
            loop = asyncio.get_running_loop()
            connection.setblocking(False)
            await asyncio.sleep(random.random())
            await loop.sock_sendall(connection, request("/stream.mjpg" if stream else "/api/live"))
            while data := await loop.sock_recv(connection, SIP):
                if not stream and data.endswith(b"--\r\n"):
                    await loop.sock_sendall(connection, request("/api/live"))
                await asyncio.sleep(1 / SIPS_A_SECOND)
        await asyncio.sleep(0.2)


async def vanish(port: int) -> None:
    """Asks, reads a little, and is gone without a goodbye, again and again."""
    await asyncio.sleep(random.random() * VANISH_EVERY)
    while True:
        with contextlib.suppress(OSError, asyncio.TimeoutError), small_socket(port) as connection:
            loop = asyncio.get_running_loop()
            connection.setblocking(False)
            await loop.sock_sendall(connection, request(random.choice(["/stream.mjpg", "/api/live"])))
            await asyncio.wait_for(loop.sock_recv(connection, 1000), 2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close resets
        await asyncio.sleep(VANISH_EVERY)


async def browse(port: int) -> None:
    """Asks as the page does, and takes all of it at once."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            have = "0"
            while True:
                writer.write(request(f"/api/live?have=1:{have}"))
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                body = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
                if b'"number":' in body:
                    have = body.partition(b'"number":')[2].partition(b",")[0].decode()
        await asyncio.sleep(0.2)


def small_socket(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP)
    connection.connect(("127.0.0.1", port))
    return connection


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(crowd(*map(int, sys.argv[1:])))
