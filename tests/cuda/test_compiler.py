"""The kernels compiled by NVRTC itself, which needs no GPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from fcn_edge.cuda import compiler
from fcn_edge.cuda.kernels import source
from fcn_edge.errors import BackendError

KERNELS = (
    "scale_uint8",
    "scale_float32",
    "decode_cells_float32",
    "decode_cells_float16",
    "decode_labels_float32",
    "decode_labels_float16",
)
GPUS = {
    "Orin": (8, 7),
    "Ada": (8, 9),
    "Hopper": (9, 0),
    "Thor": (11, 0),
    "Blackwell": (12, 0),
}


@pytest.fixture(autouse=True)
def nvrtc() -> None:
    try:
        compiler.version()
    except BackendError as error:
        if os.environ.get("CI") == "true" and find_spec("tensorrt_rtx"):
            pytest.fail(f"the extra that brought TensorRT-RTX brings this too: {error}")
        pytest.skip(str(error))


@pytest.mark.parametrize("gpu", GPUS)
def test_the_kernels_compile_to_machine_code_for(gpu: str) -> None:
    image = compiler.compile(source(), "kernels.cu", GPUS[gpu])
    assert image.startswith(b"\x7fELF")
    for kernel in KERNELS:
        assert f".text.{kernel}\0".encode() in image


def test_for_a_gpu_newer_than_nvrtc_there_is_code_that_its_driver_compiles() -> None:
    image = compiler.compile(source(), "kernels.cu", (98, 0))
    assert b".version" in image
    assert b".entry scale_uint8" in image
    assert image.endswith(b"\0")  # or the driver would read on


def test_a_gpu_older_than_nvrtc_is_refused_in_one_line() -> None:
    with pytest.raises(BackendError, match=r"this GPU has 5\.3") as refusal:
        compiler.compile(source(), "kernels.cu", (5, 3))
    assert "\n" not in str(refusal.value)


def test_an_error_in_the_source_is_one_line_with_the_compilers_words() -> None:
    with pytest.raises(BackendError, match=r"does not compile wrong\.cu for sm_87.*undefined") as refusal:
        compiler.compile('extern "C" __global__ void f() { g(); }', "wrong.cu", (8, 7))
    assert "\n" not in str(refusal.value)


def test_what_was_compiled_is_taken_from_the_cache_until_anything_differs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = 'extern "C" __global__ void f() {}'
    image = compiler.compiled(small, "f.cu", (8, 7))
    monkeypatch.setattr(compiler, "compile", lambda *arguments: b"compiled anew")
    assert compiler.compiled(small, "f.cu", (8, 7)) == image
    assert compiler.compiled(small, "f.cu", (8, 9)) == b"compiled anew"
    assert compiler.compiled(small + " ", "f.cu", (8, 7)) == b"compiled anew"


@pytest.mark.parametrize("left", [0, 10, 40])
def test_a_cached_file_that_was_cut_off_is_made_anew(tmp_path, monkeypatch, left: int) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = 'extern "C" __global__ void f() {}'
    image = compiler.compiled(small, "f.cu", (8, 7))
    (cached,) = tmp_path.rglob("*.bin")
    whole = cached.read_bytes()
    cached.write_bytes(whole[:left])
    assert compiler.compiled(small, "f.cu", (8, 7)) == image
    assert cached.read_bytes() == whole


def test_without_a_place_for_the_cache_it_still_compiles(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert compiler.compiled('extern "C" __global__ void f() {}', "f.cu", (8, 7))


def test_without_nvrtc_one_line_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(BackendError, match="pip install") as refusal:
        compiler.compile("", "f.cu", (8, 7))
    assert "\n" not in str(refusal.value)
