"""SegNet and DeconvNet: unpooling is PyTorch's own, ties included, and both networks are their papers' layers."""

from __future__ import annotations

import pytest
import torch
from forms import narrow
from torch import Tensor
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.checkpoint import untrained
from fcn_edge.models.network import Network
from fcn_edge.models.unpooling import pool, unpool

CLASSES = 21
REPEATS = (2, 2, 3, 3, 3)


@pytest.mark.parametrize("values", [2, 5, 1000])
def test_pooling_and_unpooling_are_pytorchs_own_where_pixels_are_equal_too(values):
    """Of 2 values most windows have equal maxima, of 1000 few."""
    generator = torch.Generator().manual_seed(values)
    x = torch.randint(0, values, (2, 3, 16, 22), generator=generator).float()
    y = torch.randn(2, 3, 8, 11, generator=generator)
    expected, indices = F.max_pool2d(x, 2, return_indices=True)
    pooled, winners = pool(x)
    assert torch.equal(pooled, expected)
    assert torch.equal(unpool(y, winners), F.max_unpool2d(y, indices, (2, 2)))


def test_the_index_takes_three_bits_a_window():
    _, winners = pool(torch.randn(1, 4, 6, 8))
    assert [tuple(part.shape) for part in winners] == [(1, 4, 3, 4)] * 3
    assert all(part.dtype == torch.bool for part in winners)


def lively(network: Network) -> dict[str, Tensor]:
    """The state dict, its batch norms no longer the identity."""
    generator = torch.Generator().manual_seed(1)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return state


def normed(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    average, variance, weight, bias = (
        state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, average, variance, weight, bias).relu()


def down(x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """VGG16 with batch norm, layer by layer, and PyTorch's indices of its pools."""
    number, found = 0, []
    for repeats in REPEATS:
        for _ in range(repeats):
            x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1)
            x = normed(x, state, f"features.{number + 1}")
            number += 3
        x, indices = F.max_pool2d(x, 2, return_indices=True)
        found.append(indices)
        number += 1
    return x, found


def up(x: Tensor, state: dict[str, Tensor], found: list[Tensor], repeats: tuple[int, ...]) -> Tensor:
    for stage, count in enumerate(repeats):
        x = F.max_unpool2d(x, found[-1 - stage], (2, 2))
        for number in range(0, 3 * count, 3):
            x = F.conv2d(x, state[f"decoder.{stage}.{number}.weight"], padding=1)
            x = normed(x, state, f"decoder.{stage}.{number + 1}")
    return x


def narrow_network(variant: str) -> tuple[Network, dict[str, Tensor]]:
    with narrow():
        network, _ = untrained(variant)
    return network, lively(network)


class TestSegNet:
    def test_scores_are_those_of_a_forward_pass_written_down(self):
        """A frame of 45x70 pixels counts as one of 64x96 with zeros at bottom and right."""
        network, state = narrow_network("segnet")
        frame = torch.randint(0, 256, (2, 45, 70, 3), dtype=torch.uint8)
        x = torch.zeros(2, 3, 64, 96)
        x[:, :, :45, :70] = network.planes(frame)
        x, found = down(x, state)
        x = up(x, state, found, (3, 3, 3, 2, 1))
        x = F.conv2d(x, state["score.weight"], state["score.bias"], padding=1)[:, :, :45, :70]
        with torch.inference_mode():
            torch.testing.assert_close(network(frame), x, rtol=1e-3, atol=1e-4 * float(x.abs().max()))

    def test_it_has_the_papers_size(self):
        with torch.device("meta"):
            network = models.build("segnet", 11)
        total = sum(parameter.numel() for parameter in network.parameters())
        assert round(total / 1e5) == 294  # without the biases before batch norms on the way up, which do nothing


class TestDeconvNet:
    @pytest.mark.parametrize("size", [(224, 224), (256, 288)])
    def test_scores_are_those_of_a_forward_pass_written_down(self, size):
        """224x224 is the paper's, where all of the picture goes through one vector."""
        network, state = narrow_network("deconvnet")
        frame = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
        x, found = down(network.planes(frame), state)
        x = normed(F.conv2d(x, state["between.fc6.weight"], state["between.fc6.bias"]), state, "between.bn6")
        assert x.shape[2:] == (size[0] // 32 - 6, size[1] // 32 - 6)
        x = normed(F.conv2d(x, state["between.fc7.weight"], state["between.fc7.bias"]), state, "between.bn7")
        x = normed(F.conv_transpose2d(x, state["between.deconv.weight"]), state, "between.bn")
        x = up(x, state, found, (3, 3, 3, 2, 2))
        x = F.conv2d(x, state["score.weight"], state["score.bias"])
        with torch.inference_mode():
            torch.testing.assert_close(network(frame), x, rtol=1e-3, atol=1e-4 * float(x.abs().max()))

    def test_a_small_frame_counts_as_one_with_zeros_in_the_last_map(self):
        network, _ = narrow_network("deconvnet")
        between = network.get_submodule("between")
        x = torch.rand(1, 64, 2, 9)
        padded = F.pad(x, (0, 0, 0, 5))
        with torch.inference_mode():
            torch.testing.assert_close(between(x), between(padded)[:, :, :2])

    def test_it_has_the_papers_size(self):
        with torch.device("meta"):
            network = models.build("deconvnet", CLASSES)
        total = sum(parameter.numel() for parameter in network.parameters())
        assert round(total / 1e6) == 252  # Noh et al. 2015, section 4.2


@pytest.mark.parametrize("variant", ["segnet", "deconvnet"])
def test_the_trunk_takes_torchvisions_vgg16_with_batch_norm(variant):
    with torch.device("meta"):
        network = models.build(variant, CLASSES)
        whole = torchvision.models.vgg16_bn(weights=None)
    renamed = network.rename(whole.state_dict())
    own = network.state_dict()
    fitting = {name for name, value in renamed.items() if name in own and own[name].shape == value.shape}
    assert {f"features.{name}" for name in whole.features.state_dict()} <= fitting
    fully_connected = {f"between.{layer}.{kind}" for layer in ("fc6", "fc7") for kind in ("weight", "bias")}
    assert fully_connected & own.keys() <= fitting
