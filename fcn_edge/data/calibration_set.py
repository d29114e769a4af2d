"""Calibration sets: which pictures to calibrate with, without the pictures.

A TOML file with a line a picture: its id, the SHA-256 of the copy that was drawn, and its perceptual hash. The id is
the identity, because few have the same bytes; the hash tells whether the picture under that id is the one meant.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from fcn_edge.data.files import PICTURE_SUFFIXES
from fcn_edge.data.likeness import NEAR, Look, Track, distances, looks
from fcn_edge.data.opening import LAYOUTS, open_data, open_list, parse_data
from fcn_edge.data.samples import Sample
from fcn_edge.errors import DataError, UsageError
from fcn_edge.files import replacing
from fcn_edge.resources import folder

SCHEMA = 1
# val, test and the like as a word of its own: val2017, trainval, seg11valid, but neither latest nor interval
EVALUATION = re.compile(r"(?<![a-z])(train|mini)?(val|valid|validation|eval|evaluation|test|testing)(?![a-z])", re.I)

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A picture of a set: in a data set its id, in a folder its path from there."""

    id: str
    sha256: Digest
    hash: Hash  # `likeness.perceptual_hash`


class CalibrationSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds. `pictures` are in the order of drawing: the first n are drawn as evenly as all."""

    schema: int = SCHEMA
    name: str
    source: str  # the data set's folder and list
    drawn: str  # how
    seed: int
    provenance: str
    licence: str
    classes: dict[str, int] = {}  # pictures that hold each, where there are masks
    pictures: tuple[Entry, ...]


@dataclass(frozen=True)
class Source:
    """What pictures are drawn from."""

    name: str  # the folder's
    root: Path
    lists: tuple[str, ...]
    samples: list[Sample]  # of a folder of pictures: without masks, the path from `root` as id
    classes: tuple[str, ...] = ()


@dataclass
class Verified:
    """What became of a set's entries under a folder; `pictures` and `looks` are those of `same` and `copies`."""

    same: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


def is_set(path: Path) -> bool:
    return path.suffix == ".toml" or (not path.exists() and str(path) in bundled())


def bundled() -> dict[str, Path]:
    """The sets that travel with the package: name to file."""
    return {path.stem: path for path in sorted(folder("calib").glob("*.toml"))}


