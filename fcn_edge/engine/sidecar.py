"""What an engine says of itself: a JSON file beside the plan, named as the plan with `.json` after it.

The plan stays what TensorRT wrote, so that trtexec and Triton load it. A plan that does not fit its TensorRT or GPU
ends in a message that says little, or in a crash of the process, so whatever can be known is held against this machine
before the library sees a byte of it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from fcn_edge.engine.key import Key
from fcn_edge.engine.machine import Machine
from fcn_edge.engine.profiles import Profile
from fcn_edge.spec import ModelSpec

SCHEMA = 1


class Achieved(msgspec.Struct, frozen=True, kw_only=True):
    """Types that were counted: on the network that was parsed, and on the engine that came of it."""

    network: dict[str, int]  # layers of the parsed network by the type of their first output: {"float16": 61}
    achieved: dict[str, int] | None = None  # layers of the engine by what the inspector says of them
    reason: str | None = None  # why `achieved` is null


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a plan that is not in it. Field by field in docs/tensorrt.md."""

    schema: int = SCHEMA
    fcn_edge: str  # version that built it
    spec: ModelSpec
    source: str  # the ONNX file, as the build was told
    rebuild: str  # the command line that builds it again
    key: Key
    precision: Achieved
    built: str  # UTC: "2026-11-21T19:30:00Z"
    seconds: float  # that the build took
    bytes: int  # of the plan
    sha256: str  # of the plan
    activation_bytes: int | None = None  # device memory of an execution context; null until the engine was loaded

    @property
    def profiles(self) -> tuple[Profile, ...]:
        return self.key.profiles


def sidecar_path(plan: Path) -> Path:
    """`model.plan.json` for `model.plan`."""
    return plan.with_name(f"{plan.name}.json")


def read(plan: Path) -> Sidecar:
    """The sidecar of `plan`. Raises ModelError where it is missing, no sidecar, or of a newer schema."""
    raise NotImplementedError


def write(plan: Path, sidecar: Sidecar) -> None:
    """Write the sidecar of `plan`, all at once. Raises OSError."""
    raise NotImplementedError


def check(sidecar: Sidecar, machine: Machine, plan: Path) -> None:
    """Raises ModelError, on one line with the command that rebuilds, unless `plan` can be loaded on `machine`.

    Looked at in this order: the plan's own header (is it a plan, whole, of which product and version), whether the
    sidecar is this plan's (size, SHA-256), product, version, system, GPU or targets, and a Jetson's board and L4T.
    """
    raise NotImplementedError
