"""Training on pictures that the tests draw: what a run does, and how it goes on after a kill."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fcn_edge.cli.train import EPILOG
from fcn_edge.data import open_list
from fcn_edge.errors import DataError
from fcn_edge.models.checkpoint import load, save_checkpoint, untrained
from fcn_edge.models.network import Geometry
from fcn_edge.onnx_export import export
from fcn_edge.spec import VOID, voc_palette
from fcn_edge.training.augment import crop
from fcn_edge.training.loss import label_loss, soft_loss
from fcn_edge.training.recipe import Recipe, read_recipe
from fcn_edge.training.samples import Crops, hold_back

RECIPE = Recipe("fcn8s-lite", steps=4, batch=2, crop=65, longer_side=(64, 96), rate=1e-3, warmup=1, hold_back=4)
EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
ALIGNED = Geometry(65, 32, "k*stride+1", 8, "align_corners")


def draw_data(root: Path, count: int = 8) -> Path:
    """A data set in VOC layout: a bright square of class 12 on noise."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        image = rng.integers(0, 90, (72, 96, 3), dtype=np.uint8)
        mask = np.zeros((72, 96), np.uint8)
        top, left = rng.integers(0, 40, 2)
        image[top : top + 30, left : left + 30] = 220
        mask[top : top + 30, left : left + 30] = 12
        cv2.imwrite(str(root / f"JPEGImages/{number}.jpg"), image)
        palette = Image.fromarray(mask)
        palette.putpalette([value for color in voc_palette(256) for value in color])
        palette.save(root / f"SegmentationClass/{number}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(map(str, range(count))))
    return root


def recipe_file(path: Path, recipe: Recipe) -> Path:
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in vars(recipe).items()))
    return path


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_trains(example, tmp_path, monkeypatch):
    data = draw_data(tmp_path / "VOCdevkit/VOC2012", count=20)
    assert data.is_dir()
    network, spec = untrained("fcn8s-lite")
    save_checkpoint(tmp_path / "trunk.safetensors", network, spec)
    export(network, spec, tmp_path / "big.onnx", [np.zeros((65, 65, 3), np.uint8)])
    monkeypatch.setenv("HOME", str(tmp_path))  # the teacher's cache is kept there
    arguments = shlex.split(example)[1:]
    done = subprocess.run([sys.executable, "-m", "fcn_edge", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/*/fcn8s-lite.safetensors"))) == 1
    assert len(list(tmp_path.glob(".cache/fcn-edge/teacher/*/*.npy"))) == (20 if "--teacher" in example else 0)


def command(data: Path, recipe: Path, out: Path) -> list[str]:
    arguments = ["train", "--data", f"{data}:train", "--recipe", str(recipe), "--out", str(out)]
    return [sys.executable, "-m", "fcn_edge", *arguments]


def wait_for_state(run: subprocess.Popen, folder: Path) -> None:
    """Until the run has saved what it could be resumed from."""
    deadline = time.monotonic() + 120
    while not (folder / "last.pt").exists():
        assert time.monotonic() < deadline
        assert run.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)


class TestCrop:
    def test_a_crop_larger_than_the_picture_is_void_outside_it(self):
        image, mask = np.full((40, 60, 3), 200, np.uint8), np.zeros((40, 60), np.uint8)
        recipe = replace(RECIPE, crop=97, longer_side=(60, 60), color=0.0)
        frame, labels, _ = crop(image, mask, None, recipe, 8, np.random.default_rng(0))
        assert frame.shape == (97, 97, 3)
        assert (labels == 0).sum() == 40 * 60
        assert (frame[labels == 0] == 200).all()
        assert (frame[labels == VOID] == 127).all()

    @pytest.mark.parametrize("seed", range(8))
    def test_the_teachers_probabilities_follow_the_picture(self, seed):
        """A teacher that knows the mask has to say at each score's position what the mask says there."""
        mask = np.zeros((120, 160), np.uint8)
        mask[30:90, 40:120] = 1
        soft = np.stack([mask == 0, mask == 1]).astype(np.float16)
        recipe = replace(RECIPE, crop=129, longer_side=(120, 200))
        image = np.repeat(mask[:, :, None] * 100, 3, 2)
        _, labels, probabilities = crop(image, mask, soft, recipe, 8, np.random.default_rng(seed))
        assert probabilities is not None
        at_scores = labels[::8, ::8]
        sure = probabilities.max(0) > 0.99
        np.testing.assert_array_equal(probabilities.sum(0) > 0.5, at_scores != VOID)
        np.testing.assert_array_equal(probabilities.argmax(0)[sure], at_scores[sure])
        assert sure.mean() > 0.2

    def test_the_same_number_gives_the_same_crop(self, tmp_path):
        samples = open_list(draw_data(tmp_path / "data"), ["train"])
        crops = Crops(samples, RECIPE, 8)
        first, again, other = crops[3], crops[3], crops[3 + len(samples)]
        np.testing.assert_array_equal(first["frame"], again["frame"])
        assert not np.array_equal(first["frame"], other["frame"])

    def test_what_is_held_back_is_never_trained_on(self, tmp_path):
        samples = open_list(draw_data(tmp_path / "data"), ["train"])
        kept, held = hold_back(samples, 4)
        assert (len(kept), len(held)) == (6, 2)
        assert not {sample.id for sample in kept} & {sample.id for sample in held}


class TestLoss:
    def test_void_does_not_count(self):
        scores = torch.randn(1, 3, 9, 9)
        mask = torch.zeros(1, 65, 65, dtype=torch.uint8)
        half = mask.clone()
        half[:, :, 33:] = VOID
        left = torch.cat([scores[..., :5], torch.full_like(scores[..., 5:], 1e4)], 3)
        assert label_loss(left, half, ALIGNED, 1).item() == pytest.approx(
            label_loss(scores, half, ALIGNED, 1).item(), rel=1e-4
        )

    def test_all_void_is_no_loss_rather_than_nan(self):
        mask = torch.full((1, 65, 65), VOID, dtype=torch.uint8)
        assert label_loss(torch.randn(1, 3, 9, 9), mask, ALIGNED, 2).item() == 0

    def test_agreeing_with_a_sure_teacher_costs_nothing(self):
        soft = torch.zeros(1, 3, 4, 4)
        soft[:, 1] = 1
        scores = torch.zeros(1, 3, 4, 4)
        scores[:, 1] = 50
        assert soft_loss(scores, soft).item() == pytest.approx(0, abs=1e-6)
        assert soft_loss(-scores, soft).item() > 10


class TestRun:
    def test_a_run_leaves_a_checkpoint_a_log_and_curves(self, tmp_path):
        data = draw_data(tmp_path / "data")
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, validate_every=2))
        done = subprocess.run(command(data, recipe, tmp_path / "out"), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        _, spec = load(tmp_path / "out/fcn8s-lite.safetensors")
        assert spec.provenance["recipe"]["steps"] == 4
        rows = list(csv.DictReader((tmp_path / "out/log.csv").read_text().splitlines()))
        assert [row["step"] for row in rows if row["mean_iou"]] == ["2", "4"]
        assert cv2.imread(str(tmp_path / "out/curves.png")) is not None
        assert not (tmp_path / "out/candidate.safetensors").exists()

    def test_a_killed_run_goes_on_bit_for_bit(self, tmp_path):
        data = draw_data(tmp_path / "data")
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=8, validate_every=4))
        subprocess.run(command(data, recipe, tmp_path / "whole"), check=True, capture_output=True)

        killed = subprocess.Popen(command(data, recipe, tmp_path / "killed"), stderr=subprocess.DEVNULL)
        wait_for_state(killed, tmp_path / "killed")
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert not (tmp_path / "killed/fcn8s-lite.safetensors").exists()
        subprocess.run(command(data, recipe, tmp_path / "killed"), check=True, capture_output=True)

        (whole, _), (resumed, _) = (load(tmp_path / run / "fcn8s-lite.safetensors") for run in ("whole", "killed"))
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name

    def test_ctrl_c_ends_a_run_without_a_traceback(self, tmp_path):
        data = draw_data(tmp_path / "data")
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=10_000, validate_every=2))
        run = subprocess.Popen(
            command(data, recipe, tmp_path / "out"), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        wait_for_state(run, tmp_path / "out")
        os.killpg(run.pid, signal.SIGINT)
        _, stderr = run.communicate()
        assert run.returncode == 130
        assert "Traceback" not in stderr

    def test_a_folder_with_another_recipes_run_is_not_continued(self, tmp_path):
        data = draw_data(tmp_path / "data")
        first = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=1))
        subprocess.run(command(data, first, tmp_path / "out"), check=True, capture_output=True)
        other = recipe_file(tmp_path / "s.toml", replace(RECIPE, steps=2))
        done = subprocess.run(command(data, other, tmp_path / "out"), capture_output=True, text=True)
        assert done.returncode == 1
        assert "another recipe" in done.stderr
        assert "Traceback" not in done.stderr

    def test_wrong_masks_are_named_before_anything_is_trained(self, tmp_path):
        data = draw_data(tmp_path / "data")
        Image.new("P", (10, 10)).save(data / "SegmentationClass/3.png")
        (data / "SegmentationClass/5.png").unlink()
        recipe = recipe_file(tmp_path / "r.toml", RECIPE)
        done = subprocess.run(command(data, recipe, tmp_path / "out"), capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("fcn-edge: 2 of 8 masks")
        assert not (tmp_path / "out/last.pt").exists()

    def test_training_on_a_drawn_square_finds_it(self, tmp_path):
        """The loop, the loss and the schedule together: loss falls on what can be learnt in seconds."""
        from fcn_edge.training.loop import train

        samples = open_list(draw_data(tmp_path / "data"), ["train"])
        recipe = replace(RECIPE, steps=40, batch=4, rate=2e-3, color=0.0, validate_every=1000)
        network, _ = untrained("fcn8s-lite")
        losses = [
            step.loss
            for step in train(
                network,
                set(),
                Crops(samples, recipe, 8),
                tmp_path,
                validate=lambda network: 0.0,
                keep_best=lambda network, value: None,
                workers=0,
            )
        ]
        assert losses[-1] < 0.5 * losses[10]


class TestRecipe:
    @pytest.mark.parametrize(
        "path", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.stem
    )
    def test_a_bundled_recipe_is_read(self, path):
        recipe = read_recipe(path)
        assert recipe.variant == "fcn8s-lite"
        assert (recipe.crop - 1) % 32 == 0
        assert recipe.card["seen"]

    def test_a_wrong_figure_is_named(self, tmp_path):
        (tmp_path / "r.toml").write_text('variant = "fcn8s-lite"\nsteps = "many"')
        with pytest.raises(DataError, match="steps"):
            read_recipe(tmp_path / "r.toml")
