"""The paper's upsampling: transposed convolutions that start as bilinear interpolation.

Long et al. 2015, sections 3.3 and 4.2: those within a network are learned, the last one stays fixed. So no
network here computes its last one. It is written down as a grid, which the decoder follows at the end, or the
exporter where labels are to leave the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcn_edge.models.network import Fixed


def bilinear(factor: int) -> Tensor:
    """The kernel that interpolates by `factor`: float32 (k, k), k = 2f - f%2, each output pixel a mean of its four
    neighbours among the inputs, weighted by nearness."""
    size = 2 * factor - factor % 2
    center = (size - 1) / 2
    line = 1 - (torch.arange(size, dtype=torch.float64) - center).abs() / factor
    return torch.outer(line, line).float()


def each_alone(channels: int, factor: int) -> Tensor:
    """`bilinear` for every channel and nothing between channels: float32 (C, C, k, k)."""
    kernel = bilinear(factor)
    weight = torch.zeros(channels, channels, *kernel.shape)
    weight[range(channels), range(channels)] = kernel
    return weight


def learned(channels: int, factor: int, padding: int = 0) -> nn.ConvTranspose2d:
    """A transposed convolution that is trained from bilinear interpolation on."""
    size = 2 * factor - factor % 2
    layer = nn.ConvTranspose2d(channels, channels, size, stride=factor, padding=padding, bias=False)
    with torch.no_grad():
        layer.weight.copy_(each_alone(channels, factor))
    return layer


def fixed(channels: int, factor: int) -> Fixed:
    """The last upsampling, for the sake of its name and shape in published checkpoints: the grid says it all."""
    return Fixed(each_alone(channels, factor))


def keeps_size(factor: int) -> int:
    """The padding with which a transposed convolution by `factor` makes n*f (n*f - 1 where f is odd) of n."""
    return factor // 2


def is_bilinear(layer: nn.ConvTranspose2d) -> bool:
    """Whether the layer interpolates each channel by its stride and does nothing else."""
    factor = layer.stride[0]
    alone = layer.groups == layer.in_channels
    if layer.bias is not None or layer.stride != (factor, factor) or layer.output_padding not in (0, (0, 0)):
        return False
    if layer.in_channels != layer.out_channels or not (alone or layer.groups == 1):
        return False
    expected = bilinear(factor).expand(layer.in_channels, 1, -1, -1) if alone else each_alone(layer.in_channels, factor)
    return layer.weight.shape == expected.shape and torch.equal(layer.weight.detach().float().cpu(), expected)
