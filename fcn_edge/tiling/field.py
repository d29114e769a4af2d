"""How far a score looks, worked out from the graph itself: Luo et al. 2016 call it the theoretical receptive field.

Every operator that moves along the picture (convolutions, pools, pads, crops, resizes) says which of its inputs an
output reads; composed from the frame to the scores that is an interval of pixels. What most scores really make use of
is less, but only beyond this interval is it certain that a pixel changes nothing. A mean over the whole map sees
everything wherever it stands: it has no interval, and is told of as `pooled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

from fcn_edge.errors import ModelError
from fcn_edge.spec import ModelSpec
from fcn_edge.tiling.graph import Graph, Node, read_graph

POINTWISE = frozenset(
    """
    Abs Add BatchNormalization Cast Ceil Clip Concat DequantizeLinear Div Dropout Elu Equal Erf Exp Floor Gelu
    Greater GreaterOrEqual HardSigmoid HardSwish Identity LRN LeakyRelu Less LessOrEqual Log LogSoftmax Max Min Mish
    Mul Neg Not PRelu Pow QuantizeLinear Reciprocal Relu Round Sigmoid Softmax Softplus Split Sqrt Sub Sum Tanh
    Where
    """.split()  # noqa: SIM905
)
POOLS = ("MaxPool", "AveragePool", "LpPool")
WINDOWS = ("Conv", "ConvInteger", "QLinearConv", *POOLS)
WHOLE_MAP = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2")
NORMS = ("InstanceNormalization", "GroupNormalization")  # of every plane by its own mean
SHAPES_ALONE = ("Shape", "Size")  # what follows from them are sizes, not pixels
PLANES_FIRST, PLANES_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class Field:
    """Score k of a row or a column depends on the pixels from k * stride + first to k * stride + last alone."""

    stride: int
    first: int
    last: int
    pooled: bool = False  # and on a mean, or the like, over all of the network's input

    @property
    def pixels(self) -> int:
        """A side of the receptive field."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class _View:
    """What a tensor's samples see along one axis of the picture, as `Field` says it."""

    stride: Fraction = Fraction(1)
    first: Fraction = Fraction(0)
    last: Fraction = Fraction(0)
    pooled: bool = False
    flat: bool = False  # the same everywhere: made of the whole map
    planes_last: bool = False
    resized: tuple[str, str] | None = None  # mode and coordinates of a Resize to a size that only a neighbour tells


def read_field(path: Path, spec: ModelSpec) -> Field:
    """The receptive field of the scores of the ONNX file at `path`, of rows and columns the wider.

    Raises ModelError where an operator is met whose reach is not known here, or the spec's stride is not the graph's.
    """
    graph = read_graph(path)
    rows, columns = (_Walk(path, spec, graph, axis).field() for axis in (0, 1))
    return Field(rows.stride, min(rows.first, columns.first), max(rows.last, columns.last), rows.pooled)


