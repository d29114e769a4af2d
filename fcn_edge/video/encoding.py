"""H.264 by hardware where it works, else by x264.

An encoder that FFmpeg names may be missing, refuse a size, hang or give green frames, and only trying
tells. So each is tried on a few frames that are decoded again, in a process of its own that can be
ended: `python -m fcn_edge.video.encoding NAME HEIGHT WIDTH`. Where there is no device node, nothing is tried.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError
from av.video.stream import VideoStream

from fcn_edge.errors import SinkError, unknown

# At 720p without B frames: CPU time beside ultrafast's, KiB a frame and PSNR of luma: ultrafast 1.0, 13.5, 43.3 dB;
# superfast 1.3, 9.1, 41.8 (crf 23: 10.3, 42.8); veryfast (crf 21) 1.5, 6.7, 42.2. The network wants the CPU, so that a
# slower preset costs frames, and a faster one makes larger files. B frames would save a fifth of the size.
PRESET, CRF = "superfast", "24"
SMPTE_170M, LIMITED = 6, 1  # libavutil's AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG
BITS_A_PIXEL = 0.12  # what x264 takes at these settings, for encoders that want a bit rate
# What PyAV raises for an encoder that does not open; the last of them a release before 18 for VAAPI.
REFUSALS = (FFmpegError, NotImplementedError, ValueError, AttributeError)
TRIAL_FRAMES = 8
TRIAL_SECONDS = 8.0  # a cold start on a slow board takes 3; a driver that hangs is given up
TRIAL_ERROR = 8.0  # mean levels of gray between what went in and what came out; x264 has 1, a green frame 60


@dataclass(frozen=True)
class Kind:
    """An encoder of FFmpeg's. nodes: device files without one of which there is nothing to try."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"
    nodes: str = ""
    device: str | None = None  # FFmpeg's name of the device that frames must be brought to


# Tuned by their documentation, near x264's size and quality; no such hardware was at hand.
NVENC = Kind("h264_nvenc", {"preset": "p4", "rc": "vbr", "cq": "24", "forced-idr": "1"}, nodes="/dev/nvidiactl")
VAAPI = Kind("h264_vaapi", {"rc_mode": "CQP", "qp": "24"}, "nv12", "/dev/dri/renderD*", "vaapi")
V4L2 = Kind("h264_v4l2m2m", nodes="/dev/video*")
SOFTWARE = Kind("libx264", {"preset": PRESET, "crf": CRF, "forced-idr": "1"})
HARDWARE = (NVENC, VAAPI, V4L2)
NAMES = {kind.name: kind for kind in (SOFTWARE, *HARDWARE)}


@dataclass(frozen=True)
class Timing:
    """How the frames of a stream lie in time and in space. rate: mean frames a second, where known."""

    rate: Fraction | None
    time_base: Fraction
    pixel_aspect: Fraction = Fraction(1)


class Encoder:
    """One H.264 stream of one size, (H, W) with even sides, of which any number of files take their packets.

    Raises one of REFUSALS where this encoder does not open.
    """

    def __init__(self, kind: Kind, size: tuple[int, int], timing: Timing) -> None:
        self.kind = kind
        self.timing = timing
        self.waiting = 0  # frames that went in and did not come out yet
        options: dict[str, Any] = {"hwaccel": HWAccel(kind.device)} if kind.device else {}
        # A container that writes nothing: files that have their own encoder could not follow each other without a gap.
        self._home = av.open(os.devnull, "w", format="null")
        stream = self._home.add_stream(kind.name, rate=timing.rate, **options)
        assert isinstance(stream, VideoStream)
        self.stream = stream
        # No frame refers to a later one: FFmpeg's hybrid MP4 hides such a one where a fragment ends before it.
        self.stream.options = {**kind.options, "bf": "0"}
        self.stream.time_base = timing.time_base
        codec = self.stream.codec_context
        codec.height, codec.width = size
        codec.pix_fmt = kind.pix_fmt
        codec.time_base = timing.time_base
        codec.sample_aspect_ratio = timing.pixel_aspect
        codec.colorspace, codec.color_range = SMPTE_170M, LIMITED  # what cv2 converts to
        codec.flags |= Flags.global_header
        if kind is V4L2:
            codec.bit_rate = int(BITS_A_PIXEL * size[0] * size[1] * (timing.rate or 25))
        self._home.start_encoding()

    def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
        """The packets that are ready; with None the last ones."""
        packets = self.stream.encode(frame)
        self.waiting += (frame is not None) - len(packets)
        return packets

    def close(self) -> None:
        self._home.close()


