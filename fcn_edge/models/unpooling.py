"""SegNet and DeconvNet: decoders that put each value back to where its pool found the maximum.

An FCN upsamples by interpolation, which smooths contours; these remember of every 2x2 pool which of its four pixels
won, and unpool by that (Badrinarayanan et al. 2017, section 3; Noh et al. 2015, section 3.2). TensorRT refuses pools
that hand on indices, and unpooling is no operator of its. So the index is the course of a knock-out: left against
right in either row, then row against row. Three comparisons decide it, three choices undo it.

Whoever decides by comparing is at the mercy of rounding: two pixels that are equal but for the last bit change places
between two runtimes, and a value with them. A few scores then differ by much, where other networks' differ a little.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models import vgg
from fcn_edge.models.convert import as_convolution
from fcn_edge.models.network import IMAGENET, Geometry, Network

STRIDE = 32
FIELD = 7  # cells of the last map that VGG16's first fully connected layer reads, a side


class Winners(NamedTuple):
    """Where the maximum of each 2x2 window is: bool (N, C, h, w) each, true where the first of two has won."""

    upper: Tensor  # of the winners of both rows
    left_above: Tensor
    left_below: Tensor


def pool(x: Tensor) -> tuple[Tensor, Winners]:
    """The maxima of 2x2 windows, (N, C, 2h, 2w) to (N, C, h, w), and where they were: of equals the first by rows."""
    a, b, c, d = (x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1))
    above, below = torch.maximum(a, b), torch.maximum(c, d)
    return torch.maximum(above, below), Winners(above >= below, a >= b, c >= d)


def unpool(x: Tensor, winners: Winners) -> Tensor:
    """Each value of (N, C, h, w) to where its window's maximum was, among zeros: (N, C, 2h, 2w)."""
    above, below = _parted(x, winners.upper)
    corners = (*_parted(above, winners.left_above), *_parted(below, winners.left_below))
    return F.pixel_shuffle(torch.stack(corners, 2).flatten(1, 2), 2)


def _parted(x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """`x` where `first` holds, and where it does not; zero elsewhere."""
    return x.masked_fill(~first, 0), x.masked_fill(first, 0)


class Unpooled(Network):
    """VGG16 with batch norm down to stride 32, `between` there, and up again by what the pools found.

    Frames whose sides are no multiples of 32 are padded with the mean colour at bottom and right, scores cut.
    """

    geometry = Geometry(size=512, stride=STRIDE, sides="any", output_stride=1, grid="half_pixel")
    trunk = "features."
    decides = True

    def __init__(self, between: nn.Module, last_repeats: int, score: nn.Conv2d) -> None:
        """between: keeps the size of the last map; last_repeats: convolutions of the last stage before `score`."""
        super().__init__(IMAGENET.mean, IMAGENET.std)
        self.features = vgg.vgg16_features(normed=True)
        self.between = between
        self.decoder = nn.ModuleList(_mirror(last_repeats))
        self.score = score

    def scores(self, planes: Tensor) -> Tensor:
        height, width = planes.shape[-2:]
        x = F.pad(planes, (0, -width % STRIDE, 0, -height % STRIDE))
        found: list[Winners] = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):  # there for torchvision's numbers alone
                x, winners = pool(x)
                found.append(winners)
            else:
                x = layer(x)
        x = self.between(x)
        for stage, winners in zip(self.decoder, reversed(found), strict=True):
            x = stage(unpool(x, winners))
        return self.score(x)[:, :, :height, :width]


class FullyConnected(nn.Module):
    """DeconvNet's narrowest place: fc6 and fc7 as convolutions, and a transposed convolution back to the map's size.

    A map of 7x7, a frame of 224x224, becomes one vector, as in the paper; a larger one more of them, and each
    becomes 7x7 again and is added. A smaller map counts as one with zeros at bottom and right.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = vgg.FULLY_CONNECTED
        self.fc6 = vgg.for_relu(nn.Conv2d(channels, inner, FIELD))
        self.bn6 = nn.BatchNorm2d(inner)
        self.fc7 = vgg.for_relu(nn.Conv2d(inner, inner, 1))
        self.bn7 = nn.BatchNorm2d(inner)
        self.deconv = vgg.for_relu(nn.ConvTranspose2d(inner, channels, FIELD, bias=False))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, _lacking(width), 0, _lacking(height)))
        x = F.relu(self.bn6(self.fc6(x)))
        x = F.relu(self.bn7(self.fc7(x)))
        return F.relu(self.bn(self.deconv(x)))[:, :, :height, :width]


class DeconvNet(Unpooled):
    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes torchvision's vgg16_bn, its first two fully connected layers as convolutions."""
        names = {"classifier.0": "between.fc6", "classifier.3": "between.fc7"}
        renamed = {}
        for key, value in state.items():
            layer, _, kind = key.rpartition(".")
            if layer in names and value.ndim == 2:
                value = as_convolution(value, self.get_submodule(names[layer]).in_channels)  # type: ignore[arg-type]
            renamed[f"{names.get(layer, layer)}.{kind}"] = value
        return renamed


def segnet(classes: int) -> Unpooled:
    """Its last convolution scores 3x3 positions: no 1x1 follows."""
    return Unpooled(nn.Identity(), 1, nn.Conv2d(vgg.STAGES[0][0], classes, 3, padding=1))


def deconvnet(classes: int) -> DeconvNet:
    between = FullyConnected(vgg.STAGES[-1][0])
    return DeconvNet(between, vgg.STAGES[0][1], nn.Conv2d(vgg.STAGES[0][0], classes, 1))


def _mirror(last_repeats: int) -> list[nn.Sequential]:
    """A stage for each of VGG16's, the deepest first; the last convolution of each goes on to the next one's channels.

    DeconvNet's 3x3 layers are transposed convolutions of stride 1, which are convolutions with their kernels turned
    round; as such they have an int8 form.
    """
    stages: list[nn.Sequential] = []
    for number in reversed(range(len(vgg.STAGES))):
        channels, repeats = vgg.STAGES[number]
        after, repeats = (vgg.STAGES[number - 1][0], repeats) if number else (channels, last_repeats)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([*[channels] * repeats, after]):
            layers += [vgg.for_relu(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        stages.append(nn.Sequential(*layers))
    return stages


def _lacking(cells: int | Tensor) -> Any:
    """How many cells a side lacks to `FIELD`. A tensor while it is traced: what Python compared would be fixed then."""
    over = cells - FIELD
    return -(over.clamp(max=0) if isinstance(over, Tensor) else min(over, 0))
