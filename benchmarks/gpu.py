"""Everything that wants an NVIDIA GPU, in one run: the tests marked gpu, then a table of the speeds that were promised.

    python benchmarks/gpu.py [--model FILE.onnx] [--vgg FILE.onnx] [--labels FILE.onnx] [--video FILE]
                             [--backend tensorrt|tensorrt-rtx] [--no-tests] [--json]

Each row of the table is a measured figure beside its goal, or "not measured" and why: no part of it needs the others.
The engine's own time is that between its `enqueue` and the end of it, by the GPU's clock, within the very frames whose
whole way, from memory to memory through `Segmenter`, the CPU's clock times: a clock that changes meets both. Transfers
are the frame's bytes up and the labels' down, page-locked, on an idle bus. Medians are printed.
The exit status is 1 where a test failed or a goal was missed. Fix the clocks first: fcn-edge doctor says how.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fcn_edge.cuda import open_cuda
from fcn_edge.engine.machine import find_gpu
from fcn_edge.engine.versions import PRODUCTS, load
from fcn_edge.errors import FcnEdgeError
from fcn_edge.runtime.files import bundled
from fcn_edge.runtime.tensorrt import MAPPED, TensorRt
from fcn_edge.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
SIDE = 512  # of the frame, and of the network as near as its strides allow
ROUNDS = 200
WARM_UP = 30  # frames: shapes, graph, clocks
LEAST = 0.3e-3  # seconds that may be added to a fast network whatever the ratio

PROMISED = {  # beside the kernels, which need no TensorRT
    "fcn8s-lite, frame to labels": "1.15 times engine and transfers, or 0.3 ms more",
    "fcn8s, frame to labels": "1.05 times engine and transfers",
    "fcn8s-lite, with and without transfers": "",
    "fcn8s-lite, labels by each way": "",
    "fcn8s-lite, stream against the engine's rate": "",
    "run's pipeline": "0.9 of the machine's bound",
    "cached engine of fcn8s-lite loads in": "2 s, CUDA's own start apart",
    "mapped memory on an integrated GPU": "taken where faster",
}


@dataclass(frozen=True)
class Row:
    """A line of the table. met: None where it has no goal, or was not measured."""

    name: str
    value: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Latency:
    """Seconds a frame."""

    whole: float
    network: float
    up: float
    down: float
    ways: dict[str, float]
    chosen: str
    rate: float  # frames a second with two in flight

    @property
    def bound(self) -> float:
        return self.network + self.up + self.down


def median(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def latency(model: Path, backend: str) -> Latency:
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    with Segmenter(model, backend) as segmenter:
        for _ in range(WARM_UP):
            segmenter(frame)
        engine = segmenter.backend
        assert isinstance(engine, TensorRt)
        whole, alone = [], []
        for _ in range(ROUNDS):
            whole.append(median(lambda: segmenter(frame), 1))
            alone.append(engine.stages["infer"])
        up, down = transfers(engine, frame.nbytes, SIDE * SIDE)
        chosen = engine.way
        ways = {}
        for way in engine.ways:
            engine.way = way
            for _ in range(WARM_UP):
                segmenter(frame)
            ways[way] = median(lambda: segmenter(frame))
        engine.way = chosen
        frames = 5 * ROUNDS
        start = time.perf_counter()
        for _ in segmenter.stream([frame] * frames):
            pass
        rate = frames / (time.perf_counter() - start)
    return Latency(statistics.median(whole), statistics.median(alone), up, down, ways, chosen, rate)


def transfers(engine: TensorRt, up: int, down: int) -> tuple[float, float]:
    """Seconds of copying so many bytes to the GPU, and from it."""
    cuda = engine._cuda
    stream, begin, end = cuda.stream(), cuda.event(timing=True), cuda.event(timing=True)
    host, device = cuda.host(max(up, down)), cuda.device(max(up, down))

    def timed(copy: Callable[[], None]) -> float:
        taken = []
        for _ in range(ROUNDS):
            begin.record(stream)
            copy()
            end.record(stream)
            end.synchronize()
            taken.append(end.since(begin))
        return statistics.median(taken)

    times = timed(lambda: stream.upload(device, host, up)), timed(lambda: stream.download(host, device, down))
    for thing in (stream, begin, end, host, device):
        thing.close()
    return times


def speed_rows(name: str, model: Path | None, lacking: str, backend: str, ratio: float) -> Iterator[Row]:
    title = f"{name}, frame to labels at {SIDE}x{SIDE}"
    if model is None:
        yield Row(title, f"not measured: {lacking}", f"{ratio:g} times engine and transfers")
        return
    found = latency(model, backend)
    allowed = max(ratio * found.bound, found.bound + LEAST) if ratio > 1.1 else ratio * found.bound
    told = f"{1e3 * found.whole:.3f} ms, {found.whole / found.bound:.2f} times"
    yield Row(title, told, f"{ratio:g} times engine and transfers, {1e3 * allowed:.3f} ms", found.whole <= allowed)
    yield Row(f"{name}, engine alone", f"{1e3 * found.network:.3f} ms")
    yield Row(f"{name}, transfers up and down", f"{1e3 * found.up:.3f} and {1e3 * found.down:.3f} ms")
    yield Row(
        f"{name}, stream against the engine's rate", f"{found.rate * found.network:.2f} of {1 / found.network:.0f} fps"
    )
    for way, seconds in found.ways.items():
        yield Row(f"{name}, labels by {way}", f"{1e3 * seconds:.3f} ms")
    yield mapped_row(name, found)


def mapped_row(name: str, found: Latency) -> Row:
    title, goal = f"{name}, mapped memory", "taken where faster"
    mapped = found.ways.get(MAPPED)
    if mapped is None:
        return Row(title, "not measured: this GPU has its own memory", goal)
    faster, taken = mapped < min(found.ways[way] for way in found.ways if way != MAPPED), found.chosen == MAPPED
    times = found.ways["kernel"] / mapped
    return Row(title, f"{times:.2f} times the rate, {'taken' if taken else 'not taken'}", goal, taken == faster)


def graph_row(model: Path | None, lacking: str, backend: str) -> Iterator[Row]:
    """Beside the other ways, though its labels are the network's size."""
    title = "fcn8s-lite, labels in the graph"
    yield Row(title, f"not measured: {lacking}" if model is None else f"{1e3 * latency(model, backend).whole:.3f} ms")


