"""What a machine can run, told without failing on it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from fcn_edge import doctor
from fcn_edge.doctor import TensorRt, examine, text
from fcn_edge.engine.board import Board
from fcn_edge.engine.machine import Gpu
from fcn_edge.engine.versions import PRODUCTS
from fcn_edge.runtime import BACKENDS, backend_class
from fcn_edge.runtime.files import bundled


def test_every_backend_is_there_with_its_version_and_precisions_or_the_line_that_installs_it() -> None:
    report = examine()
    assert list(report.backends) == list(BACKENDS)
    for name, backend in report.backends.items():
        if name in PRODUCTS:
            assert backend.problem or "fp32" in backend.precisions
        elif backend.installed:
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


def test_gstreamers_server_is_there_with_its_encoder_or_the_packages_that_bring_it() -> None:
    report = examine()
    found = report.gstreamer
    if found is None:
        pytest.skip("GStreamer is looked for on Linux")
    assert (found.version is None) == bool(found.problem)
    assert found.python in text(report)
    if found.problem:
        assert "sudo apt install python3-gi gir1.2-gst-rtsp-server-1.0" in text(report)
    else:
        assert f"GStreamer    {found.version}, serves RTSP: encoder {found.encoder or 'none'}" in text(report)


def test_a_board_whose_opencv_has_no_gstreamer_is_told_why_no_csi_camera_opens() -> None:
    advice: list[str] = []
    found = doctor._opencv(advice, NX)
    assert found is not None
    assert found.gstreamer != any(line.startswith("no CSI camera can be opened: this OpenCV") for line in advice)


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
    if find_spec("tensorrt") is not None:
        pytest.skip("a TensorRT is here")
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    state = examine().tensorrt["tensorrt"]
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert state.version is None
    assert "is an empty package here" in str(state.problem)


def test_tensorrt_rtx_tells_its_version() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    assert examine().tensorrt["tensorrt-rtx"] == TensorRt(trt.__version__, None)


GPU = Gpu("Orin", "8.7", 8, 16_405_700_608, "540.4.0", "12.6")
NX = Board("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "36.4.3", "6.1 or 6.2", "25W", False)
READY = {"tensorrt": TensorRt("10.3.0", None), "tensorrt-rtx": TensorRt(None, "TensorRT-RTX is not installed.")}
LACKING = {product: TensorRt(None, f"{product} is not installed. A line.") for product in READY}


class TestAdvice:
    """For machines that were not at hand: a report as a Jetson or a PC would give it, and what is said to it."""

    def advice(
        self,
        gpu: Gpu | None,
        board: Board | None,
        tensorrt: dict[str, TensorRt] = READY,
        adapter: str | None = "pycuda",
    ) -> list[str]:
        machine = replace(doctor._machine(), gpu=gpu, board=board)
        return list(doctor._gpu_advice(machine, tensorrt, adapter))

    def test_where_everything_is_there_nothing_is_said(self) -> None:
        assert self.advice(GPU, NX) == []

    def test_a_machine_without_an_nvidia_gpu_is_asked_for_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "has_nvidia_card", lambda: False)
        monkeypatch.setattr(doctor, "read_driver_version", lambda: None)
        assert self.advice(None, None, LACKING, None) == []

    def test_a_gpu_without_tensorrt_gets_the_line_of_its_platform(self) -> None:
        assert self.advice(GPU, None, LACKING) == ["tensorrt is not installed. A line."]

    def test_a_gpu_that_nothing_reaches_gets_the_bindings_of_its_cuda(self) -> None:
        assert self.advice(GPU, NX, adapter=None) == ["nothing to reach CUDA through: pip install 'cuda-python==12.*'"]

    def test_an_old_jetpack_is_told_alone(self) -> None:
        (line,) = self.advice(None, replace(NX, l4t="35.4.1", jetpack="5"), LACKING, None)
        assert line.startswith("JetPack 5 has too old a Python: flash JetPack 6.2")

    def test_a_board_whose_gpu_is_hidden(self) -> None:
        (line,) = self.advice(None, NX)
        assert "--runtime nvidia" in line
        assert "sudo apt install nvidia-jetpack" in line

    def test_a_driver_without_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "read_driver_version", lambda: "580.142")
        assert "start it with --gpus all" in self.advice(None, None)[0]

    def test_a_card_without_a_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "read_driver_version", lambda: None)
        monkeypatch.setattr(doctor, "has_nvidia_card", lambda: True)
        assert "sudo ubuntu-drivers install" in self.advice(None, None)[0]

    def test_a_board_is_told_with_its_mode_and_clocks(self) -> None:
        report = examine()
        told = text(replace(report, machine=replace(report.machine, gpu=GPU, board=NX)))
        for part in (
            "GPU: Orin, compute capability 8.7, 8 multiprocessors, 15.3 GiB; driver 540.4.0, CUDA up to 12.6",
            "JetPack 6.1 or 6.2, L4T 36.4.3",
            "power: mode 25W, GPU clock not held (before measuring: sudo jetson_clocks)",
        ):
            assert part in told


@pytest.mark.parametrize(
    ("vendor", "kind", "is_card"),
    [("0x10de", "0x030000", True), ("0x10de", "0x040300", False), ("0x1002", "0x030000", False)],
)  # NVIDIA's display controller, its sound, another maker's card
def test_a_card_is_seen_on_the_bus_without_its_driver(tmp_path: Path, vendor: str, kind: str, is_card: bool) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")
    assert doctor.has_nvidia_card(tmp_path) is is_card


def test_the_command_ends_well_and_its_json_is_the_report() -> None:
    command = [sys.executable, "-m", "fcn_edge", "doctor"]
    people = subprocess.run(command, capture_output=True, text=True, check=True)
    machine = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    document = json.loads(machine.stdout)
    assert set(document) == {
        "version", "machine", "backends", "tensorrt", "adapter", "opencv", "video", "gstreamer", "cameras", "models",
        "advice",
    }  # fmt: skip
    assert document["machine"]["cpu"] in people.stdout
    assert (people.stderr, machine.stderr) == ("", "")
