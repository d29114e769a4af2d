"""A capturing process, seen from outside: started, listened to, and ended whatever it is doing."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading

from fcn_edge.video.capture import wire
from fcn_edge.video.uri import Uri

GRACE = 0.7  # seconds to end well in; then it is killed
LAST_WORDS = 2000  # bytes of what it wrote to stderr that are kept


class CaptureProcess:
    """Used by one thread, but for `free` and `hang_up`."""

    def __init__(self, uri: Uri) -> None:
        self.uri = uri
        self.slots = [wire.Slot() for _ in range(wire.SLOTS)]
        handles = [slot.handle for slot in self.slots]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fcn_edge.video.capture"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=handles,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the one who started it
        )
        self._rest = self._last_words = b""
        self._speaking = threading.Lock()
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            self._selector.register(pipe, selectors.EVENT_READ)
        self._say(wire.encode(wire.Request(uri.kind, uri.target, uri.options, handles)))

    def receive(self, seconds: float) -> list[wire.Message]:
        """What it said within this time. Raises EOFError when it will say no more, DecodeError where it babbles."""
        messages: list[wire.Message] = []
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, 65_536)
            if key.fileobj is self._process.stderr:
                self._last_words = (self._last_words + data)[-LAST_WORDS:]
                if not data:
                    self._selector.unregister(key.fileobj)
            elif not data:
                raise EOFError
            else:
                *lines, self._rest = (self._rest + data).split(b"\n")
                messages += [wire.decode(line, wire.Message) for line in lines]
        return messages

    def free(self, slot: int) -> None:
        """Gives a slot back to it."""
        self._say(b"%d\n" % slot)

    def _say(self, line: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with self._speaking, contextlib.suppress(OSError):  # it is gone, which `receive` will tell
            if not stdin.closed:
                stdin.write(line)

    def hang_up(self) -> None:
        """Asks it to end."""
        stdin = self._process.stdin
        assert stdin is not None
        with self._speaking, contextlib.suppress(OSError):
            stdin.close()

    def end(self, grace: float = GRACE) -> str:
        """Makes sure that it is gone, and says what became of it. grace: seconds that it has to end well."""
        self.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        if self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold even that up
                self._process.wait(GRACE)
        with contextlib.suppress(OSError, EOFError, ValueError):
            while self._selector.get_map() and self._selector.select(0):
                self.receive(0)
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        for slot in self.slots:
            slot.close()
        return self._epitaph()

    def _epitaph(self) -> str:
        status = self._process.returncode
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        last = f": {self.uri.hide(lines[-1])}" if lines else "."
        if status is not None and status < 0:
            return f"its capturing process was ended by {signal.Signals(-status).name}{last}"
        return f"its capturing process ended by itself{last}"


def _environment() -> dict[str, str]:
    """This process's, so that modules are found where they are found here, and not in the current folder by chance."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "PYTHONSAFEPATH": "1",
        "OPENBLAS_NUM_THREADS": "1",  # it computes nothing, and each thread would hold memory
        "OMP_NUM_THREADS": "1",
    }
