"""One video file that is playable at every moment, whoever ends its process.

An MP4 file has its index in memory until it is closed, so that a kill or a power cut leaves nothing that
plays. Here it is written in fragments of a second, each whole in itself. Where its length is bounded the
usual index is added at the end; an endless one stays in fragments, because that index would grow for ever.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
from av.container import Flags
from av.error import FFmpegError

from fcn_edge.errors import SinkError
from fcn_edge.video.encoding import Encoder
from fcn_edge.video.writing import Draft, sink_errors

VIDEOS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
FRAGMENT = 1.0  # seconds, the most that a kill takes; a fragment's header takes 100 bytes and a write
SYNC_EVERY = 5.0  # seconds of a live recording that a power cut may take; without it Linux keeps 30 in memory
PACKET_OVERHEAD = 40  # bytes that a container takes for a packet, its part of the index included
BEGINNING = 4096  # bytes of an MP4 file, of which closing it changes the first few dozen
WORTH_KEEPING = 2 * FRAGMENT  # seconds that a file must have for some of it to be on the disk


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
        self.packets = self.payload = 0
        self.largest = 0  # packet other than a key frame
        self.beginning = b""
        self.whole = 0  # bytes up to which the file is known to be good
        self.seconds = 0.0
        self.time_base = encoder.timing.time_base
        format = VIDEOS[draft.path.suffix.lower()]
        # delay_moov: without it there is no edit list, which lets a file begin at another time than 0.
        flags = "+delay_moov+hybrid_fragmented" if bounded else "+delay_moov"
        fragments = {"movflags": flags, "frag_duration": str(round(FRAGMENT * 1e6))}
        clusters = {"cluster_time_limit": str(round(FRAGMENT * 1e3))}
        with sink_errors(draft.path):
            options = clusters if format == "matroska" else fragments
            self.container = av.open(str(draft.temporary), "w", format=format, container_options=options)
            self.container.flags |= Flags.flush_packets.value
            self.container.metadata.update(metadata)
            self.container.add_stream_from_template(encoder.stream, time_base=self.time_base)

    @property
    def bytes(self) -> int:
        """What the file will hold, about."""
        return self.payload + PACKET_OVERHEAD * self.packets

    def mux(self, packet: av.Packet) -> None:
        assert packet.pts is not None
        assert packet.dts is not None
        self.seconds = float((packet.pts - self.begins) * self.time_base)
        self.packets += 1
        self.payload += packet.size
        if not packet.is_keyframe:
            self.largest = max(self.largest, packet.size)
        packet.pts -= self.zero
        packet.dts -= self.zero
        with sink_errors(self.draft.path):
            self.container.mux(packet)
            self.whole = self.draft.temporary.stat().st_size  # its flag has whole fragments flushed by now

    def finish(self) -> None:
        try:
            with sink_errors(self.draft.path):
                self._remember()
                self.container.close()
                written = self.draft.temporary.stat().st_size
            if written < self.payload:  # of the last fragment FFmpeg tells no error
                raise SinkError(
                    f"{self.draft.path}: cannot be written: it ended at {written} bytes. "
                    "Free some space, or name another place."
                )
            if self.precious:
                to_disk(self.draft.temporary)
            self.draft.commit()
        except SinkError as error:
            raise self.abandon(error) from error

    def _remember(self) -> None:
        """Its first bytes as they are while it grows: closed, they tell of an index that may not have been written."""
        if not self.beginning:
            with self.draft.temporary.open("rb") as file:
                self.beginning = file.read(BEGINNING)

    def abandon(self, error: SinkError) -> SinkError:
        """The error, after what is half was removed: the last fragment where the others come once, else the file."""
        keeps = self.precious and self.seconds >= WORTH_KEEPING
        try:
            self._remember()
            with contextlib.suppress(FFmpegError, OSError):
                self.container.close()
            with self.draft.temporary.open("r+b") as file:
                file.write(self.beginning)
                file.truncate(self.whole)
        except OSError:
            keeps = False
        if keeps:
            return SinkError(f"{error} What was recorded before plays: {self.draft.temporary}")
        self.draft.discard()
        return error


class Disk:
    """Ends files, and brings what grows to the disk, in a thread of its own: a slow card takes seconds for it."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._error: Exception | None = None
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
            except Exception as error:
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
