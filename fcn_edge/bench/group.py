"""Candidates that take turns: all open at once, one at a time awake, a round of each before the second of any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from fcn_edge.bench import timing
from fcn_edge.bench.cells import Settings, Work
from fcn_edge.bench.energy import find_meter, measure
from fcn_edge.bench.environment import look
from fcn_edge.bench.subject import available_memory
from fcn_edge.bench.timing import Round
from fcn_edge.bench.worker import Worker
from fcn_edge.errors import FcnEdgeError, ModelError, SpecError, UsageError

if TYPE_CHECKING:
    from fcn_edge.bench.matrix import Bench

T = TypeVar("T")

SPARE = 1 << 30  # bytes of memory that stay free when one more candidate is opened
ROOM = 2.0  # times the largest candidate so far that must be free for the next one
GROUP = 24  # candidates at most: between two rounds of one lie those of all others, and a machine changes meanwhile
DRIFT = 0.03  # by which the first candidate's times may differ between groups

METERED = 3.0  # seconds, at least, whose energy is measured: counters tick ten times a second

OPENING, TURNING, THROUGHPUT = 8.0, 0.4, 5.0  # seconds around what is timed, for the progress bar
WAYS = 3  # in which throughput is tried, each for as long as a round


class Group:
    """As many candidates as fit into memory.

    anchor: the matrix's first candidate, where it was timed before: it runs along, to tell what changed since.
    """

    def __init__(self, bench: Bench, anchor: Work | None) -> None:
        self._bench, self._settings = bench, bench.settings
        self._anchor = anchor
        self._along: list[Round] = []  # the anchor's, in this group
        self._open: dict[str, tuple[Work, Worker]] = {}
        self._largest = 0  # bytes
        self.deferred: list[Work] = []  # could not be opened beside the others: to be tried alone

    def run(self, waiting: Sequence[Work]) -> list[Work]:
        """Time the first of them; returns those for which there was no room. What fails is told, and is left out."""
        with ExitStack() as self._stack:
            if self._anchor is not None:
                self._start(self._anchor)
            left = self._fill(waiting)
            before = look()
            for number in range(self._settings.rounds):
                self._round(number)
            self._note_drift()
            others = [pair for pair in self._open.values() if pair[0] is not self._anchor]
            for work, worker in others:
                self._finish(work, worker)
            self._bench.looks.append((before, look()))
            for work, worker in sorted(others, key=lambda pair: self._bench.reference(pair[0]) is not None):
                if work.failed is None:
                    self._bench.judge_beside(work, worker)
                    self._close(work)  # what it kept of pictures of many sizes
        return left

    def _fill(self, waiting: Sequence[Work]) -> list[Work]:
        for done, work in enumerate(waiting):
            if self._open and (len(self._open) >= GROUP or not self._room()):
                return list(waiting[done:])
            self._start(work)
        return []

    def _room(self) -> bool:
        free = available_memory()
        return free is None or free > SPARE + ROOM * self._largest

    def _start(self, work: Work) -> None:
        beside = bool(self._open)
        try:
            with self._bench.progress.step(f"opening {work.key}", OPENING):
                worker = self._stack.enter_context(self._bench.start(work))
                self._open[work.key] = work, worker
                worker.warm_up()
                memory = worker.memory()
                worker.pause()
        except (FcnEdgeError, UsageError) as error:
            self._close(work)
            if beside and not isinstance(error, ModelError | SpecError | UsageError):
                self.deferred.append(work)  # it may have been memory that it lacked
            else:
                self._bench.lost(work, str(error))
            return
        if work.figures.memory is None:
            work.note(memory=memory)
        self._largest = max(self._largest, memory.host or 0)

    def _close(self, work: Work) -> None:
        _, worker = self._open.pop(work.key, (work, None))
        if worker is not None:
            worker.close()

    def _round(self, number: int) -> None:
        """One of each that lacks some, in an order that turns, so that nobody always follows the same one."""
        order = list(self._open.values())
        turn = number % max(1, len(order))
        for work, worker in order[turn:] + order[:turn]:
            along, have = work is self._anchor, len(work.rounds)
            if not along and have == self._settings.rounds:
                continue
            taken = self._take(work, worker, "once more" if along else f"{have + 1} of {self._settings.rounds}")
            if taken is not None and along:
                self._along.append(taken)
            elif taken is not None:
                work.add_round(taken)

    def _take(self, work: Work, worker: Worker, which: str) -> Round | None:
        with self._bench.progress.step(f"round {which}: {work.key}", round_seconds(self._settings)):
            return self._ask(work, worker, lambda: worker.round(self._settings.runs, self._settings.seconds))

    def _finish(self, work: Work, worker: Worker) -> None:
        """What no other candidate need be awake around for: throughput and energy."""
        if work.figures.throughput is not None:
            return
        with self._bench.progress.step(f"throughput: {work.key}", throughput_seconds(self._settings)):
            self._measure_energy(work, worker)
            found = self._ask(work, worker, lambda: worker.throughput(self._settings.seconds))
        if found is not None:
            work.note(throughput=found)

    def _measure_energy(self, work: Work, worker: Worker) -> None:
        opened = work.figures.opened
        assert opened is not None
        meter = find_meter(opened.device)
        if isinstance(meter, str):
            work.note(not_measured={"energy": meter})
            return

        def frames() -> int:
            taken = worker.round(1, max(self._settings.seconds, METERED), 0)
            return len(taken.total) + taken.not_counted

        try:
            energy = self._ask(work, worker, lambda: measure(meter, frames))
        except OSError as error:
            work.note(not_measured={"energy": f"{meter.source} went away: {error}"})
            return
        if energy is not None:
            work.note(energy=energy)

    def _ask(self, work: Work, worker: Worker, question: Callable[[], T]) -> T | None:
        """The answer; None where the candidate failed, which is then no longer of the group."""
        if work.failed is not None:
            return None
        try:
            return question()
        except (FcnEdgeError, UsageError) as error:
            self._close(work)
            self._bench.lost(work, str(error))
            return None
        finally:
            worker.pause()

    def _note_drift(self) -> None:
        """Say of each whether the machine was another one for them than for the first candidate of all."""
        if self._anchor is None or not self._along:
            return
        before, now = ([each.total for each in rounds] for rounds in (self._anchor.rounds, self._along))
        gap = timing.differs(before, now)
        if gap.significant and abs(gap.share) > DRIFT:
            why = (
                f"{self._anchor.key} took {abs(gap.share):.0%} {'more' if gap.share > 0 else 'less'} beside it than "
                "before: the machine changed meanwhile"
            )
            for work, _ in self._open.values():
                if work is not self._anchor:
                    work.note(drift=why)


def round_seconds(settings: Settings) -> float:
    return settings.seconds + TURNING


def throughput_seconds(settings: Settings) -> float:
    return WAYS * settings.seconds + THROUGHPUT


def timing_seconds(settings: Settings) -> float:
    """What a candidate's speed may take to measure, for the progress bar."""
    return OPENING + settings.rounds * round_seconds(settings) + throughput_seconds(settings)
