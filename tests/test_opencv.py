"""What is said of an OpenCV that does not load, or lacks GStreamer. NumPy: tests/video/test_gstreamer.py."""

from __future__ import annotations

from importlib import metadata

import pytest

from fcn_edge import opencv


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "pip install opencv-python-headless"),
        (ImportError("numpy.core.multiarray failed to import"), "pip install 'numpy<2'"),
        (
            ImportError("libGL.so.1: cannot open shared object file: No such file or directory"),
            "sudo apt install libgl1",
        ),
    ],
)
def test_each_way_not_to_load_has_its_mend_on_one_line(error: ImportError, mend: str) -> None:
    told = opencv.explain(error)
    assert told is not None
    assert mend in told
    assert "\n" not in told


def test_other_import_errors_are_none_of_its_business() -> None:
    assert opencv.explain(ModuleNotFoundError("No module named 'torch'", name="torch")) is None


def test_the_wheels_are_those_that_brought_this_opencv() -> None:
    for wheel in opencv.look().wheels:
        name, version = wheel.split()
        assert metadata.version(name) == version


def test_without_gstreamer_the_wheel_and_what_to_do_are_named() -> None:
    told = opencv.without_gstreamer()
    assert all(wheel in told for wheel in opencv.wheels())
    assert "sudo apt install python3-opencv" in told
