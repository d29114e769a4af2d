"""Files that appear under their name only when they are whole, and the hash that says which bytes they hold.

The temporary name lies in the same folder, because a rename is atomic within one file system alone, and begins with
a dot and ends in .part, so that no pattern for the finished file finds it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 1 << 20  # bytes read at once: a file of half a gigabyte is hashed in no more memory than this

_count = itertools.count()


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process and no other call has."""
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_count)}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Within it, a temporary path to write to, in the folder of `path`; afterwards the file is at `path`.

    Where the body raises, what it wrote is removed and `path` is as it was. Of several writers of one path each has
    its own temporary file, and the last that ends wins. Raises OSError where the file cannot get its name.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(path: Path, kind: str) -> str:
    """The file's hash in hexadecimal, by any of hashlib's names, read in blocks. Raises OSError."""
    hash = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hash.update(block)
    return hash.hexdigest()


def sha256(path: Path) -> str:
    """The hash by which provenance and caches name a file. Raises OSError."""
    return digest(path, "sha256")
