"""Whether two files show the same picture, and whether a file shows a picture at all.

Most people's VOC is not the official bytes: it was scaled, recompressed, stripped of its metadata. So pictures are
compared by a perceptual hash too: the signs of a small picture's lowest frequencies against their median (the DCT hash
of Zauner 2010). How many of its 64 bits differ, always an even number:

    700 photos of VOC, COCO and others, and their copies
      as JPEG of quality 15 to 75, 128 to 800 pixels wide    4 at most
      cropped by 2 %; brightened until it clips              6 or less for 99 in 100, 10 at most
      cropped by 10 %                                        16 or less for 95 in 100
    42 million pairs of 9,186 photos
      one photo under two names                              0: all 7
      two views of a locomotive; two aeroplanes in the sky   6
      nothing in common                                      4 pairs at 8, 35 at 10, 1 in 750 at 18 or less, median 32

How neighbouring pixels correlate once a picture is 16x16:

    9,186 photos of VOC, COCO and others                     median 0.77, 1 in 100 below 0.51, 1 in 650 below 0.4
    701 pictures of CamVid                                   median 0.88, 0.69 or more
    360 of noise, as it is or as JPEG of quality 20 to 90    0.12 at most
    ... in squares of 2, 4 or 8 pixels                       0.17 at most
    ... blurred by 1, 2, 4 or 8 pixels                       0.14, 0.15, 0.28, 0.58 at most; median at 8: 0.24
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fcn_edge.errors import DataError

Track = Callable[[Iterable[Any], int], Iterable[Any]]  # wraps what is iterated over, with its length

SIDE = 8  # frequencies a direction that are kept: 64 bits
SHRUNK = 4 * SIDE  # sides of the picture that they are taken from
NEAR = 6  # bits, at most, of copies of one picture
FAR = 20  # bits, at least, of two pictures that only share a name
NOISE = 0.4  # correlation, at least, of nearly all photos


@dataclass(frozen=True)
class Look:
    """What is kept of a picture: its file's SHA-256, its perceptual hash, and how alike its neighbouring pixels are."""

    sha256: str
    hash: int  # of SIDE * SIDE bits
    correlation: float  # `smoothness`


def look(path: Path) -> Look:
    """Raises DataError where the file is missing or no picture."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not readable: {error.strerror}.") from error
    try:
        gray = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    except cv2.error as error:  # above OPENCV_IO_MAX_IMAGE_PIXELS
        raise DataError(f"{path}: not readable as a picture: {error.err}.") from error
    if gray is None:
        raise DataError(f"{path}: not readable as a picture, or cut off.")
    return Look(hashlib.sha256(content).hexdigest(), perceptual_hash(gray), smoothness(gray))


def looks(paths: Sequence[Path], track: Track | None = None) -> list[Look]:
    """`look` at each, several at a time. Raises DataError for the first that is missing or no picture."""
    with ThreadPoolExecutor() as pool:
        found: Iterable[Look] = pool.map(look, paths)
        return list(found if track is None else track(found, len(paths)))


def perceptual_hash(gray: np.ndarray) -> int:
    """The hash of a picture, uint8 (H, W), as a number of SIDE * SIDE bits, the first of which is 0.

    The mean brightness is left out, so a picture that was brightened evenly keeps its hash.
    """
    shrunk = cv2.resize(gray, (SHRUNK, SHRUNK), interpolation=cv2.INTER_AREA).astype(np.float32)
    lowest = cv2.dct(shrunk)[:SIDE, :SIDE].ravel()[1:]
    bits = np.concatenate([[False], lowest > np.median(lowest)])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distances(ours: Sequence[int], theirs: Sequence[int]) -> np.ndarray:
    """Bits in which each of our hashes differs from each of theirs: int (len(ours), len(theirs))."""
    left, right = _signs(ours), _signs(theirs)
    return ((SIDE * SIDE - left @ right.T) / 2).round().astype(int)  # a product of signs: agreeing minus differing


def smoothness(gray: np.ndarray) -> float:
    """The correlation of neighbouring pixels once a picture, uint8 (H, W), is 16x16.

    1 at most, about 0 for noise, 0 where all pixels are the same. So small, noise that was blurred, enlarged or saved
    as JPEG is noise again, while photos vary at every scale.
    """
    small = cv2.resize(gray, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64)
    centred = small - small.mean()
    power = float((centred * centred).mean())
    if power == 0:
        return 0.0
    sideways, down = centred[:, 1:] * centred[:, :-1], centred[1:] * centred[:-1]
    return float(sideways.mean() + down.mean()) / 2 / power


def _signs(hashes: Sequence[int]) -> np.ndarray:
    packed = np.array([list(value.to_bytes(SIDE * SIDE // 8, "big")) for value in hashes], np.uint8)
    bits = np.unpackbits(packed.reshape(len(hashes), SIDE * SIDE // 8), axis=1)
    return bits.astype(np.float32) * 2 - 1
