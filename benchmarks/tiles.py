"""Pictures in tiles: memory over time, seconds, and how far their labels are those of the whole picture.

    python benchmarks/tiles.py giant [--side 20000] [--format png] [--out labels.tif] [--overlay a.tif] [--plot a.svg]
    python benchmarks/tiles.py photo [--model NAME]
    python benchmarks/tiles.py agree [--model NAME]

The pictures are made of the demo photos, side by side at up to three times their size, each mirrored or not by chance.

giant: `fcn-edge run --resize tiles` on a picture of so many pixels a side; its resident memory is read five times a
       second, and printed at every twentieth part of the time.
photo: 5472x3648, as a camera takes it: tiles, the whole at once (native), and fit; a process each, seconds and peak.
agree: labels in tiles against those of the whole at once, on 4000x3000, for tiles of several sides: of all pixels, and
       of those farther from the picture's rim than a score sees.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fcn_edge.data import read_image
from fcn_edge.giant import write_png
from fcn_edge.resources import DEFAULT_MODEL, demo_photos
from fcn_edge.segmenter import Segmenter

PHOTO = (3648, 5472)
AGREE = (3000, 4000)
TICK = 0.2  # seconds
LIMIT = 1500  # MB
FCN_EDGE = [sys.executable, "-m", "fcn_edge", "run"]


@dataclass(frozen=True)
class Seen:
    """A run, seen from outside."""

    seconds: float
    curve: list[tuple[float, float]]  # seconds and megabytes of resident memory
    peak: float  # megabytes, as the system counts it
    document: dict


def mosaic(size: tuple[int, int], seed: int = 0) -> Iterator[np.ndarray]:
    """The picture in blocks of rows, uint8 (n, W, 3) BGR."""
    random = np.random.default_rng(seed)
    photos = [read_image(path) for path in demo_photos()]
    height, width = size
    top = 0
    while top < height:
        rows = int(random.integers(300, 900))
        strip = np.empty((rows, width, 3), np.uint8)
        left = 0
        while left < width:
            photo = photos[random.integers(len(photos))]
            scale = rows / photo.shape[0]
            grown = cv2.resize(photo, (max(1, round(photo.shape[1] * scale)), rows), interpolation=cv2.INTER_LINEAR)
            grown = grown[:, ::-1] if random.integers(2) else grown
            part = grown[:, : width - left]
            strip[:, left : left + part.shape[1]] = part
            left += part.shape[1]
        yield strip[: height - top]
        top += rows


def draw(path: Path, size: tuple[int, int]) -> None:
    """The mosaic as a file: a PNG, or a JPEG or a tiled TIFF made of it; never the picture in memory."""
    png = path.with_suffix(".png")
    write_png(png, (block[..., ::-1] for block in mosaic(size)), size, None, "a mosaic")
    if path != png:
        import pyvips

        image = pyvips.Image.new_from_file(str(png), access="sequential")
        image.write_to_file(str(path), Q=90, **({"tile": True, "compression": "jpeg"} if path.suffix == ".tif" else {}))
        png.unlink()


def watch(*arguments: object) -> Seen:
    """`fcn-edge run` with these arguments, whose memory is read while it runs."""
    begun = time.perf_counter()
    process = subprocess.Popen([*FCN_EDGE, *map(str, arguments), "--json"], stdout=subprocess.PIPE, text=True)
    curve: list[tuple[float, float]] = []
    peak = 0.0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        kilobytes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
        if kilobytes:
            curve.append((time.perf_counter() - begun, int(kilobytes["VmRSS"]) / 1000))
            peak = max(peak, int(kilobytes["VmHWM"]) / 1000)
        time.sleep(TICK)
    assert process.stdout is not None
    told = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}.")
    return Seen(time.perf_counter() - begun, curve, peak, json.loads(told))


def giant(side: int, suffix: str, out: str, overlay: str | None, model: str, plot: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        source, target = Path(folder) / f"giant.{suffix}", Path(folder) / out
        draw(source, (side, side))
        print(f"{source.name}: {side}x{side}, {source.stat().st_size / 1e6:.0f} MB", flush=True)
        drawn = [] if overlay is None else ["--out", Path(folder) / overlay]
        seen = watch("--source", source, "--labels", target, *drawn, "--resize", "tiles", "--model", model)
        labels = target.stat().st_size
    picture = seen.document["pictures"][0]
    print(f"{seen.document['choice']}; {seen.document['precision']}")
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in picture["stages_s"].items())
    tiles = f"{picture['tiles']} tiles in {picture['strips']} strips"
    print(f"{tiles}, {seen.seconds:.1f} s ({stages}); {labels / 1e6:.1f} MB of labels")
    step = max(1, len(seen.curve) // 20)
    for seconds, megabytes in seen.curve[::step]:
        print(f"  {seconds:7.1f} s {megabytes:6.0f} MB {'#' * round(megabytes / 25)}")
    print(f"peak {seen.peak:.0f} MB, limit {LIMIT}: {'kept' if seen.peak < LIMIT else 'MISSED'}")
    if plot is not None:
        draw_curve(seen, side, plot)


def draw_curve(seen: Seen, side: int, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    axes.plot(*zip(*seen.curve, strict=True), color="#1f5fa8", linewidth=1)
    axes.axhline(LIMIT, color="#b03030", linewidth=1, linestyle="--")
    axes.set(ylim=(0, LIMIT * 1.1), xlim=(0, seen.seconds), xlabel="seconds", ylabel="resident MB")
    axes.set_title(f"{side}x{side} in tiles, {seen.document['model']}, {seen.document['precision']}", fontsize=9)
    figure.savefig(path, dpi=110)


def photo(model: str) -> None:
    print("| 5472x3648 | network | seconds | peak MB |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photo.jpg"
        draw(source, PHOTO)
        for resize in ("fit", "native", "tiles"):
            seen = watch("--source", source, "--labels", Path(folder) / resize, "--resize", resize, "--model", model)
            told = seen.document
            network = told["network_sizes"][0] if "network_sizes" in told else told["tile"]
            many = "" if "network_sizes" in told else f"{told['pictures'][0]['tiles']} x "
            print(f"| `{resize}` | {many}{network[1]}x{network[0]} | {seen.seconds:.1f} | {seen.peak:.0f} |")
        print(f"{model}: {told['choice']}; {told['precision']}; seconds of the whole command")


def agree(model: str) -> None:
    frame = np.concatenate(list(mosaic(AGREE)))
    with Segmenter(model, "onnxruntime", "fp32", resize="native") as native:
        whole = native(frame).labels
    print("| tiles of | tiles | labels alike | away from the rim | seconds |\n| --- | --- | --- | --- | --- |")
    for side in (1025, None, 2049, 3073):
        with Segmenter(model, "onnxruntime", "fp32", resize="tiles", size=side) as segmenter:
            tiling = segmenter.tiling
            assert tiling is not None
            begun = time.perf_counter()
            same = segmenter(frame).labels == whole
            seconds = time.perf_counter() - begun
        rim = tiling.field.pixels
        tiles = tiling.cut(AGREE).tiles
        usual = " (usual)" if side is None else ""
        print(
            f"| {tiling.side[1]}x{tiling.side[0]}{usual} | {tiles} | {same.mean():.2%} | "
            f"{same[rim:-rim, rim:-rim].mean():.2%} | {seconds:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("giant", "photo", "agree"))
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--format", default="png", choices=("png", "jpg", "tif"))
    parser.add_argument("--out", default="labels.tif", help="its ending says the format: .tif or .png")
    parser.add_argument("--overlay", help="write one as well: a name that ends with .tif or .png")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    if asked.what == "giant":
        giant(asked.side, asked.format, asked.out, asked.overlay, asked.model, asked.plot)
    elif asked.what == "photo":
        photo(asked.model)
    else:
        agree(asked.model)


if __name__ == "__main__":
    main()
