"""`fcn-edge run --on`: pictures handed to many workers. What it prints, and which options it has no use for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_edge.cli import common
from fcn_edge.errors import UsageError
from fcn_edge.many.manifest import Header
from fcn_edge.many.pictures import find_pictures
from fcn_edge.many.running import Outcome, do
from fcn_edge.many.work import make_job

SHOWN = 20  # problems; the manifest has all


@dataclass(frozen=True)
class Request:
    """What the user asked for. model, drawing: the arguments of `Segmenter` and `Painter` by their names."""

    on: str
    workers: int | None
    sources: tuple[str, ...]
    model: dict[str, Any]
    drawing: dict[str, Any]
    outs: tuple[str, ...]
    labels: Path | None
    force: bool
    json: bool


def refuse(options: Mapping[str, object]) -> None:
    """Raises UsageError where one of these was given: they are for videos, or for what is looked at."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(f"{', '.join(given)}: not with --on, which is for pictures alone. Drop one of the two.")


def run(request: Request) -> int:
    """Does it and tells; returns the exit status. Raises FcnEdgeError where it had to stop."""
    out = _check(request)
    pictures = find_pictures(request.sources[0])
    job, header = make_job(request.model, request.drawing, out, request.labels, request.force)
    stop = threading.Event()
    with common.stop_on_signals(stop) as interrupted, _bar(len(pictures)) as progress:
        outcome = do(job, header, pictures, request.on, request.workers, stop, progress)
    told = document(request, outcome, header, interrupted.name)
    if request.json:
        common.print_json(told)
        common.say(text(told))
    else:
        print(text(told), flush=True)
    for line in outcome.problems[:SHOWN]:
        common.say(f"fcn-edge: {line}")
    if len(outcome.problems) > SHOWN:
        common.say(f"fcn-edge: and {len(outcome.problems) - SHOWN} more, in {outcome.manifest}.")
    return 128 + interrupted.number if interrupted.number else int(bool(outcome.problems))


def _check(request: Request) -> Path | None:
    """The folder for overlays, if there is to be one."""
    if len(request.sources) != 1:
        raise UsageError("--on takes one --source: a list of pictures, a folder or a 'glob'.")
    wrong = [out for number, out in enumerate(request.outs) if number or "://" in out or Path(out).suffix]
    if wrong:
        raise UsageError(f"--out {wrong[0]}: with --on it is a folder, for a picture each. Name one folder.")
    if not request.outs and request.labels is None:
        raise UsageError("--on: nothing to write is named. Add --labels FOLDER for masks, or --out FOLDER.")
    return Path(request.outs[0]) if request.outs else None


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Outcome], None]]:
    with common.bar(total, "Segmenting") as show:
        yield lambda outcome: show(outcome.done + len(outcome.problems), f"{outcome.rate:.1f} a second")


def document(request: Request, outcome: Outcome, header: Header, interrupted: str | None) -> dict[str, Any]:
    """The keys of `--json`; docs/many.md lists them."""
    return {
        "source": request.sources[0],
        "on": request.on,
        "pictures": outcome.pictures,
        "done": outcome.done,
        "before": outcome.before,
        "found": outcome.found,
        "made": outcome.made,
        "bad": len(outcome.problems),
        "seconds": round(outcome.seconds, 3),
        "starting": round(outcome.starting, 3),
        "rate": round(outcome.rate, 2),
        "workers": outcome.workers,
        "by_worker": dict(outcome.by_worker),
        "computed": dict(outcome.by_kind),
        "model": header.model,
        "trained": header.trained,
        "manifest": str(outcome.manifest),
        "problems": outcome.problems,
        "interrupted": interrupted,
    }


def text(told: dict[str, Any]) -> str:
    """The summary for people."""
    counts = {"before": "done before", "found": "found written", "bad": "bad"}
    parts = [f"{told['made']:,} made", *(f"{told[key]:,} {word}" for key, word in counts.items() if told[key])]
    rate = f"; {told['rate']:.1f} a second once they were up" if told["rate"] else ""
    by = f" by {told['workers']} workers" if told["workers"] else ""
    took = f"in {told['seconds']:.1f} s{by}{rate}"
    lines = [f"{told['pictures']:,} pictures of {told['source']}: {', '.join(parts)} {took}"]
    computed = ", ".join(f"{kind} {count:,}" for kind, count in told["computed"].items())
    lines += [f"  {told['model']}, {computed}"] if computed else []
    if len(told["computed"]) > 1:
        lines.append("  they were not all computed alike: name --backend, and the file in place of a bundled name")
    if not told["trained"]:
        lines.append("  UNTRAINED weights: the labels mean nothing")
    lines.append(f"  wrote {told['manifest']}")
    if told["interrupted"]:
        left = told["pictures"] - told["done"] - told["bad"]
        lines.append(f"  ended early by {told['interrupted']}: {left:,} are left for a second start")
    return "\n".join(lines)
