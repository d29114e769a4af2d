"""Every variant in every form, as tests take them.

VGG16's and AlexNet's fully connected layers hold a hundred million weights, which say nothing about sizes, crops,
axes or gradients. So the default run builds these networks narrow: the same code, fewer channels. The slow tests
build them whole.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from fcn_edge import models
from fcn_edge.models import alexnet, deeplab, fcns, interp, vgg

FORMS = [(name, padding) for name, variant in models.VARIANTS.items() for padding in variant.padding]
IDS = [name if padding == "same" else f"{name}-{padding}" for name, padding in FORMS]

# the sizes of the export's own check, with the same remainders by 32, so that every pool rounds as it does there
SMALL_SIZES = ((47, 56), (72, 83), (60, 42), (52, 45), (32, 64))


@contextmanager
def narrow() -> Generator[None, None, None]:
    """Within it VGG16 has an eighth of its channels, and fully connected layers have 64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, "STAGES", tuple((channels // 8, repeats) for channels, repeats in vgg.STAGES))
        patch.setattr(vgg, "FULLY_CONNECTED", 64)
        patch.setattr(interp, "CHANNELS", tuple(channels // 8 for channels in interp.CHANNELS))
        patch.setattr(fcns, "DECODER", tuple(channels // 8 for channels in fcns.DECODER))
        patch.setattr(deeplab, "FULLY_CONNECTED", 64)
        patch.setattr(alexnet, "WIDTH", 64)
        yield
