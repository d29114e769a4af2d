"""What each layer of a network takes, in one table whatever runs it.

Runtimes fuse, split and rename a network's layers, each in its own way, so tables of two backends cannot be laid side
by side row by row; what can be compared is where the time goes.
"""

from __future__ import annotations

import numpy as np

from fcn_edge.bench.schema import Layer
from fcn_edge.errors import BackendError
from fcn_edge.prepare import Layout, lay_out, prepare
from fcn_edge.runtime.protocol import ProfilingBackend
from fcn_edge.segmenter import Segmenter

RUNS = 20  # of which each figure is the mean: a layer of 50 us is then known to about 5 %


def layers(segmenter: Segmenter, frame: np.ndarray, runs: int = RUNS) -> list[Layer]:
    """The runtime's layers for one frame, uint8 (H, W, 3), the costliest first.

    The backend opens its file once more, with counters on, which cost time: the sum is above what `infer` takes.
    Raises BackendError where the runtime does not tell.
    """
    backend = segmenter.backend
    if not isinstance(backend, ProfilingBackend):
        raise BackendError(f"{backend.name} does not tell what its layers take.")
    network = segmenter.network_size((frame.shape[0], frame.shape[1]))
    if segmenter.resize == "tiles":
        frame = frame[: network[0], : network[1]]
        layout = Layout(network, (frame.shape[0], frame.shape[1]))
    else:
        layout = lay_out(segmenter.spec, (frame.shape[0], frame.shape[1]), segmenter.resize, segmenter.size)
    times = backend.profile(prepare(segmenter.spec, frame, layout), runs)
    total = sum(each.seconds for each in times) or 1.0
    return [
        Layer(each.name, each.op, each.seconds, each.seconds / total, each.precision, _listed(each.output))
        for each in sorted(times, key=lambda each: -each.seconds)
    ]


def _listed(shape: tuple[int, ...] | None) -> list[int] | None:
    return None if shape is None else list(shape)
