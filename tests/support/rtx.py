"""TensorRT-RTX's parser and builder, which need no GPU: what they refuse, no board will run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

Shape = Sequence[int]


def build(file: Path, smallest: Shape, usual: Shape, largest: Shape, name: str = "frame") -> int:
    """Bytes of the engine of an ONNX file for inputs from `smallest` to `largest`.

    Skips the test where the wheel is missing; fails it with the parser's own words where the file is refused.
    """
    trt, builder, network, _ = _parse(file)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1  # has to be set before the first is named
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape(name, tuple(smallest), tuple(usual), tuple(largest))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None, f"TensorRT-RTX does not build {file}"
    return engine.nbytes


def output_shape(file: Path) -> tuple[int, ...]:
    """The shape that the parser works out for the first output of a file with a fixed input."""
    _, _, network, _ = _parse(file)
    return tuple(network.get_output(0).shape)


def _parse(file: Path) -> tuple[Any, Any, Any, Any]:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(file.read_bytes())
    assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    return trt, builder, network, parser  # the parser owns the network's weights: it has to outlive the build
