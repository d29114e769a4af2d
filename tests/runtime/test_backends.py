"""What every backend promises. A new one is a case in CASES."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import SPEC, random_frames, scores_of, write_onnx, write_tflite

from fcn_edge.errors import BackendError, ModelError, UsageError
from fcn_edge.runtime import BACKENDS, PRECISIONS, backend_class, installed, names, open_backend
from fcn_edge.runtime.common import first_line
from fcn_edge.runtime.protocol import Backend
from fcn_edge.spec import Input, ModelSpec


@dataclass(frozen=True)
class Case:
    """A backend, a file for it, and what that file must give."""

    name: str
    write: Callable[[Path], tuple[Path, ModelSpec]]
    suffix: str
    expected: Callable[[Path, np.ndarray], np.ndarray]
    dtype: type = np.uint8
    fixed: bool = False  # takes 33x33 only


def _onnx(folder: Path) -> tuple[Path, ModelSpec]:
    return write_onnx(folder / "tiny.onnx"), SPEC


def _tflite(folder: Path) -> tuple[Path, ModelSpec]:
    spec = replace(SPEC, input=Input(dtype="float32", mean=(0, 0, 0), std=(1, 1, 1)))
    return write_tflite(folder / "tiny.tflite", 33), spec


def _checkpoint(folder: Path) -> tuple[Path, ModelSpec]:
    import torch

    from fcn_edge.models import build
    from fcn_edge.models.checkpoint import save_checkpoint

    torch.manual_seed(0)
    spec = replace(SPEC, variant="fcn8s-lite")
    save_checkpoint(folder / "tiny.safetensors", build("fcn8s-lite", len(spec.classes)), spec)
    return folder / "tiny.safetensors", spec


def _forward(path: Path, frames: np.ndarray) -> np.ndarray:
    import torch

    from fcn_edge.models.checkpoint import load

    with torch.no_grad():
        return load(path)[0](torch.from_numpy(frames)).numpy()


def _worked_out(path: Path, frames: np.ndarray) -> np.ndarray:
    return scores_of(frames)


CASES = [
    Case("openvino", _onnx, ".onnx", _worked_out),
    Case("onnxruntime", _onnx, ".onnx", _worked_out),
    Case("litert", _tflite, ".tflite", _worked_out, dtype=np.float32, fixed=True),
    Case("torch", _checkpoint, ".safetensors", _forward),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    if request.param.name not in installed():
        pytest.skip(f"{request.param.name} is not installed")
    return request.param


@pytest.fixture(scope="module")
def file(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelSpec]:
    return case.write(tmp_path_factory.mktemp(case.name))


class TestBackend:
    @pytest.fixture
    def backend(self, case: Case, file: tuple[Path, ModelSpec]) -> Iterator[Backend]:
        opened = backend_class(case.name)(*file, precision="fp32", threads=1)
        yield opened
        opened.close()

    def frames(self, case: Case, seed: int = 0, height: int = 33) -> np.ndarray:
        return random_frames(1, height, 33, 3, seed=seed).astype(case.dtype)

    def test_it_gives_float32_scores_as_worked_out(self, case: Case, file: Any, backend: Backend) -> None:
        frames = self.frames(case)
        scores = backend.infer(frames)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, case.expected(file[0], frames), rtol=1e-4, atol=1e-3)

    def test_it_says_what_it_is(self, case: Case, backend: Backend) -> None:
        assert backend.name == case.name
        assert backend.precision == "fp32"
        assert "1 thread" in backend.device or "GPU" in backend.device
        assert all(version[0].isdigit() for version in backend.versions.values())

    def test_the_next_frame_leaves_the_last_output_alone(self, case: Case, backend: Backend) -> None:
        first = backend.infer(self.frames(case, seed=1))
        before = first.copy()
        backend.infer(self.frames(case, seed=2))
        np.testing.assert_array_equal(first, before)

    def test_two_in_flight_come_back_in_order_though_the_caller_forgot_the_frames(
        self, case: Case, backend: Backend
    ) -> None:
        expected = [backend.infer(self.frames(case, seed=seed)) for seed in range(6)]
        outputs = []
        for seed in range(6):
            backend.submit(self.frames(case, seed=seed))
            gc.collect()
            _scribble_on_freed_memory()
            if seed:
                outputs.append(backend.collect())
        outputs.append(backend.collect())
        np.testing.assert_array_equal(np.stack(outputs), np.stack(expected))

    def test_the_time_of_the_last_output_is_known(self, case: Case, backend: Backend) -> None:
        backend.infer(self.frames(case))
        assert 0 < backend.seconds < 60

    def test_a_frame_of_another_size_is_computed_or_refused_with_both_sizes(
        self, case: Case, file: Any, backend: Backend
    ) -> None:
        backend.infer(self.frames(case))
        other = self.frames(case, height=65)
        if case.fixed:
            with pytest.raises(BackendError, match=r"1x33x33x3 only, not 1x65x33x3"):
                backend.infer(other)
        else:
            expected = case.expected(file[0], other)
            np.testing.assert_allclose(backend.infer(other), expected, rtol=1e-4, atol=1e-3)

    def test_int8_of_a_float_file_is_refused(self, case: Case, file: Any) -> None:
        with pytest.raises(BackendError, match="int8 needs a quantised file"):
            backend_class(case.name)(*file, precision="int8")

    def test_a_precision_it_cannot_compute_is_refused_and_the_others_named(self, case: Case, file: Any) -> None:
        kind = backend_class(case.name)
        for precision in sorted({"fp32", "bf16", "fp16"} - set(kind.precisions())):
            with pytest.raises(BackendError, match=f"fp32.*, not in {precision}"):
                kind(*file, precision=precision)

    def test_float32_of_a_quantised_file_is_refused(self, case: Case, file: Any) -> None:
        path, spec = file
        with pytest.raises(BackendError, match="quantised to int8"):
            backend_class(case.name)(path, replace(spec, precision="int8"), precision="fp32")

    def test_another_number_of_classes_than_promised_is_told(self, case: Case, file: Any) -> None:
        path, spec = file
        promised = replace(spec, classes=("a", "b"), palette=())
        with pytest.raises(ModelError) as caught:
            backend_class(case.name)(path, promised).infer(self.frames(case))
        assert str(path) in str(caught.value)

    def test_a_broken_file_is_told_in_one_line(self, case: Case, file: Any, tmp_path: Path) -> None:
        broken = tmp_path / f"broken{case.suffix}"
        broken.write_bytes(file[0].read_bytes()[:100])
        with pytest.raises(ModelError) as caught:
            backend_class(case.name)(broken, file[1])
        assert str(broken) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_closing_twice_does_nothing(self, case: Case, file: Any) -> None:
        opened = backend_class(case.name)(*file)
        opened.infer(self.frames(case))
        opened.close()
        opened.close()

    def test_auto_takes_the_first_backend_for_such_files(self, case: Case, file: Any) -> None:
        kinds = {name: backend_class(name) for name in BACKENDS}
        first = next(name for name, kind in kinds.items() if case.suffix in kind.suffixes and not kind.compiles)
        backend, reason = open_backend(*file)
        backend.close()
        assert backend.name == first
        assert reason == f"{first}: the fastest here for {case.suffix} files"


def _scribble_on_freed_memory() -> None:
    """Claims blocks of the frames' size, so that a frame that was let go is overwritten."""
    blocks = [np.full(size, 7, np.uint8) for size in (33 * 33 * 3, 33 * 33 * 12) for _ in range(20)]
    del blocks


