"""Pixel-wise losses, as sums: the loop divides by what the whole batch holds.

A batch may be computed in parts, of pictures of different sizes and on several devices. A mean of the parts'
means would weigh a pixel by the company it is in; sums over the batch's own count do not.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fcn_edge.models.upsampling import bilinear
from fcn_edge.spec import VOID, Deconv, Grid
from fcn_edge.training.recipe import Loss


def at_pixels(scores: Tensor, size: tuple[int, int], grid: Grid, stride: int = 1) -> Tensor:
    """The scores upsampled to (H, W) as the variant's last upsampling does, on every `stride`-th row and column.

    scores: float (N, C, h, w) on `grid`. Returns float (N, C, H/stride, W/stride), rounded up.
    """
    if scores.shape[-2:] == size:
        return scores[:, :, ::stride, ::stride]
    if isinstance(grid, Deconv):
        return _deconvolve(scores, grid)[:, :, : size[0] : stride, : size[1] : stride]
    if grid == "align_corners" and all((side - 1) % stride == 0 for side in size):
        # every stride-th pixel is an exact position of the smaller upsampling too, at stride² less cost
        smaller = [(side - 1) // stride + 1 for side in size]
        return F.interpolate(scores, smaller, mode="bilinear", align_corners=True)
    whole = F.interpolate(scores, size, mode="bilinear", align_corners=grid == "align_corners")
    return whole[:, :, ::stride, ::stride]


def _deconvolve(scores: Tensor, grid: Deconv) -> Tensor:
    """The fixed bilinear transposed convolution of FCNs: Long et al. 2015, section 3.3."""
    weight = bilinear(grid.deconv).to(scores).expand(scores.shape[1], 1, -1, -1)
    upsampled = F.conv_transpose2d(scores, weight, stride=grid.deconv, groups=scores.shape[1])
    return upsampled[:, :, grid.crop :, grid.crop :]


def label_loss(scores: Tensor, labels: Tensor, kind: Loss, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy summed over the pixels that carry a label.

    scores:  float (N, C, H, W). labels: integers (N, H, W); void does not count.
    kind:    "softmax" over the classes, or "binary": each class by itself, the mean over classes.
    weights: float (C,) of a pixel by its class; None: 1.
    """
    labels = labels.long()
    if kind == "softmax":
        return F.cross_entropy(scores, labels, weights, ignore_index=VOID, reduction="sum")
    classes = F.one_hot(labels.masked_fill(labels == VOID, 0), scores.shape[1]).movedim(-1, 1)
    losses = F.binary_cross_entropy_with_logits(scores, classes.to(scores.dtype), reduction="none")
    return (losses.mean(1) * pixel_weights(labels, weights)).sum()


def pixel_weights(labels: Tensor, weights: Tensor | None) -> Tensor:
    """What each pixel counts: float (N, H, W), 0 where it is void."""
    labels = labels.long()
    labelled = (labels != VOID).float()
    return labelled if weights is None else labelled * weights[labels.masked_fill(labels == VOID, 0)]


def soft_loss(scores: Tensor, soft: Tensor, kind: Loss) -> Tensor:
    """Cross-entropy against the teacher's probabilities, summed; positions where they are all zero do not count.

    scores, soft: float (N, C, h, w). Hinton et al. 2015, at temperature 1.
    """
    if kind == "softmax":
        return -(soft * F.log_softmax(scores, 1)).sum()
    losses = F.binary_cross_entropy_with_logits(scores, soft, reduction="none").mean(1)
    return (losses * soft.sum(1)).sum()
