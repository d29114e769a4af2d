"""Words to cells: what is left out without a word, what is a failed cell, and which file a cell runs."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import SPEC, write_onnx

from fcn_edge.bench.candidates import Artefact, Named, Words, expand
from fcn_edge.errors import ModelError, UsageError
from fcn_edge.runtime.files import bundled

SMALL = bundled()["fcn8s-lite-small"]
CPU = ("onnxruntime", "openvino")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A model that does not say what it is."""
    return write_onnx(tmp_path / "foreign.onnx", None)


def keys(words: Words) -> list[str]:
    return [cell.key for cell in expand(words)]


def test_a_bundled_name_takes_the_float_file_for_float_and_the_int8_file_for_int8() -> None:
    cells = expand(Words((Named("fcn8s-lite-small"),), CPU, ("fp32", "int8"), (128, (64, 96))))
    assert [cell.key for cell in cells] == [
        f"fcn8s-lite-small {backend} {precision} {size}"
        for size in ("128", "64x96")
        for backend in CPU
        for precision in ("fp32", "int8")
    ]
    files = {cell.precision: cell.artefact for cell in cells}
    assert files["fp32"] == Artefact(str(SMALL))
    assert files["int8"] == Artefact(str(SMALL.with_name("fcn8s-lite-small.int8.onnx")))


def test_the_models_own_size_is_told_as_a_number() -> None:
    (cell,) = expand(Words((Named("fcn8s-lite-small"),), ("openvino",), ("fp32",)))
    assert cell.size is None
    assert cell.key == f"fcn8s-lite-small openvino fp32 {cell.own}"


def test_a_model_may_have_a_size_of_its_own() -> None:
    words = Words((Named("fcn8s-lite-small", (64,)), Named("fcn8s-lite")), ("openvino",), ("fp32",), (96, 128))
    assert keys(words) == [
        "fcn8s-lite-small openvino fp32 64",
        "fcn8s-lite openvino fp32 96",
        "fcn8s-lite openvino fp32 128",
    ]


def test_all_backends_are_those_that_are_here_and_run_the_file(tmp_path: Path) -> None:
    cells = expand(Words((Named(str(write_onnx(tmp_path / "tiny.onnx"))),), precisions=("fp32",)))
    assert {cell.backend for cell in cells} == set(CPU)  # no GPU here, no checkpoint for PyTorch
    assert [cell.failed for cell in cells] == [None, None]


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not there")
def test_all_precisions_of_pytorch_run_the_checkpoint() -> None:
    cells = expand(Words((Named("fcn8s-lite-small"),), ("torch",)))
    assert [cell.precision for cell in cells] == ["fp32", "bf16"]
    assert {cell.artefact for cell in cells} == {Artefact(str(SMALL.with_suffix(".safetensors")))}


@pytest.mark.parametrize(
    ("backend", "precision", "says"),
    [
        ("onnxruntime", "bf16", "onnxruntime on this machine computes tiny.onnx in fp32, not in bf16."),
        ("onnxruntime", "int8", "tiny.onnx is no int8 file, and to make one of it takes pictures"),
        ("litert", "fp32", "litert runs files that end in .tflite, and tiny.onnx is none of them."),
    ],
)
def test_what_was_named_and_cannot_be_is_a_failed_cell_with_its_reason(
    tmp_path: Path, backend: str, precision: str, says: str
) -> None:
    if backend == "litert":
        pytest.importorskip("ai_edge_litert")
    (cell,) = expand(Words((Named(str(write_onnx(tmp_path / "tiny.onnx"))),), (backend,), (precision,)))
    assert cell.artefact is None
    assert cell.failed is not None
    assert says in cell.failed


def test_what_came_of_all_and_cannot_be_is_left_out(tmp_path: Path) -> None:
    tiny = Named(str(write_onnx(tmp_path / "tiny.onnx")))
    assert keys(Words((tiny,), ("all",), ("int8", "fp32"))) == [
        f"tiny.onnx {name} fp32 32" for name in ("openvino", "onnxruntime")
    ]
    assert "tiny.onnx onnxruntime int8 32" not in keys(Words((tiny,), ("onnxruntime",), ("all",)))


