"""The paper's FCN-32s, FCN-16s and FCN-8s on VGG16, under the names of pytorch-fcn's published checkpoints.

The same weights serve in two forms. `paper` pads the frame by 100 pixels so that a 7x7 convolution without padding
has something to stand on, and cuts what is too much off again (Long et al. 2015, section 4, and its released
networks). `same` pads each convolution by half its kernel instead: a 500x375 frame is half the work, and
nothing is computed of a border that nobody filmed.

First convolution and mean are Caffe's: planes in the order B, G, R, less their mean, in units of 0..255.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models.convert import as_convolution
from fcn_edge.models.network import CAFFE, IMAGENET, Geometry, Network, Normalisation
from fcn_edge.models.upsampling import fixed, keeps_size, learned
from fcn_edge.spec import Deconv, Padding

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions: Simonyan 2015, table 1, column D
FULLY_CONNECTED = 4096
BORDER = 100

Convolution = TypeVar("Convolution", nn.Conv2d, nn.ConvTranspose2d)


class Skip(NamedTuple):
    """Scores of a pooled map, added to the coarser ones upsampled by two."""

    pool: int  # after which stage
    upscore: str  # name of the transposed convolution that brings the coarser scores to its stride
    crop: int  # rows and columns by which the paper form's skip begins before the coarser scores
    scale: float  # of the pooled map, in the form that is trained at once: the released network's


POOL4, POOL3 = Skip(4, "upscore2", 5, 0.01), Skip(3, "upscore_pool4", 9, 0.0001)


class Ending(NamedTuple):
    """The last upsampling: its name in checkpoints, its factor, and what the paper form cuts off at top and left."""

    name: str
    factor: int
    crop: int


AT_32, AT_16, AT_8 = Ending("upscore", 32, 19), Ending("upscore16", 16, 27), Ending("upscore8", 8, 31)


def vgg16_features(rounding: bool = False, normed: bool = False) -> nn.Sequential:
    """VGG16's convolutions and pools under torchvision's names, seeded for ReLU; (N, 3, H, W) to stride 32.

    rounding: whether pools keep a last row that has no partner.
    normed:   with batch norm after each convolution, as torchvision's vgg16_bn.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for channels, repeats in STAGES:
        for _ in range(repeats):
            layers += [for_relu(nn.Conv2d(inputs, channels, 3, padding=1))]
            layers += [nn.BatchNorm2d(channels)] if normed else []
            layers += [nn.ReLU(inplace=True)]
            inputs = channels
        layers.append(nn.MaxPool2d(2, ceil_mode=rounding))
    return nn.Sequential(*layers)


class VGG16(Network):
    """What FCNs on VGG16 share: names, and what they take of torchvision's classifier."""

    trunk = "conv"
    fully_connected: ClassVar[dict[str, str]] = {}  # layers of torchvision's classifier, as they are called here
    fc6: nn.Conv2d
    fc7: nn.Conv2d

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes torchvision's VGG16 too, its fully connected layers as convolutions and without its 1000 classes."""
        if "features.0.weight" not in state:
            return state
        names = self.fully_connected | convolution_names()
        renamed = {}
        for key, value in state.items():
            layer, _, kind = key.rpartition(".")
            if layer in names:
                here = names[layer]
                if value.ndim == 2:
                    value = as_convolution(value, (self.fc6 if here == "fc6" else self.fc7).in_channels)
                renamed[f"{here}.{kind}"] = value
        return renamed

    def expects(self, state: dict[str, Tensor]) -> Normalisation:
        """torchvision's names mean torchvision's training. Caffe's weights travel under them too: say so to `adopt`."""
        return IMAGENET if "features.0.weight" in state else self.normalisation


