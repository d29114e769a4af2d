"""A teacher's probabilities for every training picture, computed once and kept.

Each picture and its mirror image go through the teacher, whatever `Segmenter` can open, and the mean of
both is kept at an eighth of the teacher's resolution: 90 kB a picture, in float16.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fcn_edge.data import read_image
from fcn_edge.errors import ModelError
from fcn_edge.models.checkpoint import sha256

if TYPE_CHECKING:
    from fcn_edge.segmenter import Segmenter

STRIDE = 8  # of the kept map; the students' own scores are no finer


def probabilities(
    teacher: Segmenter, model: Path, pictures: Iterable[Path], cache: Path, track: Callable[..., Iterable[Path]]
) -> dict[Path, Path]:
    """Where the teacher's probabilities for each picture lie, float16 (C, h, w) as .npy; computes what lacks.

    model: the teacher's file, whose hash names its folder in `cache`; a picture is named by its own hash.
    """
    folder = cache / "teacher" / sha256(model)[:16]
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
        both.append(_softmax(_shrink(scores)))
    return (both[0] + both[1][:, :, ::-1]) / 2


def _shrink(scores: np.ndarray) -> np.ndarray:
    height, width = (-(-side // STRIDE) for side in scores.shape[1:])
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in scores])


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)


def _keep(path: Path, array: np.ndarray) -> None:
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, array.astype(np.float16))
    os.replace(temporary, path)
