"""Which sinks a user's wishes come to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.spec import ModelSpec
from fcn_edge.video.frames import Source
from fcn_edge.video.pictures import PICTURES
from fcn_edge.video.sinks import (
    VIDEOS,
    LabelSink,
    PictureFolderSink,
    PictureSink,
    Sink,
    StatsSink,
    VideoSink,
    WindowSink,
    can_show,
)
from fcn_edge.video.writing import MARK


@dataclass(frozen=True)
class Wishes:
    """What the user wants written or shown. `window` null: where nothing else is wanted and there is a display."""

    out: Path | None = None
    labels: Path | None = None
    stats: Path | None = None
    window: bool | None = None
    force: bool = False

    @property
    def shows(self) -> bool:
        if self.window and not can_show():
            raise UsageError("--window: there is no display, or this OpenCV has no windows. Name --out instead.")
        return can_show() if self.window is None and not self.writes else bool(self.window)

    @property
    def writes(self) -> bool:
        return any((self.out, self.labels, self.stats))

    def check(self) -> None:
        """Raises UsageError where nothing would come of the run, or where --out is of no known kind."""
        if not self.writes and not self.shows:
            raise UsageError(
                "there is no display, and nothing to write is named. Add --out FILE (a video or a folder)."
            )
        if self.out is not None and not _is_folder(self.out):
            known = {*VIDEOS, *PICTURES}
            if self.out.suffix.lower() not in known:
                raise UsageError(
                    f"--out {self.out}: {self.out.suffix} is neither a video ({', '.join(VIDEOS)}) nor a picture. "
                    "Name one, or a folder."
                )


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
    sinks: list[Sink] = []
    if wishes.out is not None:
        sinks.append(_out_sink(wishes.out, source, single, wishes.force, note))
    if wishes.labels is not None:
        sinks.append(LabelSink(wishes.labels, spec.palette, wishes.force, note))
    if wishes.stats is not None:
        sinks.append(StatsSink(wishes.stats, {"note": note, **header}, summary, wishes.force))
    if wishes.shows:
        sinks.append(WindowSink(source, stop, paced=not wishes.writes))
    return sinks


def _out_sink(out: Path, source: Source, single: bool, force: bool, note: str) -> Sink:
    if _is_folder(out):
        return PictureFolderSink(out, force, note)
    if out.suffix.lower() in VIDEOS:
        return VideoSink(out, source, force, note)
    if not single:
        raise UsageError(f"--out {out}: is one picture, but {source.uri} gives more. Name a folder or a .mp4 file.")
    return PictureSink(out, force, note)


def _is_folder(out: Path) -> bool:
    return out.is_dir() or not out.suffix


def _spare_source(wishes: Wishes, source: Source) -> None:
    """No output lands on what is being read, not even with --force."""
    inputs = source.files
    for output in (wishes.out, wishes.stats):
        if output is not None and output.is_file() and any(_same(output, path) for path in inputs):
            raise SinkError(f"{output}: is the source. Name another output.")
    for folder in (wishes.out, wishes.labels):
        if folder is not None and folder.is_dir() and any(_same(folder, path.parent) for path in inputs):
            raise SinkError(f"{folder}: is the folder of the source, whose files would be replaced. Name another one.")


def _same(one: Path, other: Path) -> bool:
    return other.exists() and os.path.samefile(one, other)
