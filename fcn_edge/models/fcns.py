"""FCNs on VGG16: a decoder as deep as the trunk's pools, that adds each pool's own map on its way up.

Where the paper fuses class scores, this adds features: five transposed convolutions double the size each, and
after four of them the trunk's map of that stride is added. Only the full-size result is scored, so there
is nothing left to upsample, at the price of 32 channels at the frame's own size.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models.network import IMAGENET, Geometry, Network
from fcn_edge.models.vgg import vgg16_features

POOLS = (4, 9, 16, 23, 30)  # torchvision's numbers of pool1 to pool5
DECODER = (512, 512, 256, 128, 64, 32)
STRIDE = 32


class FCNsVGG16(Network):
    """Frames whose sides are no multiples of 32 are padded with the mean colour at bottom and right, scores cut."""

    geometry = Geometry(size=512, stride=STRIDE, sides="any", output_stride=1, grid="half_pixel")
    trunk = "features."
    loss = "binary"

    def __init__(self, classes: int) -> None:
        super().__init__(IMAGENET.mean, IMAGENET.std)
        self.features = vgg16_features()
        for number, (inputs, outputs) in enumerate(pairwise(DECODER), 1):
            deconvolution = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
            self.add_module(f"deconv{number}", deconvolution)
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
        self.classifier = nn.Conv2d(DECODER[-1], classes, 1)

    def scores(self, planes: Tensor) -> Tensor:
        height, width = planes.shape[-2:]
        x = F.pad(planes, (0, -width % STRIDE, 0, -height % STRIDE))
        pools, start = [], 0
        for pool in POOLS:
            x = self.features[start : pool + 1](x)
            pools.append(x)
            start = pool + 1
        for number, pooled in enumerate(reversed(pools), 1):
            x = x if number == 1 else x + pooled
            x = self.get_submodule(f"bn{number}")(F.relu(self.get_submodule(f"deconv{number}")(x)))
        return self.classifier(x)[:, :, :height, :width]


def fcns_vgg16(classes: int) -> FCNsVGG16:
    return FCNsVGG16(classes)
