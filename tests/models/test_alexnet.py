"""What makes FCN-AlexNet the paper's, and its single-column form torchvision's."""

import numpy as np
import pytest
import torch
from receptive import rows_seen
from torch import nn
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.decode import decode
from fcn_edge.errors import ModelError
from fcn_edge.models import alexnet
from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.alexnet import ChannelNorm
from fcn_edge.models.network import Network

CLASSES = 21
CAFFENET_PARAMETERS = 60965224  # of the BVLC reference CaffeNet, with its 1000 classes
LAST_LAYER = 4096 * 1000 + 1000
SCORES = 4096 * CLASSES + CLASSES


@pytest.fixture
def narrow(monkeypatch):
    """Fully connected layers of 64: what is asked here does not hang on the 54 million weights of the real ones."""
    monkeypatch.setattr(alexnet, "WIDTH", 64)


def on_meta(variant: str) -> Network:
    with torch.device("meta"):
        return models.build(variant, CLASSES)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def caffe_state(width: int) -> dict[str, torch.Tensor]:
    """Seeded weights in Caffe's shapes and under its names."""
    shapes = {"conv1": (96, 3, 11, 11), "conv2": (256, 48, 5, 5), "conv3": (384, 256, 3, 3)}
    shapes |= {"conv4": (384, 192, 3, 3), "conv5": (256, 192, 3, 3)}
    shapes |= {"fc6": (width, 9216), "fc7": (width, width), "fc8": (1000, width)}
    state = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    return state | {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}


def test_it_is_caffenet_without_its_last_layer():
    assert parameters(on_meta("fcn-alexnet")) == CAFFENET_PARAMETERS - LAST_LAYER + SCORES
    assert round(parameters(on_meta("fcn-alexnet")) / 1e6) == 57  # Long et al. 2015, table 1


def test_the_single_column_is_torchvisions_without_its_last_layer():
    published = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.meta["num_params"]
    assert parameters(on_meta("fcn-alexnet-owt")) == published - LAST_LAYER + SCORES


def test_a_score_sees_355_rows_centred_on_a_multiple_of_32(narrow):
    """The extent is table 1's of Long et al. 2015; the centre is what aligned corners need."""
    assert rows_seen(models.build("fcn-alexnet", 1), height=32 * 24 + 1, index=12) == (384 - 177, 384 + 177)


def test_the_papers_upsampling_is_interpolation_with_corners_aligned():
    """Kernel 63, stride 32, cropped by 31: what `decode` has to reproduce."""
    scores = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    line = 1 - (torch.arange(63) - 31).abs() / 32
    weight = torch.zeros(3, 3, 63, 63)
    weight[range(3), range(3)] = torch.outer(line, line)
    upsampled = F.conv_transpose2d(scores, weight, stride=32, padding=31)
    assert upsampled.shape[2:] == (97, 161)
    labels = decode(scores[0].numpy(), (97, 161), on_meta("fcn-alexnet").geometry.grid)
    np.testing.assert_array_equal(labels, upsampled[0].argmax(0).numpy())


def test_responses_are_normalised_across_channels():
    x = 100 * torch.randn(2, 96, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)
    torch.testing.assert_close(ChannelNorm(96)(x), expected, rtol=1e-5, atol=1e-5)


def test_caffenets_layers_are_adopted_under_caffes_names(narrow):
    network = models.build("fcn-alexnet", CLASSES)
    state = caffe_state(64)
    adopted = network.adopt(state, "test")
    assert {name.partition(".")[0] for name in adopted} == {"features", "fc6", "fc7"}
    assert len(adopted) == 14
    own = network.state_dict()
    torch.testing.assert_close(own["features.0.weight"], state["conv1.weight"])
    torch.testing.assert_close(own["fc6.weight"].flatten(1), state["fc6.weight"])


def test_torchvisions_weights_mean_what_they_mean_there(narrow):
    """With more padding here, pool5 looks 17 rows further down there; away from borders the maps are the same."""
    torch.manual_seed(0)
    theirs = torchvision.models.AlexNet().eval()
    network = alexnet.fcn_alexnet_owt(CLASSES).eval()
    trunk = {name: value for name, value in theirs.state_dict().items() if name.startswith("features.")}
    assert network.adopt(trunk, "test") == set(trunk)
    planes = torch.randn(1, 3, 417, 417)
    with torch.inference_mode():
        ours = network.features(planes)
        expected = theirs.features(planes[:, :, 17:, 17:])
    torch.testing.assert_close(ours[:, :, 4:9, 4:9], expected[:, :, 3:8, 3:8], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "filters", "fitting"), [("fcn-alexnet", 64, "fcn-alexnet-owt"), ("fcn-alexnet-owt", 96, "fcn-alexnet")]
)
def test_weights_of_the_other_alexnet_are_told(narrow, variant, filters, fitting):
    network = models.build(variant, CLASSES)
    with pytest.raises(ModelError, match=rf"{filters} filters in its first layer.*--variant {fitting}$"):
        network.adopt({"features.0.weight": torch.zeros(filters, 3, 11, 11)}, "other.pth")
