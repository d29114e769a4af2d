"""A row of 1x1 convolutions as an ONNX file: work that any runtime does as fast as it can do anything.

Written byte by byte, as the onnx package is none of the run side's: a protocol buffer is fields of a number, a kind and
an extent, and such a file needs seven messages of them. Numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcn_edge.spec import Input, ModelSpec

OPSET, IR_VERSION = 17, 8
FLOAT, INT8, HALF = 1, 3, 10  # TensorProto.DataType
TYPES = {"float32": FLOAT, "int8": INT8, "float16": HALF}
CLASSES = 2  # that the last convolution gives, so that hardly anything is copied home
SCALE = 0.02  # of int8: values stay small, as each convolution keeps their mean


@dataclass(frozen=True)
class Row:
    """`depth` convolutions from `channels` to `channels` over a map of `side` x `side`, and a last one to two."""

    channels: int
    side: int
    depth: int

    @property
    def operations(self) -> float:
        """A multiply-add is two."""
        return 2.0 * self.side**2 * self.channels * (self.depth * self.channels + CLASSES)

    def frames(self) -> np.ndarray:
        """Its input: float32 (1, channels, side, side)."""
        return np.random.default_rng(0).random((1, self.channels, self.side, self.side), np.float32)

    def write(self, path: Path, precision: str) -> ModelSpec:
        """Write it to `path` in fp32, fp16 or int8; the spec that describes it. Raises OSError."""
        path.write_bytes(_model(self, precision))
        kind = "int8" if precision == "int8" else "fp16" if precision == "fp16" else "fp32"
        entry = Input("NCHW", "float32")
        return ModelSpec("row", ("a", "b"), input=entry, size=self.side, sides="any", precision=kind)


def _model(row: Row, precision: str) -> bytes:
    shape = (1, row.channels, row.side, row.side)
    weights = list(_weights(row, precision))
    graph = [
        *(_bytes(1, node) for node in _nodes(row, precision)),
        _text(2, "row"),
        *(_bytes(5, tensor) for tensor in weights),
        _bytes(11, _value("frame", shape)),
        _bytes(12, _value("scores", (1, CLASSES, row.side, row.side))),
    ]
    return _number(1, IR_VERSION) + _bytes(7, b"".join(graph)) + _bytes(8, _number(2, OPSET))


def _nodes(row: Row, precision: str) -> Iterator[bytes]:
    value = "frame"
    if precision == "fp16":
        yield _node("Cast", [value], "half", _attribute("to", HALF))
        value = "half"
    for index in range(row.depth + 1):
        kernel = f"weights{index}"
        if precision == "int8":
            yield _node("QuantizeLinear", [value, "scale", "zero"], f"rounded{index}")
            yield _node("DequantizeLinear", [f"rounded{index}", "scale", "zero"], f"value{index}")
            yield _node("DequantizeLinear", [kernel, "scale", "zero"], f"kernel{index}")
            value, kernel = f"value{index}", f"kernel{index}"
        last = "scores" if index == row.depth and precision != "fp16" else f"sum{index}"
        yield _node("Conv", [value, kernel], last)
        value = last
        if index < row.depth:
            yield _node("Relu", [value], f"map{index}")
            value = f"map{index}"
    if precision == "fp16":
        yield _node("Cast", [value], "scores", _attribute("to", FLOAT))


def _weights(row: Row, precision: str) -> Iterator[bytes]:
    random = np.random.default_rng(1)
    for index in range(row.depth + 1):
        shape = (CLASSES if index == row.depth else row.channels, row.channels, 1, 1)
        values = random.random(shape, np.float32) * (2 / row.channels)
        if precision == "int8":
            values = (random.random(shape, np.float32) * 3).astype(np.int8)
        yield _tensor(f"weights{index}", values.astype(np.float16) if precision == "fp16" else values)
    if precision == "int8":
        yield _tensor("scale", np.float32(SCALE))
        yield _tensor("zero", np.int8(0))


def _tensor(name: str, values: np.ndarray | np.generic) -> bytes:
    sides = b"".join(_number(1, side) for side in values.shape)
    return sides + _number(2, TYPES[str(values.dtype)]) + _text(8, name) + _bytes(9, values.tobytes())


def _node(operator: str, inputs: Sequence[str], output: str, attribute: bytes = b"") -> bytes:
    taken = b"".join(_text(1, name) for name in inputs)
    return (
        taken + _text(2, output) + _text(3, output) + _text(4, operator) + (_bytes(5, attribute) if attribute else b"")
    )


def _attribute(name: str, value: int) -> bytes:
    return _text(1, name) + _number(3, value) + _number(20, 2)  # AttributeProto.AttributeType.INT


def _value(name: str, shape: Sequence[int]) -> bytes:
    sides = b"".join(_bytes(1, _number(1, side)) for side in shape)
    tensor = _number(1, FLOAT) + _bytes(2, sides)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
