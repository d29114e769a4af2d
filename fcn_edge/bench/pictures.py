"""The pictures on which candidates differ most: where a mean of IoUs hides who is wrong about what.

They are chosen from the labels that evaluation kept, and copied beside the report, so that a page can be made of it
without the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from fcn_edge.bench.labelled import labels_file
from fcn_edge.bench.schema import Picture
from fcn_edge.data import DataSet, Sample, read_image, read_mask, read_truth
from fcn_edge.files import replacing
from fcn_edge.spec import VOID

FOLDER = "pictures"
SHOWN = 6  # as many as a reader looks at
SEARCHED = 200  # pictures at most, evenly over the set: reading all labels of a large matrix takes longer than it tells
WHITE = (255, 255, 255)  # of void, which no class's colour is
JPEG_QUALITY = 90


def differing(
    data: str, samples: Sequence[Sample], labels: Mapping[str, Path], show: Callable[[float, str], None]
) -> list[tuple[Sample, float]]:
    """The pictures on which candidates agree least, the worst first, each with the share of pixels that all agree on.

    data:   what the labels were kept under.
    labels: of each candidate by its key, the folder that they were kept in; those that miss a picture are not heard.
    Void is left out, and so are pictures without anything else. Raises DataError where a mask cannot be read.
    """
    every = max(1, -(-len(samples) // SEARCHED))
    searched = samples[::every]
    found: list[tuple[Sample, float]] = []
    for done, sample in enumerate(searched):
        show(done / len(searched), "looking for the pictures that differ")
        seen = [
            read_mask(file) for folder in labels.values() if (file := labels_file(folder, data, sample.id)).is_file()
        ]
        counted = read_truth(sample) != VOID
        seen = [each for each in seen if each.shape == counted.shape]
        if seen and counted.any():
            same = np.all([each == seen[0] for each in seen], axis=0)
            found.append((sample, float(same[counted].mean())))
    return sorted(found, key=lambda pair: (pair[1], pair[0].id))[:SHOWN]


def publish(
    out: Path,
    data: str,
    opened: DataSet,
    chosen: Iterable[tuple[Sample, float]],
    labels: Mapping[str, Path],
) -> list[Picture]:
    """Frame, truth and every candidate's labels of each picture, in the folder `pictures` of `out`.

    Raises DataError where one cannot be read, OSError where one cannot be written.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return [_publish(folder, data, opened.palette, sample, agreement, labels) for sample, agreement in chosen]


def _publish(
    folder: Path,
    data: str,
    palette: Sequence[tuple[int, int, int]],
    sample: Sample,
    agreement: float,
    labels: Mapping[str, Path],
) -> Picture:
    import cv2

    stem = _plain(f"{data}-{sample.id}")
    frame, truth = folder / f"{stem}.jpg", folder / f"{stem}.truth.png"
    _, encoded = cv2.imencode(".jpg", read_image(sample.image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    with replacing(frame) as temporary:
        temporary.write_bytes(encoded.tobytes())
    _write_mask(truth, read_truth(sample), palette)
    files: dict[str, str] = {}
    for key, kept in labels.items():
        source = labels_file(kept, data, sample.id)
        if source.is_file():
            target = folder / f"{stem}.{_plain(key)}.png"
            _write_mask(target, read_mask(source), palette)
            files[key] = target.name
    return Picture(frame.name, truth.name, files, agreement, data)


def _write_mask(path: Path, indices: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> None:
    """A palette PNG, which shows classes in their colours and holds their indices."""
    from PIL import Image

    image = Image.frombytes("P", indices.shape[::-1], np.ascontiguousarray(indices).tobytes())
    colors = [*palette, *[(0, 0, 0)] * (VOID - len(palette)), WHITE]
    image.putpalette([value for color in colors for value in color])
    with replacing(path) as temporary:
        image.save(temporary, "PNG", optimize=True)


def remove(out: Path, pictures: Iterable[Picture], kept: Iterable[Picture]) -> None:
    """Delete the files of an earlier report's pictures that the new one does not have."""
    files = {name for picture in kept for name in _files(picture)}
    for name in {name for picture in pictures for name in _files(picture)} - files:
        if Path(name).name == name:  # a report may have been edited: nothing outside of the folder is touched
            with suppress(OSError):
                (out / FOLDER / name).unlink(missing_ok=True)


def _files(picture: Picture) -> list[str]:
    return [name for name in (picture.frame, picture.truth, *picture.labels.values()) if name]


def _plain(text: str) -> str:
    """As a file name: letters, digits and what needs no quoting."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)
