"""An ONNX file to a plan and its sidecar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fcn_edge.engine.profiles import Options, Profile
from fcn_edge.spec import ModelSpec

if TYPE_CHECKING:
    from fcn_edge.engine.sidecar import Sidecar  # type: ignore

Progress = Callable[[float, str], None]  # a share from 0 to 1, and the phase


@dataclass(frozen=True)
class Built:
    """A plan that is there."""

    path: Path
    sidecar: Sidecar
    cached: bool  # it was there already
    reason: str | None  # why it was built although there was one: the difference


def build(
    onnx: Path,
    spec: ModelSpec,
    product: str,
    profiles: Sequence[Profile],
    out: Path,
    options: Options = Options(),  # noqa: B008
    progress: Progress | None = None,
    force: bool = False,
) -> Built:
    """The engine of an ONNX file, from the folder `out` where it lies there already, else built into it.

    KeyboardInterrupt during the build cancels it within a step; nothing is left behind.
    Raises BackendError without TensorRT, ModelError for a file that is refused, UsageError for profiles that the
    spec's sides do not allow.
    """
    raise NotImplementedError
