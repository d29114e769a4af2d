"""The whole run: what is missing is found, handed out, and kept as it comes in."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcn_edge.errors import BackendError
from fcn_edge.many.cluster import cluster, reach
from fcn_edge.many.manifest import Header, Manifest, Record
from fcn_edge.many.pictures import Picture
from fcn_edge.many.work import Job


@dataclass
class Outcome:
    """What a run did, as it goes on."""

    pictures: int
    manifest: Path
    before: int = 0  # that an earlier run had done
    found: int = 0  # whose outputs lay there, though the manifest did not know of them
    made: int = 0
    workers: int = 0  # that were asked for
    seconds: float = 0.0  # from the start
    starting: float = 0.0  # of those, until the first results: Ray's start, the workers', and a group
    working: float = 0.0  # from the first results to the last
    first: int = 0  # pictures in the first results, which came before there was a rate
    problems: list[str] = field(default_factory=list)
    by_worker: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)  # "openvino int8" to how many

    @property
    def done(self) -> int:
        return self.before + self.found + self.made

    @property
    def rate(self) -> float:
        """Pictures a second once the workers were up; 0 where there were too few to tell."""
        return (self.made - self.first) / self.working if self.working and self.made > self.first else 0.0

    def count(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.problem:
                self.problems.append(record.problem)
                continue
            self.by_worker[record.worker] += 1
            if record.computed:
                self.by_kind[record.computed] += 1
                self.made += 1
            else:
                self.found += 1


def do(
    job: Job,
    header: Header,
    pictures: Sequence[Picture],
    on: str,
    workers: int | None,
    stop: threading.Event,
    progress: Callable[[Outcome], None],
) -> Outcome:
    """Every picture that is not done yet, at `on` (see `cluster`), until all are or `stop` is set.

    progress: called when results came in.
    Raises SinkError where outputs cannot be written, ModelError and BackendError where the workers cannot compute;
    what was done until then stays, and is not done again by the next run.
    """
    start = time.monotonic()
    reach(on)  # before anything is written
    with Manifest(job.folder, header, job.force) as manifest:
        missing = [picture for picture in pictures if not manifest.is_done(picture)]
        outcome = Outcome(len(pictures), manifest.path, before=len(pictures) - len(missing))
        progress(outcome)
        if missing:
            with cluster(on, workers, job) as crew, contextlib.closing(crew.results(job, missing)) as groups:
                outcome.workers = crew.workers
                began = 0.0
                for records in groups:
                    sound = [record for record in records if not record.fatal]
                    manifest.add(sound)
                    outcome.count(sound)
                    _raise_fatal(records, outcome)
                    if records and not began:
                        began, outcome.first = time.monotonic(), outcome.made
                        outcome.starting = began - start
                    outcome.working = time.monotonic() - began if began else 0.0
                    progress(outcome)
                    if stop.is_set():
                        break
    outcome.seconds = time.monotonic() - start
    return outcome


def _raise_fatal(records: Sequence[Record], outcome: Outcome) -> None:
    for record in records:
        if record.fatal:
            raise BackendError(
                f"{record.problem} (on {record.worker or 'a worker'}; {outcome.done} of {outcome.pictures} pictures "
                "are done, and a second start goes on from there)"
            )
