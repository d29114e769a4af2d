"""A bounded queue between two threads that either side may end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """At most `items`, and at most `size` bytes of them; one item larger than all room goes in alone.

    added: called after each item and at the end, for a receiver that waits for more than this channel.
    """

    def __init__(self, items: int, size: int, added: Callable[[], object] = lambda: None) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._room, self._most = size, items
        self._changed = threading.Condition()
        self._closed = self._abandoned = False
        self._added = added

    def put(self, item: T, size: int) -> bool:
        """Waits for room; false where either side has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or self._closed or self._fits(size))
            return self._append(item, size)

    def replace(self, item: T, size: int) -> int:
        """Waits for nobody: what waits longest makes room. Returns how many items that were."""
        lost = 0
        with self._changed:
            while not self._fits(size):
                _, freed = self._items.popleft()
                self._room += freed
                lost += 1
            self._append(item, size)
        return lost

    def _fits(self, size: int) -> bool:
        return not self._items or (len(self._items) < self._most and size <= self._room)

    def _append(self, item: T, size: int) -> bool:
        if self._abandoned or self._closed:
            return False
        self._items.append((item, size))
        self._room -= size
        self._changed.notify_all()
        self._added()
        return True

    def take(self, timeout: float | None = None) -> T | None:
        """The oldest item; None where there is none within `timeout` seconds, or where `ended`."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed or self._abandoned, timeout)
            if not self._items:
                return None
            item, size = self._items.popleft()
            self._room += size
            self._changed.notify_all()
            return item

    @property
    def ended(self) -> bool:
        """There is nothing left, and nothing will come."""
        with self._changed:
            return not self._items and (self._closed or self._abandoned)

    def close(self) -> None:
        """The sender has no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._added()

    def abandon(self) -> None:
        """The receiver wants no more; what waits is dropped."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while (item := self.take()) is not None:
            yield item
