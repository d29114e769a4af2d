"""What `fcn-edge export` promises of every variant: free axes, its spec inside, PyTorch's labels."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import rtx
import torch
from forms import FORMS, IDS, SMALL_SIZES, narrow
from onnx import TensorProto, numpy_helper

from fcn_edge.data import read_image
from fcn_edge.decode import decode
from fcn_edge.errors import FcnEdgeError
from fcn_edge.models.checkpoint import load, untrained
from fcn_edge.models.lite import FCNLite
from fcn_edge.onnx_export import PARITY_SIZES, export
from fcn_edge.onnx_export.half import MEANS, NORMALISATION, SUMS, halve, rounding
from fcn_edge.onnx_export.parity import DECIDED
from fcn_edge.resources import PACKAGE, demo_photos
from fcn_edge.spec import METADATA_KEY, Output, from_json

BUNDLED = PACKAGE / "weights" / "fcn8s-lite"
DECIDING = ("segnet", "deconvnet")  # which pixel is larger says where a value goes: rounding sends some elsewhere


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [read_image(path) for path in demo_photos()]


@pytest.fixture(scope="module", params=FORMS, ids=IDS)
def exported(request, tmp_path_factory, photos):
    """A form's file, from a narrow network where its full width says nothing more."""
    variant, padding = request.param
    with narrow():
        network, spec = untrained(variant, padding=padding)
    return export(network, spec, tmp_path_factory.mktemp("export") / "model.onnx", photos, SMALL_SIZES)


@pytest.fixture(scope="module")
def halved(exported):
    """The same file in float16, without tracing the network a second time."""
    model = onnx.load(exported.path)
    assert {"normalisation"} <= halve(model, "this").keys() <= {NORMALISATION, MEANS, SUMS}
    onnx.save(model, exported.path.with_name("half.onnx"))
    return exported.path.with_name("half.onnx")


class TestEveryForm:
    def test_labels_agree_with_pytorch_at_every_size(self, exported):
        assert len(exported.parity) == len(SMALL_SIZES)
        assert min(parity.label_agreement for parity in exported.parity) >= 0.999

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

    def test_no_bilinear_transposed_convolution_is_left(self, exported):
        kernels = {tensor.name: tensor for tensor in onnx.load(exported.path).graph.initializer}
        for node in onnx.load(exported.path).graph.node:
            if node.op_type == "ConvTranspose":
                assert np.count_nonzero(numpy_helper.to_array(kernels[node.input[1]]) == 0) == 0

    def test_tensorrt_rtx_parses_and_builds_it_for_odd_and_even_sizes(self, exported):
        side = exported.spec.side
        smallest, usual, largest = (
            (1, side(33), side(33), 3),
            (1, side(399), side(600), 3),
            (2, side(947), side(960), 3),
        )
        assert rtx.build(exported.path, smallest, usual, largest) > 1e5

    def test_in_float16_only_bytes_scores_and_the_named_parts_have_another_type(self, exported, halved):
        model = onnx.load(halved)
        onnx.checker.check_model(model, full_check=True)
        assert [value.type.tensor_type.elem_type for value in model.graph.input] == [TensorProto.UINT8]
        assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT]
        weights = {weight.name: weight.data_type for weight in model.graph.initializer}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        assert all(weights[name] == TensorProto.FLOAT16 for node in convolutions for name in node.input[1:])
        assert sum(node.op_type == "Conv" for node in onnx.load(exported.path).graph.node) == len(convolutions)

    def test_in_float16_scores_stay_near_with_every_value_rounded(self, exported, halved):
        side = exported.spec.side(104), exported.spec.side(138)
        frame = np.stack([cv2.resize(read_image(path), side[::-1]) for path in demo_photos()])
        rounded = onnxruntime.InferenceSession(rounding(onnx.load(halved)).SerializeToString())
        got, expected = (
            np.asarray(session.run(None, {"frame": frame})[0])
            for session in (rounded, onnxruntime.InferenceSession(str(exported.path)))
        )
        differences = np.abs(got - expected)
        part = DECIDED if exported.spec.variant in DECIDING else 1.0
        assert 0 < np.quantile(differences, part) < 0.25 * expected.std()


