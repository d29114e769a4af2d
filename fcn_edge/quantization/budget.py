"""The fewest layers in float that keep a network's mean IoU within what may be lost.

Layers are moved to float in the order of their harm, and mean IoU is measured only along that order, on files as they
would ship. Pictures that chose the layers are spent: a figure on them flatters the file, so they count as seen and
`fcn-edge eval` leaves them out.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from fcn_edge import __version__
from fcn_edge.data import Sample
from fcn_edge.data.calibration import Calibration, near
from fcn_edge.errors import DataError, FcnEdgeError, UsageError
from fcn_edge.files import sha256
from fcn_edge.quantization.convert import Choices, spec_of
from fcn_edge.quantization.measuring import Files, Measure, Memory, Track
from fcn_edge.quantization.observe import observe
from fcn_edge.quantization.qdq import Layer, layers
from fcn_edge.quantization.sensitivity import Harm, harms, multiply_adds
from fcn_edge.quantization.thresholds import ranges

REASON = "accuracy budget"  # why a layer stays in float


@dataclass(frozen=True)
class Sensitivity:
    """A layer, what it costs and what it harms."""

    layer: Layer
    multiply_adds: int  # on a square frame of the model's own size; 0 for a sum
    harm: Harm
    kept: str | None  # why it stays in float; None: it is int8


@dataclass(frozen=True)
class Budget:
    """The layers that stay in float so that mean IoU falls by no more than was allowed."""

    name: str
    layers: tuple[Sensitivity, ...]  # in the network's order
    float32: float  # mean IoU
    mean_iou: float  # of the chosen
    curve: tuple[tuple[int, float], ...]  # int8 layers and mean IoU of all that was measured, most layers first
    max_drop: float  # points of mean IoU: hundredths
    images: int
    labelled: str  # SHA-256 over the labelled pictures and masks
    backend: str
    milliseconds: dict[str, float]  # of the network: "float32", "int8" where nothing is moved, "chosen"

    @property
    def kept(self) -> dict[str, str]:
        """Node to reason, as `Choices.kept`."""
        return {each.layer.name: each.kept for each in self.layers if each.kept}

    @property
    def drop(self) -> float:
        """Points of mean IoU; below zero where the chosen file is better than float32's."""
        return 100 * (self.float32 - self.mean_iou)

    @property
    def moved(self) -> float:
        """The share of the convolutions' multiply-adds that the budget keeps in float."""
        total = sum(each.multiply_adds for each in self.layers)
        return sum(each.multiply_adds for each in self.layers if each.kept == REASON) / max(total, 1)

    def provenance(self) -> dict[str, Any]:
        """For the spec of the file that is made of it."""
        figures = {"drop": round(self.drop, 3), "float32": round(self.float32, 4), "mean_iou": round(self.mean_iou, 4)}
        where = {"pictures": self.images, "labelled": self.labelled, "backend": self.backend}
        return {"max_drop": self.max_drop, **figures, **where}

    def document(self) -> dict[str, Any]:
        """For JSON; weights and multiply-adds as shares of all layers', `float` says why a layer is not int8."""
        return {
            "model": self.name,
            **self.provenance(),
            "curve": [{"int8_layers": count, "mean_iou": figure} for count, figure in self.curve],
            "milliseconds": self.milliseconds,
            "layers": [
                {
                    "name": each.layer.name,
                    "op": each.layer.op,
                    "weights": weights,
                    "multiply_adds": adds,
                    **asdict(each.harm),
                    "float": each.kept,
                }
                for each, weights, adds in self._shares()
            ],
        }

    def table(self) -> str:
        """A line a layer, the most harmful first."""
        width = max(len(each.layer.name) for each in self.layers)
        lines = [f"{'layer':{width}}  op    weights  mult-adds  harm, nats  other labels  computed in"]
        for each, weights, adds in sorted(self._shares(), key=lambda row: -row[0].harm.divergence):
            lines.append(
                f"{each.layer.name:{width}}  {each.layer.op:4}  {weights:7.2%}  {adds:9.2%}  "
                f"{each.harm.divergence:10.2e}  {each.harm.changed:12.3%}  "
                + ("int8" if each.kept is None else f"float: {each.kept}")
            )
        return "\n".join(lines)

    def summary(self) -> str:
        """What was found and what it costs, for people."""
        count = sum(each.kept == REASON for each in self.layers)
        times = {key: f"{value:.1f} ms" for key, value in self.milliseconds.items()}
        cost = "no layer had to leave int8 for it"
        if count:
            cost = f"{count} layers with {self.moved:.1%} of the multiply-adds left int8 for it"
        change = f"{abs(self.drop):.2f} points {'lost' if self.drop > 0 else 'gained'}"
        return (
            f"{self.name}: mean IoU {self.mean_iou:.4f} on {self.images} labelled pictures, float32's is "
            f"{self.float32:.4f}: {change}, {self.max_drop:g} allowed. {cost[0].upper()}{cost[1:]}: "
            f"{times['chosen']} a frame, {times['int8']} without the budget, float32 {times['float32']} "
            f"({self.backend}). These pictures are spent: report a figure on others."
        )

    def _shares(self) -> list[tuple[Sensitivity, float, float]]:
        """Each layer with its share of the weights and of the multiply-adds."""
        weights = max(sum(each.layer.weights for each in self.layers), 1)
        adds = max(sum(each.multiply_adds for each in self.layers), 1)
        return [(each, each.layer.weights / weights, each.multiply_adds / adds) for each in self.layers]


