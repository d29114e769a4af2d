"""The losses against the definition, and the upsampling before them against the decoder."""

import numpy as np
import pytest
import torch

from fcn_edge.decode import decode
from fcn_edge.spec import VOID, Deconv
from fcn_edge.training.loss import at_pixels, label_loss, pixel_weights, soft_loss

KINDS = ["softmax", "binary"]
GRIDS = ["half_pixel", "align_corners", Deconv(8, 4), Deconv(16, 27)]


def scores_and_labels(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (2, 5, 7), generator=generator)
    labels[0, :2] = VOID
    return torch.randn(2, classes, 5, 7, generator=generator), labels


class TestLabelLoss:
    def test_softmax_is_the_negative_log_of_the_labels_share(self):
        scores, labels = scores_and_labels()
        shares = np.exp(scores.numpy()) / np.exp(scores.numpy()).sum(1, keepdims=True)
        expected = sum(
            -np.log(shares[n, labels[n, y, x], y, x])
            for n, y, x in np.ndindex(*labels.shape)
            if labels[n, y, x] != VOID
        )
        assert label_loss(scores, labels, "softmax").item() == pytest.approx(expected, rel=1e-5)

    def test_binary_asks_each_class_by_itself(self):
        scores, labels = scores_and_labels()
        labelled = labels != VOID
        expected = torch.nn.BCEWithLogitsLoss()(
            scores.movedim(1, -1)[labelled], torch.nn.functional.one_hot(labels[labelled], 3).float()
        )
        mean = label_loss(scores, labels, "binary") / pixel_weights(labels, None).sum()
        assert mean.item() == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_void_does_not_count(self, kind):
        scores, labels = scores_and_labels()
        elsewhere = scores.clone()
        elsewhere[0, :, :2] = 1e4
        assert label_loss(elsewhere, labels, kind).item() == label_loss(scores, labels, kind).item()

    @pytest.mark.parametrize("kind", KINDS)
    def test_all_void_is_no_loss_rather_than_nan(self, kind):
        scores, labels = scores_and_labels()
        nothing = torch.full_like(labels, VOID)
        assert label_loss(scores, nothing, kind, torch.ones(3)).item() == 0
        assert pixel_weights(nothing, None).sum() == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_class_of_weight_two_counts_as_two_pixels(self, kind):
        scores, labels = torch.randn(1, 2, 1, 2), torch.tensor([[[0, 1]]])
        each = [label_loss(scores[..., i : i + 1], labels[..., i : i + 1], kind).item() for i in range(2)]
        weights = torch.tensor([1.0, 2.0])
        assert label_loss(scores, labels, kind, weights).item() == pytest.approx(each[0] + 2 * each[1], rel=1e-5)
        assert pixel_weights(labels, weights).sum() == 3


class TestSoftLoss:
    @pytest.mark.parametrize("kind", KINDS)
    def test_agreeing_with_a_sure_teacher_costs_nothing(self, kind):
        soft = torch.zeros(1, 3, 4, 4)
        soft[:, 1] = 1
        scores = torch.full((1, 3, 4, 4), -50.0)
        scores[:, 1] = 50
        assert soft_loss(scores, soft, kind).item() == pytest.approx(0, abs=1e-6)
        assert soft_loss(-scores, soft, kind).item() > 100

    @pytest.mark.parametrize("kind", KINDS)
    def test_positions_of_which_the_teacher_says_nothing_do_not_count(self, kind):
        assert soft_loss(torch.randn(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), kind).item() == 0


class TestAtPixels:
    @pytest.mark.parametrize("grid", GRIDS, ids=str)
    def test_it_upsamples_as_the_decoder_does(self, grid):
        scores = torch.randn(1, 5, 9, 11, generator=torch.Generator().manual_seed(1))
        size = (65, 81)
        labels = decode(scores[0].numpy(), size, grid)
        agree = at_pixels(scores, size, grid)[0].argmax(0).numpy() == labels
        assert agree.mean() > 0.999  # but for ties within rounding

    @pytest.mark.parametrize("stride", [2, 4, 8])
    @pytest.mark.parametrize("grid", GRIDS, ids=str)
    @pytest.mark.parametrize("size", [(65, 81), (64, 70)])
    def test_a_stride_gives_every_nth_pixel_of_the_whole(self, grid, size, stride):
        scores = torch.randn(1, 2, 9, 11, generator=torch.Generator().manual_seed(1))
        whole = at_pixels(scores, size, grid)[:, :, ::stride, ::stride]
        torch.testing.assert_close(at_pixels(scores, size, grid, stride), whole, atol=1e-5, rtol=1e-5)
