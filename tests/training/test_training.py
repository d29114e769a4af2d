"""Runs from the command line: what one leaves, how it goes on after a kill, what it refuses."""

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from drawn import draw_data, recipe_file
from PIL import Image
from safetensors.torch import save_file
from tiny_network import Tiny, TinyPlain

from fcn_edge.cli.train import EPILOG
from fcn_edge.cli.train import command as train
from fcn_edge.data import DataSet
from fcn_edge.errors import DataError, FcnEdgeError, SinkError, UsageError
from fcn_edge.models.checkpoint import load, save_checkpoint, untrained
from fcn_edge.onnx_export import export
from fcn_edge.runtime.files import bundled, read_spec
from fcn_edge.spec import voc_palette
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.run_state import load_state
from fcn_edge.training.session import Session

RECIPE = Recipe("tiny", steps=8, batch=4, crop=64, longer_side=(64, 96), rate=1e-2, warmup=1, hold_back=4)
EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]
EXAMPLES = [example for example in EXAMPLES if "--qat" not in example]  # test_qat.py runs that one
SUPPORT = Path(__file__).parents[1] / "support"
TOLERANCE = 1e-5  # of float32 weights after 8 steps; bfloat16 would need a hundred times as much
FLOAT32 = """
import tiny_network
from fcn_edge.cli.main import main
from fcn_edge.training import loop

loop.precision = lambda: "32-true"
main()
"""

LIMITED = """
import os, resource, sys

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""
WITHOUT_TORCH = """
import sys
from fcn_edge.cli.main import main

try:
    main()
finally:
    print("torch" in sys.modules)
