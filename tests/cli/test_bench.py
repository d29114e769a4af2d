"""`fcn-edge bench`: the examples of its help as they stand, what it writes, and what it answers to what cannot be."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny import write_onnx

from fcn_edge.bench import matrix
from fcn_edge.bench.candidates import Named
from fcn_edge.bench.schema import read_report, write_report
from fcn_edge.cli import bench, main
from fcn_edge.cli.bench import EPILOG
from fcn_edge.spec import VOC_CLASSES

CAT, PERSON = VOC_CLASSES.index("cat"), VOC_CLASSES.index("person")
EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]
ENTRY = "from fcn_edge.cli.main import main; main()"
QUICK = ["--rounds", "2", "--runs", "2", "--seconds", "0.01", "--frame", "48x64", "--no-page"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, cat: Path, astronaut: Path) -> Path:
    """A folder with VOCdevkit/VOC2012 in it: two photos, and masks with the middle of what they show."""
    folder = tmp_path_factory.mktemp("home")
    root = folder / "VOCdevkit/VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for name, photo, index in (("cat", cat, CAT), ("astronaut", astronaut, PERSON)):
        (root / f"JPEGImages/{name}.jpg").write_bytes(photo.read_bytes())
        picture = cv2.imread(str(photo))
        assert picture is not None
        height, width = picture.shape[:2]
        mask = np.full((height, width), 255, np.uint8)
        mask[height // 3 : height * 2 // 3, width // 3 : width * 2 // 3] = index
        cv2.imwrite(str(root / f"SegmentationClass/{name}.png"), mask)
    (root / "ImageSets/Segmentation/val.txt").write_text("cat\nastronaut\n")
    return folder


@pytest.fixture(scope="module")
def examples(home: Path) -> list[subprocess.CompletedProcess[str]]:
    """The examples of the help, one after the other: the second is held against the first."""
    return [
        subprocess.run(
            [sys.executable, "-c", ENTRY, *shlex.split(example)[1:]],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        for example in EXAMPLES
    ]


def fcn_edge(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["fcn-edge", *arguments])
    with pytest.raises(SystemExit) as end:
        main.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_help_shows_two_examples() -> None:
    assert len(EXAMPLES) == 2


def test_the_first_example_measures_both_precisions(
    examples: list[subprocess.CompletedProcess[str]], home: Path
) -> None:
    done = examples[0]
    assert done.returncode == 0, done.stderr
    report = read_report(home / "bench")
    keys = [f"fcn8s-lite-small openvino {precision} 256" for precision in ("fp32", "int8")]
    assert [cell.key for cell in report.cells] == keys
    assert all(key in done.stdout for key in keys)
    float32, int8 = report.cells
    assert float32.bytes is not None
    assert int8.bytes is not None
    assert int8.bytes < float32.bytes / 2
    assert float32.accuracy[0].mean_iou > 0.6
    assert float32.accuracy[0].agreement is None
    assert 0.9 < (int8.accuracy[0].agreement or 0) < 1
    assert [name for name in report.data[0].classes if name == "cat"] == ["cat"]
    assert report.command == shlex.join(shlex.split(EXAMPLES[0]))
    assert float32.parameters is not None
    assert "\x1b" not in done.stdout + done.stderr


def test_the_second_example_is_the_same_in_accuracy_and_says_so_in_json(
    examples: list[subprocess.CompletedProcess[str]], home: Path
) -> None:
    done = examples[1]
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert [cell["key"] for cell in document["cells"]] == ["fcn8s-lite-small openvino int8 256"]
    assert document["regressions"] == []
    rows = {row["what"]: row for row in document["comparison"]["rows"]}
    assert rows["VOC2012:val"]["difference"] == 0
    assert "only in the base: fcn8s-lite-small openvino fp32 256" in done.stderr


def test_a_page_is_made_where_what_draws_it_is_there(
    examples: list[subprocess.CompletedProcess[str]], home: Path
) -> None:
    assert examples[0].returncode == 0
    for module in ("jinja2", "matplotlib", "plotly"):
        pytest.importorskip(module)
    assert (home / "bench/report.html").is_file()


def test_a_lost_point_of_mean_iou_is_a_regression(
    examples: list[subprocess.CompletedProcess[str]],
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The base is changed to have been a point better; nothing is measured again."""
    import msgspec

    assert examples[1].returncode == 0
    monkeypatch.chdir(home)
    report = read_report(Path("bench"))
    accuracy = report.cells[1].accuracy[0]
    better = msgspec.structs.replace(accuracy, mean_iou=accuracy.mean_iou + 0.01)
    cells = [report.cells[0], msgspec.structs.replace(report.cells[1], accuracy=[better])]
    write_report(msgspec.structs.replace(report, cells=cells), Path("better.json"))
    monkeypatch.setattr(matrix, "Worker", None)
    example = shlex.split(EXAMPLES[1].replace("--compare bench", "--compare better.json"))[1:]
    code, out, err = fcn_edge([*example, "--no-page"], capsys, monkeypatch)
    assert code == 1
    assert json.loads(out)["regressions"] == [
        "fcn8s-lite-small openvino int8 256: 1.00 points lost on VOC2012:val, 0.3 are allowed"
    ]
    assert "REGRESSION" in err


