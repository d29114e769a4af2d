"""What a back end is: scores and the frame that they were made of in, labels out.

It takes the place of `decode`, so it gets scores as `decode` does: before the last upsampling, without a border that
lies beyond the frame. `upsampling` puts them onto the frame's pixels for it, as `decode` would have.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fcn_edge.prepare import Ending
from fcn_edge.spec import Grid


class Refine(Protocol):
    """A back end. One thread calls it; it keeps nothing of a frame that another frame's labels depend on."""

    name: str  # as in `REFINES`

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
        """Labels of the frame: uint8 (H, W), C-contiguous, every value below C.

        scores: float32 (C, h, w), those that lie on the frame; logits, of which some may be NaN or infinite.
        frame:  uint8 (H, W, 3), BGR; not to be written to.
        ending: how the scores lie on the frame, as `prepare.end` says it, together with
        grid:   the model's `output.grid`.
        """
        ...
