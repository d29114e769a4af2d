"""Output strides: what is left out, what is spread, and that the strided network lies within the dilated one."""

import pytest
import torch

from fcn_edge.models.dilation import dilated
from fcn_edge.models.mobilenet import features

# By hand, from Sandler et al. 2018, table 2: stem, then each block's (stride, dilation).
HEAD = [(2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1)]
BLOCKS = {
    32: [*HEAD, (2, 1), *[(1, 1)] * 6, (2, 1), *[(1, 1)] * 3],
    16: [*HEAD, (2, 1), *[(1, 1)] * 6, (1, 1), *[(1, 2)] * 3],
    8: [*HEAD, (1, 1), *[(1, 2)] * 6, (1, 2), *[(1, 4)] * 3],
}


@pytest.mark.parametrize("output_stride", BLOCKS)
def test_a_stride_that_is_left_out_spreads_what_comes_after_it(output_stride):
    strides = [stride for stride, _ in BLOCKS[32]]
    assert dilated(strides, output_stride) == BLOCKS[output_stride]


def test_strides_of_one_are_never_left_out():
    assert dilated([1, 2, 1], 1) == [(1, 1), (1, 1), (1, 2)]


@pytest.mark.parametrize("output_stride", [16, 8])
def test_the_strided_trunk_is_the_dilated_one_at_every_nth_place(output_stride):
    """Borders included, as zeros lie beyond the same places: Chen et al. 2015, section 3.1."""
    torch.manual_seed(0)
    strided, dense = features(0.5), features(0.5, output_stride)
    dense.load_state_dict(strided.state_dict())
    planes = torch.randn(1, 3, 65, 97)
    nth = 32 // output_stride
    with torch.inference_mode():
        torch.testing.assert_close(dense(planes)[:, :, ::nth, ::nth], strided(planes), rtol=1e-3, atol=1e-3)
