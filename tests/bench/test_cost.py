"""What a network costs is what can be worked out by hand, and what other packages count."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import plans
import pytest
import tiny

from fcn_edge.bench import cost
from fcn_edge.engine import sidecar
from fcn_edge.errors import BackendError, ModelError
from fcn_edge.files import sha256
from fcn_edge.runtime.files import bundled, int8_form, read_spec
from fcn_edge.runtime.onnx_file import count_parameters
from fcn_edge.spec import Input, ModelSpec

SMALL = "fcn8s-lite-small"
COUNTERS = {"OpenVINO": lambda path, shape, dtype: cost.by_openvino(path, shape), "ONNX Runtime": cost.by_onnxruntime}


def write(path: Path, nodes: list, weights: dict[str, np.ndarray], shape: tuple[int, ...]) -> Path:
    """An ONNX file of these nodes, from `x` to `y`, float32."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def single(operator: str, **attributes: object) -> list:
    helper = pytest.importorskip("onnx").helper
    return [helper.make_node(operator, ["x", "w"], ["y"], **attributes)]


BY_HAND = {  # operator, attributes, weights, input, output, multiply-adds
    # each of 6 * 4 * 4 outputs is a sum over 3 * 3 * 3
    "a convolution": ("Conv", {"pads": [1] * 4}, (6, 3, 3, 3), (1, 3, 4, 4), (1, 6, 4, 4), 96 * 27),
    "one that halves": ("Conv", {"strides": [2, 2]}, (6, 3, 2, 2), (1, 3, 4, 4), (1, 6, 2, 2), 24 * 12),
    "one in two groups": ("Conv", {"group": 2}, (6, 2, 1, 1), (1, 4, 5, 5), (1, 6, 5, 5), 150 * 2),
    "one a channel": ("Conv", {"group": 4, "pads": [1] * 4}, (4, 1, 3, 3), (1, 4, 5, 5), (1, 4, 5, 5), 100 * 9),
    # each of 3 * 4 * 4 inputs is spread over 5 channels of 2 * 2
    "a transposed one": ("ConvTranspose", {"strides": [2, 2]}, (3, 5, 2, 2), (1, 3, 4, 4), (1, 5, 8, 8), 48 * 20),
    "that in groups": (
        "ConvTranspose", {"strides": [2, 2], "group": 3}, (3, 1, 2, 2), (1, 3, 4, 4), (1, 3, 8, 8), 48 * 4
    ),
    "a matrix product": ("MatMul", {}, (7, 5), (2, 3, 7), (2, 3, 5), 30 * 7),
    "a transposed matrix": ("Gemm", {"transA": 1}, (7, 5), (7, 3), (3, 5), 15 * 7),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
@pytest.mark.parametrize("counter", COUNTERS)
def test_operations_are_those_worked_out_by_hand(tmp_path: Path, counter: str, case: str) -> None:
    operator, attributes, weights, shape, output, multiplied = BY_HAND[case]
    path = write(tmp_path / "one.onnx", single(operator, **attributes), {"w": zeros(*weights)}, shape)
    assert COUNTERS[counter](path, shape, np.dtype("float32")) == (2.0 * multiplied, output)


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_a_bundled_model_costs_what_its_checkpoint_does_by_pytorchs_count(form: str) -> None:
    path = bundled()[SMALL]
    found = cost.cost(path if form == "fp32" else int8_form(path) or path, read_spec(path), (96, 129))
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from fcn_edge.models.checkpoint import load

    network, spec = load(path.with_suffix(".safetensors"))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        output = network.eval()(torch.zeros(1, 96, 129, 3, dtype=torch.uint8))
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (found.operations, found.output) == (counter.get_total_flops(), tuple(output.shape))
    assert cost.cost(path.with_suffix(".safetensors"), spec, (96, 129)) == found


def test_both_counters_agree_on_an_int8_file() -> None:
    path = int8_form(bundled()[SMALL])
    assert path is not None
    shape = (1, 64, 96, 3)
    assert cost.by_openvino(path, shape) == cost.by_onnxruntime(path, shape, np.dtype("uint8"))


def test_without_openvino_onnx_runtime_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundled()[SMALL]
    before = cost.cost(path, read_spec(path), (64, 64))
    monkeypatch.setattr(cost, "find_spec", lambda name: None if name == "openvino" else name)
    assert cost.cost(path, read_spec(path), (64, 64)) == before


def test_without_either_there_is_a_line_that_installs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "find_spec", lambda name: None)
    path = bundled()[SMALL]
    found = cost.cost(path, read_spec(path), (64, 64))
    assert found.operations is None
    assert found.parameters == count_parameters(path)
    assert "pip install onnxruntime" in found.reasons["operations"]


