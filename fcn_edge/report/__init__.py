"""Pages, plots and answers out of what `fcn-edge bench` measured: made of `report.json` alone, by `fcn-edge report`.

Two forms of each plot, because each does what the other can't: plotly's tell what lies under the pointer, matplotlib's
are files for a README or a slide, and stand in for the others on paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

NEEDED = ("jinja2", "matplotlib", "plotly")  # of the extra `report`
MARK = b"fcn-edge report"  # in all that is written: such a file may be replaced
MARK_WITHIN = 4096  # bytes from the start


def make(
    paths: Sequence[Path],
    out: Path,
    force: bool = False,
    progress: Callable[[Iterable[tuple[str, Callable[[], bytes]]]], Iterable[tuple[str, Callable[[], bytes]]]] = iter,
) -> list[Path]:
    """Write report.html, report.md and the plots as SVG and PNG to the folder `out`; returns what was written.

    paths:    report.json files, or folders that hold one: each is a column. Their pictures lie in `pictures` beside.
    force:    overwrite files of those names that were made by something else.
    progress: wraps the iteration over what is written.
    Needs what NEEDED lists. Raises DataError for a file that is no report, SinkError where nothing can be written.
    """
    from fcn_edge.bench.schema import read_report
    from fcn_edge.report.markdown import markdown
    from fcn_edge.report.page import page
    from fcn_edge.report.plots import plots
    from fcn_edge.report.view import boards

    shown = boards((read_report(path), path if path.is_dir() else path.parent) for path in paths)
    drawn = plots(shown)
    makers: dict[str, Callable[[], bytes]] = {}
    for plot in (plot for each in drawn for plot in each.all):
        makers[f"{plot.name}.svg"] = lambda plot=plot: plot.svg
        makers[f"{plot.name}.png"] = lambda plot=plot: plot.png
    makers["report.md"] = lambda: markdown(shown, drawn).encode()
    makers["report.html"] = lambda: page(shown, drawn).encode()
    _check(out, makers, force)
    for name, maker in progress(makers.items()):
        _write(out / name, maker())
    return [out / name for name in makers]


def _check(out: Path, names: Iterable[str], force: bool) -> None:
    """Raises SinkError, before anything is drawn, where a file that is not ours is in the way."""
    from fcn_edge.errors import SinkError

    for path in (out / name for name in names):
        if path.is_file() and not force:
            with path.open("rb") as file:
                if MARK not in file.read(MARK_WITHIN):
                    raise SinkError(
                        f"{path}: exists and was not made by fcn-edge report. Name another folder, or add --force."
                    )


def _write(path: Path, data: bytes) -> None:
    from fcn_edge.files import replacing
    from fcn_edge.video.writing import sink_errors

    with sink_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
