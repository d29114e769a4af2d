"""MobileNetV2 without batch norm: Sandler et al. 2018, table 2, names as torchvision's.

Batch norm is folded into the convolutions before anything is trained here. What is left is what runs on
the edge, so training, export and quantisation see the very same graph.
"""

from __future__ import annotations

from torch import Tensor, nn

from fcn_edge.models.dilation import dilated

# expansion, channels, repeats, stride of the first repeat: table 2
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def conv_relu6(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups)
    return nn.Sequential(convolution, nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project: section 3.3. The first block of the network does not expand."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [conv_relu6(inputs, hidden, 1)] if expansion > 1 else []
        layers += [conv_relu6(hidden, hidden, 3, stride, hidden, dilation), nn.Conv2d(hidden, outputs, 1)]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)

    def expand(self, x: Tensor) -> Tensor:
        """The expanded features, before they are filtered: (N, hidden, h, w) at the input's stride."""
        return self.conv[0](x)

    def finish(self, expanded: Tensor) -> Tensor:
        """The block's output from its expanded features; only where nothing is added."""
        return self.conv[1:](expanded)


def features(width: float = 1.0, output_stride: int = 32) -> nn.Sequential:
    """The 18 blocks up to `320 * width` channels; `features[i]` is torchvision's `features.i`.

    width:         multiplies the channels of every layer (section 3.4).
    output_stride: 32; or 16 or 8, where the last halving, or the last two, are left out and the blocks after
                   them are dilated in their place.
    """
    wanted = [
        (expansion, int(wide * width), first_stride if repeat == 0 else 1)
        for expansion, wide, repeats, first_stride in STAGES
        for repeat in range(repeats)
    ]
    first, *steps = dilated([2, *(stride for _, _, stride in wanted)], output_stride)
    channels = int(32 * width)
    blocks: list[nn.Module] = [conv_relu6(3, channels, 3, first.stride)]
    for (expansion, outputs, _), step in zip(wanted, steps, strict=True):
        blocks.append(InvertedResidual(channels, outputs, step.stride, expansion, step.dilation))
        channels = outputs
    network = nn.Sequential(*blocks)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # He et al. 2015: without batch norm the default fades out on the way
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return network
