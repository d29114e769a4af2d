"""`fcn-edge run`: frames in, segmented pictures and videos out."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_edge.cli import common
from fcn_edge.errors import SinkError, UsageError

if TYPE_CHECKING:
    from fcn_edge.segmenter import Segmenter
    from fcn_edge.video import Source
    from fcn_edge.video.pipeline import Tally
    from fcn_edge.video.sinks import Sink

EPILOG = common.examples(
    "fcn-edge run --source demo: --duration 3 --out demo.mp4",
    "fcn-edge run --source photos --classes person,dog --out overlays --labels masks --json",
)

SourceName = Annotated[
    str | None,
    typer.Option("--source", "-s", help="A photo, a folder, a 'glob', a video file, or demo:, a view that never ends."),
]
Camera = Annotated[str | None, typer.Option("--camera", help="A camera by its number or device, instead of --source.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The overlay: a video (.mp4, .mov, .mkv), a picture, or a folder for pictures."),
]
Labels = Annotated[Path | None, typer.Option("--labels", help="Folder for a mask a frame: palette PNGs of its size.")]
Heat = Annotated[str | None, typer.Option("--heat", help="Show this class's probability instead of the overlay.")]
Stats = Annotated[Path | None, typer.Option("--stats", help="File for figures: a JSON line a frame, then a summary.")]
Alpha = Annotated[float, typer.Option("--alpha", min=0.0, max=1.0, help="How strongly the overlay covers.")]
Classes = Annotated[
    str | None, typer.Option("--classes", help="Show only these, as in person,dog; all others become background.")
]
Frames = Annotated[int | None, typer.Option("--frames", min=1, help="End after so many frames.")]
Duration = Annotated[
    float | None,
    typer.Option("--duration", min=0.001, help="End after so many seconds of the video, or of work on photos."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads for the network; all where absent.")]
Legend = Annotated[bool, typer.Option("--legend/--no-legend", help="Class names and rate in the picture.")]
Window = Annotated[
    bool | None,
    typer.Option("--window/--no-window", help="Show a window; by default where nothing is written and one can open."),
]


def register(app: typer.Typer) -> None:
    app.command("run", epilog=EPILOG)(command)


def command(
    source: SourceName = None,
    camera: Camera = None,
    model: common.Model = common.DEFAULT_MODEL,
    out: Out = None,
    labels: Labels = None,
    heat: Heat = None,
    stats: Stats = None,
    classes: Classes = None,
    alpha: Alpha = 0.5,
    legend: Legend = True,
    window: Window = None,
    frames: Frames = None,
    duration: Duration = None,
    backend: common.Backend = "auto",
    precision: common.Precision = None,
    size: common.Size = None,
    resize: common.Resize = None,
    spec: common.SpecFile = None,
    threads: Threads = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Segment a photo, a folder, a video or a camera.

    With --backend tensorrt or tensorrt-rtx an ONNX file's engine is built first where none fits, and kept.

    Ctrl-C ends a run early; what was written until then is kept and playable.
    """
    if (source is None) == (camera is None):
        raise UsageError("name one input: --source with a photo, folder, video file or demo:, or --camera 0.")
    network_size = common.parse_size(size)

    from fcn_edge.segmenter import Segmenter
    from fcn_edge.video.outputs import Wishes, open_sinks
    from fcn_edge.video.painter import Painter
    from fcn_edge.video.pipeline import Limits, Tally, no_frames, process
    from fcn_edge.video.sources import open_source

    wishes = Wishes((str(out),) if out else (), labels, stats, window, force)
    if not json or wishes.writes or window:
        wishes.check()
    keep = None if classes is None else tuple(name.strip() for name in classes.split(",") if name.strip())
    stop = threading.Event()
    tally = Tally()
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_source(source if camera is None else f"camera:{camera}"))  # type: ignore[arg-type]
        with building_bar() as building:
            options: dict[str, Any] = {"scores": heat is not None, "progress": building}
            opening = Segmenter(model, backend, precision, network_size, resize, spec, threads, **options)  # type: ignore[arg-type]
        segmenter = stack.enter_context(opening)
        painter = Painter(segmenter.spec, alpha, keep, heat, legend)
        for line in painter.warnings():
            common.say(f"fcn-edge: {line}")

        def document() -> dict[str, Any]:
            return summary(opened, segmenter, tally, sinks, interrupted.name)

        interrupted = stack.enter_context(stop_on_signals(stop))
        single = opened.total == 1 or frames == 1
        header = {"source": opened.uri, "model": segmenter.spec.name, "trained": segmenter.spec.trained}
        sinks = open_sinks(wishes, opened, segmenter.spec, single, header, document, stop.set)
        try:
            with contextlib.ExitStack() as open_now, progress_bar(opened, frames) as progress:
                for sink in sinks:
                    open_now.enter_context(sink)
                process(opened, segmenter, painter, sinks, Limits(frames, duration), stop, tally, progress)
        except SinkError as error:
            if not tally.frames:
                raise
            tally.error = error
        if not tally.frames and not interrupted.name:
            raise no_frames(opened)
        report(document(), json)
        problems = [*opened.problems, *([str(tally.error)] if tally.error else [])]
    for line in problems:
        common.say(f"fcn-edge: {line}")
    if interrupted.number:
        raise typer.Exit(128 + interrupted.number)
    if problems:
        raise typer.Exit(1)


