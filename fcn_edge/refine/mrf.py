"""A Potts model on the pixel grid: a change of label costs, and costs less where the picture changes too.

A labelling x costs  sum over i of -log P(x_i)  +  sum over neighbours i, j with x_i != x_j of w(i, j),  the neighbours
being the eight around a pixel and  w = (flat + contrast exp(-|I_i - I_j|^2 / 2m)) / distance,  m the mean square of
colour differences over the picture (Boykov and Jolly 2001; flat as in Shotton et al. 2006). Borders grow with a
picture's side and areas with its square, so w does too. Expansion moves find a
labelling that no single class can improve by taking over any pixels it likes (Boykov, Veksler and Zabih 2001): of two
classes the best there is, of more one that costs at most twice as much as the best.

A move is the smallest cut of a graph of all pixels, which OR-tools finds (Apache-2.0; PyMaxflow, twice to four times as
fast, is under the GPL). In a VOC picture that takes 0.2 to 0.6 seconds, so this is for stills.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any, NamedTuple

import msgspec
import numpy as np

from fcn_edge.prepare import Ending, scale
from fcn_edge.refine.large import enlarged, working_size
from fcn_edge.refine.recipe import OURS, read_figures
from fcn_edge.refine.upsampling import contenders, upsampled
from fcn_edge.runtime.common import library
from fcn_edge.spec import Grid

INSTALL = "pip install ortools"
REFERENCE = 500  # pixels of a VOC picture's longer side
UNIT = 1000  # costs are whole numbers of 1/1000: the cut is then exact, and the same everywhere
IMPOSSIBLE = 50  # -log P at most: more would only overflow
MOST = 400_000  # pixels of a picture that is cut as it is: with a million one move takes up to ten seconds
CYCLES = 5  # over all classes; two or three are the rule until nothing changes
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns from a pixel to its neighbour: each pair once


class MrfFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a change of label between two pixels side by side costs, in the units of -log P.

    For a picture whose longer side has `REFERENCE` pixels.
    """

    flat: float  # wherever it is
    contrast: float  # more, where both look the same


class Mrf:
    """The back end; figures: those of recipes/refine/mrf.toml where none are given.

    Raises BackendError where OR-tools is missing.
    """

    name = "mrf"

    def __init__(self, figures: MrfFigures | None = None) -> None:
        self._flow = library("ortools.graph.python.max_flow", INSTALL)
        self._figures = figures or read_figures(self.name, MrfFigures)[OURS]

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
        """Labels of the frame, as `protocol.Refine` says; only classes that win somewhere before may win after."""
        classes = contenders(scores)
        if len(classes) == 1:
            return np.full(ending.labels, classes[0], np.uint8)
        size = working_size(ending.labels, MOST)
        own = costs(upsampled(scores[classes], ending, grid, size))
        labels = cheapest(own, between(scale(frame, size), self._figures), self._flow)
        shares = ((labels == number).astype(np.float32) for number in range(len(classes)))
        return classes.astype(np.uint8)[labels if size == ending.labels else enlarged(shares, ending.labels)]


def costs(logits: np.ndarray) -> np.ndarray:
    """-log P of each class, int64 (C, H, W) in `UNIT`s, from logits, finite float32 (C, H, W)."""
    below = logits - logits.max(axis=0)
    own = np.log(np.exp(below).sum(axis=0)) - below
    return np.rint(UNIT * np.minimum(own, IMPOSSIBLE)).astype(np.int64)


def between(frame: np.ndarray, figures: MrfFigures) -> list[np.ndarray]:
    """What two neighbours of different labels cost, int64 in `UNIT`s, an array for each of `DIRECTIONS`.

    frame: uint8 (H, W, 3). Each array has the shape of the pixels that have such a neighbour.
    """
    colours = frame.astype(np.int32)
    squares = [np.square(colours[first] - colours[second]).sum(axis=2) for first, second in map(_ends, DIRECTIONS)]
    pairs = sum(square.size for square in squares)
    mean = sum(float(square.sum()) for square in squares) / max(1, pairs) or 1.0  # a frame of one colour has none
    unit = UNIT * max(frame.shape) / REFERENCE
    return [
        np.rint(unit / np.hypot(*direction) * (figures.flat + figures.contrast * np.exp(square / (-2 * mean)))).astype(
            np.int64
        )
        for square, direction in zip(squares, DIRECTIONS, strict=True)
    ]


