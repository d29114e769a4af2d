"""Training a network as its int8 file computes it: values rounded where that file rounds them, gradients let through.

Where, and in which steps, is read from a calibrated file, not decided anew. The steps of what is read stay as they
were calibrated: one that moves with every batch changes what all weights behind it mean, and small rates do not follow
(NVIDIA's guide to its pytorch-quantization toolkit, "Quantization Aware Training", says the same). Those of the weights
follow the weights, and what they are off on average is taken out of the biases, as in an export. So nothing is learnt
but the weights, and a run's state and checkpoint are those of any other.

The values that a mean over the map takes are not rounded before it, though the file rounds them for the convolution
beside it: over hundreds of positions what rounding adds and takes evens out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from fcn_edge.errors import ModelError, SpecError
from fcn_edge.runtime.files import read_spec

if TYPE_CHECKING:  # onnx is there where files are exported, and training does without
    import onnx

    from fcn_edge.models.network import Network
    from fcn_edge.spec import ModelSpec, Padding

LOWEST, STEPS = -128, 127  # QuantizeLinear's own ends
WEIGHT_STEPS = {8: 127, 7: 64}  # on both sides of zero, as ONNX Runtime's quantiser takes them
SMALLEST = 1e-12  # the largest weight of a channel that holds zeros alone: a step of zero could not be divided by
CLOSE = 0.75  # steps: rounding moves a weight by half of one

Reached = frozenset[str]  # the convolutions that a value was last computed by, by the names of their weights
ADDS = {torch.add, torch.Tensor.add, torch.Tensor.add_}  # what + and += call; `a += b` takes what add_ returns


@dataclass(frozen=True)
class Rounding:
    """Where an int8 file rounds, in the names of the network that it was made from."""

    reads: dict[str, float]  # the step of what the convolution with this weight reads
    weights: frozenset[str]  # those that are int8, each channel in `weight_steps` steps to its largest
    sums: dict[tuple[Reached, Reached], tuple[float, float]]  # the steps of both terms, by where these come from
    corrected: frozenset[str] = frozenset()  # those of `weights` whose mean error an export takes out of the bias
    weight_steps: int = STEPS


def calibrated(path: Path) -> ModelSpec:
    """What an int8 file that `fcn-edge export` wrote says of itself. Raises ModelError for any other file."""
    mend = "Name what `fcn-edge export --precision int8 --calib SET` wrote."
    if path.suffix != ".onnx":
        raise ModelError(f"{path} is no ONNX file. {mend}")
    try:
        spec = read_spec(path)
    except SpecError as error:
        raise ModelError(f"{path} does not say what it is. {mend}") from error
    if spec.precision != "int8":
        raise ModelError(f"{path} is {spec.precision}, so it has no ranges to train within. {mend}")
    if not isinstance(spec.provenance.get("int8"), dict):
        raise ModelError(f"{path} does not say which set it was calibrated on. {mend}")
    return spec


def check_fit(path: Path, spec: ModelSpec, variant: str, padding: Padding, classes: Sequence[str]) -> None:
    """Raise ModelError unless the int8 file at `path`, which says `spec`, is of what is to be trained."""
    if (spec.variant, spec.padding) != (variant, padding):
        raise ModelError(
            f"{path} is {spec.variant}, padding {spec.padding}; to be trained is {variant}, padding {padding}. "
            "Drop --variant and --padding, and name a --recipe of its own."
        )
    if spec.classes != tuple(classes):
        raise ModelError(
            f"{path} does not know the data's classes: {len(spec.classes)} are its own, {len(classes)} the data's, or "
            "their order differs. Train on data of its own classes, then export and calibrate anew."
        )


def rounding(path: Path, network: Network, spec: ModelSpec) -> Rounding:
    """Where the int8 file at `path` rounds the values of `network`, whose weights it has to have been made from.

    spec: of the file.
    Raises ModelError where these are others, or the network does not add and convolve what the file does.
    """
    import onnx

    graph = onnx.load(path).graph
    made = {value: node for node in graph.node for value in node.output}
    constants = {weight.name: weight for weight in graph.initializer}
    told: Any = spec.provenance["int8"]
    weight_steps = WEIGHT_STEPS[told.get("weight_bits", 8)]
    weights = _Weights(network, path, weight_steps)
    reads: dict[str, float] = {}
    int8: set[str] = set()
    corrected: set[str] = set()
    sums: dict[tuple[Reached, Reached], tuple[float, float]] = {}
    reached: dict[str, Reached] = {}
    for node in graph.node:
        steps = [_step(made.get(value), constants) for value in node.input]
        if node.op_type == "Conv":
            source = made.get(node.input[1])
            name = weights.take(node.input[1] if source is None else source.input[0], _weight(node, source, constants))
            if source is not None:
                int8.add(name)
                corrected.update([name] if len(node.input) > 2 else [])
            if steps[0] is not None:
                reads[name] = steps[0]
        terms = [reached.get(value, frozenset()) for value in node.input]
        if node.op_type == "Add" and steps[0] is not None and steps[1] is not None:
            sums[terms[0], terms[1]] = steps[0], steps[1]
        both: Reached = frozenset({name}) if node.op_type == "Conv" else frozenset().union(*terms)
        reached.update(dict.fromkeys(node.output, frozenset() if node.op_type == "Shape" else both))  # a size is none
    found = Rounding(reads, frozenset(int8), sums, frozenset(corrected), weight_steps)
    _check(found, network, path, spec)
    return found


def _check(found: Rounding, network: Network, path: Path, spec: ModelSpec) -> None:
    """Raise ModelError unless a picture's way through the network passes all that is rounded."""
    side = spec.side(4 * spec.stride)
    with FakeInt8(network, found) as mode, torch.no_grad():
        network.eval()(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    missed = (found.reads.keys() | found.weights | found.sums.keys()) - mode.met
    if missed:
        raise ModelError(f"{path}: {len(missed)} of its int8 layers are not met in {spec.variant}. Export it anew.")


class FakeInt8(TorchFunctionMode):
    """Within this context `network` computes in float32 what its int8 file computes; gradients pass straight through.

    A value beyond its range is cut off, and passes no gradient. Terms of sums are known by the convolutions that they
    come from, so no layer of a network has to be written for it.
    """

    def __init__(self, network: nn.Module, where: Rounding) -> None:
        super().__init__()
        self.where = where
        self.met: set[Any] = set()  # which of them were
        self._names = {parameter: name for name, parameter in network.named_parameters()}
        self._reached = WeakTensorKeyDictionary()  # of every value on its way through the network: Reached

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = self._names.get(args[1]) if func is torch.conv2d else None
        shift = None
        if name is not None:
            x, weight = self._convolved(name, args[0], args[1])
            shift = _shift(args[0], weight - args[1]) if name in self.where.corrected else None
            args = (x, weight, *args[2:])
        elif func in ADDS:
            args = (*self._added(args[0], args[1]), *args[2:])
        result = func(*args, **(kwargs or {}))
        if shift is not None:
            result = result - shift.to(result.dtype)
        if isinstance(result, Tensor):
            reached = self._of(args) if name is None else frozenset({name})
            if reached:
                self._reached[result] = reached
        return result

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._reached.clear()

    def _convolved(self, name: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        step = self.where.reads.get(name)
        self.met.add(name)
        rounded = _round_weight(weight, self.where.weight_steps) if name in self.where.weights else weight
        return x if step is None else _round(x, step), rounded

    def _added(self, a: Any, b: Any) -> tuple[Any, Any]:
        terms = self._of([a]), self._of([b])
        if terms not in self.where.sums:
            return a, b
        self.met.add(terms)
        steps = self.where.sums[terms]
        rounded = _round(a, steps[0]), _round(b, steps[1])
        for value, term in zip(rounded, terms, strict=True):
            self._reached[value] = term
        return rounded

    def _of(self, values: Iterable[Any]) -> Reached:
        """Of all tensors among `values`, also in lists, as torch.cat takes them."""
        found: Reached = frozenset()
        for value in values:
            if isinstance(value, list | tuple):
                found |= self._of(value)
            elif isinstance(value, Tensor):
                found |= self._reached.get(value) or frozenset()
        return found


def round_always(network: nn.Module, where: Rounding) -> None:
    """From now on `network` computes as its int8 file does, whichever thread calls it."""
    mode = FakeInt8(network, where)

    def enter(*_: Any) -> None:
        mode.__enter__()

    def leave(*_: Any) -> None:
        mode.__exit__(None, None, None)

    network.register_forward_pre_hook(enter)
    network.register_forward_hook(leave, always_call=True)


def _round(x: Tensor, step: float) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x.float(), step, 0, LOWEST, STEPS)


def _round_weight(weight: Tensor, count: int) -> Tensor:
    """A channel each. Where batch norm follows, which the file has multiplied in, these are its rounded weights too."""
    steps = weight.detach().float().abs().amax((1, 2, 3)).clamp(min=SMALLEST) / count
    zeros = torch.zeros_like(steps, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), steps, zeros, 0, -count, count)


