"""Data sets that tests draw: a bright square of class 12 on noise, in VOC layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fcn_edge.spec import voc_palette

SQUARE = 12


def draw_data(
    root: Path, count: int = 8, sizes: tuple[tuple[int, int], ...] = ((72, 96),), label: int = SQUARE
) -> Path:
    """`count` pictures with masks, their (H, W) in turn, and one list of all: `train`."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(label)
    for number in range(count):
        height, width = sizes[number % len(sizes)]
        image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        top, left = rng.integers(0, 20, 2)
        image[top : top + 30, left : left + 30] = 220
        mask[top : top + 30, left : left + 30] = label
        cv2.imwrite(str(root / f"JPEGImages/{number}.jpg"), image)
        palette = Image.fromarray(mask)
        palette.putpalette([value for color in voc_palette(256) for value in color])
        palette.save(root / f"SegmentationClass/{number}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(map(str, range(count))))
    return root


def recipe_file(path: Path, recipe: Any) -> Path:
    """The figures of a recipe as TOML."""
    given = {key: value for key, value in vars(recipe).items() if value not in (None, {})}
    lines = [f"{key} = {json.dumps(value)}" for key, value in given.items() if not isinstance(value, dict)]
    for key, table in given.items():
        if isinstance(table, dict):
            lines += [f"[{key}]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
    path.write_text("\n".join(lines))
    return path
