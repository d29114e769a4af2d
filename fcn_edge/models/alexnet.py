"""FCN-AlexNet: Long et al. 2015, section 4.1, in two forms.

`fcn-alexnet` is the paper's own: CaffeNet, whose second, fourth and fifth convolutions are split in two
groups, with responses normalised across channels. `fcn-alexnet-owt` is the single column of Krizhevsky 2014,
for which torchvision has ImageNet weights.

Where a score lies is a matter of offsets. All kernels up to pool5 are odd and all strides even, so with
half a kernel of padding each position is centred on a multiple of its stride; pool5 without padding moves
it by 16 pixels, and fc6, which is 6x6, by 16 more with 3 on every side. So score i is centred on row 32i,
which on sides of 32k+1 is a grid with its corners aligned, and the paper's upsampling, a transposed
convolution with kernel 63 and stride 32, is bilinear interpolation between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.errors import ModelError
from fcn_edge.models.convert import as_convolution
from fcn_edge.models.network import CAFFE, IMAGENET, Geometry, Network, Normalisation

# Krizhevsky et al. 2012, section 3.3, as Caffe computes it: alpha is shared by the channels that are summed.
NEIGHBOURS, ALPHA, BETA = 5, 1e-4, 0.75
WIDTH = 4096


class ChannelNorm(nn.Module):
    """Responses divided by (1 + alpha/5 * sum of squares over five neighbouring channels) ** 0.75.

    The sum is a 1x1 convolution with a band of ones, which every runtime has; squares are taken of scaled
    responses, so that they stay within float16.
    """

    band: Tensor
    one: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        index = torch.arange(channels)
        band = (index[:, None] - index).abs() <= NEIGHBOURS // 2
        self.register_buffer("band", band.float()[:, :, None, None], persistent=False)
        self.register_buffer("one", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        scaled = x * math.sqrt(ALPHA / NEIGHBOURS)
        return x / F.conv2d(scaled * scaled, self.band, self.one) ** BETA


@dataclass(frozen=True)
class Trunk:
    """What sets the two forms apart."""

    channels: tuple[int, int, int, int, int]
    groups: int  # of the second, fourth and fifth convolution
    normalises: bool
    normalisation: Normalisation


CAFFENET = Trunk((96, 256, 384, 384, 256), 2, True, CAFFE)
SINGLE_COLUMN = Trunk((64, 192, 384, 256, 256), 1, False, IMAGENET)


class FCNAlexNet(Network):
    geometry = Geometry(size=513, stride=32, sides="k*stride+1", output_stride=32, grid="align_corners")
    trunk = "features."

    def __init__(self, classes: int, trunk: Trunk) -> None:
        mean, std, color = trunk.normalisation.mean, trunk.normalisation.std, trunk.normalisation.color
        super().__init__(mean, std, color)
        self.features = features(trunk)
        self.fc6 = nn.Conv2d(trunk.channels[-1], WIDTH, 6, padding=3)
        self.fc7 = nn.Conv2d(WIDTH, WIDTH, 1)
        self.score_fr = nn.Conv2d(WIDTH, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.score_fr.weight)

    def scores(self, planes: Tensor) -> Tensor:
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """The map after pool5."""
        return (self.features(planes),)

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """Class scores from `trunk_features`."""
        x = F.dropout(F.relu(self.fc6(features[0])), 0.5, self.training)
        x = F.dropout(F.relu(self.fc7(x)), 0.5, self.training)
        return self.score_fr(x)

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes a classifier with fully connected layers, named as torchvision names AlexNet's or as Caffe does."""
        first = state.get("features.0.weight")
        if first is not None and first.shape[0] != self.first_convolution()[1].out_channels:
            fitting = "fcn-alexnet-owt" if first.shape[0] == SINGLE_COLUMN.channels[0] else "fcn-alexnet"
            raise ModelError(
                f"these are weights of another AlexNet, which has {first.shape[0]} filters in its first layer. "
                f"Build that one: --variant {fitting}"
            )
        convolutions = [name for name, module in self.features.named_children() if isinstance(module, nn.Conv2d)]
        names = {f"conv{number}": f"features.{name}" for number, name in enumerate(convolutions, 1)}
        names |= {"classifier.1": "fc6", "classifier.4": "fc7"}
        channels = {"fc6": self.fc6.in_channels, "fc7": WIDTH}
        renamed = {}
        for key, value in state.items():
            layer, _, kind = key.rpartition(".")
            layer = names.get(layer, layer)
            if layer in channels and value.ndim == 2:
                value = as_convolution(value, channels[layer])
            renamed[f"{layer}.{kind}"] = value
        return renamed


def features(trunk: Trunk) -> nn.Sequential:
    """The layers up to pool5: 256 channels at stride 32. Without normalisation, torchvision's numbers."""
    one, two, three, four, five = trunk.channels

    def normalised(channels: int) -> list[nn.Module]:
        return [ChannelNorm(channels)] if trunk.normalises else []

    def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        return [layer, nn.ReLU(inplace=True)]

    return nn.Sequential(
        *convolution(3, one, 11, stride=4),
        nn.MaxPool2d(3, 2, padding=1),
        *normalised(one),
        *convolution(one, two, 5, groups=trunk.groups),
        nn.MaxPool2d(3, 2, padding=1),
        *normalised(two),
        *convolution(two, three, 3),
        *convolution(three, four, 3, groups=trunk.groups),
        *convolution(four, five, 3, groups=trunk.groups),
        nn.MaxPool2d(3, 2, ceil_mode=True),  # rounds up for the sake of one case: a frame of 32 pixels
    )


def fcn_alexnet(classes: int) -> FCNAlexNet:
    return FCNAlexNet(classes, CAFFENET)


def fcn_alexnet_owt(classes: int) -> FCNAlexNet:
    return FCNAlexNet(classes, SINGLE_COLUMN)