def cheapest(own: np.ndarray, edges: list[np.ndarray], flow: Any) -> np.ndarray:
    """The labelling, intp (H, W), that expansion moves end at.

    own: int64 (C, H, W), C from 2; edges as `between` gives them; flow: OR-tools' module.
    """
    classes, *size = own.shape
    graph = _graph(own, edges)
    if classes == 2:  # one move from all pixels alike is the best of all labellings
        return _move(graph, np.zeros(graph.own.shape[1], np.intp), 1, flow).reshape(size)
    labels, in_vain = graph.own.argmin(axis=0), 0
    for label in islice(cycle(range(classes)), CYCLES * classes):
        before, labels = labels, _move(graph, labels, label, flow)
        in_vain = in_vain + 1 if np.array_equal(before, labels) else 1
        if in_vain == classes:
            break
    return labels.reshape(size)


class _Graph(NamedTuple):
    """What pixels, in rows, and pairs of neighbours cost."""

    own: np.ndarray  # int64 (C, n)
    first: np.ndarray  # int32 (m,): of each pair of neighbours
    second: np.ndarray
    between: np.ndarray  # int64 (m,)


def _graph(own: np.ndarray, edges: list[np.ndarray]) -> _Graph:
    numbers = np.arange(own[0].size, dtype=np.int32).reshape(own.shape[1:])
    pairs = [(numbers[first].ravel(), numbers[second].ravel()) for first, second in map(_ends, DIRECTIONS)]
    firsts, seconds = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    return _Graph(own.reshape(len(own), -1), firsts, seconds, np.concatenate([edge.ravel() for edge in edges]))


def _ends(direction: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the pixels lie that have a neighbour in that direction, and where those neighbours lie."""
    down, right = direction
    before, after = slice(None, -1), slice(1, None)
    rows = (before, after) if down else (slice(None), slice(None))
    columns = {1: (before, after), 0: (slice(None), slice(None)), -1: (after, before)}[right]
    return (rows[0], columns[0]), (rows[1], columns[1])


def _move(graph: _Graph, labels: np.ndarray, label: int, flow: Any) -> np.ndarray:
    """The cheapest labelling in which each pixel keeps its label or takes this one; of equals, the fewest take it.

    Of a pair, a is what it costs if both keep theirs, b if only the second takes the label, c if only the first does;
    if both do, nothing. Kolmogorov and Zabih 2004, "What Energy Functions Can Be Minimized via Graph Cuts?".
    """
    first, second = labels[graph.first], labels[graph.second]
    a = graph.between * (first != second)
    b = graph.between * (first != label)
    c = graph.between * (second != label)
    source = len(labels)
    sink = source + 1  # the last: a graph without it, in which none gains by taking the label, is not cut at all
    take = graph.own[label] + _summed(graph.first, c - a, source) - _summed(graph.second, c, source)
    gain = np.take_along_axis(graph.own, labels[None], axis=0)[0] - take
    lose, win, tied = np.flatnonzero(gain < 0), np.flatnonzero(gain > 0), np.flatnonzero(b + c - a)
    network = flow.SimpleMaxFlow()
    for tails, heads, costs in (
        (np.full_like(lose, source), lose, -gain[lose]),
        (win, np.full_like(win, sink), gain[win]),
        (graph.first[tied], graph.second[tied], (b + c - a)[tied]),
    ):
        network.add_arcs_with_capacity(tails, heads, costs)
    network.solve(source, sink)
    moved = labels.copy()
    takers = np.asarray(network.get_sink_side_min_cut(), np.intp)
    moved[takers[takers < source]] = label
    return moved


def _summed(pixels: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums of `values` by pixel, int64 (count,); exact in the float64 that they are summed in."""
    return np.bincount(pixels, values, count).astype(np.int64)
