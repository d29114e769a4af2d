"""Where results go: a video, pictures, label masks, figures, a window.

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
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import av.container
import cv2
import msgspec
import numpy as np
from av.error import FFmpegError

from fcn_edge.errors import SinkError
from fcn_edge.video.frames import Frame, Source
from fcn_edge.video.writing import Draft, mark_picture, sink_errors, write_file

VIDEOS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# At 720p, CPU ms a frame, KiB a frame and PSNR of luma: ultrafast 3.3, 14.1, 43.3 dB; superfast 5.6, 8.9, 42.3;
# veryfast (crf 21) 8.0, 5.9, 41.8; medium 21.8, 5.8, 44.2. The network takes about 20, so that a slower preset costs
# frames, and a faster one makes files of twice the size.
PRESET, CRF = "superfast", "23"
SMPTE_170M, LIMITED = 6, 1  # libavutil's AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG
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


class Sink(Protocol):
    """Takes results in order, from one thread. After a SinkError from `write` it takes no more, leaves no half file."""

    wants_picture: bool
    live: bool  # true: shows what is now, so that it gets the newest result and loses what it was too slow for
    where: str  # for the summary; empty once nothing was kept
    notes: list[str]  # what the user should know of the output

    def __enter__(self) -> Sink: ...
    def __exit__(self, *error: object) -> None: ...
    def write(self, result: Result) -> None: ...


class VideoSink:
    """H.264 in yuv420p, with the source's own times, time base, rate and size."""

    wants_picture = True
    live = False

    def __init__(self, path: Path, source: Source, force: bool, note: str) -> None:
        self.where = str(path)
        self.notes: list[str] = []
        self.note = note
        self.rate = source.rate
        self.time_base = source.time_base or Fraction(1, 90_000)
        self.pixel_aspect = source.pixel_aspect
        self.size: tuple[int, int] | None = None
        self.draft = Draft(path, force)
        self.container: av.container.OutputContainer | None = None
        self.kept = False

    def write(self, result: Result) -> None:
        picture = result.picture
        assert picture is not None
        size = picture.shape[:2]
        if self.size is None:
            self._open(*size)
        elif self.size != size:
            raise SinkError(
                f"{self.where}: a video has one size, but {result.frame.name} is {size[1]}x{size[0]} "
                f"after {self.size[1]}x{self.size[0]}. Name a folder instead."
            )
        frame = av.VideoFrame.from_numpy_buffer(_to_i420(picture), format="yuv420p")
        frame.pts = round(result.frame.time / self.time_base)
        frame.time_base = self.time_base
        if result.frame.duration is not None:
            frame.duration = round(result.frame.duration / self.time_base)
        self._mux(frame)

    def _open(self, height: int, width: int) -> None:
        self.size = (height, width)
        even = (height + height % 2, width + width % 2)
        if even[0] < 4:
            raise SinkError(f"{self.where}: x264 takes no video of {width}x{height}. Name a picture or a folder.")
        if even != self.size:
            self.notes.append(
                f"{self.where} is {even[1]}x{even[0]}: H.264 in yuv420p has even sides, "
                f"so the last row or column of {width}x{height} stands there twice."
            )
        with sink_errors(self.draft.path):
            format = VIDEOS[self.draft.path.suffix.lower()]
            container = av.open(str(self.draft.temporary), "w", format=format)
        container.metadata["comment"] = self.note
        self.stream = container.add_stream("libx264", rate=self.rate)
        self.stream.options = {"preset": PRESET, "crf": CRF}
        self.stream.time_base = self.time_base
        codec = self.stream.codec_context
        codec.height, codec.width = even
        codec.pix_fmt = "yuv420p"
        codec.time_base = self.time_base
        codec.sample_aspect_ratio = self.pixel_aspect
        codec.colorspace, codec.color_range = SMPTE_170M, LIMITED  # what cv2 converts to
        self.container = container

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self.container is not None
        try:
            with sink_errors(self.draft.path):
                self.container.mux(self.stream.encode(frame))
        except SinkError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        container, self.container = self.container, None
        with contextlib.suppress(FFmpegError, OSError):
            if container is not None:
                container.close()
        self.draft.discard()
        if not self.kept:
            self.where = ""

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self.container is not None:
                self._mux(None)
                with sink_errors(self.draft.path):
                    self.container.close()
                self.draft.commit()
                self.kept = True
        finally:
            self._give_up()


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
    """JSON lines: a header, one line a frame, and last what `summary` returns."""

    wants_picture = False
    live = False

    def __init__(self, path: Path, header: dict[str, Any], summary: Callable[[], Any], force: bool) -> None:
        self.where = str(path)
        self.notes: list[str] = []
        self.summary = summary
        self.frames = 0
        self.kept = False
        self.draft = Draft(path, force)
        with sink_errors(path):
            self.file = self.draft.temporary.open("wb")
        self._line(header)

    def write(self, result: Result) -> None:
        height, width = result.labels.shape
        self.frames += 1
        self._line(
            {
                "frame": result.frame.sequence,
                "name": result.frame.name,
                "time": round(float(result.frame.time), 6),
                "width": width,
                "height": height,
                "classes": {name: round(share, 6) for name, share in result.shares.items()},
                "milliseconds": {stage: round(1e3 * taken, 3) for stage, taken in result.seconds.items()},
            }
        )

    def _line(self, document: Any) -> None:
        try:
            with sink_errors(self.draft.path):
                self.file.write(msgspec.json.encode(document) + b"\n")
        except SinkError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        self.draft.discard()
        if not self.kept:
            self.where = ""

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
            self._give_up()


class WindowSink:
    """A window; q, Escape or its close button ends the run. OpenCV wants it in the main thread."""

    wants_picture = True
    live = True
    where = "window"
    TITLE = "fcn-edge"

    def __init__(self, source: Source, stop: Callable[[], None], paced: bool) -> None:
        self.notes: list[str] = []
        self.stop = stop
        self.still = source.still
        self.paced = paced and not source.still and not source.live
        self.start: float | None = None
        cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def write(self, result: Result) -> None:
        assert result.picture is not None
        cv2.imshow(self.TITLE, result.picture)
        if self.start is None:
            self.start = time.monotonic() - float(result.frame.time)
        early = self.start + float(result.frame.time) - time.monotonic() if self.paced else 0
        key = cv2.waitKey(0 if self.still else max(1, round(1e3 * early))) & 0xFF
        closed = cv2.getWindowProperty(self.TITLE, cv2.WND_PROP_VISIBLE) < 1
        if key in (ord("q"), 27) or closed:
            self.stop()

    def __enter__(self) -> WindowSink:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(self.TITLE)


def can_show() -> bool:
    """Whether a window can be opened: a display is there, and the cv2 at hand was built with windows."""
    display = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "NONE")
    return bool(display) and "NONE" not in gui


def make_folder(folder: Path) -> Path:
    """`folder`, made where it is missing and known to be writable."""
    if folder.exists() and not folder.is_dir():
        raise SinkError(f"{folder}: is a file, not a folder. Name a folder.")
    with sink_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".fcn-edge.{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    return folder


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


def _to_i420(picture: np.ndarray) -> np.ndarray:
    """BGR to the encoder's planes, odd sides made even.

    cv2 takes 0.4 ms for 720p, swscale 1.6. It knows the SMPTE 170M matrix only, so the file says that
    it holds that one; readers that ignore what the file says mostly assume it.
    """
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
