from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tiny import write_onnx

FCN_EDGE = [sys.executable, "-m", "fcn_edge.cli.main"]
NO_DISPLAY = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}


@pytest.fixture
def run(tmp_path):
    """`fcn-edge run` in an empty folder, on a machine without a display."""

    def run_(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*FCN_EDGE, "run", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=NO_DISPLAY, capture_output=True, text=True)

    return run_


def pixels(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_photo_becomes_an_overlay_a_mask_and_figures(run, cat, tmp_path):
    shown = run("--source", cat, "--out", "a.png", "--labels", "masks", "--stats", "s.jsonl", "--json", "--size", "257")

    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert (document["frames"], document["skipped"], document["problems"]) == (1, 0, [])
    assert document["network_sizes"] == [[161, 257]]
    assert document["trained"] is True
    assert "1 frame of" in shown.stderr
    assert pixels(tmp_path / "a.png").shape == pixels(cat).shape
    assert pixels(tmp_path / "masks" / "cat.png").shape == pixels(cat).shape
    header, frame, summary = map(json.loads, (tmp_path / "s.jsonl").read_text().splitlines())
    assert header["model"] == "fcn8s-lite"
    assert frame["classes"]["cat"] > 0.2
    assert summary["summary"] == document


def test_only_the_classes_asked_for_are_shown(run, cat, tmp_path):
    shown = run("--source", cat, "--labels", "masks", "--classes", "dog,person", "--stats", "s.jsonl")
    assert shown.returncode == 0, shown.stderr
    frame = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[1])
    assert "cat" not in frame["classes"]


def test_a_picture_too_large_for_native_is_skipped_among_others(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, side in (("a.png", 65), ("b.png", 5000), ("c.png", 65)):
        cv2.imwrite(str(folder / name), np.zeros((side, side, 3), np.uint8))
    shown = run("--source", folder, "--labels", "masks", "--resize", "native", "--json")
    assert shown.returncode == 1
    document = json.loads(shown.stdout)
    assert (document["frames"], document["skipped"]) == (2, 1)
    assert "24,000,000" in shown.stderr
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.png", "c.png"]


def test_a_sources_broken_part_is_named_counted_and_costs_only_itself(run, cat, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "c.jpg"):
        shutil.copy(cat, folder / name)
    (folder / "b.jpg").write_bytes(cat.read_bytes()[:5000])

    shown = run("--source", folder, "--out", "out", "--size", "65")

    assert shown.returncode == 1
    assert "b.jpg: is not a picture" in shown.stderr
    assert "1 skipped" in shown.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "c.jpg"]


THEIRS = """
name = "theirs"
classes = ["dark", "blue", "green", "red"]
size = 64
stride = 8
"""


