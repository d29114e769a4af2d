"""Both kernels on a real GPU, against the CPU's functions that define them. Their speed: benchmarks/kernels.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import on_gpu
import pytest

from fcn_edge.cuda import open_cuda
from fcn_edge.cuda.kernels import Decode, Kernels, Scale
from fcn_edge.decode import decode
from fcn_edge.errors import BackendError
from fcn_edge.prepare import Layout, prepare
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import Deconv, Grid, Input, ModelSpec

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    try:
        cuda = open_cuda()
    except BackendError as error:
        pytest.skip(str(error))
    with cuda:
        yield Kernels(cuda)


@pytest.mark.parametrize("frame", [(1, 1), (37, 53), (480, 640), (721, 1279), (1080, 1920), (2160, 3840)])
@pytest.mark.parametrize("content", [(289, 513), (512, 512), (31, 1030), (1, 7)])
@pytest.mark.parametrize("border", [(0, 0), (13, 200)])
def test_a_frame_is_scaled_as_on_the_cpu_within_one_level(kernels: Kernels, frame, content, border) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8)
    network = content[0] + border[0], content[1] + border[1]
    spec = ModelSpec("tiny", ("a",))
    scaled = on_gpu.scale(kernels, picture, content, network, spec.input)
    assert np.abs(scaled.astype(int) - prepare(spec, picture, Layout(network, content))[0]).max() <= 1


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("color", ["BGR", "RGB"])
def test_every_input_that_a_spec_can_ask_for_is_laid_out_as_on_the_cpu(kernels: Kernels, layout, dtype, color) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    spec = ModelSpec("tiny", ("a",), input=Input(layout, dtype, color, (100.5, 110.0, 120.25), (50.0, 60.0, 70.0)))
    scaled = on_gpu.scale(kernels, frame, (289, 513), (300, 520), spec.input)
    level = 1 / 50 if dtype == "float32" else 1
    expected = prepare(spec, frame, Layout((300, 520), (289, 513)))[0]
    assert np.abs(scaled.astype(float) - expected).max() <= level * 1.0001


GRIDS: list[Grid] = ["half_pixel", "align_corners", Deconv(8, 4)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [(288, 512), (287, 511), (40, 71), (1, 1)])
@pytest.mark.parametrize("classes", [1, 21, 254])
def test_noise_is_decoded_as_on_the_cpu(kernels: Kernels, classes, size, grid, dtype) -> None:
    scores = np.random.default_rng(1).standard_normal((classes, 37, 65), np.float32).astype(dtype)
    labels = on_gpu.labels(kernels, scores, size, grid)
    assert (labels == decode(scores.astype(np.float32), size, grid)).mean() > 0.999
    on_gpu.assert_labels_agree(labels, scores, size, grid)


@pytest.mark.parametrize("size", [(1080, 1920), (300, 451)])
def test_a_photos_scores_are_decoded_bit_for_bit_but_for_ties(kernels: Kernels, cat: Path, size) -> None:
    photo = on_gpu.photo(cat, size)
    with Segmenter(backend="onnxruntime") as segmenter:
        result = segmenter(photo)
    assert result.scores is not None
    scores = np.ascontiguousarray(result.scores)
    labels = on_gpu.labels(kernels, scores, size, segmenter.spec.output.grid)
    assert (labels == result.labels).mean() > 0.9999
    on_gpu.assert_labels_agree(labels, scores, size, segmenter.spec.output.grid)


@pytest.mark.parametrize("size", [(296, 520), (37, 65)], ids=["by cells", "by labels"])
def test_nan_and_infinities_are_decoded_as_on_the_cpu(kernels: Kernels, size) -> None:
    random = np.random.default_rng(2)
    scores = random.standard_normal((5, 37, 65), np.float32)
    scores[random.random(scores.shape) < 0.05] = np.nan
    scores[random.random(scores.shape) < 0.05] = np.inf
    scores[random.random(scores.shape) < 0.05] = -np.inf
    labels = on_gpu.labels(kernels, scores, size, "align_corners")
    assert (labels == decode(scores, size, "align_corners")).mean() > 0.9999


@pytest.mark.parametrize("size", [(296, 520), (37, 65)], ids=["by cells", "by labels"])
def test_equal_scores_go_to_the_lowest_class(kernels: Kernels, size) -> None:
    assert not on_gpu.labels(kernels, np.ones((21, 37, 65), np.float32), size, "half_pixel").any()


def test_both_kernels_in_one_graph_give_what_they_give_alone(kernels: Kernels) -> None:
    cuda, random = kernels.cuda, np.random.default_rng(3)
    scale = Scale(kernels, (720, 1280), (289, 513), (289, 513), Input())
    task = Decode(kernels, (21, 37, 65), "float32", (720, 1280), "align_corners")
    stream, scores = cuda.stream(), cuda.upload(random.standard_normal((21, 37, 65), np.float32))
    frame, input, labels = (
        cuda.device(scale.frame_bytes),
        cuda.device(scale.input_bytes),
        cuda.device(task.labels_bytes),
    )
    host, small, out = cuda.host((720, 1280, 3)), cuda.host(scale.input_bytes), cuda.host((720, 1280))

    def queue() -> None:
        stream.upload(frame, host, host.nbytes)
        scale.launch(stream, frame.pointer, input.pointer)
        task.launch(stream, scores.pointer, labels.pointer)
        stream.download(small, input)
        stream.download(out, labels)

    host.array[...] = random.integers(0, 256, host.array.shape, np.uint8)
    queue()
    stream.synchronize()
    plain = small.array.copy(), out.array.copy()
    small.array[...], out.array[...] = 0, 255
    stream.capture(queue).launch(stream)
    stream.synchronize()
    np.testing.assert_array_equal(small.array, plain[0])
    np.testing.assert_array_equal(out.array, plain[1])


def test_a_second_start_takes_the_kernels_from_the_cache(kernels: Kernels, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Kernels(kernels.cuda).close()
    (cached,) = tmp_path.rglob("*.bin")
    written = cached.stat().st_mtime_ns
    Kernels(kernels.cuda).close()
    assert cached.stat().st_mtime_ns == written
