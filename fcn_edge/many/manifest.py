"""What is done, a line a picture: which bytes it was made of, and which bytes were made.

Lines are added as results come, so that what was done is known after any end; a line that a power cut tore is passed
over. The last line on a picture counts. At the end the file is written anew, in the order of names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from fcn_edge.errors import SinkError
from fcn_edge.files import replacing
from fcn_edge.many.pictures import Picture
from fcn_edge.video.writing import MARK, is_ours, sink_errors

NAME = "manifest.jsonl"


class Output(msgspec.Struct, frozen=True):
    """A file that was written; `file` is its path from the manifest's folder."""

    file: str
    bytes: int
    sha256: str


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a picture.

    bytes, modified, sha256: of the picture itself; modified in nanoseconds, as the file system has it.
    computed: "openvino int8"; empty where the outputs lay there already. worker: "machine/process".
    problem: why there are no outputs, a line. fatal: of the machine and not of the picture, so that others meet it too.
    """

    name: str
    path: str
    bytes: int = 0
    modified: int = 0
    sha256: str = ""
    outputs: tuple[Output, ...] = ()
    computed: str = ""
    worker: str = ""
    problem: str = ""
    fatal: bool = False


class Header(msgspec.Struct, frozen=True):
    """The manifest's first line. mark: of model, options and version: with another one nothing here is valid."""

    note: str
    model: str
    trained: bool
    mark: str
    options: dict[str, Any]


class Manifest:
    """The file `manifest.jsonl` in `folder`. A context manager; leaving it keeps what was added.

    Entries of an earlier run with the same mark are taken over; one of another mark is begun anew.
    Raises SinkError where it cannot be written, or where another file has its name and `force` is not set.
    """

    def __init__(self, folder: Path, header: Header, force: bool) -> None:
        self.path = folder / NAME
        self.folder = folder
        self._header = header
        if self.path.exists() and not force and not is_ours(self.path):
            raise SinkError(f"{self.path}: exists and was not made by fcn-edge. Name another folder, or add --force.")
        self._records = self._read()
        self._write()
        with sink_errors(self.path):
            self._file = self.path.open("ab", buffering=0)

    def is_done(self, picture: Picture) -> bool:
        """Whether the picture is unchanged since it was done, and its outputs are there. Hashes are not computed."""
        record = self._records.get(picture.name)
        if record is None or record.problem:
            return False
        with contextlib.suppress(OSError):
            status = os.stat(picture.path)
            same = (status.st_size, status.st_mtime_ns) == (record.bytes, record.modified)
            return same and all(os.stat(self.folder / each.file).st_size == each.bytes for each in record.outputs)
        return False

    def add(self, records: Iterable[Record]) -> None:
        """Keeps them at once."""
        records = list(records)
        self._records.update((record.name, record) for record in records)
        with sink_errors(self.path):
            data = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
            while data:
                data = data[self._file.write(data) :]

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        with contextlib.suppress(*([] if error[0] is None else [SinkError])):  # the first error is the one to tell
            self._write()

    def _read(self) -> dict[str, Record]:
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            try:
                header = msgspec.json.decode(file.readline(), type=Header)
            except msgspec.MsgspecError:
                return {}
            if header.mark != self._header.mark:
                return {}
            found: dict[str, Record] = {}
            decoder = msgspec.json.Decoder(Record)
            for line in file:
                with contextlib.suppress(msgspec.MsgspecError):
                    record = decoder.decode(line)
                    found[record.name] = record
            return found
        return {}

    def _write(self) -> None:
        with sink_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                file.write(msgspec.json.encode(self._header) + b"\n")
                for name in sorted(self._records):
                    file.write(msgspec.json.encode(self._records[name]) + b"\n")


def note(model: str, trained: bool) -> str:
    """The mark by which fcn-edge knows its own files."""
    return f"{MARK} with {model}" + ("" if trained else ", UNTRAINED weights")
