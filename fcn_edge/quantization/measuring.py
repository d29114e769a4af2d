"""Mean IoU of the int8 files of a network, by how many layers were moved to float; each is measured once and kept.

A figure is named by the bytes of its file and by what computed it, so that another runtime or another way of quantising
never takes it for its own.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import onnx

from fcn_edge.data import Sample, read_image
from fcn_edge.evaluation import evaluate
from fcn_edge.files import replacing, sha256
from fcn_edge.quantization.convert import Choices
from fcn_edge.quantization.qdq import quantise
from fcn_edge.quantization.sensitivity import Harm
from fcn_edge.quantization.thresholds import Ranges
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import METADATA_KEY, ModelSpec

ROUNDS = 15  # frames timed a file, all files in turn

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]  # (items, label, total), as cli.common.track


@dataclass(frozen=True)
class Memory:
    """What was measured for one key, kept in a file as soon as it is known."""

    file: Path | None
    key: str
    harm: dict[str, Harm] = field(default_factory=dict[str, Harm])
    figures: dict[str, tuple[float, int]] = field(default_factory=dict[str, tuple[float, int]])  # mean IoU, pictures

    @classmethod
    def at(cls, folder: Path | None, name: str, key: str) -> Memory:
        key = hashlib.sha256(key.encode()).hexdigest()
        if folder is None:
            return cls(None, key)
        file = folder / f"{name}.{key[:8]}.budget.json"
        try:
            saved = msgspec.json.decode(file.read_bytes(), type=_Saved)
        except (OSError, msgspec.MsgspecError):  # none yet, cut off, or of another kind: measured anew
            return cls(file, key)
        return cls(file, key, saved.harm, saved.figures) if saved.key == key else cls(file, key)

    def save(self) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file) as temporary:
            temporary.write_bytes(msgspec.json.encode(_Saved(self.key, self.harm, self.figures)))


@dataclass(frozen=True)
class _Saved:
    key: str
    harm: dict[str, Harm]
    figures: dict[str, tuple[float, int]]


@dataclass(frozen=True)
class Files:
    """The file for each number of layers that were moved to float, the most harmful first."""

    model: onnx.ModelProto
    spec: ModelSpec
    ranges: Ranges
    choices: Choices
    kept: Mapping[str, str]
    order: Sequence[str]
    folder: Path

    def __call__(self, moved: int) -> Path:
        path = self.folder / f"{self.spec.name}.{moved}.onnx"
        if not path.exists():
            remainder = self.choices.remainder
            floats = {*self.kept, *self.order[:moved]}
            quantised = quantise(self.model, self.ranges, floats, self.spec.name, remainder, self.choices.weight_bits)
            told = replace(self.spec, precision="int8", remainder=remainder, quality={})
            onnx.helper.set_model_props(quantised, {METADATA_KEY: told.to_json()})
            onnx.save(quantised, path)
        return path


class Measure:
    """Mean IoU by the number of layers that were moved to float; each measured once."""

    def __init__(
        self,
        source: Path,
        files: Files,
        samples: list[Sample],
        backend: str,
        truth_classes: Sequence[str] | None,
        memory: Memory,
        follow: Track,
    ) -> None:
        self._source, self._files, self._samples, self._backend = source, files, samples, backend
        self._classes, self._memory, self._follow = truth_classes, memory, follow
        self._known: dict[int, float] = {}
        self.images, self.where = 0, ""

    def float32(self) -> float:
        return self._mean_iou(self._source, "fp32", "float32")

    def __call__(self, moved: int) -> float:
        if moved not in self._known:
            path = self._files(moved)
            label = f"{len(self._files.order) - moved} layers in int8"
            self._known[moved] = self._mean_iou(path, None, label)
        return self._known[moved]

    def curve(self) -> tuple[tuple[int, float], ...]:
        return tuple((len(self._files.order) - moved, self._known[moved]) for moved in sorted(self._known))

    def times(self, moved: int) -> dict[str, float]:
        """Median milliseconds of the network on the first picture, the files in turn."""
        frame = read_image(self._samples[0].image)
        paths = {
            "float32": (self._source, "fp32"),
            "int8": (self._files(0), None),
            "chosen": (self._files(moved), None),
        }
        opened = {name: Segmenter(path, self._backend, precision) for name, (path, precision) in paths.items()}
        taken: dict[str, list[float]] = {name: [] for name in paths}
        for turn in range(ROUNDS + 1):
            for name, segmenter in opened.items():
                seconds = segmenter.segment(frame).timings["infer"]
                if turn:  # the first compiles
                    taken[name].append(seconds)
        for segmenter in opened.values():
            segmenter.close()
        return {name: round(1000 * statistics.median(seconds), 3) for name, seconds in taken.items()}

    def _mean_iou(self, path: Path, precision: str | None, label: str) -> float:
        with Segmenter(path, self._backend, precision) as segmenter:
            backend = segmenter.backend
            self.where = f"{backend.name}, {backend.device}"
            versions = sorted(backend.versions.items())
            key = f"{sha256(path)} {backend.name} {backend.device} {backend.precision} {versions}"
            if key not in self._memory.figures:
                found = evaluate(
                    segmenter,
                    self._samples,
                    progress=lambda items: self._follow(items, label, len(self._samples)),
                    truth_classes=self._classes,
                )
                self._memory.figures[key] = found.mean_iou, found.images
                self._memory.save()
        figure, self.images = self._memory.figures[key]
        return figure
