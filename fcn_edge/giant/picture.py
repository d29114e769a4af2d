"""One picture of any size to its labels, strip by strip; what is done outlives an interrupt and a full disk.

The labels of finished strips wait beside the output, compressed to a hundredth, because neither a TIFF nor a PNG can be
gone on with in the middle; at the end they are copied into it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fcn_edge
from fcn_edge.errors import SinkError
from fcn_edge.files import sha256
from fcn_edge.giant.rows import open_rows
from fcn_edge.giant.work import Work
from fcn_edge.giant.written import geographic_tags, import_tifffile, write_png, write_tiff
from fcn_edge.overlay import overlay
from fcn_edge.prepare import Size
from fcn_edge.segmenter import Segmenter
from fcn_edge.tiling import Sides
from fcn_edge.video.writing import MARK, Draft, sink_errors

TIFFS = (".tif", ".tiff")
KINDS = (*TIFFS, ".png")  # what can be written as it goes
DRAWN = 256  # rows at once

Progress = Callable[[int, int], None]  # tiles that are done, and of how many


@dataclass(frozen=True)
class Wanted:
    """What a picture becomes: files of KINDS.

    labels:  class indices with the classes' colours as palette.
    overlay: the picture with the classes laid over it.
    classes: the indices to show, the others count as background; None: all.
    """

    labels: Path | None = None
    overlay: Path | None = None
    classes: tuple[int, ...] | None = None
    alpha: float = 0.5
    force: bool = False

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.labels, self.overlay) if path is not None]


@dataclass
class Done:
    """What became of a picture."""

    size: Size
    tiles: int
    strips: int
    kept: int  # strips that a run before had done
    finished: int = 0  # strips; fewer than `strips` where the run was stopped
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict[str, float])  # seconds
    shares: dict[str, float] = field(default_factory=dict[str, float])  # class to its part of the picture
    notes: list[str] = field(default_factory=list[str])


class _Stopped(Exception):
    pass


def segment_picture(
    segmenter: Segmenter,
    source: Path,
    wanted: Wanted,
    stop: threading.Event,
    progress: Progress = lambda done, total: None,
) -> Done:
    """The labels of the picture at `source`, in tiles, as the files that are wanted.

    segmenter: opened with resize="tiles".
    stop:      once it is set, no further tile is begun and no file ended; a later call goes on from whole strips.
    Raises SourceError where the picture cannot be read, SinkError where a file cannot be written.
    """
    assert segmenter.tiling is not None
    assert wanted.files
    begun = time.monotonic()
    rows = open_rows(source)
    sides = segmenter.tiling.cut(rows.size)
    for path in wanted.files:  # what cannot be written is said now, not after the work
        Draft(path, wanted.force).discard()
        if path.suffix.lower() in TIFFS:
            import_tifffile(path)
    home = wanted.files[0]
    with sink_errors(home):
        work = Work(home, _key(segmenter, source, sides), len(sides.rows.origins))
    done = Done(rows.size, sides.tiles, work.total, work.done, work.done, notes=[work.note] if work.note else [])
    try:
        _compute(segmenter, rows.read, sides, work, done, stop, progress)
        with _keeping(home, work):
            _write(segmenter, source, wanted, work, done, stop)
    except _Stopped:
        pass
    else:
        work.remove()
    done.seconds = time.monotonic() - begun
    return done


def _compute(
    segmenter: Segmenter,
    read: Callable[[int, int], np.ndarray],
    sides: Sides,
    work: Work,
    done: Done,
    stop: threading.Event,
    progress: Progress,
) -> None:
    tiling = segmenter.tiling
    assert tiling is not None
    across = len(sides.columns.origins)
    tiles = work.done * across

    def infer(tile: np.ndarray, network: Size) -> np.ndarray:
        nonlocal tiles
        if stop.is_set():
            raise _Stopped
        scores = segmenter.infer_tile(tile, network, done.stages)
        tiles += 1
        progress(tiles, sides.tiles)
        return scores

    for strip in tiling.strips(sides, read, infer, work.done, work.seam):
        labels = tiling.labels(sides, strip)
        with _keeping(work.folder, work):
            work.add(labels, strip.seam)
        done.finished = work.done


def _write(segmenter: Segmenter, source: Path, wanted: Wanted, work: Work, done: Done, stop: threading.Event) -> None:
    spec = segmenter.spec
    shown = np.arange(256, dtype=np.uint8)
    if wanted.classes is not None:
        shown[[index for index in range(len(spec.classes)) if index not in wanted.classes]] = 0
    counts = np.zeros(256, np.int64)

    def labels() -> Iterator[np.ndarray]:
        nonlocal counts
        counts = np.zeros(256, np.int64)
        for block in work.blocks():
            for start in range(0, len(block), DRAWN):
                if stop.is_set():
                    raise _Stopped
                rows = shown[block[start : start + DRAWN]]
                counts += np.bincount(rows.ravel(), minlength=256)
                yield rows

    def drawn() -> Iterator[np.ndarray]:
        rows, top = open_rows(source), 0
        for block in labels():
            picture = rows.read(top, top + len(block))
            top += len(block)
            yield overlay(picture, block, spec.palette, wanted.alpha)[..., ::-1]

    note = f"{MARK} with {spec.name}" + ("" if spec.trained else ", UNTRAINED weights")
    for path, blocks, palette in ((wanted.labels, labels, spec.palette), (wanted.overlay, drawn, None)):
        if path is None:
            continue
        write = write_png
        if path.suffix.lower() in TIFFS:
            write = partial(write_tiff, tags=geographic_tags(source))
        draft = Draft(path, wanted.force)
        try:
            with sink_errors(path):
                write(draft.temporary, blocks(), done.size, palette, note)
            draft.commit()
        finally:
            draft.discard()
    total = done.size[0] * done.size[1]
    done.shares = {name: int(counts[i]) / total for i, name in enumerate(spec.classes) if counts[i]}


def _key(segmenter: Segmenter, source: Path, sides: Sides) -> dict[str, Any]:
    """What the labels follow from, by the words that say which of it is another one."""
    backend = segmenter.backend
    model = sha256(segmenter.path) if segmenter.path.is_file() else str(segmenter.path)
    return {
        "picture": sha256(source),
        "model": model,
        "backend": f"{backend.name} {sorted(backend.versions.items())}",
        "precision": backend.precision,
        "size or overlap of tiles": asdict(sides),
        "version of fcn-edge": fcn_edge.__version__,
    }


@contextmanager
def _keeping(path: Path, work: Work) -> Iterator[None]:
    """Errors in writing `path` say what is kept."""
    try:
        with sink_errors(path):
            yield
    except SinkError as error:
        kept = f"{work.done} of {work.total} strips are kept in {work.folder}: the same command goes on from there."
        raise SinkError(f"{error} {kept}") from error
