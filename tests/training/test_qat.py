"""Fine-tuning under an int8 file's rounding: what is computed is what the file computes; a run is like any other."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from drawn import draw_data, recipe_file
from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.cli.train import EPILOG
from fcn_edge.cli.train import command as train_command
from fcn_edge.data import open_data, read_image
from fcn_edge.data.calibration import Calibration
from fcn_edge.errors import FcnEdgeError, ModelError, UsageError
from fcn_edge.models.checkpoint import load, save_checkpoint, untrained
from fcn_edge.models.network import Geometry, Network
from fcn_edge.onnx_export import export
from fcn_edge.quantization import Choices, to_int8
from fcn_edge.resources import demo_photos
from fcn_edge.runtime.files import bundled, read_spec
from fcn_edge.spec import METADATA_KEY
from fcn_edge.training.qat import FakeInt8, Rounding, calibrated, rounding
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.session import Session

EXAMPLES = [line.strip() for line in EPILOG.splitlines() if "--qat" in line]
RECIPE = Recipe(
    "summed", steps=12, batch=4, crop=64, longer_side=(64, 96), rate=1e-2, warmup=1, hold_back=4, pretrained_rate=1.0
)


class Summed(Network):
    """A convolution that reads the frame, two that are added to what they read, batch norm between, and scores."""

    geometry = Geometry(size=64, stride=8, sides="k*stride", output_stride=8, grid="half_pixel")
    trunk = "first."

    def __init__(self, classes: int) -> None:
        super().__init__(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
        self.first = nn.Conv2d(3, 8, 8, 8)
        self.plain = nn.Conv2d(8, 8, 3, padding=1)
        self.normed = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.score = nn.Conv2d(8, classes, 1)

    def scores(self, planes: Tensor) -> Tensor:
        x = F.relu(self.first(planes))
        x = x + self.plain(x)
        y = self.normed(x)
        y += x
        return self.score(F.relu(y))


@pytest.fixture(scope="module", autouse=True)
def variants():
    import_module("tiny_network")
    models.VARIANTS["summed"] = models.Variant("for tests", f"{__name__}:Summed")
    yield
    del models.VARIANTS["summed"]


@pytest.fixture(scope="module", autouse=True)
def plain():
    """The loop computes in bfloat16 where the machine does; what is compared here has to be exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcn_edge.training.session.precision", lambda: "32-true")
        patch.setattr("fcn_edge.training.loop.precision", lambda: "32-true")
        patch.setattr("fcn_edge.training.loop._workers", lambda: 0)  # twelve pictures: forking would take longer
        yield


def made(folder: Path, variant: str = "summed", choices: Choices | None = None, seed: int = 0) -> tuple[Path, Path]:
    """A checkpoint of seeded noise and the int8 file that was made of it."""
    network, spec = untrained(variant, seed)
    if variant == "summed":  # batch norm as training leaves it, with a channel whose factor is negative
        torch.manual_seed(1)
        norm = cast(Any, network).normed[1]
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, -2, 2)
    folder.mkdir(exist_ok=True)
    weights = folder / f"{variant}.safetensors"
    save_checkpoint(weights, network, spec)
    photo = read_image(demo_photos()[0])[:96, :96].copy()
    network, spec = load(weights)
    float_file = export(network, spec, folder / f"{variant}.onnx", [photo]).path
    calibration = Calibration("photos", tuple(demo_photos()[:1]), "ab" * 32)
    int8 = to_int8(float_file, folder / f"{variant}.int8.onnx", calibration, choices or Choices(), [photo])
    return weights, int8.path


