"""Video files that are playable at every moment, and follow each other without a gap.

An MP4 file keeps its index in memory until it is closed, so that a kill or a power cut leaves nothing
that plays. Here it is written in fragments of a second, each whole in itself. Where its length is bounded
the usual index is added at the end; an endless one stays in fragments, because that index would grow for ever.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import Flags
from av.error import FFmpegError
from av.video.frame import PictureType

from fcn_edge.errors import SinkError
from fcn_edge.video.encoding import Encoder, Timing, open_encoder
from fcn_edge.video.frames import Frame, Source
from fcn_edge.video.series import Cut, Series
from fcn_edge.video.sinks import Result, capture_time
from fcn_edge.video.writing import Draft, make_folder, sink_errors

VIDEOS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
FRAGMENT = 1.0  # seconds, the most that a kill takes; a fragment's header takes 100 bytes and a write
SYNC_EVERY = 5.0  # seconds of a live recording that a power cut may take; without it Linux keeps 30 in memory
PACKET_OVERHEAD = 40  # bytes that a container takes for a packet, its part of the index included
WORTH_KEEPING = 2 * FRAGMENT  # seconds that a file must have for some of it to be on the disk


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
        if cut is None:
            self.reserved = Draft(path, force, grows=True)
        else:
            make_folder(path.parent)
        self.disk = Disk() if source.live else None
        self.encoder: Encoder | None = None
        self.film: Film | None = None
        self.size: tuple[int, int] | None = None
        self.turn: tuple[int, datetime] | None = None  # where the next file begins: pts, and when that frame came
        self.last = -(2**62)  # pts
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
        """An encoder for the frames' first or new size; what the one before holds goes into its file."""
        if self.size is not None:
            if self.source.still:
                raise SinkError(
                    f"{self.where}: a video of pictures has one size, but {name} is {width}x{height} "
                    f"after {self.size[1]}x{self.size[0]}. Name a folder instead."
                )
            self._finish()
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
        coded.pts = self.last = max(round(frame.time / self.timing.time_base), self.last + 1)
        coded.time_base = self.timing.time_base
        if frame.duration is not None:
            coded.duration = round(frame.duration / self.timing.time_base)
        if self.turn is None and self._is_due(coded.pts):
            self.turn = (coded.pts, capture_time(frame))
            coded.pict_type = PictureType.I
        with sink_errors(self.series.path):
            packets = self.encoder.encode(coded)
        self._mux(packets)

    def _is_due(self, pts: int) -> bool:
        """Whether the next file should begin with this frame, as the first one does."""
        if self.film is None or self.encoder is None:
            return True
        length = (pts - self.film.begins) * self.timing.time_base
        size = self.film.bytes + (self.encoder.waiting + 2) * self.film.largest
        return self.series.is_full(length, size)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            if self.turn is not None and packet.is_keyframe and packet.pts >= self.turn[0]:
                self._end_film()
                self.film = self._begin_film(packet.pts, self.turn[1])
                self.turn = None
            assert self.film is not None
            self.film.mux(packet)
        if self.disk is not None and self.film is not None:
            self.disk.sync(self.film.draft.temporary)

    def _begin_film(self, pts: int, captured: datetime) -> Film:
        assert self.encoder is not None
        path = self.series.next(captured)
        draft, self.reserved = self.reserved or Draft(path, self.force, grows=True), None
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
            self._say(f"{start}{self.kept - 1} more, the last of them {path.name}: the frames changed their size.")
        return film

    def _finish(self) -> None:
        """Everything that was encoded, into its file."""
        if self.encoder is not None:
            with sink_errors(self.series.path):
                packets = self.encoder.encode(None)
            self._mux(packets)
            self.encoder.close()
        self.encoder = self.turn = None
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
            if film.abandon():
                error = SinkError(f"{error} What was recorded before plays: {film.draft.temporary}")
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
        except SinkError as error:
            raise self._given_up(error) from error
        finally:
            if self.reserved is not None:
                self.reserved.discard()
        if not self.kept:
            self.where = ""
        elif self.series.removed:
            self._say(f"{self.where}: {self.series.removed} older ones were removed, as --segment says.")


