"""A Potts model on the pixel grid: a change of label costs, and costs less where the picture changes too.

A labelling x costs  sum over i of -log P(x_i)  +  sum over neighbours i, j with x_i != x_j of w(i, j),  the neighbours
being the eight around a pixel and  w = (flat + contrast exp(-|I_i - I_j|^2 / 2m)) / distance,  m the mean square of
colour differences over the picture (Boykov and Jolly 2001; flat as in Shotton et al. 2006). Borders grow with a
picture's side and areas with its square, so w does too. Expansion moves find a
labelling that no single class can improve by taking over any pixels it likes (Boykov, Veksler and Zabih 2001): of two
classes the best there is, of more one that costs at most twice as much as the best.

Most pixels never enter a graph: where the network is surer than all neighbours together could outweigh, a best
labelling has the network's label. The graph cut is PyMaxflow's, Boykov and Kolmogorov's algorithm, which is under the
GPL; fcn-edge neither holds nor installs it unless asked to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from fcn_edge.prepare import Ending, scale
from fcn_edge.refine.large import enlarged, working_size
from fcn_edge.refine.recipe import OURS, read_figures
from fcn_edge.refine.upsampling import contenders, upsampled
from fcn_edge.runtime.common import library
from fcn_edge.spec import Grid

INSTALL = 'pip install "fcn-edge[mrf]"'
REFERENCE = 500  # pixels of a VOC picture's longer side
UNIT = 1000  # costs are whole numbers of 1/1000: the cut is then exact, and the same everywhere
IMPOSSIBLE = 50  # -log P at most: more would only overflow
CYCLES = 5  # over all classes; two or three are the rule until nothing changes
ROUNDS = 10  # of finding pixels that are settled; each finds fewer
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns from a pixel to its neighbour: each pair once


class MrfFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a change of label between two pixels side by side costs, in the units of -log P.

    For a picture whose longer side has `REFERENCE` pixels.
    """

    flat: float  # wherever it is
    contrast: float  # more, where both look the same


class Mrf:
    """The back end; figures: those of recipes/refine/mrf.toml where none are given.

    Raises BackendError where PyMaxflow is missing.
    """

    name = "mrf"

    def __init__(self, figures: MrfFigures | None = None) -> None:
        self._maxflow = library("maxflow", INSTALL)
        self._figures = figures or read_figures(self.name, MrfFigures)[OURS]

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
        """Labels of the frame, as `protocol.Refine` says; only classes that win somewhere before may win after."""
        classes = contenders(scores)
        if len(classes) == 1:
            return np.full(ending.labels, classes[0], np.uint8)
        size = working_size(ending.labels)
        own = costs(upsampled(scores[classes], ending, grid, size))
        labels = cheapest(own, between(scale(frame, size), self._figures), self._maxflow)
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


def cheapest(own: np.ndarray, edges: list[np.ndarray], maxflow: Any) -> np.ndarray:
    """The labelling, intp (H, W), that expansion moves end at.

    own: int64 (C, H, W), C from 2; edges as `between` gives them; maxflow: the library.
    """
    own, settled, labels = _settle(own, edges)
    if settled.all():
        return labels
    graph = _graph(own, edges, settled)
    labels[~settled] = _expand(graph, labels[~settled], maxflow)
    return labels


class _Graph(NamedTuple):
    """The pixels whose labels are open, and what they and their open neighbours cost."""

    own: np.ndarray  # int64 (C, n)
    first: np.ndarray  # intp (m,): of each pair of neighbours
    second: np.ndarray
    between: np.ndarray  # int64 (m,)