def test_the_small_sizes_round_as_the_exports_own_do():
    """A pool rounds by the remainder of what it reads, so equal remainders by 32 go through all five alike."""
    remainders = [{(height % 32, width % 32) for height, width in sizes} for sizes in (SMALL_SIZES, PARITY_SIZES)]
    assert remainders[0] == remainders[1]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "padding"), FORMS, ids=IDS)
def test_the_whole_network_agrees_at_every_size_and_builds(variant, padding, tmp_path, photos):
    network, spec = untrained(variant, padding=padding)
    exported = export(network, spec, tmp_path / "model.onnx", photos)
    assert len(exported.parity) == len(PARITY_SIZES)
    largest = (1, spec.side(947), spec.side(960), 3)
    assert rtx.build(
        exported.path, (1, spec.side(33), spec.side(33), 3), (1, spec.side(399), spec.side(600), 3), largest
    )


# one of each way to upsample: corners aligned or not, and transposed convolutions with either form's crop
GRIDS = [("fcn8s-lite", "same"), ("fcn-resnet50", "same"), ("fcn8s", "same"), ("fcn8s", "paper"), ("fcn32s", "paper")]


@pytest.mark.parametrize(("variant", "padding"), GRIDS)
def test_labels_leave_the_graph_at_the_frames_size_as_the_decoder_makes_them(variant, padding, tmp_path, photos):
    with narrow():
        network, spec = untrained(variant, padding=padding)
    inside = replace(spec, output=Output("labels", 1, spec.output.grid))
    path = export(network, inside, tmp_path / "labels.onnx", photos, SMALL_SIZES[:2]).path
    size = spec.side(75), spec.side(118)
    frame = np.stack([photo[: size[0], : size[1]] for photo in photos])
    labels = np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"frame": frame})[0])
    assert labels.dtype == np.uint8
    with torch.inference_mode():
        expected = decode(network(torch.from_numpy(frame)).numpy(), size, spec.output.grid)
    assert labels.shape == expected.shape
    assert len(np.unique(labels)) > 2
    assert (labels == expected).mean() > 0.999


class Lite(FCNLite):
    def __init__(self) -> None:
        super().__init__(21, skips=(16, 8))


class FixedHeight(Lite):
    """Takes a Python number from a shape, which the exporter writes down as a constant."""

    def scores(self, planes: torch.Tensor) -> torch.Tensor:
        return super().scores(planes).reshape(planes.shape[0], 21, int(planes.shape[2] - 1) // 8 + 1, -1)


class DecidedWhileTracing(Lite):
    """Decides on the pixels: the exporter keeps the branch that its black example took."""

    def scores(self, planes: torch.Tensor) -> torch.Tensor:
        scores = super().scores(planes)
        return scores if planes.max() <= -1 else -scores


class ScaledWhileTracing(Lite):
    """The same labels, from scores twice as large."""

    def scores(self, planes: torch.Tensor) -> torch.Tensor:
        scores = super().scores(planes)
        return scores if planes.max() <= -1 else 2 * scores


class TestFailedChecks:
    def export(self, network, folder: Path, photos) -> None:
        export(network, untrained("fcn8s-lite")[1], folder / "broken.onnx", photos)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_a_fixed_axis_is_named_and_no_file_is_left(self, tmp_path, photos):
        with pytest.raises(FcnEdgeError, match="have to be free"):
            self.export(FixedHeight(), tmp_path, photos)
        assert not list(tmp_path.iterdir())

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_labels_that_differ_are_counted_and_no_file_is_left(self, tmp_path, photos):
        torch.manual_seed(0)
        with pytest.raises(FcnEdgeError, match="of the labels agree with PyTorch"):
            self.export(DecidedWhileTracing(), tmp_path, photos)
        assert not list(tmp_path.iterdir())

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_scores_that_differ_under_equal_labels_are_told_and_no_file_is_left(self, tmp_path, photos):
        torch.manual_seed(0)
        with pytest.raises(FcnEdgeError, match="labels agree with PyTorch, but a score differs by"):
            self.export(ScaledWhileTracing(), tmp_path, photos)
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
