"""Training samples by number.

Which picture the n-th sample shows and how it is cropped follow from the seed and n alone, so a run that
was killed goes on with the samples it would have seen.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from fcn_edge.data import Sample, read_image, read_mask
from fcn_edge.training.augment import crop
from fcn_edge.training.recipe import Recipe


class Crops(Dataset):
    """Sample number n of an endless run: the pictures in a new order each epoch, each time another crop."""

    def __init__(
        self, samples: Sequence[Sample], recipe: Recipe, stride: int, soft: dict[Path, Path] | None = None
    ) -> None:
        self.samples, self.recipe, self.stride, self.soft = samples, recipe, stride, soft

    def __getitem__(self, number: int) -> dict[str, Any]:
        cv2.setNumThreads(0)  # the loop's own threads need the cores
        epoch, place = divmod(number, len(self.samples))
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.samples))
        sample = self.samples[order[place]]
        assert sample.mask is not None
        soft = np.load(self.soft[sample.image]) if self.soft else None
        rng = np.random.default_rng((self.recipe.seed, 1, number))
        image, mask, soft = crop(read_image(sample.image), read_mask(sample.mask), soft, self.recipe, self.stride, rng)
        return {"frame": image, "mask": mask} | ({} if soft is None else {"soft": soft})


def loader(crops: Crops, first_step: int, workers: int) -> DataLoader:
    """Batches from step `first_step` to the recipe's last."""
    recipe = crops.recipe
    numbers = range(first_step * recipe.batch, recipe.steps * recipe.batch)
    ahead = 4 if workers else None
    return DataLoader(
        crops,
        recipe.batch,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=ahead,
        worker_init_fn=_outlive_signals,
    )


def _outlive_signals(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the loop alone decides, and its workers end with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # multiprocessing's own thread would print that the loop has gone; a sample's error reaches the loop itself
    sys.excepthook = lambda *error: None


def hold_back(samples: Sequence[Sample], every: int) -> tuple[list[Sample], list[Sample]]:
    """The samples to train on, and every `every`-th one, which is kept for choosing between candidates."""
    kept = [sample for number, sample in enumerate(samples) if number % every]
    return kept, list(samples[::every])
