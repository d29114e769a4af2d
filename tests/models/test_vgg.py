"""The paper's networks on VGG16 against forward passes that are written down here, tensor by tensor."""

import pytest
import torch
from forms import narrow
from torch import Tensor
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.data import read_image
from fcn_edge.decode import decode
from fcn_edge.errors import ModelError
from fcn_edge.models.checkpoint import adopt, load, save_checkpoint, untrained
from fcn_edge.models.network import CAFFE
from fcn_edge.models.upsampling import bilinear, is_bilinear, learned
from fcn_edge.spec import Deconv

VARIANTS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")
CONVOLUTIONS = [f"conv{stage}_{i}" for stage, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)]
LAYERS = [*CONVOLUTIONS, "fc6", "fc7", "score_fr"]
HEADS = {
    "fcn32s": ({}, {"upscore": 64}),
    "fcn16s": ({"score_pool4": 512}, {"upscore2": 4, "upscore16": 32}),
    "fcn8s": ({"score_pool4": 512, "score_pool3": 256}, {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16}),
}
HEADS["fcn8s-atonce"] = HEADS["fcn8s"]


def published_layout(variant: str, widths: tuple[int, ...], connected: int) -> dict[str, list[int]]:
    """Names and shapes of a pytorch-fcn checkpoint (its models/fcn32s.py, fcn16s.py, fcn8s.py) for 21 classes."""
    skips, upscores = HEADS[variant]
    shapes: dict[str, list[int]] = {}
    inputs = 3
    for name in CONVOLUTIONS:
        outputs = widths[int(name[4]) - 1]
        shapes[name] = [outputs, inputs, 3, 3]
        inputs = outputs
    shapes |= {"fc6": [connected, inputs, 7, 7], "fc7": [connected, connected, 1, 1], "score_fr": [21, connected, 1, 1]}
    shapes |= {name: [21, full * widths[-1] // 512, 1, 1] for name, full in skips.items()}
    layout = {f"{name}.weight": shape for name, shape in shapes.items()}
    layout |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    return layout | {f"{name}.weight": [21, 21, kernel, kernel] for name, kernel in upscores.items()}


def bilinear_by_hand(kernel: int) -> Tensor:
    """Fully connected in the classes but zero between them, as the released networks' surgery fills it."""
    factor = (kernel + 1) // 2
    center = factor - 1 if kernel % 2 else factor - 0.5
    line = [1 - abs(i - center) / factor for i in range(kernel)]
    weight = torch.zeros(21, 21, kernel, kernel)
    for index in range(21):
        weight[index, index] = torch.tensor([[a * b for b in line] for a in line])
    return weight


def checkpoint(variant: str, widths: tuple[int, ...] = (8, 16, 32, 64, 64), connected: int = 64) -> dict[str, Tensor]:
    """Seeded weights in the published layout, at an eighth of the width."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for name, shape in published_layout(variant, widths, connected).items():
        if name.startswith("upscore"):
            state[name] = bilinear_by_hand(shape[-1])
        else:
            fan_in = torch.Size(shape[1:]).numel()
            state[name] = torch.randn(shape, generator=generator) * (2 / max(1, fan_in)) ** 0.5
    return state


def released_forward(variant: str, state: dict[str, Tensor], frame: Tensor) -> Tensor:
    """Labels as the released networks make them: 100 pixels of border, crops, full upsampling, argmax."""

    def layer(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    x = frame.permute(0, 3, 1, 2) - torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(1, 3, 1, 1)
    pools = {}
    for name in CONVOLUTIONS:
        x = layer(name, x, 100 if name == "conv1_1" else 1).relu()
        if name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"):
            x = F.max_pool2d(x, 2, stride=2, ceil_mode=True)
            pools[int(name[4])] = x
    x = layer("score_fr", layer("fc7", layer("fc6", x).relu()).relu())
    height, width = frame.shape[1:3]

    def up(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv_transpose2d(x, weight, stride=weight.shape[-1] // 2)

    if variant == "fcn32s":
        return up("upscore", x)[:, :, 19 : 19 + height, 19 : 19 + width].argmax(1)
    at_once = variant == "fcn8s-atonce"
    x = up("upscore2", x)
    skip = layer("score_pool4", pools[4] * 0.01 if at_once else pools[4])
    x = x + skip[:, :, 5 : 5 + x.shape[2], 5 : 5 + x.shape[3]]
    if variant == "fcn16s":
        return up("upscore16", x)[:, :, 27 : 27 + height, 27 : 27 + width].argmax(1)
    x = up("upscore_pool4", x)
    skip = layer("score_pool3", pools[3] * 0.0001 if at_once else pools[3])
    x = x + skip[:, :, 9 : 9 + x.shape[2], 9 : 9 + x.shape[3]]
    return up("upscore8", x)[:, :, 31 : 31 + height, 31 : 31 + width].argmax(1)


@pytest.fixture
def frame(cat) -> Tensor:
    return torch.from_numpy(read_image(cat)[100:223, 90:247].copy())[None]  # 123x157: odd both ways


@pytest.mark.parametrize("variant", VARIANTS)
class TestPublishedLayout:
    def test_names_and_shapes_are_the_published_ones(self, variant):
        with torch.device("meta"):
            own = models.build(variant, 21, "paper").state_dict()
        expected = published_layout(variant, (64, 128, 256, 512, 512), 4096)
        assert {name: list(value.shape) for name, value in own.items()} == expected

    def test_a_checkpoint_gives_the_labels_of_the_released_network(self, variant, tmp_path, frame):
        state = checkpoint(variant)
        torch.save(state, tmp_path / "published.pth")
        with narrow():
            network = models.build(variant, 21, "paper").eval()
        assert adopt(network, tmp_path / "published.pth") == state.keys()
        expected = released_forward(variant, state, frame)[0].numpy()
        with torch.inference_mode():
            scores = network(frame)[0].numpy()
        labels = decode(scores, (frame.shape[1], frame.shape[2]), network.geometry.grid)
        assert len(set(expected.flat)) > 2
        assert (labels == expected).mean() > 0.9999

    def test_the_same_weights_serve_in_the_other_form(self, variant, tmp_path, frame):
        state = checkpoint(variant)
        with narrow():
            paper, same = (models.build(variant, 21, padding).eval() for padding in ("paper", "same"))
        for network in (paper, same):
            network.adopt(dict(state), "state")
            assert network.state_dict().keys() == state.keys()
        rows, columns = (
            -(-frame.shape[1] // same.geometry.output_stride),
            -(-frame.shape[2] // same.geometry.output_stride),
        )
        with torch.inference_mode():
            assert same(frame).shape[2:] == (rows, columns)

    def test_fixed_upsampling_is_no_parameter(self, variant):
        with torch.device("meta"):
            network = models.build(variant, 21)
        assert network.fixed() == {f"{list(HEADS[variant][1])[-1]}.weight"}


class TestForms:
    @pytest.mark.parametrize(("padding", "first"), [("same", 15.5), ("paper", 12.5)])
    def test_a_score_looks_at_where_its_grid_puts_it(self, padding, first):
        """The middle of the pixels that a score of FCN-32s depends on, by its gradient, is where it is decoded to:
        row 31.5 of the transposed convolution less the crop."""
        with narrow():
            network = models.build("fcn32s", 21, padding)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):  # positive throughout: no path is closed
                torch.nn.init.constant_(module.weight, 1e-2)
        planes = torch.ones(1, 3, 800, 800, requires_grad=True)
        network.scores(planes)[0, 0, 12, 12].backward()
        assert planes.grad is not None
        seen = planes.grad[0, 0].nonzero().float()
        middle = (seen.min(0).values + seen.max(0).values) / 2
        assert isinstance(network.geometry.grid, Deconv)
        assert first == 31.5 - network.geometry.grid.crop
        assert (middle - (12 * 32 + first)).abs().max() <= 16  # of equals in a pool the first one passes

    def test_a_checkpoint_remembers_its_form(self, tmp_path):
        with narrow():
            network, spec = untrained("fcn16s", padding="paper")
            save_checkpoint(tmp_path / "c.safetensors", network, spec)
            loaded, said = load(tmp_path / "c.safetensors")
            assert (loaded.padding, said.padding) == ("paper", "paper")
            other, moved = load(tmp_path / "c.safetensors", padding="same")
        assert (other.padding, moved.padding) == ("same", "same")
        assert moved.output.grid == other.geometry.grid != said.output.grid


class TestStages:
    def test_score_layers_start_at_zero_and_upsampling_bilinear(self):
        with narrow():
            network = models.build("fcn8s", 21)
        for name in ("score_fr", "score_pool4", "score_pool3"):
            assert not any(parameter.any() for parameter in network.get_submodule(name).parameters())
        for name in ("upscore2", "upscore_pool4"):
            assert torch.equal(network.get_submodule(name).weight, bilinear_by_hand(4))  # type: ignore[arg-type]

    def test_an_fcn_16s_starts_from_the_weights_of_an_fcn_32s(self):
        with narrow():
            network = models.build("fcn16s", 21)
        adopted = network.adopt(checkpoint("fcn32s"), "fcn32s.pth")
        assert adopted == {f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias")}

    def test_a_last_upsampling_that_was_trained_is_refused(self):
        state = checkpoint("fcn8s")
        state["upscore8.weight"][0, 1, 3, 3] = 0.1
        with narrow():
            network = models.build("fcn8s", 21)
        with pytest.raises(ModelError, match=r"theirs\.pth: upscore8\.weight is not the bilinear upsampling"):
            network.adopt(state, "theirs.pth")

    def test_half_precision_does_not_make_the_fixed_weights_others(self):
        state = {name: value.half().float() for name, value in checkpoint("fcn32s").items()}
        with narrow():
            network = models.build("fcn32s", 21)
        network.adopt(state, "half.pth")
        assert torch.equal(network.state_dict()["upscore.weight"], bilinear_by_hand(64))


class TestClassifierWeights:
    """torchvision's VGG16 becomes trunk, fc6 and fc7; its colours are folded into conv1_1."""

    @pytest.fixture
    def classifier(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(2)
        shapes: dict[str, list[int]] = {}
        inputs, index = 3, 0
        for channels, repeats in ((8, 2), (16, 2), (32, 3), (64, 3), (64, 3)):
            for _ in range(repeats):
                shapes[f"features.{index}"] = [channels, inputs, 3, 3]
                inputs, index = channels, index + 2
            index += 1
        shapes |= {"classifier.0": [64, 64 * 49], "classifier.3": [64, 64], "classifier.6": [1000, 64]}
        state = {f"{name}.weight": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        return state | {f"{name}.bias": torch.randn(shape[0], generator=generator) for name, shape in shapes.items()}

    def test_its_layers_are_taken_under_their_names_here(self, classifier):
        with narrow():
            network = models.build("fcn8s", 21)
        adopted = network.adopt(classifier, "vgg16.pth")
        assert adopted == {f"{name}.{kind}" for name in (*CONVOLUTIONS, "fc6", "fc7") for kind in ("weight", "bias")}
        state = network.state_dict()
        assert torch.equal(state["conv3_1.weight"], classifier["features.10.weight"])
        assert torch.equal(state["fc6.weight"].flatten(1), classifier["classifier.0.weight"])

    @pytest.mark.parametrize("theirs", ["torchvision", "caffe"])
    def test_the_first_layer_sees_what_it_was_trained_to_see(self, classifier, theirs, frame):
        with narrow():
            network = models.build("fcn32s", 21)
        network.adopt(classifier, "vgg16.pth", CAFFE if theirs == "caffe" else None)
        if theirs == "torchvision":
            planes = frame.flip(3).permute(0, 3, 1, 2) / 255
            mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            planes = (planes - mean) / std
        else:
            planes = frame.permute(0, 3, 1, 2) - torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(
                1, 3, 1, 1
            )
        expected = F.conv2d(planes, classifier["features.0.weight"], classifier["features.0.bias"])
        got = network.get_submodule("conv1_1")(network.planes(frame))[:, :, 1:-1, 1:-1]
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


class TestBilinear:
    @pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8, 16, 32])
    def test_it_interpolates_between_neighbours(self, factor):
        """A ramp stays a ramp, `factor` times as fine, wherever two neighbours are at hand."""
        ramp = torch.arange(6.0)
        kernel = bilinear(factor)
        size = kernel.shape[0]
        line = F.conv_transpose2d(ramp.view(1, 1, 1, 6), kernel[None, None], stride=factor)[0, 0, size // 2]
        steps = line[size // 2 : 5 * factor + (size + 1) // 2].diff()
        torch.testing.assert_close(steps, torch.full_like(steps, float(kernel[size // 2].sum()) / factor**2))

    def test_a_trained_layer_is_told_from_a_bilinear_one(self):
        layer = learned(3, 2)
        assert is_bilinear(layer)
        with torch.no_grad():
            layer.weight[0, 1, 0, 0] = 1e-3
        assert not is_bilinear(layer)
