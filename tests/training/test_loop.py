"""The loop's arithmetic, on networks small enough to work it out another way."""

from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from drawn import SQUARE, draw_data
from tiny_network import Tiny, TinyPlain
from torch.nn import functional as F

from fcn_edge.data import open_list
from fcn_edge.errors import FcnEdgeError
from fcn_edge.spec import VOID
from fcn_edge.training.features import keep_features
from fcn_edge.training.log import read_log, told_losses
from fcn_edge.training.loop import Progress, Quality, connect, train
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.run_state import load_state
from fcn_edge.training.samples import Part, Views

CLASSES = 21
RECIPE = Recipe(
    "tiny", steps=4, batch=4, crop=64, longer_side=(64, 96), rate=1e-2, warmup=0, ema=0.0, clip=0.0, validate_every=99
)
WHOLE = replace(RECIPE, crop=None, longer_side=None, flip=0.0, color=0.0, optimizer="sgd", power=0.0)
SIZES = ((72, 96), (52, 60), (80, 48))


@pytest.fixture(scope="module", autouse=True)
def float32():
    """The loop computes in bfloat16 where the machine does; what is compared here has to be exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcn_edge.training.loop.precision", lambda: "32-true")
        yield


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return open_list(draw_data(tmp_path_factory.mktemp("drawn") / "data", sizes=SIZES), ["train"])


def multiple_of_8(pixels: int) -> int:
    return -(-pixels // 8) * 8


def run(network, samples, recipe: Recipe, folder: Path, **options) -> list[Progress]:
    views = Views(samples, recipe, multiple_of_8)
    fabric = connect(recipe, views.last_step)
    quality = Quality(0.5, 0.9)
    return list(train(network, set(), views, folder, lambda _: quality, lambda *_: None, fabric, workers=0, **options))


def seeded(kind) -> Any:
    torch.manual_seed(0)
    return kind(CLASSES)


def test_a_batch_computed_in_parts_gives_the_weights_of_one_computed_at_once(samples, tmp_path):
    once, parts = seeded(TinyPlain), seeded(TinyPlain)
    for network, accumulate in ((once, 1), (parts, 4)):
        folder = tmp_path / str(accumulate)
        folder.mkdir()
        run(network, samples, replace(RECIPE, accumulate=accumulate), folder)
    for name, value in once.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_a_step_of_whole_pictures_follows_the_mean_over_all_their_labelled_pixels(samples, tmp_path):
    """The papers' update, worked out with autograd: one mean over pictures of different sizes, biases twice as fast."""
    recipe = replace(WHOLE, steps=1, batch=3, bias_rate=2.0, weight_decay=5e-4, loss_stride=1)
    trained, by_hand = seeded(TinyPlain), seeded(TinyPlain)
    views = Views(samples, recipe, multiple_of_8)
    losses = []
    for part in (views[number] for number in range(3)):
        frame, mask = torch.from_numpy(part["frame"])[None], torch.from_numpy(part["mask"])[None].long()
        scores = F.interpolate(by_hand(frame), mask.shape[1:], mode="bilinear")
        pixels = F.cross_entropy(scores, mask, ignore_index=VOID, reduction="none")
        losses.append(pixels[mask != VOID])
    assert len({len(loss) for loss in losses}) == 3
    torch.cat(losses).mean().backward()
    run(trained, samples, recipe, tmp_path)
    for name, parameter in by_hand.named_parameters():
        assert parameter.grad is not None
        rate = recipe.rate * (2 if name.endswith("bias") else 1)
        expected = parameter - rate * (parameter.grad + recipe.weight_decay * parameter)
        torch.testing.assert_close(trained.get_parameter(name), expected, atol=1e-6, rtol=1e-5)


def test_a_line_of_the_log_is_the_mean_of_ten_steps_whatever_is_validated_between(samples, tmp_path):
    lines = []
    for every in (99, 7):
        folder = tmp_path / str(every)
        folder.mkdir()
        run(seeded(TinyPlain), samples, replace(RECIPE, steps=20, validate_every=every), folder)
        lines.append([(row["step"], row["loss"]) for row in read_log(folder) if row["loss"]])
    assert lines[0] == lines[1]


def test_an_auxiliary_head_counts_half(samples, tmp_path):
    run(seeded(Tiny), samples, RECIPE, tmp_path)
    row = read_log(tmp_path)[-2]
    assert float(row["aux_loss"]) > 0
    assert float(row["loss"]) == pytest.approx(float(row["label_loss"]) + 0.5 * float(row["aux_loss"]), rel=1e-4)


def test_a_frozen_trunk_stays_as_it_came_with_its_batch_norm(samples, tmp_path):
    network = seeded(Tiny)
    run(network, samples, replace(RECIPE, frozen_trunk_steps=4, weight_decay=0.1), tmp_path)
    before = seeded(Tiny).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("features."), name


class Uncached(Views):
    """The views that features are kept of, as pictures."""

    def __getitem__(self, number: int) -> Part:
        epoch, place = divmod(number, len(self.samples))
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.samples))
        frame, mask, _ = self.kept_view(self.samples[order[place]], epoch % self.recipe.views)
        return {"frame": frame, "mask": mask}


