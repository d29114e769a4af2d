"""How much of this machine a network uses: its rate beside what the machine itself was measured to reach.

No rate from a data sheet: a virtual machine, a shared core or a power limit has another one. The roof is what the
fastest runtime here reaches on work without any trouble in it (row.py), in the same precision and with the same
threads, and what the memory gives. (Williams, Waterman and Patterson, "Roofline", 2009.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fcn_edge.bench.cost import Cost
from fcn_edge.bench.row import Row
from fcn_edge.bench.schema import Roofline
from fcn_edge.errors import BackendError
from fcn_edge.prepare import Size
from fcn_edge.runtime import is_installed, open_backend
from fcn_edge.runtime.host import physical_cores
from fcn_edge.spec import ModelSpec

ROWS = {"CPU": Row(512, 32, 8), "GPU": Row(1024, 96, 8)}  # 4 and 155 billion operations
FASTEST = {"CPU": ("openvino", "onnxruntime"), "GPU": ("tensorrt", "tensorrt-rtx")}
PRODUCT = 2048  # side of two matrices: 17 billion operations
SECONDS, LEAST = 1.0, 5  # a figure is the best of so long and of so many runs: interruptions only ever lower it
ARRAYS, CACHES = 3, 4  # of the memory's measurement, together this many times the last cache
SMALLEST, LARGEST = 192 << 20, 3 << 30  # bytes that they take
COPIED, COPIES = 256 << 20, 10  # bytes on a GPU, more than its caches hold; copies that are timed together
WIDTHS = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}  # bytes of a weight


@dataclass(frozen=True)
class Roof:
    """What the CPU or the GPU of this machine reaches."""

    peak: float  # operations a second in the precision of the network, a multiply-add being two
    bandwidth: float  # bytes a second, read and written


def kind(device: str) -> str:
    """ "CPU" or "GPU", of what a backend calls its device: "CPU: AMD EPYC, 2 threads"."""
    return device.partition(":")[0]


def peak(device: str, precision: str, threads: int | None = None) -> float:
    """Operations a second; some seconds, in which the machine should do nothing else.

    device: "CPU" or "GPU". threads: as backends take them; None: one a physical core.
    Raises BackendError where nothing here computes in that precision.
    """
    backend = next((name for name in FASTEST[device] if is_installed(name)), None)
    if backend is None:
        raise BackendError(f"it takes {' or '.join(FASTEST[device])}, and none is installed.")
    row = ROWS[device]
    with TemporaryDirectory(prefix="fcn-edge-peak-") as folder:
        file = Path(folder) / f"row.{precision}.onnx"
        spec = row.write(file, precision)
        asked = precision if device == "CPU" else None  # an engine computes in its file's own types
        opened, _ = open_backend(file, spec, backend, asked, threads, [(row.side, row.side)])
        frames = row.frames()

        def run() -> float:
            opened.infer(frames)
            return opened.seconds

        try:
            rate = row.operations / _least(run)
        finally:
            opened.close()
    return max(rate, by_numpy()) if (device, precision) == ("CPU", "fp32") else rate


def by_numpy() -> float:
    """Operations a second of a matrix product in float32, with as many threads as NumPy's BLAS takes."""
    a = np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32)
    return 2 * PRODUCT**3 / _least(lambda: _timed(lambda: a @ a))


def bandwidth(device: str, threads: int | None = None) -> float:
    """Bytes a second, read and written. Raises BackendError where there is a GPU and nothing to reach it through."""
    return add_rate(threads or physical_cores()) if device == "CPU" else copy_rate()


def add_rate(threads: int, root: Path = Path("/")) -> float:
    """Bytes a second that all threads together read and write, adding two arrays into a third.

    McCalpin's STREAM "add": what a processor reads of a line before it writes it is not counted.
    """
    total = min(max(SMALLEST, CACHES * last_cache(root)), LARGEST)
    parts = [[np.ones(total // (8 * ARRAYS * threads)) for _ in range(ARRAYS)] for _ in range(threads)]
    moved = sum(array.nbytes for part in parts for array in part)
    with ThreadPoolExecutor(threads) as pool:
        return moved / _least(lambda: _timed(lambda: list(pool.map(_add, parts))))


def _add(part: list[np.ndarray]) -> None:
    np.add(part[0], part[1], out=part[2])  # without Python's lock, so threads overlap


def last_cache(root: Path = Path("/")) -> int:
    """Bytes of the largest cache of the first core; 0 where it is not told."""
    found = [0]
    for path in root.glob("sys/devices/system/cpu/cpu0/cache/index*/size"):
        text = path.read_text().strip()
        units = {"K": 1 << 10, "M": 1 << 20}
        if text[:-1].isdigit() and text[-1] in units:
            found.append(int(text[:-1]) * units[text[-1]])
    return max(found)


def copy_rate() -> float:
    """Bytes a second, read and written, of a copy on the GPU. Raises BackendError where it cannot be reached."""
    from fcn_edge.cuda import open_cuda

    with open_cuda() as cuda:
        to, source, stream = cuda.device(COPIED), cuda.device(COPIED), cuda.stream()
        start, end = cuda.event(True), cuda.event(True)

        def run() -> float:
            start.record(stream)
            for _ in range(COPIES):
                stream.copy(to, source)
            end.record(stream)
            end.synchronize()
            return end.since(start)

        rate = 2 * COPIED * COPIES / _least(run)
        for held in (to, source, stream, start, end):
            held.close()
        return rate


def roofline(cost: Cost, spec: ModelSpec, network: Size, precision: str, seconds: float, roof: Roof) -> Roofline | str:
    """Where a network lies below the roof, or why that is not known.

    network: (h, w); precision: that it is computed in; seconds: of `infer` for a frame, the median.
    """
    if cost.operations is None or cost.parameters is None or cost.output is None:
        return cost.reasons.get("operations", "its operations are not known.")
    taken = prod(network) * 3 * np.dtype(spec.input.dtype).itemsize
    given = prod(cost.output) * (1 if spec.output.kind == "labels" else 4)
    traffic = float(cost.parameters * WIDTHS[precision] + taken + given)
    reachable = min(roof.peak, roof.bandwidth * cost.operations / traffic)
    return Roofline(cost.operations, traffic, roof.peak, roof.bandwidth, cost.operations / seconds / reachable)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _least(run: Callable[[], float]) -> float:
    """The least of the seconds that many runs say they took, after one that warms up."""
    run()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - began < SECONDS:
        times.append(run())
    return min(times)