"""


def command(data: Path, recipe: Path, out: Path, *more: str) -> list[str]:
    arguments = ["train", "--data", f"{data}:train", "--recipe", str(recipe), "--out", str(out), *more]
    return [sys.executable, "-m", "tiny_network", *arguments]


def environment(home: Path) -> dict[str, str]:
    """Caches are kept under `home`."""
    paths = [str(SUPPORT), str(Path(__file__).parents[2])]
    return os.environ | {"XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": os.pathsep.join(paths)}


def run(arguments: list[str], home: Path, largest: int | None = None) -> subprocess.CompletedProcess[str]:
    """largest: file that the system lets it write, in bytes; so a full disk fails, with another number."""
    limited = arguments if largest is None else [sys.executable, "-c", LIMITED, str(largest), *arguments]
    return subprocess.run(limited, capture_output=True, text=True, env=environment(home))


def wait_for_step(process: subprocess.Popen, folder: Path, step: int) -> None:
    """Until the run has saved a state of at least that step."""
    deadline = time.monotonic() + 300
    while not any(int(row["step"]) >= step for row in rows_of(folder)) or not (folder / "last.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)


def rows_of(folder: Path) -> list[dict[str, str]]:
    path = folder / "log.csv"
    text = path.read_text() if path.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


@pytest.fixture
def data(tmp_path):
    return draw_data(tmp_path / "data", count=12)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_trains(example, tmp_path):
    draw_data(tmp_path / "VOCdevkit/VOC2012", count=20)
    network, spec = untrained("fcn8s-lite")
    save_checkpoint(tmp_path / "trunk.safetensors", network, spec)
    export(network, spec, tmp_path / "big.onnx", [np.zeros((65, 65, 3), np.uint8)])
    arguments = [sys.executable, "-m", "fcn_edge", *shlex.split(example)[1:]]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/*/fcn8s-lite.safetensors"))) == 1
    assert len(list(tmp_path.glob("cache/fcn-edge/teacher/*/*.npy"))) == (20 if "--teacher" in example else 0)


class TestRun:
    def test_a_run_leaves_checkpoints_logs_curves_and_a_card(self, data, tmp_path):
        val = draw_data(tmp_path / "val", count=3, sizes=((80, 80),))
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=None, epochs=4.0))
        out = tmp_path / "out"
        done = run(command(data, recipe, out, "--val", f"{val}:train", "--json"), tmp_path)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["steps"] == 12  # 12 pictures, none of them held back, in batches of 4
        rows = rows_of(out)
        assert [row["step"] for row in rows if row["loss"]] == ["10", "12"]
        validated = [row for row in rows if row["mean_iou"]]
        assert [row["step"] for row in validated] == ["3", "6", "9", "12"]
        assert float(validated[-1]["pixel_accuracy"]) == pytest.approx(document["pixel_accuracy_val"], rel=1e-4)
        assert cv2.imread(str(out / "curves.png")) is not None
        assert not list(out.glob("candidate*"))
        assert not list(out.glob(".*"))

        last, best = read_spec(out / "tiny.safetensors"), read_spec(out / "best.safetensors")
        assert last.provenance["recipe"]["epochs"] == 4
        assert last.provenance["lists"] == ["data:train"]
        assert best.quality["mean_iou_val"] == pytest.approx(max(float(row["mean_iou"]) for row in validated), rel=1e-4)
        assert last.provenance["pictures"] == 12
        assert last.provenance["seen"] == "nothing but the pictures that it was trained on"
        assert "Checking masks" in done.stderr
        assert "tiny: 12 steps of 4 pictures, in " in done.stderr
        assert "step 10 of 12: loss " in done.stderr
        assert "Mixed Precision" not in done.stderr
        card = (out / "model-card.md").read_text()
        assert f"| mean iou val | {last.quality['mean_iou_val']:.4f} |" in card
        assert "data:train" in card
        assert "curves.png" in card
        again = run(command(data, recipe, out, "--val", f"{val}:train", "--json"), tmp_path)
        assert again.returncode == 0, again.stderr
        assert "finished already, all 12 steps" in again.stderr
        assert json.loads(again.stdout) == document  # a finished run has nothing left to do, and says what it reached
        steps = tensorboard_steps(out / "tensorboard", "mean_iou")
        assert steps == [3, 6, 9, 12]

    def test_a_run_killed_twice_ends_with_the_very_bytes_of_one_that_was_not(self, data, tmp_path):
        """The network has dropout, batch norm and an auxiliary head; the weights are averaged."""
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=100, validate_every=15, optimizer="sgd"))
        done = run(command(data, recipe, tmp_path / "whole"), tmp_path)
        assert done.returncode == 0, done.stderr

        killed = tmp_path / "killed"
        for step in (20, 60):
            process = subprocess.Popen(
                command(data, recipe, killed), stderr=subprocess.DEVNULL, env=environment(tmp_path)
            )
            wait_for_step(process, killed, step)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not (killed / "tiny.safetensors").exists()
        done = run(command(data, recipe, killed), tmp_path)
        assert done.returncode == 0, done.stderr
        assert "going on from step " in done.stderr

        for name in ("tiny.safetensors", "best.safetensors"):
            assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        kept = [key for key in rows_of(killed)[0] if key != "pictures_per_second"]
        whole, resumed = ([[row[key] for key in kept] for row in rows_of(out)] for out in (tmp_path / "whole", killed))
        assert resumed == whole
        whole, resumed = (torch.load(out / "last.pt", weights_only=True) for out in (tmp_path / "whole", killed))
        for part in ("model", "optimizer", "ema"):
            torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_ends_a_run_between_two_steps_and_says_which(self, data, tmp_path, number, status):
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=100_000, validate_every=2))
        process = subprocess.Popen(
            command(data, recipe, tmp_path / "out"),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment(tmp_path),
        )
        wait_for_step(process, tmp_path / "out", 2)
        os.killpg(process.pid, number)
        _, stderr = process.communicate()
        assert process.returncode == status
        assert "Traceback" not in stderr
        said = re.fullmatch(r"stopped at step (\d+) of 100000; the same command goes on", stderr.splitlines()[-1])
        assert said, stderr
        assert torch.load(tmp_path / "out/last.pt", weights_only=True)["step"] == int(said[1])
        assert not (tmp_path / "out/candidate").exists()

    def test_a_full_disk_ends_a_run_with_a_line_and_keeps_what_was_saved(self, data, tmp_path):
        # small crops: a batch goes through shared memory, which the limit holds for too
        figures = replace(RECIPE, steps=2_000, validate_every=50, crop=32, longer_side=(32, 48))
        recipe, out = recipe_file(tmp_path / "r.toml", figures), tmp_path / "out"
        state = out / "last.pt"
        at_once = run(command(data, recipe, out), tmp_path, largest=10_000)
        assert at_once.returncode == 1
        assert at_once.stderr.splitlines()[-1].startswith(f"fcn-edge: {state} cannot be written: ")
        assert not list(out.iterdir())
        process = subprocess.Popen(command(data, recipe, out), stderr=subprocess.DEVNULL, env=environment(tmp_path))
        wait_for_step(process, out, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        before = state.read_bytes()
        later = run(command(data, recipe, out), tmp_path, largest=30_000)
        assert later.returncode == 1
        assert "Traceback" not in at_once.stderr + later.stderr
        assert "cannot be written" in later.stderr.splitlines()[-1]
        assert "make room, and the same command goes on" in later.stderr.splitlines()[-1]
        assert state.read_bytes() == before

    def test_a_card_speaks_of_the_run_that_it_names_and_of_no_other(self, data, tmp_path):
        network, spec = untrained("tiny")
        save_checkpoint(tmp_path / "start.safetensors", network, replace(spec, provenance={"seen": "noise"}))
        card = {"lists": "data:train", "weights": "start.safetensors", "teacher": "none"}
        card |= {"data": "squares", "seen": "squares and noise", "license": "MIT"}
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=1, card=card, thin=("dog",)))
        shutil.copy(tmp_path / "start.safetensors", tmp_path / "other.safetensors")
        seen = []
        for name in ("start.safetensors", "other.safetensors"):
            out = tmp_path / name.partition(".")[0]
            done = run([*command(data, recipe, out), "--weights", str(tmp_path / name)], tmp_path)
            assert done.returncode == 0, done.stderr
            told = read_spec(out / "tiny.safetensors")
            seen.append((told.provenance["seen"], told.provenance.get("license"), told.thin))
            assert told.provenance["pretrained_file"] == name
            assert told.provenance["pictures"] == 9  # three of twelve are held back
            assert f"| pretrained file | {name} |" in (out / "model-card.md").read_text()
        assert seen[0] == ("squares and noise", "MIT", ("dog",))
        assert seen[1] == ("other.safetensors, its pretrained weights: noise", None, ())
        assert "speak of another run and are left out: weights start.safetensors there, other" in done.stderr

    def test_two_processes_learn_what_one_does(self, data, tmp_path):
        """Lightning Fabric's ddp over gloo; 8 pictures a step, 4 a process, and 2 parts of them each."""
        figures = {"batch": 8, "accumulate": 4, "optimizer": "sgd", "momentum": 0.0, "power": 0.0, "clip": 0.0}
        recipe = replace(RECIPE, variant="tiny-plain", rate=0.1, ema=0.0, **figures)
        written = recipe_file(tmp_path / "r.toml", recipe)
        (tmp_path / "float32.py").write_text(FLOAT32)
        outs = [tmp_path / "one", tmp_path / "two"]
        for number, out in enumerate(outs, 1):
            arguments = command(data, written, out, "--devices", str(number))
            arguments[1:3] = [str(tmp_path / "float32.py")]
            done = run(arguments, tmp_path)
            assert done.returncode == 0, done.stderr
            assert done.stderr.count("curves.png") == 1  # one of them speaks
        one, two = (torch.load(out / "last.pt", weights_only=True)["model"] for out in outs)
        torch.manual_seed(recipe.seed)
        start = TinyPlain(21).state_dict()
        for name, value in one.items():
            assert (value - start[name]).abs().max() > 100 * TOLERANCE  # so gradients of half or twice the size show
            torch.testing.assert_close(two[name], value, atol=TOLERANCE, rtol=0)

    def test_two_processes_train_heads_on_kept_features_and_leave_the_trunk_alone(self, data, tmp_path):
        """The network's auxiliary head has no part in it, so ddp would wait for its gradients for ever."""
        recipe = recipe_file(tmp_path / "r.toml", RECIPE)
        options = ("--freeze-trunk", "--cache-features", "--devices", "2")
        done = run(command(data, recipe, tmp_path / "out", *options), tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(list(tmp_path.glob("cache/fcn-edge/features/*/*.safetensors"))) == 9
        trained = torch.load(tmp_path / "out/last.pt", weights_only=True)["model"]
        torch.manual_seed(RECIPE.seed)
        for name, value in Tiny(21).state_dict().items():
            assert torch.equal(trained[name], value) == name.startswith(("features.", "auxiliary.")), name

    def test_a_bundled_name_is_a_teacher(self, data, tmp_path):
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=1, soft_weight=1.0))
        done = run(command(data, recipe, tmp_path / "out", "--teacher", "fcn8s-lite-small"), tmp_path)
        assert done.returncode == 0, done.stderr
        shipped = hashlib.sha256(bundled()["fcn8s-lite-small"].read_bytes()).hexdigest()
        assert read_spec(tmp_path / "out/tiny.safetensors").provenance["teacher"] == shipped

    def test_bare_weights_of_the_datas_own_classes_are_taken_whole(self, tmp_path):
        """They do not say that there are three; nothing of them starts anew."""
        weights = Tiny(3).state_dict()
        torch.save(weights, tmp_path / "bare.pth")
        data = DataSet([], ("road", "car", "sky"), voc_palette(3))
        session = Session(recipe=RECIPE, data=data, weights=tmp_path / "bare.pth", out=tmp_path)
        network, names = session._network()
        assert names == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())

    def test_a_network_of_other_classes_keeps_all_but_its_scores(self, tmp_path):
        """Three classes of a folder pair, from weights for VOC's 21."""
        pair = tmp_path / "pair"
        (pair / "images").mkdir(parents=True)
        (pair / "masks").mkdir()
        (pair / "classes.txt").write_text("road\ncar\nsky\n")
        rng = np.random.default_rng(0)
        for number in range(6):
            cv2.imwrite(str(pair / f"images/{number}.png"), rng.integers(0, 256, (70, 80, 3), np.uint8))
            Image.fromarray(rng.integers(0, 3, (70, 80), np.uint8)).save(pair / f"masks/{number}.png")
        network, spec = untrained("fcn8s-lite")
        save_checkpoint(tmp_path / "voc.safetensors", network, spec)
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, variant="fcn8s-lite", steps=1, crop=65, batch=2))
        arguments = [*command(pair, recipe, tmp_path / "out"), "--weights", str(tmp_path / "voc.safetensors")]
        arguments[arguments.index(f"{pair}:train")] = str(pair)
        done = run(arguments, tmp_path)
        assert done.returncode == 0, done.stderr
        trained, spec = load(tmp_path / "out/fcn8s-lite.safetensors")
        assert spec.classes == ("road", "car", "sky")
        torch.testing.assert_close(
            trained.state_dict()["features.0.0.weight"],
            network.state_dict()["features.0.0.weight"],
            atol=0.01,
            rtol=0.1,
        )


