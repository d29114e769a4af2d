"""A build from file to plan and sidecar, by TensorRT-RTX, which needs no GPU; what needs one or another TensorRT is
logic over stand-ins, named so.
"""

from __future__ import annotations

import json
import os
import signal
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from fcn_edge.engine import builder, sidecar
from fcn_edge.engine.builder import build, command_line, device_cache, settle
from fcn_edge.engine.inspection import check_achieved, check_asked, count_kernels, type_name
from fcn_edge.engine.machine import Gpu, Machine
from fcn_edge.engine.profiles import Options, Profile, static_profiles
from fcn_edge.engine.progress import Phases
from fcn_edge.engine.versions import Trt
from fcn_edge.errors import BackendError, ModelError, UsageError
from fcn_edge.resources import PACKAGE
from fcn_edge.runtime.files import read_spec

BUNDLED = PACKAGE / "weights" / "fcn8s-lite.onnx"
ONE = Options(targets=("8.9",))
ADA = Machine("tensorrt", "10.3.0", "linux", "x86_64", Gpu("RTX 4090", "8.9", 128, 24 << 30, "580.65", "13.0"))
ORIN = Machine(
    "tensorrt",
    "10.3.0",
    "linux",
    "aarch64",
    Gpu("Orin", "8.7", 16, 16 << 30, None, "12.6"),
    board="NVIDIA Jetson Orin NX",
    l4t="36.4.3",
)


