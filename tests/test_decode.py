"""The reference is the definition, in float64 and class by class; where two scores all but tie it has no say."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcn_edge.decode import decode
from fcn_edge.errors import SpecError
from fcn_edge.spec import Deconv, Grid

patiently = settings(deadline=None)  # the references are slow, and so may the machine be
ROUNDING = 1e-5  # of the greatest score around: some float32 operations' worth


def weights(samples: int, pixels: int, grid: Grid) -> np.ndarray:
    """The matrix (pixels, samples) of the definition: what each sample adds to each pixel."""
    matrix = np.zeros((pixels, samples))
    if isinstance(grid, Deconv):
        factor = grid.deconv
        taps = 2 * factor - factor % 2
        middle = factor - 1 if taps % 2 else factor - 0.5
        kernel = 1 - np.abs(np.arange(taps) - middle) / factor
        full = np.zeros(((samples - 1) * factor + taps, samples))
        for sample in range(samples):
            full[sample * factor : sample * factor + taps, sample] = kernel
        return full[grid.crop : grid.crop + pixels]
    for pixel in range(pixels):
        if grid == "half_pixel":
            position = (pixel + 0.5) * samples / pixels - 0.5
        else:
            position = pixel * (samples - 1) / (pixels - 1) if pixels > 1 else 0.0
        position = min(max(position, 0.0), samples - 1.0)
        before = int(position)
        matrix[pixel, before] += before + 1 - position
        if position > before:
            matrix[pixel, before + 1] += position - before
    return matrix


def assert_upsampled_and_argmaxed(labels: np.ndarray, scores: np.ndarray, grid: Grid) -> None:
    classes, height, width = scores.shape
    rows, columns = weights(height, labels.shape[0], grid), weights(width, labels.shape[1], grid)
    upsampled = np.einsum("yh,chw,xw->cyx", rows, scores.astype(np.float64), columns, optimize=True)
    around = np.einsum("yh,chw,xw->cyx", rows, np.abs(scores).astype(np.float64), columns, optimize=True).max(axis=0)
    assert labels.max(initial=0) < classes
    chosen = np.take_along_axis(upsampled, labels[None].astype(np.int64), axis=0)[0]
    lost = upsampled.max(axis=0) - chosen
    allowed = ROUNDING * around + np.finfo(np.float32).tiny  # below the least normal number rounding is absolute
    assert (lost <= allowed).all(), f"{(lost > allowed).sum()} pixels, worst {lost.max()}"


grids: st.SearchStrategy[Grid] = st.one_of(
    st.just("half_pixel"), st.just("align_corners"), st.builds(Deconv, st.integers(1, 9), st.integers(0, 6))
)
sides = st.integers(1, 9)


@st.composite
def questions(draw: st.DrawFn, elements: st.SearchStrategy[float]) -> tuple[np.ndarray, tuple[int, int], Grid]:
    """Scores, a size and a grid that go together."""
    shape = (draw(st.sampled_from([1, 2, 3, 4, 5, 21, 254])), draw(sides), draw(sides))
    scores = draw(hnp.arrays(np.float32, shape, elements=elements))
    grid = draw(grids)
    if not isinstance(grid, Deconv):
        return scores, (draw(st.integers(1, 70)), draw(st.integers(1, 70))), grid
    reach = [(side - 1) * grid.deconv + 2 * grid.deconv - grid.deconv % 2 for side in shape[1:]]
    grid = Deconv(grid.deconv, min(grid.crop, *(side - 1 for side in reach)))
    return scores, (draw(st.integers(1, reach[0] - grid.crop)), draw(st.integers(1, reach[1] - grid.crop))), grid


@patiently
@given(questions(st.floats(-1e3, 1e3, width=32)))
def test_labels_are_those_of_upsampling_and_argmax(question):
    scores, size, grid = question
    assert_upsampled_and_argmaxed(decode(scores, size, grid), scores, grid)


@patiently
@given(questions(st.integers(-3, 3).map(float)))
def test_labels_are_right_where_many_scores_tie(question):
    scores, size, grid = question
    assert_upsampled_and_argmaxed(decode(scores, size, grid), scores, grid)


@patiently
@given(questions(st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_scores_up_to_the_largest_float_do_not_overflow(question):
    scores, size, grid = question
    assert_upsampled_and_argmaxed(decode(scores, size, grid), scores, grid)


@patiently
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(1, 254), grids)
def test_noise_is_decoded_exactly_at_larger_sizes(seed, height, width, classes, grid):
    random = np.random.default_rng(seed)
    scores = random.standard_normal((classes, height, width), np.float32)
    size = (int(random.integers(1, 200)), int(random.integers(1, 200)))
    if isinstance(grid, Deconv):
        grid = Deconv(grid.deconv, min(grid.crop, grid.deconv // 2))
        size = (height * grid.deconv - grid.crop, width * grid.deconv - grid.crop)
    assert_upsampled_and_argmaxed(decode(scores, size, grid), scores, grid)


def expected_with_infinities(scores: np.ndarray, size: tuple[int, int], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and where they are beyond doubt. A weight of 0 hides its score, NaN is minus infinity."""
    rows, columns = weights(scores.shape[1], size[0], grid), weights(scores.shape[2], size[1], grid)
    labels, sure = np.zeros(size, np.uint8), np.ones(size, bool)
    for y, x in np.ndindex(*size):
        share = np.outer(rows[y], columns[x])
        with np.errstate(invalid="ignore"):
            totals = (scores.astype(np.float64)[:, share > 0] * share[share > 0]).sum(axis=1)
        totals[np.isnan(totals)] = -np.inf
        labels[y, x] = totals.argmax()
        finite = np.sort(totals[np.isfinite(totals)])
        near = len(finite) > 1 and totals.max() < np.inf and finite[-1] - finite[-2] < 1e-4 * (1 + abs(finite[-1]))
        sure[y, x] = not near and not ((share > 0) & (share < 1e-9)).any()
    return labels, sure


