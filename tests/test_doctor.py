"""What a machine can run, told without failing on it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import cv2
import pytest

from fcn_edge.doctor import examine, text
from fcn_edge.runtime import BACKENDS, backend_class
from fcn_edge.runtime.files import bundled


def test_every_backend_is_there_with_its_version_and_precisions_or_the_line_that_installs_it() -> None:
    report = examine()
    assert list(report.backends) == list(BACKENDS)
    for name, backend in report.backends.items():
        if backend.installed:
            assert backend.version == metadata.version(backend_class(name).distribution)
            assert "fp32" in backend.precisions
        else:
            assert backend.problem == f"not installed: {backend_class(name).install}"


def test_a_missing_backend_is_answered_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_class("openvino"), "library", "no_such_library")
    report = examine()
    assert report.backends["openvino"].problem == "not installed: pip install openvino"
    assert "not installed: pip install openvino" in text(report)


def test_where_nothing_runs_an_onnx_file_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setattr(backend_class(name), "library", "no_such_library")
    assert any("pip install openvino onnxruntime" in line for line in examine().advice)


def test_it_names_the_opencv_that_is_imported() -> None:
    opencv = examine().opencv
    assert opencv is not None
    assert (opencv.path, opencv.version) == (cv2.__file__, cv2.__version__)
    assert opencv.gstreamer == any(
        "GStreamer" in line and "YES" in line for line in cv2.getBuildInformation().splitlines()
    )


def test_it_knows_the_cpu_the_encoder_and_the_bundled_models() -> None:
    report = examine()
    assert report.machine.cores >= 1
    assert report.machine.cpu
    assert report.video is not None
    assert "libx264" in report.video.h264_encoders
    assert report.models == {name: str(path) for name, path in bundled().items()}


def test_a_package_of_that_name_without_tensorrt_in_it_is_seen_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcn_edge.doctor import _tensorrt

    (tmp_path / "hollow_tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert _tensorrt("hollow_tensorrt") == "an empty package: its libraries are missing"
    assert _tensorrt("no_such_tensorrt") == "not installed"


def test_the_command_ends_well_and_its_json_is_the_report() -> None:
    command = [sys.executable, "-m", "fcn_edge", "doctor"]
    people = subprocess.run(command, capture_output=True, text=True, check=True)
    machine = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    document = json.loads(machine.stdout)
    assert set(document) == {
        "version", "machine", "backends", "tensorrt", "opencv", "video", "cameras", "models", "advice",
    }  # fmt: skip
    assert document["machine"]["cpu"] in people.stdout
    assert (people.stderr, machine.stderr) == ("", "")
