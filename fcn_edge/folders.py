"""Where a user's files lie: the project folder that commands read and write in, and the cache.

A project folder is one that holds `export/`, `engines/` and `calib/`; any command finds it from below, as
git finds its repository.
"""

from __future__ import annotations

import os
from pathlib import Path

from fcn_edge.errors import UsageError

PARTS = ("export", "engines", "calib")


def project_folder(given: Path | None = None) -> Path:
    """The folder `given`, else the nearest one upwards that has all of `PARTS`, else the current one.

    Relative where it is the current folder or was given so, so that messages stay short.
    Raises UsageError where `given` is no folder.
    """
    if given is not None:
        if not given.is_dir():
            raise UsageError(f"--project {given} is no folder. Make it first, or name another.")
        return given
    here = Path.cwd()
    for folder in (here, *here.parents):
        if all((folder / part).is_dir() for part in PARTS):
            return Path() if folder == here else folder
    return Path()


def cache_folder() -> Path:
    """`~/.cache/fcn-edge`, or where XDG_CACHE_HOME puts it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fcn-edge"