def test_a_failed_cell_is_told_in_the_table_and_by_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_onnx(tmp_path / "tiny.onnx")
    arguments = ["bench", "--models", str(model), "--backends", "onnxruntime", "--precisions", "bf16"]
    code, out, err = fcn_edge([*arguments, "--out", str(tmp_path / "out"), *QUICK], capsys, monkeypatch)
    assert code == 1
    assert "tiny.onnx onnxruntime bf16 32  failed" in out
    assert "1 of 1 cells failed" in out
    assert err == (
        "fcn-edge: tiny.onnx onnxruntime bf16 32: onnxruntime on this machine computes tiny.onnx in fp32, "
        "not in bf16.\n"
    )
    assert read_report(tmp_path / "out").failed[0].failed


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--models", "nothing"], 2, "no bundled model 'nothing'"),
        (["--models", "nowhere/model.onnx"], 1, "no such model file"),
        (["--models", ","], 2, "--models names nothing"),
        (["--models", "fcn8s-lite@big"], 2, "big is no size"),
        (["--backends", "cuda"], 2, "no backend 'cuda'"),
        (["--precisions", "fp8"], 2, "no precision 'fp8'"),
        (["--sizes", "12x"], 2, "12x is no size"),
        (["--frame", "720"], 2, "--frame 720 is no frame"),
        (["--spec", "nowhere.toml"], 1, "nowhere.toml: no such spec file"),
        (["--max-slowdown", "5%"], 2, "go with --compare"),
        (["--compare", "nowhere.json", "--max-slowdown", "slow"], 2, "--max-slowdown slow is no share"),
        (["--compare", "nowhere.json"], 1, "nowhere.json cannot be read"),
        (["--compare", "other.json"], 1, "other.json is no report of fcn-edge"),
        (["--data", "nowhere:val"], 1, "nowhere: there is no such folder"),
        (["--data", "VOCdevkit/VOC2012:nothing"], 1, "there is no list 'nothing'"),
        (["--project", "nowhere"], 2, "nowhere is no folder"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_before_anything_is_measured(
    arguments: list[str],
    status: int,
    says: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(home)
    Path("other.json").write_text('{"of": "somebody else"}')
    code, out, err = fcn_edge(["bench", "--out", "wrong", *arguments], capsys, monkeypatch)
    assert (code, out) == (status, "")
    assert says in err
    assert err.count("\n") == 1
    assert not list(Path("wrong").rglob("*-round-*"))


def test_a_folder_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = fcn_edge(["bench", "--out", str(tmp_path / "file" / "out")], capsys, monkeypatch)
    assert code == 1
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("fcn8s-lite", Named("fcn8s-lite")),
        ("fcn8s-lite@256", Named("fcn8s-lite", (256,))),
        ("peer.tflite@384x512", Named("peer.tflite", ((384, 512),))),
        ("peer.tflite@own", Named("peer.tflite", (None,))),
    ],
)
def test_a_size_after_a_model_is_its_own(word: str, named: Named) -> None:
    assert bench._named(word) == named


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("5", 0.05), ("0.5 %", 0.005), (None, None)])
def test_a_slowdown_is_given_in_percent(text: str | None, share: float | None) -> None:
    assert bench._share(text) == share


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_it_and_all_of_its_processes(tmp_path: Path) -> None:
    model = write_onnx(tmp_path / "tiny.onnx")
    command = [sys.executable, "-c", ENTRY, "bench", "--models", str(model), "--backends", "onnxruntime"]
    out = tmp_path / "out"
    started = subprocess.Popen([*command, "--rounds", "500", "--out", str(out)], start_new_session=True)
    try:
        while not list(out.rglob("*-round-*.json")):
            assert started.poll() is None
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 130
        with pytest.raises(ProcessLookupError):  # the group of a session that has nobody left
            os.killpg(started.pid, 0)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)


@pytest.mark.slow
def test_files_that_are_missing_are_exported_and_calibrated_on_the_way(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch", "onnxsim"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "VOCdevkit/VOC2012/JPEGImages", "photos")
    words = ["--models", "fcn8s-lite-small:untrained", "--backends", "onnxruntime,torch", "--precisions", "fp32,int8"]
    arguments = ["bench", *words, "--sizes", "64", "--calib", "photos", "--out", "out", *QUICK]
    code, _, _ = fcn_edge(arguments, capsys, monkeypatch)
    report = read_report(Path("out"))
    assert [(cell.backend, cell.precision, cell.failed is None) for cell in report.cells] == [
        ("onnxruntime", "fp32", True),
        ("onnxruntime", "int8", True),
        ("torch", "fp32", True),
        ("torch", "int8", False),
    ]
    assert code == 1
    assert not report.cells[0].trained
    made = sorted(Path("out/models").iterdir())
    assert sorted(path.suffix for path in made) == [".onnx", ".onnx", ".safetensors"]
    before = {path: path.stat().st_mtime_ns for path in made}
    monkeypatch.setattr(matrix, "Worker", None)  # nothing is measured again
    fcn_edge(arguments, capsys, monkeypatch)
    assert {path: path.stat().st_mtime_ns for path in Path("out/models").iterdir()} == before
