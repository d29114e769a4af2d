"""Which file a bundled name opens: the float one, or its int8 form where that is the faster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fcn_edge.errors import BackendError
from fcn_edge.runtime import backend_class, fastest_form, host, installed
from fcn_edge.runtime.files import bundled, int8_form, read_spec
from fcn_edge.segmenter import Segmenter

NAMES = list(bundled())


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2", "avx512_vnni"}))


@pytest.fixture
def no_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2"}))


def int8_of(name: str) -> Path:
    form = int8_form(bundled()[name])
    assert form is not None
    return form


@pytest.mark.parametrize("name", NAMES)
def test_every_bundled_model_has_an_int8_form_of_its_own_classes_and_sizes(name):
    float32, int8 = read_spec(bundled()[name]), read_spec(int8_of(name))
    assert (int8.precision, int8.remainder) == ("int8", "fp32")
    assert (int8.name, int8.classes, int8.palette, int8.size, int8.input, int8.output, int8.sides) == (
        float32.name, float32.classes, float32.palette, float32.size, float32.input, float32.output, float32.sides
    )  # fmt: skip


@pytest.mark.usefixtures("vnni")
def test_a_name_opens_the_int8_form_where_that_is_faster():
    segmenter = Segmenter(backend="openvino")
    assert (segmenter.path, segmenter.backend.precision) == (int8_of("fcn8s-lite"), "int8")


@pytest.mark.usefixtures("no_vnni")
def test_a_name_opens_the_float_file_where_int8_was_not_found_faster():
    assert fastest_form(bundled()["fcn8s-lite"], "openvino", None) == bundled()["fcn8s-lite"]


@pytest.mark.usefixtures("vnni")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_float_precision_asks_for_the_float_file(precision):
    assert fastest_form(bundled()["fcn8s-lite"], "openvino", precision) == bundled()["fcn8s-lite"]


@pytest.mark.usefixtures("no_vnni")
def test_openvino_is_not_given_eight_bit_weights_where_its_sums_overflow():
    file = int8_of("fcn8s-lite-small")
    with pytest.raises(BackendError, match=r"no VNNI.* Export it with --weight-bits 7"):
        Segmenter(file, backend="openvino")
    with Segmenter(file) as chosen:
        assert chosen.backend.name == "onnxruntime"
        assert "no VNNI" in chosen.choice
    spec = read_spec(file)
    seven = replace(spec, provenance={"int8": {**spec.provenance["int8"], "weight_bits": 7}})
    with Segmenter(file, backend="openvino", spec=seven) as opened:
        assert opened.backend.precision == "int8"


@pytest.mark.usefixtures("no_vnni")
def test_int8_can_be_asked_for():
    assert fastest_form(bundled()["fcn8s-lite"], "onnxruntime", "int8") == int8_of("fcn8s-lite")


@pytest.mark.usefixtures("vnni")
def test_a_file_named_by_its_path_is_opened_as_it_is():
    assert Segmenter(bundled()["fcn8s-lite"], backend="onnxruntime").path == bundled()["fcn8s-lite"]


@pytest.mark.usefixtures("vnni")
def test_a_model_that_has_no_int8_form_stays(tmp_path):
    file = tmp_path / "own.onnx"
    file.write_bytes(b"")
    assert fastest_form(file, "auto", None) == file


@pytest.mark.usefixtures("vnni")
@pytest.mark.skipif("tensorrt-rtx" not in installed(), reason="TensorRT-RTX is not installed")
def test_an_engine_of_the_float_file_goes_before_its_int8_form(monkeypatch):
    kind = backend_class("tensorrt-rtx")
    float32 = bundled()["fcn8s-lite"]
    monkeypatch.setattr(kind, "lacking", lambda path, installed, shapes: None)
    assert fastest_form(float32, "auto", None) == float32
    monkeypatch.setattr(kind, "lacking", lambda path, installed, shapes: "no engine of it")
    assert fastest_form(float32, "auto", None) == int8_of("fcn8s-lite")


def test_pytorch_runs_the_checkpoint_beside_a_bundled_model():
    assert fastest_form(bundled()["fcn8s-lite"], "torch", None) == bundled()["fcn8s-lite"].with_suffix(".safetensors")
