"""The bundled model in int8, as it is shipped: its labels, what it says of itself, and what it is refused for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from fcn_edge.data import read_image
from fcn_edge.data.calibration import Calibration
from fcn_edge.data.seen import KEY
from fcn_edge.errors import FcnEdgeError
from fcn_edge.quantization import Choices, Int8, convert, to_int8
from fcn_edge.resources import demo_photos
from fcn_edge.runtime.files import bundled, read_spec
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import METADATA_KEY

PHOTOS = Calibration("demo", tuple(demo_photos()), "identity")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Int8:
    out = tmp_path_factory.mktemp("int8") / "fcn8s-lite.int8.onnx"
    photos = [read_image(path) for path in PHOTOS.pictures]
    return to_int8(bundled()["fcn8s-lite"], out, PHOTOS, Choices(), photos)


def test_two_runtimes_agree_on_its_labels(made):
    one, other = (Segmenter(made.path, backend=backend) for backend in ("openvino", "onnxruntime"))
    for photo in PHOTOS.pictures:
        frame = read_image(photo)
        assert (one(frame).labels == other(frame).labels).mean() >= 0.99


def test_it_says_what_it_is(made):
    spec = read_spec(made.path)
    assert (spec.precision, spec.remainder, spec.quality) == ("int8", "fp32", {})
    told = spec.provenance["int8"]
    assert (told["set"], told["identity"], told["pictures"], told["method"]) == ("demo", "identity", 2, "minmax")
    assert sum(map(len, told["float"].values())) + told["int8_layers"] == len(made.layers)
    assert len(spec.provenance[KEY]) > len(read_spec(bundled()["fcn8s-lite"]).provenance.get(KEY, ""))


def test_it_is_less_than_three_tenths_of_the_size(made):
    assert made.path.stat().st_size <= 0.3 * bundled()["fcn8s-lite"].stat().st_size


def test_a_file_whose_labels_are_others_is_not_written(tmp_path, monkeypatch):
    """Judged on what it was calibrated on: a network for streets labels a cat as it will."""
    monkeypatch.setattr(convert, "AGREEMENT", 0.9999)
    with pytest.raises(FcnEdgeError, match=r"labels on 2 calibration pictures are float32's, .* Nothing was written\."):
        to_int8(bundled()["fcn8s-lite"], tmp_path / "x.onnx", PHOTOS, Choices(), ())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [({"precision": "fp16"}, "is fp16 already"), ({"precision": "int8", "remainder": "fp32"}, "is int8 already")],
)
def test_a_file_that_is_not_in_float32_is_refused(change, said, tmp_path):
    model = onnx.load(bundled()["fcn8s-lite-small"])
    spec = read_spec(bundled()["fcn8s-lite-small"])
    onnx.helper.set_model_props(model, {METADATA_KEY: replace(spec, **change).to_json()})
    source = tmp_path / "source.onnx"
    onnx.save(model, source)
    with pytest.raises(FcnEdgeError, match=said):
        to_int8(source, Path(tmp_path, "x.onnx"), PHOTOS, Choices(), ())
