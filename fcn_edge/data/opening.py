"""From the words of a command line to samples.

A layout is a module with five names, found by trying each in turn: a new one is one file and one entry in LAYOUTS.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from fcn_edge.data import camvid, pairs, voc
from fcn_edge.data.files import CLASSES, Classes, read_classes
from fcn_edge.data.samples import DataSet, Sample
from fcn_edge.errors import DataError, UsageError


class Layout(Protocol):
    """How pictures, masks and lists lie in a folder."""

    LOOKS_LIKE: str  # for the line that answers an unrecognised folder
    DEFAULT_CLASSES: Classes | None  # None: the folder has to say, in classes.txt

    def recognised(self, root: Path) -> bool: ...

    def lists(self, root: Path) -> list[str]: ...

    def read(self, root: Path, name: str | None, void: int) -> list[Sample]:
        """`name` is one of `lists`, or None where there are none."""
        ...


LAYOUTS: tuple[Layout, ...] = (voc, camvid, pairs)


def open_data(texts: Sequence[str], split: str | None = None, default: str | None = None) -> DataSet:
    """The samples of several data sets, each picture once, whose classes agree.

    texts:   ROOT, or ROOT:LIST,LIST; a data set that has no lists goes by ROOT alone.
    split:   the lists, joined by commas, of every ROOT that names none.
    default: the list where neither names one and the data set has lists.
    Whether pictures and masks are there and fit each other is for `check` to say.
    Raises UsageError for words that make no sense together, DataError for a folder or list that is not there, for one
    whose layout is not recognised, and where the classes of two data sets differ.
    """
    if not texts:
        raise UsageError("no data set is named. Write --data ROOT:LIST.")
    opened = [_open(*_root_and_lists(text, split), default) for text in texts]
    for text, data in zip(texts, opened, strict=True):
        if data.classes != opened[0].classes:
            raise DataError(
                f"{text} and {texts[0]} speak of different classes: {_difference(data.classes, opened[0].classes)}. "
                f"Give both a {CLASSES} with the same names in the same order."
            )
    samples = _once(sample for data in opened for sample in data.samples)
    return DataSet(samples, opened[0].classes, opened[0].palette)


def open_list(root: Path, lists: Sequence[str]) -> list[Sample]:
    """The samples of the named lists of the data set at `root`, in their order, each picture once.

    Raises DataError as `open_data` does.
    """
    return _open(root, lists, None).samples


def parse_data(text: str) -> tuple[Path, list[str]]:
    """Root and list names of "ROOT:LIST,LIST". Raises UsageError where one of them is missing."""
    root, _, names = text.rpartition(":")
    lists = _names(names)
    if not root or not lists or (os.sep in names):
        raise UsageError(f"{text!r} names no list. Write ROOT:LIST or ROOT:LIST,LIST.")
    return Path(root).expanduser(), lists


def _root_and_lists(text: str, split: str | None) -> tuple[Path, list[str] | None]:
    root = Path(text).expanduser()
    if root.is_dir():
        return root, None if split is None else _names(split)
    if ":" not in text:
        raise DataError(f"{text}: there is no such folder. Name a data set's folder, or ROOT:LIST.")
    root, lists = parse_data(text)
    if split is not None:
        raise UsageError(f"--data {text} names its own list: leave --split {split} out, or write --data {root}.")
    return root, lists


def _open(root: Path, names: Sequence[str] | None, default: str | None) -> DataSet:
    layout = _layout(root)
    classes = read_classes(root / CLASSES) if (root / CLASSES).is_file() else layout.DEFAULT_CLASSES
    if classes is None:
        raise DataError(f"{root} has no {CLASSES}. Write one with a class a line, in the order of the masks' indices.")
    lists = layout.lists(root)
    for name in names or ():
        if name not in lists:
            there = f"Its lists: {', '.join(lists)}." if lists else "It has none: name the folder alone."
            raise DataError(f"{root}: there is no list {name!r}. {there}")
    if names is None and lists:
        if default not in lists:
            raise UsageError(f"{root} has the lists {', '.join(lists)}: name one, as in {root}:{lists[0]}.")
        names = [default]
    chosen: Sequence[str | None] = names or [None]
    samples = _once(sample for name in chosen for sample in layout.read(root, name, classes.void))
    if not samples:
        raise DataError(f"{root}: there is no picture in it.")
    return DataSet(samples, classes.names, classes.palette)


def _once(samples: Iterable[Sample]) -> list[Sample]:
    """Each picture's first sample, in their order."""
    first: dict[Path, Sample] = {}
    for sample in samples:
        first.setdefault(sample.image, sample)
    return list(first.values())


def _layout(root: Path) -> Layout:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. Name a data set's folder, or ROOT:LIST.")
    for layout in LAYOUTS:
        if layout.recognised(root):
            return layout
    inside = sorted(path for path in root.iterdir() if path.is_dir() and any(each.recognised(path) for each in LAYOUTS))
    looked_for = "; ".join(layout.LOOKS_LIKE for layout in LAYOUTS)
    hint = f"Did you mean {inside[0]}?" if inside else "docs/data.md shows them."
    raise DataError(f"{root} is no data set of a known layout. Looked for {looked_for}. {hint}")


def _difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    if len(ours) != len(theirs):
        return f"{len(ours)} against {len(theirs)}"
    index = next(index for index in range(len(ours)) if ours[index] != theirs[index])
    return f"index {index} is {ours[index]} in the one, {theirs[index]} in the other"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
