"""What makes FCN-GoogLeNet: torchvision's trunk, feature for feature, and a grid that its pools' offsets fit."""

import torch
from receptive import rows_seen

from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.googlenet import FEATURES, FCNGoogLeNet
from fcn_edge.spec import Deconv

CLASSES = 21


def test_it_is_googlenet_with_another_last_layer():
    with torch.device("meta"):
        network = FCNGoogLeNet(CLASSES)
    published = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.meta["num_params"]  # without auxiliary heads
    classifier, scores = FEATURES * 1000 + 1000, FEATURES * CLASSES + CLASSES
    assert sum(parameter.numel() for parameter in network.parameters()) == published - classifier + scores
    assert 5e6 < published - classifier + scores < 6.5e6  # Long et al. 2015, table 1: 6 million


def test_a_frames_features_are_torchvisions():
    """Pooled over the map and classified, they give torchvision's 1000 scores for the same picture."""
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(
        weights=None, init_weights=False, aux_logits=True, transform_input=True
    ).eval()
    network = FCNGoogLeNet(CLASSES).eval()
    state = theirs.state_dict()
    adopted = network.adopt(state, "test")
    assert {name.removeprefix("features.") for name in adopted} == {
        name for name in state if not name.startswith(("fc.", "aux"))
    }
    frame = torch.randint(0, 256, (1, 97, 129, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    picture = ((frame.flip(3) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        (features,) = network.trunk_features(network.planes(frame))
        torch.testing.assert_close(theirs.fc(features.mean((2, 3))), theirs(picture), rtol=1e-3, atol=1e-4)


def test_the_grid_puts_a_score_half_a_pixel_from_the_middle_of_what_it_sees():
    height = 769
    first, last = rows_seen(FCNGoogLeNet(1), height, index=12)
    assert 0 < first < last < height - 1
    middle = (first + last) / 2
    assert middle == 32 * 12 + 22
    grid = FCNGoogLeNet.geometry.grid
    assert isinstance(grid, Deconv)
    assert 32 * 12 + (2 * grid.deconv - 1) / 2 - grid.crop == middle + 0.5
