"""A teacher's probabilities for every training picture, computed once and kept.

Each picture and its mirror image go through the teacher, whatever `Segmenter` can open, and the mean of
both is kept at an eighth of the teacher's input: 90 kB a picture, in float16.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from fcn_edge.data import read_image
from fcn_edge.errors import ModelError
from fcn_edge.models.checkpoint import sha256
from fcn_edge.spec import Deconv
from fcn_edge.training.loss import at_pixels
from fcn_edge.training.recipe import SOFT_STRIDE

if TYPE_CHECKING:
    from fcn_edge.segmenter import Segmenter


def probabilities(
    teacher: Segmenter, model: Path, pictures: Iterable[Path], cache: Path, track: Callable[..., Iterable[Path]]
) -> dict[Path, Path]:
    """Where the teacher's probabilities for each picture lie, float16 (C, h, w) as .npy; computes what lacks.

    model: the teacher's file, whose hash names its folder in `cache`; a picture is named by its own hash.
    """
    stride = teacher.spec.output.stride
    folder = cache / "teacher" / f"{sha256(model)[:16]}{f'-stride{stride}' if stride > 1 else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {picture: folder / f"{sha256(picture)[:32]}.npy" for picture in pictures}
    for picture in track([picture for picture, place in kept.items() if not place.exists()], "Teacher"):
        _keep(kept[picture], _probabilities(teacher, read_image(picture)))
    return kept


def _probabilities(teacher: Segmenter, image: np.ndarray) -> np.ndarray:
    both = []
    for view in (image, np.ascontiguousarray(image[:, ::-1])):
        scores = teacher(view).scores
        if scores is None:
            raise ModelError(f"{teacher.spec.name} gives labels, a teacher has to give scores.")
        both.append(_softmax(_shrink(_upsampled(teacher, scores, view))))
    return (both[0] + both[1][:, :, ::-1]) / 2


def _upsampled(teacher: Segmenter, scores: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The scores over the whole picture, pixel by pixel of the teacher's input: its grid may be any."""
    output = teacher.spec.output
    if output.stride == 1:
        return scores
    if isinstance(output.grid, Deconv):
        size = teacher.network_size(frame.shape[:2])
    else:
        corner = 1 if output.grid == "align_corners" else 0
        rows, columns = ((side - corner) * output.stride + corner for side in scores.shape[1:])
        size = (rows, columns)
    return at_pixels(torch.from_numpy(scores)[None], size, output.grid)[0].numpy()


def _shrink(scores: np.ndarray) -> np.ndarray:
    height, width = (-(-side // SOFT_STRIDE) for side in scores.shape[1:])
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in scores])


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)


def _keep(path: Path, array: np.ndarray) -> None:
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, array.astype(np.float16))
    os.replace(temporary, path)
