"""One labelled picture to one view of it that the network is trained on.

The teacher's probabilities lie on a coarse grid over the picture; they are read at every eighth pixel of
the view, so no picture has to go through the teacher twice.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from fcn_edge.spec import VOID
from fcn_edge.training.recipe import SOFT_STRIDE, Recipe

GRAY = 127  # what lies outside the picture: the middle of the range, as the network's mean

View = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def view(
    image: np.ndarray,
    mask: np.ndarray,
    soft: np.ndarray | None,
    recipe: Recipe,
    side_above: Callable[[int], int],
    rng: np.random.Generator,
) -> View:
    """A scaled, cropped (unless the recipe takes whole pictures), mirrored and recoloured sample.

    image: uint8 (H, W, 3). mask: uint8 (H, W). soft: (C, h, w) probabilities over the whole picture, or None.
    side_above: the least side that the network takes for that many pixels; a whole picture is filled up to it.
    Returns uint8 (y, x, 3), uint8 (y, x) with 255 outside the picture, and float32 (C, y/8, x/8) rounded up, of
    the pixels 0, 8, 16, ..., with 0 outside.
    """
    height, width = mask.shape
    if recipe.longer_side:
        longer = np.exp(rng.uniform(*np.log(recipe.longer_side)))
        scale = longer / max(mask.shape)
        height, width = (max(1, round(pixels * scale)) for pixels in mask.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    if recipe.crop:
        size = (recipe.crop, recipe.crop)
        start = (_offset(height, recipe.crop, rng), _offset(width, recipe.crop, rng))
    else:
        size, start = (side_above(height), side_above(width)), (0, 0)

    image = _recolor(_cut(image, start, size, GRAY), recipe.color, rng)
    mask = _cut(mask, start, size, VOID)
    mirrored = rng.random() < recipe.flip
    if soft is not None:
        soft = _read_grid(soft, (height, width), start, size, mirrored)
    if mirrored:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(mask), soft


def _offset(pixels: int, side: int, rng: np.random.Generator) -> int:
    """Where the crop starts; negative where the picture is smaller than the crop."""
    room = pixels - side
    return int(rng.integers(min(0, room), max(0, room) + 1))


def _cut(picture: np.ndarray, start: tuple[int, int], size: tuple[int, int], outside: int) -> np.ndarray:
    top, left = start
    canvas = np.full((*size, *picture.shape[2:]), outside, np.uint8)
    inside = picture[max(0, top) : top + size[0], max(0, left) : left + size[1]]
    y, x = max(0, -top), max(0, -left)
    canvas[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return canvas


def _recolor(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Contrast, brightness and saturation, each varied by up to `amount`."""
    contrast, saturation = 1 + rng.uniform(-amount, amount, 2)
    brightness = rng.uniform(-amount, amount) * GRAY
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    image = cv2.addWeighted(image, saturation, gray, 1 - saturation, 0)
    return cv2.addWeighted(image, contrast, image, 0, brightness + GRAY * (1 - contrast))


def _read_grid(
    soft: np.ndarray, picture: tuple[int, int], start: tuple[int, int], size: tuple[int, int], mirrored: bool
) -> np.ndarray:
    """`soft`, which covers the scaled picture, at every eighth pixel of the view; 0 outside the picture."""
    ys, xs = (torch.arange(0, side, SOFT_STRIDE, dtype=torch.float32) for side in size)
    ys, xs = ys + start[0], (size[1] - 1 - xs if mirrored else xs) + start[1]
    inside = ((ys >= 0) & (ys < picture[0]))[:, None] & ((xs >= 0) & (xs < picture[1]))[None]
    y, x = ((2 * positions + 1) / pixels - 1 for positions, pixels in zip((ys, xs), picture, strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    maps = torch.from_numpy(soft.astype(np.float32))[None]
    read = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return (read * inside).numpy()
