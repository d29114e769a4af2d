"""How large a candidate's work is, and how much of the machine it makes use of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fcn_edge.bench import cost, roofline
from fcn_edge.bench.apart import Apart
from fcn_edge.bench.cells import Settings, Work
from fcn_edge.bench.cost import Cost
from fcn_edge.bench.messages import Opened
from fcn_edge.bench.roofline import Roof
from fcn_edge.bench.schema import Roofline
from fcn_edge.bench.store import Store
from fcn_edge.bench.timing import summary
from fcn_edge.errors import FcnEdgeError
from fcn_edge.runtime.files import read_spec
from fcn_edge.runtime.host import physical_cores
from fcn_edge.spec import ModelSpec, from_toml

FIELDS = ("parameters", "operations")


class Extent:
    """Counts and roofs, each made once. Close it with `apart`."""

    def __init__(self, settings: Settings, store: Store, apart: Apart) -> None:
        self._settings, self._store, self._apart = settings, store, apart
        self._costs: dict[tuple[str, tuple[int, int]], Cost] = {}

    def count(self, work: Work) -> None:
        """Its parameters and operations, where they are not known."""
        figures = work.figures
        if figures.opened is None or figures.operations is not None or "operations" in figures.not_measured:
            return
        found = self._cost(work, figures.opened)
        work.note(parameters=found.parameters, operations=found.operations, not_measured=found.reasons)

    def place(self, work: Work) -> None:
        """Where it lies below the machine's roof, where that is not known."""
        figures, rounds = work.figures, work.rounds
        known = figures.roofline is not None or "roofline" in figures.not_measured
        if figures.opened is None or not rounds or known:
            return
        found = self._roofline(work, figures.opened)
        if isinstance(found, str):
            work.note(not_measured={"roofline": found})
        else:
            work.note(roofline=found)

    def _roofline(self, work: Work, opened: Opened) -> Roofline | str:
        seconds = summary([each.stages["infer"] for each in work.rounds]).p50
        try:
            spec = spec_of(Path(opened.path), work.planned.spec)
            roof = self._roof(opened.device, opened.precision)
            counted = self._cost(work, opened)
            return roofline.roofline(counted, spec, opened.network, opened.precision, seconds, roof)
        except FcnEdgeError as error:
            return str(error)

    def _roof(self, device: str, precision: str) -> Roof:
        """What the machine reaches. Raises BackendError where that cannot be measured."""
        return Roof(
            self._once(f"peak-{roofline.kind(device)}-{precision}", roofline.peak, roofline.kind(device), precision),
            self._once(f"bandwidth-{roofline.kind(device)}", roofline.bandwidth, roofline.kind(device)),
        )

    def _once(self, part: str, measure: Callable[..., float], *what: str) -> float:
        """Measured with nothing beside it, and kept: once for all cells, so that all are held to the same figure."""
        threads = self._settings.threads or physical_cores()
        kept, part = self._store.machine(), f"{part}-{threads}"
        found = kept.get(part, float)
        if found is None:
            found = self._apart.call(measure, *what, threads)
            kept.put(part, found)
        return found

    def _cost(self, work: Work, opened: Opened) -> Cost:
        key = opened.sha256, opened.network
        if key not in self._costs:
            self._costs[key] = self._counted(Path(opened.path), work.planned.spec, opened.network)
        return self._costs[key]

    def _counted(self, path: Path, described: Path | None, network: tuple[int, int]) -> Cost:
        try:
            return self._apart.call(cost.cost, path, spec_of(path, described), network)
        except FcnEdgeError as error:
            return Cost(None, None, None, dict.fromkeys(FIELDS, str(error)))


def spec_of(path: Path, described: Path | None) -> ModelSpec:
    """What the file says of itself, or what is said of it. Raises SpecError and ModelError."""
    return read_spec(path) if described is None else from_toml(described)
