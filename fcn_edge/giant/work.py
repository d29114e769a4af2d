"""What is done of a picture, kept beside its output until the output is whole.

A folder with a file for each strip of finished labels, and what the next strip goes on from. It belongs to one picture,
one model and one way of cutting, all known by their content: where one of them is another, or a file was damaged, it is
begun anew.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fcn_edge.files import replacing

KEY = "key.json"
BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Work:
    """The strips of the picture that becomes `target`.

    key:   of what the labels follow from; JSON.
    total: strips of the whole picture.
    `done` strips are there; `seam` is what the next one goes on from; `note` says why kept work was of no use.
    Raises OSError where the folder cannot be written.
    """

    def __init__(self, target: Path, key: dict[str, Any], total: int) -> None:
        self.folder = target.with_name(f".{target.name}.part")
        self.total = total
        self.done = 0
        self.seam: np.ndarray | None = None
        self.note: str | None = None
        if self.folder.exists():
            self._resume(key)
        if not self.done:
            self.remove()
            self.folder.mkdir(parents=True)
            _write_text(self.folder / KEY, json.dumps(key))

    def add(self, labels: np.ndarray, seam: np.ndarray | None) -> None:
        """Keep one more strip, uint8 (n, W), and what the next one goes on from. Raises OSError."""
        _save(self._strip(self.done), np.savez_compressed, labels=labels)
        if seam is not None:
            _save(self._seam(self.done), np.savez, seam=seam)
        if self.done:
            self._seam(self.done - 1).unlink(missing_ok=True)
        self.done += 1

    def blocks(self) -> Iterator[np.ndarray]:
        """The labels of every strip, in their order."""
        return (_load(self._strip(number), "labels") for number in range(self.done))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _resume(self, key: dict[str, Any]) -> None:
        try:
            other = _difference(json.loads((self.folder / KEY).read_text()), key)
        except BROKEN:
            self.note = f"what {self.folder} keeps is damaged. Begun anew."
            return
        if other is not None:
            self.note = f"what {self.folder} keeps is of no use: {other} is another now. Begun anew."
            return
        whole = 0
        for number in range(self.total):
            try:
                _load(self._strip(number), "labels")
            except BROKEN:
                break
            whole += 1
        self.done = self._with_seam(whole)
        if not self.done and whole:
            self.note = f"what {self.folder} keeps is damaged. Begun anew."

    def _with_seam(self, whole: int) -> int:
        """How many of the first strips can be gone on from; keeps the seam."""
        if whole == self.total:
            return whole
        for done in range(whole, 0, -1):
            try:
                self.seam = _load(self._seam(done - 1), "seam")
            except BROKEN:
                continue
            return done
        return 0

    def _strip(self, number: int) -> Path:
        return self.folder / f"{number:05}.npz"

    def _seam(self, number: int) -> Path:
        return self.folder / f"{number:05}.seam.npz"


def _save(path: Path, pack: Callable[..., None], **arrays: np.ndarray) -> None:
    packed = io.BytesIO()  # packed beside the disk: zipfile says nothing useful of one that fills up
    pack(packed, **arrays)
    with replacing(path) as file:
        file.write_bytes(packed.getvalue())


def _load(path: Path, name: str) -> np.ndarray:
    """One array of a file, whose checksum is read with it. Raises what BROKEN names."""
    with np.load(path, allow_pickle=False) as kept:
        return kept[name]


def _difference(kept: dict[str, Any], key: dict[str, Any]) -> str | None:
    """Which entry is another one, in words."""
    names = [name for name in {**kept, **key} if kept.get(name) != key.get(name)]
    return f"the {names[0]}" if names else None


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write_text(text)