def small(folder: Path, shapes=((32, 64),), options: Options = ONE, **more: Any) -> builder.Built:
    """The engine of the tiny file in `folder`."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    path = folder / "tiny.onnx"
    if not path.exists():
        tiny.write_onnx(path)
    return build(path, tiny.SPEC, "tensorrt-rtx", static_profiles(shapes), folder / "out", options, **more)


class TestABuild:
    def test_leaves_a_plan_and_a_sidecar_that_says_what_it_is(self, tmp_path):
        built = small(tmp_path, [(32, 64), (64, 32)])
        assert not built.cached
        assert sorted(tmp_path.glob("out/*")) == [built.path, sidecar.sidecar_path(built.path)]
        assert built.path.read_bytes().startswith(b"vtrt")  # TensorRT-RTX's own plan, nothing around it
        read = sidecar.read(built.path)
        assert read == built.sidecar
        assert read.spec == tiny.SPEC
        assert read.precision.network == {"fp32": 1}
        assert (read.precision.achieved is None) == bool(read.precision.reason)
        assert read.bytes == built.path.stat().st_size
        assert [profile.opt for profile in read.profiles] == [(32, 64), (64, 32)]
        sidecar.check_whole(read, built.path)

    def test_is_done_once(self, tmp_path):
        first = small(tmp_path)
        made = first.path.stat().st_mtime_ns
        again = small(tmp_path)
        assert again.cached
        assert again.path == first.path
        assert again.path.stat().st_mtime_ns == made

    def test_is_done_again_where_force_says_so(self, tmp_path):
        made = small(tmp_path).path.stat().st_mtime_ns
        again = small(tmp_path, force=True)
        assert not again.cached
        assert again.path.stat().st_mtime_ns > made

    def test_is_done_again_where_a_shape_or_an_option_differs_and_says_so(self, tmp_path):
        assert small(tmp_path).reason == ""
        assert small(tmp_path, [(64, 64)]).reason == "profiles 32x64 -> 64x64"
        assert "tf32 False -> True" in small(tmp_path, options=replace(ONE, tf32=True)).reason

    def test_is_done_again_where_the_file_differs(self, tmp_path):
        small(tmp_path)
        tiny.write_onnx(tmp_path / "tiny.onnx", bias=tiny.BIAS + 1)
        assert small(tmp_path).reason == "the ONNX file's content"

    def test_is_for_all_cards_from_ampere_on_where_no_target_is_named(self, tmp_path):
        targets = small(tmp_path, options=Options()).sidecar.key.options.targets
        assert {"8.0", "8.6", "8.9", "12.0"} <= set(targets)
        assert "7.5" not in targets

    def test_tells_how_far_it_is(self, tmp_path):
        told: list[tuple[float, str]] = []
        small(tmp_path, progress=lambda share, phase: told.append((share, phase)))
        shares = [share for share, _ in told]
        assert shares == sorted(shares)
        assert 0 < shares[0] < shares[-1] <= 1
        assert any("Building engine" in phase for _, phase in told)

    def test_outlives_a_bar_that_fails(self, tmp_path):
        def fail(share: float, phase: str) -> None:
            raise ValueError(phase)

        assert small(tmp_path, progress=fail).path.exists()

    def test_ends_at_the_next_step_after_ctrl_c_and_leaves_nothing(self, tmp_path):
        steps: list[str] = []

        def interrupt(share: float, phase: str) -> None:
            steps.append(phase)
            if len(steps) == 1:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)  # in which the waiting thread wakes: the graph is cloned within a few milliseconds

        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
        shapes = static_profiles([(289, 513), (513, 513)])
        with pytest.raises(KeyboardInterrupt):
            build(BUNDLED, read_spec(BUNDLED), "tensorrt-rtx", shapes, tmp_path / "out", ONE, interrupt)
        assert list(tmp_path.glob("out/*")) == []
        assert len(steps) < 100  # the graph alone has 204 nodes to clone


class TestWhatIsRefused:
    def test_a_file_that_is_not_of_the_precision_that_it_says(self, tmp_path):
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
        spec = replace(tiny.SPEC, precision="fp16")
        path = tiny.write_onnx(tmp_path / "t.onnx", spec)
        with pytest.raises(ModelError, match="says that it is fp16, and its multiplying layers are not: 1 fp32"):
            build(path, spec, "tensorrt-rtx", static_profiles([(32, 32)]), tmp_path, ONE)

    def test_shapes_that_a_file_of_one_size_does_not_take(self, tmp_path):
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
        path = tiny.write_onnx(tmp_path / "t.onnx", sides=(32, 32))
        with pytest.raises(UsageError, match="takes frames of anyx32x32x3, not of 1x64x64x3"):
            build(path, tiny.SPEC, "tensorrt-rtx", static_profiles([(64, 64)]), tmp_path, ONE)

    def test_text_which_the_parser_takes_for_an_empty_network(self, tmp_path):
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
        (tmp_path / "t.onnx").write_text("hello")
        with pytest.raises(ModelError, match="has 0 inputs and 0 outputs"):
            build(tmp_path / "t.onnx", tiny.SPEC, "tensorrt-rtx", static_profiles([(64, 64)]), tmp_path, ONE)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (Options(hardware_compatible="ampere_plus"), "Name those with --targets"),
            (Options(version_compatible=True), "Name those with --targets"),
            (Options(targets=("8.7",)), "8.7"),
            (Options(dla_core=0), "no DLA can serve here: TensorRT-RTX is for graphics cards"),
            (Options(level=9), "levels are 0 to 5"),
        ],
    )
    def test_options_that_tensorrt_rtx_has_not(self, options, said, tmp_path):
        with pytest.raises((BackendError, UsageError), match=said):
            small(tmp_path, options=options)
        assert list(tmp_path.glob("out/*")) == []

    @pytest.mark.parametrize(
        ("machine", "options", "said"),
        [
            (ADA, Options(targets=("8.9",)), "--targets is TensorRT-RTX's"),
            (ORIN, Options(hardware_compatible="ampere_plus"), "JetPack's TensorRT has no hardware compatibility"),
            (ADA, Options(hardware_compatible="same_compute_capability"), "It knows: ampere_plus"),
        ],
    )
    def test_options_that_tensorrt_has_not_there(self, machine, options, said):
        """A stand-in for TensorRT, which cannot be installed without a GPU."""
        with pytest.raises(BackendError, match=said):
            settle(eight(), machine, options)

    def test_without_a_gpu_tensorrt_itself_builds_nothing(self, tmp_path, monkeypatch):
        """A stand-in for TensorRT; the machine is this one, or as if it had no GPU."""
        monkeypatch.setattr(builder, "load", lambda product: eight())
        monkeypatch.setattr(builder, "this_machine", lambda product: replace(ADA, gpu=None))
        path = tiny.write_onnx(tmp_path / "t.onnx")
        with pytest.raises(BackendError, match="CUDA shows none here"):
            build(path, tiny.SPEC, "tensorrt", static_profiles([(32, 32)]), tmp_path)


def eight() -> Trt:
    """A stand-in for 8.6: what is looked at before anything is built."""

    class ILogger:
        pass

    levels = types.SimpleNamespace(NONE=0, AMPERE_PLUS=1)
    module: Any = types.SimpleNamespace(ILogger=ILogger, HardwareCompatibilityLevel=levels)
    return Trt("tensorrt", module, (8, 6, 2))


class TestPrecision:
    @pytest.mark.parametrize(
        ("words", "name"),
        [
            ("FLOAT", "fp32"),
            ("HALF", "fp16"),
            ("BF16", "bf16"),
            ("INT8", "int8"),
            ("Float", "fp32"),
            ("BFloat16", "bf16"),
            ("Channel major FP16 format where channel % 8 == 0", "fp16"),
            ("Row major linear FP32", "fp32"),
            ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ],
    )
    def test_a_type_has_one_name_in_all_spellings(self, words, name):
        assert type_name(words) == name

    def test_kernels_are_counted_by_what_they_read_in_both_kinds_of_json(self):
        """Layers as TensorRT 8 and 10 tell them (NVIDIA/TensorRT 2418, 4020), and TensorRT-RTX 1.7."""
        half, byte = {"Format/Datatype": "Channel major FP16 format"}, {"Format/Datatype": "Int8"}
        old = [
            {"Name": "c1", "LayerType": "CaskConvolution", "Inputs": [half]},
            {"Name": "p", "LayerType": "CaskPooling", "ParameterType": "Pooling", "Inputs": [half]},
            {"Name": "f", "LayerType": "fusion", "ParameterType": "Convolution", "Inputs": [byte]},
            {"Name": "r", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
        ]
        new = [
            {"Name": "c2", "LayerType": "correlation", "Inputs": [{"Datatype": "Half", "Format": "(NHWC)"}]},
            {"Name": "k", "LayerType": "kgen", "Inputs": [{"Datatype": "UInt8"}]},
            {"Name": "w", "LayerType": "wait", "Inputs": []},
        ]
        text = json.dumps({"Layers": [*old, *new, "only a name"], "Bindings": []})
        assert count_kernels(eight(), text) == {"fp16": 2, "int8": 1}

    @pytest.mark.parametrize("achieved", [{"fp16": 60, "fp32": 6}, {"fp16": 58, "fp32": 5}, {"fp16": 66}])
    def test_an_engine_with_layers_merged_keeps_its_precision(self, achieved):
        check_achieved(Path("m"), {"fp16": 60, "fp32": 6}, achieved, 1)

    @pytest.mark.parametrize(
        ("asked", "achieved", "profiles"),
        [
            ({"fp16": 60, "fp32": 6}, {"fp32": 66}, 1),
            ({"int8": 60, "fp16": 6}, {"int8": 40, "fp16": 26}, 1),
            ({"fp32": 66}, {"fp16": 66}, 1),
            ({"fp16": 60}, {"fp16": 60, "fp32": 60}, 2),
        ],
    )
    def test_one_that_fell_back_is_refused(self, asked, achieved, profiles):
        with pytest.raises(ModelError, match="the engine would compute"):
            check_achieved(Path("m"), asked, achieved, profiles)

    @pytest.mark.parametrize(
        ("said", "counted"),
        [("fp16", {"fp32": 66}), ("int8", {"fp16": 66}), ("fp32", {"fp16": 60, "fp32": 6}), ("fp16", {})],
    )
    def test_a_spec_that_promises_another_precision_is_refused(self, said, counted):
        with pytest.raises(ModelError, match=f"says that it is {said}"):
            check_asked(Path("m"), replace(tiny.SPEC, precision=said), counted)

    def test_a_remainder_in_float_is_no_broken_promise(self):
        check_asked(Path("m"), replace(tiny.SPEC, precision="int8"), {"int8": 60, "fp16": 4, "fp32": 2})


class TestPhases:
    def test_the_share_is_nested_and_never_goes_back(self):
        phases = Phases()
        phases.start("root", None, 4)
        assert phases.step("root", 0) == (0.25, "root 1/4")
        phases.start("inner", "root", 2)
        share, told = phases.step("inner", 0)
        assert told == "inner 1/2"
        assert 0.25 < share < 0.5
        phases.step("inner", 1)
        phases.finish("inner")
        phases.start("second", "root", 10)
        later, _ = phases.step("second", 0)
        assert share < later < 0.5
        assert phases.step("root", 1)[0] == 0.5

    def test_a_phase_that_was_never_started_is_no_error(self):
        assert Phases().step("unheard of", 3) == (0.0, "unheard of")
        Phases().finish("unheard of")


class Cache:
    """A stand-in for a timing cache."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+measured"