def test_an_unknown_backend_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no backend 'tpu'.*auto.*openvino"):
        open_backend(write_onnx(tmp_path / "tiny.onnx"), SPEC, "tpu")


def test_an_unknown_precision_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=", ".join(sorted(PRECISIONS))):
        open_backend(write_onnx(tmp_path / "tiny.onnx"), SPEC, precision="fp99")


def test_auto_is_a_name_too() -> None:
    assert names() == ["auto", *BACKENDS, "triton"]  # which runs no file, so that auto never takes it


def test_auto_says_what_it_passed_over_and_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_class("openvino"), "library", "no_such_library")
    backend, reason = open_backend(write_onnx(tmp_path / "tiny.onnx"), SPEC)
    backend.close()
    assert backend.name == "onnxruntime"
    assert reason.endswith("; passed over: openvino is not installed: pip install openvino")


def test_auto_passes_over_a_backend_that_lacks_the_precision(tmp_path: Path) -> None:
    if "bf16" not in backend_class("openvino").precisions():
        pytest.skip("this CPU has no bfloat16")
    backend, _ = open_backend(write_onnx(tmp_path / "tiny.onnx"), SPEC, precision="bf16")
    backend.close()
    assert (backend.name, backend.precision) == ("openvino", "bf16")


def test_where_no_backend_serves_each_one_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_class("openvino"), "library", "no_such_library")
    with pytest.raises(BackendError, match=r"pip install openvino.*onnxruntime.*in fp32, not in fp16"):
        open_backend(write_onnx(tmp_path / "tiny.onnx"), SPEC, precision="fp16")