def computed(file: Path, frame: np.ndarray) -> np.ndarray:
    """By ONNX Runtime, node by node as they stand: its fused kernels round sums in an order of their own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"frame": frame})[0])


def photo(side: int) -> np.ndarray:
    return np.ascontiguousarray(read_image(demo_photos()[0])[None, :side, :side])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    """An int8 file of the bundled default."""
    calibration = Calibration("photos", tuple(demo_photos()), "ab" * 32)
    out = tmp_path_factory.mktemp("project") / "export/fcn8s-lite.int8.onnx"
    photos = [read_image(path) for path in demo_photos()]
    return to_int8(bundled()["fcn8s-lite"], out, calibration, Choices(), photos).path


class TestRounding:
    @pytest.mark.parametrize("choices", [Choices(), Choices(method="mse"), Choices(weight_bits=7)], ids=str)
    def test_a_network_of_batch_norm_and_sums_computes_what_its_int8_file_does(self, tmp_path, choices):
        weights, file = made(tmp_path, choices=choices)
        network, _ = load(weights)
        where = rounding(file, network, calibrated(file))
        assert where.weights == {"plain.weight", "normed.0.weight"}
        assert len(where.sums) == 2
        frame = photo(96)
        expected = computed(file, frame)
        with torch.no_grad():
            exact = network(torch.from_numpy(frame)).numpy()
            with FakeInt8(network, where):
                rounded = network(torch.from_numpy(frame)).numpy()
        # what is left: biases corrected by the means of this frame here, of the calibration picture there
        assert np.abs(rounded - expected).mean() < 0.5 * np.abs(exact - expected).mean()

    def test_a_bundled_network_does_too(self, tmp_path):
        """62 convolutions, 10 residual sums and that of local features and context; rounded 62 times in a row."""
        frame = photo(289)
        cv2.imwrite(str(tmp_path / "frame.png"), frame[0])
        only = Calibration("frame", (tmp_path / "frame.png",), "ab" * 32)  # so biases are corrected by its means
        float_file, file = bundled()["fcn8s-lite"], tmp_path / "int8.onnx"
        to_int8(float_file, file, only, Choices(size=(289, 289)), ())
        network, _ = load(float_file.with_suffix(".safetensors"))
        where = rounding(file, network, calibrated(file))
        assert (len(where.reads), len(where.weights), len(where.sums)) == (62, 62, 11)
        expected = computed(file, frame)
        with torch.no_grad():
            exact = network(torch.from_numpy(frame)).numpy()
            with FakeInt8(network, where):
                rounded = network(torch.from_numpy(frame)).numpy()
        # Values at the edge of a step fall to either side, and 62 layers carry that on: the file's own scores move
        # where one bit of each pixel changes, by 0.29 on average; these are 0.14 apart, float32's 0.27.
        off, own, unrounded = (np.abs(each - expected).mean() for each in (rounded, computed(file, frame ^ 1), exact))
        assert off < 0.6 * min(own, unrounded)
        assert (rounded.argmax(1) == expected.argmax(1)).mean() > 0.99

    def test_steps_and_gradients_are_those_worked_out_by_hand(self):
        """y = w x, with x in steps of 0.5 up to 63.5 and w in 127 steps of its largest."""
        layer = nn.Conv2d(1, 1, (1, 2), bias=False)
        layer.weight.data = torch.tensor([1.27, 0.134]).view(1, 1, 1, 2)
        x = torch.tensor([[3.2, 80.0], [-0.3, -70.0]]).view(1, 1, 2, 2).requires_grad_()
        with FakeInt8(layer, Rounding({"weight": 0.5}, frozenset({"weight"}), {})):
            y = layer(x)
        # 3.2 is 6 steps, 80 is cut off at 127 of them; -0.3 is one, -70 is cut off at 128; 0.134 is 13 of 0.01
        by_hand = [3.0 * 1.27 + 63.5 * 0.13, -0.5 * 1.27 - 64.0 * 0.13]
        assert y.flatten().tolist() == pytest.approx(by_hand, rel=1e-6)
        y.sum().backward()
        assert x.grad is not None
        assert layer.weight.grad is not None
        assert x.grad.flatten().tolist() == pytest.approx([1.27, 0, 1.27, 0], rel=1e-6)  # none where it is cut off
        assert layer.weight.grad.flatten().tolist() == pytest.approx([3.0 - 0.5, 63.5 - 64.0], rel=1e-6)

    def test_a_layer_that_the_file_leaves_in_float_is_left_so(self, tmp_path):
        weights, file = made(tmp_path, choices=Choices(kept={"/first/Conv": "a", "/score/Conv": "b", "/Add": "c"}))
        network, _ = load(weights)
        where = rounding(file, network, calibrated(file))
        assert "first.weight" not in where.weights
        assert [sorted(term) for terms in where.sums for term in terms] == [
            ["normed.0.weight"],
            ["first.weight", "plain.weight"],
        ]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_trains(example, shipped):
    """The bundled weights are those that the file was made from."""
    project = shipped.parents[1]
    draw_data(project / "VOCdevkit/VOC2012", count=20)
    arguments = [sys.executable, "-m", "fcn_edge", *shlex.split(example)[1:]]
    done = subprocess.run(arguments, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fcn8s-lite: 2 steps of 16 pictures" in done.stderr
    assert "rounded as in export/fcn8s-lite.int8.onnx" in done.stderr
    assert done.stderr.rstrip().endswith("--precision int8 --calib SET")
    assert read_spec(project / "runs/fcn8s-lite/fcn8s-lite.safetensors").provenance["recipe"]["crop"] == 321


class TestRun:
    @pytest.fixture
    def data(self, tmp_path):
        return draw_data(tmp_path / "data", count=12)

    def session(self, data: Path, out: Path, weights: Path | None, int8: Path | None, **figures: Any) -> Session:
        recipe = replace(RECIPE, **figures)
        opened = open_data([f"{data}:train"], None, default="train")
        return Session(recipe=recipe, data=opened, weights=weights, out=out, int8=int8, lists=("data:train",))

    def test_the_loss_under_rounding_falls_and_the_checkpoint_says_so(self, data, tmp_path):
        weights, int8 = made(tmp_path / "made")
        progress = list(
            self.session(data, tmp_path / "out", weights, int8, steps=60, ema=0.5, validate_every=60).run(
                lambda items, *_: items
            )
        )
        assert progress[-1].loss < 0.7 * progress[10].loss
        network, spec = load(tmp_path / "out/summed.safetensors")
        assert spec.precision == "fp32"
        assert spec.provenance["int8_aware_file"] == "summed.int8.onnx"
        assert len(spec.provenance["int8_aware"]) == 64
        assert {"mean_iou_held_back_int8", "pixel_accuracy_held_back_int8"} < spec.quality.keys()
        assert "| mean iou held back int8 |" in (tmp_path / "out/model-card.md").read_text()
        with pytest.raises(ModelError, match="was not made from these weights"):  # they have moved by more than a step
            rounding(int8, network, calibrated(int8))

    def test_what_is_validated_is_what_the_int8_file_gives(self, data, tmp_path):
        """So small a rate leaves the weights, so the figures have to be the file's own."""
        from fcn_edge.evaluation import evaluate
        from fcn_edge.segmenter import Segmenter

        weights, int8 = made(tmp_path / "made")
        session = self.session(data, tmp_path / "out", weights, int8, steps=2, rate=1e-9, frozen=("normed.", "first."))
        quality = list(session.run(lambda items, *_: items))[-1].quality
        assert quality is not None
        with Segmenter(str(int8), backend="onnxruntime") as shipped:
            figures = evaluate(shipped, session._parted[1])
        assert quality.mean_iou == pytest.approx(figures.mean_iou, abs=2e-3)

    def test_a_run_that_is_stopped_and_goes_on_ends_with_the_bytes_of_one_that_was_not(self, data, tmp_path):
        weights, int8 = made(tmp_path / "made")
        for name in ("whole", "stopped"):
            begun = partial(self.session, data, tmp_path / name, weights, int8)
            if name == "stopped":
                run = begun().run(lambda items, *_: items)
                assert [next(run).step for _ in range(6)][-1] == 5
                run.close()
            steps = [each.step for each in begun().run(lambda items, *_: items)]
            assert steps[0] == (5 if name == "stopped" else 0)
        for name in ("summed.safetensors", "best.safetensors"):
            assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    def test_what_was_trained_is_exported_to_the_same_kind_of_file(self, data, tmp_path, monkeypatch):
        weights, int8 = made(tmp_path / "made")
        list(self.session(data, tmp_path / "out", weights, int8).run(lambda items, *_: items))
        network, spec = load(tmp_path / "out/summed.safetensors")
        float_file = export(network, spec, tmp_path / "again.onnx", [photo(96)[0]]).path
        calibration = Calibration("photos", tuple(demo_photos()[:1]), "ab" * 32)
        monkeypatch.setattr(
            "fcn_edge.quantization.convert.AGREEMENT", 0.0
        )  # twelve steps from noise are no classes yet
        again = to_int8(float_file, tmp_path / "again.int8.onnx", calibration, Choices(), [photo(96)[0]]).path
        before, after = (onnx.load(path).graph.node for path in (int8, again))
        assert [node.op_type for node in after] == [node.op_type for node in before]
        assert read_spec(again).provenance["int8_aware_file"] == "summed.int8.onnx"


