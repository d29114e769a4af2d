"""How far a matrix has come, in estimated seconds: many kinds of work, one bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[float, str], None]  # seconds of the estimate that are done, what is being done


class Progress:
    """Moves one bar through steps of different length."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._done = self._length = 0.0
        self._text = ""

    @contextmanager
    def step(self, text: str, seconds: float) -> Iterator[None]:
        """Within it this is what is being done; afterwards its seconds are."""
        self._text, self._length = text, seconds
        self._show(self._done, text)
        try:
            yield
        finally:
            self._done += self._length
            self._length = 0.0
            self._show(self._done, text)

    def within(self, share: float, what: str) -> None:
        """How much of the step is done, and which part of it."""
        text = f"{self._text}: {what}" if what else self._text
        self._show(self._done + self._length * min(max(share, 0.0), 1.0), text)

    def skip(self, seconds: float) -> None:
        """What need not be done, or cannot be."""
        self._done += seconds
        self._show(self._done, self._text)
