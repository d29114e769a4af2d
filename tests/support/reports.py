"""A report as `fcn-edge bench` writes it, small enough to be worked out by hand.

Every candidate's runs are 0.9, 1, 1 and 1.1 times its median, in two rounds. On `val` the frontier is small (4 ms,
0.500), lite in int8 (10 ms, 0.700), large (40 ms, 0.750); lite in fp32 is slower than int8 and no better.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from fcn_edge.bench.schema import (
    KIND,
    SCHEMA,
    Accuracy,
    Cell,
    Data,
    Energy,
    Latency,
    Layer,
    Machine,
    Memory,
    Picture,
    Protocol,
    Report,
    Roofline,
    Summary,
    Throughput,
    write_report,
)

CLASSES = ["background", "cat", "dog"]
FRONTIER = ["small openvino int8 257", "lite openvino int8 513", "large openvino int8 513"]


def summary(median: float) -> Summary:
    ends = {"p90": 1.07 * median, "p95": 1.085 * median, "p99": 1.097 * median}
    return Summary(4, median, 0.95 * median, 1.05 * median, median, least=0.9 * median, most=1.1 * median, **ends)


def latency(median: float, noisy: str | None = None) -> Latency:
    stages = {"prepare": summary(0.1 * median), "infer": summary(0.8 * median), "decode": summary(0.1 * median)}
    rounds = [[0.9 * median, median], [median, 1.1 * median]]
    return Latency(summary(median), {**stages, "draw": summary(0.001)}, rounds, 0, noisy)


def accuracy(data: str, mean_iou: float) -> Accuracy:
    ious: dict[str, float | None] = {"background": 0.9, "cat": mean_iou, "dog": None}
    return Accuracy(data, 10, 0, mean_iou, 0.9, 0.4, ious, 0.99)


def cell(
    model: str,
    precision: str = "int8",
    size: str = "513",
    median: float = 0.01,
    val: float | None = None,
    clean: float | None = None,
    **other: Any,
) -> Cell:
    """A candidate on OpenVINO of that median latency in seconds, and that mean IoU on each data set."""
    measured = [accuracy(name, value) for name, value in (("voc:val", val), ("extra:coco", clean)) if value is not None]
    facts: dict[str, Any] = {
        "variant": model,
        "device": "CPU",
        "network": (289, 513),
        "sha256": "0" * 64,
        "bytes": 2_500_000,
        "load": 0.2,
        "first": 0.5,
        "latency": latency(median),
        "throughput": Throughput(1 / median, 1.5 / median, 2, "a stream"),
        "memory": Memory(300_000_000, 100_000_000, None),
        "accuracy": measured,
        "seen": "VOC trainaug",
        "not_measured": {"energy": "no counter can be read"},
    }
    return Cell(f"{model} openvino {precision} {size}", model, "openvino", precision, size, **{**facts, **other})


def cells() -> list[Cell]:
    return [
        cell("small", size="257", median=0.004, val=0.5, clean=0.3),
        cell("lite", median=0.01, val=0.7, clean=0.55),
        cell("lite", "fp32", median=0.02, val=0.69, clean=0.56),
        cell("large", median=0.04, val=0.75, clean=0.6, latency=latency(0.04, "its rounds lie 20 % apart")),
        cell("raw", median=0.001, val=0.99, clean=0.99, trained=False),
        Cell("huge openvino fp32 513", "huge", "openvino", "fp32", "513", failed="out of memory. Take a smaller size."),
    ]


def machine(name: str = "2x a CPU", **other: Any) -> Machine:
    facts: dict[str, Any] = {
        "system": "Linux",
        "cpu": "a CPU",
        "flags": ["avx2"],
        "cores": 2,
        "memory": 8 * 2**30,
        "gpu": None,
        "board": None,
        "power_mode": None,
        "governor": "performance",
        "clocks": {"cpu": "2.6 GHz, locked"},
        "versions": {"python": "3.11", "openvino": "2026.4"},
        "before": {"load": 0.1},
        "after": {"load": 2.0},
        "noise": [],
    }
    return Machine(name, **{**facts, **other})


def report(name: str = "2x a CPU", **other: Any) -> Report:
    facts: dict[str, Any] = {
        "kind": KIND,
        "schema": SCHEMA,
        "made_by": "fcn-edge 0.1.0",
        "begun": "2026-01-02T03:04:05+00:00",
        "ended": "2026-01-02T04:04:05+00:00",
        "command": "fcn-edge bench --models all --data voc:val --out DIR",
        "machine": machine(name),
        "protocol": Protocol((720, 1280), 2, 2, 2, 0.5, 1e-6, "until two windows agree"),
        "data": [Data(each, 10, "1" * 64, CLASSES) for each in ("voc:val", "extra:coco")],
        "cells": cells(),
    }
    return Report(**{**facts, **other})


def brief(name: str = "2x a CPU", **other: Any) -> Report:
    """Two candidates on one data set: drawn in a moment."""
    made = report(name)
    return msgspec.structs.replace(made, **{"data": made.data[:1], "cells": made.cells[:2], **other})


def full(name: str = "a board") -> Report:
    """With what only some machines and options give: energy, device memory, layers, a roofline."""
    more = {
        "parameters": 1_200_000,
        "operations": 2.1e9,
        "memory": Memory(300_000_000, 100_000_000, 50_000_000),
        "energy": Energy("tegrastats", 7.0, 3.0, 0.07),
        "layers": [Layer(f"conv{i}", "Convolution", 0.001 * (i + 1), 0.1, "int8", [1, 8, 4, 4]) for i in range(12)],
        "roofline": Roofline(2.1e9, 1.2e7, 1e11, 2e10, 0.43),
    }
    return report(name, cells=[msgspec.structs.replace(each, **more) for each in cells() if not each.failed])


def written(folder: Path, made: Report, pictures: bool = False) -> Path:
    """The folder with that report in it, and one picture where asked for: cat at the left, dog at the right."""
    folder.mkdir(parents=True, exist_ok=True)
    if pictures:
        (folder / "pictures").mkdir()
        Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(folder / "pictures" / "one.jpg")
        labels = np.zeros((40, 60), np.uint8)
        labels[:, :15], labels[:, 45:], labels[0, :] = 1, 2, 255
        mask = Image.fromarray(labels)
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255] + 759 * [255])  # whole, or void would be lost
        mask.save(folder / "pictures" / "one.png")
        keys = {each.key: "one.png" for each in made.cells if not each.failed}
        made = msgspec.structs.replace(made, pictures=[Picture("one.jpg", "one.png", keys, 0.8, "voc:val")])
    write_report(made, folder / "report.json")
    return folder
