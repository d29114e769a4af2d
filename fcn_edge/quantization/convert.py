"""A float32 ONNX file to an int8 one that says how it was made, and is held to the first before it is kept.

Kept in float are the layers of `qdq.layers` that name a reason, unless others are named; `remainder` is what those are
in. In float32 the file is one for TensorRT 8.6 to 11, OpenVINO and ONNX Runtime; in float16, which needs opset 19, for
TensorRT from 10.3 on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx

from fcn_edge.data import pictures_seen
from fcn_edge.errors import FcnEdgeError
from fcn_edge.files import replacing
from fcn_edge.onnx_export.parity import PARITY_SIZES, Parity, as_taken, compare, session
from fcn_edge.prepare import Size
from fcn_edge.quantization.observe import Progress, frame_of, observe
from fcn_edge.quantization.qdq import Layer, Remainder, WeightBits, layers, quantise
from fcn_edge.quantization.thresholds import PERCENTILE, Method, ranges
from fcn_edge.spec import METADATA_KEY, ModelSpec, from_json

if TYPE_CHECKING:
    from fcn_edge.data.calibration import Calibration

AGREEMENT = (
    0.95  # of the labels with float32's on calibration pictures: a broken file has half, a good one 98 % and more
)
JUDGED = 8  # of those pictures


@dataclass(frozen=True)
class Choices:
    """How a file is to be quantised, beside the pictures."""

    method: Method = "minmax"
    percentile: float = PERCENTILE
    size: int | Size | None = None  # of the network while calibrating; None: the model's own
    remainder: Remainder = "fp32"
    weight_bits: WeightBits = 8
    kept: Mapping[str, str] | None = None  # nodes that stay in float, and why; None: those of `qdq.layers`
    budget: Mapping[str, Any] | None = None  # for the spec: what it was and what was measured, where that chose `kept`


@dataclass(frozen=True)
class Int8:
    """A file that was written."""

    path: Path
    spec: ModelSpec
    nodes: int
    megabytes: float
    layers: list[Layer]  # all that could be int8; `kept` of those that are not says why
    parity: list[Parity]  # labels and scores against the float32 file's


def to_int8(
    source: Path,
    out: Path,
    calibration: Calibration,
    choices: Choices,
    photos: Sequence[np.ndarray],
    cache: Path | None = None,
    progress: Progress | None = None,
    measured: Sequence[Path] = (),
) -> Int8:
    """Write the float32 file `source` in int8 to `out`; a file that fails a check is not left behind.

    photos: uint8 (H, W, 3), BGR: both files are compared on them at several sizes.
    cache:  a folder for what was observed on the pictures.
    measured: the labelled pictures that chose `choices.kept`, which the file has met as well.
    Raises FcnEdgeError where a trained network's labels on calibration pictures are too seldom float32's, or a value
    leaves float16's range; else as `observe` and `ranges`.
    """
    observed = observe(source, calibration.pictures, calibration.identity, choices.size, cache, progress)
    found = ranges(observed, choices.method, choices.percentile)
    model = onnx.load(source)
    spec = spec_of(model, source)
    chosen = _chosen(layers(model), choices.kept)
    kept = {layer.name for layer in chosen if layer.kept}
    quantised = quantise(model, found, kept, spec.name, choices.remainder, choices.weight_bits)
    told = replace(
        spec,
        precision="int8",
        remainder=choices.remainder,
        provenance={
            **spec.provenance,
            "int8": _provenance(calibration, choices, spec, chosen),
            "pictures_seen": pictures_seen([*calibration.pictures, *measured], spec),
        },
        quality={},  # those were the float32 file's
    )
    onnx.helper.set_model_props(quantised, {METADATA_KEY: told.to_json()})
    onnx.checker.check_model(quantised, full_check=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        onnx.save(quantised, file)
        both = [session(spec, source), session(told, file)]
        if spec.trained:
            _check_labels(spec, both, calibration.pictures[:JUDGED], choices.size)
        parity = _parity(told, both, photos) if len(photos) else []
    return Int8(out, told, len(quantised.graph.node), out.stat().st_size / 1e6, chosen, parity)


def spec_of(model: onnx.ModelProto, path: Path) -> ModelSpec:
    """What a file that `export` wrote says of itself. Raises FcnEdgeError for another file, or one not in float32."""
    found = {each.key: each.value for each in model.metadata_props}.get(METADATA_KEY)
    if found is None:
        raise FcnEdgeError(f"{path} does not say what it is: export it with fcn-edge, or quantise by its maker's tool.")
    spec = from_json(found, str(path))
    if spec.precision != "fp32":
        raise FcnEdgeError(f"{path} is {spec.precision} already. Quantise the fp32 file that it was made from.")
    return spec


def _chosen(found: list[Layer], kept: Mapping[str, str] | None) -> list[Layer]:
    if kept is None:
        return found
    return [replace(layer, kept=kept.get(layer.name)) for layer in found]


def _provenance(
    calibration: Calibration, choices: Choices, spec: ModelSpec, chosen: Collection[Layer]
) -> dict[str, Any]:
    reasons = sorted({layer.kept for layer in chosen if layer.kept})
    return {
        "set": calibration.name,
        "identity": calibration.identity,
        "pictures": len(calibration.pictures),
        "size": choices.size or spec.size,
        "method": choices.method,
        "weight_bits": choices.weight_bits,
        **({"percentile": choices.percentile} if choices.method == "percentile" else {}),
        "float": {reason: [layer.name for layer in chosen if layer.kept == reason] for reason in reasons},
        "int8_layers": sum(layer.kept is None for layer in chosen),
        **({"budget": dict(choices.budget)} if choices.budget else {}),
    }


def _check_labels(spec: ModelSpec, both: Sequence[Any], pictures: Sequence[Path], size: int | Size | None) -> None:
    """Raise FcnEdgeError where too few of the int8 file's labels are float32's, on pictures such as it will meet."""
    shares = []
    for picture in pictures:
        frame = frame_of(spec, picture, size)
        expected, got = (np.asarray(each.run(None, {"frame": frame})[0]) for each in both)
        shares.append(compare(frame.shape[1:3], expected, got).label_agreement)
    agreement = float(np.mean(shares))
    if agreement < AGREEMENT:
        raise FcnEdgeError(
            f"{spec.name}: {agreement:.2%} of the int8 file's labels on {len(shares)} calibration pictures are "
            f"float32's, {AGREEMENT:.0%} are needed. Nothing was written. Take another --method, or a --max-drop."
        )


def _parity(spec: ModelSpec, both: Sequence[Any], photos: Sequence[np.ndarray]) -> list[Parity]:
    """Both files on every photo at every size of `PARITY_SIZES`, in ONNX Runtime."""
    found = []
    for size in PARITY_SIZES:
        side = (spec.side(size[0]), spec.side(size[1]))
        frames = np.stack([cv2.resize(photo, side[::-1], interpolation=cv2.INTER_AREA) for photo in photos])
        expected, got = (np.asarray(each.run(None, {"frame": as_taken(spec, frames)})[0]) for each in both)
        if not np.isfinite(got).all():
            raise FcnEdgeError(
                f"{spec.name}: at {side[0]}x{side[1]} the int8 file gives no scores. Nothing was written."
            )
        found.append(compare(side, expected, got))
    return found
