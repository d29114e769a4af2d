"""Where the files that travel with the package lie: recipes, profiles, calibration sets, demo photos.

They stand at the top of the repository, where people look for them, and inside the installed package.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
DEFAULT_MODEL = "fcn8s-lite"  # the bundled model, and its variant, where none is named


def folder(name: str) -> Path:
    """The folder of that name: of the installed package, or of the checkout that this package lies in."""
    installed = PACKAGE / "_data" / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def demo_photos() -> list[Path]:
    return sorted(folder("examples").glob("*.jpg"))
