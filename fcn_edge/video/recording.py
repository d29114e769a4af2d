"""The overlay as video files, which follow each other without a gap.

One encoder serves all files of a recording: it holds some frames back, and an encoder for each file would stall
where one ends and the next begins. A file takes its packets from a key frame on that was asked for.
"""

from __future__ import annotations

import contextlib
from collections import deque
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType

from fcn_edge.errors import SinkError
from fcn_edge.video.encoding import Encoder, Timing, open_encoder
from fcn_edge.video.film import Disk, Film
from fcn_edge.video.frames import Frame, Source
from fcn_edge.video.series import Cut, Series
from fcn_edge.video.sinks import Result, capture_time
from fcn_edge.video.writing import Draft, make_folder, sink_errors

LONGEST_GAP = 3600  # seconds that one picture of a lost source stands still in a file; MP4 can say 6 hours


class VideoSink:
    """H.264 in yuv420p, with the source's own times, time base, rate and size.

    It goes on in another file where `cut` says so, and where frames change size, as when a camera came back with
    another one. cut: None: one file. encoder: "auto" or a key of `encoding.NAMES`.
    """

    wants_picture = True
    live = False

    def __init__(
        self, path: Path, source: Source, force: bool, note: str, cut: Cut | None = None, encoder: str = "auto"
    ) -> None:
        self.where = str(path) if cut is None else str(path.with_name(f"{path.stem}-*{path.suffix}"))
        self.notes: list[str] = []
        self.force = force
        self.note = note
        self.wish = encoder
        self.source = source
        self.timing = Timing(source.rate, source.time_base or Fraction(1, 90_000), source.pixel_aspect)
        self.series = Series(path, cut, source.live)
        self.reserved: Draft | None = None  # of the first file: says now, not after the work, what is in the way
        if self.series.dated:
            make_folder(path.parent)
        else:
            self.reserved = Draft(self.series.next(datetime.min), force, grows=True)
        self.disk = Disk() if source.live else None
        self.encoder: Encoder | None = None
        self.film: Film | None = None
        self.size: tuple[int, int] | None = None
        self.turns: deque[tuple[int, datetime]] = deque()  # where files to come begin: pts, and when that frame came
        self.last = -(2**62)  # pts: long ago
        self.kept = 0  # files

    def write(self, result: Result) -> None:
        assert result.picture is not None
        try:
            if self.disk is not None:
                self.disk.check()
            if self.size != result.picture.shape[:2]:
                self._resize(result.picture.shape[0], result.picture.shape[1], result.frame.name)
            self._encode(result.frame, result.picture)
        except SinkError as error:
            raise self._given_up(error) from error

    def _resize(self, height: int, width: int, name: str) -> None:
        """From now on frames have this size; what the encoder holds of another goes into its file."""
        self._finish()
        if self.size is not None and self.source.still:
            raise SinkError(
                f"{self.where}: a video of pictures has one size, but {name} is {width}x{height} "
                f"after {self.size[1]}x{self.size[0]}. Name a folder instead."
            )
        even = (height + height % 2, width + width % 2)
        if even[0] < 4:
            raise SinkError(f"{self.where}: x264 takes no video of {width}x{height}. Name a picture or a folder.")
        self.encoder, word = open_encoder(self.wish, even, self.timing)
        self.size = (height, width)
        self._say(word)
        if even != self.size:
            self._say(
                f"{self.where} is {even[1]}x{even[0]}: H.264 in yuv420p has even sides, "
                f"so the last row or column of {width}x{height} stands there twice."
            )

    def _encode(self, frame: Frame, picture: np.ndarray) -> None:
        assert self.encoder is not None
        coded = av.VideoFrame.from_numpy_buffer(_to_i420(picture), format="yuv420p")
        # A file may give two frames one time, which no encoder takes.
        pts = coded.pts = max(round(frame.time / self.timing.time_base), self.last + 1)
        coded.time_base = self.timing.time_base
        if frame.duration is not None:
            coded.duration = round(frame.duration / self.timing.time_base)
        if self._is_due(pts):
            self.turns.append((pts, capture_time(frame)))
            coded.pict_type = PictureType.I
        self.last = pts
        with sink_errors(self.series.path):
            packets = self.encoder.encode(coded)
        self._mux(packets)

    def _is_due(self, pts: int) -> bool:
        """Whether another file should begin with this frame, as the first one does."""
        if (pts - self.last) * self.timing.time_base >= LONGEST_GAP:
            return True
        if self.film is None or self.encoder is None or self.turns:
            return not self.turns
        length = (pts - self.film.begins) * self.timing.time_base
        size = self.film.bytes + (self.encoder.waiting + 2) * self.film.largest
        return self.series.is_full(length, size)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            if self.turns and packet.is_keyframe and packet.pts >= self.turns[0][0]:
                self._end_film()
                self.film = self._begin_film(packet.pts, self.turns.popleft()[1])
            assert self.film is not None
            self.film.mux(packet)
        if self.disk is not None and self.film is not None:
            self.disk.sync(self.film.draft.temporary)

    def _begin_film(self, pts: int, captured: datetime) -> Film:
        assert self.encoder is not None
        draft, self.reserved = self.reserved or Draft(self.series.next(captured), self.force, grows=True), None
        metadata = {"comment": self.note}
        if self.source.live:
            metadata["creation_time"] = f"{captured:%Y-%m-%dT%H:%M:%S.%fZ}"
        # The first file has its source's own times; those that follow, and what has no zero of its own, begin at 0.
        zero = pts if self.kept or self.source.live else 0
        bounded = self.series.cut is not None or self.source.total is not None
        film = Film(draft, self.encoder, metadata, pts, zero, bounded, precious=self.source.live)
        self.kept += 1
        if self.kept > 1 and self.series.cut is None:
            start = f"{self.where} goes on in "
            self.notes = [note for note in self.notes if not note.startswith(start)]
            self._say(
                f"{start}{self.kept - 1} more, the last of them {draft.path.name}: "
                "the frames changed their size, or none came for long."
            )
        return film

    def _finish(self) -> None:
        """Everything that was encoded, into its file."""
        if self.encoder is not None:
            with sink_errors(self.series.path):
                packets = self.encoder.encode(None)
            self._mux(packets)
            self.encoder.close()
        self.encoder = None
        self.turns.clear()
        self._end_film()

    def _end_film(self) -> None:
        film, self.film = self.film, None
        if film is None:
            return

        def end() -> None:
            film.finish()
            self.series.done(film.draft.path)

        if self.disk is None:
            end()
        else:
            self.disk.do(end)

    def _say(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)

    def _given_up(self, error: SinkError) -> SinkError:
        """The error, once nothing half is left."""
        film, self.film = self.film, None
        encoder, self.encoder = self.encoder, None
        if encoder is not None:
            with contextlib.suppress(FFmpegError, OSError):
                encoder.close()
        if film is not None:
            self.kept -= 1
            error = film.abandon(error)
        if not self.kept:
            self.where = ""
        return error

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._finish()
            if self.disk is not None:
                self.disk.close()
        except SinkError as fault:
            raise self._given_up(fault) from fault
        finally:
            if self.reserved is not None:
                self.reserved.discard()
        if not self.kept:
            self.where = ""
        elif self.series.removed:
            self._say(f"{self.where}: {self.series.removed} older ones were removed, as --segment says.")


def _to_i420(picture: np.ndarray) -> np.ndarray:
    """BGR to the encoder's planes, odd sides made even.

    cv2 takes 0.4 ms for 720p, swscale 1.6. It knows the SMPTE 170M matrix only, so the file says that
    it holds that one; readers that ignore what the file says mostly assume it.
    """
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
