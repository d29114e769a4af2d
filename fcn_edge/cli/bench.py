"""`fcn-edge bench`: accuracy and latency of a matrix of models, on this machine, into one report."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_edge.cli import common
from fcn_edge.errors import FcnEdgeError, UsageError, unknown

if TYPE_CHECKING:
    from fcn_edge.bench.candidates import Asked, Named, Planned, Words
    from fcn_edge.bench.cells import Settings
    from fcn_edge.bench.measuring import Gate
    from fcn_edge.bench.schema import Cell, Report
    from fcn_edge.cli.making import Maker

UNITS = 10  # of the progress bar, a second
NO_REFINE = "none"  # the name of labels without a back end in a matrix
PASSED_ON = ("--json", "--force", "--debug")  # not part of what reproduces a report

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        help="Joined by commas: bundled names or all; ONNX, TFLite, plan and checkpoint files; a variant, or "
        "VARIANT:untrained for its speed. MODEL@SIZE has a size of its own.",
    ),
]
Backends = Annotated[str, typer.Option("--backends", help="Joined by commas; all: those that are installed.")]
Precisions = Annotated[
    str, typer.Option("--precisions", help="fp32,bf16,fp16,int8; all: those that a backend can do with a model.")
]
Sizes = Annotated[str, typer.Option("--sizes", help="Network sizes, as in 256,384x512; own: the model's own.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="Measure accuracy too: ROOT with --split, or ROOT:LIST; repeatable, each by itself."),
]
Split = Annotated[str | None, typer.Option("--split", help="The list of every ROOT without one: val where absent.")]
Classes = Annotated[str | None, typer.Option("--classes", help="Means over these classes alone: cat,dog.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N pictures of each data set.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for report.json, the page and what is kept to go on.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="How often each candidate takes its turn.")]
Runs = Annotated[int, typer.Option("--runs", min=1, help="Frames in a turn, at least.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="Seconds in a turn, at least.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; one a core where absent.")]
Frame = Annotated[str, typer.Option("--frame", help="Rows and columns of the frame that latency starts from.")]
Refine = Annotated[
    str, typer.Option("--refine", help="Back ends joined by commas, as in none,guided (docs/refine.md).")
]
Layers = Annotated[bool, typer.Option("--layers", help="Time each layer too, where the runtime tells.")]
Roofline = Annotated[bool, typer.Option("--roofline", help="Measure what the machine can do, and the share reached.")]
Compare = Annotated[
    Path | None, typer.Option("--compare", help="An earlier report: tell what differs, and exit 1 on a regression.")
]
MaxSlowdown = Annotated[
    str | None, typer.Option("--max-slowdown", help="With --compare: how much slower is no regression, as in 5%.")
]
MaxDrop = Annotated[
    float | None, typer.Option("--max-drop", min=0, help="With --compare: points of mean IoU that may be lost.")
]
Name = Annotated[str | None, typer.Option("--name", help="The machine's name in the report; else its board or CPU.")]
Specs = Annotated[
    list[Path] | None,
    typer.Option("--spec", "--specs", help="TOML that describes a foreign model, or a folder of them; repeatable."),
]
Calib = Annotated[
    str | None, typer.Option("--calib", help="Make int8 files with these pictures: a set, ROOT or picture folder.")
]
NoPage = Annotated[bool, typer.Option("--no-page", help="Write report.json alone.")]

EPILOG = common.examples(
    "fcn-edge bench --models fcn8s-lite-small --backends openvino --precisions fp32,int8 --sizes 256 --rounds 3 "
    "--seconds 0.2 --data VOCdevkit/VOC2012:val --out bench",
    "fcn-edge bench --models fcn8s-lite-small --backends openvino --precisions int8 --sizes 256 --rounds 3 "
    "--seconds 0.2 --data VOCdevkit/VOC2012:val --out new --compare bench --max-drop 0.3 --json",
)


def register(app: typer.Typer) -> None:
    app.command("bench", epilog=EPILOG)(command)


def command(
    out: Out,
    models: Models = None,
    backends: Backends = "all",
    precisions: Precisions = "all",
    sizes: Sizes = "own",
    data: Data = None,
    split: Split = None,
    classes: Classes = None,
    limit: Limit = None,
    rounds: Rounds = 10,
    runs: Runs = 10,
    seconds: Seconds = 1.0,
    threads: Threads = None,
    frame: Frame = "720x1280",
    resize: common.Resize = None,
    refine: Refine = "none",
    layers: Layers = False,
    roofline: Roofline = False,
    compare: Compare = None,
    max_slowdown: MaxSlowdown = None,
    max_drop: MaxDrop = None,
    name: Name = None,
    spec: Specs = None,
    calib: Calib = None,
    project: common.Project = None,
    force: common.Force = False,
    no_page: NoPage = False,
    json: common.Json = False,
) -> None:
    """Measure models on backends in precisions at sizes, in turns, into DIR/report.json; then make its page.

    A matrix that was interrupted goes on where it was, and what is there already is not measured again.
    """
    from fcn_edge.bench.candidates import expand
    from fcn_edge.bench.cells import Settings
    from fcn_edge.bench.compare import compare as compare_reports
    from fcn_edge.bench.compare import text
    from fcn_edge.bench.measuring import NAME, measure
    from fcn_edge.bench.schema import read_report
    from fcn_edge.video.writing import sink_errors

    slowdown = _share(max_slowdown)
    if compare is None and (slowdown, max_drop) != (None, None):
        raise UsageError("--max-slowdown and --max-drop go with --compare BASE.json.")
    settings = Settings(
        frame=_frame(frame),
        threads=threads,
        resize=resize,
        rounds=rounds,
        runs=runs,
        seconds=seconds,
        data=tuple(data or ()),
        split=split,
        classes=None if classes is None else _names(classes, "--classes"),
        limit=limit,
        layers=layers,
        roofline=roofline,
    )
    words = _words(models, backends, precisions, sizes, refine, spec, calib)
    base = None if compare is None else read_report(compare)  # before hours are spent
    planned = expand(words)
    maker = _maker(out, project, calib, settings, planned)
    with sink_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with _Display(planned, settings, maker) as display:
            gate = _gate(base, slowdown, max_drop)
            make, progress = display.path, display.progress
            report = measure(out, planned, settings, make, progress, _tell, name, _command_line(), force, gate)
    say = common.say if json else print
    say(table(report))
    page = None if no_page else _page(out)
    comparison = None if base is None else compare_reports(base, report, slowdown, max_drop)
    if comparison is not None:
        say(f"\n{text(comparison)}")
    if json:
        document = {
            "report": str(out / NAME),
            "page": None if page is None else str(page),
            "cells": [_summary(cell) for cell in report.cells],
            "noise": report.machine.noise,
            "comparison": comparison,
            "regressions": [] if comparison is None else comparison.regressions,
        }
        common.print_json(document)
    if report.failed or (comparison is not None and comparison.regressions):
        raise typer.Exit(1)


# ---- words


def _words(
    models: Sequence[str] | None,
    backends: str,
    precisions: str,
    sizes: str,
    refines: str,
    specs: Sequence[Path] | None,
    calib: str | None,
) -> Words:
    from fcn_edge.bench.candidates import Words
    from fcn_edge.models import VARIANTS
    from fcn_edge.refine import REFINES

    for path in specs or ():
        if not path.exists():
            raise FcnEdgeError(f"{path}: no such spec file or folder.")
    for name in _names(refines, "--refine"):
        if name not in (NO_REFINE, *REFINES):
            raise unknown("refine", name, (NO_REFINE, *REFINES))
    named = [word for text in models or [common.DEFAULT_MODEL] for word in _names(text, "--models")]
    return Words(
        tuple(map(_named, named)),
        _names(backends, "--backends"),
        _names(precisions, "--precisions"),
        tuple(map(_size, _names(sizes, "--sizes"))),
        tuple(specs or ()),
        tuple(None if name == NO_REFINE else name for name in _names(refines, "--refine")),
        calib is not None,
        VARIANTS,
    )


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"{option} names nothing. Give names joined by commas.")
    return names


def _named(word: str) -> Named:
    """MODEL or MODEL@SIZE; a file may have an @ in its name."""
    from fcn_edge.bench.candidates import Named

    model, at, size = word.rpartition("@")
    if not at or not model or Path(word).exists():
        return Named(word)
    return Named(model, (_size(size),))


def _size(text: str) -> Asked:
    return None if text == "own" else common.parse_size(text)


def _frame(text: str) -> tuple[int, int]:
    size = common.parse_size(text)
    if not isinstance(size, tuple):
        raise UsageError(f"--frame {text} is no frame. Give rows by columns, as in 720x1280.")
    return size


def _share(text: str | None) -> float | None:
    """ "5%" or "5" as 0.05."""
    if text is None:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?\s*%?", text.strip()):
        raise UsageError(f"--max-slowdown {text} is no share. Give percent, as in 5%.")
    return float(text.strip().rstrip("%")) / 100


def _command_line() -> str:
    """What reproduces the report, without the folder that is this user's own."""
    words = [word for word in sys.argv[1:] if word not in PASSED_ON]
    return shlex.join(["fcn-edge", *words]).replace(str(Path.home()), "~")


