"""`fcn-edge recommend`: which of the measured candidates to use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from fcn_edge.cli import common
from fcn_edge.errors import FcnEdgeError, UsageError

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
BYTES = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}

Reports = Annotated[
    list[Path], typer.Argument(help="report.json files, or folders with one: an answer each.", show_default=False)
]
MinMiou = Annotated[float | None, typer.Option("--min-miou", min=0, max=1, help="Mean IoU, at least: 0.75.")]
MaxLatency = Annotated[
    str | None, typer.Option("--max-latency", help="95 of 100 frames to their labels within: 20ms, 0.02s.")
]
MaxMemory = Annotated[str | None, typer.Option("--max-memory", help="Peak of host and device: 512MB, 1GiB.")]
DataName = Annotated[
    str | None, typer.Option("--data", help="The data that --min-miou is held to; the report's first where absent.")
]

EPILOG = common.examples(
    "fcn-edge recommend --min-miou 0.75 --max-latency 20ms bench/report.json",
    "fcn-edge recommend --max-latency 40ms --max-memory 1GB --json bench orin/report.json",
)


def register(app: typer.Typer) -> None:
    app.command("recommend", epilog=EPILOG)(command)


def command(
    reports: Reports,
    min_miou: MinMiou = None,
    max_latency: MaxLatency = None,
    max_memory: MaxMemory = None,
    data: DataName = None,
    json: common.Json = False,
) -> None:
    """Tell which model, backend, precision and size to use under bounds, and why."""
    if min_miou is None and max_latency is None and max_memory is None:
        raise UsageError("name a bound: --min-miou 0.75, --max-latency 20ms or --max-memory 512MB.")
    from fcn_edge.bench.schema import read_report
    from fcn_edge.report.recommend import Bounds, recommend, text
    from fcn_edge.report.view import boards

    bounds = Bounds(
        min_miou, _quantity("--max-latency", max_latency, SECONDS), _quantity("--max-memory", max_memory, BYTES), data
    )
    answers = [recommend(board, bounds) for board in boards((read_report(path), path) for path in reports)]
    found = [text(answer) for answer in answers if answer.cell]
    if json:
        common.print_json({"bounds": bounds, "boards": [answer.document() for answer in answers]})
        common.say("\n".join(found)) if found else None
    elif found:
        print("\n".join(found))
    if len(found) < len(answers):
        raise FcnEdgeError(" ".join(text(answer) for answer in answers if not answer.cell))


def _quantity(option: str, value: str | None, units: dict[str, float]) -> float | None:
    """`20ms` in the unit that all units are given in."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)\s*", value.lower())
    if match is None or match[2] not in units or not float(match[1]):
        raise UsageError(f"{option} {value} needs a number above 0 and a unit of {', '.join(units)}: 20{[*units][1]}.")
    return float(match[1]) * units[match[2]]
