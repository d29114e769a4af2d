"""Files for other people's pipelines: float planes, probabilities, Triton's and DeepStream's configurations.

No server and no DeepStream runs here. Triton's text goes through the message that its client is made of; nvinfer's
arithmetic and its parser's rule are written down again below, after its guide and its source.
"""

from __future__ import annotations

import configparser
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import rtx
from forms import SMALL_SIZES, narrow
from google.protobuf import text_format

from fcn_edge import Segmenter
from fcn_edge.data import read_image
from fcn_edge.errors import SinkError, UsageError
from fcn_edge.models.checkpoint import load, untrained
from fcn_edge.onnx_export import export, serving
from fcn_edge.onnx_export.forms import PLANAR
from fcn_edge.resources import PACKAGE, demo_photos
from fcn_edge.spec import METADATA_KEY, ModelSpec, Output, from_json

BUNDLED = PACKAGE / "weights" / "fcn8s-lite.safetensors"
SIZES = SMALL_SIZES[:1]


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [read_image(path) for path in demo_photos()]


def as_input(spec: ModelSpec, network: Any, name: str) -> ModelSpec:
    moments = network.normalisation
    return replace(spec, input=PLANAR if name == "planar" else replace(PLANAR, mean=moments.mean, std=moments.std))


@pytest.mark.parametrize("name", ["planar", "normalised"])
class TestPlanes:
    def test_the_bundled_weights_give_the_labels_that_they_give_of_frames(self, name, tmp_path, photos):
        network, spec = load(BUNDLED)
        path = export(network, as_input(spec, network, name), tmp_path / "planes.onnx", photos, SIZES).path
        with (
            Segmenter(path, "onnxruntime", size=257) as planes,
            Segmenter("fcn8s-lite", "onnxruntime", size=257) as frames,
        ):
            assert (planes.spec.input.mean is None) == (name == "planar")
            assert planes.spec.input.color == "RGB"
            for photo in photos:
                small = photo[::2, ::2].copy()
                assert (planes(small).labels == frames(small).labels).mean() > 0.9995

    @pytest.mark.parametrize("variant", ["fcn8s", "fcn8s-interp"])
    def test_networks_that_saw_caffes_planes_or_a_deviation_a_channel_agree_too(self, variant, name, tmp_path, photos):
        """One was trained on B, G, R less a mean; the export itself compares with the network on frames."""
        with narrow():
            network, spec = untrained(variant)
        spec = replace(as_input(spec, network, name), precision="fp16")
        exported = export(network, spec, tmp_path / "planes.onnx", photos, SIZES)
        assert rtx.build(exported.path, (1, 3, 33, 33), (1, 3, 64, 96), (2, 3, 97, 97)) > 1e5
        frame = np.stack([photo[:64, :96] for photo in photos])
        planes = frame[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
        if name == "normalised":
            mean, std = (np.array(each, np.float32).reshape(3, 1, 1) for each in (spec.input.mean, spec.input.std))
            planes = (planes - mean) / std
        session = onnxruntime.InferenceSession(str(exported.path))
        taken = session.get_inputs()[0]
        assert (taken.type, taken.shape[1]) == ("tensor(float)", 3)
        path = export(network, untrained_spec(variant), tmp_path / "frames.onnx", photos, SIZES).path
        expected = np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"frame": frame})[0])
        got = np.asarray(session.run(None, {"frame": planes})[0])
        np.testing.assert_allclose(got, expected, atol=0.05 * float(expected.std()))


def untrained_spec(variant: str) -> ModelSpec:
    with narrow():
        return untrained(variant)[1]


@pytest.fixture(scope="module")
def probable(tmp_path_factory, photos):
    """The bundled weights as DeepStream takes them: planes less one mean over one deviation in, probabilities out."""
    network, spec = load(BUNDLED)
    path = tmp_path_factory.mktemp("ds") / "lite.onnx"
    return export(network, as_input(spec, network, "normalised"), path, photos, SIZES, probabilities=True)


