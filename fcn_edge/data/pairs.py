"""Anybody's own data: ROOT/images/ID.jpg, ROOT/masks/ID.png and ROOT/classes.txt.

A list is a text file ROOT/lists/LIST.txt or a pair of folders images/LIST and masks/LIST; without any the whole
folder is one data set.
"""

from __future__ import annotations

from pathlib import Path

from fcn_edge.data.files import CLASSES, MASK_SUFFIXES, PICTURE_SUFFIXES, Classes, by_stem, paired, read_ids
from fcn_edge.data.samples import Sample

LOOKS_LIKE: str = f"images with masks and {CLASSES} (your own)"
DEFAULT_CLASSES: Classes | None = None

PICTURES, MASKS, LISTS = "images", "masks", "lists"


def recognised(root: Path) -> bool:
    return (root / PICTURES).is_dir() and (root / MASKS).is_dir()


def lists(root: Path) -> list[str]:
    folders = {path.name for path in (root / PICTURES).iterdir() if path.is_dir()}
    files = {path.stem for path in (root / LISTS).glob("*.txt")}
    return sorted(files | {name for name in folders if (root / MASKS / name).is_dir()})


def read(root: Path, name: str | None, void: int) -> list[Sample]:
    """The samples of a list, in its order; of all pictures and masks, by name, where there are no lists."""
    images, masks = root / PICTURES, root / MASKS
    listed = root / LISTS / f"{name}.txt"
    if name is None or not listed.is_file():
        return paired(images / (name or ""), masks / (name or ""), void)
    pictures, labels = by_stem(images, PICTURE_SUFFIXES), by_stem(masks, MASK_SUFFIXES)
    return [
        Sample(id, pictures.get(id, images / f"{id}.jpg"), labels.get(id, masks / f"{id}.png"), void)
        for id in read_ids(listed)
    ]
