"""FCNs for the edge: a MobileNetV2 trunk whose scores at stride 32, and at 16 and 8 where skips are, are added.

The coarsest scores carry a context term, the mean over the whole map, as in DeepLabV3's image pooling. The
skips are read from the expanded features of the blocks that are about to halve the
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


class FCNLite(Network):
    """One head with zero, one or two skips: Long et al. 2015, section 4.2, on an edge trunk.

    Sides are 32k+1: with padding 1 before stride 2 the features sample the picture at exact multiples of
    the stride, so corners stay aligned through every upsampling.

    skips:  strides below the coarsest at which scores are added: (), (16,), (16, 8) or (8,).
    width:  of trunk and skip heads, as a fraction of MobileNetV2 1.0.
    coarse: stride of the coarsest features: 32, or 16 or 8 by dilation.
    """

    trunk = "features."

    def __init__(
        self, classes: int, skips: tuple[int, ...], width: float = 1.0, coarse: int = 32, size: int = 513
    ) -> None:
        super().__init__(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
        finest = min((coarse, *skips))
        self.geometry = Geometry(size, coarse, "k*stride+1", output_stride=finest, grid="align_corners")
        self.features = features(width, coarse)
        self.head32 = Head32(int(320 * width), classes)
        self.head16 = skip_head(int(576 * width), int(192 * width), classes) if 16 in skips else None
        self.head8 = skip_head(int(192 * width), int(96 * width), classes) if 8 in skips else None

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
        return self.head_scores(self.trunk_features(planes))

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """What the heads read: the expanded features at strides 8 and 16, and the last ones."""
        at_8 = _block(self.features, HALVES_8).expand(self.features[:HALVES_8](planes))
        x = _block(self.features, HALVES_8).finish(at_8)
        at_16 = _block(self.features, HALVES_16).expand(self.features[HALVES_8 + 1 : HALVES_16](x))
        x = _block(self.features, HALVES_16).finish(at_16)
        return at_8, at_16, self.features[HALVES_16 + 1 :](x)

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """Class scores from `trunk_features`."""
        at_8, at_16, last = features
        fused = self.head32(last)
        if self.head16 is not None:
            fused = _upsample_to(self.head16(at_16), fused)
        if self.head8 is not None:
            fused = _upsample_to(self.head8(at_8), fused)
        return fused


def fcn32s_lite(classes: int) -> FCNLite:
    return FCNLite(classes, skips=())


def fcn16s_lite(classes: int) -> FCNLite:
    return FCNLite(classes, skips=(16,))


def fcn8s_lite(classes: int) -> FCNLite:
    return FCNLite(classes, skips=(16, 8))


def fcn8s_lite_small(classes: int) -> FCNLite:
    """Half as wide: for the smallest boards."""
    return FCNLite(classes, skips=(16, 8), width=0.5)


def fcn8s_lite_large(classes: int) -> FCNLite:
    """The last stage dilated instead of strided, so that its scores lie at stride 16, on larger frames."""
    return FCNLite(classes, skips=(8,), coarse=16, size=641)


def _block(blocks: nn.Sequential, index: int) -> InvertedResidual:
    block = blocks[index]
    assert isinstance(block, InvertedResidual)
    return block


def _upsample_to(skip: Tensor, coarse: Tensor) -> Tensor:
    """`skip` plus `coarse` at the skip's size."""
    return skip + F.interpolate(coarse, size=skip.shape[-2:], mode="bilinear", align_corners=True)
