"""CamVid as SegNet splits it: ROOT/train, val and test hold pictures, ROOT/trainannot, valannot, testannot masks.

Its masks are gray PNGs of 11 classes, and 11 is void. Split and classes: Badrinarayanan et al. 2017 (SegNet) and
the files published with it; the colours are CamVid's own (Brostow et al. 2009, label_colors.txt).
"""

from __future__ import annotations

from pathlib import Path

from fcn_edge.data.files import Classes, paired
from fcn_edge.data.samples import Sample

LOOKS_LIKE: str = "train with trainannot (CamVid as SegNet splits it)"
COLOURS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (0, 0, 192),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
DEFAULT_CLASSES: Classes | None = Classes(tuple(COLOURS), tuple(COLOURS.values()), void=len(COLOURS))

MASKS = "annot"  # what a folder of masks has behind its pictures' name


def recognised(root: Path) -> bool:
    return bool(lists(root))


def lists(root: Path) -> list[str]:
    return sorted(path.name[: -len(MASKS)] for path in root.glob(f"?*{MASKS}") if path.is_dir())


def read(root: Path, name: str | None, void: int) -> list[Sample]:
    """The samples of a folder of pictures, by name: every picture and every mask of it."""
    assert name is not None  # without lists the layout is not recognised
    return paired(root / name, root / f"{name}{MASKS}", void)