class TestProbabilities:
    def test_at_every_pixel_they_sum_to_one(self, probable, photos):
        planes = np.zeros((2, 3, 65, 97), np.float32)
        got = np.asarray(onnxruntime.InferenceSession(str(probable.path)).run(None, {"frame": planes})[0])
        assert got.shape == (2, 21, 65, 97)
        np.testing.assert_allclose(got.sum(1), 1, atol=1e-5)

    def test_segmenter_gives_the_labels_of_the_scores(self, probable, photos):
        assert probable.spec.output == Output("scores", 1, "half_pixel")
        with Segmenter(probable.path, "onnxruntime") as file, Segmenter("fcn8s-lite", "onnxruntime") as scores:
            size = file.network_size(photos[0].shape[:2])
            frame = cv2.resize(photos[0], size[::-1])  # so that nothing is scaled a second time
            assert (file(frame).labels == scores(frame).labels).mean() > 0.999


class TestDeepStream:
    def config(self, text: str) -> configparser.SectionProxy:
        parser = configparser.ConfigParser(delimiters="=", comment_prefixes="#", strict=True)
        parser.read_string(text)
        return parser["property"]

    def test_frames_through_nvinfers_arithmetic_give_our_labels(self, probable, photos):
        texts = serving.deepstream(probable.path, probable.spec, (257, 385))
        config = self.config(texts[probable.path.with_name("config_infer_lite.txt")])
        channels, rows, columns = (int(side) for side in config["infer-dims"].split(";"))
        offsets = np.array([float(each) for each in config["offsets"].split(";")], np.float32)
        frame = cv2.resize(photos[1], (columns, rows))
        pixels = frame[..., ::-1] if config["model-color-format"] == "0" else frame
        planes = (float(config["net-scale-factor"]) * (pixels - offsets)).transpose(2, 0, 1)[None].astype(np.float32)
        assert planes.shape[1] == channels
        session = onnxruntime.InferenceSession(str(probable.path.parent / config["onnx-file"]))
        scores = np.asarray(session.run([config["output-blob-names"]], {"frame": planes})[0])[0]
        best = scores.max(0)
        classes = np.where(best > float(config["segmentation-threshold"]), scores.argmax(0), -1)
        with Segmenter("fcn8s-lite", "onnxruntime", size=(257, 385), resize="stretch") as segment:
            assert (classes == segment(frame).labels).mean() > 0.999
        names = (probable.path.parent / config["labelfile-path"]).name
        assert names == "labels_lite.txt"
        assert len(scores) == int(config["num-detected-classes"])

    @pytest.mark.parametrize(("size", "dims"), [(None, "3;289;513"), (257, "3;129;257"), ((300, 400), "3;289;385")])
    def test_its_size_is_16_to_9_or_what_was_named_rounded_to_the_networks_sides(self, probable, size, dims):
        text = next(iter(serving.deepstream(probable.path, probable.spec, size).values()))
        assert self.config(text)["infer-dims"] == dims

    @pytest.mark.parametrize(("precision", "mode"), [("fp32", "0"), ("int8", "1"), ("fp16", "2")])
    def test_with_the_mean_inside_there_is_nothing_to_scale(self, probable, precision, mode):
        spec = replace(probable.spec, input=PLANAR, precision=precision)
        config = self.config(next(iter(serving.deepstream(probable.path, spec).values())))
        assert (config["net-scale-factor"], config["network-mode"]) == ("1.0", mode)
        assert "offsets" not in config

    def test_a_deviation_a_channel_is_more_than_nvinfer_can_say(self, probable):
        spec = replace(probable.spec, input=replace(PLANAR, mean=(123.675, 116.28, 103.53), std=(58.4, 57.1, 57.4)))
        with pytest.raises(UsageError, match=r"one scale for all channels, .* Take --input planar"):
            serving.deepstream(probable.path, spec)


