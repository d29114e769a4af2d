"""From lists of pictures to a checkpoint: checks everything that can be wrong before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from fcn_edge import models
from fcn_edge.data import Sample, check
from fcn_edge.errors import DataError, FcnEdgeError
from fcn_edge.evaluation import evaluate
from fcn_edge.models.checkpoint import describe, read_state, save_checkpoint, sha256
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import VOC_CLASSES
from fcn_edge.training.loop import Progress, train
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.run_state import NAME as STATE
from fcn_edge.training.samples import Crops, hold_back
from fcn_edge.training.teacher import probabilities

if TYPE_CHECKING:
    from fcn_edge.models.network import Network

CACHE = Path.home() / ".cache" / "fcn-edge"

Track = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class Session:
    """What a run starts from."""

    recipe: Recipe
    samples: list[Sample]
    weights: Path | None  # pretrained; None starts from seeded noise
    out: Path
    teacher: Path | None = None
    teacher_spec: Path | None = None

    def run(self, track: Track, force: bool = False) -> Iterable[Progress]:
        """Train, yielding after each step; leaves `VARIANT.safetensors` and `best.safetensors` in `out`.

        track: wraps what takes long before the first step, as `track(items, label)`.
        Raises DataError that names every wrong mask, and where `out` holds the run of another recipe.
        """
        recipe = self.recipe
        self._prepare_folder(force)
        check(self.samples, len(VOC_CLASSES), lambda items: track(items, "Checking masks", len(self.samples)))
        trained_on, held_back = hold_back(self.samples, recipe.hold_back)
        if len(trained_on) < recipe.batch:
            raise DataError(f"{len(trained_on)} pictures to train on, a batch of this recipe has {recipe.batch}.")
        network, pretrained = self._network()
        crops = Crops(trained_on, recipe, network.geometry.output_stride, self._soft(track))
        spec = replace(describe(network, recipe.variant, **self._provenance()), thin=recipe.thin)
        candidate = self.out / "candidate.safetensors"

        def validate(network: Network) -> float:
            save_checkpoint(candidate, network, spec)
            with Segmenter(str(candidate), backend="torch", precision="fp32") as segmenter:
                return evaluate(segmenter, held_back).mean_iou

        def keep_best(network: Network, mean_iou: float) -> None:
            figures = {"mean_iou_held_back": mean_iou, "pictures_held_back": len(held_back)}
            save_checkpoint(self.out / "best.safetensors", network, replace(spec, quality=figures))

        yield from train(network, pretrained, crops, self.out, validate, keep_best)
        save_checkpoint(self.out / f"{recipe.variant}.safetensors", network, spec)
        candidate.unlink(missing_ok=True)

    def _prepare_folder(self, force: bool) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if force:
            (self.out / STATE).unlink(missing_ok=True)

    def _network(self) -> tuple[Network, set[str]]:
        torch.manual_seed(self.recipe.seed)
        network = models.build(self.recipe.variant, len(VOC_CLASSES))
        if self.weights is None:
            return network, set()
        return network, network.adopt(read_state(self.weights)[0], str(self.weights))

    def _soft(self, track: Track) -> dict[Path, Path] | None:
        if not self.recipe.soft_weight:
            return None
        if self.teacher is None:
            raise FcnEdgeError(
                f"the recipe asks for a teacher (soft_weight = {self.recipe.soft_weight}) and none is named. "
                "Pass --teacher MODEL, or set soft_weight = 0."
            )
        with Segmenter(str(self.teacher), spec=self.teacher_spec) as teacher:
            return probabilities(teacher, self.teacher, [sample.image for sample in self.samples], CACHE, track)

    def _provenance(self) -> dict[str, Any]:
        figures = msgspec.to_builtins(self.recipe)
        return {
            **figures.pop("card"),
            "pretrained": sha256(self.weights) if self.weights else None,
            "teacher": sha256(self.teacher) if self.teacher else None,
            "pictures": len(self.samples),
            "recipe": figures,
        }
