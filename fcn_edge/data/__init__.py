"""Labelled pictures, read without torch.

A VOC mask is a palette PNG whose pixel is a class index; an ordinary picture reader (cv2.imread among
them) hands over the palette's colours instead, and everything after that is silently wrong. So masks
are read with Pillow, which keeps indices, and a mask that holds colours is refused.

Layout: ROOT/JPEGImages/ID.jpg, ROOT/SegmentationClass/ID.png, ROOT/ImageSets/Segmentation/LIST.txt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fcn_edge.errors import DataError, UsageError
from fcn_edge.spec import VOID

PICTURES, MASKS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
NAMED_IN_AN_ERROR = 5  # ids listed behind the first: enough to see a pattern, short enough for one line
EXIF_ORIENTATION, EXIF_SIDEWAYS = 0x0112, (5, 6, 7, 8)

Progress = Callable[[Iterable[Any]], Iterable[Any]]  # wraps what is iterated over, such as in a bar


@dataclass(frozen=True)
class Sample:
    """One labelled picture; `mask` is None where the data set has no masks at all."""

    id: str
    image: Path
    mask: Path | None


def parse_data(text: str) -> tuple[Path, list[str]]:
    """Root and list names of "ROOT:LIST,LIST". Raises UsageError where one of them is missing."""
    root, _, names = text.rpartition(":")
    lists = [name.strip() for name in names.split(",") if name.strip()]
    if not root or not lists or (os.sep in names):
        raise UsageError(f"{text!r} names no list. Write ROOT:LIST or ROOT:LIST,LIST; {_lists_of(Path(text))}")
    return Path(root).expanduser(), lists


def open_list(root: Path, lists: Sequence[str]) -> list[Sample]:
    """The samples of the named lists of the data set at `root`, in their order, each id once.

    Whether pictures and masks are there and fit each other is for `check` to say.
    Raises DataError where the root or a list is missing or empty.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. Name the folder that holds {PICTURES} and {MASKS}.")
    ids: dict[str, None] = {}
    for name in lists:
        ids.update(dict.fromkeys(_read_ids(root, name)))
    pictures = _pictures(root / PICTURES)
    masks = root / MASKS
    labelled = masks.is_dir()
    return [
        Sample(id, pictures.get(id, root / PICTURES / f"{id}.jpg"), masks / f"{id}.png" if labelled else None)
        for id in ids
    ]


def read_image(path: Path) -> np.ndarray:
    """The picture as uint8 (H, W, 3), BGR, turned as its EXIF orientation says. Raises DataError."""
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error as error:  # above OPENCV_IO_MAX_IMAGE_PIXELS
        raise DataError(f"{path}: not readable as a picture: {error.err}.") from error
    if image is None:
        raise DataError(f"{path}: {_why_unread(path, 'a picture')}.")
    return image


def read_mask(path: Path) -> np.ndarray:
    """Class indices of a palette or gray mask as uint8 (H, W); 255 is void. Raises DataError."""
    try:
        with Image.open(path) as mask:
            if mask.mode not in ("P", "L", "1"):
                raise DataError(
                    f"{path}: the mask holds colours (mode {mask.mode}), not class indices. "
                    "Save it as a palette or an 8-bit gray PNG whose pixels are indices."
                )
            # Pillow stretches gray of 2 and 4 bits to 0..255; a mask wants the stored numbers back.
            stretch = {"L;2": 85, "L;4": 17}.get(str(mask.tile[0][3]), 1) if mask.tile else 1
            return np.array(mask, dtype=np.uint8) // np.uint8(stretch)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {_why_unread(path, 'a mask')}.") from error


def check(samples: Sequence[Sample], num_classes: int, progress: Progress | None = None) -> None:
    """Look at every picture and its mask; raise one DataError that counts all that are wrong and names the first.

    Wrong is: a file that is missing or unreadable, a mask of another size than its picture, colours
    instead of indices, an index that is neither below `num_classes` nor void.
    """
    if not samples:
        raise DataError("There are no pictures to check.")
    with ThreadPoolExecutor() as pool:
        problems: Iterable[str | None] = pool.map(lambda sample: problem(sample, num_classes), samples)
        if progress is not None:
            problems = progress(problems)
        wrong = [(sample.id, found) for sample, found in zip(samples, problems, strict=True) if found]
    if wrong:
        raise DataError(_summary(wrong, len(samples)))


def problem(sample: Sample, num_classes: int) -> str | None:
    """What is wrong with one sample, in a few words; None where nothing is."""
    try:
        size = _picture_size(sample.image)
        if sample.mask is None:
            return f"{sample.image} has no mask: there is no {MASKS} folder"
        mask = read_mask(sample.mask)
    except DataError as error:
        return str(error).rstrip(".")
    if mask.shape[::-1] != size:
        return f"{sample.mask} is {mask.shape[1]}x{mask.shape[0]}, its picture {size[0]}x{size[1]}"
    strange = set(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[num_classes:VOID]) + num_classes)
    if strange:
        return f"{sample.mask} holds index {min(strange)}, {num_classes} classes end at {num_classes - 1}"
    return None


def _summary(wrong: Sequence[tuple[str, str]], total: int) -> str:
    """One line for the (id, problem) pairs in `wrong`."""
    others = [id for id, _ in wrong[1 : 1 + NAMED_IN_AN_ERROR]]
    more = len(wrong) - 1 - len(others)
    also = f"; also {', '.join(others)}" if others else ""
    also += f" and {more} more" if more else ""
    return (
        f"{len(wrong)} of {total} masks do not fit, first: {wrong[0][1]}{also}. "
        "Mend them, or take their ids off the list."
    )


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height as `read_image` delivers them.

    The file is read to its end, at an eighth of the size where its format allows: OpenCV fills the rest of
    a JPEG that breaks off with gray and says nothing.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(EXIF_ORIENTATION) in EXIF_SIDEWAYS
            image.draft("L", (1, 1))
            image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {_why_unread(path, 'a picture')}.") from error
    return (height, width) if sideways else (width, height)


def _read_ids(root: Path, name: str) -> list[str]:
    path = root / LISTS / f"{name}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: there is no such list; {_lists_of(root)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file with one id a line.") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise DataError(f"{path}: the list is empty. It holds one id a line.")
    return ids


def _lists_of(root: Path) -> str:
    names = sorted(path.stem for path in (root / LISTS).glob("*.txt"))
    return f"lists of {root}: {', '.join(names)}." if names else f"{root / LISTS} holds none."


def _pictures(folder: Path) -> dict[str, Path]:
    """Stem to path: one listing is cheaper than asking for each of some thousand files."""
    if not folder.is_dir():
        return {}
    found = (Path(entry.path) for entry in os.scandir(folder))
    return {path.stem: path for path in found if path.suffix.lower() in PICTURE_SUFFIXES}


def _why_unread(path: Path, what: str) -> str:
    if not path.exists():
        return "there is no such file"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty"
    return f"not readable as {what}, or cut off"
