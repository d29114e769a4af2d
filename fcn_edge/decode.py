"""Scores to labels in one pass.

Upsampling 21 score maps to 1080p and taking their argmax touches 175 MB; most pixels lie between four
scores that agree, so they are settled without being upsampled at all. What remains is settled run by
run: along a row a class's upsampled score is a straight line, so two pixels that agree settle all pixels
between them.

Importing this module compiles its kernels: 2 to 3 s once a machine, then 0.2 s from the cache (where
that lies: fcn_edge/jit.py). No call compiles anything. Calls from several threads do not disturb each
other, and each runs on its caller's thread alone: two threads would save less than waking one costs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import float32, int32, intp, uint8, void

from fcn_edge.errors import SpecError
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.spec import MAX_CLASSES, Deconv, Grid


def decode(scores: np.ndarray, size: tuple[int, int], grid: Grid = "half_pixel") -> np.ndarray:
    """Labels at `size` from class scores, as if upsampled bilinearly and then arg-maxed.

    scores: float32 (C, h, w) or (N, C, h, w), 1 <= C <= 254. NaN counts as minus infinity; a pixel
            whose every class is minus infinity gets 0.
    size:   (H, W) in pixels.
    grid:   where the scores lie on the picture; a `Deconv` is the transposed convolution that FCNs end
            with (Long et al. 2015, section 3.3), cut to `size`.
    Returns uint8 (H, W) or (N, H, W), every value below C; ties go to the lower class.
    Raises SpecError if the grid does not fit the shape, or the scores are not what they should be.
    """
    _check(scores)
    rows = axis(scores.shape[-2], size[0], grid)
    columns = axis(scores.shape[-1], size[1], grid)
    maps = scores if scores.ndim == 4 else scores[None]
    labels = np.empty((len(maps), *size), np.uint8)
    for one, out in zip(maps, labels, strict=True):
        _decode_into(out, one, rows, columns)
    return labels if scores.ndim == 4 else labels[0]


def decode_part(scores: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Labels, uint8, of the pixels that two axes hold, from float32 (C, h, w) scores: of a window of a picture."""
    labels = np.empty((len(rows.weight), len(columns.weight)), np.uint8)
    _decode_into(labels, scores, rows, columns)
    return labels


def _decode_into(out: np.ndarray, scores: np.ndarray, rows: Axis, columns: Axis) -> None:
    scores = np.require(scores, requirements=["C", "A"])
    winners = np.zeros(scores.shape[1:], np.int32)
    odd = np.zeros(scores.shape[1:], np.int32)
    _find_winners(scores, winners, odd)
    _settle(scores, winners, odd, rows.cells, rows.weight, columns.cells, columns.weight, columns.step, out)


class Axis(NamedTuple):
    """How output rows (or columns) lie between samples. A cell is the stretch between two neighbours."""

    cells: np.ndarray  # int32 (n, 4): first pixel, the pixel after the last, sample before, sample after
    weight: np.ndarray  # float32 a pixel, in [0, 1): of the sample after it; 0 at the last sample
    step: float  # how the weight grows from one pixel to the next


def axis(samples: int, pixels: int, grid: Grid) -> Axis:
    """Where `pixels` output rows (or columns) lie on `samples` scores.

    Positions are exact until the last division: integers over a common denominator.
    Raises SpecError if the grid does not fit.
    """
    start, rise, unit = line(samples, pixels, grid)
    position = start + rise * np.arange(pixels, dtype=np.int64)
    index, rest = np.divmod(position.clip(0, (samples - 1) * unit), unit)
    first = np.flatnonzero(np.diff(index, prepend=-1))
    before = index[first]
    cells = np.stack([first, np.append(first[1:], pixels), before, np.minimum(before + 1, samples - 1)], axis=1)
    return Axis(cells.astype(np.int32), (rest / unit).astype(np.float32), rise / unit)


def part(whole: Axis, start: int, stop: int, sample: int) -> Axis:
    """The pixels start..stop of an axis, on samples of which number `sample` is the first one there."""
    cells = whole.cells[(whole.cells[:, 1] > start) & (whole.cells[:, 0] < stop)]
    first, last = (cells[:, side].clip(start, stop) - start for side in (0, 1))
    numbered = np.stack([first, last, cells[:, 2] - sample, cells[:, 3] - sample], axis=1)
    return Axis(numbered.astype(np.int32), whole.weight[start:stop], whole.step)


