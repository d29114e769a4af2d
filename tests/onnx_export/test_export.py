"""What `fcn-edge export` promises of every variant: free axes, its spec inside, PyTorch's labels."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fcn_edge import models
from fcn_edge.data import read_image
from fcn_edge.errors import FcnEdgeError
from fcn_edge.models.checkpoint import load, untrained
from fcn_edge.models.lite import FCN8sLite
from fcn_edge.onnx_export import PARITY_SIZES, export
from fcn_edge.resources import PACKAGE, demo_photos
from fcn_edge.spec import METADATA_KEY, Output, from_json

BUNDLED = PACKAGE / "weights" / "fcn8s-lite"


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [read_image(path) for path in demo_photos()]


@pytest.fixture(scope="module", params=models.VARIANTS)
def exported(request, tmp_path_factory, photos):
    network, spec = untrained(request.param)
    return export(network, spec, tmp_path_factory.mktemp("export") / "model.onnx", photos)


class TestEveryVariant:
    def test_labels_agree_with_pytorch_at_every_size(self, exported):
        assert len(exported.parity) == len(PARITY_SIZES)
        assert min(parity.label_agreement for parity in exported.parity) >= 0.999

    def test_one_of_the_sizes_is_as_small_as_the_stride(self, exported):
        assert min(min(parity.size) for parity in exported.parity) in (exported.spec.stride, exported.spec.stride + 1)

    def test_the_file_says_what_it_is(self, exported):
        metadata = onnxruntime.InferenceSession(str(exported.path)).get_modelmeta().custom_metadata_map
        assert from_json(metadata[METADATA_KEY], "file") == exported.spec

    def test_the_first_node_casts_the_bytes(self, exported):
        nodes = [node.op_type for node in onnx.load(exported.path).graph.node if node.op_type != "Constant"]
        assert nodes[:2] == ["Cast", "Transpose"]

    def test_any_batch_and_any_size_run(self, exported):
        session = onnxruntime.InferenceSession(str(exported.path))
        spec = exported.spec
        for count, height, width in ((1, 33, 97), (3, 161, 65)):
            frame = np.zeros((count, spec.side(height), spec.side(width), 3), np.uint8)
            assert np.asarray(session.run(None, {"frame": frame})[0]).shape[:2] == (count, 21)

    def test_tensorrt_rtx_parses_and_builds_it(self, exported):
        trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        parsed = parser.parse(exported.path.read_bytes())
        assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        profile = builder.create_optimization_profile()
        spec = exported.spec
        sizes = [(1, spec.side(64), spec.side(64), 3), (1, spec.side(288), spec.side(512), 3), (4, 513, 961, 3)]
        profile.set_shape("frame", *sizes)
        config.add_optimization_profile(profile)
        engine = builder.build_serialized_network(network, config)
        assert engine is not None
        assert engine.nbytes > 1e6


class TestLabels:
    def test_labels_leave_the_graph_at_the_frames_size(self, tmp_path, photos):
        network, spec = untrained("fcn8s-lite")
        spec = replace(spec, output=Output("labels", 1, "align_corners"))
        path = export(network, spec, tmp_path / "labels.onnx", photos).path
        frame = np.zeros((2, 97, 65, 3), np.uint8)
        labels = np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"frame": frame})[0])
        assert labels.dtype == np.uint8
        assert labels.shape == (2, 97, 65)


class FixedHeight(FCN8sLite):
    """Takes a Python number from a shape, which the exporter writes down as a constant."""

    def scores(self, planes: torch.Tensor) -> torch.Tensor:
        return super().scores(planes).reshape(planes.shape[0], 21, int(planes.shape[2] - 1) // 8 + 1, -1)


class DecidedWhileTracing(FCN8sLite):
    """Decides on the pixels: the exporter keeps the branch that its black example took."""

    def scores(self, planes: torch.Tensor) -> torch.Tensor:
        scores = super().scores(planes)
        return scores if planes.max() <= -1 else -scores


class TestFailedChecks:
    def export(self, network, folder: Path, photos) -> None:
        export(network, untrained("fcn8s-lite")[1], folder / "broken.onnx", photos)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_a_fixed_axis_is_named_and_no_file_is_left(self, tmp_path, photos):
        with pytest.raises(FcnEdgeError, match="have to be free"):
            self.export(FixedHeight(21), tmp_path, photos)
        assert not list(tmp_path.iterdir())

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_labels_that_differ_are_counted_and_no_file_is_left(self, tmp_path, photos):
        torch.manual_seed(0)
        with pytest.raises(FcnEdgeError, match="of the labels agree with PyTorch"):
            self.export(DecidedWhileTracing(21), tmp_path, photos)
        assert not list(tmp_path.iterdir())


def test_the_bundled_file_is_what_export_makes_of_the_bundled_weights(tmp_path, photos):
    network, spec = load(BUNDLED.with_suffix(".safetensors"))
    anew = onnxruntime.InferenceSession(str(export(network, spec, tmp_path / "anew.onnx", photos).path))
    bundled = onnxruntime.InferenceSession(str(BUNDLED.with_suffix(".onnx")))
    assert from_json(bundled.get_modelmeta().custom_metadata_map[METADATA_KEY], "bundled") == spec
    frame = np.stack([photo[:257, :385] for photo in photos])
    scores = [np.asarray(session.run(None, {"frame": frame})[0]) for session in (anew, bundled)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-3)


def test_the_command_does_not_replace_a_file_unasked(tmp_path):
    path = tmp_path / "there.onnx"
    path.write_text("mine")
    command = [sys.executable, "-m", "fcn_edge", "export", "--out", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert path.read_text() == "mine"