@torch.no_grad()
def _shift(x: Tensor, off: Tensor) -> Tensor:
    """What weights that are `off` add to each output channel on average, (1, O, 1, 1), by the means of this very `x`.

    An export takes it out of the biases, by means of the calibration pictures: `qdq.quantise`.
    """
    sums = off.sum((2, 3))  # (outputs, inputs of a group)
    means = x.float().mean((0, 2, 3)).reshape(-1, sums.shape[1])  # (groups, inputs of a group)
    return (sums.reshape(len(means), -1, sums.shape[1]) * means[:, None]).sum(2).reshape(1, -1, 1, 1)


def _step(node: onnx.NodeProto | None, constants: dict[str, onnx.TensorProto]) -> float | None:
    """The step of a value that comes out of QuantizeLinear and DequantizeLinear; None for any other, weights too."""
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] in constants:
        return None
    return float(_array(constants[node.input[1]]))


def _weight(
    convolution: onnx.NodeProto, source: onnx.NodeProto | None, constants: dict[str, onnx.TensorProto]
) -> np.ndarray:
    """A convolution's weights as it computes with them: float32 (O, I, h, w)."""
    if source is None:
        return _array(constants[convolution.input[1]])
    steps, scale = (_array(constants[name]) for name in source.input[:2])
    return steps * scale.reshape(-1, 1, 1, 1)


