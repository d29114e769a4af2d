"""A network that trains in milliseconds and has every part that a real one may have.

python -m tiny_network train ...      fcn-edge, which then knows the variants `tiny` and `tiny-plain`
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.models.network import Geometry, Network


class Tiny(Network):
    """A trunk to stride 8, batch norm, dropout and an auxiliary head."""

    geometry = Geometry(size=64, stride=8, sides="k*stride", output_stride=8, grid="half_pixel")
    trunk = "features."

    def __init__(self, classes: int) -> None:
        super().__init__(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 4, 4), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(8, classes, 1))
        self.auxiliary = nn.Conv2d(8, classes, 1)

    def scores(self, planes: Tensor) -> Tensor:
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        return (self.features(planes),)

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        return self.head(features[0])

    def training_scores(self, frame: Tensor) -> list[Tensor]:
        features = self.trunk_features(self.planes(frame))
        return [self.head_scores(features), self.auxiliary(features[0])]


class TinyPlain(Network):
    """Two convolutions whose result does not depend on what else is in the batch; any side."""

    geometry = Geometry(size=64, stride=4, sides="k*stride", output_stride=4, grid="half_pixel")
    trunk = "features."

    def __init__(self, classes: int) -> None:
        super().__init__(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
        self.features = nn.Conv2d(3, 8, 4, 4)
        self.head = nn.Conv2d(8, classes, 1)

    def scores(self, planes: Tensor) -> Tensor:
        return self.head(F.relu(self.features(planes)))


models.VARIANTS["tiny"] = models.Variant("for tests", "tiny_network:Tiny")
models.VARIANTS["tiny-plain"] = models.Variant("for tests", "tiny_network:TinyPlain")

if __name__ == "__main__":
    from fcn_edge.cli.main import main

    main()
