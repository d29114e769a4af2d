"""What makes the interpolating FCNs: a light head on VGG16, skips at their exact sizes, aligned corners."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.decode import decode
from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.checkpoint import untrained
from fcn_edge.models.interp import fcn8s_interp

CLASSES = 21
SKIPS = {"fcn32s-interp": [], "fcn16s-interp": [(512, 4)], "fcn8s-interp": [(512, 4), (256, 3)]}


@pytest.mark.parametrize("variant", SKIPS)
def test_it_is_vgg16s_trunk_torchvisions_head_and_a_1x1_a_skip(variant):
    with torch.device("meta"):
        ours = models.build(variant, CLASSES)
        trunk = torchvision.models.vgg16(weights=None).features
        head = torchvision.models.segmentation.fcn.FCNHead(512, CLASSES)
    skips = sum(channels * CLASSES + CLASSES for channels, _ in SKIPS[variant])
    expected = sum(parameter.numel() for module in (trunk, head) for parameter in module.parameters()) + skips
    assert sum(parameter.numel() for parameter in ours.parameters()) == expected


def test_scores_are_those_of_a_forward_pass_written_down():
    """For 75x98 pixels: pools round up, and each upsampling goes to the skip's own size."""
    network, _ = untrained("fcn8s-interp")
    state = network.state_dict()
    frame = torch.randint(0, 256, (1, 75, 98, 3), dtype=torch.uint8)
    x, pools, number = network.planes(frame), [], 0
    for repeats in (2, 2, 3, 3, 3):
        for _ in range(repeats):
            x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).relu()
            number += 2
        x = F.max_pool2d(x, 2, ceil_mode=True)
        pools.append(x)
        number += 1
    assert [tuple(pool.shape[2:]) for pool in pools[2:]] == [(10, 13), (5, 7), (3, 4)]
    x = F.conv2d(x, state["head.0.weight"], padding=1)
    x = F.batch_norm(x, *(state[f"head.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))).relu()
    x = F.conv2d(x, state["head.4.weight"], state["head.4.bias"])
    for skip, size in ((4, (5, 7)), (3, (10, 13))):
        scores = F.conv2d(pools[skip - 1], state[f"score_pool{skip}.weight"], state[f"score_pool{skip}.bias"])
        assert scores.abs().max() > 0
        x = scores + F.interpolate(x, size, mode="bilinear", align_corners=True)
    with torch.inference_mode():
        torch.testing.assert_close(network(frame), x, rtol=1e-4, atol=1e-4)


def test_decoding_is_its_last_interpolation():
    scores = torch.randn(CLASSES, 10, 13, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(scores[None], (75, 98), mode="bilinear", align_corners=True)[0].argmax(0).numpy()
    with torch.device("meta"):
        geometry = models.build("fcn8s-interp", CLASSES).geometry
    labels = decode(scores.numpy(), (75, 98), geometry.grid)
    assert np.mean(labels == expected) > 0.999


def test_training_starts_from_the_coarse_scores():
    network = fcn8s_interp(CLASSES).eval()
    frame = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        coarse = network.head(network.trunk_features(network.planes(frame))[-1])
        expected = F.interpolate(coarse, (4, 4), mode="bilinear", align_corners=True)
        expected = F.interpolate(expected, (8, 8), mode="bilinear", align_corners=True)
        torch.testing.assert_close(network(frame), expected, rtol=1e-4, atol=1e-4)


def test_the_trunk_takes_torchvisions_vgg16():
    network = models.build("fcn8s-interp", CLASSES)
    with torch.device("meta"):
        trunk = torchvision.models.vgg16(weights=None).features
    state = {f"features.{name}": torch.zeros(value.shape) for name, value in trunk.state_dict().items()}
    assert network.adopt(state | {"classifier.6.weight": torch.zeros(1000, 4096)}, "test") == set(state)
