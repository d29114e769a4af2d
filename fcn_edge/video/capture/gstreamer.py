"""GStreamer's pipelines: a Jetson's CSI cameras, decoders that only it reaches, and whatever a user writes.

OpenCV reads them where it was built with GStreamer. It does not hand on why a pipeline failed, and waits for ever for
one that is only half there. So GStreamer itself is asked first whether it understands the pipeline, and what goes wrong
later is taken from its log, which goes to a file in memory.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from fractions import Fraction

import cv2
import numpy as np

from fcn_edge import opencv
from fcn_edge.errors import SourceError
from fcn_edge.video.capture.protocol import Shot
from fcn_edge.video.uri import Uri

NEWEST = "appsink drop=true max-buffers=1 sync=false"  # a queue here is where half a second of age comes from
BGR = f"videoconvert ! video/x-raw,format=BGR ! {NEWEST}"
CSI_SIZE, CSI_RATE = (720, 1280), Fraction(30)  # where nothing is asked for; every sensor's driver has it, or near
LATENCY = 0.1  # seconds that rtspsrc waits for packets that are late; its own habit is 2
JETSON_DECODER = "nvv4l2decoder"  # its pictures lie in memory that only nvvidconv reads
DECODERS = {JETSON_DECODER: (JETSON_DECODER,), "vaapi": ("vah264dec", "vaapih264dec")}  # decodebin takes them by rank
LOG = {"GST_DEBUG": "GST_ERROR_SYSTEM:4", "GST_DEBUG_NO_COLOR": "1"}  # what elements post as errors
_POSTED = re.compile(r"posting message: (.+)")


class _GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


class GstreamerCapture:
    """A pipeline that ends in an appsink."""

    pixel_aspect = Fraction(1)

    def __init__(self, uri: Uri, pipeline: str) -> None:
        if not opencv.look().gstreamer:
            raise SourceError(f"{uri.name}: {opencv.without_gstreamer()}")
        self.notes: list[str] = []
        self._uri = uri
        self._log = _start_log()
        if (misunderstood := parse_error(pipeline)) is not None:
            raise self._lost("cannot be opened", misunderstood)
        self._capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if not self._capture.isOpened():
            raise self._lost("cannot be opened", self._reason())
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if 0 < rate < 1000 else None

    def read(self) -> Shot | None:
        if not self._capture.grab():
            if self._uri.kind == "gst" and self._reason() is None:
                return None  # a pipeline over a file ends
            raise self._lost("gives no more pictures", self._reason())
        captured = time.monotonic()
        done, image = self._capture.retrieve()
        if not done:
            raise self._lost("gave a picture that OpenCV cannot read", self._reason())
        return Shot(self._to_bgr(image), captured)

    def _to_bgr(self, image: np.ndarray) -> np.ndarray:
        """Other formats come only from an appsink that the user wrote."""
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels == 3:
            return image
        if channels == 4:
            return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)

    def _lost(self, what: str, reason: str | None) -> SourceError:
        told = f"{what}: {self._uri.hide(reason).rstrip('.')}." if reason else f"{what}."
        return SourceError(" ".join([f"{self._uri.name}: {told}", *_mend(self._uri, reason or "")]))

    def _reason(self) -> str | None:
        """The first thing that went wrong; what follows are its consequences."""
        with open(self._log, errors="replace") as log:
            match = _POSTED.search(log.read())
        return match[1].strip() if match else None

    def close(self) -> None:
        self._capture.release()


def open_capture(uri: Uri) -> GstreamerCapture:
    _start_log()
    if uri.kind == "csi":
        return GstreamerCapture(uri, csi_pipeline(uri))
    if uri.kind == "gst":
        return GstreamerCapture(uri, gst_pipeline(uri))
    wanted = uri.options.hardware
    if wanted in DECODERS and opencv.look().gstreamer and not any(map(has_element, DECODERS[wanted])):
        raise SourceError(f"{uri.name}: hardware={wanted}: GStreamer has none of {', '.join(DECODERS[wanted])} here.")
    return GstreamerCapture(uri, rtsp_pipeline(uri))


def csi_pipeline(uri: Uri) -> str:
    """A sensor through NVIDIA's image processor, whose memory only nvvidconv reads."""
    height, width = uri.options.size or CSI_SIZE
    rate = uri.options.rate or CSI_RATE
    return (
        f"nvarguscamerasrc sensor-id={uri.target} ! video/x-raw(memory:NVMM),format=NV12,width={width},height={height},"
        f"framerate={rate.numerator}/{rate.denominator} ! nvvidconv ! video/x-raw,format=BGRx ! {BGR}"
    )


