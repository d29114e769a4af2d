"""Frame, truth and masks side by side, small enough to travel inside a page.

A mask is a palette PNG of class indices; colours alone would leave some readers out, so the classes that it holds are
named beside it with their share.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from fcn_edge.bench.schema import Data, Picture
from fcn_edge.report.view import Board, champions
from fcn_edge.report.words import share
from fcn_edge.spec import VOID, voc_palette

WIDTH = 280  # pixels of a picture on the page
SMALLEST = 0.01  # share of a mask from which on a class is named
FOLDER = "pictures"


@dataclass(frozen=True)
class Shown:
    """`classes`: (name, share, CSS colour) of what a mask holds."""

    title: str
    uri: str
    classes: list[tuple[str, str, str]]


def rows(board: Board) -> list[tuple[str, list[Shown]]]:
    """For each picture (what it shows, its frame, truth and masks), those that candidates differ on most first.

    A file that is not there or is no picture is left out.
    """
    made = []
    for picture in sorted(board.report.pictures, key=lambda picture: picture.agreement):
        data = _data(board, picture)
        names = data.classes if data else []
        folder = board.folder / FOLDER
        frame = _frame(folder / Path(picture.frame).name)  # of a name alone: nothing outside the folder is shown
        masks = _masks(board, picture, data)
        found = [each for title, file in masks if (each := _mask(title, folder / Path(file).name, names))]
        if frame and found:
            made.append((f"{Path(picture.frame).stem}: all agree on {share(picture.agreement)}", [frame, *found]))
    return made


def _data(board: Board, picture: Picture) -> Data | None:
    """The data that the picture belongs to; the first where it does not say."""
    return next((each for each in board.report.data if each.name == picture.data), next(iter(board.report.data), None))


def _masks(board: Board, picture: Picture, data: Data | None) -> list[tuple[str, str]]:
    """The truth, and the masks of each model's most accurate candidate; of the first ones where none is known."""
    best = [cell.key for cell in champions(board, data.name)] if data else []
    kept = [key for key in best if key in picture.labels] or list(picture.labels)[:6]
    truth = [("truth", picture.truth)] if picture.truth else []
    return [*truth, *((key, picture.labels[key]) for key in kept)]


def _frame(path: Path) -> Shown | None:
    image = _opened(path)
    if image is None:
        return None
    image = image.convert("RGB")
    image.thumbnail((WIDTH, 2 * WIDTH))
    return Shown("frame", _uri(image, "JPEG", quality=82), [])


def _mask(title: str, path: Path, names: Sequence[str]) -> Shown | None:
    import numpy as np
    from PIL import Image

    image = _opened(path)
    if image is None or image.mode not in ("P", "L"):
        return None
    palette = _palette(image)
    counts = np.bincount(np.asarray(image).ravel(), minlength=256)
    counts[VOID] = 0
    total = max(1, counts.sum())
    held = [index for index in np.argsort(-counts, kind="stable") if counts[index] / total >= SMALLEST]
    classes = [
        (
            names[index] if index < len(names) else str(index),
            share(counts[index] / total),
            "#" + bytes(palette[3 * index : 3 * index + 3]).hex(),
        )
        for index in map(int, held)
    ]
    small = image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))), Image.Resampling.NEAREST)
    small = Image.frombytes("P", small.size, small.tobytes())
    small.putpalette(palette)
    return Shown(title, _uri(small, "PNG", optimize=True), classes)


def _palette(image: Any) -> list[int]:
    """768 values: the picture's own, else the VOC colours."""
    own = image.getpalette() if image.mode == "P" else None
    colors = own or [value for color in voc_palette(256) for value in color]
    return (list(colors) + [0] * 768)[:768]


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises of a damaged file
        return None


def _uri(image: Any, kind: str, **options: Any) -> str:
    to = BytesIO()
    image.save(to, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(to.getvalue()).decode()}"