def _array(constant: onnx.TensorProto) -> np.ndarray:
    from onnx import numpy_helper

    return numpy_helper.to_array(constant).astype(np.float32)


class _Weights:
    """The weights of a network's convolutions, each of which a file has once."""

    def __init__(self, network: nn.Module, path: Path, steps: int) -> None:
        self._path, self._close = path, CLOSE / steps
        self._left = {
            f"{name}.weight": module.weight.detach().float().cpu().numpy()
            for name, module in network.named_modules()
            if isinstance(module, nn.Conv2d)
        }

    def take(self, named: str, theirs: np.ndarray) -> str:
        """The name here of what a file calls `named`: the very name where no batch norm was multiplied in."""
        named = named.removesuffix(".half").removesuffix("_quantized")
        for name in [named] if named in self._left else list(self._left):
            own = self._left[name]
            if own.shape == theirs.shape and self._same(own, theirs):
                del self._left[name]
                return name
        raise ModelError(
            f"{self._path} was not made from these weights: they have no {named} like its own, "
            f"{'x'.join(map(str, theirs.shape))}. Pass --weights with the checkpoint that was exported."
        )

    def _same(self, own: np.ndarray, theirs: np.ndarray) -> bool:
        """But for rounding; in a file that reads BGR the first convolution is turned round."""
        return min(_differ(own, theirs), _differ(own[:, ::-1], theirs)) <= self._close


def _differ(own: np.ndarray, theirs: np.ndarray) -> float:
    """How far apart they are where each channel is a multiple of the other's, as a share of its largest weight."""
    own, theirs = own.reshape(len(own), -1), theirs.reshape(len(theirs), -1)
    rows = np.arange(len(own))
    peak = np.abs(own).argmax(1)
    mine, other = own[rows, peak], theirs[rows, peak]
    held = other != 0  # a channel so small that its steps are zero tells nothing
    if (mine[held] == 0).any():
        return np.inf
    difference = own[held] / mine[held, None] - theirs[held] / other[held, None]
    return float(np.abs(difference).max(initial=0))
