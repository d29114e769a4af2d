"""Real results, and a page over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from live_page import Page, serving

from fcn_edge.segmenter import Segmenter
from fcn_edge.video import Frame
from fcn_edge.video.demo import DemoSource
from fcn_edge.video.feed import Tally
from fcn_edge.video.painter import Painter
from fcn_edge.video.pictures import read_picture
from fcn_edge.video.sinks import Result
from fcn_edge.web.hub import Hub, View


@pytest.fixture(scope="session")
def segmenter() -> Iterator[Segmenter]:
    with Segmenter(size=257, threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def seen(segmenter: Segmenter, cat: Path) -> Callable[..., Result]:
    """Results of the photo of the cat, numbered as a source would."""
    image = read_picture(cat)
    segmentation = segmenter(image)
    shares = Painter(segmenter.spec).shares(segmentation.labels)

    def result(number: int = 0) -> Result:
        frame = Frame(image, number, Fraction(number, 30), f"cat_{number:06d}")
        return Result(frame, segmentation.labels, None, dict(shares), dict(segmentation.timings))

    return result


@pytest.fixture
def source() -> Iterator[DemoSource]:
    with DemoSource() as opened:
        yield opened


@pytest.fixture
def hub(segmenter: Segmenter) -> Iterator[Hub]:
    with Hub(segmenter) as opened:
        yield opened


@pytest.fixture
def view(hub: Hub, source: DemoSource, segmenter: Segmenter) -> View:
    return hub.add(source, Painter(segmenter.spec), Tally())


@pytest.fixture
def page(hub: Hub, view: View) -> Iterator[Page]:
    with serving(hub) as served:
        yield served
