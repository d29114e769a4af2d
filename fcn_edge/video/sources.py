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
from pathlib import Path

from fcn_edge.errors import SourceError
from fcn_edge.video.frames import Source
from fcn_edge.video.pictures import PICTURES, PictureSource


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
