"""A plan is loaded only where it was built for; all else is one line: what is wrong, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import plans
import pytest
from plans import ORIN_NX, RTX_CARD

from fcn_edge.engine import sidecar as papers
from fcn_edge.engine.header import read_header
from fcn_edge.engine.machine import Gpu, Machine
from fcn_edge.engine.profiles import Options
from fcn_edge.engine.sidecar import check, read, sidecar_path
from fcn_edge.errors import BackendError, FcnEdgeError, ModelError, SpecError
from fcn_edge.files import sha256


def refused(call: Callable[[], object], kind: type[FcnEdgeError] = ModelError) -> str:
    """The line that the call ends in."""
    with pytest.raises(kind) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_sidecar_gives_back_what_went_in(tmp_path: Path) -> None:
    plan, sidecar = plans.write(tmp_path, ORIN_NX)
    assert read(plan) == sidecar
    assert sidecar_path(plan).name == f"{plan.name}.json"


def test_the_file_has_the_documented_fields(tmp_path: Path) -> None:
    plan, _ = plans.write(tmp_path, ORIN_NX)
    document = json.loads(sidecar_path(plan).read_text())
    described = (Path(__file__).parents[2] / "docs" / "tensorrt.md").read_text()
    assert document["schema"] == 1
    for field in (*document, *(f"key.{field}" for field in document["key"])):
        assert f"`{field}`" in described


class TestHeader:
    """Of a real plan of TensorRT-RTX, and of the stand-in for TensorRT's."""

    def test_a_plan_of_tensorrt_rtx_tells_its_version(self, tmp_path: Path) -> None:
        trt = pytest.importorskip("tensorrt_rtx")
        plan, _ = plans.write(tmp_path, RTX_CARD)
        header = read_header(plan)
        assert (header.product, header.version) == ("tensorrt-rtx", trt.__version__)

    def test_a_plan_of_tensorrt_tells_its_version(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        assert read_header(plan).version == "10.3.0.30"

    def test_a_header_of_a_kind_that_is_not_known_yet_tells_the_product_alone(self, tmp_path: Path) -> None:
        plan = tmp_path / "m.plan"
        plan.write_bytes(b"ftrt\1" + bytes(100))
        assert (read_header(plan).product, read_header(plan).version) == ("tensorrt", None)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is no TensorRT engine: it is empty"),
            (b"\x08\x08\x12\x06pytorch", "is no TensorRT engine: it begins with"),
            (b"ftrt", "is cut off: it has 4 bytes, which is not even a header"),
            (b"\x2c\1\0\0" + b'{"task": "segment"}', "300 bytes of JSON stand before one"),
        ],
    )
    def test_what_is_no_plan_is_told_by_its_first_bytes(self, tmp_path: Path, content: bytes, words: str) -> None:
        plan = tmp_path / "m.plan"
        plan.write_bytes(content)
        assert words in refused(lambda: read_header(plan))

    def test_a_real_plan_that_was_cut_off_says_how_much_there_is(self, tmp_path: Path) -> None:
        whole = plans.rtx_plan()
        plan = tmp_path / "m.plan"
        plan.write_bytes(whole[: len(whole) // 2])
        assert f"{len(whole) // 2} of its {len(whole)} bytes" in refused(lambda: read_header(plan))


class TestSidecar:
    def test_a_plan_without_one_says_whose_plan_it_is(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        sidecar_path(plan).unlink()
        line = refused(lambda: read(plan))
        assert f"{plan} (TensorRT 10.3.0.30) has no {plan.name}.json beside it" in line
        assert "rebuild: fcn-edge build MODEL.onnx" in line

    def test_a_missing_plan(self, tmp_path: Path) -> None:
        assert "gone.plan cannot be read" in refused(lambda: read(tmp_path / "gone.plan"))

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe", b'{"schema": "one"}'])
    def test_one_that_is_none_names_its_file(self, tmp_path: Path, text: bytes) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        sidecar_path(plan).write_bytes(text)
        assert f"{sidecar_path(plan)} is no sidecar of an engine" in refused(lambda: read(plan))

    def test_a_newer_schema_is_refused_whatever_else_it_holds(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        sidecar_path(plan).write_text('{"schema": 2, "key": "in other words"}')
        assert "has schema 2, this fcn-edge reads up to 1. Upgrade fcn-edge" in refused(lambda: read(plan))

    def test_a_newer_schema_of_the_spec_in_it_is_refused(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        document = json.loads(sidecar_path(plan).read_text())
        document["spec"]["schema"] = 99
        sidecar_path(plan).write_text(json.dumps(document))
        line = refused(lambda: read(plan), SpecError)
        assert line.startswith(f"{sidecar_path(plan)}: ")
        assert "schema 99" in line

    @pytest.mark.parametrize(
        ("field", "value"),
        [("product", "openvino"), ("version", "newest"), ("version", ""), ("compute_capability", "Orin")],
    )
    def test_a_key_that_no_build_writes_is_refused_before_it_is_compared(
        self, tmp_path: Path, field: str, value: str
    ) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        document = json.loads(sidecar_path(plan).read_text())
        document["key"][field] = value
        sidecar_path(plan).write_text(json.dumps(document))
        line = refused(lambda: read(plan))
        assert "is no sidecar of an engine" in line
        assert f"$.key.{field}" in line

    def test_a_field_that_a_later_version_adds_does_no_harm(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        document = json.loads(sidecar_path(plan).read_text()) | {"layers": 61}
        sidecar_path(plan).write_text(json.dumps(document))
        assert read(plan) == sidecar


class TestBeforeLoading:
    """A board as documented, not one that was had: a stand-in for the plan, and for what the driver tells."""

    @pytest.mark.parametrize("machine", [ORIN_NX, RTX_CARD], ids=lambda machine: machine.product)
    def test_where_it_was_built_it_loads(self, tmp_path: Path, machine: Machine) -> None:
        plan, sidecar = plans.write(tmp_path, machine)
        check(sidecar, machine, plan)

    @pytest.mark.parametrize(
        ("here", "words"),
        [
            ({"version": "10.16.1"}, "was built for tensorrt 10.3.0, this machine has tensorrt 10.16.1"),
            ({"arch": "x86_64"}, "was built for aarch64 processors, this machine has x86_64 processors"),
            ({"os": "windows"}, "was built for linux, this machine has windows"),
            ({"board": "Jetson Orin Nano"}, "Developer Kit, this machine has the board Jetson Orin Nano"),
            ({"l4t": "36.4.4"}, "was built for L4T 36.4.3, this machine has L4T 36.4.4"),
            ({"l4t": None}, "was built for L4T 36.4.3, this machine has L4T None"),
        ],
    )
    def test_another_machine_is_told_by_the_field_that_differs(
        self, tmp_path: Path, here: dict[str, str], words: str
    ) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        line = refused(lambda: check(sidecar, replace(ORIN_NX, **here), plan))
        assert words in line
        assert line.endswith("Rebuild: fcn-edge build tiny.onnx --backend tensorrt")

    @pytest.mark.parametrize(
        ("here", "words"),
        [
            ({"compute_capability": "8.9"}, "compute capability 8.7, this machine has compute capability 8.9"),
            ({"name": "Thor"}, "was built for the GPU Orin, this machine has the GPU Thor"),
            ({"sm_count": 16}, "was built for 8 multiprocessors, this machine has 16 multiprocessors"),
            ({"memory": 8 << 30}, "was built for 15 GiB of GPU memory, this machine has 8 GiB of GPU memory"),
        ],
    )
    def test_another_gpu_is_told_by_the_field_that_differs(self, tmp_path: Path, here: dict, words: str) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        gpu = replace(ORIN_NX.gpu, **here)  # type: ignore[type-var]
        assert words in refused(lambda: check(sidecar, replace(ORIN_NX, gpu=gpu), plan))

    def test_without_a_gpu_it_points_to_doctor(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        line = refused(lambda: check(sidecar, replace(ORIN_NX, gpu=None), plan), BackendError)
        assert "CUDA shows none here. Look with fcn-edge doctor." in line

    def test_a_plan_of_the_other_product_names_the_backend_that_runs_it(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, RTX_CARD)
        line = refused(lambda: check(sidecar, replace(RTX_CARD, product="tensorrt", version="10.3.0"), plan))
        assert "is an engine of tensorrt-rtx, not of tensorrt. Run it with --backend tensorrt-rtx, or rebuild" in line

    def test_a_real_plan_that_was_cut_off(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, RTX_CARD)
        plan.write_bytes(plan.read_bytes()[:-1])
        assert "is cut off" in refused(lambda: check(sidecar, RTX_CARD, plan))

    def test_a_plan_of_tensorrt_that_was_cut_off_has_not_the_size_of_its_sidecar(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        plan.write_bytes(plan.read_bytes()[:-1])
        assert f"is cut off: it has {sidecar.bytes - 1} of the {sidecar.bytes} bytes" in refused(
            lambda: check(sidecar, ORIN_NX, plan)
        )

    def test_one_bit_is_enough(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        content = bytearray(plan.read_bytes())
        content[-1] ^= 1
        plan.write_bytes(content)
        assert "their SHA-256 differ" in refused(lambda: check(sidecar, ORIN_NX, plan))

    def test_the_sidecar_of_another_plan(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        other, _ = plans.write(tmp_path, RTX_CARD, "other")
        sidecar_path(plan).write_bytes(sidecar_path(other).read_bytes())
        line = refused(lambda: check(read(plan), ORIN_NX, plan))
        assert f"{plan} is cut off" in line

    def test_an_onnx_file_under_a_plans_name_never_reaches_the_library(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        plan.write_bytes((tmp_path / "tiny.onnx").read_bytes())
        assert "is no TensorRT engine" in refused(lambda: check(sidecar, ORIN_NX, plan))

    def test_a_header_of_a_later_tensorrt_does_no_harm_where_the_sidecar_is_the_plans(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        plan.write_bytes(b"next" + plan.read_bytes()[4:])
        check(msgspec.structs.replace(sidecar, sha256=sha256(plan)), ORIN_NX, plan)


class TestTargets:
    """A plan of TensorRT-RTX is built for compute capabilities, not for a GPU."""

    def test_any_gpu_of_a_target_and_any_system_will_do(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, RTX_CARD)
        other = Gpu("another card", "8.6", 28, 8 << 30, None, "12.9")
        check(sidecar, replace(RTX_CARD, os="windows", gpu=other), plan)

    def test_a_gpu_of_no_target_is_refused(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, RTX_CARD)
        turing = replace(RTX_CARD.gpu, compute_capability="7.5")  # type: ignore[type-var]
        line = refused(lambda: check(sidecar, replace(RTX_CARD, gpu=turing), plan))
        assert "was built for compute capability 8.6 or 8.9, this machine has compute capability 7.5" in line


class TestCompatible:
    """What TensorRT's options allow ("Engine Portability" in the support matrix of 11.4.1)."""

    def write(self, folder: Path, options: Options) -> tuple[Path, papers.Sidecar]:
        return plans.write(folder, ORIN_NX, options=options)

    def test_a_newer_version_runs_a_version_compatible_plan_an_older_one_does_not(self, tmp_path: Path) -> None:
        plan, sidecar = self.write(tmp_path, Options(version_compatible=True))
        check(sidecar, replace(ORIN_NX, version="11.4.1"), plan)
        assert "tensorrt 12.0.0" in refused(lambda: check(sidecar, replace(ORIN_NX, version="12.0.0"), plan))
        assert "tensorrt 8.6.2" in refused(lambda: check(sidecar, replace(ORIN_NX, version="8.6.2"), plan))

    def test_ampere_plus_runs_on_newer_gpus(self, tmp_path: Path) -> None:
        plan, sidecar = self.write(tmp_path, Options(hardware_compatible="ampere_plus"))
        check(sidecar, replace(ORIN_NX, gpu=replace(ORIN_NX.gpu, compute_capability="12.0")), plan)  # type: ignore[type-var]
        turing = replace(ORIN_NX.gpu, compute_capability="7.5")  # type: ignore[type-var]
        assert "compute capability 7.5" in refused(lambda: check(sidecar, replace(ORIN_NX, gpu=turing), plan))

    def test_same_compute_capability_runs_on_a_larger_gpu_of_it(self, tmp_path: Path) -> None:
        plan, sidecar = self.write(tmp_path, Options(hardware_compatible="same_compute_capability"))
        check(sidecar, replace(ORIN_NX, gpu=replace(ORIN_NX.gpu, sm_count=16, memory=64 << 30)), plan)  # type: ignore[type-var]