class FCNVGG16(VGG16):
    """VGG16 with its fully connected layers turned into convolutions, and zero, one or two skips."""

    fully_connected: ClassVar[dict[str, str]] = {"classifier.0": "fc6", "classifier.3": "fc7"}

    def __init__(
        self, classes: int, padding: Padding, ending: Ending, skips: tuple[Skip, ...] = (), scaled: bool = False
    ) -> None:
        super().__init__(CAFFE.mean, CAFFE.std, CAFFE.color)
        self.padding = padding
        same = padding == "same"
        grid = Deconv(ending.factor, keeps_size(ending.factor) if same else ending.crop)
        self.geometry = Geometry(size=512, stride=32, sides="any", output_stride=ending.factor, grid=grid)
        self.skips, self.scaled = skips, scaled
        inputs = 3
        for stage, (channels, repeats) in enumerate(STAGES, 1):
            for index in range(1, repeats + 1):
                border = 1 if same or inputs != 3 else BORDER
                self.add_module(f"conv{stage}_{index}", for_relu(nn.Conv2d(inputs, channels, 3, padding=border)))
                inputs = channels
        self.fc6 = for_relu(nn.Conv2d(inputs, FULLY_CONNECTED, 7, padding=3 if same else 0))
        self.fc7 = for_relu(nn.Conv2d(FULLY_CONNECTED, FULLY_CONNECTED, 1))
        self.score_fr = starts_at_zero(nn.Conv2d(FULLY_CONNECTED, classes, 1))
        for skip in skips:
            channels, _ = STAGES[skip.pool - 1]
            self.add_module(f"score_pool{skip.pool}", starts_at_zero(nn.Conv2d(channels, classes, 1)))
            self.add_module(skip.upscore, learned(classes, 2, padding=keeps_size(2) if same else 0))
        self.add_module(ending.name, fixed(classes, ending.factor))

    def scores(self, planes: Tensor) -> Tensor:
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """The maps after the third, fourth and fifth pool."""
        x, pools = planes, []
        for stage, (_, repeats) in enumerate(STAGES, 1):
            for index in range(1, repeats + 1):
                x = F.relu(self.get_submodule(f"conv{stage}_{index}")(x), inplace=True)
            x = F.max_pool2d(x, 2, ceil_mode=True)
            pools.append(x)
        return tuple(pools[2:])

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """Class scores from `trunk_features`."""
        x = F.dropout(F.relu(self.fc6(features[-1]), inplace=True), training=self.training)
        x = F.dropout(F.relu(self.fc7(x), inplace=True), training=self.training)
        fused = self.score_fr(x)
        for skip in self.skips:
            pooled = features[skip.pool - 3]
            scores = self.get_submodule(f"score_pool{skip.pool}")(pooled * skip.scale if self.scaled else pooled)
            fused = self._add(scores, self.get_submodule(skip.upscore)(fused), skip.crop)
        return fused

    def _add(self, skip: Tensor, coarse: Tensor, crop: int) -> Tensor:
        """Both where they overlap: the smaller one's size, taken from its own shape."""
        if self.padding == "same":
            return skip + coarse[:, :, : skip.shape[2], : skip.shape[3]]
        return coarse + skip[:, :, crop : crop + coarse.shape[2], crop : crop + coarse.shape[3]]


def fcn32s(classes: int, padding: Padding = "same") -> FCNVGG16:
    return FCNVGG16(classes, padding, AT_32)


def fcn16s(classes: int, padding: Padding = "same") -> FCNVGG16:
    return FCNVGG16(classes, padding, AT_16, (POOL4,))


def fcn8s(classes: int, padding: Padding = "same") -> FCNVGG16:
    return FCNVGG16(classes, padding, AT_8, (POOL4, POOL3))


def fcn8s_atonce(classes: int, padding: Padding = "same") -> FCNVGG16:
    """Trained in one stage: the skips' maps are scaled down so that early gradients stay small."""
    return FCNVGG16(classes, padding, AT_8, (POOL4, POOL3), scaled=True)


def convolution_names() -> dict[str, str]:
    """The names of the thirteen convolutions: torchvision's `features.N`, and here `conv1_1` to `conv5_3`."""
    with torch.device("meta"):
        features = vgg16_features()
    theirs = [f"features.{index}" for index, layer in enumerate(features) if isinstance(layer, nn.Conv2d)]
    ours = [f"conv{stage}_{i}" for stage, (_, repeats) in enumerate(STAGES, 1) for i in range(1, repeats + 1)]
    return dict(zip(theirs, ours, strict=True))


def for_relu(layer: Convolution) -> Convolution:
    """The layer, seeded so that what follows a ReLU keeps its scale: He et al. 2015."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def starts_at_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with zeros for weights, as the paper's score layers begin."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
