"""`fcn-edge run --resize tiles` on pictures, and tiles where other commands take them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import random_frames, scores_of, write_onnx

from fcn_edge.data.reading import read_mask

FCN_EDGE = [sys.executable, "-m", "fcn_edge.cli.main"]
MODEL = ("--model", "tiny.onnx", "--backend", "onnxruntime", "--precision", "fp32")
TILES = (*MODEL, "--resize", "tiles", "--size", "144")
NO_DISPLAY = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}


@pytest.fixture
def run(tmp_path: Path):
    """`fcn-edge run` in a folder with the tiny model."""
    write_onnx(tmp_path / "tiny.onnx")

    def run_(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*FCN_EDGE, "run", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=NO_DISPLAY, capture_output=True, text=True)

    return run_


def save(path: Path, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    path.parent.mkdir(exist_ok=True)
    frame = random_frames(*size, 3, seed=seed)
    cv2.imwrite(str(path), frame)
    return scores_of(frame[None]).argmax(1)[0]


def test_a_folder_of_pictures_becomes_masks_and_figures(run, tmp_path):
    expected = {name: save(tmp_path / "in" / f"{name}.png", (300, 200 + seed), seed) for seed, name in enumerate("ab")}
    shown = run("--source", "in", "--labels", "masks", "--json", *TILES)
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert [picture["outputs"] for picture in document["pictures"]] == [["masks/a.png"], ["masks/b.png"]]
    assert (document["resize"], document["tile"], document["receptive_field"]) == ("tiles", [144, 144], 1)
    for name, labels in expected.items():
        np.testing.assert_array_equal(read_mask(tmp_path / "masks" / f"{name}.png"), labels)


def test_a_broken_picture_costs_only_itself(run, tmp_path):
    save(tmp_path / "in" / "a.png", (300, 200))
    (tmp_path / "in" / "b.png").write_bytes(b"broken")
    shown = run("--source", "in", "--labels", "masks", *TILES)
    assert shown.returncode == 1
    assert "b.png: is not a picture" in shown.stderr
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.png"]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(run, tmp_path):
    expected = save(tmp_path / "giant.png", (2400, 1600))
    arguments = ("run", "--source", "giant.png", "--labels", "giant.labels.png", *TILES)
    kept = tmp_path / ".giant.labels.png.part"
    process = subprocess.Popen([*FCN_EDGE, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if list(kept.glob("00002.npz")) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "strips are kept, and the same command goes on from there" in told
    assert not (tmp_path / "giant.labels.png").exists()
    shown = run(*arguments[1:], "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["pictures"][0]["kept"] >= 2
    np.testing.assert_array_equal(read_mask(tmp_path / "giant.labels.png"), expected)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--labels", "masks", "--heat", "red"), "--heat: not with --resize tiles"),
        (("--labels", "masks", "--refine", "guided"), "--refine: not with --resize tiles"),
        ((), "nothing to write is named"),
        (("--out", "a.jpg"), "as .tif, .tiff, .png can be"),
        (("--labels", "x.png", "--out", "x.png"), "is named for labels and for the overlay"),
    ],
)
def test_what_tiles_cannot_do_is_refused_in_one_line(run, tmp_path, arguments, line):
    save(tmp_path / "a.png", (200, 200))
    shown = run("--source", "a.png", *arguments, *TILES)
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1)
    assert line in shown.stderr


def test_tiles_that_are_too_small_are_refused_before_anything_is_read(run, tmp_path):
    save(tmp_path / "a.png", (200, 200))
    shown = run("--source", "a.png", "--labels", "masks", *TILES[:-1], "64")
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1)
    assert "a tile has at least" in shown.stderr


def test_the_source_and_its_folder_are_no_outputs(run, tmp_path):
    save(tmp_path / "in" / "a.png", (200, 200))
    assert "is the source" in run("--source", "in/a.png", "--labels", "in/a.png", *TILES).stderr
    assert "is the folder of the source" in run("--source", "in/a.png", "--labels", "in", *TILES).stderr


def test_a_video_goes_through_tiles_on_the_ordinary_way(run, tmp_path):
    shown = run("--source", "demo:#size=160x160", "--frames", "2", "--labels", "masks", *TILES)
    assert shown.returncode == 0, shown.stderr
    assert len(list((tmp_path / "masks").iterdir())) == 2
