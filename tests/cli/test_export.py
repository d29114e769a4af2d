"""`fcn-edge export`: the examples of its help as they stand."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys

import onnxruntime
import pytest
import torch
from loopback import serving, whole

from fcn_edge.cli.export import EPILOG
from fcn_edge.models.checkpoint import save_checkpoint, untrained
from fcn_edge.resources import demo_photos

INT8 = ["--precision", "int8", "--calib", "photos"]
EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_writes_a_file_that_runs(example, tmp_path):
    (tmp_path / "runs/fcn8s-lite").mkdir(parents=True)
    save_checkpoint(tmp_path / "runs/fcn8s-lite/fcn8s-lite.safetensors", *untrained("fcn8s-lite"))
    shutil.copytree(demo_photos()[0].parent, tmp_path / "photos", ignore=shutil.ignore_patterns("*.md"))
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
        (["--variant", "fcn9s"], 2, "there is no variant 'fcn9s'. Known: deconvnet, "),
        (["--output", "boxes"], 2, "labels, probabilities, scores"),
        (["--padding", "big"], 2, "paper, same"),
        (["--variant", "fcn-alexnet-owt"], 1, "--weights alexnet --data ...; or --weights untrained"),
        (["--out", "/proc/nowhere/x.onnx"], 1, "/proc/nowhere/x.onnx: cannot be written"),
        (["--project", "nowhere"], 2, "--project nowhere is no folder"),
        (["--precision", "half"], 2, "there is no precision 'half'. Known: fp16, fp32, int8"),
        (["--precision", "int8"], 2, "--precision int8 needs pictures to calibrate with: --calib SET"),
        (["--calib", "photos"], 2, "--calib goes with --precision int8 alone."),
        ([*INT8, "--remainder", "bf16"], 2, "there is no remainder 'bf16'. Known: fp16, fp32"),
        ([*INT8, "--percentile", "99"], 2, "--percentile goes with --method percentile."),
        (
            [*INT8, "--method", "max"],
            2,
            "there is no calibration method 'max'. Known: entropy, minmax, mse, percentile",
        ),
        ([*INT8, "--max-drop", "0.5"], 2, "--max-drop is measured on labelled pictures: name them"),
        ([*INT8, "--max-drop", "0"], 2, "--max-drop is measured on labelled pictures: name them"),
        (INT8, 1, "photos: there is no such calibration set or folder."),
        (["--precision", "int8", "--calib", "voc2012"], 2, "--data"),
        (["--input", "rgb"], 2, "Known: frame, normalised, planar"),
        (["--triton", "a", "--deepstream", "b"], 2, "Name one at a time."),
        (["--triton", "a", "--out", "b.onnx"], 2, "--triton names the folder, so drop --out."),
        (["--deepstream", "a", "--input", "frame"], 2, "DeepStream feeds float planes, not frames"),
        (["--deepstream", "a", "--output", "labels"], 2, "labels are not made for: drop --output."),
        (["--deepstream", "a", "--size", "big"], 2, "--size big is no size"),
        (["--size", "513"], 2, "--size goes with --deepstream and --precision int8 alone."),
        (["--triton", "/proc/nowhere"], 1, "cannot be written"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, status, said, tmp_path):
    command = [sys.executable, "-m", "fcn_edge", "export", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status
    assert said in done.stderr
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.startswith("fcn-edge: ")]) == 1
    assert all("weights from" in line for line in lines[:-1])
    assert not list(tmp_path.iterdir())


def test_the_bundled_weights_are_exported_into_the_project_with_the_figures_that_were_named(tmp_path):
    for name in ("export", "engines", "calib", "below"):
        (tmp_path / name).mkdir()
    (tmp_path / "below/figures.json").write_text('{"val": {"mean_iou": 0.5}}')
    command = [sys.executable, "-m", "fcn_edge", "export", "--quality", "figures.json", "--json"]
    done = subprocess.run(command, cwd=tmp_path / "below", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["weights"]["origin"] == "bundled"
    assert document["spec"]["trained"] is True
    assert document["spec"]["quality"] == {"val": {"mean_iou": 0.5}}
    assert document["path"] == str(tmp_path / "export/fcn8s-lite.onnx")
    assert (tmp_path / "export/fcn8s-lite.onnx").is_file()


def test_deepstream_gets_a_model_its_configuration_and_its_labels_and_none_of_them_is_replaced_unasked(tmp_path):
    weights = ["--variant", "fcn32s-lite", "--weights", "untrained", "--precision", "fp16"]
    command = [sys.executable, "-m", "fcn_edge", "export", *weights, "--deepstream", "ds", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    names = {"fcn32s-lite.fp16.onnx", "config_infer_fcn32s-lite.fp16.txt", "labels_fcn32s-lite.fp16.txt"}
    assert {path.name for path in (tmp_path / "ds").iterdir()} == names
    assert {document["path"], *document["serving"]} == {f"ds/{name}" for name in names}
    assert document["spec"]["precision"] == "fp16"
    assert document["float32"] == document["spec"]["provenance"]["float32"]
    assert "  in float32: normalisation (" in done.stderr
    (tmp_path / "ds/fcn32s-lite.fp16.onnx").unlink()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 1
    assert "ds/config_infer_fcn32s-lite.fp16.txt is there already." in again.stderr


AS_PUBLISHED = """
import sys
from fcn_edge.cli.main import main
from fcn_edge.download import Remote
from fcn_edge.models.published import WEIGHTS, Published
url, digest = sys.argv.pop(1), sys.argv.pop(1)
WEIGHTS["mine"] = Published(Remote(url, "net.pth", digest, 9.0), ("fcn32s-lite",), False, "CC0", "VOC", url)
main()
"""


def test_published_weights_are_announced_fetched_checked_and_exported(tmp_path):
    torch.save(untrained("fcn32s-lite", 3)[0].state_dict(), tmp_path / "net.pth")
    body = (tmp_path / "net.pth").read_bytes()
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with serving(net=whole(body)) as server:

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            digest = f"sha256:{hashlib.sha256(body).hexdigest()[:8]}"
            command = [sys.executable, "-c", AS_PUBLISHED, server.url("/net"), digest, *arguments]
            return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

        done = run("export", "--variant", "fcn32s-lite", "--json")
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("Downloading net.pth from 127.0.0.1")
        document = json.loads(done.stdout)
        assert document["weights"]["origin"] == "published"
        assert document["spec"]["provenance"]["license"] == "CC0"
        listed = json.loads(run("models", "--json").stdout)["published"]["mine"]
        assert listed["cached"] is True
        fetched = run("models", "--download", "mine")
        assert fetched.stdout == f"{document['weights']['path']}\n"
        assert len(server.asked) == 1


def test_a_file_in_the_way_is_told_before_anything_is_downloaded(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/fcn-resnet50.labels.onnx").write_text("mine")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "fcn_edge", "export", "--variant", "fcn-resnet50", "--output", "labels"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fcn-edge: export/fcn-resnet50.labels.onnx is there already. Name another place, or --force to replace it.\n"
    )


def test_without_a_network_the_choices_are_one_line(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "fcn_edge", "export", "--variant", "fcn-resnet50"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    announced, error = done.stderr.splitlines()
    assert announced.startswith("Downloading fcn_resnet50_coco-1167a1af.pth from download.pytorch.org: about 142 MB.")
    assert "Licence: not stated" in announced
    assert error.startswith("fcn-edge: https://download.pytorch.org/models/fcn_resnet50_coco-1167a1af.pth cannot be")
    assert all(choice in error for choice in ("--weights FILE", "fcn-edge train", "--weights untrained"))
    assert not list(tmp_path.rglob("*.pth"))