def test_a_file_from_elsewhere_runs_by_its_description(run, cat, tmp_path):
    write_onnx(tmp_path / "theirs.onnx", None)
    (tmp_path / "theirs.toml").write_text(THEIRS)
    model = ("--model", "theirs.onnx", "--spec", "theirs.toml")
    shown = run(*model, "--source", cat, "--labels", "masks", "--json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert (document["model"], document["trained"]) == ("theirs", True)
    assert "UNTRAINED" not in shown.stderr
    without = run(*model[:2], "--source", cat, "--labels", "masks", "--force")
    assert (without.returncode, without.stderr.count("\n")) == (1, 1)
    assert "--spec FILE" in without.stderr


def test_untrained_weights_are_told_of_in_every_output(run, cat, tmp_path):
    write_onnx(tmp_path / "theirs.onnx", None)
    model = ("--model", "theirs.onnx", "--spec", "theirs.toml", "--source", cat, "--force", "--no-legend")
    pictures = {}
    for trained in ("true", "false"):
        (tmp_path / "theirs.toml").write_text(f"trained = {trained}\n{THEIRS}")
        shown = run(*model, "--out", f"{trained}.png", "--stats", "s.jsonl", "--json")
        assert shown.returncode == 0, shown.stderr
        pictures[trained] = pixels(tmp_path / f"{trained}.png")
    assert json.loads(shown.stdout)["trained"] is False
    assert "UNTRAINED weights: the labels mean nothing" in shown.stderr
    header, _, summary = map(json.loads, (tmp_path / "s.jsonl").read_text().splitlines())
    assert header["trained"] is summary["summary"]["trained"] is False
    assert b"UNTRAINED" in (tmp_path / "false.png").read_bytes()
    assert b"UNTRAINED" not in (tmp_path / "true.png").read_bytes()
    changed = np.argwhere((pictures["true"] != pictures["false"]).any(axis=2))
    assert len(changed)
    assert changed[:, 0].max() < 30, "words in the top corner, and nothing else"


@pytest.mark.parametrize(
    ("number", "status", "source"), [(signal.SIGINT, 130, "demo:"), (signal.SIGTERM, 143, "demo:#live,size=72x128")]
)
def test_a_signal_ends_with_a_playable_file_and_a_summary(tmp_path, number, status, source):
    command = [*FCN_EDGE, "run", "--source", source, "--out", "a.mp4", "--size", "65", "--stats", "s.jsonl"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not any(path.read_bytes().count(b"\n") > 3 for path in tmp_path.glob("s*.jsonl")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert process.returncode == status, err
    assert f"ended early by {number.name}" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "s.jsonl"]
    summary = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[-1])["summary"]
    assert summary["interrupted"] == number.name
    assert frames_in(tmp_path / "a.mp4") == summary["deliveries"][0]["written"] > 0


def test_several_sources_have_outputs_of_their_own_and_one_that_breaks_costs_no_other(run, cat, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(cat, folder)
    (folder / "broken.jpg").write_bytes(cat.read_bytes()[:5000])
    sources = ("--source", "demo:#size=72x128", "--source", folder, "--source", "demo:#size=96x64")
    shown = run(
        *sources, "--out", "a.mp4", "--labels", "m", "--stats", "s.jsonl", "--frames", 12, "--size", "65", "--json"
    )

    assert shown.returncode == 1
    assert "broken.jpg: is not a picture" in shown.stderr
    document = json.loads(shown.stdout)
    assert [each["frames"] for each in document["sources"]] == [12, 1, 12]
    assert (document["frames"], document["skipped"]) == (25, 1)
    assert [frames_in(tmp_path / f"a-{number}.mp4") for number in (1, 2, 3)] == [12, 1, 12]
    assert [len(list((tmp_path / f"m-{number}").iterdir())) for number in (1, 2, 3)] == [12, 1, 12]
    assert pixels(next((tmp_path / "m-3").iterdir())).shape == (96, 64, 3)
    lines = [json.loads(line) for line in (tmp_path / "s-3.jsonl").read_text().splitlines()]
    assert lines[-1]["summary"]["frames"] == 12


def test_what_a_live_source_gave_is_counted_and_timed(run, tmp_path):
    live = ("--source", "demo:#live,size=72x128,rate=60", "--frames", 15, "--size", "65")
    shown = run(*live, "--out", "a.mkv", "--stats", "s.jsonl", "--skip", 1, "--max-fps", 20, "--json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    _, *lines, _ = map(json.loads, (tmp_path / "s.jsonl").read_text().splitlines())
    assert frames_in(tmp_path / "a.mkv") == document["deliveries"][0]["written"] <= document["frames"]
    numbers = [line["frame"] for line in lines]
    assert len(numbers) + document["deliveries"][1]["lost"] == document["frames"] == 15
    assert all(after - before > 1 for before, after in pairwise(numbers))
    assert 0 < document["age_ms"]["p50"] <= document["age_ms"]["p95"] <= document["age_ms"]["max"]
    assert document["left_out"] > 0
    assert "ms from capture to written" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "name an input"),
        (["--source", "demo:", "--out", "a.mp4", "--out", "a.mp4"], 2, "named twice"),
        (["--source", "demo:", "--out", "a.mp4", "--capture", "size=huge"], 2, "size=huge"),
        (["--source", "demo:", "--out", "a.mp4", "--segment", "often"], 2, "--segment often"),
        (["--source", "demo:", "--out", "a.mp4", "--source", "nowhere"], 1, "no such file"),
        (["--source", "demo:"], 2, "Add --out"),
        (["--source", "demo:", "--out", "a.xyz"], 2, ".xyz is neither"),
        (["--source", "demo:", "--out", "a.png"], 2, "Name a folder"),
        (["--source", "demo:", "--out", "a.mp4", "--size", "big"], 2, "--size big"),
        (["--source", "demo:", "--out", "a.mp4", "--backend", "abacus"], 2, "openvino"),
        (["--source", "demo:", "--out", "a.mp4", "--classes", "unicorn"], 2, "person"),
        (["--source", "demo:", "--out", "a.mp4", "--model", "fcn99"], 2, "fcn8s-lite"),
        (["--source", "nowhere", "--out", "a.mp4"], 1, "no such file"),
        (["--camera", "97", "--out", "a.mp4"], 1, "no such camera"),
        (["--source", "demo:", "--out", "/dev/null/a.mp4"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(run, tmp_path, arguments, status, words):
    shown = run(*arguments)
    assert shown.returncode == status
    assert shown.stdout == ""
    assert shown.stderr.startswith("fcn-edge: ")
    assert shown.stderr.count("\n") == 1
    assert words in shown.stderr
    assert not list(tmp_path.iterdir())


def test_the_source_is_never_overwritten(run, cat, tmp_path):
    shutil.copy(cat, tmp_path / "cat.png")
    before = (tmp_path / "cat.png").read_bytes()
    for arguments in (("--out", "cat.png"), ("--labels", ".")):
        shown = run("--source", "cat.png", *arguments, "--force")
        assert shown.returncode == 1
        assert "source" in shown.stderr
    assert (tmp_path / "cat.png").read_bytes() == before


def test_the_examples_in_the_help_work_as_they_stand(run, cat, astronaut, tmp_path):
    (tmp_path / "photos").mkdir()
    for photo in (cat, astronaut):
        shutil.copy(photo, tmp_path / "photos")
    shown = run("--help").stdout
    examples = [line.strip() for line in shown.partition("Examples:")[2].splitlines() if line.strip()]

    assert len(examples) == 2
    for example in examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("fcn-edge", "run")
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
    assert frames_in(tmp_path / "demo.mp4") == 90
    assert len(list((tmp_path / "masks").iterdir())) == 2


def test_an_engine_that_cannot_run_here_is_told_in_one_line(tmp_path, cat):
    papers = pytest.importorskip("plans")
    plan, _ = papers.write(tmp_path, papers.RTX_CARD)
    hidden = {**NO_DISPLAY, "CUDA_VISIBLE_DEVICES": "-1"}

    def told(*options: str | Path) -> str:
        command = [*FCN_EDGE, "run", "--source", cat, "--out", "a.png", *options]
        shown = subprocess.run(list(map(str, command)), cwd=tmp_path, env=hidden, capture_output=True, text=True)
        assert (shown.returncode, shown.stdout) == (1, "")
        assert not (tmp_path / "a.png").exists()
        return shown.stderr

    assert "needs an NVIDIA GPU, and CUDA shows none here" in told("--model", plan)
    assert "needs an NVIDIA GPU, and CUDA shows none here" in told("--backend", "tensorrt-rtx")
    assert "is an engine of tensorrt-rtx, not of tensorrt" in told("--model", plan, "--backend", "tensorrt")
    plan.with_name(f"{plan.name}.json").unlink()
    assert f"has no {plan.name}.json beside it" in told("--model", plan)