def line(samples: int, pixels: int, grid: Grid) -> tuple[int, int, int]:
    """Pixel p lies at (start + p * rise) / unit on the samples, which may be before the first or after the last."""
    if pixels < 1:
        raise SpecError(f"Labels of {pixels} pixels a side cannot be: the size is (height, width), from 1x1.")
    if grid == "half_pixel":
        return samples - pixels, 2 * samples, 2 * pixels
    if grid == "align_corners":
        return 0, samples - 1, max(1, pixels - 1)
    if isinstance(grid, Deconv):
        # A transposed convolution adds zeros beyond the border. That dims all classes alike, so the
        # argmax there is that of the nearest sample: the clipping in `axis`.
        factor, crop = grid.deconv, grid.crop
        kernel_size = 2 * factor - factor % 2
        reach = (samples - 1) * factor + kernel_size
        if factor < 1 or crop < 0 or crop + pixels > reach:
            raise SpecError(
                f"A deconvolution by {factor} makes {max(0, reach)} pixels of {samples} scores, "
                f"too few for {pixels} after a crop of {crop}. Correct output.grid in the model's spec."
            )
        return 2 * crop - (kernel_size - 1), 2, 2 * factor
    raise SpecError(f"There is no grid {grid!r}. Known: half_pixel, align_corners, {{deconv, crop}}.")


def _check(scores: np.ndarray) -> None:
    if scores.ndim not in (3, 4):
        raise SpecError(f"Scores have the shape (C, h, w) or (N, C, h, w), not {scores.shape}.")
    if scores.dtype != np.float32:
        raise SpecError(f"Scores are float32, not {scores.dtype}. Convert them: scores.astype(numpy.float32).")
    if not 1 <= scores.shape[-3] <= MAX_CLASSES:
        raise SpecError(f"Scores are of 1 to {MAX_CLASSES} classes, not {scores.shape[-3]} (shape {scores.shape}).")
    if 0 in scores.shape[-2:]:
        raise SpecError(f"Scores of shape {scores.shape} cover no pixel.")


# A winner's key is its class, plus one of these where its score is infinite.
_PLUS_INFINITY = 1 << 8
_MINUS_INFINITY = 2 << 8  # every class is minus infinity (or NaN) there


@kernel(void(readable(float32, 3), writable(int32, 2), writable(int32, 2)))
def _find_winners(scores, winners, odd):
    """The key of the best class at each sample, and which samples hold scores that are not finite."""
    classes, height, width = scores.shape
    best = np.empty(width, np.float32)
    for y in range(height):
        for x in range(width):
            best[x] = -np.inf
        for k in range(classes):
            for x in range(width):
                score = scores[k, y, x]
                if score > best[x]:
                    best[x] = score
                    winners[y, x] = k
                if not abs(score) < np.inf:
                    odd[y, x] = 1
        for x in range(width):
            if best[x] == np.inf:
                winners[y, x] += _PLUS_INFINITY
            elif best[x] == -np.inf:
                winners[y, x] = _MINUS_INFINITY


@kernel(
    intp(readable(float32, 3), readable(int32, 2), intp, intp, intp, intp, writable(float32, 2), writable(int32, 1))
)
def _gather_candidates(scores, winners, top, bottom, left, right, corners, names):
    """Corner scores and names of the classes that may win within a cell; returns how many.

    A class that is below another one at all four corners is below it everywhere between. So is one
    below the mean of the corners' winners, as that mean is nowhere above the best of them.
    """
    a, b = winners[top, left], winners[top, right]
    c, d = winners[bottom, left], winners[bottom, right]
    quarter = np.float32(0.25)
    mean = np.empty(4, np.float32)
    for corner in range(4):
        y = bottom if corner >= 2 else top
        x = right if corner % 2 else left
        # Summed in pairs, rounding cannot lift the mean above the greatest of the four.
        mean[corner] = (quarter * scores[a, y, x] + quarter * scores[b, y, x]) + (
            quarter * scores[c, y, x] + quarter * scores[d, y, x]
        )
    count = 0
    for k in range(scores.shape[0]):
        s0, s1 = scores[k, top, left], scores[k, top, right]
        s2, s3 = scores[k, bottom, left], scores[k, bottom, right]
        if s0 < mean[0] and s1 < mean[1] and s2 < mean[2] and s3 < mean[3]:
            continue
        corners[0, count], corners[1, count], corners[2, count], corners[3, count] = s0, s1, s2, s3
        names[count] = k
        count += 1
    return count


@kernel(intp(writable(float32, 2), intp, float32))
def _best(line, count, weight):
    """Which of the first `count` lines is highest; the first of equals."""
    rest = np.float32(1) - weight
    best = 0
    best_score = rest * line[0, 0] + weight * line[1, 0]
    for k in range(1, count):
        score = rest * line[0, k] + weight * line[1, k]
        if score > best_score:
            best_score = score
            best = k
    return best


@kernel(uint8(writable(float32, 2), intp, intp, float32))
def _beats(line, challenger, holder, weight):
    rest = np.float32(1) - weight
    ours = rest * line[0, challenger] + weight * line[1, challenger]
    theirs = rest * line[0, holder] + weight * line[1, holder]
    return ours > theirs or (ours == theirs and challenger < holder)


