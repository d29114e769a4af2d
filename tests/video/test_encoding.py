from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.video import encoding
from fcn_edge.video.encoding import SOFTWARE, Kind, Timing, open_encoder, try_out

TIMING = Timing(Fraction(25), Fraction(1, 25))
PRESENT = "/dev/null"  # stands for the device node of an encoder


def test_without_hardware_x264_encodes_and_there_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr(encoding, "HARDWARE", (Kind("h264_nvenc", nodes="/nowhere/*"),))
    encoder, word = open_encoder("auto", (48, 64), TIMING)
    encoder.close()
    assert (encoder.kind, word) == (SOFTWARE, "")


def test_an_encoder_that_works_is_taken_and_named(monkeypatch):
    works = Kind("libx264", {"preset": "ultrafast"}, nodes=PRESENT)
    monkeypatch.setattr(encoding, "HARDWARE", (works,))
    encoder, word = open_encoder("auto", (48, 64), TIMING)
    encoder.close()
    assert (encoder.kind, word) == (works, "encoded by libx264")


def test_one_whose_device_is_there_but_does_not_open_is_passed_over(monkeypatch):
    monkeypatch.setattr(encoding, "HARDWARE", (Kind("h264_v4l2m2m", nodes=PRESENT),))
    encoder, _ = open_encoder("auto", (48, 64), TIMING)
    encoder.close()
    assert encoder.kind is SOFTWARE


def test_one_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(encoding, "TRIAL_SECONDS", 0.01)
    monkeypatch.setitem(encoding.NAMES, "libx264", Kind("libx264", nodes=PRESENT))
    with pytest.raises(SinkError, match=r"gave nothing within 0\.01 s.*--encoder"):
        open_encoder("libx264", (48, 64), TIMING)


def test_one_of_another_name_is_refused():
    with pytest.raises(UsageError, match=r"no encoder 'h265'. Known: auto, h264_nvenc"):
        open_encoder("h265", (48, 64), TIMING)


@pytest.mark.parametrize("size", [(48, 64), (4, 5000), (1080, 1920)])
def test_the_trial_passes_what_gives_back_its_pictures(size):
    assert try_out(SOFTWARE, size) == ""


def test_the_trial_finds_what_is_no_h264():
    assert try_out(Kind("mpeg4"), (48, 64)) != ""


def test_the_trial_finds_green_frames(monkeypatch):
    """What drivers make of a layout that they misread; the encoder behind it stands for theirs."""
    encode = encoding.Encoder.encode

    def green(self, frame):
        if frame is not None:
            empty = av.VideoFrame.from_ndarray(np.zeros((72, 64), np.uint8), format="yuv420p")
            empty.pts, empty.time_base = frame.pts, frame.time_base
            frame = empty
        return encode(self, frame)

    monkeypatch.setattr(encoding.Encoder, "encode", green)
    assert "its pictures are wrong by" in try_out(SOFTWARE, (48, 64))
