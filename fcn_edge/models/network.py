"""What every variant is: frames in, class scores out, with the frame's colours handled inside.

The normalisation lives in the network, so that the exported graph takes the bytes that a camera gives
and no caller can get the colour order wrong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fcn_edge.errors import ModelError
from fcn_edge.spec import Color, Grid, Padding, Triple

TINY = 1e-3  # float16 keeps 11 bits: what a checkpoint stores of a fixed weight is that far off at most


@dataclass(frozen=True)
class Geometry:
    """What the decoder and the frame's scaling have to know of a network."""

    size: int  # default longer side
    stride: int  # of the coarsest features
    sides: Literal["k*stride", "k*stride+1", "any"]
    output_stride: int
    grid: Grid


@dataclass(frozen=True)
class Normalisation:
    """What a first convolution was trained to see: `(plane - mean) / std`, both of R, G, B in units of 0..255."""

    mean: Triple
    std: Triple
    color: Color = "RGB"  # the order of the planes


IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # torchvision's, 0.485 * 255 and so on
# The mean colour of ILSVRC 2012's pictures, which Caffe's networks take off: the mean over the places of Caffe's
# ilsvrc_2012_mean.npy. fcn.berkeleyvision.org's infer.py has it, B first, in these digits.
CAFFE = Normalisation((122.67891434, 116.66876762, 104.00698793), (1.0, 1.0, 1.0), "BGR")