def triton_message(text: str) -> Any:
    """The text as Triton's own message reads it: unknown fields and wrong types are errors there."""
    found = importlib.util.find_spec("tritonclient")
    assert found is not None, "tritonclient is not there: scripts/test brings it"
    assert found.origin is not None
    place = Path(found.origin).parent / "grpc" / "model_config_pb2.py"  # its package would want gRPC
    spec = importlib.util.spec_from_file_location("model_config_pb2", place)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return text_format.Parse(text, module.ModelConfig())


class TestTriton:
    @pytest.mark.parametrize("name", ["frame", "planar"])
    @pytest.mark.parametrize("kind", ["scores", "labels"])
    def test_the_configuration_says_what_the_file_takes_and_gives(self, name, kind, tmp_path, photos):
        with narrow():
            network, spec = untrained("fcn32s-interp")
        if name == "planar":
            spec = as_input(spec, network, name)
        if kind == "labels":
            spec = replace(spec, output=Output("labels", 1, spec.output.grid))
        spec = replace(spec, classes=("hintergrund", *spec.classes[1:-1], 'Zäh"ler\\'))
        model = tmp_path / "models" / "mine" / "1" / "model.onnx"
        export(network, spec, model, photos, SIZES)
        texts = serving.triton(model, spec)
        with serving.together(texts) as temporary:
            for place, text in texts.items():
                temporary[place].write_text(text, encoding="utf-8")
        folder = tmp_path / "models" / "mine"
        assert sorted(texts) == [folder / "config.pbtxt", folder / "configs/tensorrt.pbtxt", folder / "labels.txt"]
        assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == list(spec.classes)
        session = onnxruntime.InferenceSession(str(model))
        for place, platform, file in (
            ("config.pbtxt", "onnxruntime_onnx", "model.onnx"),
            ("configs/tensorrt.pbtxt", "tensorrt_plan", "model.plan"),
        ):
            config = triton_message((folder / place).read_text(encoding="utf-8"))
            assert (config.name, config.platform, config.default_model_filename) == ("mine", platform, file)
            assert config.max_batch_size >= 1
            for said, given in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
                assert [tensor.name for tensor in said] == [tensor.name for tensor in given]
                free = [side if isinstance(side, int) else -1 for side in given[0].shape[1:]]
                assert list(said[0].dims) == free
                kinds = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
                field = said[0].DESCRIPTOR.fields_by_name["data_type"]
                assert field.enum_type.values_by_number[said[0].data_type].name == kinds[given[0].type]
            assert from_json(config.parameters[METADATA_KEY].string_value, "config") == spec


class TestTogether:
    """A model, and beside it a configuration in a folder of its own."""

    @pytest.fixture
    def places(self, tmp_path) -> list[Path]:
        return [tmp_path / "1" / "model.onnx", tmp_path / "configs" / "tensorrt.pbtxt"]

    def files(self, folder: Path) -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file()]

    def test_where_one_cannot_be_filled_none_is_there(self, places, tmp_path):
        with pytest.raises(ZeroDivisionError), serving.together(places) as temporary:
            temporary[places[0]].write_bytes(b"model" * (1 // 0))
        assert self.files(tmp_path) == []

    def test_a_place_that_cannot_be_written_is_told_before_anything_is_made(self, places, tmp_path):
        (tmp_path / "configs").write_text("mine")
        with pytest.raises(SinkError, match=r"configs/tensorrt\.pbtxt: cannot be written"), serving.together(places):
            pytest.fail("the body ran")
        assert self.files(tmp_path) == [tmp_path / "configs"]

    def test_without_its_configuration_there_is_no_model(self, places, tmp_path):
        with pytest.raises(IsADirectoryError), serving.together(places):
            places[1].mkdir()  # so that it cannot get its name
        assert self.files(tmp_path) == []
