"""Streams from networks, read by FFmpeg's libraries: RTSP, MJPEG and HLS over HTTP, MPEG-TS and RTP over UDP.

What waits somewhere becomes the age of every frame that follows, so demuxers wait for no packet, decoders hold no
picture back, and one that falls behind skips what no other picture needs. What was read while probing is kept all the
same: it begins with a key frame, and the next one may be ten seconds away.
"""

from __future__ import annotations

import contextlib
import io
import math
import socket
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import av
import av.container
import numpy as np
from av import error as faults
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.error import FFmpegError

from fcn_edge.errors import SourceError
from fcn_edge.video.capture.protocol import Shot
from fcn_edge.video.options import WAIT
from fcn_edge.video.uri import Uri

PROBE_BYTES, PROBE_SECONDS = 1 << 20, 1.0  # to learn a stream's codec and size; FFmpeg's own 5 s age the first frames
PROBE_FRAMES = "3"  # to learn its rate; FFmpeg's own twenty keep the first picture waiting for 0.6 s
NO_KEY_FRAME = 3.0  # seconds after which pictures are shown without: some encoders refresh in stripes, and send none
LATE = 0.25  # seconds behind the fastest delivery that are a backlog; a Wi-Fi hiccup is shorter
FORGET = 0.01  # seconds a second by which the fastest delivery is forgotten: two clocks never agree
IDLE, IDLE_OVER = 0.2, 0.5  # who waits for a fifth of the time keeps up; over so many seconds
JUMP = 10.0  # seconds between frames from which times are taken to have begun anew
RTP_CLOCK = 90_000
PAYLOAD_TYPES = {"mjpeg": 26, "mpegts": 33}  # RFC 3551; other codecs have none of their own
ENCODINGS = {"h264": "H264", "h265": "H265", "hevc": "H265", "vp8": "VP8", "vp9": "VP9", "mjpeg": "JPEG"}


def open_capture(uri: Uri) -> StreamCapture:
    return StreamCapture(uri)


class StreamCapture:
    """The first video stream of what a URL names."""

    def __init__(self, uri: Uri) -> None:
        self.uri = uri
        self.notes: list[str] = []
        container = _open(uri)
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            container.close()
            raise SourceError(f"{uri.name}: sends no video, only {kinds}.")
        self.container = container
        self.stream = container.streams.video[0]
        self.rate: Fraction | None = self.stream.average_rate or self.stream.guessed_rate
        self.pixel_aspect = self.stream.sample_aspect_ratio or Fraction(1)
        codec = self.stream.codec_context
        codec.thread_type = "SLICE"  # FRAME holds a frame back for each thread
        codec.flags |= int(Flags.low_delay)
        if uri.options.hardware not in (None, "auto", "none"):
            self.notes.append(f"{uri.name}: decoded by {uri.options.hardware}.")
        # Segments bring many frames at once, and a file all: those are shown when they are due.
        paced = container.format.name.startswith("hls") or bool(container.duration)
        self.finite = bool(container.duration)
        container.flags &= ~av.container.Flags.gen_pts.value  # PyAV sets it; it may wait for packets to come
        self.frames = self._when_due() if paced else self._newest()

    def read(self) -> Shot | None:
        try:
            shot = next(self.frames, None)
        except FFmpegError as error:
            raise SourceError(f"{self.uri.name}: {_reason(self.uri, error)}") from error
        if shot is None and not self.finite:
            raise SourceError(f"{self.uri.name}: the stream ended.")
        return shot

    def _newest(self) -> Iterator[Shot]:
        """Every frame, or while there is a backlog some of them."""
        backlog = Backlog()
        for frame, arrived, waited in self._decoded():
            behind = backlog.behind(frame.time, arrived, waited)
            self.stream.codec_context.skip_frame = "NONREF" if behind else "DEFAULT"
            if not behind:
                yield Shot(_bgr(frame), arrived)

    def _when_due(self) -> Iterator[Shot]:
        pace = Pace()
        for frame, _, _ in self._decoded():
            pace.await_due(frame.time)
            yield Shot(_bgr(frame), time.monotonic())

    def _decoded(self) -> Iterator[tuple[av.VideoFrame, float, float]]:
        """Frames from the first whole one on, when their packet arrived, and how long it was waited for."""
        packets = self.container.demux(self.stream)
        opened = asked = time.monotonic()
        whole = False
        while (packet := next(packets, None)) is not None:
            arrived = time.monotonic()
            waited = arrived - asked
            with contextlib.suppress(FFmpegError):  # a packet that a network broke; the next key frame mends it
                for frame in packet.decode():
                    whole = whole or frame.key_frame or arrived - opened > NO_KEY_FRAME
                    if whole:
                        yield frame, arrived, waited  # type: ignore[misc]
            asked = time.monotonic()

    def close(self) -> None:
        self.container.close()


