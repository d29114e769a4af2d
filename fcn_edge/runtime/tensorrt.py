"""TensorRT and TensorRT-RTX: engines on NVIDIA GPUs, built from ONNX files where one is lacking."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from fcn_edge.engine import versions
from fcn_edge.errors import BackendError
from fcn_edge.spec import ModelSpec


class _Engine:
    """What the two products share."""

    name: ClassVar[str]
    library: ClassVar[str]
    distribution: ClassVar[str]
    install: ClassVar[str]
    suffixes = (".plan", ".onnx")
    compiles = True

    @classmethod
    def precisions(cls) -> list[str]:
        """What a float file can be computed in here: its own types. Raises BackendError as opening does."""
        versions.load(cls.name)
        return ["fp32", "fp16", "int8"]

    @classmethod
    def lacking(cls, path: Path, spec: ModelSpec) -> str | None:
        """Why `auto` does not take it for the file: a line, "" where nobody need know; None where it does."""
        return None if path.suffix == ".plan" else ""

    def __init__(self, path: Path, spec: ModelSpec, precision: str | None = None, threads: int | None = None) -> None:
        raise BackendError(f"{self.name} needs an NVIDIA GPU and its driver. Take --backend auto.")

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError


class TensorRt(_Engine):
    """The backend protocol over TensorRT."""

    name = "tensorrt"
    library = distribution = "tensorrt"
    install = "pip install tensorrt"


class TensorRtRtx(_Engine):
    """The backend protocol over TensorRT-RTX."""

    name = "tensorrt-rtx"
    library = "tensorrt_rtx"
    distribution = "tensorrt-rtx"
    install = "pip install tensorrt-rtx"
