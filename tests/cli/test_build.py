"""`fcn-edge build`: the examples of its help as they stand, and one line for everything that is wrong."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from fcn_edge.cli.build import EPILOG
from fcn_edge.engine import sidecar
from fcn_edge.resources import PACKAGE

EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]
RTX = ["--backend", "tensorrt-rtx", "--targets", "8.9"]
SIZE_LIMITED = """
import resource, signal, sys
from fcn_edge.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the limit kills
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
main()
"""


def run(folder: Path, *arguments: str, code: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fcn-edge build` in `folder`, whose pycache the limited ones cannot write anyway."""
    start = ["-m", "fcn_edge"] if code is None else ["-B", "-c", code]
    command = [sys.executable, *start, "build", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line that a failed command ends in; what it said before is no error and none is half a traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("fcn-edge: ")]
    assert len(errors) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == errors[0]
    assert "Traceback" not in done.stderr
    return errors[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a file of one layer that builds at once, and what is no such file."""
    for part in ("export", "engines", "calib"):
        (tmp_path / part).mkdir()
    tiny.write_onnx(tmp_path / "tiny.onnx")
    whole = (tmp_path / "tiny.onnx").read_bytes()
    (tmp_path / "text.onnx").write_text("this is no model\n")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    tiny.write_onnx(tmp_path / "bare.onnx", None)
    tiny.write_onnx(tmp_path / "half.onnx", replace(tiny.SPEC, precision="fp16"))
    (tmp_path / "mine.toml").write_text('about = "mine"\nbackend = "tensorrt-rtx"\nturbo = true\n')
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_builds_an_engine(example, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    for part in ("export", "engines", "calib"):
        (tmp_path / part).mkdir()
    shutil.copy(PACKAGE / "weights" / "fcn8s-lite.onnx", tmp_path / "export")
    done = run(tmp_path, *shlex.split(example)[2:], *RTX[2:])
    assert done.returncode == 0, done.stderr
    (plan,) = tmp_path.glob("engines/*.plan")
    assert sidecar.read(plan).spec.name == "fcn8s-lite"
    assert "288x512 becomes 289x513: fcn8s-lite takes sides of k*32+1" in done.stderr
    if "--json" in example:
        document = json.loads(done.stdout)
        assert document["path"] == f"engines/{plan.name}"
        assert document["sidecar"]["precision"]["network"] == {"fp32": 66}
        assert document["sidecar"]["rebuild"] == f"{example.removesuffix(' --json')} --targets 8.9"
    else:
        assert f"engines/{plan.name}: " in done.stdout
        assert "66 layers in fp32: of the " in done.stdout


def test_a_second_build_says_that_it_is_there(folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    assert run(folder, "tiny.onnx", *RTX).returncode == 0
    again = run(folder, "tiny.onnx", *RTX)
    assert "there already" in again.stdout
    other = run(folder, "tiny.onnx", *RTX, "--shapes", "64x32")
    assert "(profiles " in other.stdout
    assert " -> 64x32)" in other.stdout
    assert len(list(folder.glob("engines/*.plan"))) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["text.onnx", *RTX], 1, "text.onnx is not an ONNX file, or is damaged. Copy it again, or export it anew"),
        (["empty.onnx", *RTX], 1, "empty.onnx is not an ONNX file, or is damaged"),
        (["cut.onnx", *RTX], 1, "cut.onnx is not an ONNX file, or is damaged"),
        (["gone.onnx", *RTX], 1, "gone.onnx: no such model file"),
        (["export", *RTX], 1, "export is a folder. Name the model file in it"),
        (["mine.toml", *RTX], 2, "fcn-edge build takes ONNX files"),
        (["fcn9s", *RTX], 2, "no bundled model 'fcn9s'. Known: fcn8s-lite"),
        (["bare.onnx", *RTX], 1, "bare.onnx does not say what its classes and its input are"),
        (["half.onnx", *RTX], 1, "half.onnx says that it is fp16, and its multiplying layers are not: 1 fp32"),
        (["tiny.onnx", *RTX, "--min", "64x64", "--opt", "64x64", "--max", "32x32"], 2, "Put them in that order"),
        (["tiny.onnx", *RTX, "--min", "64x64"], 2, "--min, --opt and --max go together"),
        (["tiny.onnx", *RTX, "--shapes", "64"], 2, "64 is no network size. Give rows by columns"),
        (["tiny.onnx", *RTX, "--shapes", "0x64"], 2, "0x64 is no network size"),
        (["tiny.onnx", *RTX, "--shapes", ""], 2, "'' is no network size"),
        (["tiny.onnx", *RTX, "--profile", "orin"], 2, "no device profile 'orin'. Known: agx-orin, data-centre, orin-"),
        (["tiny.onnx", *RTX, "--profile", "orin-nx"], 2, "that profile is for --backend tensorrt, not tensorrt-rtx"),
        (["tiny.onnx", *RTX, "--profile", "mine.toml"], 1, "mine.toml is no device profile: Object contains unknown"),
        (["tiny.onnx", *RTX, "--profile", "no.toml"], 1, "no.toml: no such device profile"),
        (["tiny.onnx", *RTX, "--level", "7"], 2, "the command line: builder optimisation levels are 0 to 5, not 7"),
        (["tiny.onnx", *RTX, "--workspace", "0"], 2, "a workspace of 0 MiB is none"),
        (["tiny.onnx", *RTX, "--dla-core", "0"], 1, "no DLA can serve here: TensorRT-RTX is for graphics cards alone"),
        (["tiny.onnx", *RTX, "--version-compatible"], 1, "TensorRT-RTX has no hardware or version compatibility"),
        (["tiny.onnx", *RTX, "--hardware-compatible", "all"], 2, "no hardware compatibility 'all'"),
        (["tiny.onnx", *RTX[:2], "--targets", "8.7"], 2, "no compute capability of TensorRT-RTX '8.7'"),
        (["tiny.onnx", "--backend", "openvino"], 2, "Known: auto, tensorrt, tensorrt-rtx"),
        (["tiny.onnx", *RTX, "--out", "/proc/nowhere"], 1, "/proc/nowhere: cannot be written"),
        (["tiny.onnx", *RTX, "--out", "tiny.onnx"], 1, "tiny.onnx: cannot be written"),
        (["tiny.onnx", *RTX, "--project", "nowhere"], 2, "--project nowhere is no folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(arguments, status, said, folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    before = sorted(folder.rglob("*"))
    done = run(folder, *arguments)
    assert done.returncode == status, done.stderr
    assert said in one_line(done)
    assert sorted(folder.rglob("*")) == before


def test_without_tensorrt_the_line_installs_it(folder):
    (folder / "empty" / "tensorrt").mkdir(parents=True)  # what a package of stubs leaves behind
    done = run(folder, "tiny.onnx", "--backend", "tensorrt", PYTHONPATH=f"{folder / 'empty'}:{PACKAGE.parent}")
    assert done.returncode == 1
    assert "TensorRT is an empty package here: tensorrt holds no Builder" in one_line(done)


def test_a_disk_without_room_leaves_nothing(folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    done = run(folder, "tiny.onnx", *RTX, "--shapes", "32x32", code=SIZE_LIMITED)
    assert done.returncode == 1, done.stderr
    assert "cannot be written: File too large" in one_line(done)
    assert list(folder.glob("engines/*")) == []


def test_ctrl_c_ends_a_build_and_leaves_nothing(folder):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    command = [sys.executable, "-m", "fcn_edge", "build", *RTX]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as child:
        for _ in range(3000):
            if list(folder.glob("engines/.*.part")) or child.poll() is not None:
                break
            time.sleep(0.02)
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert list(folder.glob("engines/*")) == []
    assert list(folder.glob("engines/.*")) == []