class TestRefusals:
    """All before the first step; the command is called in this process, `main` prints what it raises as one line."""

    @pytest.fixture(autouse=True)
    def tiny(self):
        import_module("tiny_network")

    def test_a_folder_with_another_recipes_run_is_not_continued(self, data, tmp_path):
        first = recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=1))
        out = tmp_path / "out"
        assert run(command(data, first, out), tmp_path).returncode == 0
        other = recipe_file(tmp_path / "s.toml", replace(RECIPE, steps=2))
        done = run(command(data, other, out), tmp_path)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "another recipe: steps = 1 there, 2 here" in done.stderr.splitlines()[-1]
        list_ = data / "ImageSets/Segmentation/train.txt"
        list_.write_text(list_.read_text().rpartition("\n")[0])
        with pytest.raises(DataError, match="other pictures"):
            train(data=[f"{data}:train"], recipe=first, out=out)

    def test_wrong_masks_are_named_before_anything_is_trained(self, data, tmp_path):
        Image.new("P", (10, 10)).save(data / "SegmentationClass/3.png")
        (data / "SegmentationClass/5.png").unlink()
        recipe = recipe_file(tmp_path / "r.toml", RECIPE)
        with pytest.raises(DataError, match="2 of 12 masks"):
            train(data=[f"{data}:train"], recipe=recipe, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("content", [b"", b"no state", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."], ids=str)
    def test_a_damaged_state_is_told_with_the_mend(self, tmp_path, content):
        (tmp_path / "last.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"last.pt: not the state of a run, or damaged\. .* --force") as raised:
            load_state(tmp_path, RECIPE, "")
        assert "\n" not in str(raised.value)

    def test_a_run_cannot_lie_in_a_file(self, data, tmp_path):
        (tmp_path / "out").write_text("a file")
        with pytest.raises(SinkError, match=r"out cannot be a folder: .*out is a file"):
            train(data=[f"{data}:train"], recipe=recipe_file(tmp_path / "r.toml", RECIPE), out=tmp_path / "out")

    @pytest.mark.parametrize("name", ["tiny.safetensors", "best.safetensors", "log.csv", "model-card.md"])
    def test_another_ones_file_of_a_runs_name_is_not_overwritten(self, data, tmp_path, name):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text("mine")
        recipe = recipe_file(tmp_path / "r.toml", RECIPE)
        with pytest.raises(SinkError, match=f"out has {name} and no state of a run.*--force"):
            train(data=[f"{data}:train"], recipe=recipe, out=tmp_path / "out")
        assert (tmp_path / "out" / name).read_text() == "mine"

    def test_force_leaves_the_run_that_is_there_whole_until_the_new_one_is_accepted(self, data, tmp_path):
        out = tmp_path / "out"
        assert (
            run(command(data, recipe_file(tmp_path / "r.toml", replace(RECIPE, steps=1)), out), tmp_path).returncode
            == 0
        )
        save_file({"features.0.weight": torch.zeros(1, 2)}, tmp_path / "others.safetensors")
        save_file({"x": torch.zeros(1)}, tmp_path / "bare.safetensors")
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        refused = [
            ({"crop": 70}, {}, "Set crop = 72"),
            ({}, {"weights": str(tmp_path / "others.safetensors")}, "do not fit"),
            ({"soft_weight": 1.0}, {"teacher": str(tmp_path / "bare.safetensors")}, "--teacher-spec FILE"),
        ]
        for figures, options, told in refused:
            recipe = recipe_file(tmp_path / "s.toml", replace(RECIPE, **figures))
            with pytest.raises(FcnEdgeError, match=told):
                train(data=[f"{data}:train"], recipe=recipe, out=out, force=True, **cast("Any", options))
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (["--recipe", "lost.toml"], "lost.toml: there is no such recipe"),
            (["--recipe", "odd.toml"], "odd.toml: a recipe has no figure named momentun"),
            (["--data", "lost"], "lost: there is no such folder"),
            (["--weights", "nosuch"], "no bundled or published weights 'nosuch'. Known: "),
            (["--weights", "lost.pth"], "lost.pth: no such weights file"),
        ],
        ids=str,
    )
    def test_what_is_mistyped_is_answered_before_torch_is_there(self, data, tmp_path, options, told):
        (tmp_path / "odd.toml").write_text('variant = "fcn8s-lite"\nbatch = 1\nrate = 1\nsteps = 4\nmomentun = 0.9')
        arguments = [sys.executable, "-c", WITHOUT_TORCH, "train", "--data", f"{data}:train", *options]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path))
        assert told in done.stderr
        assert done.stdout == "False\n"

    @pytest.mark.parametrize(
        ("figures", "options", "told"),
        [
            ({"thin": ("zebra",)}, {}, "thin names zebra, which the data do not have. Their classes: background, aero"),
            ({"frozen": ("trunk.",)}, {}, "frozen names 'trunk.'; the parameters are in auxiliary., features., head."),
            ({"variant": "fcn9s"}, {}, "r.toml: there is no variant 'fcn9s'"),
            ({}, {"val": "train"}, "12 of 12 pictures to validate on are trained on as well"),
            ({}, {"cache_features": True}, "--freeze-trunk"),
            ({"crop": 70}, {}, "Set crop = 72"),
            ({"batch": 40}, {}, "9 pictures to train on, a batch of this recipe has 40"),
            ({"class_weights": {"zebra": 2.0}}, {}, "class_weights names zebra"),
            ({"soft_weight": 1.0}, {}, "--teacher"),
            ({}, {"teacher": "fcn8s-lite"}, "soft_weight = 0"),
            ({"soft_weight": 1.0}, {"teacher": "lost.onnx"}, "lost.onnx: no such model file"),
            ({"soft_weight": 1.0}, {"teacher": "fcn9s"}, "no bundled model 'fcn9s'"),
            ({"padding": "paper"}, {}, "no form with padding"),
            ({}, {"variant": "fcn9s"}, "there is no variant 'fcn9s'"),
            ({}, {"padding": "valid"}, "there is no padding 'valid'"),
            ({}, {"devices": 3}, "3 devices"),
        ],
        ids=str,
    )
    def test_what_cannot_be_trained_is_said_in_a_line(self, data, tmp_path, figures, options, told):
        recipe = recipe_file(tmp_path / "r.toml", replace(RECIPE, **figures))
        given: dict[str, Any] = dict(options)
        if "val" in given:
            given["val"] = [f"{data}:{given['val']}"]
        with pytest.raises((FcnEdgeError, UsageError), match=told) as raised:
            train(data=[f"{data}:train"], recipe=recipe, out=tmp_path / "out", **given)
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "out").exists()
        named_wrongly = any(str(value) in ("fcn9s", "valid") for value in options.values())
        assert isinstance(raised.value, UsageError) == (named_wrongly or "cache_features" in options)


def tensorboard_steps(folder: Path, tag: str) -> list[int]:
    """The steps of a scalar in TensorBoard's record files: length, its checksum, the event, its checksum."""
    events: Any = import_module("tensorboardX.proto.event_pb2")
    steps: list[int] = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = events.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            steps += [event.step for value in event.summary.value if value.tag == tag]
    return steps
