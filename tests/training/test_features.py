"""A frozen trunk's features on disk: the trunk's own, kept once, and never taken for another's."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from drawn import draw_data
from tiny_network import Tiny, TinyPlain

from fcn_edge.data import open_list
from fcn_edge.errors import DataError, ModelError
from fcn_edge.training.features import keep_features, read_features
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.samples import Views

RECIPE = Recipe("tiny", steps=4, batch=2, crop=64, longer_side=(64, 96), rate=1e-3, views=2)


@pytest.fixture
def samples(tmp_path):
    return open_list(draw_data(tmp_path / "data", count=4), ["train"])


def keep(samples, folder, recipe=RECIPE, seed=0, kind: Any = Tiny):
    torch.manual_seed(seed)
    network = kind(21)
    views = Views(samples, recipe, lambda pixels: pixels)
    return network, views, keep_features(network, "tiny", views, folder, nullcontext, lambda items, *_: items)


def test_what_is_kept_is_what_the_trunk_gives(samples, tmp_path):
    network, views, kept = keep(samples, tmp_path)
    assert len(kept) == len(samples) * RECIPE.views
    for sample in samples:
        for turn in range(RECIPE.views):
            frame = torch.from_numpy(views.kept_view(sample, turn)[0])[None]
            (given,) = network.trunk_features(network.planes(frame))
            (stored,) = read_features(kept[sample.image, turn])
            torch.testing.assert_close(stored.float(), given[0], atol=1e-3, rtol=1e-3)


def test_an_epoch_takes_the_kept_views_in_turn(samples, tmp_path):
    _, views, kept = keep(samples, tmp_path)
    views.features = kept
    taken = [views[number]["features"][0].numpy().tobytes() for number in range(3 * len(samples))]
    first, second, third = (set(taken[start : start + len(samples)]) for start in range(0, len(taken), len(samples)))
    assert first == third
    assert not first & second


def test_nothing_is_computed_twice(samples, tmp_path):
    _, _, kept = keep(samples, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in kept.values()}
    _, _, again = keep(samples, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in again.values()} == written


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"recipe": replace(RECIPE, crop=72)}, {"recipe": replace(RECIPE, seed=1)}],
    ids=["trunk", "crop", "seed"],
)
def test_another_trunk_or_another_view_never_finds_them(samples, tmp_path, other):
    _, _, kept = keep(samples, tmp_path)
    _, _, others = keep(samples, tmp_path, **other)
    assert not set(kept.values()) & set(others.values())


def test_another_picture_under_the_same_name_never_finds_them(samples, tmp_path):
    _, _, kept = keep(samples, tmp_path)
    samples[0].image.write_bytes(samples[1].image.read_bytes())
    _, _, others = keep(samples, tmp_path)
    changed = {key for key in kept if kept[key] != others[key]}
    assert changed == {(samples[0].image, turn) for turn in range(RECIPE.views)}


def test_a_damaged_file_is_named(samples, tmp_path):
    _, _, kept = keep(samples, tmp_path)
    path = next(iter(kept.values()))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="Delete it"):
        read_features(path)


def test_a_variant_that_does_not_part_its_trunk_is_answered_with_a_line(samples, tmp_path):
    with pytest.raises(ModelError, match="without --cache-features"):
        keep(samples, tmp_path, kind=TinyPlain)
