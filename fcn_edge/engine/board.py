"""How a Jetson is set: its JetPack, its power mode, whether its clocks are held.

A board in its smallest power mode computes at a fraction of its speed, and one whose clocks follow the load gives
another figure every time; neither is seen in a figure, so doctor and the benchmarks say it. Texts and paths are those
that boards print (tests/engine/test_board.py); nothing here was run on one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.engine.machine import ROOT, find_jetson

JETPACKS = {  # release of Jetson Linux to JetPack (docs/jetson.md has the sources)
    "32": "4", "35": "5", "36.3": "6.0", "36.4": "6.1 or 6.2", "36.5": "6.2.2",
    "38.2": "7.0", "38.4": "7.1", "39.2": "7.2",
}  # fmt: skip
OLDEST = 36  # release of Jetson Linux: those before have Python 3.8 at best
GPU_CLOCKS = ("17000000.gpu", "gpu-gpc-0")  # under /sys/class/devfreq: Orin's, Thor's


@dataclass(frozen=True)
class Board:
    name: str | None
    l4t: str | None
    jetpack: str | None  # "6.1 or 6.2": one release of Jetson Linux serves several
    power_mode: str | None  # as nvpmodel names it: "25W", "MAXN_SUPER"
    clocks_held: bool | None  # the GPU's least and greatest clock are one, as jetson_clocks sets them

    @property
    def too_old(self) -> bool:
        return self.l4t is not None and int(self.l4t.split(".")[0]) < OLDEST


def find_board(root: Path = ROOT) -> Board | None:
    """The Jetson that this is; None elsewhere. Never raises."""
    jetson = find_jetson(root)
    if jetson is None:
        return None
    return Board(
        name=jetson.board,
        l4t=jetson.l4t,
        jetpack=jetpack(jetson.l4t) if jetson.l4t else None,
        power_mode=parse_power_mode(_ask("nvpmodel", "-q")),
        clocks_held=clocks_held(root),
    )


def jetpack(l4t: str) -> str | None:
    """The JetPack that a release of Jetson Linux belongs to."""
    parts = l4t.split(".")
    return JETPACKS.get(".".join(parts[:2])) or JETPACKS.get(parts[0])


def parse_power_mode(text: str) -> str | None:
    """The mode in what `nvpmodel -q` prints."""
    match = re.search(r"NV Power Mode:\s*(\S+)", text)
    return match.group(1) if match else None


def clocks_held(root: Path = ROOT) -> bool | None:
    """Whether the GPU's clock is held at one rate; None where the kernel does not tell."""
    for name in GPU_CLOCKS:
        folder = root / "sys/class/devfreq" / name
        try:
            return (folder / "min_freq").read_text().strip() == (folder / "max_freq").read_text().strip()
        except OSError:
            continue
    return None


def _ask(program: str, *arguments: str) -> str:
    """What a program prints; "" where there is none, or it fails or hangs."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