def _ends(direction: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the pixels lie that have a neighbour in that direction, and where those neighbours lie."""
    down, right = direction
    before, after = slice(None, -1), slice(1, None)
    rows = (before, after) if down else (slice(None), slice(None))
    columns = {1: (before, after), 0: (slice(None), slice(None)), -1: (after, before)}[right]
    return (rows[0], columns[0]), (rows[1], columns[1])


def _settle(own: np.ndarray, edges: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Costs with what settled neighbours add, which pixels are settled, and each pixel's own cheapest label.

    Given any labelling, a pixel whose cheapest label undercuts the others by what all its neighbours weigh cannot
    lose by taking it. Once it has it, it is part of its neighbours' own costs, which may settle those.
    """
    own = own.copy()
    settled = np.zeros(own.shape[1:], bool)
    labels = own.argmin(axis=0)
    for _ in range(ROUNDS):
        lowest = np.partition(own, 1, axis=0)
        around = np.zeros(settled.shape, np.int64)
        for edge, (first, second) in zip(edges, map(_ends, DIRECTIONS), strict=True):
            around[first] += edge * ~settled[second]
            around[second] += edge * ~settled[first]
        labels = np.where(settled, labels, own.argmin(axis=0))
        newly = ~settled & (lowest[1] - lowest[0] >= around)
        settled |= newly
        _charge(own, edges, newly, labels)
        if 100 * np.count_nonzero(newly) <= newly.size:  # another round would cost more than it saves
            break
    return own, settled, np.where(settled, labels, own.argmin(axis=0))


def _charge(own: np.ndarray, edges: list[np.ndarray], newly: np.ndarray, labels: np.ndarray) -> None:
    """Add to the neighbours' costs what differing from the newly settled pixels costs."""
    for edge, ends in zip(edges, map(_ends, DIRECTIONS), strict=True):
        for here, there in (ends, ends[::-1]):
            weight = edge * newly[here]
            for label, cost in enumerate(own):
                cost[there] += weight * (labels[here] != label)


def _graph(own: np.ndarray, edges: list[np.ndarray], settled: np.ndarray) -> _Graph:
    number = np.full(settled.shape, -1)
    number[~settled] = np.arange(np.count_nonzero(~settled))
    pairs = []
    for edge, (first, second) in zip(edges, map(_ends, DIRECTIONS), strict=True):
        both = (number[first] >= 0) & (number[second] >= 0)
        pairs.append((number[first][both], number[second][both], edge[both]))
    return _Graph(own[:, ~settled], *(np.concatenate(part) for part in zip(*pairs, strict=True)))


def _expand(graph: _Graph, labels: np.ndarray, maxflow: Any) -> np.ndarray:
    """Expansion moves until a cycle over all classes changes nothing."""
    classes = len(graph.own)
    if classes == 2:  # one move from all pixels alike is the best of all labellings
        return _move(graph, np.zeros_like(labels), 1, maxflow)
    for _ in range(CYCLES):
        before = labels
        for label in range(classes):
            labels = _move(graph, labels, label, maxflow)
        if np.array_equal(before, labels):
            break
    return labels


def _move(graph: _Graph, labels: np.ndarray, label: int, maxflow: Any) -> np.ndarray:
    """The cheapest labelling in which each pixel keeps its label or takes this one.

    Of a pair, a is what it costs if both keep theirs, b if only the second takes the label, c if only the first does;
    if both do, nothing. Kolmogorov and Zabih 2004, "What Energy Functions Can Be Minimized via Graph Cuts?".
    """
    first, second = labels[graph.first], labels[graph.second]
    a = graph.between * (first != second)
    b = graph.between * (first != label)
    c = graph.between * (second != label)
    count = len(labels)
    take = graph.own[label] + _summed(graph.first, c - a, count) - _summed(graph.second, c, count)
    keep = np.take_along_axis(graph.own, labels[None], axis=0)[0]
    network = maxflow.GraphInt(count, len(a))
    nodes = network.add_nodes(count)
    network.add_edges(graph.first, graph.second, b + c - a, np.zeros_like(a))
    network.add_grid_tedges(nodes, take, keep)
    network.maxflow()
    return np.where(network.get_grid_segments(nodes), label, labels)


def _summed(pixels: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums of `values` by pixel, int64 (count,); exact in the float64 that they are summed in."""
    return np.bincount(pixels, values, count).astype(np.int64)
