"""TensorRT's backends: what they open, build and refuse, and how frames go through, on stand-ins for what needs a GPU.

The arithmetic is that of the real kernels, compiled for the CPU; the network's is NumPy's.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import emulated
import msgspec
import numpy as np
import plans
import pytest
import standin
import tiny
from standin import StandIn

from fcn_edge import Segmenter
from fcn_edge.cuda.memory import Cuda
from fcn_edge.engine import sidecar
from fcn_edge.engine.profiles import Profile, load_device
from fcn_edge.errors import BackendError, ModelError
from fcn_edge.runtime import backend_class, open_backend, ways
from fcn_edge.runtime.plan import choose, outside
from fcn_edge.runtime.tensorrt import KEPT_STEPS
from fcn_edge.spec import Output

SQUARE = Profile((32, 32), (32, 32), (32, 32))
WIDE = Profile((16, 32), (16, 32), (16, 32))
ANY = Profile((8, 8), (16, 32), (64, 64))

emulating = pytest.mark.debian(**{"g++": "g++"})  # compiles the emulated GPU


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plan, of no meaning, with a sidecar for an Orin NX that names the profiles."""

    def write(*profiles: Profile, spec: Any = tiny.SPEC) -> Path:
        path, papers = plans.write(tmp_path, plans.ORIN_NX)
        changed = plans.changed(papers, profiles=profiles)
        sidecar.write(path, msgspec.structs.replace(changed, spec=spec))
        return path

    return write


