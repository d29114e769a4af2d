"""FCN on a dilated ResNet: torchvision's, tensor for tensor.

Its last two stages are dilated by 2 and 4 instead of strided (Chen et al. 2018, section 3.1), so one head at stride 8
takes the place of the paper's skips. A second head on the stage before helps the trunk while it is
trained; `forward` leaves it out, so no exported file carries it, while checkpoints do.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fcn_edge.errors import ModelError
from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.network import IMAGENET, Geometry, Network

PARTS = ("backbone.", "classifier.", "aux_classifier.")


class FCNResNet(Network):
    """Names in the state dict are torchvision's own. Bilinear interpolation follows, corners not aligned."""

    geometry = Geometry(size=512, stride=8, sides="any", output_stride=8, grid="half_pixel")
    trunk = "backbone."

    def __init__(self, whole: Any) -> None:
        """whole: torchvision's fcn_resnet50 or fcn_resnet101 with its auxiliary head."""
        super().__init__(IMAGENET.mean, IMAGENET.std)
        self.backbone = whole.backbone
        self.classifier = whole.classifier
        self.aux_classifier = whole.aux_classifier

    def scores(self, planes: Tensor) -> Tensor:
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """The last stage's map, at stride 8."""
        return (self.backbone(planes)["out"],)

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """Class scores from `trunk_features`."""
        return self.classifier(features[0])

    def training_scores(self, frame: Tensor) -> list[Tensor]:
        features = self.backbone(self.planes(frame))
        return [self.classifier(features["out"]).float(), self.aux_classifier(features["aux"]).float()]

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes torchvision's whole FCN as it is, and its classification networks as the trunk."""
        if "conv1.bias" in state:
            raise ModelError(
                "batch norm is folded into this ResNet, so its weights do not fit one that has it. "
                "Take torchvision's own: https://docs.pytorch.org/vision/stable/models/resnet.html"
            )
        return {name if name.startswith(PARTS) else f"backbone.{name}": value for name, value in state.items()}


def fcn_resnet50(classes: int) -> FCNResNet:
    build = torchvision.models.segmentation.fcn_resnet50
    return FCNResNet(build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=True))


def fcn_resnet101(classes: int) -> FCNResNet:
    build = torchvision.models.segmentation.fcn_resnet101
    return FCNResNet(build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=True))
