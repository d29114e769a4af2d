"""A classifier turned into convolutions scores every window that it fits into: Long et al. 2015, section 3.1."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fcn_edge.errors import ModelError
from fcn_edge.models.convert import as_convolution, convolutional
from fcn_edge.models.vgg import vgg16_features

CLASSES = 1000
IMAGENET_VGG16 = (
    Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")) / "hub/checkpoints/vgg16-397923af.pth"
)


def classifier(maps: int, hidden: int) -> nn.Sequential:
    """VGG16's, as torchvision lays it out, with so many maps of 7x7 and so many hidden units."""
    layers = nn.Sequential(
        nn.Flatten(),
        nn.Linear(maps * 49, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, CLASSES),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layers.eval()


def relative(difference: Tensor, to: Tensor) -> float:
    return float(difference.abs().max() / to.std())


@pytest.fixture(scope="module", params=["seeded", "imagenet"])
def vgg16(request) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """Trunk, classifier and the classifier converted: seeded, and ImageNet's where torchvision has fetched it."""
    if request.param == "imagenet" and not IMAGENET_VGG16.is_file():
        pytest.skip(f"{IMAGENET_VGG16} is not there")
    torch.manual_seed(0)
    trunk, head = vgg16_features().eval(), classifier(512, 4096)
    if request.param == "imagenet":
        state = torch.load(IMAGENET_VGG16, weights_only=True)
        trunk.load_state_dict({k[9:]: v for k, v in state.items() if k.startswith("features.")})
        numbers = {"0": "1", "3": "4", "6": "7"}  # Flatten stands first here
        own = {tuple(k.split(".")[1:]): v for k, v in state.items() if k.startswith("classifier.")}
        head.load_state_dict({f"{numbers[number]}.{kind}": v for (number, kind), v in own.items()})
    return trunk, head, convolutional(head, 512)


class TestVGG16:
    """At its own width and size."""

    @torch.inference_mode()
    def test_at_224_it_gives_the_classifiers_1000_outputs(self, vgg16):
        trunk, head, dense = vgg16
        features = trunk(torch.randn(1, 3, 224, 224))
        expected = head(features)
        got = dense(features)
        assert got.shape == (1, CLASSES, 1, 1)
        assert relative(got[0, :, 0, 0] - expected[0], expected) < 1e-4

    @torch.inference_mode()
    def test_at_384_its_map_of_6_by_6_differs_from_windows_by_the_trunks_zero_padding_alone(self, vgg16):
        """A window that is cut out has zeros around it at each of 13 convolutions; within the map its neighbours
        are real. With seeded weights and noise that is a third of the scores' length; with those zeros put into
        the large picture's maps, nothing is left."""
        trunk, head, dense = vgg16
        picture = torch.randn(1, 3, 384, 384)
        scores = dense(trunk(picture))
        assert scores.shape == (1, CLASSES, 6, 6)
        apart = {}
        for row, column in ((0, 0), (2, 3)):
            window = picture[:, :, 32 * row : 32 * row + 224, 32 * column : 32 * column + 224]
            alone = head(trunk(window))[0]
            apart[row, column] = float((scores[0, :, row, column] - alone).norm() / alone.norm())
            masked = dense(with_zeros_around(trunk, picture, row, column))[0, :, row, column]
            assert relative(masked - alone, alone) < 1e-4
        print("distance of the map's scores from a window's own, of their length:", apart)
        assert 0.01 < min(apart.values()) <= max(apart.values()) < 1.0

    def test_the_converted_layers_use_the_classifiers_memory(self, vgg16):
        _, head, dense = vgg16
        assert dense[0].weight.data_ptr() == head[1].weight.data_ptr()


def with_zeros_around(trunk: nn.Sequential, x: Tensor, row: int, column: int) -> Tensor:
    """The trunk's features of a picture where each convolution reads zeros outside the window at (row, column)."""
    stride = 1
    for layer in trunk:
        if isinstance(layer, nn.Conv2d):
            inside = torch.zeros_like(x)
            top, left, side = 32 * row // stride, 32 * column // stride, 224 // stride
            window = (..., slice(top, top + side), slice(left, left + side))
            inside[window] = x[window]
            x = inside
        stride *= 2 if isinstance(layer, nn.MaxPool2d) else 1
        x = layer(x)
    return x


@pytest.fixture(scope="module")
def unpadded() -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """VGG16's thirteen convolutions and five pools, narrow and without padding: 7x7 maps of 404 pixels."""
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    inputs = 3
    for channels, repeats in ((4, 2), (8, 2), (8, 3), (8, 3), (8, 3)):
        for _ in range(repeats):
            layers += [nn.Conv2d(inputs, channels, 3), nn.ReLU()]
            nn.init.kaiming_normal_(layers[-2].weight)  # type: ignore[arg-type]
            inputs = channels
        layers.append(nn.MaxPool2d(2))
    head = classifier(8, 32)
    return nn.Sequential(*layers).eval(), head, convolutional(head, 8)


@torch.inference_mode()
def test_without_padding_the_map_is_the_classifier_slid_over_the_picture_at_stride_32(unpadded):
    """A trunk without padding knows nothing of a window's surroundings."""
    trunk, head, dense = unpadded
    picture = torch.randn(1, 3, 404 + 5 * 32, 404 + 5 * 32)
    scores = dense(trunk(picture))
    assert scores.shape == (1, CLASSES, 6, 6)
    windows = picture.unfold(2, 404, 32).unfold(3, 404, 32)[0].permute(1, 2, 0, 3, 4)
    slid = torch.stack([head(trunk(row)) for row in windows]).permute(2, 0, 1)
    assert slid.shape == (CLASSES, 6, 6)
    assert relative(scores[0] - slid, slid) < 1e-4


def test_the_weights_order_is_that_of_the_flattened_maps():
    """Input c*k*k + y*k + x of the layer is row y, column x of map c of the kernel."""
    weight = torch.arange(2 * 3 * 4.0).view(2, 12)
    kernel = as_convolution(weight, 3)
    assert kernel.shape == (2, 3, 2, 2)
    assert kernel[1, 2, 1, 0] == weight[1, 2 * 4 + 1 * 2 + 0]


@pytest.mark.parametrize("channels", [5, 6])
def test_inputs_that_are_no_square_maps_are_refused(channels):
    with pytest.raises(ModelError, match=f"12 inputs does not take {channels} square maps"):
        as_convolution(torch.zeros(2, 12), channels)


def test_a_layer_without_bias_stays_without():
    dense = convolutional(nn.Sequential(nn.Linear(4, 2, bias=False)), 1)
    assert dense[0].bias is None
    assert dense(torch.zeros(1, 1, 3, 3)).shape == (1, 2, 2, 2)
