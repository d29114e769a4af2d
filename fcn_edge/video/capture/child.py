"""The process that captures: it reads pictures without a pause and hands on the newest.

It ends when its input does, so that it never outlives whoever started it, however that one ended.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from typing import BinaryIO, NoReturn

import numpy as np

from fcn_edge.errors import FcnEdgeError
from fcn_edge.video.capture import wire
from fcn_edge.video.capture.protocol import Capture, Shot, open_capture
from fcn_edge.video.uri import Uri

GRACE = 0.5  # seconds that a driver may take to be closed well


def main() -> None:
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no message
    lines = sys.stdin.buffer
    request = wire.decode(lines.readline(), wire.Request)
    uri = Uri(request.kind, request.target, request.options)
    child = Child(uri, [wire.Slot(handle) for handle in request.slots], out)
    threading.Thread(target=child.listen, args=(lines,), daemon=True).start()
    try:
        child.open()
        child.hand_on()
    except FcnEdgeError as error:
        child.say(wire.Failed(uri.hide(str(error))))
    except Exception as error:  # a library's surprise is a lost source, too
        child.say(wire.Failed(f"{uri.name}: {uri.hide(f'{type(error).__name__}: {error}')}"))
    child.close()  # after what is to be said: it may hang
    leave(0)


class Child:
    def __init__(self, uri: Uri, slots: list[wire.Slot], out: BinaryIO) -> None:
        self.uri = uri
        self.slots = slots
        self.out = out
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(slots)):
            self.free.put(number)
        self.unwanted = threading.Event()
        self.opened: Capture | None = None

    def listen(self, lines: BinaryIO) -> None:
        """Takes back the slots that are free again, until nobody is there to say so."""
        for line in lines:
            self.free.put(int(line))
        self.unwanted.set()
        time.sleep(GRACE)
        leave(0)

    def open(self) -> None:
        self.opened = opened = open_capture(self.uri)
        self.say(wire.Opened(opened.rate, opened.pixel_aspect, [self.uri.hide(note) for note in opened.notes]))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            if self.opened is not None:
                self.opened.close()

    def hand_on(self) -> None:
        """Every picture for which a slot is free, until there are no more or nobody wants them."""
        assert self.opened is not None
        lost = 0
        while not self.unwanted.is_set():
            shot = self.opened.read()
            if shot is None:
                self.say(wire.Ended())
                return
            try:
                number = self.free.get_nowait()
            except queue.Empty:
                lost += 1
                continue
            height, width = self._put(shot, number)
            self.say(wire.Delivered(number, height, width, shot.captured, lost))
            lost = 0

    def _put(self, shot: Shot, number: int) -> tuple[int, int]:
        flip = self.uri.options.flip
        height, width = shot.image.shape[:2]
        if flip is None:
            np.copyto(self.slots[number].view(height, width), shot.image)
            return height, width
        from fcn_edge.video.turning import turn, turned_size

        height, width = turned_size((height, width), flip)
        turn(shot.image, flip, self.slots[number].view(height, width))
        return height, width

    def say(self, message: wire.Message) -> None:
        try:
            self.out.write(wire.encode(message))
        except BrokenPipeError:
            leave(0)


def leave(status: int) -> NoReturn:
    """Ends the process at once: a thread of a driver that hangs would keep an orderly exit waiting."""
    sys.stderr.flush()
    os._exit(status)
