"""The process that one candidate runs in: `python -m fcn_edge.bench.child`, started by a `Worker`.

Libraries print what they like to stdout, from C++ too, so the answers go through a copy of that descriptor, and the
descriptor itself leads to stderr before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterable
from time import perf_counter

import msgspec

from fcn_edge.bench.messages import Answer, Request
from fcn_edge.bench.subject import Subject
from fcn_edge.errors import FcnEdgeError

BEAT = 0.5  # seconds between two signs of life, at least: the parent takes a core for each
PARENT_DEATH = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def main() -> None:
    end_with_the_parent()
    descriptor, requests = take_over_streams()
    answers = Answers(descriptor)
    subject = Subject(answers.beat)
    for line in requests:
        answers.write(answer(subject, msgspec.json.decode(line, type=Request)))


def end_with_the_parent() -> None:
    """A child that was stopped could not see that its parent was killed, and would hold its memory for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the parent ends this
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def take_over_streams() -> tuple[int, Iterable[bytes]]:
    """The descriptor that answers go to, and the requests; both out of every library's reach."""
    answers, requests = os.dup(1), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return answers, requests


def answer(subject: Subject, request: Request) -> Answer:
    """What became of the request. A runtime's own exception is an error of one line too, its traceback on stderr."""
    try:
        return Answer(result=subject.do(request))
    except FcnEdgeError as error:
        return Answer(error=(type(error).__name__, str(error)))
    except MemoryError:
        return Answer(error=("BackendError", "there was not enough memory. Take a smaller --size or --frame."))
    except Exception as error:
        from fcn_edge.runtime.common import first_line

        traceback.print_exc()
        return Answer(error=("BackendError", f"it failed with {type(error).__name__}: {first_line(error)}"))


class Answers:
    """Lines to the parent: one for each request, and signs of life while it is worked on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last = 0.0

    def beat(self, share: float = 0.0, what: str = "") -> None:
        """Say that work goes on; where that was said just now, do nothing."""
        now = perf_counter()
        if now - self._last >= BEAT:
            self._last = now
            self.write(Answer(beat=(share, what)))

    def write(self, answer: Answer) -> None:
        data = memoryview(msgspec.json.encode(answer) + b"\n")
        while data:
            data = data[os.write(self._descriptor, data) :]


if __name__ == "__main__":
    main()