class Pace:
    """Frames that came early wait until they are due; one that comes late, or far too early, starts a new count."""

    def __init__(self) -> None:
        self._start: float | None = None

    def await_due(self, position: float | None) -> None:
        if position is None:
            return
        now = time.monotonic()
        early = None if self._start is None else self._start + position - now
        if early is None or not -LATE < early < JUMP:
            self._start = now - position
        elif early > 0:
            time.sleep(early)


class Backlog:
    """Whether frames wait to be decoded: they come later and later after their own time, and are never waited for.

    Either alone misleads: a server may have become late itself, and a burst after a hiccup is soon worked off.
    """

    SKIPPED_AT_MOST = 10  # frames, so that a picture comes even where the decoder is far too slow for the stream

    def __init__(self) -> None:
        self._least = math.inf  # between a frame's own time and its arrival
        self._idle = 1.0  # part of the time spent waiting for packets
        self._arrived = self._position = 0.0
        self._skipped = 0

    def behind(self, position: float | None, arrived: float, waited: float) -> bool:
        since, self._arrived = max(arrived - self._arrived, 1e-6), arrived
        self._idle += min(1.0, since / IDLE_OVER) * (waited / since - self._idle)
        if position is None:
            return False
        if position <= self._position:  # a camera that set its clock: nothing before can be compared
            self._least = math.inf
        self._position = position
        later = arrived - position
        self._least = min(later, self._least + FORGET * since)
        late = later - self._least > LATE and self._idle < IDLE
        self._skipped = self._skipped + 1 if late and self._skipped < self.SKIPPED_AT_MOST else 0
        return self._skipped > 0


def _open(uri: Uri) -> av.container.InputContainer:
    wait = uri.options.wait or WAIT
    limits: dict[str, Any] = {"timeout": (wait, None), "hwaccel": _hardware(uri)}
    url, options = _address(uri)
    began = time.monotonic()
    try:
        if uri.kind == "rtp" and (description := _description(uri)):
            options["protocol_whitelist"] = "udp,rtp"
            return av.open(io.BytesIO(description.encode()), "r", "sdp", options, **limits)
        return av.open(url, "r", None, options, **limits)
    except FFmpegError as error:
        silent = time.monotonic() - began > 0.99 * wait  # RTSP calls what was cut short invalid data
        reason = f"did not answer within {wait:g} s." if silent else _reason(uri, error)
        raise SourceError(f"{uri.name}: {reason}") from error
    except (ValueError, RuntimeError, NotImplementedError) as error:  # how PyAV says no to a hardware decoder
        raise SourceError(f"{uri.name}: {uri.hide(str(error))}") from error


