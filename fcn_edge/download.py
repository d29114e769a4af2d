"""A published file into the cache, resumed where it broke off, under its name only once its hash is right.

The hash decides everything: a server that lies about lengths, ranges or types, a file that changed between
two halves, a disk that lost a block all end as bytes with another hash, which are never used.
"""

from __future__ import annotations

import http.client
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fcn_edge import __version__
from fcn_edge.errors import DownloadError
from fcn_edge.files import digest

CHUNK = 1 << 18
ROOM = 1.05  # a server may send so much more than was announced; sizes are published to three figures
PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses that another attempt may find gone

Progress = Callable[[int, int], None]  # bytes that have come, bytes in all

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remote:
    """A file on a server, as its publisher describes it."""

    url: str
    name: str  # in the cache
    digest: str  # "md5:" or "sha256:" and the first eight hexadecimal digits or more
    megabytes: float  # about
    page: str = ""  # the address for a person and a browser, if that is not `url`


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server."""

    seconds: float = 30  # without a byte
    attempts: int = 4  # in a row that bring nothing new
    pause: float = 1  # seconds before the second attempt; doubled before each further one


PATIENCE = Patience()
UNREACHED = 2  # attempts where nobody answers at all: a machine without a network should say so soon


def cached(remote: Remote, cache: Path) -> Path:
    """Where the file lies in the cache, or will lie: its hash is part of the path."""
    return cache / "weights" / remote.digest.replace(":", "-") / remote.name


def fetch(
    remote: Remote, cache: Path, progress: Progress = lambda done, total: None, patience: Patience = PATIENCE
) -> Path:
    """The file in the cache, downloaded unless it is there with the right hash.

    What an earlier attempt left is gone on with, where the server can.
    Raises DownloadError, after which the file does not exist under its name.
    """
    path = cached(remote, cache)
    if path.is_file():
        if _matches(path, remote.digest):
            return path
        log.warning("%s does not have the hash %s, so it is fetched again.", path, remote.digest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path.with_name(f"{path.name}.part")) as part:
            _Transfer(remote, path, part, progress, patience).run()
            os.replace(part.name, path)
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written: {error.strerror or error}.") from error
    return path


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The unfinished file, for this process alone. Raises DownloadError where another one is at it."""
    with path.open("a+b") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DownloadError(f"{path}: another fcn-edge is downloading it. Wait until it is done.") from error
        yield file


class _BrokeOff(Exception):
    """The connection ended early; `str()` says how."""


class _Unreached(_BrokeOff):
    """Nobody answered."""


