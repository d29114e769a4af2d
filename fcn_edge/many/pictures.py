"""Which pictures a source means, and what their outputs are called.

A name is made of the picture's own path, so that a list that has grown, or is in another order, finds again what was
done before.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.errors import SourceError
from fcn_edge.video.pictures import PICTURES
from fcn_edge.video.sources import LISTS

WILDCARDS = "*?["
KNOWN = "Name a list of pictures (a path a line, in a .txt file), a folder or a 'glob'."


@dataclass(frozen=True)
class Picture:
    """path: absolute, because other machines have the same folders and not the same current one.

    name: of its outputs, without their suffix: "photo", or "street/photo" where that is its path within the source.
    """

    path: str
    name: str


def find_pictures(source: str) -> list[Picture]:
    """The pictures of a list, a folder or a glob, each once, in the order of their paths; they are not opened.

    Paths in a list are relative to the list's own folder. Raises SourceError where there is none.
    """
    root, paths = _paths(source)
    paths = sorted(set(paths))
    if not paths:
        raise SourceError(f"{source}: holds no picture. {KNOWN}")
    return [Picture(path, name) for path, name in zip(paths, _names(source, root, paths), strict=True)]


def _paths(source: str) -> tuple[str, list[str]]:
    """The folder that names are relative to, and absolute paths."""
    path = os.path.abspath(source)
    if os.path.isdir(source):
        with os.scandir(path) as entries:
            return path, [entry.path for entry in entries if _is_picture(entry.name) and entry.is_file()]
    if os.path.isfile(source):
        folder = os.path.dirname(path)
        if _is_picture(source):
            return folder, [path]
        if Path(source).suffix.lower() in LISTS:
            return folder, [os.path.normpath(os.path.join(folder, line)) for line in _lines(source)]
        raise SourceError(f"{source}: is neither a picture nor a list of pictures. {KNOWN}")
    if any(sign in source for sign in WILDCARDS):
        found = [os.path.abspath(name) for name in glob.iglob(source, recursive=True) if _is_picture(name)]
        return _fixed_part(path), found
    raise SourceError(f"{source}: no such file or folder. {KNOWN}")


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURES


def _lines(source: str) -> list[str]:
    try:
        text = Path(source).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise SourceError(f"{source}: cannot be read: {error.strerror}.") from error
    if "\0" in text:
        raise SourceError(f"{source}: is no text. {KNOWN}")
    return [line for line in map(str.strip, text.splitlines()) if line]


def _fixed_part(pattern: str) -> str:
    """The folder above the first wildcard."""
    while any(sign in pattern for sign in WILDCARDS):
        pattern = os.path.dirname(pattern)
    return pattern


def _names(source: str, root: str, paths: Sequence[str]) -> list[str]:
    """Without the suffix where that is enough to tell them apart, like a plain run's."""
    above = os.path.join(root, "")
    within = [path[len(above) :] if path.startswith(above) else path.lstrip(os.sep) for path in paths]
    names = [os.path.splitext(name)[0] for name in within]
    while len(set(names)) < len(names):
        counts = Counter(names)
        longer = [full if counts[name] > 1 else name for full, name in zip(within, names, strict=True)]
        if longer == names:
            twice = next(name for name in names if counts[name] > 1)
            raise SourceError(f"{source}: two of its pictures would both be called {twice}. Do them in two runs.")
        names = longer
    return names