# ---- files and progress


def _maker(out: Path, project: Path | None, calib: str | None, settings: Settings, planned: Sequence[Planned]) -> Maker:
    from fcn_edge.cli.making import Maker
    from fcn_edge.folders import project_folder

    engines = any(each.artefact and each.artefact.engine for each in planned)
    frames = [settings.frame, *(_picture_sizes(settings) if engines else ())]
    return Maker(
        out / "models",
        project_folder(project),
        calib,
        _root(settings.data),
        list(dict.fromkeys(frames)),
        settings.resize,
    )


def _picture_sizes(settings: Settings) -> list[tuple[int, int]]:
    """(H, W) of every labelled picture, which engines have to take."""
    from fcn_edge.bench.labelled import open_labelled
    from fcn_edge.data.reading import picture_size

    data = [open_labelled(text, settings.split, settings.limit) for text in settings.data]
    sizes = [picture_size(sample.image) for each in data for sample in each.samples]
    return [(height, width) for width, height in sizes]


def _root(data: Sequence[str]) -> Path | None:
    """Where the pictures of a calibration set lie."""
    from fcn_edge.data import parse_data

    for text in data:
        return Path(text) if Path(text).is_dir() else parse_data(text)[0]
    return None


class _Display:
    """One bar for all that a matrix takes: files that are made, and measurements."""

    def __init__(self, planned: Sequence[Planned], settings: Settings, maker: Maker) -> None:
        from fcn_edge.bench.labelled import open_labelled
        from fcn_edge.bench.matrix import estimate

        images = sum(len(open_labelled(text, settings.split, settings.limit).samples) for text in settings.data)
        self._maker = maker
        self._making = sum(maker.missing(each.artefact) for each in planned if each.artefact)
        self._total = self._making + estimate(planned, settings, images)

    def __enter__(self) -> _Display:
        from fcn_edge.bench.progress import Progress

        self._bar = common.bar(round(UNITS * self._total), "Measuring")
        show = self._bar.__enter__()
        self.progress = Progress(lambda done, text: show(round(UNITS * done), text))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.__exit__(*exception)

    def path(self, planned: Planned) -> Path:
        """The cell's file, made if need be."""
        assert planned.artefact is not None
        with self.progress.step(f"making what {planned.key} runs", self._maker.missing(planned.artefact)):
            return self._maker.path(planned.artefact, planned.size, planned.spec, self.progress.within)


