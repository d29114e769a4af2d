"""How long scores take to become labels and labels a picture, beside numpy and torch.

    python benchmarks/decode.py [--model FILE.onnx] [--photo FILE] [--rounds N]

Every contestant runs once a round, so that a slower moment of the machine meets them all. Printed are
medians in milliseconds, with the 10th and 90th percentile. Random scores are the worst case: no cell of
them is settled by its corners. torch is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from fcn_edge.runtime.files import read_spec

ROOT = Path(__file__).parent.parent
SLOW = 0.02  # seconds: what takes longer is called in every tenth round only
OURS = "decode, the photo's scores"
Contestants = dict[str, Callable[[], object]]


def network_scores(model: Path, photo: np.ndarray, side: int) -> np.ndarray:
    """Scores (C, h, w) of the photo with its longer side scaled to `side`, the other to the nearest 32k+1."""
    height, width = (max(1, round(side * edge / max(photo.shape[:2]) / 32)) * 32 + 1 for edge in photo.shape[:2])
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: small[None]})[0])[0]


def numpy_reference(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.linspace(0, n - 1, pixels) for n, pixels in zip(scores.shape[1:], size, strict=True))
    y, x = rows.astype(int), columns.astype(int)
    down, right = (rows - y).astype(np.float32)[:, None], (columns - x).astype(np.float32)
    below, beside = np.minimum(y + 1, scores.shape[1] - 1), np.minimum(x + 1, scores.shape[2] - 1)
    upsampled = scores[:, y] * (1 - down) + scores[:, below] * down
    upsampled = upsampled[:, :, x] * (1 - right) + upsampled[:, :, beside] * right
    return upsampled.argmax(axis=0).astype(np.uint8)


def torch_reference(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import torch

    tensor = torch.from_numpy(scores)[None]
    upsampled = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=True)
    return upsampled.argmax(dim=1)[0].to(torch.uint8).numpy()


def interleaved(contestants: Contestants, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each call, by contestant."""
    first = {}
    for name, call in contestants.items():
        start = time.perf_counter()
        call()
        first[name] = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, call in contestants.items():
            if turn % 10 and first[name] > SLOW:
                continue
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(values) for name, values in times.items()}


def show(times: dict[str, np.ndarray]) -> None:
    for name, values in times.items():
        low, median, high = np.percentile(values, [10, 50, 90])
        print(f"  {name:38s}{median:9.2f} ms   ({low:.2f} to {high:.2f}, {len(values)} calls)")


def import_seconds(cache: str) -> float:
    code = "import numba, time; t = time.perf_counter(); import fcn_edge.overlay; print(time.perf_counter() - t)"
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    return float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)


def show_import() -> None:
    with tempfile.TemporaryDirectory() as cache:
        print(f"import of decode and overlay: {import_seconds(cache):.2f} s compiling, ", end="")
        print(f"{import_seconds(cache):.2f} s from the cache")


def decode_contestants(scores: np.ndarray, size: tuple[int, int], with_torch: bool) -> Contestants:
    from fcn_edge.decode import decode

    random = np.random.default_rng(0).standard_normal(scores.shape, np.float32)
    contestants: Contestants = {
        OURS: lambda: decode(scores, size, "align_corners"),
        "decode, random scores (worst case)": lambda: decode(random, size, "align_corners"),
        "numpy, upsample and argmax": lambda: numpy_reference(scores, size),
    }
    if with_torch:
        contestants["torch, upsample and argmax"] = lambda: torch_reference(scores, size)
    return contestants


def overlay_contestants(photo: np.ndarray, scores: np.ndarray) -> Contestants:
    from fcn_edge.decode import decode
    from fcn_edge.overlay import draw_legend, draw_text, heat_map, overlay
    from fcn_edge.spec import voc_palette

    frame = cv2.resize(photo, (1280, 720), interpolation=cv2.INTER_AREA)
    palette = voc_palette(len(scores))
    labels = decode(scores, frame.shape[:2], "align_corners")
    full = np.full_like(labels, 1)
    canvas = frame.copy()

    def write() -> None:
        draw_text(canvas, "29.9 FPS")
        draw_legend(canvas, [("person", palette[1]), ("dog", palette[2])])

    return {
        f"overlay, the photo ({(labels > 0).mean():.0%} foreground)": lambda: overlay(frame, labels, palette),
        "overlay, foreground everywhere": lambda: overlay(frame, full, palette),
        "legend and read-out": write,
        "heat map": lambda: heat_map(frame, scores, 1, "align_corners"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "fcn_edge/weights/fcn8s-lite.onnx")
    parser.add_argument("--photo", type=Path, default=ROOT / "examples/cat.jpg")
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    photo = cv2.imread(str(arguments.photo))
    if photo is None:
        sys.exit(f"{arguments.photo} is not a picture that can be read. Name one with --photo.")
    try:
        import torch

        torch_version = f", torch {torch.__version__} with {torch.get_num_threads()} threads"
    except ImportError:
        torch_version = ""
    print(f"{platform.machine()}, {os.cpu_count()} cores; numpy {np.__version__}{torch_version}; decode: 1 thread")
    show_import()
    spec = read_spec(arguments.model)
    print(f"scores of {spec.name}{'' if spec.trained else ' (UNTRAINED: seeded noise)'}")
    for size, crop in (((512, 512), 1.0), ((1080, 1920), 16 / 9)):
        view = middle(photo, crop)
        scores = network_scores(arguments.model, view, 512)
        print(f"scores {scores.shape} to {size[1]}x{size[0]}:")
        contestants = decode_contestants(scores, size, bool(torch_version))
        times = interleaved(contestants, arguments.rounds)
        show(times)
        ours, *_, slowest = (float(np.median(values)) for values in times.values())
        same = np.mean(contestants[OURS]() == numpy_reference(scores, size))
        print(f"  {list(times)[-1].split(',')[0]} takes {slowest / ours:.0f} times as long; ", end="")
        print(f"{100 * same:.4f} % of the labels are numpy's")
    print("1280x720:")
    show(interleaved(overlay_contestants(middle(photo, 16 / 9), scores), arguments.rounds))


def middle(photo: np.ndarray, ratio: float) -> np.ndarray:
    """The largest middle part of the photo whose width is `ratio` times its height."""
    height, width = photo.shape[:2]
    new_width, new_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return photo[top : top + new_height, left : left + new_width]


if __name__ == "__main__":
    main()
