"""Where results go: pictures, label masks, figures, a window; videos are in recording.py.

Sinks are context managers. Leaving one keeps what was written, also after an interrupt or a broken
source; only a sink that could not write takes its own file back.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import msgspec
import numpy as np

from fcn_edge.errors import SinkError
from fcn_edge.video.frames import Frame, Source
from fcn_edge.video.writing import Draft, make_folder, mark_picture, sink_errors, write_file

JPEG_QUALITY = 92
PNG_LEVEL = "3"  # 2.0 ms for a 720p mask; level 6 takes 4.8 and saves a quarter, level 1 saves 0.5 ms


@dataclass(frozen=True)
class Result:
    """What a frame became. `picture` is None where no sink wants one.

    labels: uint8 (H, W); picture: uint8 (H, W, 3) BGR; shares: class name to its part of the frame;
    seconds: what each stage took.
    """

    frame: Frame
    labels: np.ndarray
    picture: np.ndarray | None
    shares: dict[str, float]
    seconds: dict[str, float]


def capture_time(frame: Frame) -> datetime:
    """When `frame` was delivered, by the clock on the wall, in UTC."""
    return datetime.now(timezone.utc) - timedelta(seconds=time.monotonic() - frame.captured)


class Sink(Protocol):
    """Takes results in order, from one thread. After a SinkError from `write` it takes no more, leaves no half file."""

    @property
    def wants_picture(self) -> bool: ...

    live: bool  # true: shows what is now, so that it gets the newest result and loses what it was too slow for
    where: str  # for the summary; empty once nothing was kept
    notes: list[str]  # what the user should know of the output

    def __enter__(self) -> Sink: ...
    def __exit__(self, *error: object) -> None: ...
    def write(self, result: Result) -> None: ...


class PictureSink:
    """One picture file, for a source of one frame."""

    wants_picture = True
    live = False

    def __init__(self, path: Path, force: bool, note: str) -> None:
        self.where = str(path)
        self.path = path
        self.force = force
        self.note = note
        self.notes: list[str] = []
        Draft(path, force).discard()  # says now, not after the work, that it cannot be written

    def write(self, result: Result) -> None:
        assert result.picture is not None
        write_file(self.path, encode_picture(result.picture, self.path.suffix, self.note), self.force)

    def __enter__(self) -> PictureSink:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class PictureFolderSink:
    """A JPEG a frame, named as the frame is."""

    wants_picture = True
    live = False

    def __init__(self, folder: Path, force: bool, note: str) -> None:
        self.where = f"{folder}/*.jpg"
        self.folder = make_folder(folder)
        self.force = force
        self.note = note
        self.notes: list[str] = []

    def write(self, result: Result) -> None:
        assert result.picture is not None
        data = encode_picture(result.picture, ".jpg", self.note)
        write_file(self.folder / f"{result.frame.name}.jpg", data, self.force)

    def __enter__(self) -> PictureFolderSink:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class LabelSink:
    """A palette PNG a frame, at the frame's size: the pixel is the class index, as in VOC's masks."""

    wants_picture = False
    live = False

    def __init__(self, folder: Path, palette_rgb: tuple[tuple[int, int, int], ...], force: bool, note: str) -> None:
        self.where = f"{folder}/*.png"
        self.folder = make_folder(folder)
        self.force = force
        self.note = note
        self.notes: list[str] = []
        self.palette = np.full((256, 4), 255, np.uint8)  # alpha first; white beyond the classes, as VOC has its void
        self.palette[: len(palette_rgb), 1:] = palette_rgb
        self.encoders: dict[tuple[int, ...], av.VideoCodecContext] = {}

    def write(self, result: Result) -> None:
        frame = av.VideoFrame.from_ndarray((result.labels, self.palette), format="pal8")  # type: ignore[arg-type]
        data = b"".join(bytes(packet) for packet in self._encoder(result.labels.shape).encode(frame))
        write_file(self.folder / f"{result.frame.name}.png", mark_picture(data, self.note), self.force)

    def _encoder(self, size: tuple[int, ...]) -> av.VideoCodecContext:
        """PyAV's PNG encoder, because OpenCV writes no palettes. One serves all frames of its size."""
        if size not in self.encoders:
            encoder = av.VideoCodecContext.create("png", "w")
            encoder.height, encoder.width = size
            encoder.pix_fmt = "pal8"
            encoder.time_base = Fraction(1)
            encoder.thread_count = 1  # with more it holds frames back
            encoder.options = {"compression_level": PNG_LEVEL, "pred": "none"}
            self.encoders = {size: encoder}
        return self.encoders[size]

    def __enter__(self) -> LabelSink:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class StatsSink:
    """JSON lines: a header, one line a frame, and last what `summary` returns. Each is on its way when it is written.

    live: frames have a time of day.
    """

    wants_picture = False
    live = False

    def __init__(
        self, path: Path, header: dict[str, Any], summary: Callable[[], Any], force: bool, live: bool = False
    ) -> None:
        self.where = str(path)
        self.notes: list[str] = []
        self.summary = summary
        self.times_of_day = live
        self.frames = 0
        self.kept = False
        self.draft = Draft(path, force, grows=True)
        with sink_errors(path):
            self.file = self.draft.temporary.open("wb", buffering=0)
        self._line(header)

    def write(self, result: Result) -> None:
        frame = result.frame
        height, width = result.labels.shape
        self.frames += 1
        times: dict[str, Any] = {"time": round(float(frame.time), 6)}
        if self.times_of_day:
            times["captured"] = capture_time(frame).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        times["age_ms"] = round(1e3 * (time.monotonic() - frame.captured), 1)
        self._line(
            {
                "frame": frame.sequence,
                "name": frame.name,
                **times,
                "width": width,
                "height": height,
                "classes": {name: round(share, 6) for name, share in result.shares.items()},
                "milliseconds": {stage: round(1e3 * taken, 3) for stage, taken in result.seconds.items()},
            }
        )

    def _line(self, document: Any) -> None:
        try:
            with sink_errors(self.draft.path):
                line = msgspec.json.encode(document) + b"\n"
                while line:
                    line = line[self.file.write(line) :]
        except SinkError as error:
            if self._give_up():
                raise SinkError(f"{error} What was written before is in {self.draft.temporary}") from error
            raise

    def _give_up(self) -> bool:
        """True where the lines stay: those of a live source come once."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self.kept:
            return False
        self.where = ""
        if self.times_of_day and self.frames > 1:
            self.kept = True
            return True
        self.draft.discard()
        return False

    def __enter__(self) -> StatsSink:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self.frames and not self.file.closed:
                self._line({"summary": self.summary()})
                with sink_errors(self.draft.path):
                    self.file.close()
                self.draft.commit()
                self.kept = True
        finally:
            if not self.kept:
                self.file.close()
                self.draft.discard()
                self.where = ""


class WindowSink:
    """A window; q, Escape or its close button ends the run. OpenCV wants it in the main thread."""

    wants_picture = True
    live = True
    where = "window"

    def __init__(self, source: Source, stop: Callable[[], None], paced: bool, title: str = "fcn-edge") -> None:
        self.title = title
        self.notes: list[str] = []
        self.stop = stop
        self.still = source.still
        self.paced = paced and not source.still and not source.live
        self.start: float | None = None
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def write(self, result: Result) -> None:
        assert result.picture is not None
        cv2.imshow(self.title, result.picture)
        if self.start is None:
            self.start = time.monotonic() - float(result.frame.time)
        early = self.start + float(result.frame.time) - time.monotonic() if self.paced else 0
        key = cv2.waitKey(0 if self.still else max(1, round(1e3 * early))) & 0xFF
        closed = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
        if key in (ord("q"), 27) or closed:
            self.stop()

    def __enter__(self) -> WindowSink:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(self.title)


def can_show() -> bool:
    """Whether a window can be opened: a display is there, and the cv2 at hand was built with windows."""
    display = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "NONE")
    return bool(display) and "NONE" not in gui


def encode_picture(image: np.ndarray, suffix: str, note: str) -> bytes:
    """`image` (uint8 (H, W, 3) BGR) as a picture file of this kind, with `note` as its comment."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix.lower() in (".jpg", ".jpeg", ".jpe") else []
    try:
        done, data = cv2.imencode(suffix.lower(), image, options)
    except cv2.error as error:
        raise SinkError(f"*{suffix}: OpenCV cannot write such a picture here: {error.err}. Try .png.") from error
    if not done:
        raise SinkError(
            f"*{suffix}: OpenCV cannot write such a picture of {image.shape[1]}x{image.shape[0]}. Try .png."
        )
    return mark_picture(data.tobytes(), note)
