"""One cell under way: what is to be measured of it, what was, and how it stands in the report.

Every figure is a part of its own in the store, so that a measurement that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from fcn_edge.bench import timing
from fcn_edge.bench.candidates import Planned
from fcn_edge.bench.messages import Opened
from fcn_edge.bench.schema import Accuracy, Cell, Data, Energy, Latency, Layer, Memory, Roofline, Throughput
from fcn_edge.bench.timing import Round
from fcn_edge.runtime.files import bundled

if TYPE_CHECKING:
    from fcn_edge.bench.store import Kept
    from fcn_edge.bench.worker import Candidate

DIGITS = 12
REFERENCES = ("onnxruntime", "openvino", "torch", "tensorrt", "tensorrt-rtx", "litert")  # the plainest float32 first


@dataclass(frozen=True)
class Settings:
    """What is measured, and how."""

    frame: tuple[int, int]  # (H, W)
    picture: Path | None = None  # that it shows; None: the package's own photo
    threads: int | None = None
    resize: str | None = None
    rounds: int = 10
    runs: int = 10  # of one candidate in a round, at least
    seconds: float = 1.0  # likewise
    data: tuple[str, ...] = ()  # ROOT or ROOT:LIST
    split: str | None = None
    classes: tuple[str, ...] | None = None
    limit: int | None = None  # pictures of each data set
    layers: bool = False
    roofline: bool = False
    patience: float = 300.0  # seconds without a sign of life after which a candidate is ended

    @property
    def timed(self) -> str:
        """The name under which figures of this frame are kept."""
        picture = "" if self.picture is None else f"-{hashlib.sha256(self.picture.read_bytes()).hexdigest()[:DIGITS]}"
        return f"{self.frame[0]}x{self.frame[1]}{picture}"


class Figures(Struct, frozen=True):
    """What is known of one candidate with one frame, rounds and accuracy excepted."""

    opened: Opened | None = None
    memory: Memory | None = None
    throughput: Throughput | None = None
    energy: Energy | None = None
    layers: list[Layer] | None = None
    parameters: int | None = None
    operations: float | None = None
    roofline: Roofline | None = None
    drift: str | None = None  # why its latency cannot be held against that of the others
    not_measured: dict[str, str] = {}  # why the others are null


@dataclass
class Work:
    """A cell whose file is there, or which has failed."""

    planned: Planned
    settings: Settings
    kept: Kept | None = None
    candidate: Candidate | None = None
    failed: str | None = None

    @property
    def key(self) -> str:
        return self.planned.key

    @property
    def figures(self) -> Figures:
        return (self.kept and self.kept.get(self.settings.timed, Figures)) or Figures()

    def note(self, **figures: Any) -> None:
        """Keep these figures; of `not_measured` what is added."""
        assert self.kept is not None
        before = self.figures
        why = {**before.not_measured, **figures.pop("not_measured", {})}
        self.kept.put(self.settings.timed, structs.replace(before, **figures, not_measured=why))

    @property
    def rounds(self) -> list[Round]:
        """Those that were taken, at most as many as are wanted."""
        found = [self._round(number) for number in range(self.settings.rounds)]
        return [each for each in found if each is not None]

    def add_round(self, taken: Round) -> None:
        assert self.kept is not None
        free = next(number for number in range(self.settings.rounds) if self._round(number) is None)
        self.kept.put(self._round_part(free), taken)

    def _round(self, number: int) -> Round | None:
        return self.kept and self.kept.get(self._round_part(number), Round)

    def _round_part(self, number: int) -> str:
        settings = self.settings
        return f"{settings.timed}-{settings.runs}-{settings.seconds:g}-round-{number:02}"

    def accuracy(self, data: Data, reference: Work | None) -> Accuracy | None:
        return self.kept and self.kept.get(self._accuracy_part(data, reference), Accuracy)

    def put_accuracy(self, data: Data, reference: Work | None, value: Accuracy) -> None:
        assert self.kept is not None
        self.kept.put(self._accuracy_part(data, reference), value)

    def _accuracy_part(self, data: Data, reference: Work | None) -> str:
        than = "" if reference is None or reference.kept is None else reference.kept.folder.name
        asked = "\n".join([data.name, data.identity, *(self.settings.classes or ()), "", than])
        return f"accuracy-{hashlib.sha256(asked.encode()).hexdigest()[:DIGITS]}"

    @property
    def labels(self) -> Path:
        """The folder that its labels are kept in."""
        assert self.kept is not None
        return self.kept.folder / "labels"

    @property
    def timed(self) -> bool:
        """Whether its speed is known."""
        figures = self.figures
        known = figures.opened and figures.memory and figures.throughput
        return bool(known) and len(self.rounds) == self.settings.rounds


def reference_of(work: Work, works: Sequence[Work]) -> Work | None:
    """The candidate whose labels those of `work` are held against: the same model at the same size in float32.

    With the same back end; None for that one itself, and where there is none.
    """

    def kind(planned: Planned) -> tuple[str, str, str | None]:
        return planned.model, planned.size_text, planned.refine

    alike = [
        other
        for other in works
        if other.kept is not None and kind(other.planned) == kind(work.planned) and other.planned.precision == "fp32"
    ]
    best = min(alike, key=lambda other: REFERENCES.index(other.planned.backend), default=None)
    return None if best is work else best


def cell_of(work: Work, data: Sequence[Data], reference: Work | None) -> Cell:
    """The cell as far as it was measured."""
    planned, figures = work.planned, work.figures
    blank = Cell(
        key=work.key,
        model=planned.model,
        backend=planned.backend,
        precision=planned.precision,
        size=planned.size_text,
        refine=planned.refine,
        failed=work.failed,
    )
    opened = figures.opened
    if opened is None:
        return blank
    settings = work.settings
    return structs.replace(
        blank,
        precision=opened.precision,
        variant=opened.variant or None,
        trained=opened.trained,
        device=opened.device,
        network=opened.network,
        sha256=opened.sha256,
        bytes=opened.bytes,
        parameters=figures.parameters,
        operations=figures.operations,
        load=opened.load,
        first=opened.first,
        latency=_latency(work.rounds, figures.drift),
        throughput=figures.throughput,
        memory=figures.memory,
        energy=figures.energy,
        accuracy=[found for one in data if opened.trained and (found := work.accuracy(one, reference)) is not None],
        layers=(figures.layers or []) if settings.layers else [],
        roofline=figures.roofline if settings.roofline else None,
        seen=opened.seen,
        file=None if planned.model in bundled() else shown(Path(opened.path)),
        spec=planned.spec and shown(planned.spec),
        not_measured={**_not_asked(settings), **_why(figures, settings), **_meaningless(opened.trained)},
    )


def shown(path: Path) -> str:
    """The path as the report has it: from the working folder where it is below that, and without the user's home."""
    whole = path.expanduser().absolute()
    for folder, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if whole.is_relative_to(folder):
            return f"{prefix}{whole.relative_to(folder).as_posix()}"
    return str(whole)


def _meaningless(trained: bool) -> dict[str, str]:
    return {} if trained else {"accuracy": "its weights are untrained: labels mean nothing"}


def _not_asked(settings: Settings) -> dict[str, str]:
    asked = {"accuracy": ("--data", settings.data), "layers": ("--layers", settings.layers)}
    asked["roofline"] = ("--roofline", settings.roofline)
    return {field: f"{option} was not asked for" for field, (option, wanted) in asked.items() if not wanted}


def _why(figures: Figures, settings: Settings) -> dict[str, str]:
    """The reasons of what was asked for."""
    wanted = {"layers": settings.layers, "roofline": settings.roofline}
    return {field: why for field, why in figures.not_measured.items() if wanted.get(field, True)}


def _latency(rounds: Sequence[Round], drift: str | None) -> Latency | None:
    if not rounds:
        return None
    found = timing.latency(rounds)
    return structs.replace(found, noisy="; ".join(filter(None, (found.noisy, drift))) or None)
