"""The kernels' own source, run on the CPU (tests/support/emulated.py), against the functions that define them.

Cases run with a block's threads in rising or in falling order, so a barrier that is missing shows.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import cv2
import emulated
import numpy as np
import on_gpu
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcn_edge.cuda import geometry
from fcn_edge.cuda.kernels import Decode, DecodeArguments, Scale, ScaleArguments
from fcn_edge.decode import axis, decode
from fcn_edge.errors import BackendError, SpecError
from fcn_edge.prepare import Layout, Size, prepare
from fcn_edge.spec import Deconv, Grid, Input, ModelSpec

pytestmark = pytest.mark.debian(**{"g++": "g++"})

SPEC = ModelSpec("tiny", ("a",))
orders = st.booleans()  # of a block's threads


# ---------------------------------------------------------------------------------------------------------- scale

sides = st.integers(1, 150)


@st.composite
def frames(draw: st.DrawFn) -> np.ndarray:
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(0, 256, (draw(sides), draw(sides), 3), np.uint8)


@settings(max_examples=100)
@given(frames(), st.tuples(sides, sides), st.tuples(st.integers(0, 20), st.integers(0, 120)), orders)
def test_a_frame_is_scaled_as_on_the_cpu_within_one_level(
    frame: np.ndarray, content: Size, border: Size, falling: bool
) -> None:
    network = content[0] + border[0], content[1] + border[1]
    expected = prepare(SPEC, frame, Layout(network, content))[0]
    scaled = on_gpu.scale(emulated.kernels(falling), frame, content, network, SPEC.input)
    assert np.abs(scaled.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("color", ["BGR", "RGB"])
@pytest.mark.parametrize("moments", [(None, None), ((100.5, 110.0, 120.25), (50.0, 60.0, 70.0))])
def test_every_input_that_a_spec_can_ask_for_is_laid_out_as_on_the_cpu(layout, dtype, color, moments) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    spec = ModelSpec("tiny", ("a",), input=Input(layout, dtype, color, *moments))
    expected = prepare(spec, frame, Layout((33, 65), (22, 65)))[0]
    scaled = on_gpu.scale(emulated.kernels(), frame, (22, 65), (33, 65), spec.input)
    level = 1 / (min(moments[1]) if moments[1] and dtype == "float32" else 1)
    assert scaled.dtype == expected.dtype
    assert np.abs(scaled.astype(float) - expected).max() <= level * 1.0001


@pytest.mark.parametrize(("size", "network"), [((450, 640), (361, 513)), ((720, 1280), (289, 513))])
def test_of_a_photos_levels_nearly_all_are_equal_to_the_cpus(cat: Path, size: Size, network: Size) -> None:
    frame = on_gpu.photo(cat, size)
    scaled = on_gpu.scale(emulated.kernels(), frame, network, network, SPEC.input)
    difference = np.abs(scaled.astype(int) - prepare(SPEC, frame, Layout(network, network))[0])
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.999


def test_a_frame_of_the_networks_size_passes_unchanged() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)
    np.testing.assert_array_equal(on_gpu.scale(emulated.kernels(), frame, (37, 53), (37, 53), Input()), frame)


def test_a_frame_hundreds_of_times_wider_than_the_network_is_averaged() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (3, 3000, 3), np.uint8)
    expected = cv2.resize(frame, (1, 1), interpolation=cv2.INTER_AREA)
    scaled = on_gpu.scale(emulated.kernels(), frame, (1, 1), (1, 1), Input())
    assert np.abs(scaled.astype(int) - expected).max() <= 1


def test_a_frame_beyond_a_blocks_shared_memory_is_refused_in_one_line() -> None:
    with pytest.raises(BackendError, match="cannot scale 9000x1 to 1x1") as refusal:
        Scale(emulated.kernels(), (1, 9000), (1, 1), (1, 1), Input())
    assert "\n" not in str(refusal.value)


# --------------------------------------------------------------------------------------------------------- decode

grids: st.SearchStrategy[Grid] = st.one_of(
    st.just("half_pixel"), st.just("align_corners"), st.builds(Deconv, st.integers(1, 9), st.integers(0, 6))
)
dtypes = st.sampled_from(["float32", "float16"])


@st.composite
def questions(draw: st.DrawFn, elements: st.SearchStrategy[float] | None = None) -> tuple[np.ndarray, Size, Grid]:
    """Scores, a size and a grid that go together; without elements the scores are noise."""
    shape = draw(st.sampled_from([1, 2, 5, 21, 33, 254])), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    if elements is None:
        scores = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(shape, np.float32)
    else:
        scores = draw(hnp.arrays(np.float32, shape, elements=elements))
    grid = draw(grids)
    size = draw(st.integers(1, 100)), draw(st.integers(1, 300))
    if not isinstance(grid, Deconv):
        return scores, size, grid
    reach = [(side - 1) * grid.deconv + 2 * grid.deconv - grid.deconv % 2 for side in shape[1:]]
    grid = Deconv(grid.deconv, min(grid.crop, *(side - 1 for side in reach)))
    return scores, (min(size[0], reach[0] - grid.crop), min(size[1], reach[1] - grid.crop)), grid


@settings(max_examples=50)
@given(questions(), dtypes, orders)
def test_noise_is_decoded_as_on_the_cpu(question, dtype, falling) -> None:
    scores, size, grid = question
    scores = scores.astype(dtype)
    on_gpu.assert_labels_agree(on_gpu.labels(emulated.kernels(falling), scores, size, grid), scores, size, grid)


@settings(max_examples=50)
@given(questions(st.integers(-3, 3).map(float)), dtypes, orders)
def test_scores_of_which_many_tie_are_decoded_as_on_the_cpu(question, dtype, falling) -> None:
    scores, size, grid = question
    scores = scores.astype(dtype)
    on_gpu.assert_labels_agree(on_gpu.labels(emulated.kernels(falling), scores, size, grid), scores, size, grid)


@settings(max_examples=50)
@given(questions(st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_scores_up_to_the_largest_float_do_not_overflow(question) -> None:
    scores, size, grid = question
    on_gpu.assert_labels_agree(on_gpu.labels(emulated.kernels(), scores, size, grid), scores, size, grid)


def lead(scores: np.ndarray, size: Size, grid: Grid) -> np.ndarray:
    """How far each pixel's best class leads, in float64: a weight of 0 hides its score, NaN is minus infinity."""
    rows, columns = (
        np.array([on_gpu.share(at, scores.shape[1 + side], size[side], grid) for at in range(size[side])])
        for side in range(2)
    )

    def reached(which: np.ndarray) -> np.ndarray:
        return np.einsum("yh,chw,xw->cyx", rows > 0, which, columns > 0, dtype=np.float32, optimize=True) > 0

    finite = np.where(np.isfinite(scores), scores, 0).astype(np.float64)
    totals = np.einsum("yh,chw,xw->cyx", rows, finite, columns, optimize=True)
    up, down, lost = reached(np.isposinf(scores)), reached(np.isneginf(scores)), reached(np.isnan(scores))
    totals[up] = np.inf
    totals[down | lost] = -np.inf
    ranked = np.sort(totals, axis=0)
    with np.errstate(invalid="ignore"):  # infinity less infinity: a tie, which the lower class wins beyond doubt
        gap = ranked[-1] - ranked[-2] if len(ranked) > 1 else np.full(size, np.inf)
    tiny = [np.any((side > 0) & (side < 1e-9), axis=1) for side in (rows, columns)]
    return np.where(np.isnan(gap), np.inf, gap) * ~np.logical_or.outer(*tiny)


