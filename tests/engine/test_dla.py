"""Where a DLA can serve: the table of TensorRT, JetPack and board, as logic. No board with one was at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fcn_edge.engine.dla import check_dla
from fcn_edge.engine.machine import Machine
from fcn_edge.engine.profiles import Profile
from fcn_edge.engine.versions import Trt
from fcn_edge.errors import BackendError

AGX = "NVIDIA Jetson AGX Orin Developer Kit"
NX = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
NANO = "NVIDIA Jetson Orin Nano Developer Kit"
THOR = "NVIDIA Jetson AGX Thor Developer Kit"
STATIC = [Profile((288, 512), (288, 512), (288, 512))]
HALF = {"fp16": 60, "fp32": 2}


class StandIn:
    """A module with what `Trt` looks at when it is made."""

    class ILogger:
        pass


def check(version: str, board: str | None, core: int = 0, profiles=STATIC, types=HALF, product="tensorrt") -> None:
    numbers = tuple(int(part) for part in version.split("."))
    module: Any = StandIn
    machine = Machine(product, version, "linux", "aarch64", None, board=board, l4t="36.4.3")
    check_dla(Trt(product, module, numbers), machine, core, profiles, types)


@pytest.mark.parametrize(
    ("version", "board", "core"),
    [("10.3.0", AGX, 0), ("10.3.0", AGX, 1), ("10.3.0", NX, 0), ("8.6.2", AGX, 0), ("11.4.1", AGX, 1)],
)
def test_it_serves_where_version_and_board_agree(version, board, core):
    check(version, board, core)


@pytest.mark.parametrize(
    ("version", "board", "reason"),
    [
        ("10.16.0", AGX, "TensorRT 10.16.0 does not serve it. It takes JetPack 6 with TensorRT 10.3"),
        ("10.13.3", THOR, "TensorRT 10.13.3 does not serve it"),
        ("11.3.0", AGX, "TensorRT 11.3.0 does not serve it"),
        ("11.4.0", AGX, "TensorRT 11.4.0 does not serve it"),
        ("11.4.1", NX, "TensorRT 11.4.1 serves it on AGX Orin alone"),
        ("10.3.0", NANO, "Orin Nano Developer Kit has none, only AGX Orin and Orin NX have"),
        ("11.4.1", THOR, "AGX Thor Developer Kit has none"),
        ("10.3.0", None, "this machine is no Jetson"),
    ],
)
def test_elsewhere_the_reason_is_told(version, board, reason):
    with pytest.raises(BackendError) as caught:
        check(version, board)
    assert str(caught.value).startswith("no DLA can serve here: ")
    assert reason in str(caught.value)


def test_tensorrt_rtx_has_none():
    with pytest.raises(BackendError, match="graphics cards alone"):
        check("1.7.1", AGX, product="tensorrt-rtx")


def test_a_core_that_the_board_has_not_is_refused():
    with pytest.raises(BackendError, match="has the cores 0 to 1, not 2"):
        check("10.3.0", AGX, core=2)


@pytest.mark.parametrize(
    "profiles",
    [[Profile((64, 64), (288, 512), (512, 512))], [*STATIC, replace(STATIC[0], opt=(512, 512))], STATIC * 2],
    ids=["dynamic", "another best", "two"],
)
def test_it_takes_one_static_shape(profiles):
    with pytest.raises(BackendError, match="it takes one static shape, and these were asked for: "):
        check("10.3.0", AGX, profiles=profiles)


def test_it_computes_no_fp32():
    with pytest.raises(BackendError, match="fcn-edge export --precision fp16"):
        check("10.3.0", AGX, types={"fp32": 66})