class Film:
    """One file, which takes packets of one encoder from a key frame on.

    begins: the first packet's time; zero: what counts as 0 in the file, both in the encoder's time base.
    bounded: it will end before its index is large. precious: what cannot be finished is kept.
    """

    def __init__(
        self,
        draft: Draft,
        encoder: Encoder,
        metadata: dict[str, str],
        begins: int,
        zero: int,
        bounded: bool,
        precious: bool,
    ) -> None:
        self.draft = draft
        self.begins, self.zero = begins, zero
        self.precious = precious
        self.bytes = 0
        self.largest = 0  # packet other than a key frame
        self.seconds = 0.0
        self.time_base = encoder.timing.time_base
        format = VIDEOS[draft.path.suffix.lower()]
        # delay_moov: without it the edit list is missing that takes the encoder's delay off the times.
        flags = "+delay_moov+hybrid_fragmented" if bounded else "+delay_moov"
        fragments = {"movflags": flags, "frag_duration": str(round(FRAGMENT * 1e6))}
        clusters = {"cluster_time_limit": str(round(FRAGMENT * 1e3))}
        with sink_errors(draft.path):
            options = clusters if format == "matroska" else fragments
            self.container = av.open(str(draft.temporary), "w", format=format, container_options=options)
            self.container.flags |= Flags.flush_packets.value
            self.container.metadata.update(metadata)
            self.container.add_stream_from_template(encoder.stream, time_base=self.time_base)

    def mux(self, packet: av.Packet) -> None:
        assert packet.pts is not None and packet.dts is not None
        self.seconds = float((packet.pts - self.begins) * self.time_base)
        self.bytes += packet.size + PACKET_OVERHEAD
        if not packet.is_keyframe:
            self.largest = max(self.largest, packet.size)
        packet.pts -= self.zero
        packet.dts -= self.zero
        with sink_errors(self.draft.path):
            self.container.mux(packet)

    def finish(self) -> None:
        try:
            with sink_errors(self.draft.path):
                self.container.close()
            if self.precious:
                to_disk(self.draft.temporary)
            self.draft.commit()
        except SinkError:
            self.abandon()
            raise

    def abandon(self) -> bool:
        """Leaves the file as it is. True where it was kept; else it is gone."""
        with contextlib.suppress(FFmpegError, OSError):
            self.container.close()
        if self.precious and self.seconds >= WORTH_KEEPING:
            return True
        self.draft.discard()
        return False


class Disk:
    """Ends files, and brings what grows to the disk, in a thread of its own: a slow card takes seconds for it."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._error: SinkError | None = None
        self._synced = time.monotonic()
        self._thread: threading.Thread | None = None

    def do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="disk", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except SinkError as error:
                self._error = self._error or error

    def sync(self, path: Path) -> None:
        """Where it is time and nothing waits."""
        now = time.monotonic()
        if now - self._synced >= SYNC_EVERY and self._jobs.empty():
            self._synced = now
            self.do(lambda: to_disk(path))

    def check(self) -> None:
        """Raises the first error, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Waits for all jobs; raises their first error."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        self.check()


def to_disk(path: Path) -> None:
    """What was written to `path` survives a power cut, where the file system keeps its word."""
    with contextlib.suppress(OSError):  # the file has its final name by now, and was brought there before
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)


def _to_i420(picture: np.ndarray) -> np.ndarray:
    """BGR to the encoder's planes, odd sides made even.

    cv2 takes 0.4 ms for 720p, swscale 1.6. It knows the SMPTE 170M matrix only, so the file says that
    it holds that one; readers that ignore what the file says mostly assume it.
    """
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
