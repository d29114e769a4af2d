"""The variants: what can be built, trained and exported by name.

Naming them needs no torch; building one does. A new variant is one file in this folder and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fcn_edge.errors import UsageError, unknown
from fcn_edge.spec import Padding

if TYPE_CHECKING:
    from fcn_edge.models.network import Network


@dataclass(frozen=True)
class Variant:
    """An architecture: what makes it that one, where it is built, and in which forms."""

    summary: str
    builder: str  # "module:function", called with the number of classes, and with the padding where there is a choice
    padding: tuple[Padding, ...] = ("same",)  # the default first


BOTH: tuple[Padding, ...] = ("same", "paper")

VARIANTS = {
    "fcn8s-lite": Variant(
        "MobileNetV2 trunk, class scores at strides 8, 16 and 32 fused by addition, context at stride 32",
        "fcn_edge.models.lite:fcn8s_lite",
    ),
    "fcn16s-lite": Variant(
        "fcn8s-lite without the skip at stride 8: scores at stride 16",
        "fcn_edge.models.lite:fcn16s_lite",
    ),
    "fcn32s-lite": Variant(
        "fcn8s-lite without skips: scores at stride 32",
        "fcn_edge.models.lite:fcn32s_lite",
    ),
    "fcn8s-lite-small": Variant(
        "fcn8s-lite on a trunk of half the width, for the smallest boards",
        "fcn_edge.models.lite:fcn8s_lite_small",
    ),
    "fcn8s-lite-large": Variant(
        "fcn8s-lite with the trunk's last stage dilated instead of strided, for the best labels",
        "fcn_edge.models.lite:fcn8s_lite_large",
    ),
    "fcn8s": Variant(
        "the paper's FCN-8s: VGG16, skips from pool4 and pool3, learned upsampling, trained in stages",
        "fcn_edge.models.vgg:fcn8s",
        BOTH,
    ),
    "fcn8s-atonce": Variant(
        "the paper's FCN-8s trained in one stage: its skips are scaled by 0.01 and 0.0001",
        "fcn_edge.models.vgg:fcn8s_atonce",
        BOTH,
    ),
    "fcn16s": Variant("the paper's FCN-16s: VGG16, skip from pool4", "fcn_edge.models.vgg:fcn16s", BOTH),
    "fcn32s": Variant("the paper's FCN-32s: VGG16 without skips", "fcn_edge.models.vgg:fcn32s", BOTH),
    "fcn-alexnet": Variant("the paper's FCN-AlexNet, on CaffeNet, at stride 32", "fcn_edge.models.alexnet:fcn_alexnet"),
    "fcn-alexnet-owt": Variant(
        "FCN-AlexNet on the single-column AlexNet that torchvision has weights for",
        "fcn_edge.models.alexnet:fcn_alexnet_owt",
    ),
    "fcn-googlenet": Variant("the paper's FCN-GoogLeNet, at stride 32", "fcn_edge.models.googlenet:fcn_googlenet"),
    "fcns-vgg16": Variant(
        "VGG16 with a decoder of five transposed convolutions, the first four pools added in, scored at full size",
        "fcn_edge.models.fcns:fcns_vgg16",
    ),
    "fcn8s-interp": Variant(
        "VGG16's convolutions with a light head, skips from pool4 and pool3, interpolated with aligned corners",
        "fcn_edge.models.interp:fcn8s_interp",
    ),
    "fcn16s-interp": Variant("fcn8s-interp without the skip from pool3", "fcn_edge.models.interp:fcn16s_interp"),
    "fcn32s-interp": Variant("fcn8s-interp without skips", "fcn_edge.models.interp:fcn32s_interp"),
    "deeplabv3-lite": Variant(
        "DeepLabV3's 1x1 and image pooling on MobileNetV2, dilated to stride 8, without skips",
        "fcn_edge.models.deeplab:deeplabv3_lite",
    ),
    "deeplabv3-lite-os16": Variant("deeplabv3-lite at output stride 16", "fcn_edge.models.deeplab:deeplabv3_lite_os16"),
    "deeplabv3-lite-os32": Variant(
        "deeplabv3-lite at output stride 32, which dilates nothing: fcn32s-lite by its DeepLab name",
        "fcn_edge.models.deeplab:deeplabv3_lite_os32",
    ),
    "deeplabv1-vgg16-crf": Variant(
        "DeepLab's VGG16 with holes at stride 8 (LargeFOV); its CRF is --refine crf",
        "fcn_edge.models.deeplab:deeplabv1_vgg16",
    ),
    "segnet": Variant(
        "SegNet: VGG16 with batch norm and its mirror, unpooled to where each maximum was, scored at full size",
        "fcn_edge.models.unpooling:segnet",
    ),
    "deconvnet": Variant(
        "DeconvNet: SegNet's way up from VGG16's fully connected layers, as convolutions and back",
        "fcn_edge.models.unpooling:deconvnet",
    ),
    "fcn-resnet50": Variant(
        "torchvision's FCN on ResNet-50, dilated to stride 8, auxiliary head in training",
        "fcn_edge.models.resnet:fcn_resnet50",
    ),
    "fcn-resnet101": Variant(
        "torchvision's FCN on ResNet-101, dilated to stride 8, auxiliary head in training",
        "fcn_edge.models.resnet:fcn_resnet101",
    ),
}


def build(variant: str, classes: int, padding: Padding = "same") -> Network:
    """The network of that name before any training.

    padding: "paper" pads the frame by 100 pixels and crops, as the published networks do; "same" keeps sizes.
    Raises UsageError for a name that is not listed, or a form that the variant does not have.
    """
    if variant not in VARIANTS:
        raise unknown("variant", variant, VARIANTS)
    chosen = VARIANTS[variant]
    if padding not in chosen.padding:
        raise UsageError(f"{variant} has no form with padding {padding!r}. It has: {', '.join(chosen.padding)}.")
    module, function = chosen.builder.split(":")
    builder: Callable[..., Any] = getattr(import_module(module), function)
    return builder(classes) if len(chosen.padding) == 1 else builder(classes, padding)