def test_pictures_to_calibrate_with_make_int8_possible(tmp_path: Path) -> None:
    file = str(write_onnx(tmp_path / "tiny.onnx"))
    (cell,) = expand(Words((Named(file),), ("onnxruntime",), ("int8",), calibrated=True))
    assert cell.artefact == Artefact(file, "onnx", "int8")


def test_a_file_without_a_spec_is_a_failed_cell_and_the_others_stand(foreign: Path, tmp_path: Path) -> None:
    words = Words((Named(str(foreign)), Named(str(write_onnx(tmp_path / "tiny.onnx")))), ("openvino",), ("fp32",))
    broken, whole = expand(words)
    assert "Describe it in a TOML file: --spec FILE" in (broken.failed or "")
    assert whole.failed is None


@pytest.mark.parametrize("folder", [False, True])
def test_a_foreign_file_is_described_by_a_file_or_by_the_one_of_its_name_in_a_folder(
    foreign: Path, tmp_path: Path, folder: bool
) -> None:
    described = tmp_path / "specs" / ("foreign.toml" if folder else "any.toml")
    described.parent.mkdir()
    described.write_text('name = "tiny"\nclasses = ["dark", "blue", "green", "red"]\nsize = 32\nstride = 8\n')
    specs = (described.parent if folder else described,)
    (cell,) = expand(Words((Named(str(foreign)),), ("openvino",), ("fp32",), specs=specs))
    assert (cell.spec, cell.failed) == (described, None)


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = [tmp_path / folder / "model.onnx" for folder in ("first", "second")]
    for file in files:
        file.parent.mkdir()
        write_onnx(file)
    words = Words(tuple(Named(str(file)) for file in files), ("openvino",), ("fp32",))
    assert keys(words) == ["first/model.onnx openvino fp32 32", "second/model.onnx openvino fp32 32"]


def test_an_int8_file_has_one_precision(tmp_path: Path) -> None:
    file = Named(str(write_onnx(tmp_path / "tiny.onnx", replace(SPEC, precision="int8", remainder="fp32"))))
    assert keys(Words((file,), CPU)) == ["tiny.onnx onnxruntime int8 32", "tiny.onnx openvino int8 32"]
    (cell,) = expand(Words((file,), ("openvino",), ("fp32",)))
    assert "in int8, not in fp32" in (cell.failed or "")


def test_a_model_that_nothing_here_runs_is_a_failed_cell_even_where_all_was_asked(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"no engine")
    (cell,) = expand(Words((Named(str(plan)),)))
    assert cell.backend == "tensorrt"
    assert "is no TensorRT engine" in (cell.failed or "")


def test_a_variant_is_exported() -> None:
    words = Words((Named("fcn8s:untrained"),), ("openvino",), ("fp32",), variants=("fcn8s",))
    (cell,) = expand(words)
    assert cell.artefact == Artefact("fcn8s:untrained", "onnx")
    assert cell.key == "fcn8s:untrained openvino fp32 own"


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (Words((Named("fcn8s-lite"),), ("cuda",)), UsageError, "no backend 'cuda'"),
        (Words((Named("fcn8s-lite"),), precisions=("fp8",)), UsageError, "no precision 'fp8'"),
        (Words((Named("nothing"),)), UsageError, "no bundled model 'nothing'"),
        (Words((Named("nowhere/model.onnx"),)), ModelError, "no such model file"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_measured(words: Words, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        expand(words)


def test_a_cell_stands_once() -> None:
    words = Words((Named("fcn8s-lite"), Named("fcn8s-lite")), ("openvino", "openvino"), ("fp32",), (64, 64))
    assert keys(words) == ["fcn8s-lite openvino fp32 64"]
