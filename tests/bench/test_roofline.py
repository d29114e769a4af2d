"""The roof is measured on this machine; where a network lies below it can be worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fcn_edge.bench import roofline as module
from fcn_edge.bench.cost import Cost
from fcn_edge.bench.roofline import Roof, add_rate, bandwidth, by_numpy, kind, last_cache, peak, roofline
from fcn_edge.bench.row import Row
from fcn_edge.bench.schema import Roofline
from fcn_edge.errors import BackendError
from fcn_edge.runtime import backend_class, open_backend
from fcn_edge.spec import Input, ModelSpec

ROW = Row(channels=8, side=4, depth=2)
FLOAT = ModelSpec("m", ("a", "b"), input=Input("NCHW", "float32"))
COST = Cost(parameters=1000, operations=2e6, output=(1, 2, 10, 10), reasons={})


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "LEAST", 2)
    monkeypatch.setattr(module, "PRODUCT", 256)
    monkeypatch.setattr(module, "SMALLEST", 6 << 20)
    monkeypatch.setattr(module, "CACHES", 0)
    monkeypatch.setitem(module.ROWS, "CPU", Row(64, 16, 2))


def by_hand(row: Row, weights: list[np.ndarray]) -> np.ndarray:
    value = row.frames()
    for index, kernel in enumerate(weights):
        value = np.einsum("oc,nchw->nohw", kernel[:, :, 0, 0], value)
        value = np.maximum(value, 0) if index < row.depth else value
    return value


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_row_is_a_valid_file_and_computes_what_it_says(tmp_path: Path, precision: str) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "row.onnx"
    spec = ROW.write(path, precision)
    onnx.checker.check_model(str(path), full_check=True)
    assert spec.precision == precision
    weights = [onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer][: ROW.depth + 1]
    scale = 0.02 if precision == "int8" else 1.0
    expected = by_hand(ROW, [each.astype(np.float32) * scale for each in weights])
    backend, _ = open_backend(path, spec, "onnxruntime")
    found = backend.infer(ROW.frames())
    backend.close()
    spread = {"fp32": 1e-6, "fp16": 1e-2, "int8": 3 * 0.02}[precision]  # of int8 three steps: values are rounded thrice
    np.testing.assert_allclose(found, expected, atol=spread)
    assert found.std() > 0


def test_its_operations_are_those_of_its_convolutions() -> None:
    assert ROW.operations == 2 * (2 * 16 * 8 * 8 + 16 * 2 * 8)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_peak_is_measured_by_what_computes_here(precision: str) -> None:
    if precision == "bf16" and "bf16" not in backend_class("openvino").precisions():
        pytest.skip("this CPU has no bf16")
    assert 1e8 < peak("CPU", precision, 1) < 1e16


def test_the_peak_is_what_a_matrix_product_reaches_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_numpy() > 1e8
    monkeypatch.setattr(module, "by_numpy", lambda: 1e30)
    assert peak("CPU", "fp32", 1) == 1e30


def test_a_precision_that_nothing_computes_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> object:
        raise BackendError("openvino on this machine computes in fp32, not in fp16.")

    monkeypatch.setattr(module, "open_backend", refuse)
    with pytest.raises(BackendError, match="openvino on this machine computes in fp32, not in fp16"):
        peak("CPU", "fp16", 1)


def test_a_device_is_a_cpu_or_a_gpu_whatever_it_is_called() -> None:
    assert kind("CPU: x, 2 threads") == "CPU"
    assert bandwidth("CPU") > 1e8


def test_without_a_runtime_there_is_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_installed", lambda name: False)
    with pytest.raises(BackendError, match="it takes openvino or onnxruntime, and none is installed"):
        peak("CPU", "int8", 1)


def test_where_the_memory_is_the_roof_the_share_is_of_what_it_lets_through() -> None:
    # fp32: 4 * 1000 of weights, 4 * 1200 in, 4 * 200 out
    roof = Roof(1e12, 1e9)
    traffic = 9600.0
    reachable = 1e9 * 2e6 / traffic
    assert reachable < 1e12
    assert roofline(COST, FLOAT, (20, 20), "fp32", 1e-3, roof) == Roofline(2e6, traffic, 1e12, 1e9, 2e9 / reachable)


def test_where_arithmetic_is_the_roof_the_share_is_of_its_peak() -> None:
    roof = Roof(4e9, 1e12)
    spec = ModelSpec("m", ("a", "b"))  # bytes in
    assert roofline(COST, spec, (20, 20), "int8", 1e-3, roof) == Roofline(2e6, 1000 + 1200 + 800, 4e9, 1e12, 0.5)


def test_what_was_not_counted_has_no_place_below_the_roof() -> None:
    roof = Roof(1.0, 1.0)
    why = {"operations": "the file is gone."}
    assert roofline(Cost(None, None, None, why), FLOAT, (1, 1), "fp32", 1.0, roof) == "the file is gone."


def test_the_memorys_rate_is_that_of_all_threads_together(tmp_path: Path) -> None:
    assert 1e8 < add_rate(2, tmp_path) < 1e14


def test_the_largest_cache_of_the_first_core_is_found(tmp_path: Path) -> None:
    assert last_cache(tmp_path) == 0
    for index, size in enumerate(("32K", "32K", "1024K", "96M", "")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
    assert last_cache(tmp_path) == 96 << 20


def test_importing_loads_no_runtime() -> None:
    code = (
        "import sys\nfrom fcn_edge.bench import cost, energy, environment, layers, roofline\n"
        "print(sorted({'torch', 'openvino', 'onnxruntime', 'tensorrt', 'onnx'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