def _tell(line: str) -> None:
    common.say(f"fcn-edge: {line}")


# ---- what came of it


def table(report: Report) -> str:
    """The cells for a terminal."""
    width = max(len(cell.key) for cell in report.cells)
    names = [data.name for data in report.data]
    lines = [f"{report.machine.name}: {report.protocol.frame[0]}x{report.protocol.frame[1]} frame to labels", ""]
    lines.append(f"{'':{width}}  {'ms':>8}  {'95 % of mean':>17}  {'frames/s':>8}" + "".join(f"  {n}" for n in names))
    for cell in report.cells:
        lines.append(f"{cell.key:{width}}  {_figures(cell, names)}")
    failed = len(report.failed)
    lines += ["", f"{failed} of {len(report.cells)} cells failed"] if failed else []
    lines += [f"noisy: {line}" for line in report.machine.noise]
    noisy = [cell for cell in report.cells if cell.latency and cell.latency.noisy]
    lines += [f"noisy: {cell.key}: {cell.latency.noisy}" for cell in noisy if cell.latency]
    return "\n".join(lines)


def _figures(cell: Cell, names: Sequence[str]) -> str:
    if cell.latency is None:
        return "failed" if cell.failed else "not measured"
    total = cell.latency.total
    interval = f"{1e3 * total.low:.2f} to {1e3 * total.high:.2f}"
    rate = f"{cell.throughput.best:8.1f}" if cell.throughput else f"{'-':>8}"
    accuracy = {each.data: f"{each.mean_iou:.4f}" for each in cell.accuracy}
    columns = "".join(f"  {accuracy.get(name, '-'):>{len(name)}}" for name in names)
    return f"{1e3 * total.p50:8.2f}  {interval:>17}  {rate}{columns}" + ("  failed" if cell.failed else "")


def _summary(cell: Cell) -> dict[str, Any]:
    return {
        "key": cell.key,
        "failed": cell.failed,
        "latency": cell.latency.total.p50 if cell.latency else None,
        "mean_iou": {each.data: each.mean_iou for each in cell.accuracy},
        "noisy": cell.latency.noisy if cell.latency else None,
    }


def _page(out: Path) -> Path | None:
    """The page of the report, where what draws it is there."""
    from fcn_edge.report import NEEDED, make

    try:
        common.need(*NEEDED, extra="report")
    except FcnEdgeError as error:
        common.say(f"No page was made: {error}")
        return None
    make([out], out, progress=lambda items: common.track(list(items), "Drawing"))
    return out / "report.html"


def _gate(base: Report | None, slowdown: float | None, drop: float | None) -> Gate | None:
    """Refuses limits that could not be judged before hours are spent."""
    from fcn_edge.bench.compare import check

    if base is None:
        return None
    return lambda machine, protocol, data: check(base, machine, protocol, data, slowdown, drop)
