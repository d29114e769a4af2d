"""What a picture becomes before the network sees it, and which of them a step takes."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import draw_data

from fcn_edge.data import open_list
from fcn_edge.errors import DataError
from fcn_edge.spec import VOID
from fcn_edge.training.augment import view
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.samples import Views, hold_back, loader

RECIPE = Recipe("tiny", steps=4, batch=2, crop=65, longer_side=(64, 96), rate=1e-3)
WHOLE = replace(RECIPE, crop=None, longer_side=None, flip=0.0, color=0.0)


def any_side(pixels: int) -> int:
    return pixels


def multiple_of_32(pixels: int) -> int:
    return -(-pixels // 32) * 32


class TestView:
    def test_a_crop_larger_than_the_picture_is_void_outside_it(self):
        image, mask = np.full((40, 60, 3), 200, np.uint8), np.zeros((40, 60), np.uint8)
        recipe = replace(RECIPE, crop=97, longer_side=(60, 60), color=0.0)
        frame, labels, _ = view(image, mask, None, recipe, any_side, np.random.default_rng(0))
        assert frame.shape == (97, 97, 3)
        assert (labels == 0).sum() == 40 * 60
        assert (frame[labels == 0] == 200).all()
        assert (frame[labels == VOID] == 127).all()

    def test_a_whole_picture_is_itself_filled_up_to_the_side_that_the_network_takes(self):
        rng = np.random.default_rng(0)
        image, mask = rng.integers(0, 256, (40, 60, 3), np.uint8), rng.integers(0, 21, (40, 60), np.uint8)
        frame, labels, _ = view(image, mask, None, WHOLE, multiple_of_32, rng)
        assert frame.shape == (64, 64, 3)
        np.testing.assert_array_equal(frame[:40, :60], image)
        np.testing.assert_array_equal(labels[:40, :60], mask)
        assert (labels == VOID).sum() == 64 * 64 - 40 * 60

    @pytest.mark.parametrize("crop", [129, 120, 123, None])
    @pytest.mark.parametrize("flip", [0.0, 1.0])
    @pytest.mark.parametrize("seed", range(3))
    def test_the_teachers_probabilities_follow_the_picture(self, seed, flip, crop):
        """A teacher that knows the mask has to say of every eighth pixel what the mask says there."""
        mask = np.zeros((120, 160), np.uint8)
        mask[30:90, 40:120] = 1
        soft = np.stack([mask == 0, mask == 1]).astype(np.float16)
        recipe = replace(RECIPE, crop=crop, longer_side=(120, 200), flip=flip)
        image = np.repeat(mask[:, :, None] * 100, 3, 2)
        _, labels, probabilities = view(image, mask, soft, recipe, multiple_of_32, np.random.default_rng(seed))
        assert probabilities is not None
        at_scores = labels[::8, ::8]
        sure = probabilities.max(0) > 0.99
        np.testing.assert_array_equal(probabilities.sum(0) > 0.5, at_scores != VOID)
        np.testing.assert_array_equal(probabilities.argmax(0)[sure], at_scores[sure])
        assert sure.mean() > 0.2


class TestViews:
    def test_the_same_number_gives_the_same_crop(self, tmp_path):
        samples = open_list(draw_data(tmp_path / "data"), ["train"])
        views = Views(samples, RECIPE, any_side)
        first, again, other = views[3], views[3], views[3 + len(samples)]
        np.testing.assert_array_equal(first["frame"], again["frame"])
        assert not np.array_equal(first["frame"], other["frame"])

    def test_an_epoch_shows_every_picture_once(self, tmp_path):
        samples = open_list(draw_data(tmp_path / "data", sizes=((30, 40), (50, 60))), ["train"])
        shown = [Views(samples, WHOLE, any_side)[number]["frame"].tobytes() for number in range(2 * len(samples))]
        assert len(set(shown[: len(samples)])) == len(set(shown)) == len(samples)

    def test_processes_share_a_step_without_overlap(self, tmp_path):
        samples = open_list(draw_data(tmp_path / "data"), ["train"])
        views = Views(samples, replace(WHOLE, batch=4), any_side)
        alone = next(iter(loader(views, 1, workers=0)))
        shared = [next(iter(loader(views, 1, 0, rank, 2))) for rank in range(2)]
        assert len(alone) == 4
        assert [len(parts) for parts in shared] == [2, 2]

        def frames(parts):
            return {part["frame"].numpy().tobytes() for part in parts}

        assert frames(shared[0]) | frames(shared[1]) == frames(alone)
        assert not frames(shared[0]) & frames(shared[1])

    def test_a_batch_that_cannot_be_dealt_out_is_refused(self, tmp_path):
        samples = open_list(draw_data(tmp_path / "data"), ["train"])
        with pytest.raises(DataError, match="3 devices"):
            loader(Views(samples, RECIPE, any_side), 0, 0, 0, 3)

    def test_what_is_held_back_is_never_trained_on(self, tmp_path):
        samples = open_list(draw_data(tmp_path / "data"), ["train"])
        kept, held = hold_back(samples, 4)
        assert (len(kept), len(held)) == (6, 2)
        assert not {sample.id for sample in kept} & {sample.id for sample in held}
