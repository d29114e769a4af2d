"""Two reports of one matrix, before and after a change: `fcn-edge bench --compare BASE.json`, made for CI.

A slower machine and a slower model look alike in a table of latencies. So a limit on slowdown is judged only between
reports of the same machine, and only where the difference stands out of the noise; a gate that cannot judge says so
instead of passing. Labels of the same file on the same pictures do not vary, so accuracy needs no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from fcn_edge.bench.schema import Accuracy, Cell, Data, Latency, Machine, Protocol, Report
from fcn_edge.bench.timing import differs
from fcn_edge.errors import DataError, UsageError

POINT = 0.01  # of a mean IoU that is a share: limits on its drop are given in these
ROUNDING = 1e-5  # mean IoU that comes and goes with the order in which threads add
NAMED = 3  # differences of two machines that fit in a line
LATENCY = "latency"


class Row(Struct, frozen=True):
    """One figure of one cell in both reports."""

    key: str  # Cell.key
    what: str  # "latency": the median, in seconds; else the data set that the mean IoU is of
    base: float
    new: float
    difference: float  # of latency a share of the base's, above 0 where it is slower; of mean IoU new - base
    low: float | None  # 95 % interval of that difference; null for mean IoU
    high: float | None
    significant: bool
    doubtful: str | None = None  # what makes either report's latency noisy
    regression: str | None = None  # which limit it breaks, and by how much

    @property
    def is_latency(self) -> bool:
        return self.what == LATENCY


class Comparison(Struct, frozen=True):
    """What became of the cells that both reports have."""

    rows: list[Row]
    broken: dict[str, str]  # of cells by key: what the base has, and this one not any more, and why
    only_in_base: list[str]
    only_in_new: list[str]
    warnings: list[str]  # what a reader has to know first: another machine, other versions, noise

    @property
    def regressions(self) -> list[str]:
        """A line for each; none: the gate is passed."""
        rows = [f"{row.key}: {row.regression}" for row in self.rows if row.regression]
        return [*(f"{key}: {line}" for key, line in self.broken.items()), *rows]


def check(
    base: Report,
    machine: Machine,
    protocol: Protocol,
    data: Sequence[Data],
    max_slowdown: float | None,
    max_drop: float | None,
) -> None:
    """Raises DataError where a limit could not be judged, before anything is measured; arguments as `compare`'s.

    UsageError for a limit that is none.
    """
    for name, limit in (("--max-slowdown", max_slowdown), ("--max-drop", max_drop)):
        if limit is not None and not 0 <= limit < float("inf"):
            raise UsageError(f"{name} is a limit from 0 on, not {limit:g}.")
    if max_slowdown is not None and (unlike := _unlike(base, machine, protocol)):
        more = f" and {len(unlike) - NAMED} more" if len(unlike) > NAMED else ""
        raise DataError(
            f"the base was measured elsewhere ({'; '.join(unlike[:NAMED])}{more}): a slowdown from there to here says "
            "nothing of the models. Measure the base on this machine, or leave --max-slowdown out."
        )
    if max_drop is not None and not any(_twin(one, base.data) for one in data):
        held = ", ".join(f"{one.name} ({one.images} pictures)" for one in base.data) or "none"
        raise DataError(
            f"the base has no accuracy on the same pictures as here; its data: {held}. Give the same --data and "
            "--limit, or leave --max-drop out."
        )


def compare(base: Report, new: Report, max_slowdown: float | None = None, max_drop: float | None = None) -> Comparison:
    """Hold the cells of `new` against those of the same key in `base`.

    max_slowdown: of the median latency, as a share of the base's (0.05); a row that is slower by more, and
                  significantly so, is a regression.
    max_drop:     of mean IoU, in points (0.3 is from 0.750 to 0.747).
    With either, a cell that cannot be measured any more is a regression too.
    Raises DataError where a limit cannot be judged (see `check`) or no cell is in both.
    """
    check(base, new.machine, new.protocol, new.data, max_slowdown, max_drop)
    before, after = ({cell.key: cell for cell in report.cells} for report in (base, new))
    both = [key for key in after if key in before]
    if not both:
        raise DataError("the two reports have no cell in common. Compare reports of the same models and sizes.")
    rows: list[Row] = []
    for key in both:
        rows += _latency_rows(before[key], after[key], max_slowdown)
        rows += _accuracy_rows(before[key], after[key], base.data, new.data, max_drop)
    gate = (max_slowdown is not None, max_drop is not None)
    return Comparison(
        rows=rows,
        broken={key: line for key in both if (line := _broken(before[key], after[key], *gate))} if any(gate) else {},
        only_in_base=[key for key in before if key not in after],
        only_in_new=[key for key in after if key not in before],
        warnings=[*_warnings(base, new), *_unsure(rows, max_slowdown)],
    )


def _latency_rows(base: Cell, new: Cell, limit: float | None) -> Iterator[Row]:
    if base.latency is None or new.latency is None:
        return
    found = differs(base.latency.rounds, new.latency.rounds)
    slower = found.share if limit is not None and found.significant and found.share > limit else None
    yield Row(
        key=new.key,
        what=LATENCY,
        base=base.latency.total.p50,
        new=new.latency.total.p50,
        difference=found.share,
        low=found.low,
        high=found.high,
        significant=found.significant,
        doubtful=_doubt(base.latency, new.latency),
        regression=None if slower is None else f"{slower:.1%} slower, {limit:.1%} are allowed",
    )


def _doubt(base: Latency, new: Latency) -> str | None:
    told = [f"{name}: {each.noisy}" for name, each in (("base", base), ("new", new)) if each.noisy]
    return "; ".join(told) or None


def _accuracy_rows(
    base: Cell, new: Cell, base_data: Sequence[Data], new_data: Sequence[Data], limit: float | None
) -> Iterator[Row]:
    for ours, theirs in _pairs(base, new, base_data, new_data):
        difference = ours.mean_iou - theirs.mean_iou
        dropped = limit is not None and -difference > limit * POINT + ROUNDING
        yield Row(
            key=new.key,
            what=ours.data,
            base=theirs.mean_iou,
            new=ours.mean_iou,
            difference=difference,
            low=None,
            high=None,
            significant=abs(difference) > ROUNDING,
            regression=f"{-difference / POINT:.2f} points lost on {ours.data}, {limit:g} are allowed"
            if dropped
            else None,
        )


def _pairs(
    base: Cell, new: Cell, base_data: Sequence[Data], new_data: Sequence[Data]
) -> Iterator[tuple[Accuracy, Accuracy]]:
    """New and base accuracy on the same pictures, whatever their folders are called."""
    earlier = {each.data: each for each in base.accuracy}
    sets = {one.name: one for one in new_data}
    for ours in new.accuracy:
        twin = _twin(sets[ours.data], base_data) if ours.data in sets else None
        theirs = earlier.get(twin.name) if twin else None
        if theirs is not None and theirs.images == ours.images:
            yield ours, theirs


def _twin(data: Data, others: Sequence[Data]) -> Data | None:
    """The set that holds the same pictures, masks and classes, and means over the same of them."""
    facts = (data.identity, data.classes, data.over)
    return next((other for other in others if (other.identity, other.classes, other.over) == facts), None)


def _broken(base: Cell, new: Cell, latency: bool, accuracy: bool) -> str | None:
    """What cannot be measured any more, of what there is a limit on."""
    if base.failed:
        return None
    if new.failed:
        return f"it no longer runs: {new.failed}"
    if latency and base.latency and not new.latency:
        return f"its latency could not be measured: {new.not_measured.get('latency', 'no reason is given')}"
    if accuracy and base.accuracy and not new.accuracy:
        return f"its accuracy could not be measured: {new.not_measured.get('accuracy', 'no reason is given')}"
    return None


def _unlike(base: Report, machine: Machine, protocol: Protocol) -> list[str]:
    """What of the machine and of the protocol decides about speed, and is not the same."""
    there, here = base.machine, machine
    facts = {
        "CPU": (there.cpu, here.cpu),
        "instruction sets": (_listed(there.flags), _listed(here.flags)),
        "cores": (there.cores, here.cores),
        "GPU": (there.gpu, here.gpu),
        "board": (there.board, here.board),
        "power mode": (there.power_mode, here.power_mode),
        "threads": (base.protocol.threads or there.cores, protocol.threads or here.cores),
        "frame": ("x".join(map(str, base.protocol.frame)), "x".join(map(str, protocol.frame))),
    }
    return [f"{name} {old or 'none'}, here {now or 'none'}" for name, (old, now) in facts.items() if old != now]


def _listed(flags: Sequence[str]) -> str:
    return " ".join(sorted(flags))


def _warnings(base: Report, new: Report) -> Iterator[str]:
    if unlike := _unlike(base, new.machine, new.protocol):
        yield f"NOT THE SAME MACHINE OR PROTOCOL: {'; '.join(unlike)}. Latencies differ for that alone."
    old, now = base.machine.versions, new.machine.versions
    changed = [f"{name} {old[name]}, now {now[name]}" for name in sorted(now) if name in old and old[name] != now[name]]
    if changed:
        yield f"other versions: {'; '.join(changed)}"
    for name, report in (("base", base), ("new", new)):
        if report.machine.noise:
            yield f"the {name} was measured on a machine that was not at rest: {'; '.join(report.machine.noise)}"
    for one in new.data if base.data else ():
        if not _twin(one, base.data):
            yield f"{one.name} is not the same pictures and classes as in the base: accuracy on it is not compared"


def _unsure(rows: Sequence[Row], limit: float | None) -> Iterator[str]:
    for row in rows:
        if limit is not None and row.is_latency and not row.significant and row.difference > limit:
            assert row.low is not None
            assert row.high is not None
            between = f"{row.low:+.1%} to {row.high:+.1%}"
            yield f"{row.key}: {row.difference:.1%} slower, but anything from {between} would fit. Take more --rounds."


def text(comparison: Comparison) -> str:
    """The comparison for people: warnings first, then a row a figure, then what breaks a limit."""
    width = max((len(row.key) for row in comparison.rows), default=0)
    measure = max((len(_measure(row)) for row in comparison.rows), default=0)
    lines = [f"! {warning}" for warning in comparison.warnings]
    lines += [f"{'':{width}}  {'':{measure}}  {'base':>11}  {'new':>11}  difference (95 % interval)"]
    lines += [f"{row.key:{width}}  {_measure(row):{measure}}  {_told(row)}" for row in comparison.rows]
    for name, keys in (("base", comparison.only_in_base), ("new report", comparison.only_in_new)):
        if keys:
            lines.append(f"only in the {name}: {', '.join(keys)}")
    lines += [f"REGRESSION {line}" for line in comparison.regressions]
    return "\n".join(lines)


def _measure(row: Row) -> str:
    return LATENCY if row.is_latency else f"mean IoU, {row.what}"


def _told(row: Row) -> str:
    if row.low is None or row.high is None:
        verdict = "" if row.significant else ", the same"
        return f"{row.base:>11.4f}  {row.new:>11.4f}  {row.difference / POINT:+.2f} points{verdict}"
    verdict = ("slower" if row.difference > 0 else "faster") if row.significant else "not significant"
    doubt = "; noisy" if row.doubtful else ""  # why stands in the reports, and with --json
    figures = f"{1e3 * row.base:>8.3f} ms  {1e3 * row.new:>8.3f} ms"
    return f"{figures}  {row.difference:+.1%} ({row.low:+.1%} to {row.high:+.1%}) {verdict}{doubt}"
