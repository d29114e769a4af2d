"""PASCAL VOC's layout, and SBD's masks in it.

ROOT/JPEGImages/ID.jpg, ROOT/SegmentationClass/ID.png, ROOT/ImageSets/Segmentation/LIST.txt. SBD (Hariharan et al.
2011) labels 9,118 more pictures; converted to VOC's form its masks lie in SegmentationClassAug, the list of all is
`trainaug`. A picture that has VOC's own mask is never given SBD's, which has no void and is coarser.
"""

from __future__ import annotations

import re
from pathlib import Path

from fcn_edge.data.files import PICTURE_SUFFIXES, Classes, by_stem, read_ids
from fcn_edge.data.samples import Sample
from fcn_edge.spec import VOC_CLASSES, voc_palette

LOOKS_LIKE: str = "JPEGImages with SegmentationClass (PASCAL VOC)"
DEFAULT_CLASSES: Classes | None = Classes(VOC_CLASSES, voc_palette(len(VOC_CLASSES)))

PICTURES, MASKS, SBD_MASKS, LISTS = "JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"
VOC_OWN = ("train", "val", "trainval")  # lists of which VOC labels every picture: a missing mask is missing
PAIR = re.compile(r"/?JPEGImages/(\S+)\.jpg\s+\S+")  # a line of DeepLab's lists: picture and mask


def recognised(root: Path) -> bool:
    return (root / PICTURES).is_dir() or (root / LISTS).is_dir()


def lists(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / LISTS).glob("*.txt"))


def read(root: Path, name: str | None, void: int) -> list[Sample]:
    """The samples of a list, in its order; of all pictures where there are no lists."""
    pictures = by_stem(root / PICTURES, PICTURE_SUFFIXES)
    ids = sorted(pictures) if name is None else [_id(line) for line in read_ids(root / LISTS / f"{name}.txt")]
    folders = [root / folder for folder in (MASKS, SBD_MASKS)[: 1 if name in VOC_OWN else 2]]
    masks = {id: path for folder in reversed(folders) for id, path in by_stem(folder, (".png",)).items()}
    labelled = any(folder.is_dir() for folder in folders)
    return [
        Sample(
            id,
            pictures.get(id, root / PICTURES / f"{id}.jpg"),
            masks.get(id, root / MASKS / f"{id}.png") if labelled else None,
            void,
        )
        for id in ids
    ]


def _id(line: str) -> str:
    pair = PAIR.fullmatch(line)
    return pair[1] if pair else line
