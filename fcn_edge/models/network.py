"""What every variant is: frames in, class scores out, with the frame's colours handled inside.

The normalisation lives in the network, so that the exported graph takes the bytes that a camera gives
and no caller can get the colour order wrong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fcn_edge.errors import ModelError
from fcn_edge.spec import Grid


@dataclass(frozen=True)
class Geometry:
    """What the decoder and the frame's scaling have to know of a network."""

    size: int  # default longer side
    stride: int  # of the coarsest features
    sides: Literal["k*stride", "k*stride+1"]
    output_stride: int
    grid: Grid


class Network(nn.Module, ABC):
    """A variant. Subclasses define `scores`.

    mean, std: of the RGB planes, in units of 0..255.
    """

    geometry: Geometry
    mean: Tensor
    std: Tensor
    trunk: str  # prefix of the parameters that come pretrained and learn at a slower rate

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.reversed_planes = False  # True once `take_bgr` has turned the first convolution round
        # in the frame's order: the planes are normalised before they are turned round
        self.register_buffer("mean", torch.tensor(mean[::-1]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std[::-1]).view(1, 3, 1, 1), persistent=False)

    def forward(self, frame: Tensor) -> Tensor:
        """Class scores before the last upsampling.

        frame: uint8 (N, H, W, 3), BGR. Returns float32 (N, C, h, w) on the grid of `geometry`.
        """
        planes = (frame.float().permute(0, 3, 1, 2) - self.mean) / self.std
        return self.scores(planes if self.reversed_planes else planes.flip(1)).float()

    @abstractmethod
    def scores(self, planes: Tensor) -> Tensor:
        """Class scores of normalised planes: float (N, 3, H, W), R, G, B."""

    def adopt(self, state: dict[str, Tensor], where: str) -> set[str]:
        """Take over pretrained tensors, of a whole checkpoint or of a trunk alone; returns their names here.

        Raises ModelError where nothing fits, or a tensor of that name has another shape.
        """
        state = self.rename(state)
        own = self.state_dict()
        fitting = {name: value for name, value in state.items() if name in own}
        wrong = [name for name, value in fitting.items() if value.shape != own[name].shape]
        if wrong or not fitting:
            what = f"{wrong[0]} is {list(state[wrong[0]].shape)} there" if wrong else "no tensor has a name of it"
            raise ModelError(f"{where}: these weights do not fit this variant: {what}. See docs/weights.md.")
        self.load_state_dict(own | fitting)
        return set(fitting)

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pretrained tensors under this network's names; a variant that takes foreign ones overrides it."""
        return state

    @torch.no_grad()
    def take_bgr(self) -> None:
        """Turn the first convolution's weights round instead of every frame's planes; same function."""
        first = next(module for module in self.modules() if isinstance(module, nn.Conv2d))
        if not self.reversed_planes:
            first.weight.copy_(first.weight.flip(1))
            self.reversed_planes = True
