"""DeepLab: the third's scores are those of its authors' graph, the first is LargeFOV layer by layer."""

from __future__ import annotations

import pytest
import torch
from forms import narrow
from receptive import rows_seen
from torch import Tensor
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.models import vgg
from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.checkpoint import untrained
from fcn_edge.models.network import CAFFE

CLASSES = 21
THIRD = {"deeplabv3-lite": 8, "deeplabv3-lite-os16": 16, "deeplabv3-lite-os32": 32}
# (stride, rate) of MobileNetV2's 17 blocks by output stride, by hand
FIRST = [(1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1)]
BLOCKS = {
    32: [*FIRST, (2, 1), *[(1, 1)] * 6, (2, 1), *[(1, 1)] * 3],
    16: [*FIRST, (2, 1), *[(1, 1)] * 6, (1, 1), *[(1, 2)] * 3],
    8: [*FIRST, (1, 1), *[(1, 2)] * 6, (1, 2), *[(1, 4)] * 3],
}


def published(variant: str) -> dict[str, Tensor]:
    """Seeded weights under the names of the published file, whose head is joined from pooling and local features."""
    torch.manual_seed(0)
    own = models.build(variant, CLASSES).state_dict()
    state = {name: torch.randn(value.shape) for name, value in own.items() if name.startswith("features.")}
    for name, value in state.items():  # neither may the picture fade on its way down nor every ReLU6 be at its limit
        value *= 0.1 if name.endswith("bias") else (1.5 / value[0].numel()) ** 0.5
    shapes = {"aspp0": (256, 320), "image_pooling": (256, 320), "concat_projection": (256, 512), "logits": (21, 256)}
    for name, shape in shapes.items():
        state[f"head.{name}.weight"] = torch.randn(*shape, 1, 1) * (2 / shape[1]) ** 0.5
        state[f"head.{name}.bias"] = torch.randn(shape[0]) / 10
    return state


