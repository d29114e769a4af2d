"""What the layouts share: folders of files by stem, lists of ids, classes.txt."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.data.samples import Sample
from fcn_edge.errors import DataError
from fcn_edge.spec import MAX_CLASSES, VOID, voc_palette

CLASSES = "classes.txt"
VOID_NAME = "void"  # a line of classes.txt that is no class
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class Classes:
    """Names and RGB colours in the order of the indices; `void` is the index that masks store for void beside 255."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    void: int = VOID


def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of `folder`: one listing is cheaper than asking for each of some thousand files."""
    if not folder.is_dir():
        return {}
    found = (Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith("."))
    return {path.stem: path for path in sorted(found) if path.suffix.lower() in suffixes}


def paired(images: Path, masks: Path, void: int) -> list[Sample]:
    """A sample for each stem that either folder holds, so that one without its other half is found by `check`."""
    pictures, labels = by_stem(images, PICTURE_SUFFIXES), by_stem(masks, MASK_SUFFIXES)
    return [
        Sample(id, pictures.get(id, images / f"{id}.png"), labels.get(id, masks / f"{id}.png"), void)
        for id in sorted(pictures.keys() | labels.keys())
    ]


def read_ids(path: Path) -> list[str]:
    """One id a line; a picture's suffix is dropped. Raises DataError where the list is unreadable or empty."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as a text file with one id a line: {error}.") from error
    ids = [_without_suffix(line.strip()) for line in lines if line.strip()]
    if not ids:
        raise DataError(f"{path}: the list is empty. It holds one id a line.")
    return ids


def read_classes(path: Path) -> Classes:
    """The classes of a text file with one `name` or `name r g b` a line, in the order of the masks' indices.

    A class without a colour gets VOC's for its index. A line `void` is an index that is no class. Empty lines and
    those that begin with # are passed over. Raises DataError where a line is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as a text file with one class a line: {error}.") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not 1 <= len(lines) <= MAX_CLASSES:
        raise DataError(
            f"{path}: {len(lines)} classes, 1 to {MAX_CLASSES} are possible, one `name` or `name r g b` a line."
        )
    entries = [_name_and_colour(line, path) for line in lines]
    names = [name for name, _ in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: {', '.join(twice)} stands there more than once. A line's place is its class's index.")
    void = names.index(VOID_NAME) if VOID_NAME in names else VOID
    kept = [entry for entry in entries if entry[0] != VOID_NAME]
    if not kept:
        raise DataError(f"{path}: it holds no class but void.")
    colours = voc_palette(len(kept))
    palette = tuple(colour or colours[index] for index, (_, colour) in enumerate(kept))
    return Classes(tuple(name for name, _ in kept), palette, void)


def _name_and_colour(line: str, path: Path) -> tuple[str, tuple[int, int, int] | None]:
    parts = line.rsplit(maxsplit=3)
    if len(parts) < 4 or not all(part.isdecimal() for part in parts[1:]):
        return line, None
    red, green, blue = (int(part) for part in parts[1:])
    if max(red, green, blue) > 255:
        raise DataError(f"{path}: {line!r} has a colour above 255. Write `name` or `name r g b`.")
    return parts[0], (red, green, blue)


def _without_suffix(id: str) -> str:
    stem, suffix = os.path.splitext(id)
    return stem if suffix.lower() in PICTURE_SUFFIXES else id
