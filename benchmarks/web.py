"""What the web page costs the pipeline: frames a second with clients and without, in turn.

    python benchmarks/web.py VIDEO [--rounds 3] [--seconds 10] [--browsers 2]

50 clients read slowly (half of them motion JPEG, half the page's own requests, 64 KB a second each) and 20 vanish, once
a second each, in the middle of an answer. They run in a process of their own, on the same cores: what they cost is
counted against the page. Of a file the pipeline writes a video meanwhile and runs as fast as it can; the same file as a
camera comes at its own rate.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
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
CROWD = Path(__file__).with_name("crowd.py")
TARGET = 0.9


@dataclass(frozen=True)
class Row:
    """clients: how many read slowly, vanish, and watch as fast as they can; None: there is no page."""

    name: str
    clients: tuple[int, int, int] | None = None
    live: bool = False


def rate(video: Path, segmenter: Segmenter, seconds: float, folder: Path, row: Row) -> float:
    """Frames a second of a run that writes a video, and that serves the page if there is one."""
    tally, stop = Tally(), threading.Event()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(f"{video}#loop=yes{',live=yes' if row.live else ''}"))
        sinks: list[Sink] = [VideoSink(folder / "out.mp4", source, True, "")]
        painter = Painter(segmenter.spec)
        if row.clients is not None:
            hub = stack.enter_context(Hub(segmenter))
            sinks.append(WebSink(hub.add(source, painter, tally)))
            server = stack.enter_context(WebServer(hub, port=0))
            if any(row.clients):
                command = [sys.executable, CROWD, str(server.port), *map(str, row.clients)]
                crowd = stack.enter_context(subprocess.Popen(command))
                stack.callback(crowd.terminate)
        timer = threading.Timer(seconds, stop.set)
        timer.start()
        process([Feed(source, painter, sinks, tally)], segmenter, Limits(), stop)
        timer.cancel()
    return tally.fps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--browsers", type=int, default=2, help="that watch as fast as they can, in a row of their own")
    arguments = parser.parse_args()
    both = (SLOW, VANISHING, 0)
    rows = [
        Row("file"),
        Row("file, nobody looks", (0, 0, 0)),
        Row(f"file, {arguments.browsers} browsers", (0, 0, arguments.browsers)),
        Row(f"file, {SLOW} slow, {VANISHING} vanishing", both),
        Row("camera", live=True),
        Row(f"camera, {SLOW} slow, {VANISHING} vanishing", both, live=True),
    ]
    rates: dict[Row, list[float]] = {row: [] for row in rows}
    with Segmenter() as segmenter, tempfile.TemporaryDirectory() as folder:
        segmenter.warm_up((720, 1280))
        for _ in range(arguments.rounds):
            for row in rows:
                rates[row].append(rate(arguments.video, segmenter, arguments.seconds, Path(folder), row))
    for row, values in rates.items():
        alone = next(row_alone for row_alone in rows if row_alone.clients is None and row_alone.live == row.live)
        ratio = statistics.median(values) / statistics.median(rates[alone])
        rounds = ", ".join(f"{value:.1f}" for value in values)
        print(f"{row.name:32} {statistics.median(values):6.1f} fps  {ratio:.3f} (target {TARGET}), rounds {rounds}")


if __name__ == "__main__":
    main()
