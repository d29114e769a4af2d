"""Where frames come from: photos, video files, the demo and cameras, behind one protocol.

Every frame is uint8 (H, W, 3) BGR and upright: EXIF orientation and a video's display matrix are
applied here, so that nothing behind knows of them. A file's frames all come, in order; a camera's
frames that nobody took in time are dropped and counted. What could be read is never lost to what
could not: a source puts that into `problems` and goes on.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from fcn_edge.errors import SourceError

# OpenCV's own limit, which it reads when it is imported; fcn-edge's command line sets a lower one.
MAX_PIXELS = int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 1 << 30))
PICTURES = (
    *(".avif", ".bmp", ".dib", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
PICTURE_RATE = Fraction(25)  # pictures a second where a folder of them becomes a video; what ffmpeg takes


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    image: uint8 (H, W, 3) BGR, upright; read-only for whoever gets it.
    time, duration: seconds since the source's own zero, exact; duration is None where unknown.
    name: unique within the source and fit for a file name.
    """

    image: np.ndarray
    sequence: int
    time: Fraction
    name: str
    duration: Fraction | None = None


class Source(Protocol):
    """Frames, iterated once. A context manager; `close` may be called more than once."""

    uri: str
    files: list[Path]  # what is read from
    live: bool  # true: frames come when they come, and only the newest is worth having
    still: bool  # true: single pictures, whose time means nothing
    total: int | None  # frames to come, where the source knows
    size: tuple[int, int] | None  # (H, W) of every frame, where they have one size
    rate: Fraction | None  # mean frames a second
    time_base: Fraction | None  # what the source counts its times in
    pixel_aspect: Fraction  # width of a pixel by its height
    problems: list[str]  # what could not be read, a line each

    @property
    def dropped(self) -> int: ...  # frames of a camera that nobody took

    def __iter__(self) -> Iterator[Frame]: ...
    def __enter__(self) -> Source: ...
    def __exit__(self, *error: object) -> None: ...
    def close(self) -> None: ...


def open_source(uri: str | os.PathLike[str]) -> Source:
    """The source that `uri` names: a photo, a folder, a glob, a video file, `demo:` or `camera:N`.

    Raises SourceError where there is nothing, or nothing that can be read.
    """
    uri = os.fspath(uri)
    if uri == "demo:":
        from fcn_edge.video.demo import DemoSource

        return DemoSource()
    if uri.startswith("camera:"):
        from fcn_edge.video.camera import CameraSource

        return CameraSource(uri.removeprefix("camera:"))
    if "://" in uri:
        raise SourceError(f"{uri}: streams from a network cannot be read yet. Name a file, a folder or a camera.")
    path = Path(uri)
    if path.is_dir():
        return PictureSource(uri, _pictures(uri, "holds", path.iterdir()))
    if path.exists():
        return _open_file(uri, path)
    if any(sign in uri for sign in "*?["):
        return _open_glob(uri)
    if os.path.lexists(path):
        raise SourceError(f"{uri}: this link leads nowhere. Name a photo, a folder, a video file or demo:.")
    raise SourceError(f"{uri}: no such file or folder. Name a photo, a folder, a video file or demo:.")


def read_picture(path: Path) -> np.ndarray:
    """The picture at `path` as uint8 (H, W, 3) BGR, upright, without alpha.

    OpenCV turns gray, palette, CMYK and 16-bit pictures into 8-bit colour. Raises SourceError.
    """
    try:
        data = np.fromfile(path, np.uint8)  # not cv2.imread: it cannot tell a missing file from a broken one
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}.") from error
    if not data.size:
        raise SourceError(f"{path}: is empty (0 bytes).")
    if _png_is_cut_off(data):
        raise SourceError(f"{path}: this PNG is cut off after {data.size} bytes.")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise SourceError(
                f"{path}: has more than {MAX_PIXELS // 10**6} million pixels, the limit. "
                "Scale it down, or set OPENCV_IO_MAX_IMAGE_PIXELS to as many pixels as memory holds."
            ) from error
        raise SourceError(f"{path}: cannot be decoded: {error.err}.") from error
    if image is None:
        raise SourceError(f"{path}: is not a picture that can be read, or is broken.")
    return image


class PictureSource:
    """Photos, one after the other; a broken one is named in `problems` and skipped."""

    live = False
    still = True
    size: tuple[int, int] | None = None
    rate: Fraction | None = PICTURE_RATE
    time_base: Fraction | None = 1 / PICTURE_RATE
    pixel_aspect = Fraction(1)
    dropped = 0

    def __init__(self, uri: str, paths: list[Path]) -> None:
        self.uri = uri
        self.files = paths
        self.total: int | None = len(paths)
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        stems = [path.stem for path in self.files]
        sequence = 0
        for path in self.files:
            try:
                image = read_picture(path)
            except SourceError as error:
                if len(self.files) == 1:
                    raise
                self.problems.append(str(error))
                continue
            name = path.stem if stems.count(path.stem) == 1 else path.name
            yield Frame(image, sequence, sequence / PICTURE_RATE, name, 1 / PICTURE_RATE)
            sequence += 1

    def __enter__(self) -> PictureSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        pass


def _open_file(uri: str, path: Path) -> Source:
    if path.suffix.lower() in PICTURES:
        return PictureSource(uri, [path])
    from fcn_edge.video.files import VideoSource

    return VideoSource(uri, path)


def _open_glob(uri: str) -> Source:
    paths = [Path(name) for name in glob.glob(uri, recursive=True)]
    if not paths:
        raise SourceError(f"{uri}: matches nothing.")
    if len(paths) == 1 and paths[0].is_file():
        return _open_file(uri, paths[0])
    return PictureSource(uri, _pictures(uri, "matches", paths))


def _pictures(uri: str, verb: str, paths: Iterator[Path] | list[Path]) -> list[Path]:
    files = sorted(path for path in paths if path.is_file())
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if not pictures:
        found = f"{len(files)} files, none of them a picture" if files else "no files"
        raise SourceError(f"{uri}: {verb} {found}. Name a folder with .jpg or .png files, or one video file.")
    return pictures


def _png_is_cut_off(data: np.ndarray) -> bool:
    """Whether a PNG lacks its last chunk: asked here, because libpng would print its own line about it."""
    return data[:8].tobytes() == b"\x89PNG\r\n\x1a\n" and b"IEND" not in data[-4096:].tobytes()
