"""The ResNet variants are torchvision's: its state dict loads strictly, and its scores come out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fcn_edge import models
from fcn_edge.decode import decode
from fcn_edge.errors import ModelError
from fcn_edge.models._torchvision import torchvision
from fcn_edge.models.resnet import FCNResNet, fcn_resnet50

CLASSES = 21
segmentation = torchvision.models.segmentation
THEIRS = {
    "fcn-resnet50": (segmentation.fcn_resnet50, segmentation.FCN_ResNet50_Weights, torchvision.models.resnet50),
    "fcn-resnet101": (segmentation.fcn_resnet101, segmentation.FCN_ResNet101_Weights, torchvision.models.resnet101),
}


def seeded(network: nn.Module) -> nn.Module:
    """Running statistics that are not zero and one, so that a lost one shows."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + (0.5 if name.endswith("var") else -0.5))
    return network.eval()


@pytest.fixture(scope="module")
def pair() -> tuple[FCNResNet, nn.Module]:
    """Our FCN-ResNet-50 with the weights of torchvision's."""
    torch.manual_seed(0)
    theirs = seeded(segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True))
    ours = fcn_resnet50(CLASSES).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.fixture(scope="module")
def frame() -> torch.Tensor:
    return torch.randint(0, 256, (1, 75, 98, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def expected(pair, frame) -> dict[str, torch.Tensor]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        return pair[1](((frame.flip(3) / 255 - mean) / std).permute(0, 3, 1, 2))


def upsampled(scores: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    return F.interpolate(scores, frame.shape[1:3], mode="bilinear", align_corners=False)


def test_its_scores_are_torchvisions(pair, frame, expected):
    with torch.inference_mode():
        torch.testing.assert_close(upsampled(pair[0](frame), frame), expected["out"], rtol=1e-3, atol=1e-3)


def test_its_labels_are_torchvisions(pair, frame, expected):
    with torch.inference_mode():
        labels = decode(pair[0](frame).numpy(), (75, 98), pair[0].geometry.grid)
    assert (labels == expected["out"].argmax(1).numpy()).mean() > 0.999


def test_training_sees_the_auxiliary_heads_scores_too(pair, frame, expected):
    with torch.inference_mode():
        scores = [upsampled(scores, frame) for scores in pair[0].training_scores(frame)]
    torch.testing.assert_close(scores[0], expected["out"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores[1], expected["aux"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("variant", THEIRS)
def test_every_tensor_has_torchvisions_name_and_shape(variant):
    build, weights, _ = THEIRS[variant]
    with torch.device("meta"):
        ours = models.build(variant, CLASSES)
        theirs = build(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in (ours, theirs)]
    assert shapes[0] == shapes[1]
    published = weights.COCO_WITH_VOC_LABELS_V1.meta["num_params"]
    assert sum(parameter.numel() for parameter in ours.parameters()) == published


def test_a_classifier_becomes_the_trunk():
    state = torchvision.models.resnet50(weights=None).state_dict()
    network = fcn_resnet50(CLASSES)
    adopted = network.adopt(state, "test")
    assert adopted == {f"backbone.{name}" for name in state if not name.startswith("fc.")}
    torch.testing.assert_close(network.state_dict()["backbone.layer4.2.conv3.weight"], state["layer4.2.conv3.weight"])


def test_folded_batch_norm_is_told_instead_of_lost():
    with torch.device("meta"):
        network = fcn_resnet50(CLASSES)
    with pytest.raises(ModelError, match="batch norm is folded"):
        network.adopt({"conv1.weight": torch.zeros(64, 3, 7, 7), "conv1.bias": torch.zeros(64)}, "folded.safetensors")
