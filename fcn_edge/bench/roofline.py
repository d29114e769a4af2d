"""How much of this machine a network uses: its rate beside what the machine itself was measured to reach.

No rate from a data sheet: a virtual machine, a shared core or a power limit has another one. The roof is what the
fastest runtime here reaches on work without any trouble in it, a row of 1x1 convolutions, in the same precision and
with the same threads, and what the memory gives all cores together. (Williams, Waterman and Patterson, "Roofline",
2009.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fcn_edge.bench.cost import Cost
from fcn_edge.bench.schema import Roofline
from fcn_edge.runtime.host import physical_cores

CHANNELS, SIDE, DEPTH = 512, 32, 8  # 4.3 billion operations, weights of 8 MB at most: the shape reaches the most here
PRODUCT = 2048  # side of the matrices: 17 billion operations
SECONDS, LEAST = 0.6, 5  # a figure is the best of so long and of so many runs: interruptions only ever lower it
ARRAYS, CACHES = 3, 4  # of the memory's measurement, together this many times the last cache
SMALLEST, LARGEST = 192 << 20, 3 << 30  # bytes that they take
WIDTHS = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


@dataclass(frozen=True)
class Roof:
    """What this machine reaches; None where nothing here computes in that precision."""

    peak: dict[str, float]  # operations a second by precision, a multiply-add being two
    bandwidth: float  # bytes a second, read and written
    threads: int


def measure(precisions: list[str], threads: int | None = None) -> Roof:
    """The roof for these precisions; two seconds for each and one for the memory, on a machine that does nothing else.

    threads: as backends take them; None: one a physical core.
    """
    threads = threads or physical_cores()
    peaks = {name: peak(name, threads) for name in dict.fromkeys(precisions)}
    known = {name: rate for name, rate in peaks.items() if rate is not None}
    return Roof(known, bandwidth(threads), threads)


def peak(precision: str, threads: int) -> float | None:
    """Operations a second; None where nothing here computes in that precision."""
    if find_spec("openvino") is not None:
        rate = by_openvino(precision, threads)
        if precision != "fp32":
            return rate
        return max(rate or 0.0, by_numpy())
    return by_numpy() if precision == "fp32" else None


def roofline(cost: Cost, precision: str, seconds: float, input_bytes: int, roof: Roof) -> Roofline | str:
    """Where a network lies below the roof, or why that is not known.

    seconds: of `infer`, the median.
    """
    if cost.operations is None or cost.parameters is None or cost.output is None:
        return next(iter(cost.reasons.values()))
    if precision not in roof.peak:
        return f"the machine's rate in {precision} cannot be measured here: pip install openvino"
    weights = cost.parameters * WIDTHS[precision]
    traffic = float(weights + input_bytes + 4 * int(np.prod(cost.output)))
    top, rate = roof.peak[precision], cost.operations / seconds
    reachable = min(top, roof.bandwidth * cost.operations / traffic)
    return Roofline(cost.operations, traffic, top, roof.bandwidth, rate / reachable)


def by_openvino(precision: str, threads: int) -> float | None:
    """Of a row of 1x1 convolutions; None where this CPU has no such kernels and it would compute in another type."""
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    core: Any = ov.Core()
    if precision != "fp32" and precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    compiled: Any = core.compile_model(_convolutions(precision), "CPU", options)
    request = compiled.create_infer_request()
    values = np.random.default_rng(0).random((1, CHANNELS, SIDE, SIDE), np.float32)
    request.set_input_tensor(ov.Tensor(values))
    return DEPTH * 2 * CHANNELS**2 * SIDE**2 / _best(request.infer)


def _convolutions(precision: str) -> Any:
    import openvino as ov
    from openvino import opset13 as op

    random = np.random.default_rng(0)
    x: Any = op.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    y = x
    for _ in range(DEPTH):
        weights: Any = op.constant(random.standard_normal((CHANNELS, CHANNELS, 1, 1), np.float32) / CHANNELS)
        if precision == "int8":
            y, weights = _rounded(op.relu(y), 0.0, 4.0, 256), _rounded(weights, -0.01, 0.01, 255)
        y = op.convolution(y, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    model: Any = ov.Model
    return model([op.result(y)], [x])


def _rounded(value: Any, low: float, high: float, levels: int) -> Any:
    from openvino import opset13 as op

    ends = np.float32(low), np.float32(high)
    return op.fake_quantize(value, *ends, *ends, levels)


def by_numpy() -> float:
    """Of a matrix product in float32, with as many threads as NumPy's BLAS takes."""
    a = np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32)
    return 2 * PRODUCT**3 / _best(lambda: a @ a)


def bandwidth(threads: int, root: Path = Path("/")) -> float:
    """Bytes a second that all threads together read and write, adding two arrays into a third (McCalpin's STREAM).

    What a processor reads of a line before it writes it is not counted, as STREAM does not.
    """
    total = min(max(SMALLEST, CACHES * _last_cache(root)), LARGEST)
    parts = [[np.ones(total // (8 * ARRAYS * threads)) for _ in range(ARRAYS)] for _ in range(threads)]
    moved = sum(array.nbytes for part in parts for array in part)
    with ThreadPoolExecutor(threads) as pool:
        return moved / _best(lambda: list(pool.map(lambda part: np.add(part[0], part[1], out=part[2]), parts)))


def _last_cache(root: Path) -> int:
    """Bytes of the largest cache of the first core; 0 where it is not told."""
    found = [0]
    for path in root.glob("sys/devices/system/cpu/cpu0/cache/index*/size"):
        text = path.read_text().strip()
        units = {"K": 1 << 10, "M": 1 << 20}
        if text[:-1].isdigit() and text[-1] in units:
            found.append(int(text[:-1]) * units[text[-1]])
    return max(found)


def _best(run: Callable[[], object]) -> float:
    """The least seconds of many runs after one that warms up."""
    run()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
