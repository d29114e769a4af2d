"""What a person sees: the picture with its classes laid over it, or one class as a heat map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fcn_edge.errors import ModelError, unknown
from fcn_edge.overlay import draw_legend, draw_notice, draw_text, heat_map, overlay
from fcn_edge.segmenter import Segmentation
from fcn_edge.spec import VOID, ModelSpec

IN_LEGEND = 0.001  # part of the frame; below it a class is a few stray pixels and would make the legend flicker
UNTRAINED = "untrained weights"


@dataclass(frozen=True)
class Painter:
    """How results are drawn.

    keep: the names of the classes to show, the others count as background; null: all.
    heat: the class whose score is shown instead of the overlay.
    """

    spec: ModelSpec
    alpha: float = 0.5
    keep: tuple[str, ...] | None = None
    heat: str | None = None
    legend: bool = True

    def __post_init__(self) -> None:
        for name in (*(self.keep or ()), *((self.heat,) if self.heat else ())):
            if name not in self.spec.classes:
                raise unknown("class", name, self.spec.classes)
        if self.heat and self.spec.output.kind != "scores":
            raise ModelError(
                f"{self.spec.name}: gives finished labels, so there is no score to draw --heat from. "
                "Export it with --output scores."
            )

    def warnings(self) -> list[str]:
        """A line for each class asked for that the weights know little of."""
        asked = dict.fromkeys((*(self.keep or ()), *((self.heat,) if self.heat else ())))
        lines = []
        for name in asked:
            if self.spec.covered is not None and name not in self.spec.covered:
                lines.append(f"{self.spec.name} was not trained on {name}: expect nothing of it.")
            elif name in self.spec.thin:
                lines.append(f"{self.spec.name} saw few pictures of {name}: expect misses (see its model card).")
        return lines

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """uint8 (H, W) labels with the classes that are not shown turned into background."""
        if self.keep is None:
            return labels
        table = np.zeros(256, np.uint8)
        table[VOID] = VOID
        for name in self.keep:
            index = self.spec.classes.index(name)
            table[index] = index
        return cv2.LUT(labels, table)

    def shares(self, labels: np.ndarray) -> dict[str, float]:
        """The classes in the frame, background included, each with its part of the frame."""
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()  # a third of np.bincount's time
        names = self.spec.classes
        return {names[i]: float(counts[i]) / labels.size for i in range(len(names)) if counts[i]}

    def draw(self, result: Segmentation, labels: np.ndarray, shares: dict[str, float], readout: str) -> np.ndarray:
        """A new picture of the frame, uint8 (H, W, 3) BGR."""
        spec = self.spec
        if self.heat is not None:
            assert result.scores is not None
            picture = heat_map(result.frame, result.scores, spec.classes.index(self.heat), spec.output.grid)
            entries = []
        else:
            picture = overlay(result.frame, labels, spec.palette, self.alpha)
            present = [i for i, name in enumerate(spec.classes) if i and shares.get(name, 0) >= IN_LEGEND]
            entries = [(spec.classes[i], spec.palette[i]) for i in present]
        if self.legend and entries:
            draw_legend(picture, entries)
        words = [self.heat or "", readout] if self.legend else []
        text = "  ".join(word for word in (*words, "" if spec.trained else UNTRAINED) if word)
        if text:
            draw_text(picture, text)
        return picture

    def notice(self, picture: np.ndarray, text: str) -> np.ndarray:
        """A new picture: `picture`, uint8 (H, W, 3) BGR, dimmed, with `text` across it, as in "no signal for 12 s"."""
        noticed = picture.copy()
        draw_notice(noticed, text)
        return noticed
