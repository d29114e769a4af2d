"""One table of layers whatever runs the network: real runtimes, and a stand-in for the one that needs a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import plans
import pytest
import standin
import tiny

from fcn_edge import Segmenter
from fcn_edge.bench.layers import layers
from fcn_edge.bench.schema import Layer
from fcn_edge.engine import sidecar
from fcn_edge.engine.profiles import Profile
from fcn_edge.errors import BackendError
from fcn_edge.runtime import onnxruntime
from fcn_edge.runtime.files import bundled

SMALL = bundled()["fcn8s-lite-small"]
FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
CONVOLUTION = {"openvino": "Convolution", "onnxruntime": "Conv", "torch": "conv2d"}


def of(backend: str, precision: str | None = "fp32", path: Path | str = SMALL) -> list[Layer]:
    with Segmenter(path, backend, precision, size=64, threads=1) as segmenter:
        return layers(segmenter, FRAME, runs=3)


@pytest.mark.parametrize("backend", CONVOLUTION)
def test_every_runtime_tells_its_layers_the_costliest_first(backend: str) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    found = of(backend, path=SMALL.with_suffix(".safetensors") if backend == "torch" else SMALL)
    assert [layer.seconds for layer in found] == sorted((layer.seconds for layer in found), reverse=True)
    assert sum(layer.share for layer in found) == pytest.approx(1)
    assert len({layer.name for layer in found}) == len(found)
    wide = [layer for layer in found if CONVOLUTION[backend] in layer.op]
    assert 40 <= len(wide) <= 66  # the file has 66, of which some runtimes fuse a pair


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_layers_tell_their_precision_and_the_shape_that_they_give(backend: str) -> None:
    found = of(backend)
    assert {layer.precision for layer in found if CONVOLUTION[backend] in layer.op} == {"fp32"}
    with Segmenter(SMALL, backend, "fp32", size=64) as segmenter:
        scores = segmenter(FRAME).scores
    assert scores is not None
    assert [1, *scores.shape] in [layer.output for layer in found]


def test_int8_is_told_where_it_is_computed() -> None:
    assert "int8" in {layer.precision for layer in of("openvino", "int8", "fcn8s-lite-small")}


def test_what_runs_on_is_neither_slowed_nor_changed() -> None:
    with Segmenter(SMALL, "onnxruntime", size=64) as segmenter:
        before = segmenter(FRAME).labels
        layers(segmenter, FRAME, runs=1)
        assert np.array_equal(segmenter(FRAME).labels, before)


def test_the_mean_is_over_all_runs_but_the_first() -> None:
    def event(name: str, microseconds: int) -> dict[str, Any]:
        told = {"op_name": "Conv", "output_type_shape": [{"float": [1, 2]}]}
        return {"name": f"{name}_kernel_time", "dur": microseconds, "args": told}

    runs = [event("a", 900), event("b", 900), event("a", 10), event("b", 20), event("a", 30), event("b", 20)]
    found = onnxruntime._layers(runs, 2)
    assert [(layer.name, layer.seconds) for layer in found] == [
        ("a", pytest.approx(20e-6)),
        ("b", pytest.approx(20e-6)),
    ]


def test_a_runtime_that_does_not_tell_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with Segmenter(SMALL, "onnxruntime", size=64) as segmenter:
        monkeypatch.delattr(onnxruntime.OnnxRuntime, "profile")
        with pytest.raises(BackendError, match=r"^onnxruntime does not tell what its layers take\.$"):
            layers(segmenter, FRAME)


class Profiled(standin.Context):
    """A context that tells a profiler of two layers in every run, the first of which is slow."""

    profiler: Any = None

    def execute_async_v3(self, stream: int) -> bool:
        if self.profiler is not None:
            self.profiler.report_layer_time("scale", 0.25)
            self.profiler.report_layer_time("conv", 1.0 if self.calls else 100.0)
        return super().execute_async_v3(stream)


KERNELS = {
    "Layers": [
        {
            "Name": "conv", "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3, 32, 32], "Format/Datatype": "Row major linear FP16"}],
            "Outputs": [{"Name": "scores", "Dimensions": [1, 4, 32, 32], "Format/Datatype": "Row major linear FP32"}],
        },
        "scale",  # names alone, as an engine tells that was built by others
    ]
}  # fmt: skip


class Base:
    """What TensorRT gives to derive a profiler from."""


@pytest.mark.debian(**{"g++": "g++"})
def test_an_engines_layers_are_those_that_its_profiler_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    square = Profile((32, 32), (32, 32), (32, 32))
    trt = standin.StandIn([square]).install(monkeypatch, plans.ORIN_NX)
    monkeypatch.setattr(trt.api, "IProfiler", Base, raising=False)
    monkeypatch.setattr(trt.api, "LayerInformationFormat", SimpleNamespace(JSON="json"), raising=False)
    monkeypatch.setattr(trt, "tensor_type", lambda tensor: tensor["Format/Datatype"], raising=False)
    inspector = SimpleNamespace(get_engine_information=lambda form: json.dumps(KERNELS))
    monkeypatch.setattr(standin.Engine, "create_engine_inspector", lambda engine: inspector, raising=False)
    path, papers = plans.write(tmp_path, plans.ORIN_NX)
    sidecar.write(path, msgspec.structs.replace(plans.changed(papers, profiles=(square,)), spec=tiny.SPEC))
    frame = tiny.random_frames(32, 32, 3)
    with Segmenter(path, "tensorrt") as segmenter:
        before = segmenter(frame).labels

        def make(engine: standin.Engine) -> standin.Context:
            trt.contexts.append(Profiled(engine))
            return trt.contexts[-1]

        monkeypatch.setattr(trt, "make_context", make)
        found = layers(segmenter, frame, runs=4)
        assert trt.contexts[-1].calls == 5
        assert np.array_equal(segmenter(frame).labels, before)
    assert [(layer.name, layer.op, layer.precision, layer.output) for layer in found] == [
        ("conv", "CaskConvolution", "fp16", [1, 4, 32, 32]),
        ("scale", "", None, None),
    ]
    assert [layer.seconds for layer in found] == pytest.approx([1e-3, 0.25e-3])
    assert [layer.share for layer in found] == pytest.approx([0.8, 0.2])
