"""Pictures and masks from files.

A VOC mask is a palette PNG whose pixel is a class index; an ordinary picture reader (cv2.imread among
them) hands over the palette's colours instead, and everything after that is silently wrong. So masks
are read with Pillow, which keeps indices, and a mask that holds colours is refused.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fcn_edge.data.samples import Sample
from fcn_edge.errors import DataError
from fcn_edge.spec import VOID

EXIF_ORIENTATION, EXIF_SIDEWAYS = 0x0112, (5, 6, 7, 8)


def read_image(path: Path) -> np.ndarray:
    """The picture as uint8 (H, W, 3), BGR, turned as its EXIF orientation says. Raises DataError."""
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error as error:  # above OPENCV_IO_MAX_IMAGE_PIXELS
        raise DataError(f"{path}: not readable as a picture: {error.err}.") from error
    if image is None:
        raise DataError(f"{path}: {_why_unread(path, 'a picture')}.")
    return image


def read_truth(sample: Sample) -> np.ndarray:
    """Class indices of the sample's mask as uint8 (H, W); void is 255, whatever the mask stores for it.

    Raises DataError where the mask is missing, unreadable or holds colours.
    """
    if sample.mask is None:
        raise DataError(f"{sample.image} has no mask.")
    mask = read_mask(sample.mask)
    return mask if sample.void == VOID else truth_of_stored(sample.void)[mask]


def read_mask(path: Path) -> np.ndarray:
    """The numbers that a palette or gray mask stores, as uint8 (H, W). Raises DataError.

    They are a data set's own: `read_truth` is what training and evaluation want.
    """
    try:
        with Image.open(path) as mask:
            if mask.mode not in ("P", "L", "1"):
                held = "16-bit numbers" if mask.mode.startswith("I;16") else f"colours (mode {mask.mode})"
                raise DataError(
                    f"{path}: the mask holds {held}, not class indices. "
                    "Save it as a palette or an 8-bit gray PNG whose pixels are indices."
                )
            # Pillow stretches gray of 2 and 4 bits to 0..255; a mask wants the stored numbers back.
            stretch = {"L;2": 85, "L;4": 17}.get(str(mask.tile[0][3]), 1) if mask.tile else 1
            return np.array(mask, dtype=np.uint8) // np.uint8(stretch)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {_why_unread(path, 'a mask')}.") from error


def mask_size(path: Path) -> tuple[int, int]:
    """(H, W) as the head of the file says. Raises DataError where that cannot be read."""
    try:
        with Image.open(path) as mask:
            return mask.height, mask.width
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {_why_unread(path, 'a mask')}.") from error


@cache
def truth_of_stored(void: int) -> np.ndarray:
    """uint8 (256,): what a number in a mask means where `void` is void too."""
    table = np.arange(256, dtype=np.uint8)
    table[void + 1 : VOID] -= 1
    table[void] = VOID
    table.flags.writeable = False  # one table serves all masks
    return table


def picture_size(path: Path) -> tuple[int, int]:
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


def _why_unread(path: Path, what: str) -> str:
    if not path.exists():
        return "there is no such file"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty"
    return f"not readable as {what}, or cut off"