def _address(uri: Uri) -> tuple[str, dict[str, str]]:
    """The URL as FFmpeg wants it, and what it is asked to do with it."""
    latency = round(1e6 * (uri.options.latency or 0))
    options = {
        "probesize": str(PROBE_BYTES),
        "analyzeduration": str(round(1e6 * PROBE_SECONDS)),
        "fpsprobesize": PROBE_FRAMES,
        "max_delay": str(latency),
    }
    if uri.kind in ("rtsp", "rtsps"):
        options["rtsp_transport"] = uri.options.transport or "tcp"
        options["allowed_media_types"] = "video"
    if not latency:
        options["reorder_queue_size"] = "0"
    if uri.kind == "udp":
        options["overrun_nonfatal"] = "1"
        options["fifo_size"] = "50000"
    return uri.quoted, options


def _hardware(uri: Uri) -> HWAccel | None:
    name = uri.options.hardware
    if name in (None, "auto", "none"):
        return None
    if name not in hwdevices_available():
        known = ", ".join(hwdevices_available()) or "none"
        raise SourceError(f"{uri.name}: hardware={name}: this PyAV has no such decoder. It has: {known}.")
    return HWAccel(name, allow_software_fallback=False)


def _description(uri: Uri) -> str | None:
    """The SDP of an RTP stream, which says what a packet's number for its codec means; None where the number does."""
    codec = uri.options.codec or "h264"
    address = urlsplit(uri.quoted)
    if codec == "mpegts":
        return None
    if codec not in ENCODINGS or address.port is None:
        raise SourceError(
            f"{uri.name}: write address, port and codec, as in rtp://0.0.0.0:5004#codec=h264. "
            f"Codecs: {', '.join(ENCODINGS)}, mpegts."
        )
    number = PAYLOAD_TYPES.get(codec, 96)
    lines = [
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=fcn-edge",
        f"c=IN IP4 {address.hostname or '0.0.0.0'}",
        "t=0 0",
        f"m=video {address.port} RTP/AVP {number}",
        f"a=rtpmap:{number} {ENCODINGS[codec]}/{RTP_CLOCK}",
    ]
    return "\r\n".join([*lines, ""])


def _reason(uri: Uri, error: FFmpegError) -> str:
    """What went wrong and how to mend it; FFmpeg's own words hold the URL, so they are not used."""
    host = urlsplit(uri.quoted).hostname or uri.kind
    if isinstance(error, faults.HTTPUnauthorizedError):
        ask = "wants a user and a password. Write them before its host, as in USER:PASSWORD@HOST."
        return "refused this user and password." if uri.credentials else ask
    if isinstance(error, faults.HTTPForbiddenError):
        return "does not permit this (403). Check user, password and the limit on viewers."
    if isinstance(error, faults.HTTPNotFoundError):
        return "has nothing under this path (404). Look its address up in the camera's manual."
    if isinstance(error, (faults.HTTPClientError, faults.HTTPServerError)):
        return f"answered with an error: {error.strerror}."
    if isinstance(error, (faults.ExitError, faults.TimeoutError)):
        return "does not answer. Check its address, and whether it is on."
    if isinstance(error, faults.ConnectionRefusedError):
        return "nothing listens there. Check address and port, and whether the camera is on."
    if isinstance(error, faults.EOFError):
        return "the stream ended."
    if isinstance(error, faults.InvalidDataError):
        return "sends nothing that is a video stream."
    if isinstance(error, (faults.ProtocolNotFoundError, faults.DemuxerNotFoundError)):
        return f"this PyAV cannot read it: {error.strerror}."
    if uri.options.hardware not in (None, "auto", "none"):
        return f"hardware={uri.options.hardware} cannot be used here: {error.strerror}. Without it the CPU decodes."
    with contextlib.suppress(OSError):  # FFmpeg calls a name that does not resolve an input/output error
        socket.getaddrinfo(host, None)
        return f"cannot be read: {error.strerror}."
    return "its host cannot be found. Check its name and the network."


def _bgr(frame: av.VideoFrame) -> np.ndarray:
    """The frame as BGR by its own colour matrix and range; its rows may be padded."""
    bgr = frame.reformat(format="bgr24")
    plane = bgr.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[arg-type]
    return rows[: bgr.height, : bgr.width * 3].reshape(bgr.height, bgr.width, 3)
