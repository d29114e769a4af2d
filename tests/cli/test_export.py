"""`fcn-edge export`: the examples of its help as they stand."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import onnxruntime
import pytest

from fcn_edge.cli.export import EPILOG
from fcn_edge.models.checkpoint import save_checkpoint, untrained

EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_writes_a_file_that_runs(example, tmp_path):
    (tmp_path / "runs/fcn8s-lite").mkdir(parents=True)
    save_checkpoint(tmp_path / "runs/fcn8s-lite/fcn8s-lite.safetensors", *untrained("fcn8s-lite"))
    command = [sys.executable, "-m", "fcn_edge", *shlex.split(example)[1:], "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert len(document["parity"]) == 5
    assert "UNTRAINED" in done.stderr
    onnxruntime.InferenceSession(str(tmp_path / document["path"]))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--weights", "gone.safetensors"], 1, "no such weights file"),
        (["--variant", "fcn9s"], 2, "Known: fcn8s-lite"),
        (["--output", "boxes"], 2, "labels, scores"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, status, said, tmp_path):
    command = [sys.executable, "-m", "fcn_edge", "export", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_measured_figures_travel_in_the_file(tmp_path):
    (tmp_path / "figures.json").write_text('{"val": {"mean_iou": 0.5}}')
    command = [sys.executable, "-m", "fcn_edge", "export", "--quality", "figures.json", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["spec"]["quality"] == {"val": {"mean_iou": 0.5}}
