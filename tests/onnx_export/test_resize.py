"""A bilinear transposed convolution and the Resize that takes its place in files."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fcn_edge.models.upsampling import bilinear, learned
from fcn_edge.onnx_export.exporter import OPSET
from fcn_edge.onnx_export.resize import resizes

FACTORS = [(2, 0), (2, 1), (3, 0), (3, 1), (4, 2), (5, 2), (8, 0), (16, 8), (32, 16)]


@pytest.mark.parametrize(("factor", "padding"), FACTORS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Constant folding:UserWarning")  # of the exporter
def test_the_file_resizes_to_what_the_transposed_convolution_gives(factor, padding, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "m.onnx"
    network = nn.Sequential(learned(3, factor, padding))
    settings = {"opset_version": OPSET, "input_names": ["x"], "dynamic_axes": {"x": {0: "N", 2: "H", 3: "W"}}}
    with resizes(network):
        torch.onnx.export(network, (torch.zeros(2, 3, 5, 4),), str(file), dynamo=False, **settings)
    kinds = {node.op_type for node in onnx.load(file).graph.node}
    assert "Resize" in kinds
    assert "ConvTranspose" not in kinds
    session = onnxruntime.InferenceSession(str(file))
    for shape in ((2, 3, 5, 4), (1, 3, 2, 1), (1, 3, 7, 2)):
        x = torch.randn(shape)
        got = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        torch.testing.assert_close(got, network(x).detach(), rtol=1e-4, atol=1e-5)


def test_the_network_is_left_as_it_was():
    layer = learned(2, 2)
    inner = nn.Sequential(layer)
    with resizes(nn.Sequential(inner)):
        assert inner[0] is not layer
    assert inner[0] is layer


def test_channels_kept_apart_by_groups_are_seen_too():
    layer = nn.ConvTranspose2d(3, 3, 4, stride=2, groups=3, bias=False)
    layer.weight = nn.Parameter(bilinear(2).repeat(3, 1, 1, 1))
    network = nn.Sequential(layer)
    with resizes(network):
        assert network[0] is not layer


@pytest.mark.parametrize("change", ["weight", "bias", "stride"])
def test_what_is_not_bilinear_stays(change):
    layer = nn.ConvTranspose2d(2, 2, 4, stride=2, bias=change == "bias")
    with torch.no_grad():
        layer.weight.copy_(learned(2, 2).weight)
        if change == "weight":
            layer.weight[1, 0, 2, 2] += 1e-4
    if change == "stride":
        layer.stride = (1, 1)
    network = nn.Sequential(layer)
    with resizes(network):
        assert network[0] is layer
