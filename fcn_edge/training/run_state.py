"""What a killed run needs to go on as if nothing had happened, in one file that is never half-written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from fcn_edge.errors import DataError
from fcn_edge.training.recipe import Recipe

NAME = "last.pt"


@dataclass
class RunState:
    """Everything that changes while training; what the samples are follows from the recipe and the step."""

    step: int
    best: float
    model: dict[str, Any]
    optimizer: dict[str, Any]
    ema: dict[str, Any]


def save_state(folder: Path, state: RunState, recipe: Recipe) -> None:
    temporary = folder / f".{NAME}.part"
    torch.save({"recipe": msgspec.json.encode(recipe).decode(), **vars(state)}, temporary)
    os.replace(temporary, folder / NAME)


def load_state(folder: Path, recipe: Recipe) -> RunState | None:
    """The state to resume from, or None where the folder holds none.

    Raises DataError where the folder belongs to a run with other figures.
    """
    path = folder / NAME
    if not path.exists():
        return None
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if stored.pop("recipe") != msgspec.json.encode(recipe).decode():
        raise DataError(f"{path} belongs to a run with another recipe. Name another --out, or --force to start anew.")
    return RunState(**stored)
