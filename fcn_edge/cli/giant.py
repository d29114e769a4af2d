"""`fcn-edge run --resize tiles` on pictures: which files each becomes, and what is told of it.

Pictures alone come here, whatever their size; a video's frames are cut into tiles on the ordinary way.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcn_edge.cli import common
from fcn_edge.errors import SinkError, SourceError, UsageError, unknown
from fcn_edge.giant.picture import KINDS, Done, Wanted, segment_picture
from fcn_edge.segmenter import Segmenter
from fcn_edge.video.pictures import PictureSource
from fcn_edge.video.sources import open_source
from fcn_edge.video.uri import parse
from fcn_edge.video.writing import make_folder


@dataclass(frozen=True)
class Request:
    """What the user asked for. `model`: the arguments of `Segmenter` by their names."""

    sources: tuple[str, ...]
    model: dict[str, Any]
    outs: tuple[str, ...]
    labels: Path | None
    keep: tuple[str, ...] | None
    alpha: float
    force: bool
    json: bool


def are_pictures(sources: tuple[str, ...]) -> bool:
    """Whether every source gives photos, as they are stored, and no live source or video. Raises SourceError."""
    if any(parse(name).live for name in sources):
        return False
    with contextlib.ExitStack() as stack:
        return all(isinstance(stack.enter_context(open_source(name)), PictureSource) for name in sources)


def refuse(options: Mapping[str, object]) -> None:
    """Raises UsageError where one of these was given: a giant picture is never whole in memory."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(f"{', '.join(given)}: not with --resize tiles, which writes pictures by rows. Drop one.")


def run(request: Request) -> int:
    """Does it and tells; returns the exit status. Raises FcnEdgeError where nothing came of it."""
    files = [path for name in request.sources for path in open_source(name).files]
    targets = _targets(request, files)
    stop = threading.Event()
    told: list[dict[str, Any]] = []
    problems: list[str] = []
    with (
        common.building_bar() as building,
        Segmenter(**request.model, progress=building) as segmenter,
        common.stop_on_signals(stop) as interrupted,
    ):
        classes = _classes(request, segmenter)
        for path, wanted in targets.items():
            if stop.is_set():
                break
            try:
                with _bar(path.name) as progress:
                    done = segment_picture(segmenter, path, replace(wanted, classes=classes), stop, progress)
            except SourceError as error:
                if len(targets) == 1:
                    raise
                problems.append(str(error))
                common.say(f"fcn-edge: {error}")
                continue
            told.append(_picture(path, wanted, done))
            _tell(told[-1], interrupted.name, request.json)
        document = _document(request, segmenter, told, problems, interrupted.name)
    if not told and not interrupted.name:
        raise SourceError(f"{', '.join(request.sources)}: no picture could be read. First: {problems[0]}")
    if request.json:
        common.print_json(document)
    return 128 + interrupted.number if interrupted.number else int(bool(problems))


def _targets(request: Request, files: list[Path]) -> dict[Path, Wanted]:
    """What each picture becomes."""
    if len(request.outs) > 1:
        raise UsageError(f"--out {request.outs[1]}: with --resize tiles a picture has one overlay. Name --out once.")
    if not request.outs and request.labels is None:
        raise UsageError("nothing to write is named. Add --labels FOLDER or FILE.tif, or --out FILE.tif.")
    out = Path(request.outs[0]) if request.outs else None
    names = [path.stem for path in files]
    names = [path.stem if names.count(path.stem) == 1 else path.name for path in files]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]}: two pictures of that name would become one file. Name one --source at a time.")
    targets: dict[Path, Wanted] = {}
    labels = overlay = None
    for path, name in zip(files, names, strict=True):
        labels = _target(request.labels, f"{name}.png", "--labels", files)
        overlay = _target(out, f"{name}.tif", "--out", files)
        targets[path] = Wanted(labels, overlay, None, request.alpha, request.force)
    if labels is not None and labels == overlay:
        raise UsageError(f"{labels}: is named for labels and for the overlay. Name two files.")
    return targets


def _target(place: Path | None, name: str, option: str, files: list[Path]) -> Path | None:
    """The file at `place`, or of that name in it; it is made where it is a folder."""
    if place is None:
        return None
    if place.is_dir() or not place.suffix:
        target = make_folder(place) / name
        if any(os.path.samefile(place, path.parent) for path in files):
            raise SinkError(f"{place}: is the folder of the source, whose files would be replaced. Name another one.")
        return target
    if place.suffix.lower() not in KINDS:
        raise UsageError(
            f"{option} {place}: in tiles a picture is written by rows, as {', '.join(KINDS)} can be. "
            "Name one of these, or a folder."
        )
    if len(files) > 1:
        raise UsageError(f"{option} {place}: is one file, but there are {len(files)} pictures. Name a folder.")
    if place.exists() and os.path.samefile(place, files[0]):
        raise SinkError(f"{place}: is the source. Name another output.")
    return place


def _classes(request: Request, segmenter: Segmenter) -> tuple[int, ...] | None:
    names = segmenter.spec.classes
    for name in request.keep or ():
        if name not in names:
            raise unknown("class", name, names)
    return None if request.keep is None else tuple(names.index(name) for name in request.keep)


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A function that moves a bar, which is not there before the first tile is done."""
    with contextlib.ExitStack() as stack:
        shown: list[Callable[[int, str], None]] = []

        def move(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(common.bar(total, name)))
            shown[0](done, f"tile {done} of {total}")

        yield move


def _picture(path: Path, wanted: Wanted, done: Done) -> dict[str, Any]:
    """The keys of one picture; docs/tiles.md lists them."""
    whole = done.finished == done.strips
    return {
        "source": str(path),
        "size": list(done.size),
        "tiles": done.tiles,
        "strips": done.strips,
        "finished": done.finished,
        "kept": done.kept,
        "seconds": round(done.seconds, 3),
        "stages_s": {name: round(seconds, 3) for name, seconds in done.stages.items()},
        "classes": {name: round(share, 6) for name, share in done.shares.items()},
        "outputs": [str(file) for file in wanted.files] if whole and done.shares else [],
        "notes": done.notes,
    }


def _document(
    request: Request, segmenter: Segmenter, told: list[dict[str, Any]], problems: list[str], interrupted: str | None
) -> dict[str, Any]:
    backend, tiling = segmenter.backend, segmenter.tiling
    assert tiling is not None
    return {
        "source": ", ".join(request.sources),
        "pictures": told,
        "model": segmenter.spec.name,
        "trained": segmenter.spec.trained,
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
        "choice": segmenter.choice,
        "resize": segmenter.resize,
        "tile": list(tiling.side),
        "receptive_field": tiling.field.pixels,
        "pooled": tiling.field.pooled,
        "interrupted": interrupted,
        "problems": problems,
    }


def _tell(picture: dict[str, Any], interrupted: str | None, json: bool) -> None:
    show: Callable[[str], None] = common.say if json else print
    for note in picture["notes"]:
        common.say(f"fcn-edge: {note}")
    height, width = picture["size"]
    kept = f", {picture['kept']} of {picture['strips']} strips kept from before" if picture["kept"] else ""
    show(f"{picture['source']}: {width}x{height} in {picture['tiles']} tiles, {picture['seconds']:.1f} s{kept}")
    for file in picture["outputs"]:
        show(f"  wrote {file}")
    if not picture["outputs"]:
        show(
            f"  ended early by {interrupted}: {picture['finished']} of {picture['strips']} strips are kept, "
            "and the same command goes on from there"
        )