class Network(nn.Module, ABC):
    """A variant. Subclasses define `scores`, and what they need of the rest.

    mean, std: of the RGB planes, in units of 0..255.
    color:     the order in which the first convolution was trained to take the planes.
    """

    geometry: Geometry
    trunk: str  # prefix of the parameters that come pretrained and learn at a slower rate
    padding: Padding = "same"
    loss: ClassVar[Literal["softmax", "binary"]] = "softmax"  # what the variant is meant to be trained with
    decides: ClassVar[bool] = False  # by comparing its values, where others go: rounding then moves single scores far
    normalisation: Normalisation
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Triple, std: Triple, color: Color = "RGB") -> None:
        super().__init__()
        self.normalisation = Normalisation(mean, std, color)
        # The first convolution takes B, G, R: it was trained so, or `take_order` has turned it round.
        self.reversed_planes = color == "BGR"
        # in the frame's order: the planes are normalised before they are turned round
        self.register_buffer("mean", torch.tensor(mean[::-1]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std[::-1]).view(1, 3, 1, 1), persistent=False)

    def forward(self, frame: Tensor) -> Tensor:
        """Class scores before the last upsampling.

        frame: uint8 (N, H, W, 3), BGR. Returns float32 (N, C, h, w) on the grid of `geometry`.
        """
        return self.scores(self.planes(frame)).float()

    def training_scores(self, frame: Tensor) -> list[Tensor]:
        """What a loss is taken of: the scores, then those of auxiliary heads, which no file carries.

        Each float32 (N, C, h, w); an auxiliary head's may be coarser than `geometry` says of the first.
        """
        return [self(frame)]

    def planes(self, frame: Tensor) -> Tensor:
        """The frame as `scores` takes it: float32 (N, 3, H, W), normalised, in the first convolution's order."""
        planes = (frame.float().permute(0, 3, 1, 2) - self.mean) / self.std
        return planes if self.reversed_planes else planes.flip(1)

    @abstractmethod
    def scores(self, planes: Tensor) -> Tensor:
        """Class scores of normalised planes: float (N, 3, H, W)."""

    def adopt(self, state: dict[str, Tensor], where: str, normalisation: Normalisation | None = None) -> set[str]:
        """Take over pretrained tensors, of a whole checkpoint or of a trunk alone; returns their names here.

        normalisation: of the pictures that they were trained on; None: what `expects` makes of their names.
            Another one than this network's is folded into the first convolution: the same function but
            for the zeros around the picture, which stand for another colour then.
        Raises ModelError where nothing fits, or a tensor of that name has another shape or a fixed one other values.
        """
        normalisation = normalisation or self.expects(state)
        state = self.rename(state)
        own = self.state_dict()
        fitting = {name: value for name, value in state.items() if name in own}
        wrong = [name for name, value in fitting.items() if value.shape != own[name].shape]
        if wrong or not fitting:
            what = f"{wrong[0]} is {list(state[wrong[0]].shape)} there" if wrong else "no tensor has a name of it"
            raise ModelError(f"{where}: these weights do not fit this variant: {what}. See docs/weights.md.")
        self.fold(fitting, normalisation, where)
        self.take(fitting, where)
        return set(fitting)

    def take(self, state: dict[str, Tensor], where: str) -> None:
        """Load tensors whose names and shapes are known to fit; ModelError where a fixed one is another.

        A fixed tensor keeps its own value: a file may hold it in float16.
        """
        own = self.state_dict()
        fixed = self.fixed()
        for name in fixed & state.keys():
            if not torch.allclose(state[name].float(), own[name], rtol=TINY, atol=TINY**2):
                raise ModelError(
                    f"{where}: {name} is not the bilinear upsampling that this variant ends with, so these weights "
                    "would give other labels here. Take a checkpoint whose last upsampling was left fixed."
                )
        self.load_state_dict(own | {name: value for name, value in state.items() if name not in fixed})

    def fixed(self) -> set[str]:
        """Names in the state dict of what no training changes."""
        return {f"{name}.weight" for name, module in self.named_modules() if isinstance(module, Fixed)}

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pretrained tensors under this network's names; a variant that takes foreign ones overrides it."""
        return state

    def expects(self, state: dict[str, Tensor]) -> Normalisation:
        """The normalisation of weights that do not say it, judged by their names; a variant's own by default."""
        return self.normalisation

    def first_convolution(self) -> tuple[str, nn.Conv2d]:
        """The convolution that sees the frame, and its name; the first that was made, unless overridden."""
        return next((name, module) for name, module in self.named_modules() if isinstance(module, nn.Conv2d))

    def fold(self, state: dict[str, Tensor], given: Normalisation, where: str) -> None:
        """Turn a first convolution in `state` that saw planes normalised as `given` into one for this network's."""
        name, _ = self.first_convolution()
        weight, own = state.get(f"{name}.weight"), self.normalisation
        if weight is None or given == own:
            return
        if (given.color == "BGR") != self.reversed_planes:
            weight = weight.flip(1)
        order = -1 if self.reversed_planes else 1
        ours, theirs = (torch.tensor([n.mean[::order], n.std[::order]], dtype=torch.float64) for n in (own, given))
        shift = (ours[0] - theirs[0]) / theirs[1]
        moved = (weight.double() * shift.view(1, 3, 1, 1)).sum((1, 2, 3))
        state[f"{name}.weight"] = (weight * (ours[1] / theirs[1]).view(1, 3, 1, 1)).to(weight.dtype)
        if f"{name}.bias" in state:
            state[f"{name}.bias"] = (state[f"{name}.bias"].double() + moved).to(weight.dtype)
        elif moved.abs().max() > 0:
            raise ModelError(
                f"{where}: trained on pictures less the mean colour {given.mean}, this variant takes off {own.mean}, "
                f"and there is no {name}.bias to fold that into. Take weights that were trained on the latter; if "
                "these were, say so in their file's metadata (docs/weights.md)."
            )

    @torch.no_grad()
    def take_order(self, color: Color) -> None:
        """Turn the first convolution's weights round, where they are not so, to read the planes in that order."""
        if (color == "BGR") != self.reversed_planes:
            _, first = self.first_convolution()
            first.weight.copy_(first.weight.flip(1))
            self.reversed_planes = color == "BGR"


class Fixed(nn.Module):
    """A weight that stands in the state dict under a published name and that no training changes."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
