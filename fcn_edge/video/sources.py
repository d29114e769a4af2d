"""Where frames come from: photos, video files, the demo, cameras and streams, behind one protocol.

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
from fcn_edge.video.options import SourceOptions
from fcn_edge.video.uri import Uri, parse

KNOWN = "Name a photo, a folder, a video file, demo:, a camera or a stream."
LISTS = (".txt", ".lst", ".list")  # a path a line: what --on takes


def open_source(uri: str | os.PathLike[str], options: SourceOptions | None = None) -> Source:
    """The source that `uri` names: a photo, a folder, a glob, a video file, `demo:`, a camera or a stream.

    Options stand behind its '#', as in `0#size=720x1280,flip=180`, and go before those of `options` (docs/run.md).
    Raises SourceError where there is nothing, or nothing that can be read, UsageError where an option is wrong.
    """
    return open_uri(parse(uri, options))


def open_uri(uri: Uri) -> Source:
    """The source of a URI that was parsed. Raises SourceError."""
    if uri.live:
        from fcn_edge.video.live import LiveSource

        return LiveSource(uri)
    if uri.options.flip is None and not uri.options.loop:
        return _open_stored(uri)
    from fcn_edge.video.replay import ReplayedSource

    return ReplayedSource(lambda: _open_stored(uri), uri.options)


def _open_stored(uri: Uri) -> Source:
    if uri.kind == "demo":
        from fcn_edge.video.demo import RATE, SIZE, DemoSource

        return DemoSource(uri.options.size or SIZE, uri.options.rate or RATE)
    name = uri.target
    path = Path(name)
    if path.is_dir():
        return _pictures(name, "holds", path.iterdir())
    if path.exists():
        return _open_file(name, path)
    if any(sign in name for sign in "*?["):
        return _open_glob(name)
    if os.path.lexists(path):
        raise SourceError(f"{name}: this link leads nowhere. {KNOWN}")
    raise SourceError(f"{name}: no such file or folder. {KNOWN}")


def _open_file(uri: str, path: Path) -> Source:
    from fcn_edge.video.pictures import PICTURES, PictureSource

    if path.suffix.lower() in PICTURES:
        return PictureSource(uri, [path])
    if path.suffix.lower() in LISTS:
        raise SourceError(f"{uri}: is a list of pictures. Add --on local, which takes one.")
    from fcn_edge.video.files import VideoSource

    return VideoSource(uri, path)


def _open_glob(uri: str) -> Source:
    paths = [Path(name) for name in glob.glob(uri, recursive=True)]
    if not paths:
        raise SourceError(f"{uri}: matches nothing.")
    if len(paths) == 1 and paths[0].is_file():
        return _open_file(uri, paths[0])
    return _pictures(uri, "matches", paths)


def _pictures(uri: str, verb: str, paths: Iterator[Path] | list[Path]) -> Source:
    from fcn_edge.video.pictures import PICTURES, PictureSource

    files = sorted(path for path in paths if path.is_file())
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if not pictures:
        found = f"{len(files)} files, none of them a picture" if files else "no files"
        raise SourceError(f"{uri}: {verb} {found}. Name a folder with .jpg or .png files, or one video file.")
    return PictureSource(uri, pictures)
