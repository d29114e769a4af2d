"""Pools that round up: which of them TensorRT sizes as PyTorch does, by asking both."""

from pathlib import Path

import onnx
import pytest
import rtx
import torch
from onnx import TensorProto, helper
from torch.nn import functional as F

from fcn_edge.errors import FcnEdgeError
from fcn_edge.onnx_export.pools import check_pools, never_starts_in_padding


def pool_model(size: int | str, kernel: int, stride: int, padding: int, ceil: int = 1, kind: str = "MaxPool"):
    node = helper.make_node(
        kind, ["x"], ["y"], "pool", kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4, ceil_mode=ceil
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, size, size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "pool", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def torch_rows(size: int, kernel: int, stride: int, padding: int) -> int:
    return F.max_pool2d(torch.zeros(1, 1, size, size), kernel, stride, padding, ceil_mode=True).shape[2]


CASES = [(k, s, p) for k in (2, 3, 4, 5) for s in (1, 2, 3) for p in (0, 1, 2) if p <= k // 2]


@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
def test_a_pool_is_refused_exactly_where_pytorch_drops_a_window(kernel, stride, padding):
    """Without that rule the last window is counted: rounding up the quotient, as TensorRT does."""
    sizes = range(max(1, kernel - 2 * padding), 40)
    counted = [-((2 * padding + size - kernel) // -stride) + 1 for size in sizes]
    same = counted == [torch_rows(size, kernel, stride, padding) for size in sizes]
    assert never_starts_in_padding(kernel, stride, padding) == same


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 3, 1)])
def test_tensorrt_rtx_makes_pytorchs_size_of_every_pool_that_passes_and_not_of_one_that_fails(
    tmp_path, kernel, stride, padding
):
    disagree = []
    for size in range(max(2, kernel - 2 * padding), 14):
        onnx.save(pool_model(size, kernel, stride, padding), tmp_path / "pool.onnx")
        if rtx.output_shape(tmp_path / "pool.onnx")[2] != torch_rows(size, kernel, stride, padding):
            disagree.append(size)
    assert (not disagree) == never_starts_in_padding(kernel, stride, padding), disagree


def test_an_unsafe_pool_is_named():
    with pytest.raises(FcnEdgeError, match="mine: MaxPool pool rounds up with kernel 2, stride 2 and padding 1"):
        check_pools(pool_model("n", 2, 2, 1), "mine")


@pytest.mark.parametrize("model", [pool_model("n", 2, 2, 0), pool_model("n", 3, 2, 1, kind="AveragePool")])
def test_safe_pools_pass(model):
    check_pools(model, "mine")


def test_pools_that_round_down_are_no_concern():
    check_pools(pool_model("n", 2, 2, 1, ceil=0), "mine")


def test_an_export_with_an_unsafe_pool_leaves_no_file(tmp_path: Path):
    from fcn_edge.models.checkpoint import describe
    from fcn_edge.models.lite import FCNLite
    from fcn_edge.onnx_export import export

    class Unsafe(FCNLite):
        def scores(self, planes: torch.Tensor) -> torch.Tensor:
            return F.max_pool2d(super().scores(planes), 2, 2, padding=1, ceil_mode=True)

    network = Unsafe(21, skips=())
    with pytest.raises(FcnEdgeError, match="rounds up"):
        export(network, describe(network, "fcn32s-lite"), tmp_path / "model.onnx", [])
    assert not list(tmp_path.iterdir())
