"""What is read of an ONNX file without the onnx package is what that package reads."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from math import prod
from pathlib import Path

import pytest
import tiny

from fcn_edge.errors import ModelError
from fcn_edge.runtime.files import bundled
from fcn_edge.runtime.onnx_file import ELEMENT_TYPES, Tensor, read_onnx

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def test_element_types_are_onnxs() -> None:
    names = {value: name.lower() for name, value in TensorProto.DataType.items()}
    renamed = {"float": "float32", "double": "float64"}
    for number, name in enumerate(ELEMENT_TYPES):
        assert renamed.get(names[number], names[number]) == name


@pytest.mark.parametrize("name", bundled())
def test_a_bundled_model_reads_as_the_onnx_package_reads_it(name: str) -> None:
    path = bundled()[name]
    model, found = onnx.load(path), read_onnx(path)
    assert found.producer == f"{model.producer_name} {model.producer_version}"
    assert found.opsets == {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    assert found.operators == Counter(node.op_type for node in model.graph.node)
    constants = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
    weights = Counter[str]()
    for tensor in (*model.graph.initializer, *constants):
        weights[str(numpy_helper.to_array(tensor).dtype)] += prod(tensor.dims)
    assert found.weights == weights
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert [tensor.name for tensor in found.inputs] == [entry.name for entry in model.graph.input]


def test_sides_are_numbers_names_or_nothing(tmp_path: Path) -> None:
    found = read_onnx(tiny.write_onnx(tmp_path / "tiny.onnx", sides=(32, "width")))
    assert found.inputs == [Tensor("frame", "uint8", ("batch", 32, "width", 3))]
    assert found.outputs == [Tensor("scores", "float32", ("batch", 4, 32, "width"))]


def odd_model() -> bytes:
    """A branch within a branch, an operator and a function of other domains, weights among the inputs."""
    weight = numpy_helper.from_array(tiny.WEIGHT, "w")
    add = helper.make_node("Add", ["x", "w"], ["y"])
    branch = helper.make_graph(
        [add], "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [weight]
    )
    inner = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    middle = helper.make_graph([inner], "middle", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    nodes = [
        helper.make_node("If", ["c"], ["z"], then_branch=middle, else_branch=middle),
        helper.make_node("FusedConv", ["z", "v"], ["out"], domain="com.microsoft"),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT16, [2]),
    ]
    half = helper.make_tensor("v", TensorProto.FLOAT16, [2], [0, 15360])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "outer", inputs, [out], [half])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets).SerializeToString()


def test_branches_other_domains_and_weights_among_the_inputs(tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(odd_model())
    found = read_onnx(path)
    assert found.operators == {"If": 3, "Add": 4, "com.microsoft.FusedConv": 1}
    assert found.weights == {"float32": 4 * tiny.WEIGHT.size, "float16": 2}
    assert found.inputs == [Tensor("x", "float32", (None, 3)), Tensor("c", "bool", ())]
    assert found.outputs == [Tensor("out", "float32", None)]
    assert found.opsets == {"ai.onnx": 17, "com.microsoft": 1}
    assert not found.outside


def test_weights_in_another_file_are_told(tmp_path: Path) -> None:
    model = onnx.load(tiny.write_onnx(tmp_path / "tiny.onnx"))
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0)
    assert read_onnx(tmp_path / "apart.onnx").outside


def test_a_file_cut_off_before_the_end_of_its_graph_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(odd_model())
    del model.opset_import[:]  # they come after the graph, where nothing says that there was more
    whole = model.SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="is not an ONNX file, or is damaged"):
            read_onnx(path)


def test_bytes_of_no_meaning_never_escape_as_another_error(tmp_path: Path) -> None:
    whole = bytearray(odd_model())
    path = tmp_path / "bent.onnx"
    for index in range(len(whole)):
        bent = bytes(whole[:index]) + bytes([whole[index] ^ 0xFF]) + bytes(whole[index + 1 :])
        path.write_bytes(bent)
        with suppress(ModelError):
            read_onnx(path)


def test_graphs_within_each_other_without_end_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g", [], [])
    for _ in range(30):
        graph = helper.make_graph([helper.make_node("If", ["c"], [], then_branch=graph)], "g", [], [])
    path = tmp_path / "deep.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError, match="damaged"):
        read_onnx(path)