def load_row(model: Path, backend: str) -> Iterator[Row]:
    """In processes of their own: CUDA starts once in each."""
    script = (
        "import sys, time; from fcn_edge.cuda import open_cuda; from fcn_edge import Segmenter\n"
        "start = time.perf_counter(); cuda = open_cuda(); cuda.stream(); started = time.perf_counter()\n"
        "Segmenter(sys.argv[1], sys.argv[2]); print(started - start, time.perf_counter() - started)"
    )
    times = []
    for _ in range(5):
        command = [sys.executable, "-c", script, str(model), backend]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append([float(word) for word in done.stdout.split()])
    start, loaded = (statistics.median(column) for column in zip(*times, strict=True))
    yield Row("cached engine of fcn8s-lite loads in", f"{loaded:.2f} s", "2 s", loaded < 2)
    yield Row("CUDA's own start", f"{start:.2f} s")


def kernel_rows() -> Iterator[Row]:
    """By benchmarks/kernels.py, which says more."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kernels.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if not lines:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1].removeprefix("not measured: ")
        yield Row("decode and scaling kernels", f"not measured: {reason}", "1.3 times their bytes, or 10 us")
        return
    yield Row("decode and scaling kernels", lines[-1], "1.3 times their bytes, or 10 us", done.returncode == 0)


def pipeline_row(video: Path | None, model: Path, backend: str) -> Iterator[Row]:
    if video is None:
        yield Row("run's pipeline", "not measured: name a video with --video", "0.9 of the machine's bound")
        return
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from pipeline import Stages, bound, cost

    with tempfile.TemporaryDirectory() as folder, Segmenter(model, backend) as segmenter:
        stages = Stages(video, segmenter, Path(folder))
        fractions = []
        for _ in range(3):
            costs = {name: cost(getattr(stages, name)) for name in ("read", "infer", "draw", "encode")}
            fractions.append(stages.all() / bound(costs, len(os.sched_getaffinity(0))))
    fraction = statistics.median(fractions)
    yield Row("run's pipeline", f"{fraction:.2f} of the machine's bound", "0.9", fraction >= 0.9)


def test_rows() -> Iterator[Row]:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout, file=sys.stderr)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    ran = bool(re.search(r"\d+ (passed|failed|error)", last))
    yield Row(
        "tests marked gpu", last if ran else f"not run: {last}", "all pass", done.returncode == 0 if ran else None
    )


def guarded(title: str, rows: Callable[[], Iterator[Row]]) -> list[Row]:
    """The rows, or one that says why there are none: what fails does not keep the others from being measured."""
    try:
        return list(rows())
    except Exception as error:  # whatever it is: it may be the first time that this runs on such a machine
        said = getattr(error, "stderr", None) or str(error)
        kind = "" if isinstance(error, FcnEdgeError) else f"{type(error).__name__}: "
        return [Row(title, f"not measured: {kind}{(said.strip().splitlines() or [''])[-1]}")]


def table(arguments: argparse.Namespace) -> list[Row]:
    model = arguments.model or bundled()["fcn8s-lite"]
    backend, reason = choose(arguments.backend)
    rows = [] if arguments.no_tests else guarded("tests marked gpu", test_rows)
    if backend is None:
        rows += [Row(title, f"not measured: {reason}", goal) for title, goal in PROMISED.items()]
        return [*rows, *guarded("decode and scaling kernels", kernel_rows)]
    vgg = "name its ONNX file with --vgg: fcn-edge export --variant fcn8s"
    rows += guarded("fcn8s-lite, frame to labels", lambda: speed_rows("fcn8s-lite", model, "", backend, 1.15))
    rows += guarded("fcn8s, frame to labels", lambda: speed_rows("fcn8s", arguments.vgg, vgg, backend, 1.05))
    inside = "name the file of fcn-edge export --output labels with --labels"
    rows += guarded("labels in the graph", lambda: graph_row(arguments.labels, inside, backend))
    rows += guarded("run's pipeline", lambda: pipeline_row(arguments.video, model, backend))
    rows += guarded("cached engine of fcn8s-lite loads in", lambda: load_row(model, backend))
    return [*rows, *guarded("decode and scaling kernels", kernel_rows)]


def choose(asked: str | None) -> tuple[str | None, str]:
    """The product to measure; or None, and why."""
    if find_gpu() is None:
        return None, "no GPU"
    problems = []
    for product in [asked] if asked else PRODUCTS:
        try:
            load(product)
            return product, ""
        except FcnEdgeError as error:
            problems.append(str(error))
    return None, " ".join(problems)


def environment(backend: str | None) -> str:
    gpu = find_gpu()
    if gpu is None:
        return "no GPU"
    versions = [f"{backend} {'.'.join(map(str, load(backend).version))}"] if backend else []
    with open_cuda() as cuda:
        versions += [f"{name} {version}" for name, version in cuda.versions.items()]
    return f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver}; {', '.join(versions)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an ONNX file of fcn8s-lite; the bundled one where absent")
    parser.add_argument("--vgg", type=Path, help="an ONNX file of fcn8s on VGG16")
    parser.add_argument("--labels", type=Path, help="fcn8s-lite with labels in the graph, as ONNX")
    parser.add_argument("--backend", choices=list(PRODUCTS))
    parser.add_argument("--video", type=Path, help="for the pipeline's rate")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = table(arguments)
    where = environment(choose(arguments.backend)[0])
    if arguments.json:
        print(json.dumps({"environment": where, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        width = max(len(row.name) for row in rows)
        print(where)
        for row in rows:
            goal = f"  (goal {row.goal})" if row.goal else ""
            mark = {True: "met", False: "MISSED", None: ""}[row.met]
            print(f"{row.name:{width}}  {row.value}{goal} {mark}".rstrip())
    sys.exit(1 if any(row.met is False for row in rows) else 0)


if __name__ == "__main__":
    main()
