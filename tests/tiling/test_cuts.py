"""How a side is cut: every score has a tile that sees all of it, and weights that sum to one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import SPEC

from fcn_edge.spec import Output
from fcn_edge.tiling.cuts import cut, side_above, smallest, usual
from fcn_edge.tiling.field import Field

STRIDE = 32


@st.composite
def cases(draw: st.DrawFn):
    """A model's geometry, a picture's side, and a tile's."""
    stride = draw(st.sampled_from([1, 2, 8, 16, 32]))
    aligned = draw(st.booleans())
    field = Field(stride, -draw(st.integers(0, 300)), draw(st.integers(0, 300)) + stride - 1)
    sides = "k*stride+1" if aligned else "k*stride"
    grid = "align_corners" if aligned else "half_pixel"
    spec = replace(SPEC, stride=STRIDE, sides=sides, output=Output(stride=stride, grid=grid))
    tile = side_above(spec, smallest(spec, field) + draw(st.integers(0, 500)))
    return spec, field, draw(st.integers(1, 4000)), tile


def scores_of_a_tile(spec, tile: int) -> int:
    stride = spec.output.stride
    return (tile - 1) // stride + 1 if spec.sides == "k*stride+1" else tile // stride


@given(cases())
def test_the_weights_of_all_tiles_sum_to_one_at_every_score(case):
    spec, field, pixels, tile = case
    side = cut(spec, field, pixels, tile)
    count = scores_of_a_tile(spec, side.tile)
    total = np.zeros(side.samples(count))
    for number in range(len(side.origins)):
        first, last = side.used(number, count)
        total[first:last] += side.weights(number, count)
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(cases())
def test_a_score_that_is_used_sees_nothing_beyond_its_tile_but_what_the_picture_lacks_too(case):
    spec, field, pixels, tile = case
    side = cut(spec, field, pixels, tile)
    count = scores_of_a_tile(spec, side.tile)
    for number, origin in enumerate(side.origins):
        first, last = side.used(number, count)
        assert 0 <= first - origin // field.stride < last - origin // field.stride <= count
        if number:
            assert first * field.stride + field.first >= origin
        if number < len(side.origins) - 1:
            assert (last - 1) * field.stride + field.last < origin + side.tile


@given(cases())
def test_tiles_begin_at_multiples_of_the_stride_and_end_with_the_networks_input(case):
    spec, field, pixels, tile = case
    side = cut(spec, field, pixels, tile)
    assert all(origin % STRIDE == 0 for origin in side.origins)
    assert side.origins[-1] + side.tile == side.network == side_above(spec, pixels)
    assert sorted(set(side.origins)) == side.origins


@given(cases())
def test_no_smaller_tile_than_the_smallest_would_get_on(case):
    spec, field, _, _ = case
    least = smallest(spec, field)
    assert cut(spec, field, 10_000, least).step >= STRIDE
    assert usual(spec, field) >= least


@pytest.mark.parametrize("pixels", [1, 33, 64, 97])
def test_a_picture_of_one_tile_is_the_whole_picture(pixels):
    spec = replace(SPEC, stride=STRIDE, output=Output(stride=8))
    side = cut(spec, Field(8, -200, 207), pixels, 1024)
    assert (side.origins, side.tile) == ([0], side_above(spec, pixels))
    assert side.used(0, side.tile // 8) == (0, side.tile // 8)
