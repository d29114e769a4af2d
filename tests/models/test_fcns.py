"""What makes FCNs: five doublings, each but the last followed by a pool's own map, and scores at full size."""

import torch
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.checkpoint import untrained
from fcn_edge.models.fcns import fcns_vgg16

CLASSES = 21
CHANNELS = ((512, 512), (512, 256), (256, 128), (128, 64), (64, 32))


def test_it_is_vgg16s_trunk_and_a_decoder_of_its_channels():
    with torch.device("meta"):
        ours = models.build("fcns-vgg16", CLASSES)
        trunk = torchvision.models.vgg16(weights=None).features
    decoder = sum(inputs * outputs * 9 + outputs + 2 * outputs for inputs, outputs in CHANNELS)  # with batch norm
    expected = sum(parameter.numel() for parameter in trunk.parameters()) + decoder + 32 * CLASSES + CLASSES
    assert sum(parameter.numel() for parameter in ours.parameters()) == expected


def test_scores_are_those_of_a_forward_pass_written_down():
    """A frame of 45x70 pixels counts as one of 64x96 with zeros at bottom and right."""
    network, _ = untrained("fcns-vgg16")
    generator = torch.Generator().manual_seed(1)
    state = network.state_dict()
    for name, value in state.items():  # batch norm that does something
        if name.startswith("bn") and value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    frame = torch.randint(0, 256, (1, 45, 70, 3), dtype=torch.uint8, generator=generator)
    x = torch.zeros(1, 3, 64, 96)
    x[:, :, :45, :70] = network.planes(frame)
    pools, number = [], 0
    for repeats in (2, 2, 3, 3, 3):
        for _ in range(repeats):
            x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).relu()
            number += 2
        x = F.max_pool2d(x, 2)
        pools.append(x)
        number += 1
    for step in range(1, 6):
        weight, bias = state[f"deconv{step}.weight"], state[f"deconv{step}.bias"]
        x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1).relu()
        statistics = (state[f"bn{step}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, *statistics)
        if step < 5:
            x = x + pools[4 - step]
    x = F.conv2d(x, state["classifier.weight"], state["classifier.bias"])[:, :, :45, :70]
    with torch.inference_mode():
        torch.testing.assert_close(network(frame), x, rtol=1e-4, atol=1e-4)


def test_its_loss_is_binary_cross_entropy():
    with torch.device("meta"):
        assert fcns_vgg16(CLASSES).loss == "binary"


def test_the_trunk_takes_torchvisions_vgg16():
    with torch.device("meta"):
        trunk = torchvision.models.vgg16(weights=None).features
    state = {f"features.{name}": torch.zeros(value.shape) for name, value in trunk.state_dict().items()}
    assert models.build("fcns-vgg16", CLASSES).adopt(state, "test") == set(state)
