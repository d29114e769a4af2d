"""The nodes of an ONNX graph as far as geometry needs them: their integers, and constants of a few numbers.

Read without the onnx package, which the run side does not have, and without touching the weights. Field numbers are
those of onnx.proto3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path

import numpy as np

from fcn_edge.runtime.onnx_file import (
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_WEIGHT,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_OPERATOR,
    fields,
    fields_of,
    varint,
)

NODE_OUTPUT = 2
ATTRIBUTE_NAME, ATTRIBUTE_INTEGER, ATTRIBUTE_STRING, ATTRIBUTE_TENSOR, ATTRIBUTE_INTEGERS = 1, 3, 4, 5, 8
TENSOR_SIDES, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_INT32S, TENSOR_INT64S, TENSOR_NAME, TENSOR_RAW = 1, 2, 4, 5, 7, 8, 9
RAW_TYPES = {1: "<f4", 6: "<i4", 7: "<i8"}
SMALL = 512  # bytes: pads, starts and scales of a tensor of four axes; what is larger was learnt


@dataclass(frozen=True)
class Node:
    operator: str
    inputs: tuple[str, ...]  # "" for one that is left out
    outputs: tuple[str, ...]
    integers: dict[str, tuple[int, ...]]  # attributes, a single integer too
    words: dict[str, str]  # attributes


@dataclass
class Graph:
    """Nodes in the file's order, in which each comes after what it reads."""

    nodes: list[Node] = field(default_factory=list[Node])
    inputs: list[str] = field(default_factory=list[str])  # constants among them, in files older than ONNX 1.4
    outputs: list[str] = field(default_factory=list[str])
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])  # of every constant
    values: dict[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])  # of the small ones


def read_graph(path: Path) -> Graph:
    """The outermost graph of the ONNX file at `path`. Raises ModelError where it is none or is damaged."""
    graph = Graph()
    with fields_of(path) as (data, all_fields):
        for number, start, end in all_fields:
            if number == MODEL_GRAPH:
                _read(graph, data, start, end)
    return graph


def _read(graph: Graph, data: mmap, start: int, end: int) -> None:
    for number, a, b in fields(data, start, end):
        if number == GRAPH_NODE:
            graph.nodes.append(_node(graph, data, a, b))
        elif number == GRAPH_WEIGHT:
            _constant(graph, data, a, b)
        elif number in (GRAPH_INPUT, GRAPH_OUTPUT):
            name = next((data[c:d].decode() for inner, c, d in fields(data, a, b) if inner == 1), "")
            (graph.inputs if number == GRAPH_INPUT else graph.outputs).append(name)


def _node(graph: Graph, data: mmap, start: int, end: int) -> Node:
    names: dict[int, list[str]] = {NODE_INPUT: [], NODE_OUTPUT: [], NODE_OPERATOR: []}
    integers: dict[str, tuple[int, ...]] = {}
    words: dict[str, str] = {}
    tensors: list[tuple[int, int]] = []
    for number, a, b in fields(data, start, end):
        if number in names:
            names[number].append(data[a:b].decode())
        elif number == NODE_ATTRIBUTE:
            tensors += _attribute(data, a, b, integers, words)
    outputs = tuple(names[NODE_OUTPUT])
    for a, b in tensors:  # a Constant node's
        _constant(graph, data, a, b, outputs[0])
    return Node("".join(names[NODE_OPERATOR]), tuple(names[NODE_INPUT]), outputs, integers, words)


def _attribute(
    data: mmap, start: int, end: int, integers: dict[str, tuple[int, ...]], words: dict[str, str]
) -> list[tuple[int, int]]:
    """Add what the attribute holds; the extents of tensors in it."""
    name, word, numbers, tensors = "", "", list[int](), list[tuple[int, int]]()
    for number, a, b in fields(data, start, end):
        if number == ATTRIBUTE_NAME:
            name = data[a:b].decode()
        elif number in (ATTRIBUTE_INTEGER, ATTRIBUTE_INTEGERS):
            numbers += _integers(data, a, b)
        elif number == ATTRIBUTE_STRING:
            word = data[a:b].decode(errors="replace")
        elif number == ATTRIBUTE_TENSOR:
            tensors.append((a, b))
    if numbers:
        integers[name] = tuple(numbers)
    if word:
        words[name] = word
    return tensors


def _constant(graph: Graph, data: mmap, start: int, end: int, name: str = "") -> None:
    sides, kind, raw = list[int](), 0, b""
    numbers: list[float] = []
    for number, a, b in fields(data, start, end):
        if number == TENSOR_SIDES:
            sides += _integers(data, a, b)
        elif number == TENSOR_TYPE:
            kind = varint(data, a)[0]
        elif number == TENSOR_NAME:
            name = name or data[a:b].decode()
        elif b - a > SMALL:
            continue
        elif number == TENSOR_RAW:
            raw = data[a:b]
        elif number in (TENSOR_INT32S, TENSOR_INT64S):
            numbers += _integers(data, a, b)
        elif number == TENSOR_FLOATS:
            numbers += np.frombuffer(data[a:b], "<f4").tolist()
    if raw and kind in RAW_TYPES:
        numbers = np.frombuffer(raw, RAW_TYPES[kind]).tolist()
    graph.shapes[name] = tuple(sides)
    if numbers:
        graph.values[name] = tuple(numbers)


def _integers(data: mmap, start: int, end: int) -> list[int]:
    """Signed integers, one or several packed: a negative one is written as 64 bits."""
    numbers: list[int] = []
    while start < end:
        value, start = varint(data, start)
        numbers.append(value - (1 << 64) if value >> 63 else value)
    return numbers
