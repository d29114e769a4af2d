"""Engines for tests: real ones of TensorRT-RTX, which builds without a GPU, and a stand-in for TensorRT's.

The stand-in is a plan's header as trtexec reads it (fcn_edge/engine/header.py) before bytes of no meaning: enough for
everything that happens before a library sees the file, and nothing that a library would take.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import tiny

from fcn_edge import __version__
from fcn_edge.engine import sidecar as papers
from fcn_edge.engine.key import Key, make_key
from fcn_edge.engine.machine import Gpu, Machine
from fcn_edge.engine.profiles import Options, Profile
from fcn_edge.engine.sidecar import Achieved, Sidecar
from fcn_edge.files import sha256

ORIN_NX = Machine(
    product="tensorrt",
    version="10.3.0",
    os="linux",
    arch="aarch64",
    gpu=Gpu("Orin", "8.7", 8, 16_405_700_608, "540.4.0", "12.6"),
    board="NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
    l4t="36.4.3",
)
RTX_CARD = Machine("tensorrt-rtx", "1.7.1.116", "linux", "x86_64", Gpu("a card", "8.9", 46, 12 << 30, "580.65", "13.0"))
PROFILES = (Profile((32, 32), (32, 32), (32, 32)),)
TARGETS = Options(targets=("8.6", "8.9"))


@lru_cache
def rtx_plan() -> bytes:
    """A plan of the tiny network for compute capability 8.6 and 8.9, as TensorRT-RTX builds it."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    with TemporaryDirectory() as folder:
        assert parser.parse(tiny.write_onnx(Path(folder) / "tiny.onnx").read_bytes())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 2
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.set_compute_capability(trt.ComputeCapability.SM89, 1)
    profile = builder.create_optimization_profile()
    profile.set_shape("frame", (1, 32, 32, 3), (1, 32, 32, 3), (1, 32, 32, 3))
    config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(network, config))


def tensorrt_plan(version: tuple[int, int, int, int] = (10, 3, 0, 30)) -> bytes:
    """The stand-in."""
    return b"ftrt" + bytes(20) + bytes(version) + bytes(1000)


def write(folder: Path, machine: Machine, name: str = "tiny", options: Options | None = None) -> tuple[Path, Sidecar]:
    """A plan in `folder` that was built on `machine`, and its sidecar."""
    onnx = tiny.write_onnx(folder / f"{name}.onnx")
    rtx = machine.product == "tensorrt-rtx"
    key = make_key(onnx, machine, PROFILES, options or (TARGETS if rtx else Options()))
    plan = folder / f"{name}.{key.digest()[:8]}.plan"
    plan.write_bytes(rtx_plan() if rtx else tensorrt_plan())
    sidecar = Sidecar(
        fcn_edge=__version__,
        spec=tiny.SPEC,
        source=str(onnx),
        rebuild=f"fcn-edge build {onnx.name} --backend {machine.product}",
        key=key,
        precision=Achieved(network={"float32": 3}, reason="not loaded yet"),
        built="2026-11-21T19:30:00Z",
        seconds=0.25,
        bytes=plan.stat().st_size,
        sha256=sha256(plan),
    )
    papers.write(plan, sidecar)
    return plan, sidecar


def changed(sidecar: Sidecar, **fields: object) -> Sidecar:
    """With other fields of the key."""
    key: Key = replace(sidecar.key, **fields)  # type: ignore[arg-type]
    return msgspec.structs.replace(sidecar, key=key)