class _Transfer:
    """One download, over as many connections as it takes."""

    def __init__(self, remote: Remote, path: Path, part: IO[bytes], progress: Progress, patience: Patience) -> None:
        self.remote, self.path, self.part = remote, path, part
        self.progress, self.patience = progress, patience
        self.most = int(remote.megabytes * 1e6 * ROOM) + CHUNK
        self.address = remote.page or remote.url
        self.open = build_opener(_Redirects).open

    def run(self) -> None:
        """Raises DownloadError unless the part is complete and has the right hash."""
        resumed = self._size() > 0
        self._complete()
        if resumed and not self._is_right():  # it went on from the bytes of another file
            self.part.truncate(0)
            self._complete()
        if not self._is_right():
            size = self._size()
            self.part.truncate(0)
            raise DownloadError(
                f"{self.address} sent {size / 1e6:.1f} MB that do not have the hash {self.remote.digest}, "
                f"so they were thrown away. {self._by_hand()}"
            )

    def _complete(self) -> None:
        """Receive until the server says that this was all."""
        furthest, fruitless = self._size(), 0
        while True:
            try:
                return self._receive()
            except _BrokeOff as error:
                fruitless = 0 if self._size() > furthest else fruitless + 1
                furthest = max(furthest, self._size())
                if fruitless >= (UNREACHED if isinstance(error, _Unreached) else self.patience.attempts):
                    if self._is_right():  # a server that promised more than there is
                        return None
                    raise self._failure(error) from error
                time.sleep(self.patience.pause * 2 ** max(0, fruitless - 1))

    def _receive(self) -> None:
        """One connection. Raises _BrokeOff where another may do better, DownloadError where none will."""
        start = self._size()
        headers = {"User-Agent": f"fcn-edge/{__version__}", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with self.open(Request(self.remote.url, headers=headers), timeout=self.patience.seconds) as response:
                self._check_kind(response)
                start = self._place(response, start)
                length = response.headers.get("Content-Length", "")
                total = start + int(length) if length.isdecimal() else 0
                self._copy(response, total)
        except HTTPError as error:
            error.close()  # it holds the connection
            if error.code == 416:  # nothing after what is here; the hash will tell whether that is all
                return
            reason = str(error.reason).splitlines()[0] if str(error.reason) else ""
            told = _BrokeOff(f"answered {error.code} {reason}".rstrip(" ."))
            raise (told if error.code in PASSING else self._failure(told)) from error
        except TimeoutError as error:
            raise _BrokeOff(f"sent nothing for {self.patience.seconds:g} seconds") from error
        except (URLError, http.client.HTTPException, OSError, ValueError) as error:
            if isinstance(error, _DiskError):
                raise
            raise _told(error) from error

    def _place(self, response: Any, start: int) -> int:
        """Where the answer's bytes belong: after what is here, or from the start where the server sends all."""
        if start and response.status == 206:
            if response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                return start
            self.part.truncate(0)
            raise _BrokeOff("sent another part than was asked for")
        self.part.truncate(0)
        return 0

    def _copy(self, response: Any, total: int) -> None:
        done = self._size()
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            if done > self.most:
                self.part.truncate(0)
                raise self._failure(
                    _BrokeOff(f"sent more than {self.most / 1e6:.0f} MB, where {self.remote.megabytes:.0f} are known")
                )
            try:
                self.part.write(chunk)
                self.part.flush()
            except OSError as error:
                raise _DiskError(*error.args) from error
            self.progress(done, max(done, total or int(self.remote.megabytes * 1e6)))
        if total and done < total:
            raise _BrokeOff(f"broke off at {done / 1e6:.1f} of {total / 1e6:.1f} MB")

    def _check_kind(self, response: Any) -> None:
        if response.headers.get_content_type() == "text/html":
            raise self._failure(_BrokeOff("answered with a web page instead of the file"))

    def _size(self) -> int:
        return self.part.seek(0, os.SEEK_END)

    def _is_right(self) -> bool:
        self.part.flush()
        return _matches(Path(self.part.name), self.remote.digest)

    def _failure(self, error: _BrokeOff) -> DownloadError:
        kept = self._size()
        again = f"The same command goes on after the {kept / 1e6:.1f} MB that are here. " if kept else ""
        return DownloadError(f"{self.address} {error}. {again}{self._by_hand()}")

    def _by_hand(self) -> str:
        return f"If a browser can fetch it, put it at {self.path}."


class _DiskError(OSError):
    """What was received cannot be written: the disk's fault, not the network's."""


class _Redirects(HTTPRedirectHandler):
    """Follows as urllib does, but never from an encrypted connection to an open one."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise HTTPError(req.full_url, code, f"to {newurl}, which is not encrypted", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _told(error: Exception) -> _BrokeOff:
    """What went wrong on the way, as the end of a sentence that begins with the address."""
    reason = error.reason if isinstance(error, URLError) else error
    lines = [reason.strerror] if isinstance(reason, OSError) and reason.strerror else str(reason).splitlines()
    told = f"cannot be reached ({lines[0] if lines else type(reason).__name__})"
    return _Unreached(told) if isinstance(error, URLError) else _BrokeOff(told)


def _matches(path: Path, expected: str) -> bool:
    """Whether the file's hash begins with the digits of `expected`."""
    kind, _, digits = expected.partition(":")
    return digest(path, kind).startswith(digits)
