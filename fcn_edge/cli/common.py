"""What the commands share: options that mean the same everywhere, printing, progress.

Nothing here imports anything heavy: `fcn-edge --help` loads every command file.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import typer

from fcn_edge.errors import FcnEdgeError, UsageError, unknown
from fcn_edge.resources import DEFAULT_MODEL as DEFAULT_MODEL

Model = Annotated[str, typer.Option("--model", "-m", help="A bundled name, an ONNX file, a plan or a checkpoint.")]
Backend = Annotated[
    str, typer.Option("--backend", help="auto, tensorrt, tensorrt-rtx, onnxruntime, openvino, torch or litert.")
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="What to compute in, or nothing: fp32, bf16, fp16, int8.")
]
Size = Annotated[
    str | None, typer.Option("--size", help="Network size: the longer side, or HxW; the model's own where absent.")
]
Resize = Annotated[
    str | None, typer.Option("--resize", help="fit, stretch, native or tiles; the model's own where absent.")
]
Overlap = Annotated[
    int | None,
    typer.Option("--overlap", min=0, help="Of tiles: pixels that a score sees to either side; read from the model."),
]
Refine = Annotated[
    str | None,
    typer.Option("--refine", help="Follow the frame's own edges: guided, for video, or crf or mrf (docs/refine.md)."),
]
Url = Annotated[
    str | None, typer.Option("--url", help="HOST:PORT of a server that has the model, with --backend triton.")
]
SpecFile = Annotated[Path | None, typer.Option("--spec", help="TOML that describes a model file without a spec.")]
Project = Annotated[
    Path | None, typer.Option("--project", help="Project folder; else the nearest with export, engines and calib.")
]
Padding = Annotated[
    str | None, typer.Option("--padding", help="same, or the paper's border of 100 pixels; the weights' own if absent.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; people's text goes to stderr.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is in the way.")]

T = TypeVar("T")


def examples(*lines: str) -> str:
    """The epilog of a command's help: commands that a test runs as they stand."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)  # \b: do not wrap


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """`--size` as Segmenter takes it: "512" is the longer side, "384x512" rows by columns."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UsageError(
            f"--size {text} is no size. Give the longer side, as in 512, or rows by columns, as in 384x512."
        )
    sides = [int(part) for part in parts]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode(), flush=True)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` under a progress bar, on stderr and only where that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, label, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def bar(total: int, label: str) -> Iterator[Callable[[int, str], None]]:
    """A progress bar, set by calling what is yielded with (done, text); only where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, text="")
        yield lambda done, text: progress.update(task, completed=done, text=text)


@contextmanager
def building_bar() -> Iterator[Callable[[float, str], None]]:
    """A function that moves a bar on stderr, which is not there before it is first called: most opens build nothing."""
    with ExitStack() as stack:
        shown: list[Callable[[int, str], None]] = []

        def move(share: float, phase: str) -> None:
            if not shown:
                shown.append(stack.enter_context(bar(1000, "Building")))
            shown[0](round(1000 * share), phase)

        yield move


class Interrupted:
    """The signal that ended the run, if one did."""

    number: int = 0

    @property
    def name(self) -> str | None:
        return signal.Signals(self.number).name if self.number else None


@contextmanager
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


def parse_padding(text: str | None) -> Literal["same", "paper"] | None:
    """`--padding` as the networks take it."""
    if text not in (None, "same", "paper"):
        raise unknown("padding", text, ("same", "paper"))
    return cast("Literal['same', 'paper'] | None", text)


def fetch_published(name: str) -> Path:
    """The file of published weights, from the cache, or downloaded after saying what it is, under a bar."""
    from fcn_edge.models.published import WEIGHTS, download

    total = round(WEIGHTS[name].remote.megabytes * 1e6) if name in WEIGHTS else 0
    with bar(total, "Downloading") as show:
        return download(name, say, lambda done, total: show(done, f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"))


def need(*modules: str, extra: str) -> None:
    """Raise FcnEdgeError with the line that installs `extra` unless all `modules` are there."""
    from importlib.util import find_spec

    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise FcnEdgeError(
            f"this command needs {', '.join(missing)}. In a checkout of fcn-edge: pip install -e '.[{extra}]'"
        )