def same(x: Tensor, state: dict[str, Tensor], name: str, stride: int = 1, rate: int = 1) -> Tensor:
    """A convolution padded as TensorFlow's SAME: what is lacking for ceil(n / stride) positions, the odd row behind."""
    weight = state[f"{name}.weight"]
    pads: list[int] = []
    for side in (x.shape[3], x.shape[2]):
        lacking = max(0, (-(-side // stride) - 1) * stride + (weight.shape[-1] - 1) * rate + 1 - side)
        pads += [lacking // 2, lacking - lacking // 2]
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(F.pad(x, pads), weight, state[f"{name}.bias"], stride, dilation=rate, groups=groups)


def authors_scores(state: dict[str, Tensor], planes: Tensor, output_stride: int) -> Tensor:
    """DeepLabV3 on MobileNetV2 as its authors' graph computes it, before the last upsampling."""
    x = F.relu6(same(planes, state, "features.0.0", 2))
    for number, (stride, rate) in enumerate(BLOCKS[output_stride], 1):
        block, before = f"features.{number}.conv", x
        depthwise, project = (f"{block}.0.0", f"{block}.1") if number == 1 else (f"{block}.1.0", f"{block}.2")
        if number > 1:
            x = F.relu6(same(x, state, f"{block}.0.0"))
        x = F.relu6(same(x, state, depthwise, stride, rate))
        x = same(x, state, project)
        x = x + before if x.shape == before.shape else x
    pooled = F.relu(same(x.mean((2, 3), keepdim=True), state, "head.image_pooling")).expand(-1, -1, *x.shape[2:])
    joined = torch.cat([pooled, F.relu(same(x, state, "head.aspp0"))], 1)
    return same(F.relu(same(joined, state, "head.concat_projection")), state, "head.logits")


class TestThird:
    @pytest.mark.parametrize("variant", THIRD)
    def test_published_weights_give_the_scores_of_their_authors_graph(self, variant):
        output_stride = THIRD[variant]
        state = published(variant)
        network = models.build(variant, CLASSES).eval()
        assert len(network.adopt(dict(state), "published")) == len(network.state_dict())
        planes = torch.randn(2, 3, 3 * output_stride + 1, 5 * output_stride + 1)
        with torch.inference_mode():
            got, expected = network.scores(planes), authors_scores(state, planes, output_stride)
        assert got.shape == (2, CLASSES, 4, 6)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.std()))
        assert expected.std((2, 3)).mean() > 0.1 * expected.std()  # places differ, not only classes

    def test_an_even_side_is_where_the_authors_padding_and_this_one_part(self):
        """SAME puts a single row of zeros behind the last one there, a padding of 1 before the first: half a pixel."""
        state = published("deeplabv3-lite")
        network = models.build("deeplabv3-lite", CLASSES).eval()
        network.adopt(dict(state), "published")
        planes = torch.randn(1, 3, 64, 64)
        with torch.inference_mode():
            got, expected = network.scores(planes), authors_scores(state, planes, 8)
        assert got.shape == expected.shape
        assert (got - expected).abs().max() > 0.1 * expected.std()

    def test_at_output_stride_32_it_is_fcn32s_lite(self):
        with torch.device("meta"):
            theirs, ours = models.build("deeplabv3-lite-os32", CLASSES), models.build("fcn32s-lite", CLASSES)
        assert type(theirs) is type(ours)
        assert theirs.geometry == ours.geometry
        assert theirs.state_dict().keys() == ours.state_dict().keys()


class TestFirst:
    def test_it_has_large_fovs_parameters(self):
        with torch.device("meta"):
            network = models.build("deeplabv1-vgg16-crf", CLASSES)
        total = sum(parameter.numel() for parameter in network.parameters())
        assert round(total / 1e5) == 205  # Chen et al. 2015, table 2: 20.5 million

    def test_scores_are_those_of_a_forward_pass_written_down(self):
        with narrow():
            network, _ = untrained("deeplabv1-vgg16-crf")
            stages = vgg.STAGES
        state = network.state_dict()
        frame = torch.randint(0, 256, (1, 65, 97, 3), dtype=torch.uint8)
        x = frame.permute(0, 3, 1, 2) - torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(1, 3, 1, 1)
        for stage, (stride, holes) in enumerate(((2, 1), (2, 1), (2, 1), (1, 1), (1, 2)), 1):
            for index in range(1, stages[stage - 1][1] + 1):
                name = f"conv{stage}_{index}"
                x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=holes, dilation=holes).relu()
            x = F.max_pool2d(x, 3, stride, padding=1)
        x = F.avg_pool2d(x, 3, 1, padding=1)
        x = F.conv2d(x, state["fc6.weight"], state["fc6.bias"], padding=12, dilation=12).relu()
        x = F.conv2d(x, state["fc7.weight"], state["fc7.bias"]).relu()
        x = F.conv2d(x, state["fc8.weight"], state["fc8.bias"])
        assert x.shape[2:] == (9, 13)
        with torch.inference_mode():
            torch.testing.assert_close(network(frame), x, rtol=1e-4, atol=1e-4)

    def test_a_score_looks_evenly_around_the_pixel_that_aligned_corners_put_it_on(self):
        """By hand: 5 rows after two convolutions, 7 after the first pool, ..., 243 after pool5a, and 2 * 96 by fc6."""
        with narrow():
            network = models.build("deeplabv1-vgg16-crf", 1)
        assert rows_seen(network, height=8 * 60 + 1, index=30) == (240 - 217, 240 + 217)

    @pytest.mark.parametrize("caffe", [False, True])
    def test_the_convolutions_of_a_vgg16_are_taken_with_the_colours_that_they_were_trained_on(self, caffe):
        with torch.device("meta"):
            trunk = torchvision.models.vgg16(weights=None).features
        torch.manual_seed(0)
        state = {f"features.{name}": torch.randn(value.shape) / 50 for name, value in trunk.state_dict().items()}
        network = models.build("deeplabv1-vgg16-crf", CLASSES)
        fully_connected = {"classifier.0.weight": torch.zeros(4096, 25088)}
        adopted = network.adopt(state | fully_connected, "vgg16", CAFFE if caffe else None)
        assert len(adopted) == 26
        assert all(name.startswith(network.trunk) for name in adopted)
        assert torch.equal(network.state_dict()["conv5_3.weight"], state["features.28.weight"])
        kept = torch.equal(network.state_dict()["conv1_1.weight"], state["features.0.weight"])
        assert kept == caffe
