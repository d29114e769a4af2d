"""`fcn-edge models`: the examples of its help as they stand."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_edge.cli.models import EPILOG, text
from fcn_edge.spec import VOC_CLASSES, ModelSpec

EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]
ENTRY = "from fcn_edge.cli.main import main; main()"


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_works_as_it_stands(example: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENTRY, *shlex.split(example)[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if "--json" in example:
        document = json.loads(done.stdout)
        assert "fcn8s-lite" in document["variants"]
        model = document["bundled"]["fcn8s-lite"]
        assert Path(model["path"]).stat().st_size == model["bytes"]
        assert model["spec"]["classes"] == list(VOC_CLASSES)
    else:
        assert done.stdout.count("fcn8s-lite") >= 2
        assert "person" in done.stdout


def test_listing_needs_no_torch() -> None:
    code = "import sys; from fcn_edge.cli.models import listing; listing(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_variant_says_which_weights_there_are_for_it() -> None:
    command = [sys.executable, "-c", ENTRY, "models", "--json"]
    document = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    weights = {name: variant["weights"] for name, variant in document["variants"].items()}
    assert weights["fcn8s-lite"]["bundled"] is True
    assert weights["fcn8s"]["published"] == ["fcn8s"]
    assert weights["fcn8s"]["trunks"] == ["vgg16-caffe", "vgg16"]
    assert weights["fcn-alexnet-owt"] == {"project": None, "bundled": False, "published": [], "trunks": ["alexnet"]}
    assert all(entry["license"] for entry in document["published"].values())


def test_a_name_that_nobody_published_is_one_line() -> None:
    command = [sys.executable, "-c", ENTRY, "models", "--download", "vgg99"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fcn-edge: there is no published weights file 'vgg99'. Known: alexnet,")
    assert done.stderr.count("\n") == 1


SPEC = ModelSpec(
    name="m",
    classes=("background", "cat", "dog", "boat"),
    covered=("background", "cat", "boat"),
    thin=("boat",),
    provenance={"data": ["VOC", "COCO"], "seen": "val, with its labels", "sha256": "0123"},
    quality={"val": {"mean_iou": 0.8123, "pictures": 1449}},
)


def listed(spec: ModelSpec) -> str:
    return text({"variants": {}, "published": {}, "bundled": {"m": {"files": {"m.onnx": 9_200_000}, "spec": spec}}})


def test_a_reader_learns_what_was_not_trained_and_what_the_model_has_seen() -> None:
    lines = [line.strip() for line in listed(SPEC).splitlines()]
    assert "m                   4 classes, fp32, longer side 512, fit; m.onnx 9.2 MB" in lines
    assert "classes: background, cat, boat" in lines
    assert "never trained on: dog" in lines
    assert "few training pictures: boat" in lines
    assert "trained on: VOC, COCO" in lines
    assert "has seen: val, with its labels" in lines
    assert "val: mean_iou 0.812, pictures 1449" in lines
    assert "UNTRAINED" not in "".join(lines)


def test_untrained_weights_are_never_listed_without_saying_so() -> None:
    assert "UNTRAINED" in listed(replace(SPEC, trained=False))


def test_a_checkout_without_weights_says_so() -> None:
    assert "none in this checkout" in text({"variants": {}, "published": {}, "bundled": {}})
