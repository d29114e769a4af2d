"""The one door between frames and labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import BIAS, SPEC, random_frames, scores_of, write_onnx

from fcn_edge import Segmenter
from fcn_edge.errors import BackendError, ModelError, SourceError, SpecError, UsageError
from fcn_edge.runtime import installed
from fcn_edge.runtime.files import bundled
from fcn_edge.spec import Output

needs_bundled = pytest.mark.skipif("fcn8s-lite" not in bundled(), reason="no model is bundled in this checkout")
Make = Callable[..., Segmenter]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Opens a Segmenter on the tiny model; what it takes beside `file` goes to Segmenter."""
    opened: list[Segmenter] = []

    def open_(file: Path | None = None, **options: object) -> Segmenter:
        segmenter = Segmenter(file or write_onnx(tmp_path / "tiny.onnx"), precision="fp32", **options)  # type: ignore[arg-type]
        opened.append(segmenter)
        return segmenter

    yield open_
    for segmenter in opened:
        segmenter.close()


def blocks(height: int, width: int) -> np.ndarray:
    """Four quarters: black, blue, green, red. Their borders are where no scaling moves them."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, width // 2 :, 0] = 255
    frame[height // 2 :, : width // 2, 1] = 255
    frame[height // 2 :, width // 2 :, 2] = 255
    return frame


def quarters(height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, width // 2 :] = 1
    labels[height // 2 :, : width // 2] = 2
    labels[height // 2 :, width // 2 :] = 3
    return labels


@pytest.mark.parametrize("resize", ["fit", "stretch", "native", "letterbox"])
@pytest.mark.parametrize("size", [(32, 32), (16, 32), (320, 640), (640, 320), (128, 96)])
def test_labels_are_at_the_frames_size_and_each_colour_is_its_class(make: Make, resize: str, size: tuple) -> None:
    result = make(resize=resize)(blocks(*size))
    assert result.labels.shape == size
    assert result.labels.dtype == np.uint8
    assert (result.labels == quarters(*size)).mean() > 0.98  # the rest are mixed colours along the borders


@pytest.mark.parametrize(
    ("resize", "size", "frame", "expected"),
    [
        ("fit", None, (720, 1280), (16, 32)),  # 18 rows round to 16
        ("fit", None, (1280, 720), (32, 16)),
        ("fit", None, (1, 1000), (8, 32)),
        ("fit", None, (1, 1), (32, 32)),
        ("fit", 64, (640, 1280), (32, 64)),
        ("fit", (16, 64), (720, 1280), (16, 32)),  # 28 columns would do
        ("stretch", None, (720, 1280), (32, 32)),
        ("stretch", (16, 64), (720, 1280), (16, 64)),
        ("letterbox", None, (720, 1280), (32, 32)),
        ("native", None, (720, 1280), (720, 1280)),
        ("native", None, (721, 1279), (728, 1280)),
    ],
)
def test_the_network_size_of_a_frame(make: Make, resize: str, size: int | None, frame: tuple, expected: tuple) -> None:
    assert make(resize=resize, size=size).network_size(frame) == expected


def test_corner_aligned_networks_get_sides_of_one_more(make: Make, tmp_path: Path) -> None:
    spec = replace(SPEC, sides="k*stride+1", stride=32, size=513)
    segmenter = make(write_onnx(tmp_path / "corner.onnx", spec))
    assert segmenter.network_size((720, 1280)) == (289, 513)
    assert segmenter.network_size((375, 500)) == (385, 513)


def test_native_is_exact_and_cuts_its_border_off(make: Make) -> None:
    frame = random_frames(13, 21, 3)
    np.testing.assert_array_equal(make(resize="native")(frame).labels, scores_of(frame[None]).argmax(1)[0])


def test_letterbox_differs_from_fit_by_nothing_but_the_border_that_the_network_sees(make: Make) -> None:
    frame = cv2.resize(random_frames(4, 8, 3), (120, 60))
    fitted, boxed = make(resize="fit")(frame), make(resize="letterbox")(frame)
    np.testing.assert_allclose(np.asarray(boxed.scores), np.asarray(fitted.scores))
    np.testing.assert_array_equal(boxed.labels, fitted.labels)


def test_the_input_is_laid_out_typed_and_normalised_as_the_spec_says() -> None:
    from fcn_edge.prepare import lay_out, prepare
    from fcn_edge.spec import Input

    frame = random_frames(16, 32, 3)
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
    rgb = (frame[..., ::-1].astype(np.float32) - mean) / std
    for given, expected in [
        (Input("NHWC", "uint8", "BGR"), frame[None]),
        (Input("NHWC", "uint8", "RGB"), frame[None, ..., ::-1]),
        (Input("NCHW", "uint8", "BGR"), frame.transpose(2, 0, 1)[None]),
        (Input("NHWC", "float32", "RGB", mean, std), rgb[None]),
        (Input("NCHW", "float32", "RGB", mean, std), rgb.transpose(2, 0, 1)[None]),
    ]:
        spec = replace(SPEC, input=given)
        batch = prepare(spec, frame, lay_out(spec, (16, 32), "fit", None))
        assert batch.dtype == given.dtype
        assert batch.flags.c_contiguous
        np.testing.assert_allclose(batch, expected, atol=1e-5)


def test_the_border_has_the_mean_colour_of_the_frames_own_channels() -> None:
    from fcn_edge.prepare import lay_out, prepare
    from fcn_edge.spec import Input

    spec = replace(SPEC, input=Input("NHWC", "float32", "RGB", (10, 20, 30), (1, 1, 1)))
    batch = prepare(spec, np.full((16, 32, 3), 255, np.uint8), lay_out(spec, (16, 32), "letterbox", None))
    assert batch.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(batch[:, 16:], 0)
    np.testing.assert_allclose(batch[:, :16], [[[[245, 235, 225]] * 32] * 16])


def test_a_model_with_labels_in_the_graph_gives_them_at_the_frames_size(make: Make, tmp_path: Path) -> None:
    spec = replace(SPEC, output=Output(kind="labels"))
    result = make(write_onnx(tmp_path / "labels.onnx", spec, labels=True))(blocks(320, 640))
    assert result.scores is None
    assert (result.labels == quarters(320, 640)).mean() > 0.95


def test_a_result_is_its_own_and_survives_the_next_frame(make: Make) -> None:
    segmenter = make()
    frame = random_frames(16, 32, 3)
    first = segmenter(frame)
    labels, scores = first.labels.copy(), np.array(first.scores)
    frame[:] = 0
    segmenter(frame)
    np.testing.assert_array_equal(first.labels, labels)
    np.testing.assert_array_equal(first.scores, scores)


def test_the_time_of_each_stage_is_told_in_seconds(make: Make) -> None:
    timings = make()(blocks(720, 1280)).timings
    assert list(timings) == ["prepare", "infer", "decode"]
    assert all(0 < seconds < 60 for seconds in timings.values())


def test_the_overlay_leaves_the_background_and_colours_the_rest(make: Make) -> None:
    result = make()(blocks(64, 64))
    picture = result.overlay(alpha=0.5)
    background = result.labels == 0
    np.testing.assert_array_equal(picture[background], result.frame[background])
    assert (picture[~background] != result.frame[~background]).any()


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=["gray", "alpha", "float", "empty", "batch"],
)
def test_what_is_no_frame_is_told_with_its_type_and_shape(make: Make, frame: np.ndarray) -> None:
    with pytest.raises(SourceError) as caught:
        make()(frame)
    assert f"not {frame.dtype} {frame.shape}" in str(caught.value)


def test_frames_may_be_views_of_any_stride(make: Make) -> None:
    frame = random_frames(40, 60, 3)
    segmenter = make()
    for view in (frame[:, ::-1], frame[::2, ::3], frame[..., ::-1]):
        np.testing.assert_array_equal(segmenter(view).labels, segmenter(view.copy()).labels)


def test_too_large_a_frame_for_native_is_refused_with_the_limit(make: Make) -> None:
    huge = np.broadcast_to(np.uint8(0), (9000, 12000, 3))
    with pytest.raises(SourceError, match=r"12000x9000 .* 24,000,000 pixels .*--resize tiles, or fit"):
        make(resize="native")(huge)


class TestStream:
    def test_results_come_in_order_and_equal_those_one_by_one(self, make: Make) -> None:
        frames = [random_frames(16, 32, 3, seed=seed) for seed in range(7)]
        segmenter = make()
        expected = [segmenter(frame).labels for frame in frames]
        results = list(segmenter.stream(frames))
        assert [result.frame is frame for result, frame in zip(results, frames, strict=True)] == [True] * 7
        np.testing.assert_array_equal([result.labels for result in results], expected)

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_a_short_stream_gives_every_frame(self, make: Make, count: int) -> None:
        assert len(list(make().stream([blocks(16, 16)] * count))) == count

    def test_one_frame_is_read_ahead(self, make: Make) -> None:
        read = []

        def frames() -> Iterator[np.ndarray]:
            for number in range(5):
                read.append(number)
                yield blocks(16, 16)

        stream = make().stream(frames())
        next(stream)
        assert read == [0, 1]
        stream.close()

    def test_frames_of_changing_size_pass(self, make: Make) -> None:
        sizes = [(16, 16), (40, 20), (1, 1), (20, 40), (16, 16)]
        assert [result.labels.shape for result in make().stream(blocks(*size) for size in sizes)] == sizes

    def test_what_breaks_the_source_comes_after_the_results_of_its_frames(self, make: Make) -> None:
        def frames() -> Iterator[np.ndarray]:
            yield from [blocks(16, 16)] * 3
            raise SourceError("the film tore")

        stream = make().stream(frames())
        assert len(list(islice(stream, 3))) == 3
        with pytest.raises(SourceError, match="the film tore"):
            next(stream)

    def test_a_frame_that_is_none_comes_after_the_results_before_it(self, make: Make) -> None:
        stream = make().stream([blocks(16, 16), np.zeros((2, 2, 3), np.float32), blocks(16, 16)])
        assert next(stream).labels.shape == (16, 16)
        with pytest.raises(SourceError, match="float32"):
            next(stream)

    def test_leaving_early_leaves_nothing_in_flight(self, make: Make) -> None:
        segmenter = make()
        dark, red = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), (0, 0, 255), np.uint8)
        stream = segmenter.stream([dark] * 5)
        next(stream)
        stream.close()
        assert [result.labels[0, 0] for result in segmenter.stream([red])] == [3]

    def test_a_second_stream_at_the_same_time_is_refused(self, make: Make) -> None:
        segmenter = make()
        first = segmenter.stream([blocks(16, 16)] * 3)
        next(first)
        with pytest.raises(BackendError, match="already streaming"):
            next(segmenter.stream([blocks(16, 16)]))
        assert len(list(first)) == 2

    def test_a_single_frame_may_come_between(self, make: Make) -> None:
        segmenter = make()
        red = np.full((16, 16, 3), (0, 0, 255), np.uint8)
        for result in segmenter.stream([np.zeros((16, 16, 3), np.uint8)] * 4):
            assert segmenter(red).labels[0, 0] == 3
            assert result.labels[0, 0] == 0

    def test_a_result_is_not_kept_waiting_for_a_frame_that_is_not_there_yet(self, make: Make) -> None:
        asked = []

        def frames() -> Iterator[np.ndarray | None]:
            for frame in (blocks(16, 16), None, None, blocks(16, 16)):
                asked.append(frame)
                yield frame

        stream = make().stream(frames())
        next(stream)
        assert len(asked) == 2
        assert len(list(stream)) == 1


class TestBatches:
    """Frames of several sources, computed together where they can be."""

    SIZES = ((16, 32), (16, 32), (32, 16), (16, 32), (16, 32), (16, 32), (16, 32), (16, 32), (1, 1))

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
    def test_results_come_in_order_and_equal_those_one_by_one(self, make: Make, backend: str) -> None:
        pytest.importorskip(backend)
        frames = [random_frames(*size, 3, seed=seed) for seed, size in enumerate(self.SIZES)]
        segmenter = make(backend=backend)
        results = segmenter.segment_batch(frames)
        assert [result.frame is frame for result, frame in zip(results, frames, strict=True)] == [True] * len(frames)
        for result, frame in zip(results, frames, strict=True):
            np.testing.assert_array_equal(result.labels, segmenter(frame).labels)

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
    def test_a_file_that_takes_one_frame_at_a_time_is_given_one(self, make: Make, tmp_path: Path, backend: str) -> None:
        onnx, _ = pytest.importorskip("onnx"), pytest.importorskip(backend)
        path = write_onnx(tmp_path / "one.onnx")
        model = onnx.load(path)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, path)
        segmenter = make(path, backend=backend)
        frames = [random_frames(16, 32, 3, seed=seed) for seed in range(5)]
        for result, frame in zip(segmenter.segment_batch(frames), frames, strict=True):
            np.testing.assert_array_equal(result.labels, segmenter(frame).labels)

    def test_each_frame_is_steadied_by_its_own(self, make: Make) -> None:
        seen: dict[str, list[int]] = {"a": [], "b": []}

        def steady(name: str) -> Callable[..., np.ndarray]:
            return lambda scores, frame, ending: seen[name].append(int(frame[0, 0, 0])) or scores

        frames = [np.full((16, 16, 3), level, np.uint8) for level in range(4)]
        a, b = steady("a"), steady("b")
        rounds = [[(frames[0], a), (frames[1], b)], None, [(frames[2], b)], [(frames[3], a)]]
        assert len(list(make().stream_batches(rounds))) == 4
        assert seen == {"a": [0, 3], "b": [1, 2]}


def test_scores_that_are_no_numbers_are_told_once_with_the_model(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bias = BIAS.copy()
    bias[1] = np.nan
    segmenter = make(write_onnx(tmp_path / "nan.onnx", bias=bias))
    with caplog.at_level(logging.WARNING):
        results = [segmenter(blocks(32, 32)) for _ in range(3)]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'nan.onnx'} gives scores that are not numbers; they count as the lowest."
    ]
    assert all(1 not in result.labels for result in results)


def test_a_file_without_a_spec_runs_with_one_from_toml(make: Make, tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "foreign.onnx", None)
    with pytest.raises(SpecError, match="--spec FILE"):
        make(file)
    described = tmp_path / "foreign.toml"
    described.write_text('name = "foreign"\nclasses = ["dark", "blue", "green", "red"]\nsize = 64\nstride = 8\n')
    segmenter = make(file, spec=described)
    assert segmenter.spec.name == "foreign"
    assert (segmenter(blocks(64, 64)).labels == quarters(64, 64)).all()


def test_unknown_names_are_answered_with_the_known_ones(make: Make) -> None:
    for options, known in (({"resize": "squash"}, "fit, letterbox, native, stretch"), ({"backend": "tpu"}, "openvino")):
        with pytest.raises(UsageError, match=known):
            make(**options)
    with pytest.raises(UsageError, match="bundled model"):
        Segmenter("fcn9s-heavy")


def test_a_size_for_native_or_of_no_pixels_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="drop --size"):
        make(resize="native", size=64).network_size((10, 10))
    with pytest.raises(UsageError, match="at least 1 pixel"):
        make(size=0)


def test_a_text_file_is_no_model(tmp_path: Path) -> None:
    text = tmp_path / "model.onnx"
    text.write_text("not a model")
    for spec in (None, SPEC):
        with pytest.raises(ModelError, match=r"model\.onnx"):
            Segmenter(text, spec=spec)


def test_closing_twice_does_nothing(make: Make) -> None:
    with make() as segmenter:
        segmenter.warm_up((16, 16))
    segmenter.close()


@needs_bundled
class TestBundledModel:
    def test_it_finds_the_cat_in_the_photo_of_a_cat(self, cat: Path) -> None:
        with Segmenter() as segmenter:
            result = segmenter(cv2.imread(str(cat)))  # type: ignore[arg-type]
        covered = (result.labels == result.spec.classes.index("cat")).mean()
        assert 0.3 < covered < 0.9

    def test_backends_agree_on_a_photo(self, cat: Path) -> None:
        frame = cv2.imread(str(cat))
        labels = []
        for name in ("openvino", "onnxruntime"):
            if name not in installed():
                pytest.skip(f"{name} is not installed")
            with Segmenter(backend=name, precision="fp32") as segmenter:
                labels.append(segmenter(frame).labels)  # type: ignore[arg-type]
        assert (labels[0] == labels[1]).mean() > 0.9995

    def test_the_default_precision_changes_few_labels(self, cat: Path) -> None:
        frame = cv2.imread(str(cat))
        labels = []
        for precision in (None, "fp32"):
            with Segmenter(precision=precision) as segmenter:
                labels.append(segmenter(frame).labels)  # type: ignore[arg-type]
        assert (labels[0] == labels[1]).mean() > 0.99
