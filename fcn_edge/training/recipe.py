"""A training recipe: every figure that decides a run, in one TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fcn_edge.errors import DataError


@dataclass(frozen=True)
class Recipe:
    """The figures of a run; recipes/*.toml gives the reason beside each."""

    variant: str
    steps: int
    batch: int
    crop: int  # side of the square training crops, pixels
    longer_side: tuple[int, int]  # pictures are scaled so that their longer side falls in this range, log-uniformly
    rate: float  # of parameters that start from nothing
    pretrained_rate: float = 0.1  # of those that came with the weights, as a fraction of `rate`
    frozen_trunk_steps: int = 0  # the first steps train the heads alone
    frozen: tuple[str, ...] = ()  # prefixes of parameters that stay as they came
    warmup: int = 100  # steps over which the rate rises
    power: float = 0.9  # of the polynomial decay
    weight_decay: float = 1e-4
    ema: float = 0.999
    flip: float = 0.5
    color: float = 0.3  # brightness, contrast and saturation vary by this fraction
    soft_weight: float = 0.0  # of the teacher's probabilities beside the labels
    loss_stride: int = 1  # labels are compared on every n-th pixel of a crop
    hold_back: int = 10  # every n-th sample is never trained on; candidates are chosen on these
    validate_every: int = 1000  # steps
    seed: int = 0
    thin: tuple[str, ...] = ()  # classes of which the data has few pictures; the model's spec says so
    card: dict[str, str] = field(default_factory=dict)  # what the model's provenance says: data, seen, license


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises DataError that names the figure which is wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Recipe)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise DataError(f"{path}: not a training recipe: {error}. See recipes/fcn8s-lite.toml.") from error
