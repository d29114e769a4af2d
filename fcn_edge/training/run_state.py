"""What a killed run needs to go on as if nothing had happened, in one file that is never half-written."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from fcn_edge.errors import DataError, SinkError
from fcn_edge.files import replacing
from fcn_edge.training.recipe import Recipe

NAME = "last.pt"
# What torch, its pickles and the lines after them raise on a file that was cut off, or holds something else.
DAMAGED = (AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError)
DAMAGED += (msgspec.MsgspecError, pickle.UnpicklingError)
MAKE_ROOM = "What was saved before is whole: make room, and the same command goes on from there."
MEND = "Name another --out, or --force to start anew."


@dataclass
class RunState:
    """Everything that changes while training; what the samples are follows from the recipe and the step."""

    step: int
    best: float
    model: dict[str, Any]
    optimizer: dict[str, Any]
    ema: dict[str, Any]  # empty where no weights are averaged
    sums: dict[str, float] = field(default_factory=dict)  # of the losses since the log's last line
    count: int = 0  # of the steps in them


def save_state(folder: Path, state: RunState, recipe: Recipe, origin: str) -> None:
    """origin: a hash of all that the run starts from beside its recipe. Raises SinkError where it cannot be written."""
    path = folder / NAME
    try:
        with replacing(path) as temporary:
            torch.save({"recipe": msgspec.json.encode(recipe).decode(), "origin": origin, **vars(state)}, temporary)
    except (OSError, RuntimeError) as error:  # torch's own writer says of a full disk that an assertion failed
        free = shutil.disk_usage(folder).free / 1e6
        reason = error.strerror if isinstance(error, OSError) else f"{free:.0f} MB are free there"
        raise SinkError(f"{path} cannot be written: {reason}. {MAKE_ROOM}") from error


def load_state(folder: Path, recipe: Recipe, origin: str) -> RunState | None:
    """The state to resume from, or None where the folder holds none.

    Raises DataError where the folder belongs to a run with other figures, pictures or weights, or it is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        theirs = msgspec.json.decode(stored.pop("recipe"), type=Recipe)
        begun_from = stored.pop("origin")
        state = RunState(**stored)
    except DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"{path}: {reason or 'not the state of a run, or damaged'}. {MEND}") from error
    if theirs != recipe:
        ours, names = vars(recipe), vars(theirs)
        other = "; ".join(
            f"{name} = {names[name]} there, {ours[name]} here" for name in ours if ours[name] != names[name]
        )
        raise DataError(f"{path} belongs to a run with another recipe: {other}. {MEND}")
    if begun_from != origin:
        raise DataError(f"{path} belongs to a run with other pictures, pretrained weights or teacher. {MEND}")
    return state