class Interrupted:
    """The signal that ended the run, if one did."""

    number: int = 0

    @property
    def name(self) -> str | None:
        return signal.Signals(self.number).name if self.number else None


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[Interrupted]:
    """Within it the first SIGINT or SIGTERM sets `stop`, so that frames in flight end well; a second one kills."""
    interrupted = Interrupted()

    def note(number: int, frame: object) -> None:
        interrupted.number = number
        stop.set()
        signal.signal(number, before[number])

    before = {int(number): signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress_bar(source: Source, frames: int | None) -> Iterator[Callable[[Tally], None]]:
    """A function that moves a bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda tally: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    totals = [total for total in (source.total, frames) if total is not None]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Segmenting", total=min(totals, default=None))

        def move(tally: Tally) -> None:
            bar.update(task, completed=tally.frames, description=f"{tally.fps:5.1f} fps")

        yield move


@contextlib.contextmanager
def building_bar() -> Iterator[Callable[[float, str], None]]:
    """A function that moves a bar on stderr, which is not there before it is first called: most opens build nothing."""
    with contextlib.ExitStack() as stack:
        shown: list[Callable[[int, str], None]] = []

        def move(share: float, phase: str) -> None:
            if not shown:
                shown.append(stack.enter_context(common.bar(1000, "Building")))
            shown[0](round(1000 * share), phase)

        yield move


def summary(
    source: Source, segmenter: Segmenter, tally: Tally, sinks: list[Sink], interrupted: str | None
) -> dict[str, Any]:
    """What the run did; the keys of `--json` and of the last line of `--stats` (docs/run.md)."""
    backend = segmenter.backend
    return {
        "source": source.uri,
        "frames": tally.frames,
        "skipped": len(source.problems) if source.still else 0,
        "dropped": source.dropped,
        "seconds": round(tally.seconds, 3),
        "fps": round(tally.fps, 2),
        "stages_ms": {name: round(1e3 * mean, 3) for name, mean in tally.stage_means.items()},
        "model": segmenter.spec.name,
        "trained": segmenter.spec.trained,
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
        "choice": segmenter.choice,
        "network_sizes": [list(size) for size in sorted(tally.network_sizes)],
        "resize": segmenter.resize,
        "outputs": [sink.where for sink in sinks if sink.where],
        "notes": [note for sink in sinks for note in sink.notes],
        "problems": [*source.problems, *([str(tally.error)] if tally.error else [])],
        "interrupted": interrupted,
    }


def report(document: dict[str, Any], json: bool) -> None:
    if json:
        common.print_json(document)
        common.say(text(document))
    else:
        print(text(document), flush=True)


def text(document: dict[str, Any]) -> str:
    """The summary for people."""
    dropped = f", {document['dropped']} dropped" if document["dropped"] else ""
    skipped = f", {document['skipped']} skipped" if document["skipped"] else ""
    stages = ", ".join(f"{name} {mean:.1f}" for name, mean in document["stages_ms"].items())
    sizes = [f"{height}x{width}" for height, width in document["network_sizes"]]
    shown = ", ".join(sizes[:3]) + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")
    frames = "1 frame" if document["frames"] == 1 else f"{document['frames']} frames"
    lines = [
        f"{frames} of {document['source']} in {document['seconds']:.2f} s{dropped}{skipped}; "
        f"after the first one {document['fps']:.1f} a second",
        f"  ms a frame: {stages}",
        f"  {document['model']} at {shown} (rows x columns, {document['resize']}), {document['precision']}",
        f"  {document['choice']}",
    ]
    if not document["trained"]:
        lines.append("  UNTRAINED weights: the labels mean nothing")
    lines += [f"  wrote {where}" for where in document["outputs"] if where != "window"]
    lines += [f"  {note}" for note in document["notes"]]
    if document["interrupted"]:
        lines.append(f"  ended early by {document['interrupted']}")
    return "\n".join(lines)