@pytest.fixture
def opened(plan: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Opens a Segmenter on a plan of the tiny network, over stand-ins for TensorRT and the GPU."""
    segmenters = []

    def make(*profiles: Profile, dtype: str = "float32", spec: Any = tiny.SPEC, **options: Any) -> Any:
        standin = StandIn(profiles, dtype, spec.output.kind == "labels").install(monkeypatch, plans.ORIN_NX)
        segmenters.append(Segmenter(plan(*profiles, spec=spec), "tensorrt", **options))
        return segmenters[-1], standin

    yield make
    for segmenter in segmenters:
        segmenter.close()


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.kron(tiny.random_frames(-(-height // 4), -(-width // 4), 3, seed=seed), np.ones((4, 4, 1), np.uint8))[
        :height, :width
    ]


def on_the_cpu(tmp_path: Path, frames: list[np.ndarray], **options: Any) -> list[np.ndarray]:
    with Segmenter(tiny.write_onnx(tmp_path / "cpu.onnx"), "onnxruntime", **options) as segmenter:
        return [segmenter(each).labels for each in frames]


@emulating
class TestWholeFrames:
    @pytest.mark.parametrize("way", ["kernel", "kernel over mapped memory", "scores"])
    @pytest.mark.parametrize("resize", ["fit", "stretch", "letterbox", "native"])
    @pytest.mark.parametrize("size", [(32, 64), (45, 37), (8, 9)])
    def test_labels_are_the_cpus(
        self, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, resize: str, size: tuple
    ) -> None:
        monkeypatch.setattr(ways, "fastest", lambda ways, what, run: (way, dict.fromkeys(ways, 1.0)))
        segmenter, _ = opened(ANY, resize=resize)
        photo = frame(*size)
        result = segmenter(photo)
        expected = on_the_cpu(tmp_path, [photo], resize=resize)[0]
        assert result.labels.shape == size
        assert (result.labels == expected).mean() > 0.97  # a grey level more or less turns ties
        assert (result.scores is None) == (way != "scores")

    def test_half_scores_and_labels_in_the_graph_come_home_too(self, opened: Any, tmp_path: Path) -> None:
        photo = frame(32, 32)
        expected = on_the_cpu(tmp_path, [photo])[0]
        halves, _ = opened(SQUARE, dtype="float16")
        assert (halves(photo).labels == expected).all()
        inside, _ = opened(SQUARE, spec=replace(tiny.SPEC, output=Output(kind="labels")))
        result = inside(photo)
        assert (result.labels == expected).all()
        assert result.scores is None

    def test_scores_come_where_they_are_asked_for(self, opened: Any) -> None:
        photo = frame(32, 32)
        result = opened(SQUARE, scores=True)[0](photo)
        np.testing.assert_allclose(result.scores, tiny.scores_of(photo[None])[0])

    def test_copies_to_and_from_the_gpu_are_stages_of_their_own(self, opened: Any) -> None:
        timings = opened(SQUARE)[0](frame(32, 32)).timings
        assert list(timings) == ["prepare", "to_device", "infer", "from_device", "decode"]
        assert timings["to_device"] > 0  # the CPU's own copying; the GPU's clock stands still here

    def test_two_in_flight_come_back_in_order_and_one_alone_may_come_between(self, opened: Any) -> None:
        segmenter, _ = opened(SQUARE)
        frames = [frame(32, 32, seed) for seed in range(6)]
        expected = [segmenter(each).labels for each in frames]
        results = []
        for result in segmenter.stream(frames):
            assert (segmenter(frames[0]).labels == expected[0]).all()
            results.append(result.labels)
        np.testing.assert_array_equal(results, expected)

    def test_a_frame_may_be_overwritten_once_it_was_taken(self, opened: Any) -> None:
        backend = opened(SQUARE)[0].backend
        batch = frame(32, 32)[None].copy()
        expected = tiny.scores_of(batch)
        backend.submit(batch)
        batch[:] = 0
        np.testing.assert_allclose(backend.collect(), expected)

    def test_a_graph_is_captured_of_each_static_shape_at_its_second_frame_and_replayed(self, opened: Any) -> None:
        segmenter, standin = opened(SQUARE, WIDE, scores=True)
        for size in [(64, 64), (32, 64)] * 5:
            segmenter(frame(*size))
        assert [context.calls for context in standin.contexts] == [2, 2]

    def test_a_new_shape_within_a_profile_is_captured_anew(self, opened: Any) -> None:
        segmenter, standin = opened(ANY, resize="native", scores=True)
        for size in [(16, 16), (16, 16), (16, 16), (16, 24), (16, 24), (16, 24), (16, 16)]:
            photo = frame(*size)
            np.testing.assert_allclose(segmenter(photo).scores, tiny.scores_of(photo[None])[0])
        assert standin.contexts[0].calls == 5

    def test_sizes_that_change_in_a_stream_wait_for_each_other(self, opened: Any) -> None:
        segmenter, _ = opened(ANY, resize="native", scores=True)
        frames = [frame(16, 16 + 8 * (seed % 3), seed) for seed in range(9)]
        for photo, result in zip(frames, segmenter.stream(frames), strict=True):
            np.testing.assert_allclose(result.scores, tiny.scores_of(photo[None])[0])

    def test_profiles_may_be_needed_in_any_order(self, opened: Any) -> None:
        segmenter, standin = opened(SQUARE, WIDE, scores=True)
        for size in [(32, 64), (64, 64), (32, 64), (64, 64)]:
            segmenter(frame(*size))
        assert [context.active_optimization_profile for context in standin.contexts] == [1, 0]

    def test_scores_with_the_classes_last_are_put_right_on_the_cpu(self, opened: Any, tmp_path: Path) -> None:
        segmenter, standin = opened(SQUARE)
        standin.classes_last = True
        photo = frame(32, 32)
        result = segmenter(photo)
        assert (result.labels == on_the_cpu(tmp_path, [photo])[0]).all()
        assert result.scores is not None

    def test_what_cannot_be_captured_runs_without_a_graph(self, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        segmenter, standin = opened(SQUARE, scores=True)
        monkeypatch.setattr(standin.cudas[0].driver, "end_capture", _refuse)
        photo = frame(32, 32)
        for _ in range(4):
            np.testing.assert_allclose(segmenter(photo).scores, tiny.scores_of(photo[None])[0])

    def test_nothing_grows_over_fifty_sizes_and_many_frames(self, opened: Any) -> None:
        segmenter, standin = opened(SQUARE, WIDE, ANY)
        cuda = standin.cudas[0]
        sizes = [(64, 64), *((8 + number, 64 - number) for number in range(50))]
        for size in sizes:
            list(segmenter.stream([frame(*size)] * 3))
        held = cuda.held
        for size in sizes + sizes[:1] * 100:
            segmenter(frame(*size))
        assert cuda.held[1] <= held[1] + (1 << 16)  # the tables of the last sizes differ
        assert cuda.held[0] <= held[0] + 2 * KEPT_STEPS

    def test_it_is_usable_from_any_thread(self, opened: Any) -> None:
        segmenter, standin = opened(SQUARE)
        photo = frame(32, 32)
        expected = segmenter(photo).labels
        results = []
        for _ in range(3):
            thread = threading.Thread(target=lambda: results.append(segmenter(photo).labels))
            thread.start()
            thread.join()
        np.testing.assert_array_equal(results, [expected] * 3)
        assert standin.cudas[0].driver.depth == 0

    def test_closing_gives_all_back_and_using_it_then_is_told(self, opened: Any) -> None:
        segmenter, standin = opened(SQUARE)
        stream = segmenter.stream([frame(32, 32)] * 5)
        next(stream)
        segmenter.close()
        segmenter.close()
        assert standin.cudas[0].held == (0, 0)
        assert standin.cudas[0].driver.released
        with pytest.raises(BackendError, match="was closed"):
            segmenter(frame(32, 32))

    def test_a_model_that_is_forgotten_gives_all_back(
        self, plan: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        standin = StandIn([SQUARE]).install(monkeypatch, plans.ORIN_NX)
        segmenter = Segmenter(plan(SQUARE), "tensorrt")
        segmenter(frame(32, 32))
        del segmenter
        gc.collect()
        assert standin.cudas[0].held == (0, 0)
        assert standin.cudas[0].driver.released  # type: ignore[attr-defined]

    def test_after_a_fault_of_the_gpu_closing_still_lets_the_engine_go(
        self, opened: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        segmenter, standin = opened(SQUARE)
        segmenter(frame(32, 32))
        loaded = segmenter.backend._plan
        for call in ("free", "free_host", "destroy_graph", "synchronize_stream"):
            monkeypatch.setattr(standin.cudas[0].driver, call, _lost)
        segmenter.close()
        assert loaded.engine is None
        assert standin.cudas[0].driver.released

    def test_a_frame_that_fails_takes_nothing_with_it(self, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        segmenter, standin = opened(SQUARE, scores=True)
        photo = frame(32, 32)
        segmenter(photo)
        held = standin.cudas[0].held
        standin.lines.append((1, "the GPU is on fire (In burn at /_src/fire.cpp:1)"))
        monkeypatch.setattr(standin.contexts[0], "execute_async_v3", lambda stream: False)
        segmenter.backend._plan._contexts[0].captures = False
        with pytest.raises(BackendError, match=r"the network failed: the GPU is on fire\.$"):
            segmenter(photo)
        monkeypatch.undo()
        assert standin.cudas[0].held[0] < held[0]
        assert segmenter.backend.infer(photo[None]).shape == (1, 4, 32, 32)

    def test_a_size_outside_the_profiles_is_told_with_their_range_and_the_command_that_adds_it(
        self, opened: Any
    ) -> None:
        segmenter, _ = opened(SQUARE, WIDE)
        segmenter(frame(32, 32))
        with pytest.raises(BackendError) as caught:
            segmenter(frame(64, 32))
        assert str(caught.value).endswith(
            "takes 32x32, 16x32 (rows x columns), not 32x16. Widen it: "
            "fcn-edge build tiny.onnx --backend tensorrt --shapes 32x32,16x32,32x16"
        )
        assert segmenter(frame(32, 32)).labels.shape == (32, 32)


@emulating
def test_what_tensorrt_rtx_compiled_is_kept_and_let_go_after_the_contexts_and_before_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []

    class Cache:
        def deserialize(self, content: bytes) -> bool:
            return True

        def serialize(self) -> bytes:
            return b"kernels"

        def __del__(self) -> None:
            gone.append("cache")

    class Config:
        def create_runtime_cache(self) -> Cache:
            return Cache()

        def set_runtime_cache(self, cache: Cache) -> None: ...
        def set_execution_context_allocation_strategy(self, strategy: str) -> None: ...
        def __del__(self) -> None:
            gone.append("config")

    class Context(standin.Context):
        def __del__(self) -> None:
            gone.append("context")

    strategies = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", ON_PROFILE_CHANGE="on change")
    rtx = StandIn([SQUARE]).install(monkeypatch, plans.RTX_CARD)
    rtx.is_rtx = True
    rtx.module = SimpleNamespace(CudaGraphStrategy=strategies, ExecutionContextAllocationStrategy=strategies)
    monkeypatch.setattr(standin.Engine, "create_runtime_config", lambda engine: Config(), raising=False)
    monkeypatch.setattr(
        standin.Engine, "create_execution_context", lambda engine, config: Context(engine), raising=False
    )
    monkeypatch.setattr(standin.Engine, "__del__", lambda engine: gone.append("engine"), raising=False)
    with Segmenter(plans.write(tmp_path, plans.RTX_CARD)[0], "tensorrt-rtx") as segmenter:
        segmenter(frame(32, 32))
        assert gone == []
    assert gone == ["context", "cache", "config", "engine"]
    (kept,) = (tmp_path / "cache" / "fcn-edge" / "runtime").glob("*.cache")
    assert kept.read_bytes() == b"kernels"


@emulating
class TestWays:
    def test_the_fastest_is_measured_once_and_said_and_kept(self, opened: Any) -> None:
        segmenter, standin = opened(SQUARE)
        segmenter(frame(32, 32))
        assert segmenter.backend.way in segmenter.choice
        assert "scores" in segmenter.choice
        ran = standin.contexts[0].calls
        segmenter(frame(32, 32))
        assert standin.contexts[0].calls == ran
        again, standin = opened(SQUARE)
        again(frame(32, 32))
        assert again.choice == segmenter.choice
        assert standin.contexts[0].calls == 1  # not measured again

    def test_warming_up_does_not_measure_on_its_black_frame(self, opened: Any) -> None:
        segmenter, _ = opened(SQUARE)
        segmenter.warm_up((32, 32))
        assert segmenter.choice == "tensorrt: asked for"
        segmenter(frame(32, 32))
        assert "labels by" in segmenter.choice


def test_ways_are_measured_in_turn_and_the_answer_holds_for_what_it_was_measured_on() -> None:
    calls: list[str] = []
    way, seconds = ways.fastest(["a", "b"], "this device", calls.append)
    assert set(calls[: ways.WARM_UP]) == {"a"}
    assert calls[2 * ways.WARM_UP :] == ["a", "b"] * ways.ROUNDS
    assert ways.fastest(["a", "b"], "this device", pytest.fail) == (way, seconds)
    calls.clear()
    ways.fastest(["a", "b"], "another device", calls.append)
    assert calls


def test_a_slower_way_loses() -> None:
    stop = threading.Event()
    assert ways.fastest(["a", "b"], "x", lambda way: stop.wait(0.002 if way == "a" else 0))[0] == "b"


@pytest.mark.parametrize(
    ("shape", "batch", "expected"),
    [((32, 32), 1, 0), ((16, 32), 1, 1), ((16, 40), 1, 2), ((64, 64), 1, 2), ((65, 64), 1, None), ((32, 32), 2, None)],
)
def test_a_static_profile_is_taken_before_a_dynamic_one(shape: tuple, batch: int, expected: int | None) -> None:
    assert choose([SQUARE, WIDE, ANY], shape, batch) == expected


def test_of_dynamic_profiles_the_one_with_the_nearest_optimum_is_taken() -> None:
    profiles = [Profile((8, 8), best, (64, 64)) for best in ((64, 64), (16, 16), (32, 32))]
    assert choose(profiles, (24, 24)) == 1


def test_a_dynamic_range_is_widened_where_it_has_to_be() -> None:
    rebuild = "fcn-edge build 'my model.onnx' --min 8x8 --opt 16x32 --max 64x64 --backend tensorrt"
    line = outside(Path("a.plan"), [ANY], (128, 16), 1, rebuild)
    assert line == (
        "a.plan takes 8x8 to 64x64, best at 16x32 (rows x columns), not 128x16. Widen it: "
        "fcn-edge build 'my model.onnx' --backend tensorrt --min 8x8 --opt 16x32 --max 128x64"
    )


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
class TestWithoutAGpu:
    """What this machine answers: no test of this class may see a GPU."""

    @pytest.fixture(autouse=True)
    def _no_gpu(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from fcn_edge.engine import machine
        from fcn_edge.runtime import engines

        monkeypatch.setattr(machine, "find_gpu", lambda: None)
        monkeypatch.setattr(engines, "find_gpu", lambda: None)

    def test_asked_for_it_says_what_is_missing_in_one_line(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(BackendError) as caught:
            open_backend(tiny.write_onnx(tmp_path / "tiny.onnx"), tiny.SPEC, name)
        assert "\n" not in str(caught.value)
        assert "pip install" in str(caught.value) or "needs an NVIDIA GPU" in str(caught.value)

    def test_auto_passes_it_over_without_a_word(self, name: str, tmp_path: Path) -> None:
        backend, reason = open_backend(tiny.write_onnx(tmp_path / "tiny.onnx"), tiny.SPEC)
        backend.close()
        assert name not in reason

    def test_a_plan_alone_is_told_that_its_sidecar_is_missing(self, name: str, tmp_path: Path) -> None:
        path, _ = plans.write(tmp_path, plans.ORIN_NX)
        sidecar.sidecar_path(path).unlink()
        for backend in (name, "auto"):
            with pytest.raises(ModelError, match=r"\.json beside it") as caught:
                open_backend(path, tiny.SPEC, backend)
            assert "\n" not in str(caught.value)

    def test_another_precision_than_the_files_is_answered_with_the_command_that_makes_it(
        self, name: str, tmp_path: Path
    ) -> None:
        with pytest.raises(BackendError, match="fcn-edge export --precision fp16"):
            open_backend(tiny.write_onnx(tmp_path / "tiny.onnx"), tiny.SPEC, name, "fp16")


class TestAuto:
    """Where library and GPU are there, stood in for by the words of an Orin NX."""

    @pytest.fixture
    def orin(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
        import fcn_edge.runtime

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(fcn_edge.runtime, "is_installed", lambda name: name in ("tensorrt", "openvino"))
        return StandIn([SQUARE]).install(monkeypatch, plans.ORIN_NX)

    def test_it_takes_an_engine_of_the_file_that_fits(self, orin: StandIn, tmp_path: Path) -> None:
        (tmp_path / "engines").mkdir()
        plans.write(tmp_path / "engines", plans.ORIN_NX)
        onnx = tmp_path / "engines" / "tiny.onnx"
        backend, reason = open_backend(onnx, tiny.SPEC, shapes=[(32, 32)])
        backend.close()
        assert (backend.name, reason) == ("tensorrt", "tensorrt: the fastest here for .onnx files")

    @pytest.mark.parametrize(
        ("other", "shapes"),
        [
            (plans.ORIN_NX, [(32, 32), (16, 32)]),
            (replace(plans.ORIN_NX, version="10.16.0"), [(32, 32)]),
            (replace(plans.ORIN_NX, board="NVIDIA Jetson Orin Nano Developer Kit"), [(32, 32)]),
        ],
        ids=["a shape that it does not take", "another version's", "another board's"],
    )
    def test_it_says_what_to_build_where_none_fits(
        self, orin: StandIn, tmp_path: Path, other: Any, shapes: list
    ) -> None:
        (tmp_path / "engines").mkdir()
        plans.write(tmp_path / "engines", other)
        onnx = tmp_path / "engines" / "tiny.onnx"
        backend, reason = open_backend(onnx, tiny.SPEC, shapes=shapes)
        backend.close()
        assert backend.name == "openvino"
        assert reason == (
            "openvino: the fastest here for .onnx files; passed over: tensorrt has no engine of "
            f"{onnx} for this machine: fcn-edge build {onnx} --backend tensorrt"
        )

    def test_an_engine_of_another_file_is_none_of_this_one(self, orin: StandIn, tmp_path: Path) -> None:
        (tmp_path / "engines").mkdir()
        plans.write(tmp_path / "engines", plans.ORIN_NX)
        onnx = tiny.write_onnx(tmp_path / "engines" / "tiny.onnx", bias=tiny.BIAS + 1)
        assert backend_class("tensorrt").lacking(onnx, True, [(32, 32)]).startswith("tensorrt has no engine")

    def test_asked_for_it_builds_what_is_lacking_for_the_run_and_the_board_and_says_so(
        self, orin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from fcn_edge.engine import builder

        asked = []

        def build(onnx: Path, spec: Any, product: str, profiles: Any, out: Path, *rest: Any) -> Any:
            asked.append((onnx, product, [profile.opt for profile in profiles], out, rest))
            path, papers = plans.write(tmp_path, plans.ORIN_NX)
            return builder.Built(path, papers, False, "")

        monkeypatch.setattr(builder, "build", build)
        onnx = tiny.write_onnx(tmp_path / "tiny.onnx")
        with caplog.at_level(logging.WARNING):
            open_backend(onnx, tiny.SPEC, "tensorrt", None, None, [(32, 32)], print)[0].close()
        assert asked == [
            (
                onnx,
                "tensorrt",
                [(32, 32)],
                tmp_path / "cache" / "fcn-edge" / "engines",
                (load_device("orin-nx").options, print),
            )
        ]
        assert [record.getMessage() for record in caplog.records] == [
            f"Building an engine of {onnx} for 32x32, which may take minutes: there is none yet."
        ]

    def test_what_running_needs_is_missed_before_the_minutes_of_a_build(
        self, orin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from fcn_edge.engine import builder
        from fcn_edge.runtime import tensorrt

        def missing(cuda: Cuda) -> None:
            raise BackendError("NVRTC is not installed")

        monkeypatch.setattr(builder, "build", pytest.fail)
        monkeypatch.setattr(tensorrt, "Kernels", missing)
        with pytest.raises(BackendError, match="NVRTC is not installed"):
            open_backend(tiny.write_onnx(tmp_path / "tiny.onnx"), tiny.SPEC, "tensorrt", shapes=[(32, 32)])
        assert orin.cudas[0].driver.released  # type: ignore[attr-defined]

    def test_an_engine_that_cannot_be_kept_is_told_with_the_place(
        self, orin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from fcn_edge.engine import builder

        def build(*arguments: Any) -> None:
            (tmp_path / "cache" / "fcn-edge" / "engines").mkdir(parents=True)

        (tmp_path / "cache").touch()
        monkeypatch.setattr(builder, "build", build)
        with pytest.raises(BackendError, match=r"cannot be kept in .*engines: Not a directory\. .*XDG_CACHE_HOME"):
            open_backend(tiny.write_onnx(tmp_path / "tiny.onnx"), tiny.SPEC, "tensorrt", shapes=[(32, 32)])

    def test_without_a_size_to_build_for_it_says_how_to_name_one(self, orin: StandIn, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match=r"fcn-edge build .*tiny\.onnx --backend tensorrt --shapes"):
            Segmenter(tiny.write_onnx(tmp_path / "tiny.onnx"), "tensorrt", resize="native")

    def test_a_library_that_does_not_start_on_this_driver_is_told_in_one_line(
        self, orin: StandIn, tmp_path: Path
    ) -> None:
        orin.starts = False
        orin.lines += [(2, "Unable to determine GPU memory usage"), (2, "CUDA initialization failure with error: 35.")]
        path, _ = plans.write(tmp_path, plans.ORIN_NX)
        with pytest.raises(BackendError) as caught:
            open_backend(path, tiny.SPEC)
        assert str(caught.value) == (
            "TensorRT does not start: CUDA initialization failure with error: 35. Look at the driver: fcn-edge doctor"
        )

    def test_a_plan_that_the_library_refuses_is_told_with_its_reason_and_the_command_that_rebuilds(
        self, orin: StandIn, tmp_path: Path
    ) -> None:
        orin.loads = False
        orin.lines.append((1, "the magic tag does not match (In throwUnlessHeaderOk at /_src/runtime.cpp:48)"))
        path, papers = plans.write(tmp_path, plans.ORIN_NX)
        with pytest.raises(ModelError) as caught:
            open_backend(path, tiny.SPEC)
        assert str(caught.value) == (
            f"{path} could not be loaded by TensorRT 10.3.0: the magic tag does not match. Rebuild: {papers.rebuild}"
        )
        assert orin.cudas[0].driver.released  # type: ignore[attr-defined]


def test_what_tensorrt_rtx_itself_says_of_a_plan_that_it_cannot_load_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product's own runtime: without a GPU, or before bytes that are no plan, it answers None and logs why."""
    from fcn_edge.engine.versions import load
    from fcn_edge.runtime.plan import Plan

    try:
        trt = load("tensorrt-rtx")
    except BackendError as error:
        pytest.skip(str(error))
    path, papers = plans.write(tmp_path, plans.RTX_CARD)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError) as caught:
        Plan(path, papers, trt, Cuda(cast(Any, emulated.Emulated())), lambda engine: None)
    line = str(caught.value)
    assert line.startswith(f"{path} could not be loaded by TensorRT-RTX 1.")
    assert line.endswith(f". Rebuild: {papers.rebuild}")
    assert "\n" not in line
    assert "/_src/" not in line


def _lost(handle: int) -> None:
    raise BackendError("CUDA says illegal address")


def _refuse(stream: int) -> int:
    raise BackendError("operation not permitted when stream is capturing")
