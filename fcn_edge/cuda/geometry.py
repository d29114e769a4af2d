"""Where pixels lie between samples, as tables that the kernels read.

They are worked out in integers over a common denominator, so a weight is rounded once, and the kernels need no
division. They say what `shrink` and `decode.axis` say for the CPU; the tests hold them to that.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fcn_edge.errors import SpecError
from fcn_edge.spec import Deconv, Grid

TAPS = np.dtype([("first", np.int32), ("last", np.int32), ("head", np.float32), ("tail", np.float32)])
PLACE = np.dtype([("sample", np.int32), ("weight", np.float32)])


def taps(samples: int, pixels: int, border: int = 0) -> tuple[np.ndarray, float]:
    """Which samples make each pixel, TAPS (pixels + border,), and the share of each between the first and the last.

    By area where there are fewer pixels than samples or as many, else bilinearly; the border has no samples.
    """
    pixel = np.arange(pixels, dtype=np.int64)
    table = np.full(pixels + border, -1, TAPS)
    entries = table[:pixels]
    if pixels <= samples:
        start, stop = pixel * samples, (pixel + 1) * samples  # in units of 1/pixels of a sample
        first, last = start // pixels, (stop - 1) // pixels
        entries["head"] = (np.minimum((first + 1) * pixels, stop) - start) / samples
        entries["tail"] = (stop - last * pixels) / samples
    else:
        first, weight = _between((2 * pixel + 1) * samples - pixels, 2 * pixels, samples)
        last = np.minimum(first + 1, samples - 1)
        entries["head"], entries["tail"] = np.where(last > first, 1 - weight, 1), weight
    entries["first"], entries["last"] = first, last
    return table, pixels / samples


def places(samples: int, pixels: int, grid: Grid, content: int, labels: int) -> np.ndarray:
    """Where each label lies between the samples, PLACE (labels,).

    The grid lays `pixels` on the samples; the first `content` of them are stretched to `labels`, each label taking
    the nearest one's place. Raises SpecError if the grid does not fit.
    """
    label = np.arange(labels, dtype=np.int64)
    pixel = (2 * label + 1) * content // (2 * labels)
    sample, weight = _between(*_positions(pixel, samples, pixels, grid), samples)
    table = np.empty(labels, PLACE)
    table["sample"], table["weight"] = sample, weight
    return table


def _positions(pixel: np.ndarray, samples: int, pixels: int, grid: Grid) -> tuple[np.ndarray, int]:
    """The positions of the pixels on the samples, and the unit that they are in."""
    if grid == "half_pixel":
        return (2 * pixel + 1) * samples - pixels, 2 * pixels
    if grid == "align_corners":
        return pixel * (samples - 1), max(1, pixels - 1)
    if not isinstance(grid, Deconv):
        raise SpecError(f"There is no grid {grid!r}. Known: half_pixel, align_corners, {{deconv, crop}}.")
    kernel = 2 * grid.deconv - grid.deconv % 2
    reach = (samples - 1) * grid.deconv + kernel
    if grid.deconv < 1 or grid.crop < 0 or grid.crop + pixels > reach:
        raise SpecError(
            f"A deconvolution by {grid.deconv} makes {max(0, reach)} pixels of {samples} scores, "
            f"too few for {pixels} after a crop of {grid.crop}. Correct output.grid in the model's spec."
        )
    return 2 * (pixel + grid.crop) - (kernel - 1), 2 * grid.deconv


def _between(position: np.ndarray, unit: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The sample before each position, and how far beyond it that lies, in [0, 1)."""
    index, rest = np.divmod(position.clip(0, (samples - 1) * unit), unit)
    return index, rest / unit


def bands(rows: np.ndarray, most: int) -> np.ndarray:
    """The first row of each band and the end of the last, int32: rows between the same samples, `most` at once."""
    cells = np.flatnonzero(np.diff(rows["sample"], prepend=-1, append=-1))  # where a new row of cells begins; the end
    starts = [np.arange(first, end, most) for first, end in pairwise(cells)]
    return np.concatenate([*starts, cells[-1:]]).astype(np.int32)


def widest(first: np.ndarray, last: np.ndarray, tile: int) -> int:
    """The most samples under any tile of `tile` pixels, from the first sample of its first to the last of its last."""
    starts = np.arange(0, len(first), tile)
    ends = np.minimum(starts + tile, len(last)) - 1
    return int((last[ends] - first[starts]).max()) + 1
