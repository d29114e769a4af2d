"""What is said of cameras. Most machines have none: `pytest -m camera` takes the one at /dev/video0."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import cv2
import pytest

from fcn_edge.errors import SourceError
from fcn_edge.video import open_source
from fcn_edge.video.camera import _reason, check_device, formats
from fcn_edge.video.capture.v4l2 import granted
from fcn_edge.video.options import SourceOptions

NOBODY = 65534


def test_a_device_that_is_not_there_is_said_with_those_that_are():
    with pytest.raises(SourceError, match=r"/dev/video97: there is no such camera\. Cameras here: "):
        check_device(Path("/dev/video97"))


def test_a_device_that_is_no_camera_is_said():
    with pytest.raises(SourceError, match="not a camera"):
        check_device(Path("/dev/null"))


@pytest.fixture
def ordinary_user():
    """Root may open everything, so for the test it is nobody."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield
    if root:
        os.seteuid(0)


def test_a_device_that_is_not_permitted_names_the_group(ordinary_user):
    with tempfile.NamedTemporaryFile() as device:  # not in tmp_path, whose parents are closed to others
        os.chmod(device.name, 0o000)
        with pytest.raises(SourceError, match="group video"):
            check_device(Path(device.name))


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "group video"), (errno.EBUSY, "busy"), (errno.ENOTTY, "not a camera"), (errno.EIO, "Input/output")],
)
def test_what_the_system_says_is_told_apart(number, words):
    assert words in _reason(Path("/dev/video0"), OSError(number, os.strerror(number)))


def test_what_cannot_be_asked_for_its_formats_has_none():
    assert formats(Path("/dev/null")) == formats(Path("/dev/video97")) == []


def test_what_was_granted_is_said_with_what_was_asked_for_in_vain(make_video):
    """A video file stands for the camera: OpenCV tells size, rate and format of both in the same way."""
    capture = cv2.VideoCapture(str(make_video(size=(48, 64))))
    assert granted(capture, SourceOptions(size=(48, 64), codec="h264")) == "gives 64x48 at 25 a second as h264"
    in_vain = granted(capture, SourceOptions().updated("size=720x1280,rate=30"))
    assert in_vain == "gives 64x48 at 25 a second as h264; asked for 1280x720, 30 a second, MJPG"


@pytest.mark.camera
class TestCamera:
    """For those who have one: pytest -m camera."""

    def test_it_gives_pictures_of_the_size_that_it_says_it_grants(self):
        with open_source("0#size=480x640,rate=30") as source:
            frames = [frame for frame, _ in zip(source, range(10), strict=False)]
        (granted,) = source.notes
        height, width = frames[0].image.shape[:2]
        assert f"gives {width}x{height} at " in granted
        assert [frame.sequence for frame in frames] == sorted({frame.sequence for frame in frames})

    def test_it_offers_formats_and_is_asked_for_mjpg(self):
        assert formats(Path("/dev/video0"))
        with open_source("0") as source:
            assert "MJPG" in source.notes[0]

    def test_one_that_is_open_is_busy_for_others(self):
        with open_source("0"), pytest.raises(SourceError, match="busy"):
            check_device(Path("/dev/video0"))
