"""What `fcn-edge run` does with its options: sources, model, outputs and page are opened, then frames go through.

A thread that cannot be ended still uses what it was given, so nothing of that may be closed beneath it: then
the process leaves at once, with everything else written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from fcn_edge.cli import common
from fcn_edge.cli.summary import document, text
from fcn_edge.segmenter import Segmenter
from fcn_edge.video.feed import Feed, Limits
from fcn_edge.video.frames import Source
from fcn_edge.video.options import SourceOptions
from fcn_edge.video.outputs import Wishes, open_sinks
from fcn_edge.video.painter import Painter
from fcn_edge.video.pipeline import no_frames, process
from fcn_edge.video.sources import open_source


@dataclass(frozen=True)
class Page:
    """Where the web page is served."""

    host: str
    port: int
    token: str | None


@dataclass(frozen=True)
class Drawing:
    """How results are drawn; as `Painter` takes it."""

    alpha: float
    keep: tuple[str, ...] | None
    heat: str | None
    legend: bool


@dataclass(frozen=True)
class Request:
    """What the user asked for. `model`: the arguments of `Segmenter` by their names."""

    sources: tuple[str, ...]
    capture: SourceOptions
    model: dict[str, Any]
    wishes: Wishes
    drawing: Drawing
    limits: Limits
    stable: bool
    page: Page | None
    json: bool


def run(request: Request) -> int:
    """Does it and tells; returns the exit status. Raises FcnEdgeError where nothing came of it."""
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(open_source(name, request.capture)) for name in request.sources]
        segmenter = stack.enter_context(_open_model(request))
        feeds = _make_feeds(request, sources, segmenter)
        interrupted = stack.enter_context(common.stop_on_signals(stop))
        with contextlib.ExitStack() as served:
            if request.page is not None:
                _serve(request.page, feeds, segmenter, served)
            _add_sinks(request, feeds, segmenter, stop, interrupted)
            with progress_bar(feeds, request.limits.frames) as progress:
                stuck = process(feeds, segmenter, request.limits, stop, progress, tell)
            if _is_only_looked_at(request) and any(feed.tally.frames for feed in feeds) and not stop.is_set():
                tell("everything was shown; the page stays until Ctrl-C.")
                stop.wait()
        if not any(feed.tally.frames for feed in feeds) and not interrupted.name:
            if stuck:
                _leave(1, str(no_frames(sources[0])))
            raise no_frames(sources[0])
        told = document(feeds, segmenter, interrupted.name)
        report(told, request.json)
        for line in told["problems"]:
            tell(line)
        status = 128 + interrupted.number if interrupted.number else int(bool(told["problems"]))
        if stuck:
            _leave(status, f"left behind what did not end: {', '.join(stuck)}.")
    return status


def _is_only_looked_at(request: Request) -> bool:
    """A page that went with the last picture of a photo would never be seen."""
    wishes, limits = request.wishes, request.limits
    written = wishes.out or wishes.labels or wishes.stats
    return request.page is not None and not written and limits.frames is None and limits.seconds is None


def _open_model(request: Request) -> Segmenter:
    scores = request.stable or request.drawing.heat is not None
    with common.building_bar() as building:
        return Segmenter(**request.model, scores=scores, progress=building)


def _make_feeds(request: Request, sources: list[Source], segmenter: Segmenter) -> list[Feed]:
    drawing, spec = request.drawing, segmenter.spec
    painter = Painter(spec, drawing.alpha, drawing.keep, drawing.heat, drawing.legend)
    for line in [*painter.warnings(), *(note for source in sources for note in source.notes)]:
        tell(line)
    feeds = [Feed(source, painter, []) for source in sources]
    if request.stable:
        from fcn_edge.video.stable import Stable

        for feed in feeds:
            feed.steady = Stable(spec.output.grid)
    return feeds


def _serve(page: Page, feeds: list[Feed], segmenter: Segmenter, stack: contextlib.ExitStack) -> None:
    common.need("starlette", "uvicorn", "jinja2", "prometheus_client", extra="web")
    from fcn_edge.web.hub import Hub
    from fcn_edge.web.server import WebServer
    from fcn_edge.web.sink import WebSink

    hub = stack.enter_context(Hub(segmenter))
    for feed in feeds:
        feed.sinks = [*feed.sinks, WebSink(hub.add(feed.source, feed.painter, feed.tally))]
    server = stack.enter_context(WebServer(hub, page.host, page.port, page.token))
    common.say(f"fcn-edge: the page is at {server.greeting}")


def _add_sinks(
    request: Request, feeds: list[Feed], segmenter: Segmenter, stop: threading.Event, interrupted: common.Interrupted
) -> None:
    """Opens what each feed writes to; where one of them cannot be, none is left open."""
    spec = segmenter.spec
    with contextlib.ExitStack() as opened:
        for number, feed in enumerate(feeds, 1):
            source = feed.source

            def summary(feed: Feed = feed) -> dict[str, Any]:
                return document([feed], segmenter, interrupted.name)

            wishes = request.wishes if len(feeds) == 1 else request.wishes.of(number)
            single = source.total == 1 or request.limits.frames == 1
            header = {"source": source.uri, "model": spec.name, "trained": spec.trained}
            sinks = open_sinks(wishes, source, spec, single, header, summary, stop.set)
            for sink in sinks:
                opened.push(sink)
            feed.sinks = [*sinks, *feed.sinks]
        opened.pop_all()


@contextlib.contextmanager
def progress_bar(feeds: list[Feed], frames: int | None) -> Iterator[Callable[[Feed], None]]:
    """A function that moves a bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda feed: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    ends = [[total for total in (feed.source.total, frames) if total is not None] for feed in feeds]
    total = sum(map(min, ends)) if all(ends) else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Segmenting", total=total)

        def move(feed: Feed) -> None:
            tallies = [feed.tally for feed in feeds]
            rate = sum(tally.recent_fps for tally in tallies)
            bar.update(task, completed=sum(tally.frames for tally in tallies), description=f"{rate:5.1f} fps")

        yield move


def report(told: dict[str, Any], json: bool) -> None:
    if json:
        common.print_json(told)
        common.say(text(told))
    else:
        print(text(told), flush=True)


def tell(line: str) -> None:
    common.say(f"fcn-edge: {line}")


def _leave(status: int, line: str) -> NoReturn:
    tell(line)
    sys.stdout.flush()
    os._exit(status)
