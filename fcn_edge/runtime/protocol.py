"""What every backend promises.

A backend knows tensors and nothing of video, pictures or classes. It computes in the precision that
was asked for or raises; what it really computes in is what it reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:  # its kernels take a while to load, and here it only names types
    from fcn_edge.prepare import Ending, Layout, Size


class Backend(Protocol):
    """A model file, opened to run on one device. Not thread-safe: one thread calls it.

    Opened by `BackendClass(path, spec, precision=None, threads=None)`; raises BackendError where the
    library is missing (with the line that installs it) or the precision cannot be had, ModelError
    where the file is broken.
    """

    name: str  # as in the registry: "openvino"
    device: str  # "CPU: AMD EPYC, 2 threads"
    precision: str  # what is really computed in: "fp32", "bf16", "fp16", "int8"
    versions: dict[str, str]  # {"openvino": "2026.4.1"}
    seconds: float  # that the output last returned took to compute, without waiting for the one before

    def infer(self, frames: np.ndarray) -> np.ndarray:
        """One output for `frames`, which are laid out and typed as the spec's input says.

        frames: (N, H, W, 3) or (N, 3, H, W). Returns float32 scores (N, C, h, w) or uint8 labels (N, H, W).
        """
        ...

    def submit(self, frames: np.ndarray) -> None:
        """Start on `frames`; at most two may be in flight. `frames` is not changed until collected."""
        ...

    def collect(self) -> np.ndarray:
        """The output for the oldest submitted frames, as `infer` returns it."""
        ...

    def close(self) -> None:
        """Release the device; calling it again does nothing."""
        ...


@runtime_checkable
class FrameBackend(Backend, Protocol):
    """A backend that also scales frames on its device, and may bring labels home instead of scores.

    Then a frame crosses the bus once as bytes. Of the ways that the scores can become labels the fastest is found by
    measuring, which is not the backend's to do: it offers them and does the one that it is told.
    """

    ways: Sequence[str]  # how scores can become labels here, the likely fastest first: "kernel", "scores"
    way: str  # the one that is taken; may be set while nothing is in flight. "scores" brings them home undecoded
    identity: str  # of model, device and versions: what was measured for it holds as long as it is the same
    # Seconds of what was last collected, by the device's clock: to_device, prepare, infer, decode, from_device.
    stages: dict[str, float]

    def takes(self, frame: Size, layout: Layout) -> bool:
        """Whether whole frames of that size are served, laid out so; if not, `submit` does, once it was scaled."""
        ...

    def infer_frame(self, frame: np.ndarray, layout: Layout, ending: Ending) -> np.ndarray:
        """What `collect_frame` gives for `frame`, whatever is in flight."""
        ...

    def submit_frame(self, frame: np.ndarray, layout: Layout, ending: Ending) -> None:
        """Start on `frame`, uint8 (H, W, 3) BGR; at most two may be in flight.

        `frame` may be written to again as soon as this returns.
        """
        ...

    def collect_frame(self) -> np.ndarray:
        """Of the oldest submitted frame: finished labels, uint8 (H, W), or an output as `infer` gives it."""
        ...


@dataclass(frozen=True)
class LayerTime:
    """What one of the runtime's own layers takes, which may be several of the network's."""

    name: str
    op: str  # as the runtime calls what it does: "Convolution"; "" where it does not say
    seconds: float  # mean a run
    precision: str | None = None
    output: tuple[int, ...] | None = None  # shape


@runtime_checkable
class ProfilingBackend(Backend, Protocol):
    """A backend whose runtime tells what each layer takes.

    Counting costs time, so this opens the file once more with the counters on: what else runs is not slowed.
    """

    def profile(self, frames: np.ndarray, runs: int) -> list[LayerTime]:
        """The layers that ran, in their order: means of `runs` after one that warms up; `frames` as `infer` takes them.

        Raises BackendError where the runtime does not tell.
        """
        ...
