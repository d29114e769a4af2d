"""From a matrix to `report.json`: the cells, and what has to be told with them for anybody to believe them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from msgspec import Struct, structs

from fcn_edge import __version__
from fcn_edge.bench import pictures, timing
from fcn_edge.bench.candidates import Planned
from fcn_edge.bench.cells import Settings
from fcn_edge.bench.environment import look, machine, together
from fcn_edge.bench.matrix import Bench, Labelled, Make, Tell
from fcn_edge.bench.progress import Progress
from fcn_edge.bench.schema import KIND, SCHEMA, Data, Machine, Protocol, Report, read_report, write_report
from fcn_edge.bench.store import Store
from fcn_edge.errors import DataError, SinkError

NAME = "report.json"
SESSION = "session"  # the part of the store that tells when a matrix that was interrupted began

Gate = Callable[[Machine, Protocol, Sequence[Data]], None]


class Session(Struct, frozen=True):
    """A start of a matrix, for one that goes on after an interruption."""

    begun: str
    timer_overhead: float


def measure(
    out: Path,
    planned: Sequence[Planned],
    settings: Settings,
    make: Make,
    progress: Progress,
    tell: Tell,
    name: str | None = None,
    command: str = "",
    force: bool = False,
    gate: Gate | None = None,
) -> Report:
    """Measure what is not measured yet in `out`, and write report.json and pictures there.

    name:    of the machine in the report; None: made of its board, GPU and CPU.
    command: that reproduces the report, for the report.
    force:   measure everything anew, and replace a report.json that is none of ours.
    gate:    called with machine, protocol and data before anything is measured, to raise where a later comparison
             could not be made.
    Raises as `open_data` does for data that are not there, SinkError where a file that is not ours is in the way,
    OSError where none can be written.
    """
    earlier = _earlier(out, force)
    store = Store(out)
    root = store.root
    session = root.get(SESSION, Session)
    if session is None or force:
        session = Session(_now(), timing.overhead())
        root.put(SESSION, session)
    labelled = Labelled.open(settings)
    protocol = Protocol(
        frame=settings.frame,
        threads=settings.threads,
        rounds=settings.rounds,
        runs=settings.runs,
        seconds=settings.seconds,
        timer_overhead=session.timer_overhead,
        warm_up=timing.WARM_UP,
    )
    data = list(labelled.sets.values())
    if gate is not None:
        now = look()
        gate(machine(now, now, name), protocol, data)
    bench = Bench(settings, labelled, store, make, tell, progress, force)
    cells, shown = bench.run(planned)
    report = Report(
        kind=KIND,
        schema=SCHEMA,
        made_by=f"fcn-edge {__version__}",
        begun=session.begun,
        ended=_now(),
        command=command,
        machine=machine(*together(bench.looks or [(now := look(), now)]), name),
        protocol=protocol,
        data=data,
        cells=cells,
        pictures=shown,
    )
    if earlier is not None and (bench.reused or not bench.measured):
        report = _together(report, earlier, bench.measured, name)
    write_report(report, out / NAME)
    if earlier is not None:
        pictures.remove(out, earlier.pictures, report.pictures)
    root.drop(SESSION)  # the next start that measures something is another one
    return report


def _together(report: Report, earlier: Report, measured: bool, name: str | None) -> Report:
    """What is to be said of the time and the state of the machine where some cells are of an earlier start."""
    if not {cell.key for cell in report.cells} & {cell.key for cell in earlier.cells}:
        return report
    machine = report.machine if measured else earlier.machine
    noise = [*earlier.machine.noise, *machine.noise]
    machine = structs.replace(machine, name=name or machine.name, noise=list(dict.fromkeys(noise)))
    ended = report.ended if measured else earlier.ended
    overhead = (report if measured else earlier).protocol.timer_overhead
    protocol = structs.replace(report.protocol, timer_overhead=overhead)
    begun = min(report.begun, earlier.begun)
    return structs.replace(report, begun=begun, ended=ended, machine=machine, protocol=protocol)


def _earlier(out: Path, force: bool) -> Report | None:
    """The report that is there. Raises SinkError where it is something else and not to be overwritten."""
    path = out / NAME
    if not path.exists():
        return None
    try:
        return read_report(path)
    except DataError as error:
        if force:
            return None
        raise SinkError(
            f"{path} is in the way: it is no report that this fcn-edge reads. Name another --out."
        ) from error


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
