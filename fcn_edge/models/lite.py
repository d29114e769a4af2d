"""FCN-8s for the edge: a MobileNetV2 trunk whose scores at strides 8, 16 and 32 are added.

The scores at stride 32 carry a context term, the mean over the whole map, as in DeepLabV3's image
pooling. The skips are read from the expanded features of the blocks that are about to halve the
resolution: 192 channels at stride 8 and 576 at stride 16, six times what the block itself passes on.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge.models.mobilenet import InvertedResidual, features
from fcn_edge.models.network import Geometry, Network

HALVES_8, HALVES_16 = 7, 14  # the blocks of `features` that take stride 8 to 16, and 16 to 32
CONTEXT = 256


class Head32(nn.Module):
    """Scores at stride 32 from the trunk's last features and their mean over the map."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(inputs, CONTEXT, 1)
        self.context = nn.Conv2d(inputs, CONTEXT, 1)
        self.project_local = nn.Conv2d(CONTEXT, CONTEXT, 1)
        self.project_context = nn.Conv2d(CONTEXT, CONTEXT, 1, bias=False)
        self.score = nn.Conv2d(CONTEXT, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = F.relu(self.context(x.mean((2, 3), keepdim=True)))
        local = F.relu(self.local(x))
        # two convolutions that are added: the same as one over both joined, without a Concat to quantise
        return self.score(F.relu(self.project_local(local) + self.project_context(context)))


def skip_head(inputs: int, width: int, classes: int) -> nn.Sequential:
    """Scores from a skip: two separable 3x3 convolutions see 5x5 positions. Starts at zero, as the paper's."""
    score = nn.Conv2d(width, classes, 1)
    for parameter in score.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(
        nn.Conv2d(inputs, width, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.Conv2d(width, width, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.ReLU(inplace=True),
        score,
    )


class FCN8sLite(Network):
    """The bundled default. Sides are 32k+1: with padding 1 before stride 2 the features sample the
    picture at exact multiples of the stride, so corners stay aligned through every upsampling."""

    geometry = Geometry(size=513, stride=32, sides="k*stride+1", output_stride=8, grid="align_corners")
    trunk = "features."

    def __init__(self, classes: int) -> None:
        super().__init__(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
        self.features = features()
        self.head32 = Head32(320, classes)
        self.head16 = skip_head(576, 192, classes)
        self.head8 = skip_head(192, 96, classes)

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes the trunk and head of a DeepLabV3 on MobileNetV2 without atrous branches.

        A dilated network is a strided one evaluated more densely, so with its strides restored the same
        weights are an FCN-32s. Its projection sees pooling and local features joined; here they are two.
        """
        names = {"head.aspp0": "head32.local", "head.image_pooling": "head32.context", "head.logits": "head32.score"}
        renamed = {}
        for key, value in state.items():
            layer, _, kind = key.rpartition(".")
            if layer == "head.concat_projection" and kind == "weight":
                renamed["head32.project_context.weight"] = value[:, :CONTEXT]
                renamed["head32.project_local.weight"] = value[:, CONTEXT:]
            elif layer == "head.concat_projection":
                renamed["head32.project_local.bias"] = value
            else:
                renamed[f"{names.get(layer, layer)}.{kind}"] = value
        return renamed

    def scores(self, planes: Tensor) -> Tensor:
        at_8 = _block(self.features, HALVES_8).expand(self.features[:HALVES_8](planes))
        x = _block(self.features, HALVES_8).finish(at_8)
        at_16 = _block(self.features, HALVES_16).expand(self.features[HALVES_8 + 1 : HALVES_16](x))
        x = _block(self.features, HALVES_16).finish(at_16)
        fused = self.head32(self.features[HALVES_16 + 1 :](x))
        fused = _upsample_to(self.head16(at_16), fused)
        return _upsample_to(self.head8(at_8), fused)


def fcn8s_lite(classes: int) -> FCN8sLite:
    return FCN8sLite(classes)


def _block(blocks: nn.Sequential, index: int) -> InvertedResidual:
    block = blocks[index]
    assert isinstance(block, InvertedResidual)
    return block


def _upsample_to(skip: Tensor, coarse: Tensor) -> Tensor:
    """`skip` plus `coarse` at the skip's size."""
    return skip + F.interpolate(coarse, size=skip.shape[-2:], mode="bilinear", align_corners=True)
