"""`fcn-edge run --resize tiles` on pictures, and tiles where other commands take them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from tiny import random_frames, scores_of, write_onnx

from fcn_edge.cli import main
from fcn_edge.data.reading import read_mask

MODEL = ("--model", "tiny.onnx", "--backend", "onnxruntime", "--precision", "fp32")
TILES = (*MODEL, "--resize", "tiles", "--size", "144")


class Shown(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shown]:
    """`fcn-edge run`, in this process, in a folder with the tiny model, on a machine without a display."""
    write_onnx(tmp_path / "tiny.onnx")
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)

    def run_(*arguments: str | Path) -> Shown:
        monkeypatch.setattr(sys, "argv", ["fcn-edge", "run", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.main()
        out, err = capsys.readouterr()
        return Shown(int(end.value.code or 0), out, err)

    return run_


def save(path: Path, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    path.parent.mkdir(exist_ok=True)
    frame = random_frames(*size, 3, seed=seed)
    cv2.imwrite(str(path), frame)
    return scores_of(frame[None]).argmax(1)[0]


def test_a_folder_of_pictures_becomes_masks_and_figures(run, tmp_path):
    expected = {name: save(tmp_path / "in" / f"{name}.png", (300, 200 + seed), seed) for seed, name in enumerate("ab")}
    shown = run("--source", "in", "--labels", "masks", "--json", *TILES)
    assert shown.status == 0, shown.err
    document = json.loads(shown.out)
    assert [picture["outputs"] for picture in document["pictures"]] == [["masks/a.png"], ["masks/b.png"]]
    assert (document["resize"], document["tile"], document["receptive_field"]) == ("tiles", [144, 144], 1)
    for name, labels in expected.items():
        np.testing.assert_array_equal(read_mask(tmp_path / "masks" / f"{name}.png"), labels)


def test_a_broken_picture_costs_only_itself(run, tmp_path):
    save(tmp_path / "in" / "a.png", (300, 200))
    (tmp_path / "in" / "b.png").write_bytes(b"broken")
    shown = run("--source", "in", "--labels", "masks", *TILES)
    assert shown.status == 1
    assert "b.png: is not a picture" in shown.err
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.png"]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(run, tmp_path):
    expected = save(tmp_path / "giant.png", (2400, 1600))
    arguments = ("run", "--source", "giant.png", "--labels", "giant.labels.png", *TILES)
    kept = tmp_path / ".giant.labels.png.part"
    command = [sys.executable, "-m", "fcn_edge", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
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
    assert shown.status == 0, shown.err
    assert json.loads(shown.out)["pictures"][0]["kept"] >= 2
    np.testing.assert_array_equal(read_mask(tmp_path / "giant.labels.png"), expected)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--labels", "masks", "--heat", "red"), "--heat: not with --resize tiles"),
        (("--labels", "masks", "--refine", "guided"), "--refine: not with --resize tiles"),
        (("--labels", "masks", "--skip", "2", "--capture", "flip=180"), "--skip, --capture: not with --resize tiles"),
        ((), "nothing to write is named"),
        (("--out", "a.jpg"), "as .tif, .tiff, .png can be"),
        (("--labels", "x.png", "--out", "x.png"), "is named for labels and for the overlay"),
    ],
)
def test_what_tiles_cannot_do_is_refused_in_one_line(run, tmp_path, arguments, line):
    save(tmp_path / "a.png", (200, 200))
    shown = run("--source", "a.png", *arguments, *TILES)
    assert (shown.status, shown.err.count("\n")) == (2, 1)
    assert line in shown.err


def test_tiles_that_are_too_small_are_refused_before_anything_is_read(run, tmp_path):
    save(tmp_path / "a.png", (200, 200))
    shown = run("--source", "a.png", "--labels", "masks", *TILES[:-1], "64")
    assert (shown.status, shown.err.count("\n")) == (2, 1)
    assert "a tile has at least" in shown.err


def test_the_source_and_its_folder_are_no_outputs(run, tmp_path):
    save(tmp_path / "in" / "a.png", (200, 200))
    assert "is the source" in run("--source", "in/a.png", "--labels", "in/a.png", *TILES).err
    assert "is the folder of the source" in run("--source", "in/a.png", "--labels", "in", *TILES).err


def test_a_video_goes_through_tiles_on_the_ordinary_way(run, tmp_path):
    shown = run("--source", "demo:#size=160x160", "--frames", "2", "--labels", "masks", *TILES)
    assert shown.status == 0, shown.err
    assert len(list((tmp_path / "masks").iterdir())) == 2