@settings(max_examples=50)
@given(questions(st.one_of(st.integers(-4, 4).map(float), st.sampled_from([np.nan, np.inf, -np.inf]))), dtypes, orders)
def test_nan_and_infinities_are_decoded_as_on_the_cpu(question, dtype, falling) -> None:
    scores, size, grid = question
    size = min(size[0], 40), min(size[1], 140)
    labels = on_gpu.labels(emulated.kernels(falling), scores.astype(dtype), size, grid)
    sure = lead(scores, size, grid) > 1e-4
    np.testing.assert_array_equal(labels[sure], decode(scores, size, grid)[sure])
    assert labels.max() < len(scores)


@pytest.mark.parametrize("size", [(64, 80), (5, 6)], ids=["by cells", "by labels"])
@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_a_map_without_one_finite_score_is_all_background(value: float, size: Size) -> None:
    assert not on_gpu.labels(emulated.kernels(), np.full((3, 4, 5), value, np.float32), size, "half_pixel").any()


@pytest.mark.parametrize("size", [(64, 80), (4, 5)], ids=["by cells", "by labels"])
def test_equal_scores_go_to_the_lowest_class(size: Size) -> None:
    assert not on_gpu.labels(emulated.kernels(), np.ones((3, 4, 5), np.float32), size, "half_pixel").any()


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", Deconv(8, 4)])
@pytest.mark.parametrize(
    ("size", "shape"), [((288, 512), (21, 37, 65)), ((287, 511), (21, 37, 65)), ((40, 71), (21, 37, 65))]
)
def test_a_networks_scores_are_decoded_bit_for_bit_but_for_ties(size, shape, grid, falling) -> None:
    random = np.random.default_rng(3).standard_normal(shape, np.float32)
    scores = np.ascontiguousarray(cv2.blur(random.transpose(1, 2, 0), (7, 7)).transpose(2, 0, 1))
    labels = on_gpu.labels(emulated.kernels(falling), scores, size, grid)
    assert (labels == decode(scores, size, grid)).mean() > 0.9999
    on_gpu.assert_labels_agree(labels, scores, size, grid)