odd_scores = st.one_of(st.integers(-4, 4).map(float), st.sampled_from([np.nan, np.inf, -np.inf]))


@patiently
@given(questions(odd_scores))
def test_nan_counts_as_minus_infinity_and_infinities_do_no_harm(question):
    scores, size, grid = question
    size = (min(size[0], 20), min(size[1], 20))
    labels = decode(scores, size, grid)
    expected, sure = expected_with_infinities(scores, size, grid)
    np.testing.assert_array_equal(labels[sure], expected[sure])
    assert labels.max() < len(scores)


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_a_map_without_one_finite_score_is_all_background(value):
    assert not decode(np.full((3, 4, 5), value, np.float32), (32, 40)).any()


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("size", [(65, 65), (129, 97), (37, 300), (5, 3), (1, 1)])
def test_torch_agrees(grid, size):
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(3).standard_normal((21, 17, 13), np.float32)
    options = {"mode": "bilinear", "align_corners": grid == "align_corners"}
    upsampled = torch.nn.functional.interpolate(torch.from_numpy(scores)[None], size=size, **options)[0]
    best, second = upsampled.topk(2, dim=0).values
    clear = (best - second > 1e-4).numpy()
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(decode(scores, size, grid)[clear], upsampled.argmax(dim=0).numpy()[clear])


@pytest.mark.parametrize("factor", [1, 2, 3, 8, 32])
def test_a_transposed_convolution_of_torch_agrees(factor):
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(4).standard_normal((5, 6, 7), np.float32)
    taps = 2 * factor - factor % 2
    tap = 1 - np.abs(np.arange(taps) - (factor - 1 if taps % 2 else factor - 0.5)) / factor
    kernel = torch.from_numpy(np.outer(tap, tap).astype(np.float32)).expand(5, 1, taps, taps)
    full = torch.nn.functional.conv_transpose2d(torch.from_numpy(scores)[None], kernel, stride=factor, groups=5)[0]
    crop = min(19, factor)
    full = full[:, crop:, crop:]
    best, second = full.topk(2, dim=0).values
    clear = (best - second > 1e-4 * best.abs().clamp(min=1e-3)).numpy()
    labels = decode(scores, tuple(full.shape[1:]), Deconv(factor, crop))
    np.testing.assert_array_equal(labels[clear], full.argmax(dim=0).numpy()[clear])


def test_ties_go_to_the_lower_class():
    left = np.array([[0, 4], [0, 4]], np.float32)
    scores = np.stack([left, left[:, ::-1], left])
    assert decode(scores, (3, 5), "align_corners").tolist() == [[1, 1, 0, 0, 0]] * 3


