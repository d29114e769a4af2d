"""How accurate the bundled model is, beside four published networks, in one table with milliseconds.

    python benchmarks/accuracy.py --peers DIR --voc ROOT --extra ROOT --json accuracy.json

Every figure is from labels at the pictures' own size, in one confusion matrix a data set, through
`Segmenter`, each network with its authors' own preprocessing (benchmarks/peers/*.toml). Two data sets
stand side by side, because networks that were trained on VOC have met its `val` in some measure: the
official `val`, and a clean list on which none of them was tuned.

What was measured is kept in the JSON file, so that a run that was broken off goes on where it stopped;
a model file that has changed since is measured anew. The times are taken last, all models in turn on
the same pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcn_edge.cli.common import track
from fcn_edge.data import Sample, open_data, read_image
from fcn_edge.evaluation import evaluate
from fcn_edge.metrics import mean
from fcn_edge.runtime.files import find, read_spec
from fcn_edge.segmenter import Segmenter

SPECS = Path(__file__).parent / "peers"
COVERED = ("background", "cat", "cow", "dog", "horse", "person", "sheep")  # the best covered by the training lists
ROUNDS = 40  # pictures timed: the median's interval is then a few per cent wide
SEEN = {
    "deeplabv3_mnv2_pascal_trainval_513_fp32": "yes, trained on VOC trainval",
    "deeplabv3_mnv2_pascal_quant": "not stated",
    "deeplabv3_mnv2_dm05_pascal_quant": "not stated",
    "deeplabv3_257_dm05_float": "not stated",
}


@dataclass(frozen=True)
class Entry:
    """A network of the table: how it is opened, and whether it has met `val`."""

    name: str
    path: Path
    spec: Path | None
    seen: str

    def open(self, options: argparse.Namespace) -> Segmenter:
        return Segmenter(self.path, spec=self.spec, threads=options.threads, precision=self._precision(options))

    def _precision(self, options: argparse.Namespace) -> str | None:
        return None if self.path.stem.endswith(("quant", "int8")) else options.precision

    def digest(self) -> str:
        """Of everything that the figures follow from: the file, and what is said of it."""
        parts = [self.path.read_bytes(), self.spec.read_bytes() if self.spec else b""]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def main() -> None:
    options = arguments()
    entries = [*(bundled(name) for name in options.models), *peers(options.peers)]
    data = {"val": open_data([f"{options.voc}:val"]).samples, "clean": open_data([f"{options.extra}:coco"]).samples}
    data = {name: samples[: options.limit] for name, samples in data.items()}
    report: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {"documents": {}}
    rows = []
    for entry in entries:
        documents = {}
        for name, samples in data.items():
            key = f"{entry.name} on {name} ({len(samples)}), {options.precision or 'auto'}, {entry.digest()}"
            if key not in report["documents"]:
                report["documents"][key] = measure(entry, name, samples, options)
                write(options.json, report)
            documents[name] = report["documents"][key]
        rows.append({"name": entry.name, "seen_val": entry.seen, **documents})
    for row, milliseconds in zip(rows, timings(entries, data["val"], options), strict=True):
        row["milliseconds"] = milliseconds
    write(options.json, {**report, "rows": rows, "machine": machine()})
    print(markdown(rows))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["fcn8s-lite"], help="bundled names or ONNX files with a spec")
    parser.add_argument("--peers", type=Path, required=True, help="folder with the networks of benchmarks/peers/*.toml")
    parser.add_argument("--voc", type=Path, required=True, help="VOC 2012, for its list val")
    parser.add_argument("--extra", type=Path, required=True, help="the clean pictures, VOC layout, for their list coco")
    parser.add_argument("--json", type=Path, required=True, help="where the figures are kept")
    parser.add_argument("--limit", type=int, help="only the first N pictures of each list")
    parser.add_argument("--precision", help="of the float networks, such as fp32; the backend's choice where absent")
    parser.add_argument("--threads", type=int, help="of each network; the backend's choice where absent")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pictures timed")
    return parser.parse_args()


def bundled(name: str) -> Entry:
    path = find(name)
    spec = read_spec(path)
    return Entry(path.stem, path, None, spec.provenance.get("seen", "not stated"))


def peers(folder: Path) -> list[Entry]:
    """The networks of `folder` that a TOML file describes, the most accurate family first."""
    found = {path.stem: path for path in folder.iterdir()}
    missing = ", ".join(name for name in SEEN if name not in found)
    if missing:
        print(f"{folder} lacks {missing}: the table goes without.", file=sys.stderr)
    return [Entry(name, found[name], SPECS / f"{name}.toml", seen) for name, seen in SEEN.items() if name in found]


def measure(entry: Entry, data: str, samples: list[Sample], options: argparse.Namespace) -> dict[str, Any]:
    def progress(items: Iterable[Any]) -> Iterable[Any]:
        return track(items, f"{entry.name} on {data}", len(samples))

    start = time.monotonic()
    with entry.open(options) as segmenter:
        document = evaluate(segmenter, samples, progress=progress).document()
    seconds = time.monotonic() - start
    print(f"{entry.name} on {data}: {means(document)}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return document


def timings(entries: list[Entry], samples: list[Sample], options: argparse.Namespace) -> list[list[float]]:
    """For each network, milliseconds a picture from frame to labels: median and the ends of its 95 % interval."""
    frames = [read_image(sample.image) for sample in samples[: options.rounds]]
    seconds: list[list[float]] = [[] for _ in entries]
    with ExitStack() as stack:
        segmenters = [stack.enter_context(entry.open(options)) for entry in entries]
        for shape in {(frame.shape[0], frame.shape[1]) for frame in frames}:
            for segmenter in segmenters:
                segmenter.warm_up(shape)
        for frame in frames:
            for segmenter, taken in zip(segmenters, seconds, strict=True):
                start = time.perf_counter()
                segmenter.segment(frame)
                taken.append(time.perf_counter() - start)
    return [interval([1000 * second for second in taken]) for taken in seconds]


def interval(values: list[float]) -> list[float]:
    """The median, and the order statistics between which it lies with 95 % confidence."""
    ranked, half = sorted(values), 0.98 * math.sqrt(len(values))
    low = max(0, math.floor(len(values) / 2 - half))
    high = min(len(values) - 1, math.ceil(len(values) / 2 + half))
    return [float(np.median(ranked)), ranked[low], ranked[high]]


def means(document: dict[str, Any]) -> str:
    """Mean IoU over all classes and over the best covered ones."""
    ious = [document["per_class_iou"][name] for name in COVERED]
    covered = mean(np.array(ious, np.float64))
    return f"{document['mean_iou']:.3f} / {covered:.3f}"


def markdown(rows: list[dict[str, Any]]) -> str:
    val, clean = rows[0]["val"]["images"], rows[0]["clean"]["images"]
    lines = [
        f"Mean IoU over 21 classes / over {', '.join(COVERED)}; {val} pictures of `val`, {clean} of the clean list.",
        "",
        "| network | `val` | clean list | has seen `val` | network size | computed by | ms a picture (95 % interval) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        how = row["val"]
        height, width = how["network_size"]
        median, low, high = row["milliseconds"]
        cells = [
            row["name"],
            means(row["val"]),
            means(row["clean"]),
            row["seen_val"],
            f"{height}x{width}, {how['resize']}",
            f"{how['backend']}, {how['precision']}",
            f"{median:.1f} ({low:.1f} to {high:.1f})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", machine()])


def machine() -> str:
    from importlib.metadata import version

    facts = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in facts if line.startswith("model name")), platform.processor())
    flags = next((line.split() for line in facts if line.startswith("flags")), [])
    able = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    tools = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "ai-edge-litert", "numpy"))
    return f"{model}, {os.cpu_count()} logical cores, {' '.join(able)}; Python {platform.python_version()}, {tools}."


def write(path: Path, report: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(report, indent=1))
    temporary.replace(path)


if __name__ == "__main__":
    main()