def test_kept_features_give_the_losses_that_their_pictures_give(samples, tmp_path):
    recipe = replace(RECIPE, steps=12, views=2, frozen_trunk_steps=12, accumulate=2)
    losses = []
    for kind in (Views, Uncached):
        network, views, folder = seeded(Tiny), kind(samples, recipe, multiple_of_8), tmp_path / kind.__name__
        folder.mkdir()
        network.head[0].p = 0.0  # dropout draws by the order in memory, which kept features do not keep
        if kind is Views:
            views.features = keep_features(network, "tiny", views, folder, nullcontext, lambda items, *_: items)
        fabric = connect(recipe, 12)
        list(train(network, set(), views, folder, lambda _: Quality(0.5, 0.9), lambda *_: None, fabric, workers=0))
        losses.append([float(row["label_loss"]) for row in read_log(folder) if row["loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # features are kept in float16


def test_a_trunk_that_is_let_go_learns_from_then_on(samples, tmp_path):
    network = seeded(Tiny)
    run(network, samples, replace(RECIPE, frozen_trunk_steps=3), tmp_path)
    assert not torch.equal(network.state_dict()["features.0.weight"], seeded(Tiny).state_dict()["features.0.weight"])


@pytest.mark.parametrize("loss", ["softmax", "binary"])
def test_training_on_a_drawn_square_finds_it(samples, tmp_path, loss):
    """Loss, optimiser and schedule together: the loss falls on what can be learnt in seconds."""
    network = seeded(TinyPlain)
    progress = run(network, samples, replace(RECIPE, steps=40, rate=3e-2, ema=0.5, color=0.0, loss=loss), tmp_path)
    assert progress[-1].loss < 0.5 * progress[10].loss
    network.eval()
    view = Views(samples, WHOLE, multiple_of_8)[0]
    labels = F.interpolate(network(torch.from_numpy(view["frame"])[None]), view["mask"].shape, mode="bilinear").argmax(
        1
    )
    found, there = labels[0].numpy() == SQUARE, view["mask"] == SQUARE
    assert (found & there).sum() / (found | there).sum() > 0.7


def test_the_curves_tell_only_the_losses_that_say_something_of_their_own(samples, tmp_path):
    for kind, shown in ((TinyPlain, ["loss"]), (Tiny, ["loss", "label_loss"])):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        run(seeded(kind), samples, RECIPE, folder)
        assert told_losses(read_log(folder)) == shown  # without a teacher; an auxiliary head makes the whole another


def test_a_run_of_fewer_than_ten_steps_shows_its_loss(samples, tmp_path):
    """A line through one point has no length: the panel would be empty."""
    run(seeded(TinyPlain), samples, RECIPE, tmp_path)
    image = cv2.imread(str(tmp_path / "curves.png"))
    assert image is not None
    panel = image[60:-120, 150 : image.shape[1] // 2 - 40]  # within the axes, left of the legend's corner
    assert (np.ptp(panel[:, : panel.shape[1] * 2 // 3].astype(int), 2) > 60).any()  # something coloured


def test_closing_a_run_on_the_way_saves_the_step_that_was_seen_last(samples, tmp_path):
    views = Views(samples, replace(RECIPE, steps=50), multiple_of_8)
    begun = train(
        seeded(TinyPlain),
        set(),
        views,
        tmp_path,
        lambda _: Quality(0, 0),
        lambda *_: None,
        connect(RECIPE, 50),
        workers=0,
    )
    assert [next(begun).step for _ in range(4)] == [0, 1, 2, 3]
    cast("Generator[Progress]", begun).close()
    state = load_state(tmp_path, views.recipe, "")
    assert state is not None
    assert state.step == 3


def test_a_loss_that_is_no_number_ends_the_run_with_a_line(samples, tmp_path):
    recipe = replace(WHOLE, steps=50, rate=1e30)
    with pytest.raises(FcnEdgeError, match=r"the loss is .* another --out, or --force"):
        run(seeded(TinyPlain), samples, recipe, tmp_path)


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_gradient_that_is_no_number_is_left_out_and_named(samples, tmp_path, caplog, clip):
    network, steps = seeded(TinyPlain), []

    def spoil_the_second(gradient):
        steps.append(gradient)
        return gradient * float("inf") if len(steps) == 2 else gradient

    next(network.parameters()).register_hook(spoil_the_second)
    run(network, samples, replace(RECIPE, clip=clip), tmp_path)
    assert len(steps) == RECIPE.steps
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert [record.getMessage() for record in caplog.records if "gradient" in record.getMessage()] == [
        "step 2: its gradient is not finite though its loss is; it was left out."
    ]


def test_a_class_of_no_weight_is_not_learnt(samples, tmp_path):
    weights = [1.0] * CLASSES
    weights[SQUARE] = 0.0
    network = seeded(TinyPlain)
    run(network, samples, replace(RECIPE, steps=25, rate=3e-2, color=0.0), tmp_path, class_weights=weights)
    view = Views(samples, WHOLE, multiple_of_8)[0]
    assert SQUARE not in network.eval()(torch.from_numpy(view["frame"])[None]).argmax(1)
