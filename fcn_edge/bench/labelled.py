"""The labelled sets of a report: what they are called in it, and whether two reports mean the same pictures.

A name says nothing of what is in a folder, so accuracy is compared only where the pictures' names and masks are the
same to the byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fcn_edge.bench.schema import Data
from fcn_edge.data import DataSet, Sample, open_data, read_mask
from fcn_edge.errors import DataError, SinkError
from fcn_edge.files import replacing, sha256

if TYPE_CHECKING:
    from fcn_edge.segmenter import Segmentation

DEFAULT_LIST = "val"


def open_labelled(text: str, split: str | None = None, limit: int | None = None) -> DataSet:
    """The samples of one `--data`, the first `limit` of them. Raises as `open_data` does."""
    data = open_data([text], split, default=DEFAULT_LIST)
    return DataSet(data.samples[:limit], data.classes, data.palette)


def describe(
    text: str, split: str | None = None, limit: int | None = None, classes: Sequence[str] | None = None
) -> Data:
    """What a report says of the set; `classes`: those that means are over; None: all.

    Raises as `open_data` does, and DataError where a mask cannot be read.
    """
    data = open_labelled(text, split, limit)
    over = None if classes is None else list(classes)
    return Data(name(text, split), len(data.samples), identity(data.samples), list(data.classes), over)


def name(text: str, split: str | None = None) -> str:
    """ROOT:LIST without the folders above ROOT: what the set is called in a report."""
    root, lists = (Path(text), split) if Path(text).expanduser().is_dir() else _apart(text)
    last = root.expanduser().resolve().name or "data"
    return f"{last}:{lists}" if lists else last


def _apart(text: str) -> tuple[Path, str]:
    root, _, lists = text.rpartition(":")
    return Path(root), lists


def identity(samples: Sequence[Sample]) -> str:
    """SHA-256 over the pictures' ids and masks. Raises DataError where a mask cannot be read."""
    with ThreadPoolExecutor() as pool:
        masks = list(pool.map(_digest, samples))
    hash = hashlib.sha256()
    for sample, mask in zip(samples, masks, strict=True):
        hash.update(f"{sample.id} {mask} {sample.void}\n".encode())
    return hash.hexdigest()


def _digest(sample: Sample) -> str:
    if sample.mask is None:
        raise DataError(f"{sample.image} has no mask: there are no labels to hold a model against.")
    try:
        return sha256(sample.mask)
    except OSError as error:
        raise DataError(f"{sample.mask}: not readable: {error.strerror}.") from error


class Keeping:
    """A candidate's labels as evaluation makes them: written down, and held against those of a reference.

    folder:    to write them to. reference: the folder of another candidate's.
    """

    def __init__(self, data: str, folder: str | None, reference: str | None) -> None:
        self._data = data
        self._folder, self._reference = folder, reference
        self._same = self._pixels = 0

    def add(self, sample: Sample, result: Segmentation) -> None:
        """Raises SinkError where they cannot be written, DataError where the reference's cannot be read."""
        if self._folder:
            write_labels(labels_file(Path(self._folder), self._data, sample.id), result.labels)
        if self._reference and (file := labels_file(Path(self._reference), self._data, sample.id)).is_file():
            theirs = read_mask(file)
            if theirs.shape == result.labels.shape:
                self._same += int((theirs == result.labels).sum())
                self._pixels += theirs.size

    @property
    def agreement(self) -> float | None:
        """The share of pixels that have the reference's label; None where there was nothing of it."""
        return self._same / self._pixels if self._pixels else None


def write_labels(path: Path, labels: np.ndarray) -> None:
    """A gray PNG of class indices. Raises SinkError where it cannot be written."""
    _, encoded = cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror}. Name another folder: --out.") from error


def labels_file(folder: Path, data: str, id: str) -> Path:
    """Where a candidate's labels of a picture are kept in its folder: a gray PNG of class indices."""
    return folder / data.replace(":", "-").replace(",", "-") / f"{id}.png"
