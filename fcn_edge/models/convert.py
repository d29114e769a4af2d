"""Fully connected layers as convolutions: what turns a classifier into a fully convolutional network.

A fully connected layer over C maps of k x k is a k x k convolution that fits its input at one place only. Given
a larger input it fits at more places, and what was one score a class becomes a map. Long et al. 2015, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcn_edge.errors import ModelError


def as_convolution(weight: Tensor, channels: int) -> Tensor:
    """A fully connected layer's weight (outputs, C*k*k) over C flattened square maps as (outputs, C, k, k).

    Raises ModelError where its inputs are not C square maps.
    """
    outputs, inputs = weight.shape
    side = round((inputs / channels) ** 0.5)
    if channels * side * side != inputs:
        raise ModelError(f"a fully connected layer with {inputs} inputs does not take {channels} square maps.")
    return weight.view(outputs, channels, side, side)


def convolutional(classifier: nn.Sequential, channels: int) -> nn.Sequential:
    """A classifier of C flattened maps as one of maps as they are: (N, C, h, w) to (N, outputs, h', w').

    Linear layers become convolutions over the same memory, Flatten goes, everything else is kept.
    Raises ModelError where the first layer's inputs are not C square maps.
    """
    layers: list[nn.Module] = []
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            weight = as_convolution(layer.weight.detach(), channels)
            with torch.device("meta"):  # no memory is filled only to be thrown away
                convolution = nn.Conv2d(channels, layer.out_features, weight.shape[-1], bias=layer.bias is not None)
            convolution.weight, convolution.bias = nn.Parameter(weight), layer.bias
            layers.append(convolution)
            channels = layer.out_features
        elif not isinstance(layer, nn.Flatten):
            layers.append(layer)
    return nn.Sequential(*layers)
