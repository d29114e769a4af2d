"""DeepLab, the first and the third: FCNs that keep their maps fine by dilation, where others add skips.

`deeplabv3-lite` is a DeepLabV3 on MobileNetV2 without atrous branches (Chen et al. 2017, section 3.3: of the parallel
branches the 1x1 and the image pooling are left). That is the edge family's coarsest head and no skip, so it is no class
of its own: the same weights serve at output strides 8, 16 and 32, and at 32 it is `fcn32s-lite`.

`deeplabv1-vgg16-crf` is the VGG16 with holes of Chen et al. 2015 in its last form, DeepLab-LargeFOV (20.5 million
parameters). The other half of that name, the fully connected CRF, needs the frame beside the scores and stands in no
graph: `--refine crf`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models import vgg
from fcn_edge.models.dilation import dilated
from fcn_edge.models.lite import FCNLite
from fcn_edge.models.network import CAFFE, Geometry

OUTPUT_STRIDE = 8
FULLY_CONNECTED = 1024  # LargeFOV's: a quarter of VGG16's 4096
HOLES = 12  # LargeFOV's: fc6 sees 3x3 positions, each 96 pixels from the next


class DeepLabVGG16(vgg.VGG16):
    """VGG16 at stride 8: pools of 3x3, the last two of which keep the size, and every fifth-stage filter with holes.

    Of torchvision's VGG16 it takes the convolutions alone, for fc6 and fc7 have other shapes here. Sides are 8k+1. With
    pools centred on what they keep, as the authors' network has them, position i of the scores lies at pixel 8i, and
    corners stay aligned.
    """

    geometry = Geometry(513, OUTPUT_STRIDE, "k*stride+1", output_stride=OUTPUT_STRIDE, grid="align_corners")

    def __init__(self, classes: int) -> None:
        super().__init__(CAFFE.mean, CAFFE.std, CAFFE.color)
        steps = dilated([2] * len(vgg.STAGES), OUTPUT_STRIDE)
        inputs = 3
        for stage, ((channels, repeats), pool) in enumerate(zip(vgg.STAGES, steps, strict=True), 1):
            holes = pool.dilation  # of all that stands before the stage's pool
            for index in range(1, repeats + 1):
                layer = nn.Conv2d(inputs, channels, 3, padding=holes, dilation=holes)
                self.add_module(f"conv{stage}_{index}", vgg.for_relu(layer))
                inputs = channels
            self.add_module(f"pool{stage}", nn.MaxPool2d(3, pool.stride, padding=1))
        self.pool5a = nn.AvgPool2d(3, stride=1, padding=1)
        self.fc6 = vgg.for_relu(nn.Conv2d(inputs, FULLY_CONNECTED, 3, padding=HOLES, dilation=HOLES))
        self.fc7 = vgg.for_relu(nn.Conv2d(FULLY_CONNECTED, FULLY_CONNECTED, 1))
        self.fc8 = vgg.starts_at_zero(nn.Conv2d(FULLY_CONNECTED, classes, 1))

    def scores(self, planes: Tensor) -> Tensor:
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """The fifth stage's map, at stride 8."""
        x = planes
        for stage, (_, repeats) in enumerate(vgg.STAGES, 1):
            for index in range(1, repeats + 1):
                x = F.relu(self.get_submodule(f"conv{stage}_{index}")(x), inplace=True)
            x = self.get_submodule(f"pool{stage}")(x)
        return (self.pool5a(x),)

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """Class scores from `trunk_features`."""
        x = F.dropout(F.relu(self.fc6(features[0]), inplace=True), training=self.training)
        x = F.dropout(F.relu(self.fc7(x), inplace=True), training=self.training)
        return self.fc8(x)


def deeplabv1_vgg16(classes: int) -> DeepLabVGG16:
    return DeepLabVGG16(classes)


def deeplabv3_lite(classes: int) -> FCNLite:
    return FCNLite(classes, skips=(), coarse=8)


def deeplabv3_lite_os16(classes: int) -> FCNLite:
    return FCNLite(classes, skips=(), coarse=16)


def deeplabv3_lite_os32(classes: int) -> FCNLite:
    return FCNLite(classes, skips=(), coarse=32)