def fit_budget(
    source: Path,
    calibration: Calibration,
    choices: Choices,
    samples: Sequence[Sample],
    max_drop: float,
    cache: Path | None = None,
    backend: str = "auto",
    truth_classes: Sequence[str] | None = None,
    track: Track | None = None,
) -> Budget:
    """Which layers of the float32 file `source` stay in float so that mean IoU falls by no more than `max_drop`.

    choices:       those of `to_int8`; what its `kept` names, or else the default, stays in float whatever its harm.
    samples:       labelled pictures, none of them a calibration picture and none that will be reported.
    max_drop:      points of mean IoU, hundredths, from float32's.
    cache:         a folder; what was measured is taken from there, so that an interrupted run goes on where it stopped.
    truth_classes: what the masks' indices mean; the model's own where None.
    track:         wraps what takes long, such as in a bar.
    Raises UsageError for a budget that is none, DataError where labelled pictures are calibration pictures,
    FcnEdgeError for a file that was not trained or gives no scores, or where no layer can be int8 within the budget.
    """
    follow: Track = track or (lambda items, label, total: items)
    if not 0 < max_drop < 100:
        raise UsageError(f"--max-drop {max_drop:g} is no budget: give points of mean IoU, as in 0.5.")
    model = onnx.load(source)
    spec = spec_of(model, source)
    if not spec.trained:
        raise FcnEdgeError(f"{source} holds untrained noise, which has no accuracy to keep: drop --max-drop.")
    refuse(calibration, samples)
    pictures = calibration.pictures
    observed = observe(
        source,
        pictures,
        calibration.identity,
        choices.size,
        cache,
        lambda items: follow(items, "Calibrating", len(pictures)),
    )
    reach = ranges(observed, choices.method, choices.percentile)
    labelled = _identity(samples)
    key = f"{__version__} {observed.key} {choices.method} {choices.percentile} {choices.weight_bits} {labelled}"
    memory = Memory.at(cache, spec.name, key)
    found = layers(model)
    waiting = [layer.name for layer in found if layer.name not in memory.harm]
    measured = harms(model, spec, reach, pictures, choices.size, waiting, choices.weight_bits) if waiting else ()
    for name, harm in follow(measured, "Each layer alone in int8", len(waiting)):
        memory.harm[name] = harm
        memory.save()
    default = {layer.name: layer.kept for layer in found if layer.kept}
    kept = default if choices.kept is None else choices.kept
    order = sorted(
        (each.name for each in found if each.name not in kept), key=lambda name: -memory.harm[name].divergence
    )
    with tempfile.TemporaryDirectory() as folder:
        files = Files(model, spec, reach, choices, kept, order, Path(folder))
        float_file = Path(folder, f"{spec.name}.onnx")
        shutil.copyfile(source, float_file)  # which may be called anything; runtimes go by the ending
        measure = Measure(float_file, files, list(samples), backend, truth_classes, memory, follow)
        float32 = measure.float32()
        moved = fewest(len(order), lambda count: float32 - measure(count) <= max_drop / 100)
        if moved is None:
            raise FcnEdgeError(
                f"{spec.name}: no layer can be int8 within {max_drop:g} points of float32's mean IoU, {float32:.4f}. "
                "Calibrate by another method, train with --qat, or allow more."
            )
        reasons = {**kept, **dict.fromkeys(order[:moved], REASON)}
        adds = multiply_adds(model, spec)
        return Budget(
            spec.name,
            tuple(
                Sensitivity(each, adds.get(each.name, 0), memory.harm[each.name], reasons.get(each.name))
                for each in found
            ),
            float32,
            measure(moved),
            measure.curve(),
            max_drop,
            measure.images,
            labelled,
            measure.where,
            measure.times(moved),
        )


def fewest(most: int, holds: Callable[[int], bool]) -> int | None:
    """The least count below `most` that holds, if counts above one that holds do too; None where none does.

    Counts are doubled until one holds, as few are usually enough, then halved between.
    """
    failed, count = -1, 0
    while count < most and not holds(count):
        failed, count = count, max(1, 2 * count)
    if count >= most:
        if failed + 1 >= most or not holds(most - 1):
            return None
        count = most - 1
    while count - failed > 1:
        middle = (failed + count) // 2
        failed, count = (failed, middle) if holds(middle) else (middle, count)
    return count


def refuse(calibration: Calibration, samples: Sequence[Sample]) -> None:
    """Raises DataError where labelled pictures are calibration pictures, as far as `near` knows them again."""
    both = near(calibration.pictures, samples)
    if both:
        raise DataError(
            f"{len(both)} of the {len(samples)} labelled pictures are calibration pictures, first: {both[0][1]}. "
            "What is measured needs pictures that the ranges were not chosen on: name another list."
        )


def _identity(samples: Sequence[Sample]) -> str:
    """SHA-256 over pictures and masks."""
    hash = hashlib.sha256()
    for sample in samples:
        for path in (sample.image, sample.mask):
            hash.update(b"-" if path is None else bytes.fromhex(sha256(path)))
    return hash.hexdigest()
