"""A teacher's probabilities for every training picture, computed once and kept.

Each picture and its mirror image go through the teacher, whatever `Segmenter` can open, and the mean of
both is kept at an eighth of the teacher's input: 90 kB a picture, in float16. The folder's name is a hash of all
that decides them, so what another teacher, or the same one otherwise described, has said is never found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import msgspec
import numpy as np
import torch

from fcn_edge.data import read_image
from fcn_edge.errors import ModelError
from fcn_edge.files import replacing, sha256
from fcn_edge.prepare import lay_out
from fcn_edge.spec import Deconv, Resize
from fcn_edge.training.loss import at_pixels
from fcn_edge.training.recipe import SOFT_STRIDE

if TYPE_CHECKING:
    from fcn_edge.segmenter import Segmenter

SUM_IS_ONE = 1e-3  # what float16 leaves of a sum of 21 probabilities, and no scores before softmax come near


def probabilities(
    teacher: Segmenter, pictures: Iterable[Path], cache: Path, track: Callable[..., Iterable[Path]]
) -> dict[Path, Path]:
    """Where the teacher's probabilities for each picture lie, float16 (C, h, w) as .npy; computes what lacks.

    A picture is named by its own hash, in a folder of `cache` that `teacher_key` names.
    Raises ModelError for a teacher that gives labels.
    """
    if teacher.spec.output.kind == "labels":
        raise ModelError(f"{teacher.path} gives labels, a teacher has to give scores.")
    folder = cache / "teacher" / teacher_key(teacher)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {picture: folder / f"{sha256(picture)[:32]}.npy" for picture in pictures}
    for picture in track([picture for picture, place in kept.items() if not place.exists()], "Asking the teacher"):
        _keep(kept[picture], _probabilities(teacher, read_image(picture)))
    return kept


def teacher_key(teacher: Segmenter) -> str:
    """The hash of all that decides its probabilities: the file, what is said of it, and what computes it."""
    backend = teacher.backend
    computed = [teacher.resize, teacher.size, backend.name, backend.precision, backend.versions]
    decisive = [sha256(teacher.path), teacher.spec, computed, SOFT_STRIDE]
    return hashlib.sha256(msgspec.json.encode(decisive)).hexdigest()[:16]


def _probabilities(teacher: Segmenter, image: np.ndarray) -> np.ndarray:
    both = []
    for view in (image, np.ascontiguousarray(image[:, ::-1])):
        scores = teacher(view).scores
        assert scores is not None
        planes = _shrink(_upsampled(teacher, scores, view))
        both.append(planes if _are_probabilities(scores) else _softmax(planes))
    return (both[0] + both[1][:, :, ::-1]) / 2


def _are_probabilities(scores: np.ndarray) -> bool:
    """Whether the file's own last step is a softmax: a second one would make every class about as likely."""
    return bool(scores.min() >= 0 and np.abs(scores.sum(0) - 1).max() < SUM_IS_ONE)


def _upsampled(teacher: Segmenter, scores: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The scores over the picture and nothing beside it, pixel by pixel of the teacher's input; its grid may be any."""
    output = teacher.spec.output
    layout = lay_out(teacher.spec, frame.shape[:2], cast("Resize", teacher.resize), teacher.size)  # never tiles
    if teacher.resize == "native" or isinstance(output.grid, Deconv):
        size = layout.network  # these scores come with those of the border
    else:
        corner = 1 if output.grid == "align_corners" else 0
        rows, columns = ((side - corner) * output.stride + corner for side in scores.shape[1:])
        size = (rows, columns)
    upsampled = at_pixels(torch.from_numpy(scores)[None], size, output.grid)[0].numpy()
    return upsampled[:, : layout.content[0], : layout.content[1]]


def _shrink(scores: np.ndarray) -> np.ndarray:
    height, width = (-(-side // SOFT_STRIDE) for side in scores.shape[1:])
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in scores])


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)


def _keep(path: Path, array: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array.astype(np.float16))
