"""What Ray costs on one machine: `fcn-edge run --on local` beside the plain command, over the same pictures.

    python benchmarks/many.py FOLDER [--count 1000] [--rounds 1] [--workers 2]

Both write masks. The two take turns, each in a fresh folder and a process of its own, so that starting up counts: the
plain command loads one model, --on local starts Ray and loads one a worker. The masks are compared afterwards. From the
rate once the workers are up follows what a million pictures take.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcn_edge.runtime.host import cpu_name, physical_cores
from fcn_edge.video.pictures import PICTURES

FCN_EDGE = [sys.executable, "-m", "fcn_edge.cli.main", "run"]
MILLION = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=physical_cores())
    parser.add_argument("--model", default="fcn8s-lite")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photos = gather(asked.folder, asked.count, Path(scratch, "photos"))
        common = ["--source", str(photos), "--model", asked.model]
        on = ["--on", "local", "--workers", str(asked.workers)]
        plain, spread = [], []
        for number in range(asked.rounds):
            plain.append(timed([*common, "--labels", f"{scratch}/plain{number}"]))
            spread.append(timed([*common, *on, "--labels", f"{scratch}/many{number}"]))
        same = agreement(Path(scratch, "plain0"), Path(scratch, "many0"))
    report(asked, plain, spread, same)


def gather(folder: Path, count: int, into: Path) -> Path:
    """The first pictures of a folder in one of their own; begun again under other names where there are fewer."""
    into.mkdir()
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    for number in range(count):
        path = found[number % len(found)]
        shutil.copy(path, into / f"{number:06}{path.suffix}")
    return into


def timed(arguments: list[str]) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command, and what it told."""
    start = time.perf_counter()
    shown = subprocess.run([*FCN_EDGE, *arguments, "--json"], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if shown.returncode:
        sys.exit(shown.stderr)
    return seconds, json.loads(shown.stdout)


def agreement(one: Path, other: Path) -> float:
    """The share of masks that have the same labels; their comments differ."""
    masks = sorted(one.glob("*.png"))
    return sum(alike(mask, other / mask.name) for mask in masks) / len(masks)


def alike(one: Path, other: Path) -> bool:
    same = filecmp.cmp(one, other, shallow=False)
    return same or np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def report(asked: argparse.Namespace, plain: list[Any], spread: list[Any], same: float) -> None:
    alone, many = (statistics.median(seconds for seconds, _ in each) for each in (plain, spread))
    rate = statistics.median(told["rate"] for _, told in spread)
    computed = ", ".join(spread[0][1]["computed"])
    print(f"{asked.count} pictures, {asked.model}, {computed}; {cpu_name()}, {physical_cores()} cores")
    print(f"plain command        {alone:7.1f} s   {asked.count / alone:6.1f} a second with its start")
    print(f"--on local, {asked.workers} workers {many:6.1f} s   {asked.count / many:6.1f} a second with its start")
    starting = statistics.median(told["starting"] for _, told in spread)
    print(f"of that, to first results{starting:5.1f} s")
    print(f"overhead             {many / alone - 1:+7.1%}")
    print(f"once they are up                 {rate:6.1f} a second, {rate / asked.workers:.1f} a worker")
    print(f"a million pictures   {MILLION / rate * asked.workers / 3600:7.1f} core hours")
    print(f"masks that are alike {same:7.1%}")


if __name__ == "__main__":
    main()
