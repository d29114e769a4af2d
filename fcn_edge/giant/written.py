"""Rows into a file that is never in memory: a tiled TIFF, or a PNG.

A viewer reads any part of a tiled TIFF without the rest; a PNG opens everywhere, from its top. Labels keep their class
index as the pixel and the classes' colours as the palette, in both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fcn_edge.errors import SinkError
from fcn_edge.prepare import Size

TILE = 256  # pixels a side: what most viewers and GDAL write
LEVEL = 3  # of deflate, as masks elsewhere: 6 takes twice as long for a quarter less
BIG = 2**31  # bytes before compression from which offsets of 64 bits are taken
GEOGRAPHIC = (33550, 33922, 34264, 34735, 34736, 34737, 42113)  # a GeoTIFF's tags, and GDAL's for no data
SIGNATURE = b"\x89PNG\r\n\x1a\n"
Palette = Sequence[Sequence[int]]  # RGB a class
ExtraTag = tuple[int, Any, int, Any, bool]


def write_tiff(
    path: Path,
    blocks: Iterator[np.ndarray],
    size: Size,
    palette: Palette | None,
    note: str,
    tags: Sequence[ExtraTag] = (),
) -> None:
    """A tiled TIFF of `size`, deflated.

    blocks: rows in their order, in blocks of any height: uint8 (n, W) labels with a palette, (n, W, 3) RGB without.
    tags:   further ones, as `geographic_tags` gives them.
    Raises OSError, and SinkError where tifffile is missing.
    """
    tifffile = import_tifffile(path)
    planes = () if palette is not None else (3,)
    options: dict[str, Any] = {"photometric": "rgb"}
    if palette is not None:
        colormap = np.full((3, 256), 65535, np.uint16)  # white beyond the classes, as VOC has its void
        colormap[:, : len(palette)] = np.array(palette, np.uint16).T * 257
        options = {"photometric": "palette", "colormap": colormap}
    with tifffile.TiffWriter(path, bigtiff=size[0] * size[1] * (1 if palette is not None else 3) > BIG) as tiff:
        tiff.write(
            _tiles(blocks, size),
            shape=(*size, *planes),
            dtype=np.uint8,
            tile=(TILE, TILE),
            compression="zlib",
            compressionargs={"level": LEVEL},
            description=note,
            metadata=None,
            software=False,
            extratags=tags,
            maxworkers=1,
            **options,
        )


def geographic_tags(path: Path) -> list[ExtraTag]:
    """What ties a TIFF to the ground, so that its labels lie where it does; nothing of any other file."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return []
    tifffile = import_tifffile(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            found = [tiff.pages[0].tags.get(code) for code in GEOGRAPHIC]
            return [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in found if tag is not None]
    except tifffile.TiffFileError:  # another format by a TIFF's name, which libvips and OpenCV read all the same
        return []


def write_png(path: Path, blocks: Iterator[np.ndarray], size: Size, palette: Palette | None, note: str) -> None:
    """A PNG of `size`; `blocks` and errors as in `write_tiff`."""
    with path.open("wb") as file:
        file.write(SIGNATURE)
        kind = 2 if palette is None else 3
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, kind, 0, 0, 0))
        _chunk(file, b"tEXt", b"Comment\0" + note.encode("latin-1", "replace"))
        if palette is not None:
            colors = np.full((256, 3), 255, np.uint8)
            colors[: len(palette)] = palette
            _chunk(file, b"PLTE", colors.tobytes())
        packer = zlib.compressobj(LEVEL)
        for block in blocks:
            _chunk(file, b"IDAT", packer.compress(_filtered(block).tobytes()))
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    if data or name != b"IDAT":
        file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name))))


def _filtered(block: np.ndarray) -> np.ndarray:
    """Rows behind the number of their filter: labels as they are, colours as the difference to their left neighbour."""
    rows = block.reshape(len(block), -1)
    out = np.zeros((len(rows), 1 + rows.shape[1]), np.uint8)
    out[:, 1:] = rows
    if block.ndim == 3:
        out[:, 0] = 1
        out[:, 4:] -= rows[:, :-3]
    return out


def _tiles(blocks: Iterator[np.ndarray], size: Size) -> Iterator[np.ndarray]:
    """Tile after tile, row by row of tiles; those at the right and at the bottom are filled up with zeros."""
    for rows in _of_height(blocks, TILE):
        for left in range(0, size[1], TILE):
            part = rows[:, left : left + TILE]
            if part.shape[:2] != (TILE, TILE):
                full = np.zeros((TILE, TILE, *part.shape[2:]), np.uint8)
                full[: part.shape[0], : part.shape[1]] = part
                part = full
            yield np.ascontiguousarray(part)


def _of_height(blocks: Iterator[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """The same rows in blocks of `height`; the last one may be lower."""
    waiting: list[np.ndarray] = []
    for block in blocks:
        while len(block):
            missing = height - sum(map(len, waiting))
            waiting.append(block[:missing])
            block = block[missing:]
            if sum(map(len, waiting)) == height:
                yield np.concatenate(waiting)
                waiting = []
    if waiting:
        yield np.concatenate(waiting)


def import_tifffile(path: Path) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise SinkError(
            f"{path}: TIFF files are written and looked into by tifffile. In a checkout of fcn-edge: "
            "pip install -e '.[giant]'"
        ) from error
    return tifffile