def read_set(path: Path) -> CalibrationSet:
    """The set in that file, or the bundled one of that name. Raises DataError that says what is wrong with it."""
    known = bundled()
    path = path if path.suffix == ".toml" else known.get(str(path), path)
    see = "docs/calibration.md shows the form; fcn-edge calib make draws one."
    try:
        document = msgspec.toml.decode(path.read_bytes())
        if document.get("schema") in range(SCHEMA + 1, 1000):
            raise DataError(
                f"{path}: its schema is {document['schema']}, this fcn-edge knows {SCHEMA}. Update fcn-edge."
            )
        read = msgspec.convert(document, CalibrationSet)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"not readable: {error.strerror}"
        raise DataError(f"{path}: {reason}. Bundled calibration sets: {', '.join(known) or 'none'}.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise DataError(f"{path}: not a calibration set: {error}. {see}") from error
    if not read.pictures:
        raise DataError(f"{path}: the set is empty. {see}")
    ids = [entry.id for entry in read.pictures]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise DataError(f"{path}: {len(ids) - len(set(ids))} pictures are listed twice, first: {twice}.")
    return read


def write_set(path: Path, drawn: CalibrationSet) -> None:
    """Write the set with a line a picture. Raises OSError."""
    classes = ", ".join(f"{_quoted(name)} = {count}" for name, count in drawn.classes.items())
    lines = [
        "# A calibration set: ids and hashes, no pictures. Whether yours are these: fcn-edge calib check",
        f"schema = {drawn.schema}",
        *(f"{name} = {_quoted(getattr(drawn, name))}" for name in ("name", "source", "drawn")),
        f"seed = {drawn.seed}",
        *(f"{name} = {_quoted(getattr(drawn, name))}" for name in ("provenance", "licence")),
        *([f"classes = {{ {classes} }} # pictures that hold each"] if classes else []),
        "pictures = [ # id, SHA-256 of the copy that was drawn, perceptual hash",
        *(f"  [{', '.join(map(_quoted, (entry.id, entry.sha256, entry.hash)))}]," for entry in drawn.pictures),
        "]",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def open_source(text: str, force: bool = False) -> Source:
    """A data set's `train` list or those of ROOT:LIST,LIST, or all pictures of a folder.

    Pictures that another of its lists keeps for evaluation are left out.
    Raises DataError where there is none or one is missing, and for an evaluation list unless `force`.
    """
    root = Path(text).expanduser()
    if root.is_dir() and not _is_data_set(root):
        source = _open_folder(root)
        names = {_name(root), *(part for sample in source.samples for part in Path(sample.id).parent.parts)}
        evaluated = sorted(name for name in names if EVALUATION.fullmatch(name.rstrip("0123456789")))
    else:
        data = open_data([text], default="train")
        root, lists = (root, ["train"]) if root.is_dir() else parse_data(text)
        kept = set() if force else _kept_for_evaluation(root, lists)
        samples = [sample for sample in data.samples if sample.image not in kept]
        source = Source(_name(root), root, tuple(lists), samples, data.classes)
        evaluated = [name for name in lists if EVALUATION.search(name)]
    if evaluated and not force:
        raise DataError(
            f"{text}: {', '.join(evaluated)} is for evaluation, by its name. A model that is measured on the pictures "
            "it was calibrated on flatters itself: name others, or insist with fcn-edge calib make --force."
        )
    missing = [sample.id for sample in source.samples if not sample.image.is_file()]
    if missing:
        raise DataError(
            f"{text}: {len(missing)} of {len(source.samples)} pictures are missing, first: {missing[0]}. "
            "Put them there, or take them off the list."
        )
    if not source.samples:
        raise DataError(f"{text}: every picture of it is in an evaluation list of that data set too.")
    return source


def verify(entries: Sequence[Entry], root: Path, track: Track | None = None) -> Verified:
    """Which of the pictures under `root` are those listed. Raises DataError where it is no folder,
    or holds a picture of that id that cannot be read.

    `same`: the same bytes; `copies`: another copy of the picture; `others`: another picture has that id.
    """
    there = _pictures_under(root)
    found = [(entry, there[bare(entry.id)]) for entry in entries if bare(entry.id) in there]
    verified = Verified(missing=[entry.id for entry in entries if bare(entry.id) not in there])
    for (entry, path), seen in zip(found, looks([path for _, path in found], track), strict=True):
        if entry.sha256 == seen.sha256:
            verified.same.append(entry.id)
        elif distances([int(entry.hash, 16)], [seen.hash])[0, 0] <= NEAR:
            verified.copies.append(entry.id)
        else:
            verified.others.append(entry.id)
            continue
        verified.pictures.append(path)
        verified.looks.append(seen)
    return verified


def bare(id: str) -> str:
    """An id without a picture's suffix: a copy may have been saved in another format."""
    stem, suffix = os.path.splitext(id)
    return stem if suffix.lower() in PICTURE_SUFFIXES else id


def _pictures_under(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. Name the one that holds the pictures.")
    if not _is_data_set(root):
        samples: Iterable[Sample] = _open_folder(root).samples
    else:
        layout = next(layout for layout in LAYOUTS if layout.recognised(root))
        names = [None] if layout is LAYOUTS[0] else layout.lists(root) or [None]  # VOC's pictures lie in one folder
        samples = (sample for name in names for sample in layout.read(root, name, 255))
    return {bare(sample.id): sample.image for sample in samples if sample.image.is_file()}


def _kept_for_evaluation(root: Path, lists: Sequence[str]) -> set[Path]:
    layout = next(layout for layout in LAYOUTS if layout.recognised(root))
    names = [name for name in layout.lists(root) if EVALUATION.search(name) and name not in lists]
    return {sample.image for sample in open_list(root, names)} if names else set()


def _is_data_set(root: Path) -> bool:
    return any(layout.recognised(root) for layout in LAYOUTS)


def _open_folder(root: Path) -> Source:
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"{root}: there is no picture in it. Formats: {', '.join(PICTURE_SUFFIXES)}.")
    samples = [Sample(path.relative_to(root).as_posix(), path, None) for path in found]
    return Source(_name(root), root, (), samples)


def _name(root: Path) -> str:
    return os.path.basename(os.path.abspath(root))  # of ".", too; a link keeps the name that it was given


def _quoted(text: str) -> str:
    """A TOML string, or a key. Raises UsageError for what neither TOML nor a reader can show."""
    if not text.isprintable():
        raise UsageError(
            f"{text!r} cannot be written into a calibration set: it holds what cannot be printed. Rename it."
        )
    return json.dumps(text, ensure_ascii=False)