@kernel(intp(writable(float32, 2), intp, intp, intp, intp, readable(float32, 1), float32))
def _takeover(line, holder, challenger, first, last, weight, step):
    """The first pixel where the challenger beats the holder, who is ahead at `first` and behind at `last`."""
    ahead = np.float32(0.5) * line[0, holder] - np.float32(0.5) * line[0, challenger]
    behind = np.float32(0.5) * line[1, challenger] - np.float32(0.5) * line[1, holder]
    crossing = ahead / (ahead + behind)
    distance = (crossing - weight[first]) / step
    x = last
    if distance < last - first:  # not where it is NaN either
        x = max(first + 1, first + intp(distance) + 1)
    while x < last and not _beats(line, challenger, holder, weight[x]):
        x += 1
    while x - 1 > first and _beats(line, challenger, holder, weight[x - 1]):
        x -= 1
    return x


@kernel(
    void(writable(float32, 2), writable(int32, 1), intp, readable(float32, 1), float32, intp, intp, writable(uint8, 1))
)
def _settle_row(line, names, count, weight, step, start, stop, out):
    """Labels of the pixels start..stop between two samples; line: (2, count) scores of both."""
    first = start
    while first < stop:
        holder = _best(line, count, weight[first])
        last = stop - 1
        challenger = _best(line, count, weight[last])
        while challenger != holder:
            last = _takeover(line, holder, challenger, first, last, weight, step) - 1
            challenger = _best(line, count, weight[last])
        for x in range(first, last + 1):
            out[x] = names[holder]
        first = last + 1


@kernel(
    void(readable(float32, 3), intp, intp, intp, intp, float32, readable(float32, 1), intp, intp, writable(uint8, 1))
)
def _settle_odd_row(scores, top, bottom, left, right, down, weight, start, stop, out):
    """As `_settle_row`, where some score is not finite: class by class, and a weight of 0 hides its score."""
    for x in range(start, stop):
        best = np.float32(-np.inf)
        out[x] = 0
        for k in range(scores.shape[0]):
            total = np.float32(0)
            for corner in range(4):
                vertical = down if corner >= 2 else np.float32(1) - down
                horizontal = weight[x] if corner % 2 else np.float32(1) - weight[x]
                if vertical * horizontal > 0:
                    y = bottom if corner >= 2 else top
                    total += vertical * horizontal * scores[k, y, right if corner % 2 else left]
            if total > best:  # never where it is NaN
                best = total
                out[x] = k


@kernel(
    void(
        readable(float32, 3),
        readable(int32, 2),
        readable(int32, 2),
        readable(int32, 2),
        readable(float32, 1),
        readable(int32, 2),
        readable(float32, 1),
        float32,
        writable(uint8, 2),
    )
)
def _settle(scores, winners, odd, row_cells, row_weight, column_cells, column_weight, step, out):
    """Cells whose corners agree are filled row by row; the others are then written over."""
    corners = np.empty((4, scores.shape[0]), np.float32)
    line = np.empty((2, scores.shape[0]), np.float32)
    names = np.empty(scores.shape[0], np.int32)
    for i in range(row_cells.shape[0]):
        y0, y1, top, bottom = row_cells[i, 0], row_cells[i, 1], row_cells[i, 2], row_cells[i, 3]
        for j in range(column_cells.shape[0]):
            key = winners[top, column_cells[j, 2]]
            for x in range(column_cells[j, 0], column_cells[j, 1]):
                out[y0, x] = key & 255
        for y in range(y0 + 1, y1):
            for x in range(out.shape[1]):
                out[y, x] = out[y0, x]
        for j in range(column_cells.shape[0]):
            x0, x1, left, right = column_cells[j, 0], column_cells[j, 1], column_cells[j, 2], column_cells[j, 3]
            key = winners[top, left]
            if key == winners[top, right] and key == winners[bottom, left] and key == winners[bottom, right]:
                continue
            if odd[top, left] | odd[top, right] | odd[bottom, left] | odd[bottom, right]:
                for y in range(y0, y1):
                    _settle_odd_row(scores, top, bottom, left, right, row_weight[y], column_weight, x0, x1, out[y])
                continue
            count = _gather_candidates(scores, winners, top, bottom, left, right, corners, names)
            for y in range(y0, y1):
                down = row_weight[y]
                for k in range(count):
                    line[0, k] = (np.float32(1) - down) * corners[0, k] + down * corners[2, k]
                    line[1, k] = (np.float32(1) - down) * corners[1, k] + down * corners[3, k]
                _settle_row(line, names, count, column_weight, step, x0, x1, out[y])