class TestRefusals:
    """One line each, before anything is trained."""

    @pytest.fixture
    def data(self, tmp_path):
        return draw_data(tmp_path / "data", count=12)

    def train(self, data: Path, tmp_path: Path, **options: Any) -> None:
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, **options.pop("figures", {})))
        train_command(data=[f"{data}:train"], recipe=recipe, out=tmp_path / "out", **options)
        raise AssertionError("nothing was refused")

    def test_files_that_are_no_calibrated_ones(self, data, tmp_path):
        weights, int8 = made(tmp_path / "made")
        bare = onnx.load(int8)
        spec = read_spec(int8)
        bare.metadata_props[0].value = replace(spec, provenance={}).to_json()
        assert bare.metadata_props[0].key == METADATA_KEY
        onnx.save(bare, tmp_path / "bare.onnx")
        refused = [
            (tmp_path / "made/summed.onnx", "summed.onnx is fp32, so it has no ranges to train within"),
            (weights, "summed.safetensors is no ONNX file"),
            (tmp_path / "bare.onnx", "bare.onnx does not say which set it was calibrated on"),
            (tmp_path / "lost.onnx", "lost.onnx: no such model file"),
        ]
        for file, told in refused:
            with pytest.raises(ModelError, match=told) as raised:
                self.train(data, tmp_path, weights=str(weights), qat=file)
            assert "\n" not in str(raised.value)
        assert not (tmp_path / "out").exists()

    def test_a_file_of_other_weights_or_of_another_variant(self, data, tmp_path):
        weights, int8 = made(tmp_path / "made")
        others, _ = made(tmp_path / "others", seed=5)
        _, tiny = made(tmp_path / "tiny", "tiny")
        with pytest.raises(ModelError, match=r"summed\.int8\.onnx was not made from these weights: they have no first"):
            self.train(data, tmp_path, weights=str(others), qat=int8)
        with pytest.raises(ModelError, match=r"tiny\.int8\.onnx is tiny, padding same; to be trained is summed"):
            self.train(data, tmp_path, weights=str(weights), qat=tiny, variant="summed")
        assert not (tmp_path / "out").exists()

    def test_what_goes_with_it_is_said(self, data, tmp_path):
        weights, int8 = made(tmp_path / "made")
        with pytest.raises(UsageError, match="wants the weights that it was made from: --weights CHECKPOINT"):
            self.train(data, tmp_path, qat=int8)
        with pytest.raises(FcnEdgeError, match="drop --cache-features"):
            self.train(data, tmp_path, weights=str(weights), qat=int8, freeze_trunk=True, cache_features=True)
