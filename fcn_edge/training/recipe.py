"""A training recipe: every figure that decides a run, in one TOML file.

A figure that a recipe leaves out has the value given here. A name that does not exist is refused rather than
ignored: a run of a day with `momentun = 0.99` would be one with the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from math import ceil, isfinite
from pathlib import Path
from typing import Literal

import msgspec

from fcn_edge.errors import DataError
from fcn_edge.resources import folder
from fcn_edge.spec import Padding

SOFT_STRIDE = 8  # a teacher's probabilities are compared on every eighth pixel: what is kept of them is no finer

Loss = Literal["softmax", "binary"]

CARD_OF = ("lists", "weights", "teacher")  # of [card]: the run that it speaks of, by the names that a run tells
CARD_SAYS = ("data", "seen", "license")

# What a figure may be, how that is told, and the figures that it holds for; None where a figure is left out.
RANGES: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    (
        "at least 1",
        lambda value: value >= 1,
        ("steps", "batch", "accumulate", "crop", "longer_side", "views", "loss_stride", "validate_every"),
    ),
    ("at least 2", lambda value: value >= 2, ("hold_back",)),
    ("above 0", lambda value: value > 0, ("epochs", "rate")),
    ("at least 0", lambda value: value >= 0, ("frozen_trunk_steps", "warmup", "power", "weight_decay", "clip", "seed")),
    ("at least 0", lambda value: value >= 0, ("bias_rate", "bias_decay", "pretrained_rate")),
    ("at least 0", lambda value: value >= 0, ("class_weights", "aux_weight", "soft_weight")),
    ("from 0 to 1", lambda value: 0 <= value <= 1, ("flip", "color")),
    ("at least 0 and below 1", lambda value: 0 <= value < 1, ("momentum", "ema")),
)


@dataclass(frozen=True)
class Recipe:
    """The figures of a run; recipes/*.toml gives the reason beside each.

    Its length is `steps` or `epochs`. Training pictures are square crops of side `crop` from pictures scaled to
    `longer_side`, or, without `crop`, whole pictures; these differ in size, so each goes through the network alone.
    """

    variant: str
    _: KW_ONLY
    batch: int  # pictures a step, over all devices
    rate: float  # of parameters that start from nothing
    steps: int | None = None
    epochs: float | None = None  # passes over the pictures
    serves: tuple[str, ...] = ()  # variants beside `variant` that take this recipe where none is named
    padding: Padding = "same"
    crop: int | None = None  # pixels
    longer_side: tuple[int, int] | None = None  # pixels, drawn log-uniformly; None: pictures keep their size
    accumulate: int = 1  # parts in which a batch of crops is computed: more need less memory, the result is the same
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9  # of sgd
    bias_rate: float = 1.0  # of biases, times the rate of the weights beside them
    bias_decay: float = 1.0  # of biases, times `weight_decay`
    pretrained_rate: float = 0.1  # of parameters that came with the weights, times `rate`
    frozen_trunk_steps: int = 0  # the first steps train the heads alone
    frozen: tuple[str, ...] = ()  # prefixes of parameters that stay as they came
    views: int = 1  # crops of each picture that are kept with --cache-features, and taken in turn
    warmup: int = 100  # steps over which the rate rises
    power: float = 0.9  # of the polynomial decay; 0: a fixed rate
    weight_decay: float = 1e-4
    clip: float = 5.0  # norm of the gradients: heads that start at zero meet a few wild batches; 0: as they come
    ema: float = 0.999  # decay of the averaged weights, which are what is saved; 0: the weights themselves
    flip: float = 0.5
    color: float = 0.3  # brightness, contrast and saturation vary by this fraction
    loss: Loss | None = None  # None: the variant's own
    class_weights: dict[str, float] = field(default_factory=dict)  # of pixels of a class; 1 where it is not named
    aux_weight: float = 0.5  # of an auxiliary head's loss, where the variant has one
    soft_weight: float = 0.0  # of the teacher's probabilities beside the labels
    loss_stride: int = 1  # labels are compared on every n-th pixel
    hold_back: int = 10  # every n-th sample is never trained on; candidates are chosen on these
    validate_every: int | None = None  # steps; None: every epoch
    seed: int = 0
    thin: tuple[str, ...] = ()  # classes of which the data has few pictures; the model's spec says so
    card: dict[str, str] = field(default_factory=dict)  # what a run cannot know of itself, and of which run it is true

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("it names either `steps` or `epochs`")
        for told, fits, names in RANGES:
            for name in names:
                if not all(isfinite(value) and fits(value) for value in _numbers(getattr(self, name))):
                    raise ValueError(f"{name} = {getattr(self, name)}, and it has to be {told}")
        if self.longer_side and self.longer_side[0] > self.longer_side[1]:
            raise ValueError(
                f"longer_side = {list(self.longer_side)}, and it has to be the smaller one, then the larger"
            )
        if self.crop is not None and self.batch % self.accumulate:
            raise ValueError(f"a batch of {self.batch} cannot be computed in {self.accumulate} equal parts")
        if self.soft_weight and SOFT_STRIDE % self.loss_stride:
            raise ValueError(f"loss_stride = {self.loss_stride} does not divide {SOFT_STRIDE}, as a teacher needs")
        strange = self.card.keys() - {*CARD_OF, *CARD_SAYS}
        if strange:
            raise ValueError(
                f"[card] has no entry {', '.join(sorted(strange))}; there are {', '.join(CARD_OF + CARD_SAYS)}"
            )

    @property
    def parts(self) -> int:
        """In how many parts a batch is computed."""
        return self.accumulate if self.crop else self.batch

    def last_step(self, pictures: int) -> int:
        """The number of steps of a run on that many pictures."""
        return self.steps if self.steps is not None else ceil((self.epochs or 0) * pictures / self.batch)

    def in_steps(self, steps: int, own: int) -> Recipe:
        """The same with another number of steps than its `own`; warm-up and frozen trunk take the same share."""
        frozen, warmup = (figure * steps // own for figure in (self.frozen_trunk_steps, self.warmup))
        return replace(self, steps=steps, epochs=None, frozen_trunk_steps=frozen, warmup=warmup)

    def validates_at(self, step: int, pictures: int) -> bool:
        """Whether the figures are due once `step` steps are done."""
        if self.validate_every is not None:
            return step % self.validate_every == 0
        return step * self.batch // pictures > (step - 1) * self.batch // pictures


def _numbers(figure: float | tuple[float, ...] | dict[str, float] | None) -> Iterable[float]:
    if isinstance(figure, dict):
        return figure.values()
    if figure is None or isinstance(figure, tuple):
        return figure or ()
    return (figure,)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file, or the bundled one of that name. Raises DataError that names the figure at fault."""
    own = folder("recipes") / f"{path}.toml"
    path = own if own.is_file() and not path.exists() else path
    see = "See docs/train.md and recipes/fcn8s-lite.toml."
    try:
        recipe = msgspec.toml.decode(path.read_bytes(), type=Recipe)
        names = msgspec.toml.decode(path.read_bytes()).keys()
    except OSError as error:
        reason = (
            "there is no such recipe" if isinstance(error, FileNotFoundError) else f"not readable: {error.strerror}"
        )
        bundled = ", ".join(sorted(own.stem for own in folder("recipes").glob("*.toml")))
        raise DataError(f"{path}: {reason}. Those of recipes/ are {bundled}.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise DataError(f"{path}: not a training recipe: {error}. {see}") from error
    strange = names - {figure.name for figure in fields(Recipe)}
    if strange:
        raise DataError(f"{path}: a recipe has no figure named {', '.join(sorted(strange))}. {see}")
    return recipe


def find_recipe(variant: str) -> Path:
    """The bundled recipe of a variant: that of its name, or the first that names it. Raises DataError."""
    own = folder("recipes") / f"{variant}.toml"
    if own.is_file():
        return own
    bundled = sorted(folder("recipes").glob("*.toml"))
    serving = [path for path in bundled if variant in _served(read_recipe(path))]
    if not serving:
        names = ", ".join(path.stem for path in bundled)
        raise DataError(f"no bundled recipe is for {variant}. Name one with --recipe FILE; bundled: {names}.")
    return serving[0]


def _served(recipe: Recipe) -> tuple[str, ...]:
    return recipe.variant, *recipe.serves
