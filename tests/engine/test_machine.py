"""What NVIDIA's driver and Jetson Linux tell of a machine: texts that boards print, with where each was found.

The driver's library itself was not run: no GPU. A stand-in answers in its place, with its own calling convention.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from fcn_edge.engine.machine import (
    Gpu,
    Jetson,
    arch,
    ask_driver,
    find_jetson,
    parse_driver_version,
    parse_l4t,
    targets,
    this_machine,
)
from fcn_edge.errors import BackendError, UsageError

R36 = """\
# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18 22:54:44 UTC 2025
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia
"""  # an Orin Nano with JetPack 6.2.1, in a public benchmark log of September 2026
R38 = (
    "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025\n# KERNEL_VARIANT: oot\n"
)  # an AGX Thor with JetPack 7.0, in a public set-up log
R39 = (
    "# R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 7 05:54:22 AM UTC 2026\n# KERNEL_VARIANT: oot\n"
)  # an Orin Nano with JetPack 7.2.1, in a public tutorial
DRIVERS = {  # /proc/driver/nvidia/version
    # an Orin with JetPack 6.2, as the tests of another project quote it
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  "
    "(buildbrain@mobile-u64-6336-d8000)  Tue Jan  7 17:35:12 PST 2025\n"
    "GCC version:  collect2: error: ld returned 1 exit status\n": "540.4.0",
    # PCs: the open module, and the closed one
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.142  Release Build  (dvs-builder@U22-I3-AD05-51-5)"
    "  Tue Mar  3 19:14:46 UTC 2026\nGCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04.1)\n": "580.142",
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  440.95.01  Thu May 28 07:03:08 UTC 2020\n": "440.95.01",
    "": None,
}
ORIN = "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"  # device tree of an Orin Nano
KNOWN = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")  # what TensorRT-RTX 1.7.1 can name


@pytest.mark.parametrize(
    ("text", "release"), [(R36, "36.4.7"), (R38, "38.2.0"), (R39, "39.2.1"), ("", None), ("# R (release)", None)]
)
def test_the_release_of_jetson_linux(text: str, release: str | None) -> None:
    assert parse_l4t(text) == release


@pytest.mark.parametrize("text", DRIVERS)
def test_the_release_of_the_driver(text: str) -> None:
    assert parse_driver_version(text) == DRIVERS[text]


def board(root: Path, release: str | None, model: str | None, compatible: str = ORIN) -> Path:
    (root / "etc").mkdir()
    (root / "proc/device-tree").mkdir(parents=True)
    if release:
        (root / "etc/nv_tegra_release").write_text(release)
    if model:
        (root / "proc/device-tree/model").write_text(f"{model}\0")
        (root / "proc/device-tree/compatible").write_text(compatible)
    return root


class TestJetson:
    def test_a_board_tells_its_model_and_its_release(self, tmp_path: Path) -> None:
        name = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
        assert find_jetson(board(tmp_path, R36, name)) == Jetson(name, "36.4.7")

    def test_a_container_may_hide_the_release(self, tmp_path: Path) -> None:
        assert find_jetson(board(tmp_path, None, "NVIDIA Jetson AGX Orin")) == Jetson("NVIDIA Jetson AGX Orin", None)

    def test_another_board_with_a_device_tree_is_no_jetson(self, tmp_path: Path) -> None:
        other = board(tmp_path, None, "Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b\0brcm,bcm2712\0")
        assert find_jetson(other) is None

    def test_a_pc_is_none(self, tmp_path: Path) -> None:
        assert find_jetson(board(tmp_path, None, None)) is None


def test_processors_have_one_name_on_every_system() -> None:
    assert [arch(name) for name in ("x86_64", "AMD64", "aarch64", "ARM64")] == [
        "x86_64",
        "x86_64",
        "aarch64",
        "aarch64",
    ]


class TestTargets:
    def test_all_but_turing_unless_it_is_named_or_this_gpus(self) -> None:
        assert targets(KNOWN) == KNOWN[1:]
        assert targets(KNOWN, gpu=Gpu("a card", "7.5", 40, 8 << 30, None, "13.0")) == KNOWN

    def test_named_ones_are_sorted_by_number_and_counted_once(self) -> None:
        assert targets(KNOWN, ["12.0", "8.9", "12.0"]) == ("8.9", "12.0")

    def test_orin_and_thor_are_none(self) -> None:
        with pytest.raises(UsageError, match=r"'8\.7'.*Known: "):
            targets(KNOWN, ["8.7"])


class StandInDriver:
    """Answers as libcuda.so.1 does: a status, and the value through a pointer."""

    def __init__(self, gpus: int = 1, status: int = 0) -> None:
        self.gpus, self.status = gpus, status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = 0
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"Orin"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        assert isinstance(memory._obj, ctypes.c_size_t)
        memory._obj.value = 16_405_700_608
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        value._obj.value = {16: 8, 75: 8, 76: 7}[which]
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0


def test_the_gpu_as_the_driver_tells_it() -> None:
    told = ask_driver(StandInDriver(), "540.4.0")
    assert told == Gpu("Orin", "8.7", 8, 16_405_700_608, "540.4.0", "12.6")


@pytest.mark.parametrize("driver", [StandInDriver(gpus=0), StandInDriver(status=100)], ids=["no GPU", "no device"])
def test_a_driver_without_a_gpu_is_no_error(driver: StandInDriver) -> None:
    assert ask_driver(driver, None) is None


def test_this_machine_has_the_version_of_the_product_that_is_here() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    assert this_machine("tensorrt-rtx").version == trt.__version__


def test_a_product_that_is_not_here_is_answered_with_its_install_line() -> None:
    with pytest.raises(BackendError, match="install"):
        this_machine("tensorrt")
