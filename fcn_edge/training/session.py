"""From lists of pictures to a checkpoint: checks everything that can be wrong before the first step.

Of the processes of one machine the first prepares what all of them read; only then are the others started.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import torch

from fcn_edge import models
from fcn_edge.data import DataSet, Sample, check, pictures_seen, unseen
from fcn_edge.errors import DataError, FcnEdgeError, ModelError, SinkError, SpecError, UsageError
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
from fcn_edge.training.qat import FakeInt8, Rounding, calibrated, check_fit, round_always, rounding
from fcn_edge.training.recipe import CARD_OF, CARD_SAYS, Recipe
from fcn_edge.training.run_state import MAKE_ROOM, load_state
from fcn_edge.training.run_state import NAME as STATE
from fcn_edge.training.samples import Views, hold_back, parts_of
from fcn_edge.training.teacher import probabilities

if TYPE_CHECKING:
    from fcn_edge.models.network import Network, Normalisation

SEEN = "pictures_seen"

log = logging.getLogger(__name__)

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
    int8: Path | None = None  # the file made from `weights` whose roundings are to be learnt with

    @property
    def steps(self) -> int:
        return self.recipe.last_step(len(self._parted[0]))

    def run(self, track: Track, force: bool = False) -> Generator[Progress, None, None]:
        """Train, yielding before the first step and after each (in the first process alone); leaves in `out` the last
        and the best checkpoint, VARIANT.safetensors and best.safetensors, and the model card.

        Closed on the way, it saves the state. Nothing in `out` is touched before all that can be refused was accepted.
        track: wraps what takes long before the first step, as `track(items, label, count)`.
        force: starts anew where `out` holds a run, or files of a run's names.
        Raises DataError that counts the wrong masks, each named in the log, and where `out` holds the run of another
        recipe; ModelError where weights or teacher do not fit the data's classes; SinkError where `out` cannot be
        written.
        """
        trained_on, held_out = self._parted
        self._check_teacher()
        self._check_folder(force)
        class_weights = self._class_weights()
        network, pretrained = self._network()
        where = self._rounding(network)
        if is_first_here():
            self._check(track)
        provenance = self._provenance()
        origin = hashlib.sha256(self._origin(provenance)).hexdigest()
        state = None if force else load_state(self.out, self.recipe, origin)
        spec = replace(self._describe(network, {**provenance, **self._told()}), thin=self._thin)
        views = Views(trained_on, self.recipe, spec.side_above, self._soft(track))
        if self.cache_features:
            views.features = self._features(network, views, track)
        fabric = connect(self.recipe, self.steps, self.devices, self.nodes)

        def validate(network: Network) -> Quality:
            # without what it has seen: held-back samples are no secret, they are only never trained on
            with self._candidate(network, replace(spec, provenance={})) as segmenter:
                if where is not None:
                    round_always(cast(Any, segmenter.backend)._network, where)
                figures = evaluate(segmenter, held_out)
            return Quality(figures.mean_iou, figures.scores.pixel_accuracy)

        def keep_best(network: Network, quality: Quality) -> None:
            save_checkpoint(self.out / "best.safetensors", network, replace(spec, quality=self._figures(quality)))

        with _telling_of_a_full_disk(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            run = train(
                network,
                pretrained,
                views,
                self.out,
                validate,
                keep_best,
                fabric,
                class_weights=class_weights,
                origin=origin,
                state=state,
                shipped=None if where is None else partial(FakeInt8, where=where),
            )
            del state  # the run lets it go once it is restored
            yield from run
            if fabric.is_global_zero:
                spec = replace(spec, quality=self._figures(last_quality(self.out)))
                checkpoint = self.out / f"{self.recipe.variant}.safetensors"
                save_checkpoint(checkpoint, network, spec)
                write_card(self.out, spec, checkpoint)

    @contextmanager
    def _candidate(self, network: Network, spec: ModelSpec) -> Iterator[Segmenter]:
        """The network as who runs it finds it: from a file, a folder down, where it is no run's checkpoint."""
        path = self.out / "candidate" / f"{self.recipe.variant}.safetensors"
        path.parent.mkdir(exist_ok=True)
        try:
            save_checkpoint(path, network, spec)
            with Segmenter(str(path), backend="torch", precision="fp32") as segmenter:
                yield segmenter
        finally:
            shutil.rmtree(path.parent, ignore_errors=True)

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

    @cached_property
    def _taught_by(self) -> ModelSpec | None:
        """What the teacher says of itself, or is said of it."""
        if self.teacher is None or self.teacher_spec is not None:
            return from_toml(self.teacher_spec) if self.teacher_spec else None
        try:
            return read_spec(self.teacher)
        except SpecError as error:
            raise SpecError(str(error).replace("--spec FILE", "--teacher-spec FILE")) from error

    @cached_property
    def _calibrated(self) -> ModelSpec | None:
        """What the int8 file says of itself."""
        return calibrated(self.int8) if self.int8 else None

    @cached_property
    def _card(self) -> dict[str, str]:
        """What the recipe's [card] says, where it speaks of this run."""
        card, names = self.recipe.card, self._names
        other = [
            f"{key} {card[key]} there, {names[key]} here" for key in CARD_OF if card.get(key, names[key]) != names[key]
        ]
        if other and speaks():
            log.warning("the recipe's [card] and `thin` speak of another run and are left out: %s.", "; ".join(other))
        return {} if other else {key: value for key, value in card.items() if key in CARD_SAYS}

    def _check(self, track: Track) -> None:
        trained_on, held_out = self._parted
        if self.val is not None and self.val.classes != self.data.classes:
            raise DataError("--data and --val speak of different classes. Give both the same classes.txt.")
        samples = self.data.samples + (self.val.samples if self.val else [])
        check(samples, len(self.data.classes), lambda items: track(items, "Checking masks", len(samples)))
        if len(trained_on) < self.recipe.batch:
            raise DataError(
                f"{len(trained_on)} pictures to train on, a batch of this recipe has {self.recipe.batch}. "
                "Add pictures, or set a smaller `batch` in a recipe of your own: --recipe FILE."
            )
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
            raise FcnEdgeError(
                f"--teacher {self.teacher} would teach nothing: the recipe has soft_weight = 0. "
                "Set soft_weight in it (recipes/edge.toml has 1.0), or leave --teacher out."
            )

        teacher = self._taught_by
        if teacher is not None and teacher.classes != self.data.classes:
            raise ModelError(
                f"{self.teacher} does not know the data's classes: {len(teacher.classes)} are its own, "
                f"{len(self.data.classes)} the data's, or their order differs. Take another teacher."
            )

    def _check_folder(self, force: bool) -> None:
        there = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            reason = "is not writable" if there.is_dir() else "is a file"
            raise SinkError(f"--out {self.out} cannot be a folder: {there} {reason}. Name another.")
        written = [f"{self.recipe.variant}.safetensors", "best.safetensors", "log.csv", "tensorboard", CARD]
        strange = [name for name in written if (self.out / name).exists()]
        if strange and not force and not (self.out / STATE).exists():
            raise SinkError(
                f"{self.out} has {', '.join(strange)} and no state of a run to go on with. "
                "Name another --out, or --force to overwrite."
            )

    def _network(self) -> tuple[Network, set[str]]:
        recipe, classes = self.recipe, len(self.data.classes)
        torch.manual_seed(recipe.seed)
        network = models.build(recipe.variant, classes, recipe.padding)
        side = recipe.crop
        if side and self._describe(network, {}).side_above(side) != side:
            other = self._describe(network, {}).side_above(side)
            raise DataError(f"{recipe.variant} takes no crops of {side} pixels. Set crop = {other} in the recipe.")
        for prefix in recipe.frozen:
            if not any(name.startswith(prefix) for name, _ in network.named_parameters()):
                parts = prefix.strip(".").count(".") + 1
                there = {".".join(name.split(".")[:parts]) + "." for name, _ in network.named_parameters()}
                raise DataError(f"frozen names {prefix!r}; the parameters are in {', '.join(sorted(there))}")
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

    def _rounding(self, network: Network) -> Rounding | None:
        """Where the int8 file rounds; all that does not fit it is refused."""
        if self.int8 is None or self._calibrated is None:
            return None
        if self.weights is None:
            raise UsageError(f"--qat {self.int8} wants the weights that it was made from: --weights CHECKPOINT.")
        if self.cache_features:
            raise UsageError("--qat rounds the trunk's values too, so nothing of it is kept: drop --cache-features.")
        check_fit(self.int8, self._calibrated, self.recipe.variant, self.recipe.padding, self.data.classes)
        return rounding(self.int8, network, self._calibrated)

    def _soft(self, track: Track) -> dict[Path, Path] | None:
        if self.teacher is None:
            return None
        with Segmenter(str(self.teacher), spec=self.teacher_spec) as teacher, _telling_of_a_full_disk(cache_folder()):
            pictures = [sample.image for sample in self.data.samples]
            return probabilities(teacher, pictures, cache_folder(), track if is_first_here() else _none)

    def _features(self, network: Network, views: Views, track: Track) -> dict[tuple[Path, int], Path]:
        if self.recipe.frozen_trunk_steps < self.steps:
            raise UsageError("features can be kept of a trunk that does not learn: pass --freeze-trunk as well.")
        low = precision() == "bf16-mixed"
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        with _telling_of_a_full_disk(cache_folder()):
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
        for figure, names in (("class_weights", given), ("thin", self._thin)):
            strange = [name for name in names if name not in self.data.classes]
            if strange:
                raise DataError(
                    f"{figure} names {', '.join(strange)}, which the data do not have. "
                    f"Their classes: {', '.join(self.data.classes)}."
                )
        return [given.get(name, 1.0) for name in self.data.classes] if given else None

    @property
    def _thin(self) -> tuple[str, ...]:
        return () if self.recipe.card and not self._card else self.recipe.thin

    def _describe(self, network: Network, provenance: dict[str, Any]) -> ModelSpec:
        data = self.data
        return describe(network, self.recipe.variant, classes=data.classes, palette=data.palette, **provenance)

    def _figures(self, quality: Quality | None) -> dict[str, Any]:
        where = ("held_back" if self.val is None else "val") + ("_int8" if self.int8 else "")
        figures = {f"{name}_{where}": value for name, value in (quality._asdict() if quality else {}).items()}
        return figures | {f"pictures_{where}": len(self._parted[1])}

    def _origin(self, provenance: dict[str, Any]) -> bytes:
        """All that the run starts from: a run from anything else is not continued."""
        started_from = [provenance, [sample.id for sample in self._parted[0]]]
        if self._taught_by is not None:
            started_from.append(self._taught_by)
        return msgspec.json.encode(started_from)

    def _provenance(self) -> dict[str, Any]:
        figures = msgspec.to_builtins(self.recipe)
        figures.pop("card")
        earlier = [spec for spec in (self._earlier, self._calibrated) if spec]
        return {
            **self._card,
            "pretrained": sha256(self.weights) if self.weights else None,
            "teacher": sha256(self.teacher) if self.teacher else None,
            "lists": list(self.lists),
            "pictures": len(self._parted[0]),
            SEEN: pictures_seen((sample.image for sample in self._parted[0]), *earlier),
            "recipe": figures,
            **({"int8_aware": sha256(self.int8)} if self.int8 else {}),
        }

    @property
    def _names(self) -> dict[str, str]:
        """What the run starts from, as [card] names it."""
        return {
            "lists": " ".join(self.lists),
            "weights": self.weights.name if self.weights else "none",
            "teacher": self.teacher.name if self.teacher else "none",
        }

    def _told(self) -> dict[str, Any]:
        """What the provenance says beside what decides the run: a file that is renamed is the same."""
        parts = (("pretrained weights", self.weights, self._earlier), ("teacher", self.teacher, self._taught_by))
        seen = [
            f"{path.name}, its {part}: {spec.provenance.get('seen', 'not stated') if spec else 'not stated'}"
            for part, path, spec in parts
            if path is not None
        ]
        names = {"pretrained_file": self.weights, "teacher_file": self.teacher, "int8_aware_file": self.int8}
        return {
            "seen": self._card.get("seen") or "; ".join(seen) or "nothing but the pictures that it was trained on",
            **{key: path.name for key, path in names.items() if path is not None},
        }


@contextmanager
def _telling_of_a_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise SinkError(f"{error.filename or folder} cannot be written: {reason}. {MAKE_ROOM}") from error


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
