"""What every backend promises.

A backend knows tensors and nothing of video, pictures or classes. It computes in the precision that
was asked for or raises; what it really computes in is what it reports.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


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
