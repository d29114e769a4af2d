"""What a Jetson says of its JetPack, power mode and clocks: texts and paths of boards, with where each was found.

No board was at hand: the texts were read, the commands that print them were not run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_edge.engine.board import Board, clocks_held, find_board, jetpack, parse_power_mode

MODES = {
    "NV Power Mode: 25W\n1\n": "25W",  # an Orin Nano with JetPack 6.2.1, in a public set-up log
    "NV Power Mode: MAXN\n0\n": "MAXN",  # an Orin in a public log of a robot
    # with --verbose, in another public log
    "NVPM VERB: parsing done for /etc/nvpmodel.conf\nNVPM VERB: Current mode: NV Power Mode: 25W\n1\n": "25W",
    "": None,
}


@pytest.mark.parametrize("text", MODES)
def test_the_power_mode(text: str) -> None:
    assert parse_power_mode(text) == MODES[text]


@pytest.mark.parametrize(
    ("l4t", "release"),
    [("32.7.1", "4"), ("35.4.1", "5"), ("36.3.0", "6.0"), ("36.4.3", "6.1 or 6.2"), ("36.5.0", "6.2.2"),
     ("38.2.0", "7.0"),
     ("38.4.0", "7.1"), ("39.2.1", "7.2"), ("99.0", None)],
)  # fmt: skip
def test_the_jetpack_of_a_release(l4t: str, release: str | None) -> None:
    assert jetpack(l4t) == release


@pytest.mark.parametrize("folder", ["17000000.gpu", "gpu-gpc-0"], ids=["Orin", "Thor"])
def test_clocks_are_held_where_the_least_is_the_greatest(tmp_path: Path, folder: str) -> None:
    device = tmp_path / "sys/class/devfreq" / folder
    device.mkdir(parents=True)
    (device / "max_freq").write_text("1300500000\n")
    for least, held in (("306000000\n", False), ("1300500000\n", True)):
        (device / "min_freq").write_text(least)
        assert clocks_held(tmp_path) is held


def test_a_kernel_that_does_not_tell_is_unknown(tmp_path: Path) -> None:
    assert clocks_held(tmp_path) is None


def test_a_pc_is_no_board(tmp_path: Path) -> None:
    assert find_board(tmp_path) is None


def test_a_board_is_told_as_far_as_it_tells(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R35 (release), REVISION: 4.1\n")
    board = find_board(tmp_path)
    assert board == Board(None, "35.4.1", "5", None, None)
    assert board is not None
    assert board.too_old
