"""What is in an ONNX file, read without the onnx package and without touching the weights.

An ONNX file is a protocol buffer: fields of a number, a kind and an extent, which can be stepped over one by one. That
is all that is needed to tell its inputs, its outputs and how many operators and weights of which type it has, in
milliseconds and from a file of any size. Field numbers and element types are those of onnx.proto3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path

from fcn_edge.errors import ModelError

MODEL_PRODUCER, MODEL_PRODUCER_VERSION, MODEL_GRAPH, MODEL_OPSETS, MODEL_METADATA = 2, 3, 7, 8, 14
GRAPH_NODE, GRAPH_WEIGHT, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
NODE_INPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 5, 6, 11
TENSOR_SIDES, TENSOR_TYPE, TENSOR_NAME, TENSOR_OUTSIDE = 1, 2, 8, 13
ELEMENT_TYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz",
    "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1",
)  # fmt: skip
SETTINGS = (  # operators whose inputs after the first say how, and are nothing that was learnt: scales, sizes, bounds
    "QuantizeLinear", "DequantizeLinear", "Resize", "Upsample", "Clip", "Pad",
)  # fmt: skip
NO_PARAMETERS = ("int64", "string", "bool")  # shapes, axes and indices
DEEPEST = 20  # graphs within graphs: no exporter's, but a file made to exhaust the stack has more

Side = int | str | None  # a number, a name, or neither: anything


@dataclass(frozen=True)
class Tensor:
    """An input or output of the graph; no shape where the file gives none."""

    name: str
    dtype: str
    shape: tuple[Side, ...] | None


@dataclass
class OnnxFile:
    """What the file says of itself; `operators` and `weights` count what lies in its branches and loops too."""

    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict[str, int])  # domain to version; the standard one is "ai.onnx"
    inputs: list[Tensor] = field(default_factory=list[Tensor])
    outputs: list[Tensor] = field(default_factory=list[Tensor])
    operators: Counter[str] = field(default_factory=Counter[str])  # "Conv", or "com.microsoft.FusedConv"
    weights: Counter[str] = field(default_factory=Counter[str])  # element type to how many numbers
    outside: bool = False  # whether weights lie in other files beside this one
    metadata: dict[str, str] = field(default_factory=dict[str, str])


def read_onnx(path: Path) -> OnnxFile:
    """What `path` says of itself. Raises ModelError where it is no ONNX file or was cut off."""
    found = OnnxFile()
    with fields_of(path) as (data, all_fields):
        initialised: set[str] = set()
        graphs = 0
        for number, start, end in all_fields:
            if number == MODEL_GRAPH:
                graphs += 1
                initialised |= _graph(found, data, start, end)
            elif number == MODEL_OPSETS:
                domain, version = _opset(data, start, end)
                found.opsets[domain or "ai.onnx"] = version
            elif number in (MODEL_PRODUCER, MODEL_PRODUCER_VERSION):
                found.producer = f"{found.producer} {data[start:end].decode()}".strip()
            elif number == MODEL_METADATA:
                entry = strings(data, start, end)
                found.metadata[entry.get(1, "")] = entry.get(2, "")
        if graphs != 1:
            raise ValueError(f"{graphs} graphs")
        # Before ONNX 1.4 weights were listed among the inputs.
        found.inputs = [tensor for tensor in found.inputs if tensor.name not in initialised]
    return found


def count_parameters(path: Path) -> int:
    """Numbers that the network learnt: weights of its outermost graph in any type, without scales, shapes and bounds.

    Raises ModelError as `read_onnx` does.
    """
    sizes: dict[str, int] = {}
    settings: set[str] = set()
    with fields_of(path) as (data, all_fields):
        for graph in (each[1:] for each in all_fields if each[0] == MODEL_GRAPH):
            for number, a, b in fields(data, *graph):
                if number == GRAPH_WEIGHT:
                    found = OnnxFile()
                    name = _weight(found, data, a, b)
                    sizes[name] = sum(count for kind, count in found.weights.items() if kind not in NO_PARAMETERS)
                elif number == GRAPH_NODE:
                    settings |= _settings(data, a, b)
    return sum(size for name, size in sizes.items() if name not in settings)


def _settings(data: mmap, start: int, end: int) -> set[str]:
    """The inputs of a node that only say how it works."""
    inputs, operator = list[str](), ""
    for number, a, b in fields(data, start, end):
        if number == NODE_INPUT:
            inputs.append(data[a:b].decode())
        elif number == NODE_OPERATOR:
            operator = data[a:b].decode()
    return set(inputs[1:]) if operator in SETTINGS else set()


@contextmanager
def fields_of(path: Path) -> Generator[tuple[mmap, Iterator[tuple[int, int, int]]], None, None]:
    """The file's bytes and the fields of its outermost message. What is read wrongly within ends in ModelError."""
    broken = ModelError(f"{path} is not an ONNX file, or is damaged. Copy it again, or export it anew.")
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            yield data, fields(data, 0, len(data))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, IndexError) as error:  # an empty file cannot be mapped: ValueError too
        raise broken from error


