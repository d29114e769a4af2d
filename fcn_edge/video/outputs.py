"""Which sinks a user's wishes come to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.spec import ModelSpec
from fcn_edge.video.encoding import check_name
from fcn_edge.video.film import VIDEOS
from fcn_edge.video.frames import Source
from fcn_edge.video.pictures import PICTURES
from fcn_edge.video.recording import VideoSink
from fcn_edge.video.series import Cut
from fcn_edge.video.sinks import LabelSink, PictureFolderSink, PictureSink, Sink, StatsSink, WindowSink, can_show
from fcn_edge.video.uri import redact
from fcn_edge.video.writing import MARK

RTSP = "rtsp://"


@dataclass(frozen=True)
class Wishes:
    """What the user wants written or shown. `window` null: where nothing else is wanted and there is a display.

    out: videos, pictures, folders and rtsp:// addresses. cut, encoder: of videos (see `VideoSink`).
    served: a page shows the results too, so that nothing else need be wanted.
    number: of the source, where there are several.
    """

    out: tuple[str, ...] = ()
    labels: Path | None = None
    stats: Path | None = None
    window: bool | None = None
    force: bool = False
    cut: Cut | None = None
    encoder: str = "auto"
    served: bool = False
    number: int | None = None

    @property
    def shows(self) -> bool:
        if self.window and not can_show():
            raise UsageError(
                "--window: there is no display, or this OpenCV has no windows. Name --out or --web instead."
            )
        return can_show() if self.window is None and not self.writes else bool(self.window)

    @property
    def writes(self) -> bool:
        return any((self.out, self.labels, self.stats, self.served))

    @property
    def files(self) -> list[Path]:
        """Those of `out` that are files or folders."""
        return [Path(out) for out in self.out if not out.startswith(RTSP)]

    def check(self) -> None:
        """Raises UsageError where nothing would come of the run, or where --out is of no known kind."""
        if not self.writes and not self.shows:
            raise UsageError(
                "there is no display, and nothing to write is named. Add --out FILE (a video or a folder), or --web."
            )
        check_name(self.encoder)
        for out in self.out:
            _check_out(out)
        if self.cut is not None and not any(path.suffix.lower() in VIDEOS for path in self.files):
            raise UsageError("--segment: cuts videos, but none is written. Add --out FILE.mp4.")

    def of(self, number: int) -> Wishes:
        """Those for the source of this number, where there are several: overlay.mp4 becomes overlay-1.mp4."""
        out = tuple(_numbered_address(out, number) for out in self.out)
        labels, stats = (path and _numbered(path, number) for path in (self.labels, self.stats))
        return replace(self, out=out, labels=labels, stats=stats, number=number)


def open_sinks(
    wishes: Wishes,
    source: Source,
    spec: ModelSpec,
    single: bool,
    header: dict[str, Any],
    summary: Callable[[], Any],
    stop: Callable[[], None],
) -> list[Sink]:
    """The sinks, opened so far that what cannot be written is known now.

    single: the run gives one frame, so that --out may be a picture. header, summary: first and last line of --stats.
    """
    note = f"{MARK} with {spec.name}" + ("" if spec.trained else ", UNTRAINED weights")
    _spare_source(wishes, source)
    with contextlib.ExitStack() as opened:  # closes those before the one that cannot be opened
        sinks: list[Sink] = []

        def add(sink: Sink) -> None:
            opened.push(sink)
            sinks.append(sink)

        for out in wishes.out:
            add(_out_sink(out, wishes, source, single, note))
        if wishes.labels is not None:
            add(LabelSink(wishes.labels, spec.palette, wishes.force, note))
        if wishes.stats is not None:
            add(StatsSink(wishes.stats, {"note": note, **header}, summary, wishes.force, source.live))
        if wishes.shows:
            title = "fcn-edge" if wishes.number is None else f"fcn-edge {wishes.number}"
            add(WindowSink(source, stop, not wishes.writes, title))
        opened.pop_all()
    return sinks


def _out_sink(out: str, wishes: Wishes, source: Source, single: bool, note: str) -> Sink:
    if out.startswith(RTSP):
        from fcn_edge.video.rtsp_out import RtspSink, parse_address

        return RtspSink(parse_address(out), source)
    path = Path(out)
    if _is_folder(path):
        return PictureFolderSink(path, wishes.force, note)
    if path.suffix.lower() in VIDEOS:
        return VideoSink(path, source, wishes.force, note, wishes.cut, wishes.encoder)
    if not single:
        raise UsageError(f"--out {out}: is one picture, but {source.uri} gives more. Name a folder or a .mp4 file.")
    return PictureSink(path, wishes.force, note)


def _check_out(out: str) -> None:
    if out.startswith(RTSP):
        from fcn_edge.video.rtsp_out import parse_address

        parse_address(out)
        return
    if "://" in out:
        advice = "--web serves MJPEG as /stream.mjpg" if out.startswith("http") else f"Known: {RTSP}:8554/live"
        raise UsageError(f"--out {redact(out)}: is neither a file nor a known address. {advice}.")
    path = Path(out)
    if not _is_folder(path) and path.suffix.lower() not in {*VIDEOS, *PICTURES}:
        raise UsageError(
            f"--out {out}: {path.suffix} is neither a video ({', '.join(VIDEOS)}) nor a picture. Name one, or a folder."
        )


def _is_folder(out: Path) -> bool:
    return out.is_dir() or not out.suffix


def _numbered(path: Path, number: int) -> Path:
    if _is_folder(path):
        return path.with_name(f"{path.name}-{number}")
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _numbered_address(out: str, number: int) -> str:
    if not out.startswith(RTSP):
        return str(_numbered(Path(out), number))
    authority, _, path = out.removeprefix(RTSP).partition("/")
    return f"{RTSP}{authority}/{path or 'live'}-{number}"


def _spare_source(wishes: Wishes, source: Source) -> None:
    """No output lands on what is being read, not even with --force."""
    inputs = source.files
    for output in (*wishes.files, wishes.stats):
        if output is not None and output.is_file() and any(_same(output, path) for path in inputs):
            raise SinkError(f"{output}: is the source. Name another output.")
    for folder in (*wishes.files, wishes.labels):
        if folder is not None and folder.is_dir() and any(_same(folder, path.parent) for path in inputs):
            raise SinkError(f"{folder}: is the folder of the source, whose files would be replaced. Name another one.")


def _same(one: Path, other: Path) -> bool:
    return other.exists() and os.path.samefile(one, other)
