"""One candidate in a process of its own, seen from the process that measures all of them.

A runtime that crashes, hangs or is killed for its memory takes its own process along and no other: here that is an
error of one line. While it is not a candidate's turn its process is stopped, so that spinning threads of one runtime
cannot be in the figures of the next.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fcn_edge import errors
from fcn_edge.bench.messages import (
    Answer,
    Evaluate,
    MeasureThroughput,
    Open,
    Opened,
    Request,
    TakeRound,
    TellLayers,
    TellMemory,
    WarmUp,
)
from fcn_edge.bench.schema import Accuracy, Layer, Memory, Throughput
from fcn_edge.bench.timing import Round
from fcn_edge.errors import BackendError

__all__ = ["Candidate", "Opened", "Round", "Worker"]

T = TypeVar("T")
Progress = Callable[[float, str], None]  # share from 0 to 1, what is being done

DRAWS = 5  # of one frame's labels, at the end of a round
GRACE = 5.0  # seconds that a child has to end by itself
LAST_LINE = 300  # characters of what a child last said


@dataclass(frozen=True)
class Candidate:
    """An artefact on a backend in a precision at a size; what stands here is what `Segmenter` is given."""

    key: str  # Cell.key
    model: str | Path  # a bundled name or a file
    backend: str
    precision: str | None
    size: int | tuple[int, int] | None
    resize: str | None = None
    spec: Path | None = None  # describes a file that does not describe itself
    threads: int | None = None
    name: str = ""  # Cell.model
    refine: str | None = None


class Worker:
    """A candidate's process. Not thread-safe, and the thread that opens it has to outlive it.

    frame:      a picture to time with; None: the package's own photo. Its middle is scaled to `frame_size`, (H, W).
    limit:      seconds without a sign of life after which the process is ended.
    progress:   called while something takes its time, with a share and what it is.

    Every method but `close` raises BackendError where the process ended or hung, in one line with what it last said,
    and whatever FcnEdgeError it met there.
    """

    def __init__(
        self,
        candidate: Candidate,
        frame: Path | None,
        frame_size: tuple[int, int],
        limit: float,
        progress: Progress | None = None,
    ) -> None:
        self.candidate = candidate
        self._frame, self._frame_size, self.limit = frame, frame_size, limit
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._paused = False
        self._killed = memory_kills()  # in the whole system, before it started
        self._ended: str | None = None  # why it is no more

    def open(self) -> Opened:
        """Start the process, open the model in it and segment a first frame."""
        self._start()
        given = self.candidate
        return self._ask(
            Open(
                model=str(given.model),
                backend=given.backend,
                precision=given.precision,
                size=given.size,
                resize=given.resize,
                spec=None if given.spec is None else str(given.spec),
                threads=given.threads,
                frame=None if self._frame is None else str(self._frame),
                frame_size=self._frame_size,
                refine=given.refine,
            ),
            Opened,
            "being opened",
        )

    def warm_up(self) -> str:
        """Run it until it takes the same time again and again; a line that says how long that was."""
        return self._ask(WarmUp(), str, "warming up")

    def round(self, runs: int, seconds: float, draws: int = DRAWS) -> Round:
        """Time it, at least `runs` times and for at least `seconds`; then draw an overlay `draws` times."""
        return self._ask(TakeRound(runs, seconds, draws), Round, "being timed")

    def throughput(self, seconds: float) -> Throughput:
        """Frames a second, one at a time and in whichever way gives the most; `seconds` for each way."""
        return self._ask(MeasureThroughput(seconds), Throughput, "being streamed")

    def evaluate(
        self,
        data: Sequence[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        reference: Path | None = None,
        keep: Path | None = None,
        limit: int | None = None,
    ) -> list[Accuracy]:
        """Its accuracy on each of `data`, ROOT or ROOT:LIST,LIST.

        split:     the list of every ROOT that names none; `val` where None.
        classes:   names that means are over; all where None.
        reference: a folder that `keep` was for another candidate: agreement is with the labels in it.
        keep:      a folder that its labels are written to, as `bench.labelled.labels_file` names them.
        limit:     only the first pictures of each.
        """
        request = Evaluate(
            data=list(data),
            split=split,
            classes=None if classes is None else list(classes),
            limit=limit,
            reference=None if reference is None else str(reference),
            keep=None if keep is None else str(keep),
        )
        return self._ask(request, list[Accuracy], "being evaluated")

    def layers(self) -> list[Layer]:
        """Its runtime's own layers, the costliest first."""
        return self._ask(TellLayers(), list[Layer], "being profiled")

    def memory(self) -> Memory:
        """Peaks until now, but for what side by side, evaluation and profiling took on top."""
        return self._ask(TellMemory(), Memory, "telling its memory")

    @property
    def pid(self) -> int | None:
        """Of its process; None where there is none."""
        return None if self._process is None or self._ended else self._process.pid

    def pause(self) -> None:
        """Stop the process, so that its threads take no core. The next call wakes it."""
        if self._process is not None and self._ended is None and hasattr(signal, "SIGSTOP"):
            self._process.send_signal(signal.SIGSTOP)
            self._paused = True

    def resume(self) -> None:
        if self._paused and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._paused = False

    def close(self) -> None:
        """End the process; calling it again does nothing."""
        process = self._process
        if process is None:
            return
        self.resume()
        with suppress(OSError):
            assert process.stdin
            process.stdin.close()  # the end of its requests
        if self._ended is None:
            self._reap(GRACE)
            self._ended = "it was closed."
        if process.stdout:
            process.stdout.close()
        self._stderr.close()
        self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    # ---- inside

    def _start(self) -> None:
        if self._process is not None:
            raise BackendError(f"{self._who} is open already.")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        command = [sys.executable, "-m", "fcn_edge.bench.child"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0
            )
        except OSError as error:
            raise BackendError(f"{self._who}: no process could be started for it: {error.strerror}.") from error
        threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()

    def _ask(self, request: Request, kind: type[T], doing: str) -> T:
        process = self._process
        if process is None or self._ended is not None:
            raise BackendError(f"{self._who} is not running: {self._ended or 'it was not opened.'}")
        self.resume()
        assert process.stdin
        with suppress(OSError):  # it has ended, which the answers tell
            process.stdin.write(msgspec.json.encode(request) + b"\n")
        while True:
            answer = self._next(doing)
            if answer.beat:
                if self._progress:
                    self._progress(*answer.beat)
            elif answer.error:
                name, line = answer.error
                raise getattr(errors, name, BackendError)(line)
            elif answer.result is not None:
                return msgspec.convert(answer.result, kind)

    def _next(self, doing: str) -> Answer:
        try:
            line = self._answers.get(timeout=self.limit)
        except queue.Empty:
            self._kill()
            how = f"gave no sign of life for {self.limit:g} s while {doing}, and was ended"
            raise self._failed(how, "Take a smaller --size, or fewer --threads.") from None
        if line is None:
            raise self._failed(f"{self._reap(GRACE)} while {doing}")
        return msgspec.json.decode(line, type=Answer)

    def _failed(self, how: str, mend: str = "") -> BackendError:
        last = self._last_line()
        told = (f"its process {how}.", mend, last and f"It last said: {last}")
        self._ended = " ".join(filter(None, told))
        return BackendError(f"{self._who}: {self._ended}")

    @property
    def _who(self) -> str:
        return self.candidate.key

    def _kill(self) -> None:
        assert self._process
        self._process.kill()
        self._reap(GRACE)

    def _reap(self, grace: float) -> str:
        """Wait for its end, or make one; how it ended."""
        assert self._process
        try:
            status = self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return _ending(status, memory_kills() > self._killed)

    def _last_line(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 4096))
        lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][:LAST_LINE] if lines else ""


def _listen(stream: Any, answers: queue.SimpleQueue[bytes | None]) -> None:
    """Pass on the lines of a child; None is the end of them."""
    rest = b""
    with suppress(OSError, ValueError):  # closed meanwhile
        while chunk := os.read(stream.fileno(), 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                answers.put(line)
    answers.put(None)


def _ending(status: int, memory_ran_out: bool) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL:
        return f"was killed ({name}), as memory ran out," if memory_ran_out else f"was killed from outside ({name})"
    return f"crashed ({name})"


def memory_kills() -> int:
    """How many processes Linux has ended since it started because memory ran out; 0 elsewhere."""
    with suppress(OSError), open("/proc/vmstat") as lines:
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