def gst_pipeline(uri: Uri) -> str:
    """What the user wrote, with an end that keeps the newest picture only where he wrote none."""
    return uri.target if re.search(r"\bappsink\b", uri.target) else f"{uri.target.rstrip(' !')} ! {BGR}"


def rtsp_pipeline(uri: Uri) -> str:
    """RTSP through the best decoder that GStreamer has here."""
    options = uri.options
    user, password = uri.credentials or ("", "")
    login = f" user-id={_quoted(user)} user-pw={_quoted(password)}" if user else ""
    location = re.sub(r"//[^/]*@", "//", uri.quoted, count=1)
    milliseconds = round(1e3 * (LATENCY if options.latency is None else options.latency))
    to_memory = "nvvidconv ! video/x-raw,format=BGRx ! " if has_element(JETSON_DECODER) else ""
    return (
        f"rtspsrc location={_quoted(location)}{login} latency={milliseconds} drop-on-latency=true "
        f"protocols={options.transport or 'tcp'} ! application/x-rtp,media=video ! decodebin ! {to_memory}{BGR}"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def decodes(uri: Uri) -> bool:
    """Whether this stream is for GStreamer: it has a Jetson's decoder, which nothing else reaches, or was asked for."""
    wanted = uri.options.hardware
    if wanted in (None, "auto"):
        return opencv.look().gstreamer and has_element(JETSON_DECODER)
    return wanted in DECODERS


def has_element(name: str) -> bool:
    """Whether GStreamer has this element. Asked of the library that cv2 has loaded: its tools may not be installed."""
    library = _library()
    if library is None:
        return False
    library.gst_element_factory_find.restype = ctypes.c_void_p
    return bool(library.gst_element_factory_find(name.encode()))


def parse_error(pipeline: str) -> str | None:
    """What GStreamer does not understand of a pipeline; None where it does."""
    library = _library()
    if library is None:
        return None
    error = ctypes.POINTER(_GError)()
    library.gst_parse_launch.restype = ctypes.c_void_p
    element = library.gst_parse_launch(pipeline.encode(), ctypes.byref(error))
    if element:
        library.gst_object_unref(ctypes.c_void_p(element))
    return error.contents.message.decode(errors="replace") if error else None


def _library() -> ctypes.CDLL | None:
    _start_log()
    try:
        library = ctypes.CDLL("libgstreamer-1.0.so.0")
    except OSError:
        return None
    library.gst_init(None, None)
    return library


def _start_log() -> str:
    """The file that GStreamer's errors go to. It reads these variables when it starts; what the user set stays."""
    if "GST_DEBUG_FILE" not in os.environ:
        os.environ["GST_DEBUG_FILE"] = f"/proc/self/fd/{os.memfd_create('gstreamer')}"
        for name, value in LOG.items():
            os.environ.setdefault(name, value)
    return os.environ["GST_DEBUG_FILE"]


def _mend(uri: Uri, reason: str) -> list[str]:
    if 'no element "nvargus' in reason:
        return [
            "It is NVIDIA's and comes with JetPack: sudo apt install nvidia-l4t-gstreamer. "
            "Other boards: gst://libcamerasrc, or the camera's number."
        ]
    if uri.kind == "csi":
        return ["Close other programs that have the camera; if there are none: sudo systemctl restart nvargus-daemon"]
    return ["gst-inspect-1.0 lists what is there."] if "no element" in reason else []
