"""Which file a name means, and what it says of itself."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import SPEC, write_onnx, write_tflite

from fcn_edge.errors import ModelError, SpecError, UsageError
from fcn_edge.runtime.files import bundled, find, read_spec


def test_the_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    spec = replace(SPEC, classes=("Hintergrund", "Tür", "猫", "d"), provenance={"data": "x" * 5000})
    assert read_spec(write_onnx(tmp_path / "tiny.onnx", spec)) == spec


def test_an_onnx_file_without_a_spec_is_answered_with_the_option_that_describes_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--spec FILE"):
        read_spec(write_onnx(tmp_path / "foreign.onnx", None))


def test_a_tflite_file_is_answered_with_the_option_that_describes_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--spec FILE"):
        read_spec(write_tflite(tmp_path / "tiny.tflite", 9))


@pytest.mark.parametrize(
    "content",
    [b"", b"# Read me\n\nThis is no model.\n" * 50, b"\x00" * 1000, b"\xff" * 1000, b"\x08\x08", os.urandom(64)],
    ids=["empty", "text", "zeros", "ones", "no graph", "noise"],
)
def test_what_is_no_onnx_file_is_told_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_spec(path)
    assert str(caught.value) == f"{path} is not an ONNX file, or is damaged. Copy it again, or export it anew."


def test_an_onnx_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_onnx(tmp_path / "tiny.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises((ModelError, SpecError)):
            read_spec(path)


def test_a_broken_spec_names_the_file(tmp_path: Path) -> None:
    import onnx

    path = write_onnx(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"fcn_edge.spec": '{"name": 3}'})
    onnx.save(model, path)
    with pytest.raises(SpecError, match=r"tiny\.onnx: its fcn_edge\.spec metadata is not a spec"):
        read_spec(path)


def test_the_spec_of_a_checkpoint_is_read_without_its_weights(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path, {"fcn_edge.spec": SPEC.to_json()})
    assert read_spec(path) == SPEC


def test_a_broken_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="is not a safetensors file") as caught:
        read_spec(path)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_holds_code_is_refused_in_one_line(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'harmed'}",)

    path = tmp_path / "weights.pth"
    torch.save({"weight": Harm()}, path)
    with pytest.raises(ModelError, match="could run code") as caught:
        read_spec(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harmed").exists()


def test_a_name_that_is_not_bundled_is_answered_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="no bundled model 'fcn9s'"):
        find("fcn9s")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"nowhere/model\.onnx: no such model file"):
        find("nowhere/model.onnx")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        find(tmp_path)


def test_every_bundled_model_is_found_by_its_name_and_describes_itself() -> None:
    for name, path in bundled().items():
        assert find(name) == path
        assert read_spec(path).name == name