def check_name(wish: str) -> None:
    """Raises UsageError where `wish` is neither "auto" nor a key of NAMES."""
    if wish != "auto" and wish not in NAMES:
        raise unknown("encoder", wish, ["auto", *NAMES])


def open_encoder(wish: str, size: tuple[int, int], timing: Timing) -> tuple[Encoder, str]:
    """An encoder for frames of `size`, (H, W) with even sides, and what the user should know of it, or nothing.

    wish: "auto" or a key of NAMES.
    Raises UsageError for another name, SinkError where the named one, or none, takes this size.
    """
    check_name(wish)
    for kind in HARDWARE if wish == "auto" else (NAMES[wish],):
        reason = _why_not(kind, size)
        if not reason:
            try:
                return Encoder(kind, size, timing), "" if kind is SOFTWARE else f"encoded by {kind.name}"
            except REFUSALS as error:
                reason = str(error)
        if wish != "auto":
            raise SinkError(f"{kind.name} encodes no {size[1]}x{size[0]} here: {reason}. Leave out --encoder.")
    try:
        return Encoder(SOFTWARE, size, timing), ""
    except REFUSALS as error:
        raise SinkError(f"no encoder here takes a video of {size[1]}x{size[0]}. Name a picture or a folder.") from error


def _why_not(kind: Kind, size: tuple[int, int]) -> str:
    """Why this encoder cannot be used; empty where it can."""
    if kind is SOFTWARE:
        return ""
    if kind.name not in av.codecs_available:
        return "this PyAV was built without it"
    if not glob.glob(kind.nodes):
        return f"there is no {kind.nodes}"
    command = [sys.executable, "-m", "fcn_edge.video.encoding", kind.name, *map(str, size)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"it gave nothing within {TRIAL_SECONDS:g} s"
    if run.returncode:
        return (run.stdout.strip() or f"it ended with status {run.returncode}").splitlines()[-1]
    return ""


def try_out(kind: Kind, size: tuple[int, int]) -> str:
    """What is wrong with this encoder: it does not open, or its pictures are not what went in. Empty: nothing."""
    pictures = list(_pictures(size))
    try:
        encoder = Encoder(kind, size, Timing(Fraction(25), Fraction(1, 25)))
        packets = []
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_numpy_buffer(picture, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        seen = list(_decoded(packets, encoder.stream.codec_context.extradata))
        encoder.close()
    except REFUSALS as error:
        return str(error)
    if len(seen) != len(pictures):
        return f"of {len(pictures)} frames {len(seen)} came out"
    if seen[0].shape != pictures[0].shape:
        return f"its pictures have another size, {seen[0].shape}"
    wrong = max(float(np.abs(was.astype(int) - now).mean()) for was, now in zip(pictures, seen, strict=True))
    return f"its pictures are wrong by {wrong:.0f} levels" if wrong > TRIAL_ERROR else ""


def _pictures(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Gradients that move, as planes of yuv420p: uint8 (3 H / 2, W)."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    for number in range(TRIAL_FRAMES):
        bgr = np.stack([rows * 200 // height, columns * 200 // width, np.full(size, 20 * number)], axis=-1)
        yield cv2.cvtColor(bgr.astype(np.uint8), cv2.COLOR_BGR2YUV_I420)


def _decoded(packets: list[av.Packet], header: bytes | None) -> Iterator[np.ndarray]:
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = header
    for packet in [*packets, None]:
        for frame in decoder.decode(packet):  # type: ignore[attr-defined]
            yield frame.to_ndarray(format="yuv420p")


if __name__ == "__main__":
    fault = try_out(NAMES[sys.argv[1]], (int(sys.argv[2]), int(sys.argv[3])))
    print(fault)
    sys.exit(bool(fault))
