"""FCN-32s, 16s and 8s with interpolation in place of transposed convolutions: the common lighter reimplementation.

On VGG16's convolutions alone, a 3x3 convolution to a quarter of the channels takes the place of fc6 and fc7 (15
million parameters instead of 134), and coarse scores are brought to a skip's exact size by bilinear
interpolation with aligned corners. So no size needs a border or a crop, and nothing is learned of upsampling.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models.network import IMAGENET, Geometry, Network
from fcn_edge.models.vgg import vgg16_features

POOLS = (16, 23, 30)  # torchvision's numbers of pool3, pool4 and pool5, which end strides 8, 16 and 32
CHANNELS = (256, 512, 512)


class FCNInterp(Network):
    """Parameters of the trunk have torchvision's names. Pools round up, so that no row of an odd frame is lost."""

    trunk = "features."

    def __init__(self, classes: int, skips: int) -> None:
        """skips: 0 for scores at stride 32, 1 for pool4's at 16 too, 2 for pool3's at 8 too."""
        super().__init__(IMAGENET.mean, IMAGENET.std)
        stride = 32 >> skips
        self.geometry = Geometry(size=512, stride=32, sides="any", output_stride=stride, grid="align_corners")
        self.features = vgg16_features(rounding=True)
        channels = CHANNELS[-1]
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels // 4),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(channels // 4, classes, 1),
        )
        # Outwards: pool4, pool3. They start at zero, as the paper's.
        self.skips = [f"score_pool{number}" for number in (4, 3)[:skips]]
        for name, channels in zip(self.skips, CHANNELS[-2::-1], strict=False):
            score = nn.Conv2d(channels, classes, 1)
            for parameter in score.parameters():
                nn.init.zeros_(parameter)
            self.add_module(name, score)

    def scores(self, planes: Tensor) -> Tensor:
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """The maps after pool3, pool4 and pool5, without those that no head reads."""
        found, start = [], 0
        for pool in POOLS:
            planes = self.features[start : pool + 1](planes)
            found.append(planes)
            start = pool + 1
        return tuple(found[len(POOLS) - 1 - len(self.skips) :])

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """Class scores from `trunk_features`."""
        fused = self.head(features[-1])
        for name, pooled in zip(self.skips, features[-2::-1], strict=True):
            skip = self.get_submodule(name)(pooled)
            fused = skip + F.interpolate(fused, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        return fused


def fcn32s_interp(classes: int) -> FCNInterp:
    return FCNInterp(classes, skips=0)


def fcn16s_interp(classes: int) -> FCNInterp:
    return FCNInterp(classes, skips=1)


def fcn8s_interp(classes: int) -> FCNInterp:
    return FCNInterp(classes, skips=2)
