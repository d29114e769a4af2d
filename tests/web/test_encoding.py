from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from live_page import decoded
from PIL import Image

from fcn_edge.spec import voc_palette
from fcn_edge.web import encoding


def test_a_picture_travels_as_it_is_and_its_labels_exactly(seen):
    result = seen()
    shown = encoding.shown(result)
    assert np.abs(decoded(shown.jpeg).astype(int) - result.frame.image).mean() < 4
    assert (decoded(shown.mask) == result.labels).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 5000), (5000, 3), (721, 1281), (2160, 3840)])
def test_any_size_is_shown_with_labels_that_lie_on_the_picture(seen, size):
    labels = np.random.default_rng(0).integers(0, 21, size, np.uint8)
    image = np.repeat((labels * 10)[..., None], 3, axis=2)
    result = seen()
    shown = encoding.shown(replace(result, frame=replace(result.frame, image=image), labels=labels))
    height, width = decoded(shown.mask).shape
    assert decoded(shown.jpeg).shape == (height, width, 3)
    assert max(height, width) == min(max(size), encoding.SHOWN_SIDE)
    assert set(np.unique(decoded(shown.mask))) <= set(range(21))


def test_a_mask_to_keep_holds_classes_and_their_colours(seen):
    labels = seen().labels
    picture = Image.open(BytesIO(encoding.palette_png(labels, voc_palette(21))))
    assert picture.mode == "P"
    assert (np.asarray(picture) == labels).all()
    assert tuple(picture.convert("RGB").getpixel((225, 150))) == voc_palette(21)[labels[150, 225]]  # type: ignore[arg-type]


def test_what_is_drawn_says_for_how_long_the_source_is_lost(seen, view):
    there = decoded(encoding.drawn(seen(), view.painter, None))
    lost = decoded(encoding.drawn(seen(), view.painter, 12.0))
    assert lost.shape == there.shape
    assert lost.mean() < 0.9 * there.mean()  # dimmed


def test_the_pipelines_own_picture_is_shown_where_there_is_one(seen, view):
    picture = np.full((30, 40, 3), 200, np.uint8)
    assert decoded(encoding.drawn(replace(seen(), picture=picture), view.painter, None)).shape == (30, 40, 3)