def test_scales_bounds_and_shapes_are_no_parameters(tmp_path: Path) -> None:
    helper = pytest.importorskip("onnx").helper
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "scales", ""], ["v"], axis=0),
        helper.make_node("Conv", ["d", "v", "b"], ["c"]),
        helper.make_node("Clip", ["c", "low", "high"], ["k"]),
        helper.make_node("Reshape", ["k", "shape"], ["y"]),
    ]
    weights: dict[str, Any] = {
        "scale": np.float32(1), "zero": np.int8(0), "scales": np.ones(6, np.float32),
        "w": np.ones((6, 3, 1, 1), np.int8), "b": zeros(6),
        "low": np.float32(0), "high": np.float32(6), "shape": np.array([1, 6, 16]),
    }  # fmt: skip
    path = write(tmp_path / "q.onnx", nodes, weights, (1, 3, 4, 4))
    assert count_parameters(path) == 6 * 3 + 6


def test_a_file_that_is_cut_off_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(bundled()[SMALL].read_bytes()[:200_000])
    with pytest.raises(ModelError, match=r"cut\.onnx is not an ONNX file, or is damaged"):
        cost.cost(path, tiny.SPEC, (32, 32))


def test_a_size_that_the_file_cannot_take_is_a_reason(tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "tiny.onnx", sides=(32, 32))
    found = cost.cost(path, tiny.SPEC, (64, 64))
    assert found.parameters == 4 * 3 + 4
    assert found.operations is None
    assert "tiny.onnx" in found.reasons["operations"]
    assert "\n" not in found.reasons["operations"]


def test_what_onnx_runtime_cannot_run_is_told_in_a_line(tmp_path: Path) -> None:
    path = tiny.write_onnx(tmp_path / "tiny.onnx", sides=(32, 32))
    with pytest.raises(BackendError, match=r"^ONNX Runtime does not tell the shapes in \S+tiny\.onnx: [^\n]+$"):
        cost.by_onnxruntime(path, (1, 64, 64, 3), np.dtype("uint8"))


def test_an_engine_costs_what_the_file_does_that_it_was_built_from(tmp_path: Path) -> None:
    source = tmp_path / "small.onnx"
    shutil.copy(bundled()[SMALL], source)
    plan, papers = plans.write(tmp_path, plans.ORIN_NX)
    key = plans.changed(papers, onnx=sha256(source)).key
    spec = read_spec(source)
    sidecar.write(plan, msgspec.structs.replace(papers, key=key, source=str(source), spec=spec))
    assert cost.cost(plan, spec, (64, 64)) == cost.cost(source, spec, (64, 64))
    source.unlink()
    gone = cost.cost(plan, spec, (64, 64))
    assert (gone.parameters, gone.operations) == (None, None)
    assert "small.onnx, which is gone" in gone.reasons["operations"]


def tflite(path: Path) -> Path:
    """Three layers from 8x8x3: 3x3 to 4 channels, 3x3 a channel at stride 2, 1x1 to 5 without bias."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    kinds = schema.BuiltinOperator

    def tensor(*shape: int) -> object:
        made = schema.TensorT()
        made.shape, made.type = list(shape), schema.TensorType.FLOAT32
        return made

    def operator(code: int, inputs: list[int], output: int) -> object:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, [output]
        return made

    codes = []
    for kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        codes.append(code)
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor(1, 8, 8, 3), tensor(4, 3, 3, 3), tensor(4), tensor(1, 8, 8, 4),
        tensor(1, 3, 3, 4), tensor(4), tensor(1, 4, 4, 4), tensor(5, 1, 1, 4), tensor(1, 4, 4, 5),
    ]  # fmt: skip
    graph.inputs, graph.outputs = [0], [8]
    graph.operators = [operator(0, [0, 1, 2], 3), operator(1, [3, 4, 5], 6), operator(0, [6, 7, -1], 8)]
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], codes, [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def test_a_tflite_file_costs_what_was_worked_out_by_hand(tmp_path: Path) -> None:
    spec = ModelSpec("t", tuple("abcde"), input=Input(dtype="float32"))
    found = cost.cost(tflite(tmp_path / "three.tflite"), spec, (8, 8))
    multiplied = 8 * 8 * 4 * 27 + 4 * 4 * 4 * 9 + 4 * 4 * 5 * 4
    assert found == cost.Cost(4 * 27 + 4 + 9 * 4 + 4 + 5 * 4, 2.0 * multiplied, (1, 4, 4, 5), {})


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\x1c\0\0\0TFL3" + b"\xff" * 40], ids=["empty", "zeros", "noise"])
def test_a_damaged_tflite_file_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "bad.tflite").write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.tflite is no TFLite file, or is damaged"):
        cost.cost(tmp_path / "bad.tflite", tiny.SPEC, (8, 8))