def _graph(found: OnnxFile, data: mmap, start: int, end: int, depth: int = 0) -> set[str]:
    """Add what the graph holds; the names of its weights."""
    if depth > DEEPEST:
        raise ValueError("too many graphs within each other")
    names: set[str] = set()
    for number, a, b in fields(data, start, end):
        if number == GRAPH_NODE:
            _node(found, data, a, b, depth)
        elif number == GRAPH_WEIGHT:
            names.add(_weight(found, data, a, b))
        elif depth == 0 and number in (GRAPH_INPUT, GRAPH_OUTPUT):
            (found.inputs if number == GRAPH_INPUT else found.outputs).append(_tensor(data, a, b))
    return names


def _node(found: OnnxFile, data: mmap, start: int, end: int, depth: int) -> None:
    operator = domain = ""
    for number, a, b in fields(data, start, end):
        if number == NODE_OPERATOR:
            operator = data[a:b].decode()
        elif number == NODE_DOMAIN:
            domain = data[a:b].decode()
        elif number == NODE_ATTRIBUTE:
            for inner, c, d in fields(data, a, b):
                if inner == ATTRIBUTE_TENSOR:
                    _weight(found, data, c, d)
                elif inner in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                    _graph(found, data, c, d, depth + 1)
    found.operators[operator if domain in ("", "ai.onnx") else f"{domain}.{operator}"] += 1


def _weight(found: OnnxFile, data: mmap, start: int, end: int) -> str:
    name, kind, sides = "", 0, list[int]()
    for number, a, b in fields(data, start, end):
        if number == TENSOR_SIDES:  # one field a side, or all in one: both are allowed
            sides += _packed(data, a, b)
        elif number == TENSOR_TYPE:
            kind = varint(data, a)[0]
        elif number == TENSOR_NAME:
            name = data[a:b].decode()
        elif number == TENSOR_OUTSIDE:
            found.outside = True
    found.weights[element_type(kind)] += prod(sides)
    return name


def _tensor(data: mmap, start: int, end: int) -> Tensor:
    """A ValueInfoProto: its type is a TypeProto, which holds one for tensors at 1."""
    name, kind, shape = "", 0, None
    for number, a, b in fields(data, start, end):
        if number == 1:
            name = data[a:b].decode()
        elif number == 2:
            for inner, c, d in fields(data, a, b):
                if inner == 1:
                    kind, shape = _tensor_type(data, c, d)
    return Tensor(name, element_type(kind), shape)


def _tensor_type(data: mmap, start: int, end: int) -> tuple[int, tuple[Side, ...] | None]:
    kind, shape = 0, None
    for number, a, b in fields(data, start, end):
        if number == 1:
            kind = varint(data, a)[0]
        elif number == 2:
            shape = tuple(_side(data, c, d) for inner, c, d in fields(data, a, b) if inner == 1)
    return kind, shape


def _side(data: mmap, start: int, end: int) -> Side:
    for number, a, b in fields(data, start, end):
        if number == 1:
            return varint(data, a)[0]
        if number == 2:
            return data[a:b].decode()
    return None


def _opset(data: mmap, start: int, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for number, a, b in fields(data, start, end):
        if number == 1:
            domain = data[a:b].decode()
        elif number == 2:
            version = varint(data, a)[0]
    return domain, version


def element_type(number: int) -> str:
    """NumPy's name of a TensorProto.DataType, where it has one."""
    return ELEMENT_TYPES[number] if number < len(ELEMENT_TYPES) else f"type {number}"


def _packed(data: mmap, start: int, end: int) -> list[int]:
    numbers: list[int] = []
    while start < end:
        value, start = varint(data, start)
        numbers.append(value)
    return numbers


def strings(data: mmap, start: int, end: int) -> dict[int, str]:
    """The fields of a message that holds text alone, as a metadata entry does: 1 is its key, 2 its value."""
    return {number: data[a:b].decode() for number, a, b in fields(data, start, end)}


def fields(data: mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field number and extent of each value of a protocol buffer message; ValueError where it is none."""
    while start < end:
        tag, start = varint(data, start)
        kind = tag & 7
        if kind == 0:
            stop = varint(data, start)[1]
        elif kind == 2:
            length, start = varint(data, start)
            stop = start + length
        elif kind in (1, 5):
            stop = start + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"wire type {kind}")
        if stop > end or tag < 8:
            raise ValueError("a field reaches beyond its message")
        yield tag >> 3, start, stop
        start = stop


def varint(data: mmap, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
