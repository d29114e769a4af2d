"""Bilinear transposed convolutions leave as Resize.

Quantised transposed convolutions are slow or wrong in several runtimes, and a bilinear one needs no weights. It is
exactly this: a border of zeros, interpolation by the factor, and the outer pixels cut off again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models.upsampling import is_bilinear


class BilinearResize(nn.Module):
    """What a transposed convolution by `factor` with a bilinear kernel gives: (N, C, h, w) to (N, C, h', w').

    Its kernel of 2f - f%2 reaches beyond the outermost inputs, onto zeros; a border of zeros stands for them.
    """

    def __init__(self, factor: int, padding: int) -> None:
        super().__init__()
        self.factor = float(factor)
        # Where the two count from differs by the middle of the border's pixel: f/2, or (f+1)/2 for an odd f.
        self.cut = (factor + 1) // 2 + padding

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=self.factor, mode="bilinear", align_corners=False)
        return x[:, :, self.cut : -self.cut, self.cut : -self.cut]


@contextmanager
def resizes(network: nn.Module) -> Generator[None, None, None]:
    """Within it, the bilinear transposed convolutions of `network` are `BilinearResize`."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.ConvTranspose2d) and is_bilinear(layer) and layer.padding[0] == layer.padding[1]:
                setattr(parent, name, BilinearResize(layer.stride[0], int(layer.padding[0])))
                replaced.append((parent, name, layer))
    try:
        yield
    finally:
        for parent, name, layer in replaced:
            setattr(parent, name, layer)
