"""All cells of a matrix, measured in turns: a round of each before the second round of any.

A machine that gets slower, because it heats up or somebody else is at work, then slows all candidates alike, and what
the report ranks stays ranked. Only as many candidates as fit into memory take turns with each other; the first of all
is timed again beside each further group, and tells what changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from fcn_edge.bench import pictures
from fcn_edge.bench.apart import Apart
from fcn_edge.bench.candidates import Planned
from fcn_edge.bench.cells import Settings, Work, cell_of, reference_of
from fcn_edge.bench.extent import Extent, spec_of
from fcn_edge.bench.group import Group, timing_seconds
from fcn_edge.bench.labelled import describe, open_labelled
from fcn_edge.bench.progress import Progress
from fcn_edge.bench.schema import Accuracy, Cell, Data, Picture
from fcn_edge.bench.store import Kept, Store, identity
from fcn_edge.bench.worker import Candidate, Worker
from fcn_edge.errors import DataError, FcnEdgeError, UsageError

A_PICTURE, PROFILING, COUNTING = 0.1, 5.0, 0.5  # seconds, for the progress bar

Make = Callable[[Planned], Path]  # the file of a cell, made if need be; raises FcnEdgeError
Tell = Callable[[str], None]  # a line for people


@dataclass(frozen=True)
class Labelled:
    """What accuracy is measured on: data sets by their words, and what is wrong with one that has no labels."""

    sets: dict[str, Data]
    problem: str | None = None

    @classmethod
    def open(cls, settings: Settings) -> Labelled:
        """Raises as `open_data` does for what is not there; without labels, speed can still be measured."""
        sets: dict[str, Data] = {}
        problem: str | None = None
        for text in settings.data:
            open_labelled(text, settings.split, settings.limit)
            try:
                sets[text] = describe(text, settings.split, settings.limit, settings.classes)
            except DataError as error:
                problem = str(error)
        return cls(sets, problem)

    @property
    def images(self) -> int:
        return sum(one.images for one in self.sets.values())


@dataclass
class Bench:
    """A matrix at work. Ctrl-C may come at any time; what was measured until then is kept."""

    settings: Settings
    labelled: Labelled
    store: Store
    make: Make
    tell: Tell
    progress: Progress
    force: bool = False  # measure what is there anew
    measured: bool = False  # whether anything was
    reused: bool = False  # whether anything was there
    looks: list[tuple[dict[str, float], dict[str, float]]] = field(default_factory=list)  # around all that was timed
    _works: list[Work] = field(default_factory=list)
    _judged: set[str] = field(default_factory=set)  # keys

    def run(self, planned: Sequence[Planned]) -> tuple[list[Cell], list[Picture]]:
        """Measure what is not measured yet. Raises OSError where the store cannot be written."""
        if self.force:
            self.store.machine().forget()
        works = self._works = [self._made(each) for each in planned]
        self._time([work for work in works if work.failed is None])
        for work in sorted(self._alive, key=lambda work: self.reference(work) is not None):
            self._judge(work)
        self._count(self._alive)
        shown = self._pictures(self._alive)
        data = list(self.labelled.sets.values())
        return [cell_of(work, data, self.reference(work)) for work in works], shown

    @property
    def _alive(self) -> list[Work]:
        return [work for work in self._works if work.failed is None]

    def reference(self, work: Work) -> Work | None:
        """The candidate whose labels its own are held against."""
        return reference_of(work, self._alive)

    # ---- files

    def _made(self, planned: Planned) -> Work:
        """The cell with its file, or with the reason why it has none."""
        settings = self.settings
        if planned.artefact is None:
            return self.lost(Work(planned, settings), planned.failed or "it cannot be.")
        try:
            path = self.make(planned)
            if planned.own is None:
                planned = replace(planned, own=spec_of(path, planned.spec).size)
            folder = self._kept(planned, path)
        except FcnEdgeError as error:
            return self.lost(Work(planned, settings), str(error))
        candidate = Candidate(
            planned.key,
            path,
            planned.backend,
            planned.precision,
            planned.size,
            settings.resize,
            planned.spec,
            settings.threads,
            planned.model,
            planned.refine,
        )
        return Work(planned, settings, folder, candidate)

    def _kept(self, planned: Planned, path: Path) -> Kept:
        settings, size = self.settings, planned.size or planned.own
        computed = planned.backend, planned.precision, size, settings.resize, planned.spec, settings.threads
        kept = self.store.cell(identity(path, *computed, planned.refine))
        if self.force:
            kept.forget()
        return kept

    def lost(self, work: Work, why: str) -> Work:
        work.failed = why = why.removeprefix(f"{work.key}: ")  # which a worker's own lines begin with
        self.tell(f"{work.key}: {why}")
        return work

    # ---- speed

    def _time(self, works: Sequence[Work]) -> None:
        waiting = [work for work in works if not work.timed]
        self.reused = len(waiting) < len(works) or any(work.rounds for work in works)
        for _ in range(len(works) - len(waiting)):
            self.progress.skip(timing_seconds(self.settings))
        alone: list[Work] = []
        while waiting:
            group = Group(self, next((work for work in works if work.timed), None))
            waiting = group.run(waiting)
            alone += group.deferred
        for work in alone:
            Group(self, None).run([work])

    def start(self, work: Work) -> Worker:
        """Its process, with the model opened. Raises FcnEdgeError."""
        assert work.candidate is not None
        settings = self.settings
        worker = Worker(work.candidate, settings.picture, settings.frame, settings.patience, self.progress.within)
        try:
            opened = worker.open()
            if work.figures.opened is None:
                work.note(opened=opened)
        except BaseException:
            worker.close()
            raise
        self.measured = True
        return worker

    # ---- accuracy and layers

    def judge_beside(self, work: Work, worker: Worker) -> None:
        """Judge a candidate that is open already, unless the one that it is held against was not judged yet."""
        reference = self.reference(work)
        if reference is None or not self._unjudged(reference):
            self._judge(work, worker)

    def _judge(self, work: Work, worker: Worker | None = None) -> None:
        """Its accuracy on every data set that it was not measured on yet, and its layers."""
        if work.key in self._judged:
            return
        self._judged.add(work.key)
        missing, profile = self._unjudged(work), self._unprofiled(work)
        try:
            if self.labelled.problem is not None:
                raise DataError(self.labelled.problem)
            if not (missing or profile):
                self.progress.skip(judging_seconds(self.settings, self.labelled.images) - COUNTING)
                return
            with nullcontext(worker) if worker else self.start(work) as opened:
                if profile:
                    with self.progress.step(f"layers: {work.key}", PROFILING):
                        self._profile(work, opened)
                for text, one in missing.items():
                    with self.progress.step(f"accuracy: {work.key} on {one.name}", one.images * A_PICTURE):
                        work.put_accuracy(one, self.reference(work), self._evaluated(work, opened, text))
        except (FcnEdgeError, UsageError) as error:
            self.lost(work, str(error))

    def _unjudged(self, work: Work) -> dict[str, Data]:
        opened = work.figures.opened
        if opened is not None and not opened.trained:  # hours of a large network's time would say nothing
            return {}
        reference = self.reference(work)
        return {text: one for text, one in self.labelled.sets.items() if work.accuracy(one, reference) is None}

    def _unprofiled(self, work: Work) -> bool:
        figures = work.figures
        return self.settings.layers and figures.layers is None and "layers" not in figures.not_measured

    def _evaluated(self, work: Work, worker: Worker, text: str) -> Accuracy:
        settings, reference = self.settings, self.reference(work)
        theirs = None if reference is None else reference.labels
        (found,) = worker.evaluate([text], settings.split, settings.classes, theirs, work.labels, settings.limit)
        return found

    def _profile(self, work: Work, worker: Worker) -> None:
        try:
            work.note(layers=worker.layers())
        except FcnEdgeError as error:
            work.note(not_measured={"layers": str(error)})

    def _count(self, works: Sequence[Work]) -> None:
        """Operations, and the share of the machine's peak; nothing else runs meanwhile."""
        with Apart() as apart:
            extent = Extent(self.settings, self.store, apart)
            for work in works:
                with self.progress.step(f"counting: {work.key}", COUNTING):
                    extent.count(work)
                    if self.settings.roofline:
                        extent.place(work)

    # ---- pictures

    def _pictures(self, works: Sequence[Work]) -> list[Picture]:
        """Those of the first data set that the candidates of its classes differ on most."""
        split, limit = self.settings.split, self.settings.limit
        for text, one in self.labelled.sets.items():
            labels = {
                work.key: work.labels
                for work in works
                if (opened := work.figures.opened) and opened.classes == one.classes
            }
            if labels:
                opened = open_labelled(text, split, limit)
                with self.progress.step("pictures", one.images * A_PICTURE):
                    chosen = pictures.differing(one.name, opened.samples, labels, self.progress.within)
                    return pictures.publish(self.store.folder.parent, one.name, opened, chosen, labels)
        return []


def judging_seconds(settings: Settings, images: int) -> float:
    return images * A_PICTURE + COUNTING + (PROFILING if settings.layers else 0.0)


def estimate(planned: Sequence[Planned], settings: Settings, images: int) -> float:
    """Seconds that the cells may take, for the progress bar. images: of all data sets together."""
    possible = sum(each.artefact is not None for each in planned)
    return possible * (timing_seconds(settings) + judging_seconds(settings, images)) + images * A_PICTURE
