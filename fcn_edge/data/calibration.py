"""The pictures that int8 ranges are measured on, held to what they are said to be.

Ranges from the wrong pictures cost accuracy and no error: noise, pictures that were replaced on disk, and pictures that
the model is then measured on. Each is refused here, before anything is computed. docs/calibration.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.data import calibration_set as sets
from fcn_edge.data.likeness import FAR, NEAR, NOISE, Look, Track, distances, looks
from fcn_edge.data.samples import Sample
from fcn_edge.errors import DataError, UsageError

NOISY = 0.1  # share of pictures that may look like noise: a lawn or gravel may, a tenth of a set of photos does not


@dataclass(frozen=True)
class Calibration:
    """Pictures in the order of their use, and the SHA-256 over the SHA-256 of each, which caches and specs go by."""

    name: str
    pictures: tuple[Path, ...]
    identity: str


def open_calibration(
    calib: Path, root: Path | None = None, count: int | None = None, track: Track | None = None
) -> Calibration:
    """The pictures to calibrate with.

    calib: a calibration set (TOML, or the name of a bundled one), whose pictures lie under `root`; else what they are
           drawn from: a data set's folder, whose `train` list is taken, ROOT:LIST, or a folder of pictures.
    count: at most that many: a set's first, which are drawn evenly over the classes too; every n-th of a folder.
    Raises DataError for a set that is empty, is noise or is an evaluation list, for pictures that are missing or are
    others than the set says, counted and the first named; UsageError for a set without `root`.
    """
    if count is not None and count < 1:
        raise UsageError(f"{count} calibration pictures are none: give at least 1.")
    if sets.is_set(calib):
        name, pictures, found = _listed(calib, root, count, track)
    elif not calib.exists() and ":" not in str(calib):
        raise DataError(
            f"{calib}: there is no such calibration set or folder. Name a set's file, a folder of pictures, ROOT:LIST "
            f"of a data set, or a bundled set: {', '.join(sets.bundled())}."
        )
    else:
        name, pictures, found = _of_folder(calib, count, track)
    refuse_noise(found, str(calib))
    return Calibration(name, tuple(pictures), identity(each.sha256 for each in found))


def identity(digests: Iterable[str]) -> str:
    """What `Calibration.identity` is of pictures with these SHA-256, in hexadecimal."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def near(
    calibration_pictures: Sequence[Path], evaluation_samples: Sequence[Sample], track: Track | None = None
) -> list[tuple[Path, Path]]:
    """Calibration pictures that are evaluation pictures too, each with the first that it is.

    They are where their bytes are the same, where they look nearly the same, and where they have one id and do not
    look plainly different, as copies that were cropped do.
    Raises DataError where a picture cannot be read.
    """
    ours = looks(calibration_pictures)
    theirs = looks([sample.image for sample in evaluation_samples], track)
    ids = [sets.bare(picture.name) for picture in calibration_pictures]
    found = clashes(ids, ours, [sets.bare(sample.image.name) for sample in evaluation_samples], theirs)
    return [(calibration_pictures[our], evaluation_samples[their].image) for our, their, _ in found]


def among(
    entries: Sequence[sets.Entry], evaluation_samples: Sequence[Sample], track: Track | None = None
) -> list[tuple[str, Path, str]]:
    """`near` for a set's entries, wherever their pictures are: id, evaluation picture, and by what it is known."""
    ours = [Look(entry.sha256, int(entry.hash, 16), 1.0) for entry in entries]
    theirs = looks([sample.image for sample in evaluation_samples], track)
    ids = [sets.bare(Path(entry.id).name) for entry in entries]
    found = clashes(ids, ours, [sets.bare(sample.image.name) for sample in evaluation_samples], theirs)
    return [(entries[our].id, evaluation_samples[their].image, why) for our, their, why in found]


def clashes(
    our_ids: Sequence[str], ours: Sequence[Look], their_ids: Sequence[str], theirs: Sequence[Look]
) -> list[tuple[int, int, str]]:
    """Which of ours are among theirs: our index, their first index, and why it is so: bytes, picture or id."""
    if not ours or not theirs:
        return []
    apart = distances([each.hash for each in ours], [each.hash for each in theirs])
    bytes_of = {each.sha256: index for index, each in reversed(list(enumerate(theirs)))}
    named = {id: index for index, id in reversed(list(enumerate(their_ids)))}
    found = []
    for index, (id, each) in enumerate(zip(our_ids, ours, strict=True)):
        nearest = int(apart[index].argmin())
        same_id = named.get(id)
        if each.sha256 in bytes_of:
            found.append((index, bytes_of[each.sha256], "the same bytes"))
        elif apart[index, nearest] <= NEAR:
            found.append((index, nearest, "nearly the same picture"))
        elif same_id is not None and apart[index, same_id] < FAR:
            found.append((index, same_id, "the same id"))
    return found


def refuse_noise(found: Sequence[Look], where: str) -> None:
    """Raises DataError where more than `NOISY` of the pictures look like noise or are of one colour."""
    noisy = sum(each.correlation < NOISE for each in found)
    if noisy > NOISY * len(found):
        raise DataError(
            f"{where}: {noisy} of {len(found)} pictures are noise or of one colour (neighbouring pixels correlate by "
            f"less than {NOISE}, those of photos by 0.8). Ranges measured on them fit no photo: calibrate with photos."
        )


def _listed(
    path: Path, root: Path | None, count: int | None, track: Track | None
) -> tuple[str, list[Path], list[Look]]:
    listed = sets.read_set(path)
    if root is None:
        raise UsageError(f"{path} lists pictures and holds none. Name the folder they lie in: --data VOCdevkit/VOC2012")
    entries = listed.pictures[:count]
    verified = sets.verify(entries, root, track)
    for kind, ids in (("missing", verified.missing), ("other pictures than the set lists", verified.others)):
        if ids:
            raise DataError(
                f"{root}: {len(ids)} of {len(entries)} pictures of {path} are {kind}, first: {ids[0]}. "
                f"All are named by: fcn-edge calib check {path} --data {root}"
            )
    return listed.name, verified.pictures, verified.looks


def _of_folder(calib: Path, count: int | None, track: Track | None) -> tuple[str, list[Path], list[Look]]:
    source = sets.open_source(str(calib))
    every = len(source.samples) / min(count or len(source.samples), len(source.samples))
    chosen = [source.samples[int(index * every)].image for index in range(round(len(source.samples) / every))]
    return source.name, chosen, looks(chosen, track)
