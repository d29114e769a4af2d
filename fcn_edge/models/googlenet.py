"""FCN-GoogLeNet: Long et al. 2015, section 4.1.

The classifier and the average pooling before it are gone, the auxiliary heads too; one 1x1 convolution
scores what the last inception block gives at stride 32. The trunk is torchvision's, whose third branch
looks at 3x3 where Szegedy et al. 2015 have 5x5, and whose last pool is 2x2: its weights are made for that.

Its pools start at the picture's first row and round up, so nothing is centred: score i looks at row
32i + 22. A transposed convolution that is cropped by 9 puts it at 32i + 22.5.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile

from torch import Tensor, nn

from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.network import Geometry, Network
from fcn_edge.spec import Deconv

# What torchvision's weights were trained on, by way of the `transform_input` of its builder.
MEAN = STD = (127.5, 127.5, 127.5)
FEATURES = 1024


class FCNGoogLeNet(Network):
    geometry = Geometry(size=512, stride=32, sides="any", output_stride=32, grid=Deconv(32, 9))
    trunk = "features."

    def __init__(self, classes: int) -> None:
        super().__init__(MEAN, STD)
        whole = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
        self.features = nn.Sequential(
            OrderedDict(takewhile(lambda child: child[0] != "avgpool", whole.named_children()))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the builder's own noise is so small that scores fade to 1e-12
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.score_fr = nn.Conv2d(FEATURES, classes, 1)
        nn.init.zeros_(self.score_fr.weight)
        nn.init.zeros_(self.score_fr.bias)  # type: ignore[arg-type]

    def scores(self, planes: Tensor) -> Tensor:
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """The last inception block's map, at stride 32."""
        return (self.features(planes),)

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """Class scores from `trunk_features`."""
        return self.score_fr(features[0])

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes torchvision's GoogLeNet; its classifier and auxiliary heads have no place here."""
        own = ("features.", "score_fr.")
        return {name if name.startswith(own) else f"features.{name}": value for name, value in state.items()}


def fcn_googlenet(classes: int) -> FCNGoogLeNet:
    return FCNGoogLeNet(classes)