class Config:
    """A stand-in for a builder's configuration: takes a cache of this GPU alone, as TensorRT does."""

    def create_timing_cache(self, content: bytes) -> Cache:
        return Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content.startswith(b"another GPU"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache:
        return self.cache


class TestTimingCache:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def measure(self) -> bytes:
        config: Any = Config()
        with builder._timing_cache(eight(), ADA, config):
            pass
        return device_cache("timing", ADA).read_bytes()

    def test_what_was_measured_is_read_and_kept(self):
        assert self.measure() == b"+measured"
        assert self.measure() == b"+measured+measured"

    def test_one_that_tensorrt_refuses_is_begun_anew(self):
        path = device_cache("timing", ADA)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"another GPU's")
        assert self.measure() == b"+measured"

    def test_it_belongs_to_one_version_device_and_board(self):
        other = replace(ORIN, board="NVIDIA Jetson Orin Nano")
        newer = replace(ORIN, version="10.16.0")
        assert len({device_cache("timing", machine) for machine in (ADA, ORIN, other, newer)}) == 4
        assert device_cache("timing", ORIN).name == "tensorrt-10.3.0-Orin-8.7-16-NVIDIA_Jetson_Orin_NX-36.4.3.cache"


def test_the_command_that_builds_again_names_the_shapes():
    static = static_profiles([(32, 64), (64, 32)])
    assert command_line(Path("m.onnx"), "tensorrt", static) == (
        "fcn-edge build m.onnx --backend tensorrt --shapes 32x64,64x32"
    )
    dynamic = [Profile((32, 32), (64, 64), (96, 96))]
    assert command_line(Path("m.onnx"), "tensorrt", dynamic).endswith("--min 32x32 --opt 64x64 --max 96x96")
