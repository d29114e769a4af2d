"""Engines on a real GPU, against ONNX Runtime and against themselves. Their speed: benchmarks/gpu.py.

Run: pytest -m gpu tests/gpu, or benchmarks/gpu.py, which prints a table too. What a machine lacks is skipped with its
reason: a product, or torch for exporting other precisions than the bundled float32.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from fcn_edge import Segmenter
from fcn_edge.cuda import open_cuda
from fcn_edge.engine import sidecar
from fcn_edge.engine.builder import build
from fcn_edge.engine.machine import find_gpu
from fcn_edge.engine.profiles import Profile, static_profiles
from fcn_edge.engine.versions import load
from fcn_edge.errors import BackendError, ModelError
from fcn_edge.prepare import lay_out, prepare, scale
from fcn_edge.runtime.files import bundled, read_spec
from fcn_edge.runtime.tensorrt import TensorRt

pytestmark = pytest.mark.gpu

FRAMES = 10_000
SIZES = 50
SLACK = 8 << 20  # bytes: the driver hands out memory in blocks of 2 MiB, Python's own heap breathes
AGREED = {"fp32": 0.999, "fp16": 0.997, "int8": 0.99}  # of all pixels, at least
CAMERA = 1280  # pixels, the longer side of its frames: more than the network's, as cameras' are
SCALED = 0.998  # with the kernels run on the CPU it was 0.9988 scaled up, by a grey level here and there, 0.99999 down


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def product(request: pytest.FixtureRequest) -> str:
    try:
        load(request.param)
    except BackendError as error:
        pytest.skip(str(error))
    if find_gpu() is None:
        pytest.skip("CUDA shows no GPU")
    return request.param


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    folder = Path(__file__).parents[2] / "examples"
    found = [cv2.imread(str(path)) for path in sorted(folder.glob("*.jpg"))]
    assert len(found) >= 2
    return found  # type: ignore[return-value]


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundled network in any precision; what is not bundled is exported, where torch and the data are."""

    def get(precision: str) -> Path:
        if precision == "fp32":
            return bundled()["fcn8s-lite"]
        made = Path(__file__).parents[2] / "export" / f"fcn8s-lite.{precision}.onnx"
        if made.is_file():
            return made
        out = tmp_path_factory.mktemp(precision) / made.name
        command = [sys.executable, "-m", "fcn_edge", "export", "--precision", precision, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no fcn8s-lite in {precision}: {done.stderr.strip().splitlines()[-1]}")
        return out

    return get


@pytest.fixture(scope="module")
def plan(
    product: str, onnx: Any, photos: list, caches: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Builds an engine, for the shapes of the photos where none are named."""
    folder = tmp_path_factory.mktemp(product)

    def make(precision: str = "fp32", profiles: list[Profile] | None = None) -> Path:
        file = onnx(precision)
        spec = read_spec(file)
        shapes = [lay_out(spec, photo.shape[:2], spec.resize, None).network for photo in photos]
        return build(file, spec, product, profiles or static_profiles(shapes), folder).path

    return make


@pytest.fixture
def opened(product: str, plan: Any) -> Iterator[Callable[..., Segmenter]]:
    segmenters: list[Segmenter] = []

    def make(precision: str = "fp32", profiles: list[Profile] | None = None, **options: Any) -> Segmenter:
        segmenters.append(Segmenter(plan(precision, profiles), product, **options))
        return segmenters[-1]

    yield make
    for segmenter in segmenters:
        segmenter.close()


def any_size(product: str) -> list[Profile]:
    return [Profile((65, 65), (289, 513), (513, 513))]


def network(segmenter: Segmenter) -> TensorRt:
    assert isinstance(segmenter.backend, TensorRt)
    return segmenter.backend


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_labels_are_onnx_runtimes_on_photos(precision: str, opened: Any, onnx: Any, photos: list) -> None:
    """At the network's own size: the same bytes go in, so what differs is the engine's."""
    engine = opened(precision)
    with Segmenter(onnx(precision), "onnxruntime") as reference:
        for photo in photos:
            frame = scale(photo, engine.network_size(photo.shape[:2]))
            agreed = (engine(frame).labels == reference(frame).labels).mean()
            assert agreed >= AGREED[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_labels_of_a_cameras_frames_are_onnx_runtimes_at_their_own_size(
    precision: str, opened: Any, onnx: Any, photos: list
) -> None:
    """Through all of it, the scaling on the GPU too: down, a grey level here and there turns few labels."""
    engine = opened(precision)
    with Segmenter(onnx(precision), "onnxruntime") as reference:
        for photo in photos:
            times = CAMERA / max(photo.shape)
            frame = cv2.resize(photo, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
            agreed = (engine(frame).labels == reference(frame).labels).mean()
            assert agreed >= AGREED[precision]


def test_labels_of_photos_that_the_gpu_scaled_up_are_nearly_the_cpus(opened: Any, onnx: Any, photos: list) -> None:
    engine = opened()
    with Segmenter(onnx("fp32"), "onnxruntime") as reference:
        for photo in photos:
            assert (engine(photo).labels == reference(photo).labels).mean() >= SCALED


def test_the_precision_that_was_achieved_is_the_files_and_noted_in_the_sidecar(opened: Any, plan: Any) -> None:
    assert opened("fp32").backend.precision == "fp32"
    counted = sidecar.read(plan("fp32")).precision
    assert set(counted.achieved or {}) <= {"fp32"}
    assert sidecar.read(plan("fp32")).activation_bytes


@pytest.mark.parametrize("way", ["kernel", "kernel over mapped memory", "scores"])
def test_every_way_gives_the_same_labels(way: str, opened: Any, photos: list) -> None:
    segmenter, reference = opened(), opened(scores=True)
    photo = photos[0]
    segmenter(photo)  # settles on one
    network(segmenter).way = way
    assert (segmenter(photo).labels == reference(photo).labels).mean() >= 0.9999  # ties within rounding


def test_results_of_a_stream_are_those_one_by_one(opened: Any, photos: list) -> None:
    segmenter = opened()
    frames = [photos[number % 2] for number in range(12)]
    expected = [segmenter(frame).labels for frame in frames]
    for result, labels in zip(segmenter.stream(frames), expected, strict=True):
        np.testing.assert_array_equal(result.labels, labels)


def test_a_replayed_graph_gives_what_plain_execution_gives(opened: Any, photos: list) -> None:
    segmenter = opened(scores=True)
    plain = opened(scores=True)
    for photo in photos:
        replayed = [segmenter(photo).scores for _ in range(5)][-1]
        plain(photo)
        for context in network(plain)._loaded._contexts.values():
            context.captures = False
            context.drop_graph()
        np.testing.assert_array_equal(replayed, plain(photo).scores)


def test_profiles_take_turns_in_any_order(opened: Any, onnx: Any, photos: list) -> None:
    """Each has a context of its own, of which the first that is made begins with profile 0 and the others with none."""
    with Segmenter(onnx("fp32"), "onnxruntime") as reference:
        for order in (photos, photos[::-1]):
            engine = opened()
            frames = [scale(photo, engine.network_size(photo.shape[:2])) for photo in order]
            for frame in frames * 4:
                assert (engine(frame).labels == reference(frame).labels).mean() >= AGREED["fp32"]
            assert len(network(engine)._loaded._contexts) == 2


def test_a_model_that_is_forgotten_gives_its_memory_back(plan: Any, product: str, photos: list) -> None:
    with open_cuda() as cuda:
        free = []
        for _ in range(4):
            segmenter = Segmenter(plan(), product)
            segmenter(photos[0])
            del segmenter
            gc.collect()
            free.append(cuda.free_memory())
    assert free[-1] >= free[0] - SLACK


def test_graphs_are_captured_where_tensorrt_leaves_that_to_us(product: str, opened: Any, photos: list) -> None:
    segmenter = opened(scores=True)
    for _ in range(3):
        segmenter(photos[0])
    (context,) = network(segmenter)._loaded._contexts.values()
    assert context.replays == (product == "tensorrt")


def test_the_time_of_each_stage_is_the_gpus(opened: Any, photos: list) -> None:
    segmenter = opened()
    for _ in range(5):
        timings = segmenter(photos[0]).timings
    assert all(0 < seconds < 1 for seconds in timings.values())


def test_nothing_grows_over_ten_thousand_frames(opened: Any, photos: list) -> None:
    segmenter = opened()
    frames = [photos[number % 2] for number in range(200)]
    for _ in segmenter.stream(frames):
        pass
    before = _memory(segmenter)
    for _ in range(FRAMES // len(frames)):
        for _ in segmenter.stream(frames):
            pass
    _assert_not_grown(before, _memory(segmenter))


def test_nothing_grows_over_fifty_changes_of_size(product: str, opened: Any, photos: list) -> None:
    segmenter = opened(profiles=any_size(product), size=257)
    sizes = [(513 - 4 * number, 200 + 6 * number) for number in range(SIZES)]
    frames = [cv2.resize(photos[0], size[::-1]) for size in sizes]

    def through() -> None:
        for frame in frames:
            segmenter(frame)
            segmenter(frame)

    through()
    before = _memory(segmenter)
    for _ in range(5):
        through()
    _assert_not_grown(before, _memory(segmenter))


def test_it_is_usable_from_any_thread_and_two_at_once(opened: Any, photos: list) -> None:
    expected = opened()(photos[0]).labels
    results: list[np.ndarray] = []

    def work(segmenter: Segmenter) -> None:
        for _ in range(50):
            labels = segmenter(photos[0]).labels
        results.append(labels)

    threads = [threading.Thread(target=work, args=(opened(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(results, [expected] * 2)


def test_a_size_outside_the_profiles_is_told_and_the_engine_goes_on(opened: Any, photos: list) -> None:
    segmenter = opened()
    expected = segmenter(photos[0]).labels
    with pytest.raises(BackendError, match=r"Widen it: fcn-edge build .* --shapes"):
        segmenter(np.zeros((2000, 100, 3), np.uint8))
    np.testing.assert_array_equal(segmenter(photos[0]).labels, expected)


def test_a_batch_prepared_on_the_cpu_gives_the_same_scores(opened: Any, photos: list) -> None:
    segmenter = opened(scores=True)
    photo = photos[0]
    layout = lay_out(segmenter.spec, photo.shape[:2], segmenter.resize, None)
    scores = segmenter.backend.infer(prepare(segmenter.spec, photo, layout))[0]
    differ = np.abs(scores[:, : segmenter(photo).scores.shape[1]] - segmenter(photo).scores)
    assert np.median(differ) < 0.05  # a grey level more or less


@pytest.mark.parametrize(
    ("field", "value"), [("compute_capability", "5.3"), ("sm_count", 1), ("gpu", "another"), ("version", "1.0.0")]
)
def test_an_engine_of_another_device_is_refused_before_it_is_loaded(
    field: str, value: object, product: str, plan: Any, tmp_path: Path
) -> None:
    path = _copy(plan(), tmp_path)
    papers = sidecar.read(path)
    key = replace(papers.key, options=replace(papers.key.options, targets=()), **{field: value})
    sidecar.write(path, msgspec.structs.replace(papers, key=key))
    with pytest.raises(ModelError, match=r"this machine has .* Rebuild: fcn-edge build"):
        Segmenter(path, product)


def test_a_plan_that_was_cut_off_or_changed_never_ends_the_process(product: str, plan: Any, tmp_path: Path) -> None:
    path = _copy(plan(), tmp_path)
    whole = path.read_bytes()
    papers = sidecar.read(path)
    for broken in (whole[: len(whole) // 2], whole[:40], b"", whole[:1000] + bytes(1000) + whole[2000:]):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=path.name):
            Segmenter(path, product)
        honest = msgspec.structs.replace(papers, bytes=len(broken), sha256=_sha256(path))
        sidecar.write(path, honest)  # so that nothing but the library can see it
        script = f"from fcn_edge import Segmenter; Segmenter({str(path)!r}, {product!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode in (0, 1), f"the process died with {done.returncode}"
        sidecar.write(path, papers)


def test_two_loads_of_an_engine_see_one_runtime_cache(product: str, opened: Any, photos: list, caches: Path) -> None:
    if product != "tensorrt-rtx":
        pytest.skip("only TensorRT-RTX keeps one")
    first = opened()
    first(photos[0])
    first.close()
    (kept,) = (caches / "fcn-edge" / "runtime").glob("*.cache")
    written = kept.stat().st_mtime_ns
    second = opened()
    second(photos[0])
    second.close()
    assert kept.stat().st_mtime_ns == written


def _memory(segmenter: Segmenter) -> tuple[int, int, tuple[int, int]]:
    """Bytes in use of the GPU's and of this process's memory, and what the backend holds."""
    cuda = network(segmenter)._cuda
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return cuda.gpu.memory - cuda.free_memory(), pages * os.sysconf("SC_PAGE_SIZE"), cuda.held


def _assert_not_grown(before: tuple, after: tuple) -> None:
    assert after[0] <= before[0] + SLACK, f"the GPU's memory grew by {after[0] - before[0]} bytes"
    assert after[1] <= before[1] + SLACK, f"the host's memory grew by {after[1] - before[1]} bytes"
    assert after[2][0] <= before[2][0], f"{after[2][0] - before[2][0]} more things are held"


def _copy(path: Path, folder: Path) -> Path:
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    sidecar.write(copy, sidecar.read(path))
    return copy


def _sha256(path: Path) -> str:
    from fcn_edge.files import sha256

    return sha256(path)
