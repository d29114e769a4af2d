"""What the web page costs the pipeline: frames a second with clients and without, in turn.

    python benchmarks/web.py VIDEO [--rounds 3] [--seconds 10] [--browsers 2]

50 clients read slowly (half of them motion JPEG, half the page's own requests, 64 KB a second each) and 20 vanish, each
four times a second, in the middle of an answer. They run in a process of their own, on the same cores: what they cost
is counted against the page. The pipeline writes a video meanwhile, so that it runs as fast as it can.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from fcn_edge.segmenter import Segmenter
from fcn_edge.video.feed import Feed, Limits, Tally
from fcn_edge.video.painter import Painter
from fcn_edge.video.pipeline import process
from fcn_edge.video.recording import VideoSink
from fcn_edge.video.sinks import Sink
from fcn_edge.video.sources import open_source
from fcn_edge.web.hub import Hub
from fcn_edge.web.server import WebServer
from fcn_edge.web.sink import WebSink

SLOW, VANISHING = 50, 20
SIP, SIPS_A_SECOND = 16 * 1024, 4  # bytes at a time: 64 KB a second
VANISH_EVERY = 0.25  # seconds
TARGET = 0.9


def rate(
    video: Path, segmenter: Segmenter, seconds: float, folder: Path, port: int | None, clients: list[str]
) -> float:
    """Frames a second of a run that writes a video; with a port it serves the page there, to these clients."""
    tally, stop = Tally(), threading.Event()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(f"{video}#loop=yes"))
        sinks: list[Sink] = [VideoSink(folder / "out.mp4", source, True, "")]
        painter = Painter(segmenter.spec)
        if port is not None:
            hub = stack.enter_context(Hub(segmenter))
            sinks.append(WebSink(hub.add(source, painter, tally)))
            server = stack.enter_context(WebServer(hub, port=port))
            if clients:
                command = [sys.executable, __file__, "--clients", str(server.port), *clients]
                crowd = stack.enter_context(subprocess.Popen(command, stdout=sys.stdout))
                stack.callback(crowd.terminate)
        timer = threading.Timer(seconds, stop.set)
        timer.start()
        process([Feed(source, painter, sinks, tally)], segmenter, Limits(), stop)
        timer.cancel()
    return tally.fps


async def crowd(port: int, slow: int, vanishing: int, browsers: int) -> None:
    taken = {"slow": 0, "pictures of browsers": 0}
    tasks = [sip(port, number % 2 == 0, taken) for number in range(slow)]
    tasks += [vanish(port) for _ in range(vanishing)]
    tasks += [browse(port, taken) for _ in range(browsers)]
    await asyncio.gather(*tasks)


async def sip(port: int, stream: bool, taken: dict[str, int]) -> None:
    """Reads slowly, for ever."""
    while True:
        with contextlib.suppress(OSError), small_socket(port) as connection:
            loop = asyncio.get_running_loop()
            connection.setblocking(False)
            await asyncio.sleep(random.random())
            await loop.sock_sendall(connection, request("/stream.mjpg" if stream else "/api/live"))
            while data := await loop.sock_recv(connection, SIP):
                taken["slow"] += len(data)
                if not stream and data.endswith(b"--\r\n"):
                    await loop.sock_sendall(connection, request("/api/live"))
                await asyncio.sleep(1 / SIPS_A_SECOND)
        await asyncio.sleep(0.2)


async def vanish(port: int) -> None:
    """Asks, reads a little, and is gone without a goodbye, again and again."""
    await asyncio.sleep(random.random() * VANISH_EVERY)
    while True:
        with contextlib.suppress(OSError), small_socket(port) as connection:
            loop = asyncio.get_running_loop()
            connection.setblocking(False)
            await loop.sock_sendall(connection, request(random.choice(["/stream.mjpg", "/api/live"])))
            await asyncio.wait_for(loop.sock_recv(connection, 1000), 2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close resets
        await asyncio.sleep(VANISH_EVERY)


async def browse(port: int, taken: dict[str, int]) -> None:
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
                    taken["pictures of browsers"] += 1
        await asyncio.sleep(0.2)


def small_socket(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP)
    connection.connect(("127.0.0.1", port))
    return connection


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def main() -> None:
    if sys.argv[1:2] == ["--clients"]:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(crowd(*map(int, sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--browsers", type=int, default=2, help="that watch as fast as they can, in a row of their own")
    arguments = parser.parse_args()
    crowds = {
        "no page": None,
        "page, nobody looks": [],
        f"page, {arguments.browsers} browsers": ["0", "0", str(arguments.browsers)],
        f"page, {SLOW} slow, {VANISHING} vanishing": [str(SLOW), str(VANISHING), "0"],
    }
    rates: dict[str, list[float]] = {name: [] for name in crowds}
    with Segmenter() as segmenter, tempfile.TemporaryDirectory() as folder:
        segmenter.warm_up((720, 1280))
        for _ in range(arguments.rounds):
            for name, clients in crowds.items():
                port = None if clients is None else 0
                fps = rate(arguments.video, segmenter, arguments.seconds, Path(folder), port, clients or [])
                rates[name].append(fps)
    alone = statistics.median(rates["no page"])
    for name, values in rates.items():
        ratio = statistics.median(values) / alone
        rounds = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:32} {statistics.median(values):6.1f} fps  {ratio:.3f} (target {TARGET}), rounds {rounds}")


if __name__ == "__main__":
    main()