class _Walk:
    """Through the graph along one axis: 0 for rows, 1 for columns."""

    def __init__(self, path: Path, spec: ModelSpec, graph: Graph, axis: int) -> None:
        self.path, self.spec, self.graph, self.axis = path, spec, graph, axis
        frame = next(name for name in graph.inputs if name not in graph.shapes)
        self.views = {frame: _View(planes_last=spec.input.layout == "NHWC")}

    def field(self) -> Field:
        for node in self.graph.nodes:
            seen = [self.views[name] for name in node.inputs if name in self.views]
            if seen and node.operator not in SHAPES_ALONE:
                view = self._through(node, seen)
                self.views |= dict.fromkeys(node.outputs, view)
        name = self.spec.output.name or self.graph.outputs[0]
        stride = self.spec.output.stride
        if name not in self.views:
            raise ModelError(f"{self.path}: its output {name!r} does not depend on the frame. Correct output.name.")
        view = _settled(self.views[name], Fraction(stride))
        if view.flat or view.stride != stride:
            found = "one for the whole picture" if view.flat else f"{float(view.stride):g} pixels apart"
            raise ModelError(f"{self.path}: its scores are {found}, its spec says {stride}. Correct output.stride.")
        return Field(stride, floor(view.first), ceil(view.last), view.pooled)

    def _through(self, node: Node, seen: Sequence[_View]) -> _View:
        view = seen[0]
        if all(each.flat for each in seen):
            return view
        if node.operator in POINTWISE:
            return _together(seen)
        if view.resized is None:
            if node.operator in WINDOWS:
                return self._window(node, view)
            if node.operator == "ConvTranspose":
                return self._transposed(node, view)
            if node.operator == "Pad" and len(pads := self._numbers(node, "pads", 1)) == 8:
                return _shifted(view, -int(pads[self._axis(view)]))
            if node.operator in WHOLE_MAP or (node.operator in REDUCTIONS and self._over_the_map(node, view)):
                return replace(view, pooled=True, flat=True)
            if node.operator in NORMS:
                return replace(view, pooled=True)
            if node.operator == "Resize":
                return self._resize(node, view)
        if node.operator == "Transpose" and node.integers.get("perm") in (PLANES_FIRST, PLANES_LAST):
            return replace(view, planes_last=node.integers["perm"] == PLANES_LAST)
        if node.operator == "Gather" and node.integers.get("axis") == (self._channels(view),):
            return view
        start = self._start(node, view) if node.operator == "Slice" else None
        if start == 0 or (start is not None and view.resized is None):
            return _shifted(view, start)
        if node.operator in REDUCTIONS and self._beside_the_map(node, view):
            return view
        raise ModelError(
            f"{self.path}: how far its scores look cannot be read past {node.operator} {node.outputs[0]}. "
            "Name what tiles are to overlap by: --overlap PIXELS."
        )

    def _window(self, node: Node, view: _View) -> _View:
        kernel, step, spread, before = self._kernel(node)
        return replace(
            view,
            stride=view.stride * step,
            first=view.first - before * view.stride,
            last=view.last + ((kernel - 1) * spread - before) * view.stride,
        )

    def _transposed(self, node: Node, view: _View) -> _View:
        """Output o gets input i where o = i * step - before + t * spread for a t below the kernel."""
        kernel, step, spread, before = self._kernel(node)
        stride = view.stride / step
        first = view.first + (before - (kernel - 1) * spread) * stride
        return replace(view, stride=stride, first=first, last=view.last + before * stride)

    def _kernel(self, node: Node) -> tuple[int, int, int, int]:
        """Kernel, step, dilation and the padding before the first sample."""
        given = node.integers
        kernel = given["kernel_shape"][self.axis] if "kernel_shape" in given else self._weight_side(node)
        step, spread = given.get("strides", (1, 1))[self.axis], given.get("dilations", (1, 1))[self.axis]
        way = node.words.get("auto_pad", "NOTSET")
        if way.startswith("SAME"):  # of a side that the step divides
            pads = max(0, (kernel - 1) * spread + 1 - step)
            return kernel, step, spread, pads // 2 if way == "SAME_UPPER" else -(-pads // 2)
        return kernel, step, spread, 0 if way == "VALID" else given.get("pads", (0, 0, 0, 0))[self.axis]

    def _weight_side(self, node: Node) -> int:
        name = node.inputs[3 if node.operator == "QLinearConv" else 1]
        makers = {output: each for each in self.graph.nodes for output in each.outputs}
        while name not in self.graph.shapes and name in makers:  # stored in int8, or in float16
            name = makers[name].inputs[0]
        return self.graph.shapes[name][2 + self.axis]

    def _resize(self, node: Node, view: _View) -> _View:
        way = node.words.get("mode", "nearest"), node.words.get("coordinate_transformation_mode", "half_pixel")
        waiting = replace(view, resized=way)
        scales = self._numbers(node, "scales", 2)
        if len(scales) != 4:
            return waiting  # to a size that is computed
        factor = Fraction(scales[self._axis(view)]).limit_denominator(1024)
        return _settled(waiting, view.stride / factor)

    def _start(self, node: Node, view: _View) -> int | None:
        """Where a crop begins along this axis; None where that is computed, or where it is no crop."""
        starts = self._numbers(node, "starts", 1)
        axes = self._numbers(node, "axes", 3) or tuple(range(len(starts)))
        steps = self._numbers(node, "steps", 4) or (1,) * len(starts)
        if not starts or len(axes) != len(starts):
            return None
        for start, axis, step in zip(starts, axes, steps, strict=True):
            if axis % 4 == self._axis(view):
                return int(start) if start >= 0 and step == 1 else None
        return 0

    def _numbers(self, node: Node, attribute: str, position: int) -> tuple[float, ...]:
        """What older operator sets have as an attribute, and newer ones as an input; empty where it is computed."""
        if attribute in node.integers:
            return node.integers[attribute]
        name = node.inputs[position] if len(node.inputs) > position else ""
        return self.graph.values.get(name, ())

    def _axis(self, view: _View) -> int:
        return self.axis + (1 if view.planes_last else 2)

    def _channels(self, view: _View) -> int:
        return 3 if view.planes_last else 1

    def _reduced(self, node: Node) -> set[int]:
        return {int(axis) % 4 for axis in self._numbers(node, "axes", 1)}

    def _over_the_map(self, node: Node, view: _View) -> bool:
        return self._reduced(node) >= ({1, 2} if view.planes_last else {2, 3})

    def _beside_the_map(self, node: Node, view: _View) -> bool:
        return bool(self._reduced(node)) and self._reduced(node) <= {0, self._channels(view)}


def _shifted(view: _View, samples: int) -> _View:
    return replace(view, first=view.first + samples * view.stride, last=view.last + samples * view.stride)


def _together(views: Sequence[_View]) -> _View:
    """What a sample sees that is made of all of them at its place."""
    spread = [view for view in views if not view.flat]
    strides = [view.stride for view in spread if view.resized is None]
    if strides:
        spread = [_settled(view, min(strides)) for view in spread]
    widest = replace(spread[0], first=min(v.first for v in spread), last=max(v.last for v in spread))
    return replace(widest, pooled=any(view.pooled for view in views))


def _settled(view: _View, stride: Fraction) -> _View:
    """After its Resize, now that the distance of the samples is known: each lies between two of those before.

    Coordinates as ONNX defines them. Of two neighbours the farther one is less than a whole step away, by as much as
    the new samples' distance allows.
    """
    if view.resized is None:
        return view
    mode, coordinates = view.resized
    halves = Fraction(1, 2) if "half_pixel" in coordinates else Fraction(0)
    reach = view.stride - stride * (1 - halves) if stride < view.stride else view.stride
    if mode == "cubic":
        reach += view.stride
    offset = halves * (stride - view.stride)
    return replace(
        view, stride=stride, first=view.first + offset - reach, last=view.last + offset + reach, resized=None
    )
