"""The forms in which a network leaves: bytes or planes in; scores, labels or probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models.upsampling import bilinear
from fcn_edge.spec import Deconv, Grid, Input, ModelSpec

if TYPE_CHECKING:
    from fcn_edge.models.network import Network

PLANAR = Input("NCHW", "float32", "RGB")  # 0 to 255; less the mean and over std where the spec names those


def formed(network: Network, spec: ModelSpec, probabilities: bool = False) -> nn.Module:
    """`network` behind the input and before the output that `spec` names.

    probabilities: of the classes, upsampled to the frame's size, in the place of scores.
    """
    source = network if spec.input.layout == "NHWC" else _Planar(network, spec.input.mean is None)
    if spec.output.kind == "scores" and not probabilities:
        return source.eval()
    upsampled = _Upsampled(source, network.geometry.grid, len(spec.classes), rows=1 if source is network else 2)
    return (_Probabilities if probabilities else _Labels)(upsampled).eval()


class _Planar(nn.Module):
    """A network that takes float32 (N, 3, H, W) in the order R, G, B, 0 to 255 or normalised already."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, normalises: bool) -> None:
        super().__init__()
        self.network, self.normalises = network, normalises
        self.register_buffer("mean", network.mean.flip(1))
        self.register_buffer("std", network.std.flip(1))

    def forward(self, planes: Tensor) -> Tensor:
        if self.normalises:
            planes = (planes - self.mean) / self.std
        return self.network.scores(planes).float()


class _Upsampled(nn.Module):
    """Scores at the frame's own size: float32 (N, C, H, W)."""

    def __init__(self, source: nn.Module, grid: Grid, classes: int, rows: int) -> None:
        super().__init__()
        self.source, self.grid, self.rows = source, grid, rows
        self.upsample = _transposed(classes, grid) if isinstance(grid, Deconv) else _Interpolate(grid)

    def forward(self, frame: Tensor) -> Tensor:
        height, width = frame.shape[self.rows : self.rows + 2]
        if isinstance(self.grid, Deconv):
            top = self.grid.crop
            return self.upsample(self.source(frame))[:, :, top : top + height, top : top + width]
        return self.upsample(self.source(frame), (height, width))


class _Labels(nn.Module):
    """The last upsampling and the argmax inside: uint8 (N, H, W)."""

    def __init__(self, upsampled: _Upsampled) -> None:
        super().__init__()
        self.upsampled = upsampled

    def forward(self, frame: Tensor) -> Tensor:
        return self.upsampled(frame).argmax(1).to(torch.uint8)


class _Probabilities(nn.Module):
    """Float32 (N, C, H, W), at each pixel summing to 1: what a threshold can be held against."""

    def __init__(self, upsampled: _Upsampled) -> None:
        super().__init__()
        self.upsampled = upsampled

    def forward(self, frame: Tensor) -> Tensor:
        return self.upsampled(frame).softmax(1)


class _Interpolate(nn.Module):
    def __init__(self, grid: str) -> None:
        super().__init__()
        self.aligned = grid == "align_corners"

    def forward(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(scores, size, mode="bilinear", align_corners=self.aligned)


def _transposed(classes: int, grid: Deconv) -> nn.ConvTranspose2d:
    kernel = bilinear(grid.deconv)
    layer = nn.ConvTranspose2d(classes, classes, kernel.shape[0], stride=grid.deconv, groups=classes, bias=False)
    layer.weight = nn.Parameter(kernel.expand(classes, 1, -1, -1).contiguous())
    return layer
