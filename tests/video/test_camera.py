"""No machine that runs the tests has a camera: a video file stands for one behind the same OpenCV capture."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import cv2
import pytest

from fcn_edge.errors import SourceError
from fcn_edge.video.camera import Newest, _reason, check_device

NOBODY = 65534


def test_a_slow_taker_gets_the_newest_frame_and_the_others_are_counted(make_video):
    newest = Newest(cv2.VideoCapture(str(make_video(frames=20))))
    newest._thread.join(60)  # the file is read to its end meanwhile

    taken = newest.take()
    newest.close()

    assert taken is not None
    image, number, _ = taken
    assert number == 19
    assert newest.dropped == 19
    assert image.shape == (48, 64, 3)


def test_no_frame_is_given_twice_and_taken_and_dropped_are_all(make_video):
    newest = Newest(cv2.VideoCapture(str(make_video(frames=200))))
    numbers = []
    while (taken := newest.take()) is not None:
        numbers.append(taken[1])
    newest.close()

    assert numbers == sorted(set(numbers))
    assert len(numbers) + newest.dropped == 200


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