def test_scores_of_a_border_are_left_out() -> None:
    scores = np.random.default_rng(4).standard_normal((5, 9, 12), np.float32)
    labels = on_gpu.labels(emulated.kernels(), scores, (100, 130), "align_corners", used=(6, 7))
    used = np.ascontiguousarray(scores[:, :6, :7])
    on_gpu.assert_labels_agree(labels, used, (100, 130), "align_corners")


def test_scores_that_are_fewer_than_a_frame_should_have_are_not_read_beyond() -> None:
    scores = np.random.default_rng(4).standard_normal((5, 9, 12), np.float32)
    labels = on_gpu.labels(emulated.kernels(), scores, (100, 130), "half_pixel", used=(10, 99))
    np.testing.assert_array_equal(labels, on_gpu.labels(emulated.kernels(), scores, (100, 130), "half_pixel"))


@pytest.mark.parametrize("frame", [(60, 90), (31, 50), (203, 311)])
def test_labels_of_the_networks_grid_are_cut_and_stretched_to_the_frame(frame: Size) -> None:
    scores = np.random.default_rng(5).standard_normal((5, 9, 12), np.float32)
    network, content, grid = (67, 90), (60, 85), Deconv(8, 4)
    whole = np.ascontiguousarray(decode(scores, network, grid)[: content[0], : content[1]])
    expected = cv2.resize(whole, frame[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    labels = on_gpu.labels(emulated.kernels(), scores, network, grid, content=content, labels=frame)
    # A label between two pixels may take either: OpenCV's own versions differ there.
    y, x = (np.flatnonzero((2 * np.arange(frame[i]) + 1) * content[i] % (2 * frame[i]) > 0) for i in range(2))
    assert (labels == expected)[np.ix_(y, x)].mean() > 0.999  # but for ties of scores


@pytest.mark.parametrize(
    ("scores", "dtype", "size", "grid", "said"),
    [
        ((3, 4, 4), "float64", (8, 8), "half_pixel", "float64"),
        ((0, 4, 4), "float32", (8, 8), "half_pixel", "not 0"),
        ((255, 4, 4), "float32", (8, 8), "half_pixel", "255"),
        ((3, 0, 4), "float32", (8, 8), "half_pixel", "no pixel"),
        ((3, 4, 4), "float32", (0, 8), "half_pixel", "0 pixels"),
        ((3, 4, 4), "float32", (8, 8), "nearest", "nearest"),
        ((3, 4, 4), "float32", (8, 41), Deconv(8), "40 pixels"),
        ((3, 4, 4), "float32", (4, 4), Deconv(0), "deconvolution by 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(scores, dtype, size, grid, said) -> None:
    with pytest.raises(SpecError, match=said) as refusal:
        Decode(emulated.kernels(), scores, dtype, size, grid)
    assert "\n" not in str(refusal.value)


def test_every_half_is_widened_exactly() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    out = np.empty(1 << 16, np.float32)
    emulated.library().widen(halves.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), len(out))
    np.testing.assert_array_equal(out, halves.view(np.float16).astype(np.float32))


def test_the_structs_are_laid_out_alike_on_both_sides() -> None:
    assert emulated.library().argument_bytes(0) == ctypes.sizeof(ScaleArguments)
    assert emulated.library().argument_bytes(1) == ctypes.sizeof(DecodeArguments)


@given(st.integers(1, 60), st.integers(1, 300), grids)
def test_the_tables_say_what_the_cpus_decoder_says(samples: int, pixels: int, grid: Grid) -> None:
    if isinstance(grid, Deconv):
        pixels = min(pixels, samples * grid.deconv)
        grid = Deconv(grid.deconv, min(grid.crop, grid.deconv // 2))
    table, expected = geometry.places(samples, pixels, grid, pixels, pixels), axis(samples, pixels, grid)
    np.testing.assert_array_equal(table["weight"], expected.weight)
    for first, end, before, _ in expected.cells:
        assert (table["sample"][first:end] == before).all()
