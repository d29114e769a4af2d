"""Training samples by number.

Which picture the n-th sample shows and how it is cropped follow from the seed and n alone, so a run that
was killed goes on with the samples it would have seen, and several processes share them without talking.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_all_start_methods
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from fcn_edge.data import Sample, read_image, read_truth
from fcn_edge.errors import DataError
from fcn_edge.training.augment import View, view
from fcn_edge.training.recipe import Recipe

AHEAD = 4  # batches that each worker keeps ready

Part = dict[str, Any]  # frame uint8 (N, H, W, 3) or features; mask uint8 (N, H, W); soft float32 (N, C, h, w)


class Views(Dataset):
    """Sample number n of an endless run: the pictures in a new order each epoch, each time another view.

    side_above: the least side that the network takes for that many pixels.
    soft:       where each picture's teacher probabilities lie.
    features:   of sample and view, where what the trunk makes of it lies; each picture then has only as many
                views as the recipe says, taken in turn.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        recipe: Recipe,
        side_above: Callable[[int], int],
        soft: dict[Path, Path] | None = None,
    ) -> None:
        self.samples, self.recipe, self.side_above, self.soft = samples, recipe, side_above, soft
        self.features: dict[tuple[Path, int], Path] | None = None

    @property
    def last_step(self) -> int:
        return self.recipe.last_step(len(self.samples))

    def __getitem__(self, number: int) -> Part:
        cv2.setNumThreads(0)  # the loop's own threads need the cores
        epoch, place = divmod(number, len(self.samples))
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.samples))
        sample = self.samples[order[place]]
        if self.features is None:
            frame, mask, soft = self._view(sample, np.random.default_rng((self.recipe.seed, 1, number)))
            part: Part = {"frame": frame}
        else:
            from fcn_edge.training.features import read_features

            turn = epoch % self.recipe.views
            _, mask, soft = self.kept_view(sample, turn)
            part = {"features": read_features(self.features[sample.image, turn])}
        return part | {"mask": mask} | ({} if soft is None else {"soft": soft})

    def kept_view(self, sample: Sample, turn: int) -> View:
        """One of the views that features are kept of; it does not change when the list of pictures does."""
        return self._view(sample, np.random.default_rng((self.recipe.seed, 2, *sample.id.encode(), turn)))

    def _view(self, sample: Sample, rng: np.random.Generator) -> View:
        soft = np.load(self.soft[sample.image]) if self.soft else None
        return view(read_image(sample.image), read_truth(sample), soft, self.recipe, self.side_above, rng)


class Steps(Sampler[list[int]]):
    """The numbers of the samples of each step from `first` on, those of one of several processes."""

    def __init__(self, first: int, last: int, batch: int, rank: int, processes: int) -> None:
        self.steps, self.batch, self.rank, self.processes = range(first, last), batch, rank, processes

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield list(range(step * self.batch, (step + 1) * self.batch))[self.rank :: self.processes]


def loader(views: Views, first_step: int, workers: int, rank: int = 0, processes: int = 1) -> DataLoader:
    """The batches from step `first_step` to the last, each a list of parts that are computed one by one."""
    recipe = views.recipe
    parts = parts_of(recipe, processes)
    atexit.register(_end_workers)

    def collate(samples: list[Part]) -> list[Part]:
        size = len(samples) // parts
        return [default_collate(samples[start : start + size]) for start in range(0, len(samples), size)]

    return DataLoader(
        views,
        batch_sampler=Steps(first_step, views.last_step, recipe.batch, rank, processes),
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_outlive_signals,
        multiprocessing_context="fork" if workers and "fork" in get_all_start_methods() else None,
    )


def parts_of(recipe: Recipe, processes: int) -> int:
    """In how many parts each process computes its share of a batch. Raises DataError where shares are not even."""
    parts = -(-recipe.parts // processes)
    if recipe.batch % (parts * processes):
        raise DataError(
            f"a batch of {recipe.batch} in {recipe.parts} parts cannot be dealt out to {processes} devices evenly. "
            "Take a number of devices that divides it."
        )
    return parts


def _outlive_signals(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the loop alone decides, and its workers end with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # multiprocessing's own thread would print that the loop has gone; a sample's error reaches the loop itself
    sys.excepthook = lambda *error: None


def _end_workers() -> None:
    """At exit multiprocessing would send SIGTERM, which they outlive, and wait for ever."""
    for worker in multiprocessing.active_children():
        worker.kill()


def hold_back(samples: Sequence[Sample], every: int) -> tuple[list[Sample], list[Sample]]:
    """The samples to train on, and every `every`-th one, which is kept for choosing between candidates."""
    kept = [sample for number, sample in enumerate(samples) if number % every]
    return kept, list(samples[::every])
