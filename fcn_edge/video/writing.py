"""Files that get their name only when they are whole.

Everything is written beside its place under a temporary name and renamed, so that a full disk or a
kill leaves no half file that passes as whole. What can be read while it grows, videos and lines, has a
temporary name that shows and that players know (clip.part.mp4): after a kill or a power cut it is of use.
What fcn-edge wrote carries a mark and may be replaced by fcn-edge; anything else is only overwritten
with --force.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from fcn_edge.errors import FcnEdgeError, SinkError
from fcn_edge.files import temporary_name

MARK = "made by fcn-edge run"
MARK_WITHIN = 64 * 1024  # bytes from either end: an MP4's metadata closes the file, the others' open it
ADVICE = {
    errno.ENOSPC: "Free some space, or name another place.",
    errno.EDQUOT: "Free some space, or name another place.",
    errno.EFBIG: "Name a place that takes larger files.",
    errno.EACCES: "Name a folder that you may write to.",
    errno.EPERM: "Name a folder that you may write to.",
    errno.EROFS: "Name a folder that you may write to.",
}


class Draft:
    """A file under a temporary name, until `commit` gives it its own; `discard` removes it.

    grows: its content is of use before it is whole, so that its temporary name shows.
    Raises SinkError at once where the folder cannot be written, or where something else is in the way.
    """

    def __init__(self, path: Path, force: bool, grows: bool = False) -> None:
        self.path = path
        if path.is_dir():
            raise SinkError(f"{path}: is a folder, not a file. Name a file in it.")
        if path.exists() and not path.is_file():
            raise SinkError(f"{path}: is a device or a pipe, not a file. Name a file.")
        if path.exists() and not force and not is_ours(path):
            raise SinkError(f"{path}: exists and was not made by fcn-edge. Name another file, or add --force.")
        with sink_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = _growing(path) if grows else temporary_name(path)
            self.temporary.touch()

    def commit(self) -> None:
        with sink_errors(self.path):
            os.replace(self.temporary, self.path)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)


def growing_name(path: Path, number: int = 1) -> Path:
    """What `path` is called while it grows; from 2 on where another run left that name or has it."""
    return path.with_name(f"{path.stem}.part{'' if number == 1 else number}{path.suffix}")


def _growing(path: Path) -> Path:
    """The first such name that is free, with an empty file there."""
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError):
            growing_name(path, number).touch(exist_ok=False)
            return growing_name(path, number)
    raise AssertionError


def write_file(path: Path, data: bytes, force: bool) -> None:
    """`data` at `path`, whole or not at all."""
    draft = Draft(path, force)
    try:
        with sink_errors(path):
            draft.temporary.write_bytes(data)
        draft.commit()
    finally:
        draft.discard()


def make_folder(folder: Path) -> Path:
    """`folder`, made where it is missing and known to be writable."""
    if folder.exists() and not folder.is_dir():
        raise SinkError(f"{folder}: is a file, not a folder. Name a folder.")
    with sink_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".fcn-edge.{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    return folder


@contextlib.contextmanager
def sink_errors(path: Path) -> Iterator[None]:
    """Turns what goes wrong while writing `path` into a SinkError that says how to mend it."""
    try:
        yield
    except FcnEdgeError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        if number is None:
            raise
        advice = ADVICE.get(number, "Name another place.")
        reason = getattr(error, "strerror", None) or os.strerror(number)  # FFmpeg has numbers that the system lacks
        raise SinkError(f"{path}: cannot be written: {reason}. {advice}") from error


def mark_picture(data: bytes, note: str) -> bytes:
    """A PNG or JPEG file with `note` in it as a comment; other formats have no place for one."""
    if data.startswith(b"\x89PNG"):
        text = b"tEXtComment\0" + note.encode("latin-1", "replace")
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        after_header = 8 + 12 + 13  # signature; length, type and CRC of IHDR; its content
        return data[:after_header] + chunk + data[after_header:]
    if data.startswith(b"\xff\xd8"):
        text = note.encode()
        return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]
    return data


def is_ours(path: Path) -> bool:
    """Whether fcn-edge made the file at `path`."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(MARK_WITHIN)
        file.seek(max(0, path.stat().st_size - MARK_WITHIN))
        return MARK.encode() in head + b"\0" + file.read()
    return False
