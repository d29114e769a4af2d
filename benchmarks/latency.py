"""Frame in to labels at frame size out: the bundled model against its peers, interleaved in one run.

    python benchmarks/latency.py --peers PEERS_DIR --photo examples/astronaut.jpg

PEERS_DIR holds the files that benchmarks/peers describes; those that are missing are left out. Everything
goes through `Segmenter`, so scaling, normalising, upsampling and argmax count for all alike. The float peer
takes 513x513 whatever the frame's shape, hence "at equal longer side".
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from fcn_edge import Segmenter
from fcn_edge.doctor import TELLING_FLAGS
from fcn_edge.errors import BackendError
from fcn_edge.runtime.host import cpu_flags, cpu_name, physical_cores

FRAME = (720, 1280)
PEERS = Path(__file__).parent / "peers"
FLOAT_PEER = "deeplabv3_mnv2_pascal_trainval_513_fp32.onnx"
INT8_PEER = "deeplabv3_mnv2_pascal_quant.tflite"
OTHERS = ("deeplabv3_mnv2_dm05_pascal_quant.tflite", "deeplabv3_257_dm05_float.tflite")
FLOAT_TARGET, INT8_TARGET = 0.2, 0.6
IN_A_ROW = 3  # timed frames of one contestant before the next, after one that warms the caches for it
STAGES = ("prepare", "infer", "decode")


@dataclass
class Contestant:
    """A model file on a backend in a precision, and its seconds by stage, frame by frame."""

    label: str
    segmenter: Segmenter
    seconds: list[dict[str, float]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.label, self.segmenter.backend.name, self.segmenter.backend.precision

    def total(self) -> list[float]:
        return [1e3 * sum(stages.values()) for stages in self.seconds]

    def stage(self, name: str) -> float:
        return 1e3 * statistics.median(stages[name] for stages in self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of the bundled model against its peers.")
    parser.add_argument("--peers", type=Path, help="folder with the peers' files")
    parser.add_argument("--photo", type=Path, default=Path(__file__).parents[1] / "examples" / "astronaut.jpg")
    parser.add_argument("--model", default="fcn8s-lite", help="a bundled name or a model file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    picture = cv2.imread(str(arguments.photo))
    if picture is None:
        parser.error(f"{arguments.photo} is no picture")
    frame = cover(picture, FRAME)
    cv2.setNumThreads(arguments.threads)
    contestants = enter(arguments.model, arguments.peers, arguments.threads)
    race(contestants, frame, arguments.rounds)
    report(contestants, arguments.threads, arguments.rounds)


def cover(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of the picture, scaled to fill `size`."""
    scale = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    top, left = (scaled.shape[0] - size[0]) // 2, (scaled.shape[1] - size[1]) // 2
    return np.ascontiguousarray(scaled[top : top + size[0], left : left + size[1]])


def enter(model: str, peers: Path | None, threads: int) -> list[Contestant]:
    """Ours, int8 by default where that is faster, and the float peer on each backend in each precision; the other
    peers on LiteRT."""
    ways = [("openvino", None), ("openvino", "bf16"), ("openvino", "fp32"), ("onnxruntime", "fp32")]
    wanted: list[tuple[str, str | Path, str, str | None]] = [("ours", model, *way) for way in ways]
    if peers is not None:
        wanted += [("float peer", peers / FLOAT_PEER, *way) for way in ways]
        wanted += [(Path(name).stem, peers / name, "litert", None) for name in (INT8_PEER, *OTHERS)]
    found: dict[tuple[str, str, str], Contestant] = {}
    for label, path, backend, precision in wanted:
        if isinstance(path, Path) and not path.is_file():
            print(f"left out: {path} is not there")
            continue
        spec = PEERS / f"{path.stem}.toml" if isinstance(path, Path) else None
        try:
            segmenter = Segmenter(path, backend, precision, spec=spec, threads=threads)
        except BackendError as error:
            print(f"left out: {error}")
            continue
        contestant = Contestant(label, segmenter)
        found.setdefault(contestant.key, contestant)  # without bfloat16 the default is float32 once more
    return list(found.values())


def race(contestants: list[Contestant], frame: np.ndarray, rounds: int) -> None:
    for contestant in contestants:
        contestant.segmenter.warm_up(FRAME)
    for round_ in range(rounds):
        turn = round_ % len(contestants)  # so that nobody always follows the same one
        for contestant in contestants[turn:] + contestants[:turn]:
            contestant.segmenter(frame)
            contestant.seconds += [contestant.segmenter(frame).timings for _ in range(IN_A_ROW)]


def report(contestants: list[Contestant], threads: int, rounds: int) -> None:
    versions = {name: v for each in contestants for name, v in each.segmenter.backend.versions.items()}
    for name in sorted({each.segmenter.spec.name for each in contestants if not each.segmenter.spec.trained}):
        print(f"UNTRAINED: {name} holds seeded noise; its labels mean nothing")
    print(f"{cpu_name()}, {physical_cores()} cores, {threads} threads")
    print(" ".join(flag for flag in TELLING_FLAGS if flag in cpu_flags()))
    print(", ".join(f"{name} {version}" for name, version in versions.items()) + f", OpenCV {cv2.__version__}")
    print(f"{FRAME[1]}x{FRAME[0]} frame to labels of that size; ms, medians of {rounds * IN_A_ROW} frames\n")
    print(
        f"{'':34}{'backend':12}{'in':6}{'network':9}{'total':>7}  {'(quartiles)':15}"
        + "".join(f"{s:>9}" for s in STAGES)
    )
    for each in contestants:
        low, middle, high = statistics.quantiles(each.total(), n=4)
        height, width = each.segmenter.network_size(FRAME)
        where = f"{each.segmenter.backend.name:12}{each.segmenter.backend.precision:6}{f'{height}x{width}':9}"
        stages = "".join(f"{each.stage(stage):9.2f}" for stage in STAGES)
        print(f"{each.label:34}{where}{middle:7.2f}  {f'({low:.2f} to {high:.2f})':15}{stages}")
    print()
    by_key = {each.key: each for each in contestants}
    ours = [each for each in contestants if each.label == "ours"]
    for each in ours:
        compare(each, by_key.get(("float peer", *each.key[1:])), FLOAT_TARGET)
    for each in ours:
        compare(each, by_key.get((Path(INT8_PEER).stem, "litert", "int8")), INT8_TARGET)


def compare(ours: Contestant, theirs: Contestant | None, target: float) -> None:
    if theirs is None:
        return
    ratio = statistics.median(ours.total()) / statistics.median(theirs.total())
    names = [f"{each.label} ({each.key[1]} {each.key[2]})" for each in (ours, theirs)]
    print(f"{names[0]} / {names[1]}: {ratio:.3f}, target {target}{'' if ratio <= target else ': MISSED'}")


if __name__ == "__main__":
    main()