def test_every_class_up_to_254_can_win():
    scores = np.eye(254, dtype=np.float32).reshape(254, 1, 254)
    assert decode(scores, (1, 254)).tolist() == [list(range(254))]


def test_a_batch_is_its_maps_one_by_one():
    scores = np.random.default_rng(5).standard_normal((3, 4, 6, 7), np.float32)
    labels = decode(scores, (50, 60))
    assert labels.shape == (3, 50, 60)
    assert labels.dtype == np.uint8
    for one, expected in zip(scores, labels, strict=True):
        np.testing.assert_array_equal(decode(one, (50, 60)), expected)


def test_an_empty_batch_has_no_labels():
    assert decode(np.zeros((0, 3, 4, 4), np.float32), (8, 9)).shape == (0, 8, 9)


def test_strided_and_read_only_scores_are_taken():
    scores = np.random.default_rng(6).standard_normal((6, 7, 4), np.float32).transpose(2, 0, 1)
    copied = np.ascontiguousarray(scores)
    copied.flags.writeable = False
    np.testing.assert_array_equal(decode(scores, (20, 20)), decode(copied, (20, 20)))


@pytest.mark.parametrize(
    ("scores", "size", "grid", "said"),
    [
        (np.zeros((3, 4), np.float32), (8, 8), "half_pixel", "shape"),
        (np.zeros((3, 4, 4), np.float16), (8, 8), "half_pixel", "float16"),
        (np.zeros((0, 4, 4), np.float32), (8, 8), "half_pixel", "not 0"),
        (np.zeros((255, 4, 4), np.float32), (8, 8), "half_pixel", "255"),
        (np.zeros((3, 0, 4), np.float32), (8, 8), "half_pixel", "no pixel"),
        (np.zeros((3, 4, 4), np.float32), (0, 8), "half_pixel", "0 pixels"),
        (np.zeros((3, 4, 4), np.float32), (8, 8), "nearest", "nearest"),
        (np.zeros((3, 4, 4), np.float32), (8, 41), Deconv(8), "40 pixels"),
        (np.zeros((3, 4, 4), np.float32), (40, 40), Deconv(8, 1), "crop of 1"),
        (np.zeros((3, 4, 4), np.float32), (4, 4), Deconv(0), "deconvolution by 0"),
        (np.zeros((3, 4, 4), np.float32), (4, 4), Deconv(8, -1), "crop of -1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(scores, size, grid, said):
    with pytest.raises(SpecError, match=said) as refusal:
        decode(scores, size, grid)
    assert "\n" not in str(refusal.value)


def test_threads_do_not_disturb_each_other():
    random = np.random.default_rng(7)
    maps = [random.standard_normal((21, 17, 17), np.float32) for _ in range(8)]
    expected = [decode(one, (130, 130)) for one in maps]
    wrong = []

    def work(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(decode(maps[index], (130, 130)), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


SMALL_DECODE = (
    "import numpy; from fcn_edge.decode import decode; "
    "print(decode(numpy.eye(2, dtype='f4')[:, None], (1, 2)).tolist())"
)


def run_small_decode(**environment: str) -> str:
    command = [sys.executable, "-c", SMALL_DECODE]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def cache_files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb*")}


def test_machine_code_is_cached_once_and_a_broken_cache_is_mended(tmp_path):
    assert run_small_decode(NUMBA_CACHE_DIR=str(tmp_path)) == "[[0, 1]]"
    whole = cache_files(tmp_path)
    assert whole
    assert run_small_decode(NUMBA_CACHE_DIR=str(tmp_path)) == "[[0, 1]]"
    assert cache_files(tmp_path) == whole
    for path in whole:
        path.write_bytes(path.read_bytes()[:200] if path.suffix == ".nbc" else b"")
    assert run_small_decode(NUMBA_CACHE_DIR=str(tmp_path)) == "[[0, 1]]"
    mended = cache_files(tmp_path)
    assert min(path.stat().st_size for path in mended) > 200
    assert run_small_decode(NUMBA_CACHE_DIR=str(tmp_path)) == "[[0, 1]]"
    assert cache_files(tmp_path) == mended


def test_without_a_place_for_the_cache_it_still_decodes():
    assert run_small_decode(NUMBA_CACHE_DIR="/dev/null/nowhere") == "[[0, 1]]"