def test_what_every_backend_says_of_a_file_is_said_once(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "tiny.onnx")
    with pytest.raises(BackendError) as caught:
        open_backend(path, SPEC, precision="int8")
    assert str(caught.value) == f"{path} holds fp32 weights; int8 needs a quantised file."


def test_a_file_that_no_backend_can_load_is_the_files_fault(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "tiny.onnx")
    path.write_bytes(path.read_bytes().replace(b"Transpose", b"Transpoze"))
    with pytest.raises(ModelError, match=r"tiny\.onnx: OpenVINO cannot load it.*ONNX Runtime cannot load it"):
        open_backend(path, SPEC)


def test_a_file_of_another_kind_is_answered_with_the_endings_that_run(tmp_path: Path) -> None:
    other = tmp_path / "tiny.pb"
    other.write_bytes(b"model")
    with pytest.raises(ModelError, match=r"\.onnx.*\.plan.*\.safetensors.*\.tflite"):
        open_backend(other, SPEC)
    with pytest.raises(ModelError, match=r"onnxruntime runs files that end in \.onnx"):
        open_backend(other, SPEC, "onnxruntime")


def test_openvino_keeps_the_last_shapes_and_still_serves_the_ones_it_dropped(tmp_path: Path) -> None:
    from fcn_edge.runtime.openvino import KEPT_SHAPES

    backend = backend_class("openvino")(write_onnx(tmp_path / "tiny.onnx"), SPEC, "fp32")
    for height in [*range(1, KEPT_SHAPES + 3), 1]:
        frames = random_frames(1, height, 5, 3)
        np.testing.assert_allclose(backend.infer(frames), scores_of(frames), atol=1e-3)
    backend.close()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_several_frames_go_through_at_once(name: str, tmp_path: Path) -> None:
    frames = random_frames(3, 20, 10, 3)
    backend = backend_class(name)(write_onnx(tmp_path / "tiny.onnx"), SPEC, "fp32")
    np.testing.assert_allclose(backend.infer(frames), scores_of(frames), atol=1e-3)
    backend.close()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_file_of_one_size_says_which(name: str, tmp_path: Path) -> None:
    backend = backend_class(name)(write_onnx(tmp_path / "fixed.onnx", sides=(16, 24)), SPEC, "fp32")
    assert backend.infer(random_frames(1, 16, 24, 3)).shape == (1, 4, 16, 24)
    with pytest.raises(BackendError, match="x16x24x3 only, not 1x16x16x3"):
        backend.infer(random_frames(1, 16, 16, 3))
    backend.close()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_labels_come_out_as_bytes(name: str, tmp_path: Path) -> None:
    spec = replace(SPEC, output=replace(SPEC.output, kind="labels"))
    frames = random_frames(1, 9, 7, 3)
    backend = backend_class(name)(write_onnx(tmp_path / "labels.onnx", spec, labels=True), spec, "fp32")
    labels = backend.infer(frames)
    backend.close()
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, scores_of(frames).argmax(1))


def test_the_line_of_an_error_is_the_first_that_tells_a_user_something() -> None:
    told = (
        "Exception from src/inference/src/cpp/core.cpp:117:\nException from src/plugin.cpp:8:\n\n  Out of memory\nmore"
    )
    assert first_line(RuntimeError(told)) == "Out of memory."
    assert first_line(RuntimeError("Exception from src/plugin.cpp:8:\n")) == "RuntimeError."
