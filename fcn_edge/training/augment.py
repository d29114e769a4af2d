"""One labelled picture to one training crop.

The teacher's probabilities lie on a coarse grid over the picture; they are read at the very positions
that the network scores, so no picture has to go through the teacher twice.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from fcn_edge.spec import VOID
from fcn_edge.training.recipe import Recipe

GRAY = 127  # what lies outside the picture: the middle of the range, as the network's mean


def crop(
    image: np.ndarray, mask: np.ndarray, soft: np.ndarray | None, recipe: Recipe, stride: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A scaled, cropped, mirrored and recoloured sample.

    image: uint8 (H, W, 3). mask: uint8 (H, W). soft: (C, h, w) probabilities over the whole picture, or None.
    stride: of the network's scores, whose positions are the crop's pixels 0, stride, 2 stride, ...
    Returns uint8 (c, c, 3), uint8 (c, c) with 255 outside the picture, float32 (C, s, s) with 0 outside.
    """
    side = recipe.crop
    longer = np.exp(rng.uniform(*np.log(recipe.longer_side)))
    scale = longer / max(mask.shape)
    height, width = (max(1, round(pixels * scale)) for pixels in mask.shape)
    top, left = (_offset(pixels, side, rng) for pixels in (height, width))

    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    image = _recolor(_cut(image, top, left, side, GRAY), recipe.color, rng)
    mask = _cut(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), top, left, side, VOID)
    if soft is not None:
        soft = _read_grid(soft, (height, width), (top, left), stride, side)
    if rng.random() < recipe.flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
        soft = soft[:, :, ::-1] if soft is not None else None
    return np.ascontiguousarray(image), np.ascontiguousarray(mask), None if soft is None else np.ascontiguousarray(soft)


def _offset(pixels: int, side: int, rng: np.random.Generator) -> int:
    """Where the crop starts; negative where the picture is smaller than the crop."""
    room = pixels - side
    return int(rng.integers(min(0, room), max(0, room) + 1))


def _cut(picture: np.ndarray, top: int, left: int, side: int, outside: int) -> np.ndarray:
    canvas = np.full((side, side, *picture.shape[2:]), outside, np.uint8)
    inside = picture[max(0, top) : top + side, max(0, left) : left + side]
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
    soft: np.ndarray, picture: tuple[int, int], start: tuple[int, int], stride: int, side: int
) -> np.ndarray:
    """`soft`, which covers the scaled picture, at every `stride`-th pixel of the crop; 0 outside the picture."""
    ys, xs = (torch.arange(first, first + side, stride, dtype=torch.float32) for first in start)
    inside = ((ys >= 0) & (ys < picture[0]))[:, None] & ((xs >= 0) & (xs < picture[1]))[None]
    y, x = ((2 * positions + 1) / pixels - 1 for positions, pixels in zip((ys, xs), picture, strict=True))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    maps = torch.from_numpy(soft.astype(np.float32))[None]
    read = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return (read * inside).numpy()
