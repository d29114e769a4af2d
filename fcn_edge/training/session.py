"""From lists of pictures to a checkpoint: checks everything that can be wrong before the first step.

Of the processes of one machine the first prepares what all of them read; only then are the others started.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from fcn_edge import models
from fcn_edge.data import DataSet, Sample, check, pictures_seen, unseen
from fcn_edge.errors import DataError, FcnEdgeError, ModelError, UsageError
from fcn_edge.evaluation import evaluate
from fcn_edge.files import sha256
from fcn_edge.folders import cache_folder
from fcn_edge.models.checkpoint import adopt, describe, read_state, save_checkpoint
from fcn_edge.runtime.files import read_spec
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import VOC_CLASSES, ModelSpec, from_json, from_toml
from fcn_edge.training.card import NAME as CARD
from fcn_edge.training.card import write_card
from fcn_edge.training.features import keep_features
from fcn_edge.training.log import read_log
from fcn_edge.training.loop import Progress, Quality, connect, precision, train
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.run_state import NAME as STATE
from fcn_edge.training.samples import Views, hold_back, parts_of
from fcn_edge.training.teacher import probabilities

if TYPE_CHECKING:
    from fcn_edge.models.network import Network, Normalisation

SEEN = "pictures_seen"

Track = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class Session:
    """What a run starts from."""

    recipe: Recipe
    data: DataSet
    weights: Path | None  # pretrained; None starts from seeded noise
    out: Path
    val: DataSet | None = None  # None: every n-th sample of `data`, which is then not trained on
    teacher: Path | None = None
    teacher_spec: Path | None = None
    cache_features: bool = False
    devices: int = 1
    nodes: int = 1
    lists: tuple[str, ...] = ()  # what `data` was opened from, for the model's provenance
    normalisation: Normalisation | None = None  # that `weights` were trained on; None: judged by their names

    @property
    def steps(self) -> int:
        return self.recipe.last_step(len(self._parted[0]))

    def run(self, track: Track, force: bool = False) -> Iterable[Progress]:
        """Train, yielding after each step (in the first process alone); leaves in `out` the last and the best
        checkpoint, VARIANT.safetensors and best.safetensors, and the model card.

        track: wraps what takes long before the first step, as `track(items, label)`.
        Raises DataError that counts the wrong masks, each named in the log, and where `out` holds the run of another
        recipe; ModelError where weights or teacher do not fit the data's classes.
        """
        recipe = self.recipe
        trained_on, held_out = self._parted
        self._check_teacher()
        if is_first_here():
            self._check(track)
            self._prepare_folder(force)
        class_weights = self._class_weights()
        network, pretrained = self._network()
        provenance = self._provenance()
        spec = replace(self._describe(network, provenance), thin=recipe.thin)
        views = Views(trained_on, recipe, spec.side_above, self._soft(track))
        if self.cache_features:
            views.features = self._features(network, views, track)
        fabric = connect(recipe, self.steps, self.devices, self.nodes)
        candidate = self.out / "candidate" / f"{recipe.variant}.safetensors"  # a folder down: no run's checkpoint
        candidate.parent.mkdir(parents=True, exist_ok=True)

        def validate(network: Network) -> Quality:
            # without what it has seen: held-back samples are no secret, they are only never trained on
            save_checkpoint(candidate, network, replace(spec, provenance={}))
            with Segmenter(str(candidate), backend="torch", precision="fp32") as segmenter:
                figures = evaluate(segmenter, held_out)
            return Quality(figures.mean_iou, figures.scores.pixel_accuracy)

        def keep_best(network: Network, quality: Quality) -> None:
            save_checkpoint(self.out / "best.safetensors", network, replace(spec, quality=self._figures(quality)))

        origin = hashlib.sha256(self._origin(provenance)).hexdigest()
        yield from train(
            network,
            pretrained,
            views,
            self.out,
            validate,
            keep_best,
            fabric,
            class_weights=class_weights,
            origin=origin,
        )
        if fabric.is_global_zero:
            spec = replace(spec, quality=self._figures(last_quality(self.out)))
            checkpoint = self.out / f"{recipe.variant}.safetensors"
            save_checkpoint(checkpoint, network, spec)
            write_card(self.out, spec, checkpoint)
            shutil.rmtree(candidate.parent)

    @cached_property
    def _parted(self) -> tuple[list[Sample], list[Sample]]:
        """The samples to train on, and those that candidates are chosen by."""
        if self.val is not None:
            return self.data.samples, self.val.samples
        return hold_back(self.data.samples, self.recipe.hold_back)

    @cached_property
    def _earlier(self) -> ModelSpec | None:
        """What the pretrained weights say of themselves, if they do."""
        text = read_state(self.weights)[1] if self.weights else None
        return from_json(text, str(self.weights)) if text else None

    def _check(self, track: Track) -> None:
        trained_on, held_out = self._parted
        if self.val is not None and self.val.classes != self.data.classes:
            raise DataError("--data and --val speak of different classes. Give both the same classes.txt.")
        samples = self.data.samples + (self.val.samples if self.val else [])
        check(samples, len(self.data.classes), lambda items: track(items, "Checking masks", len(samples)))
        if len(trained_on) < self.recipe.batch:
            raise DataError(f"{len(trained_on)} pictures to train on, a batch of this recipe has {self.recipe.batch}.")
        parts_of(self.recipe, self.devices * self.nodes)
        met = ModelSpec("train", self.data.classes, provenance={SEEN: pictures_seen(s.image for s in trained_on)})
        kept = {sample.image for sample in unseen(held_out, met)}
        both = [sample.id for sample in held_out if sample.image not in kept]
        if both:
            raise DataError(
                f"{len(both)} of {len(held_out)} pictures to validate on are trained on as well, first: {both[0]}. "
                "Take them off one of the lists."
            )

    def _check_teacher(self) -> None:
        weight = self.recipe.soft_weight
        if weight and self.teacher is None:
            raise FcnEdgeError(
                f"the recipe asks for a teacher (soft_weight = {weight}) and none is named. "
                "Pass --teacher MODEL, or set soft_weight = 0."
            )
        if self.teacher is not None and not weight:
            raise UsageError(
                f"--teacher {self.teacher} would teach nothing: the recipe has soft_weight = 0. "
                "Set soft_weight in it (recipes/edge.toml has 1.0), or leave --teacher out."
            )

    def _prepare_folder(self, force: bool) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {self.out} cannot be a folder: {error.strerror}. Name another.") from error
        written = [f"{self.recipe.variant}.safetensors", "best.safetensors", "log.csv", CARD]
        strange = [name for name in written if (self.out / name).exists()]
        if strange and not force and not (self.out / STATE).exists():
            raise UsageError(
                f"{self.out} has {', '.join(strange)} and no state of a run to go on with. "
                "Name another --out, or --force to overwrite."
            )
        if force:
            (self.out / STATE).unlink(missing_ok=True)
            shutil.rmtree(self.out / "tensorboard", ignore_errors=True)

    def _network(self) -> tuple[Network, set[str]]:
        recipe, classes = self.recipe, len(self.data.classes)
        torch.manual_seed(recipe.seed)
        network = models.build(recipe.variant, classes, recipe.padding)
        side = recipe.crop
        if side and self._describe(network, {}).side_above(side) != side:
            other = self._describe(network, {}).side_above(side)
            raise UsageError(f"{recipe.variant} takes no crops of {side} pixels. Set crop = {other} in the recipe.")
        return network, set() if self.weights is None else self._adopt(network, self.weights)

    def _adopt(self, network: Network, weights: Path) -> set[str]:
        """Pretrained tensors; where they are for another number of classes, what depends on it starts anew."""
        classes = len(self.data.classes)
        if self._earlier is None:
            try:
                return adopt(network, weights, self.normalisation)  # bare weights do not say how many classes they know
            except ModelError:
                if classes == len(VOC_CLASSES):
                    raise
        theirs = len(self._earlier.classes if self._earlier else VOC_CLASSES)
        if theirs == classes:
            return adopt(network, weights, self.normalisation)
        other = models.build(self.recipe.variant, theirs, self.recipe.padding)
        names, given, own = adopt(other, weights, self.normalisation), other.state_dict(), network.state_dict()
        fitting = {name for name in names if given[name].shape == own[name].shape}
        network.load_state_dict(own | {name: given[name] for name in fitting})
        return fitting

    def _soft(self, track: Track) -> dict[Path, Path] | None:
        if self.teacher is None:
            return None
        with Segmenter(str(self.teacher), spec=self.teacher_spec) as teacher:
            if teacher.spec.classes != self.data.classes:
                raise ModelError(
                    f"{self.teacher} does not know the data's classes: {len(teacher.spec.classes)} are its own, "
                    f"{len(self.data.classes)} the data's, or their order differs. Take another teacher."
                )
            pictures = [sample.image for sample in self.data.samples]
            return probabilities(teacher, pictures, cache_folder(), track if is_first_here() else _none)

    def _features(self, network: Network, views: Views, track: Track) -> dict[tuple[Path, int], Path]:
        if self.recipe.frozen_trunk_steps < self.steps:
            raise UsageError("features can be kept of a trunk that does not learn: pass --freeze-trunk as well.")
        low = precision() == "bf16-mixed"
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        return keep_features(
            network,
            self.recipe.variant,
            views,
            cache_folder() / "features",
            lambda: torch.autocast(kind, torch.bfloat16, enabled=low),
            track if is_first_here() else _none,
        )

    def _class_weights(self) -> list[float] | None:
        given = self.recipe.class_weights
        strange = given.keys() - set(self.data.classes)
        if strange:
            raise DataError(f"class_weights names {', '.join(sorted(strange))}, which the data do not have.")
        return [given.get(name, 1.0) for name in self.data.classes] if given else None

    def _describe(self, network: Network, provenance: dict[str, Any]) -> ModelSpec:
        data = self.data
        return describe(network, self.recipe.variant, classes=data.classes, palette=data.palette, **provenance)

    def _figures(self, quality: Quality | None) -> dict[str, Any]:
        where = "held_back" if self.val is None else "val"
        figures = {f"{name}_{where}": value for name, value in (quality._asdict() if quality else {}).items()}
        return figures | {f"pictures_{where}": len(self._parted[1])}

    def _origin(self, provenance: dict[str, Any]) -> bytes:
        """All that the run starts from: a run from anything else is not continued."""
        started_from = [provenance, [sample.id for sample in self._parted[0]]]
        if self.teacher is not None:
            started_from.append(from_toml(self.teacher_spec) if self.teacher_spec else read_spec(self.teacher))
        return msgspec.json.encode(started_from)

    def _provenance(self) -> dict[str, Any]:
        figures = msgspec.to_builtins(self.recipe)
        earlier = [self._earlier] if self._earlier else []
        return {
            **figures.pop("card"),
            "pretrained": sha256(self.weights) if self.weights else None,
            "teacher": sha256(self.teacher) if self.teacher else None,
            "lists": list(self.lists),
            "pictures": len(self.data.samples),
            SEEN: pictures_seen((sample.image for sample in self._parted[0]), *earlier),
            "recipe": figures,
        }


def speaks() -> bool:
    """Whether this process is the one of all machines that trains `first`, and says what became of the run."""
    return is_first_here() and int(os.environ.get("NODE_RANK", "0")) == 0


def is_first_here() -> bool:
    """Whether this is the process of this machine that prepares what the others read: those have a number above 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _none(items: Iterable[Any], *label: Any) -> Iterable[Any]:
    """In place of what the machine's first process does."""
    return ()


def last_quality(folder: Path) -> Quality | None:
    """The figures of a run's last validation; None where it had none."""
    measured = [row for row in read_log(folder) if row["mean_iou"]]
    return Quality(float(measured[-1]["mean_iou"]), float(measured[-1]["pixel_accuracy"])) if measured else None
