"""How long the two CUDA kernels take, beside the time that their bytes take at the GPU's own copy rate.

    python benchmarks/kernels.py [--adapter cuda-python|pycuda] [--rounds N] [--json]

A copy of 256 MB on the GPU, counted as read and written, gives the rate. A kernel's bound is its input and output,
each byte once, at that rate; its goal is 1.3 times the bound, or 10 microseconds. Each kernel is captured 20 times
in one graph, so that what is timed is the GPU and not the launching; buffers are taken in turn, so that they come
from memory and not from the cache. Printed are medians over the rounds; the last line says how many goals were
missed, and so does the exit status. Smooth scores are what networks give; noise is the worst case and has no goal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import cv2
import numpy as np

from fcn_edge.cuda import ADAPTERS, open_cuda
from fcn_edge.cuda.kernels import Decode, Kernels, Scale
from fcn_edge.cuda.memory import Buffer, Cuda, Stream
from fcn_edge.errors import BackendError
from fcn_edge.spec import Input

REPEATS = 20
GOAL, LEAST = 1.3, 10e-6  # times the bound; seconds
RING = 256 << 20  # bytes that the buffers of one kernel fill together: more than any cache has
MOST = 64  # buffers in a ring

FRAMES = [((480, 640), (385, 513)), ((720, 1280), (289, 513)), ((1080, 1920), (289, 513)), ((2160, 3840), (289, 513))]
LABELS = [((65, 65), (513, 513)), ((37, 65), (720, 1280)), ((37, 65), (1080, 1920)), ((65, 65), (65, 65))]
CLASSES = 21


def seconds(cuda: Cuda, queue: Callable[[Stream, int], None], rounds: int) -> float:
    """The median time of one `queue(stream, turn)` on the GPU."""
    stream, start, end = cuda.stream(), cuda.event(True), cuda.event(True)

    def work() -> None:
        for turn in range(REPEATS):
            queue(stream, turn)

    work()
    stream.synchronize()
    graph = stream.capture(work)
    times = []
    for _ in range(rounds):
        start.record(stream)
        graph.launch(stream)
        end.record(stream)
        end.synchronize()
        times.append(end.since(start) / REPEATS)
    for thing in (graph, stream, start, end):
        thing.close()
    return statistics.median(times)


def copy_rate(cuda: Cuda, rounds: int) -> float:
    """Bytes a second, read and written, of a copy on the GPU."""
    to, source = cuda.device(256 << 20), cuda.device(256 << 20)
    taken = seconds(cuda, lambda stream, turn: stream.copy(to, source), rounds)
    to.close()
    source.close()
    return 2 * source.nbytes / taken


def ring(cuda: Cuda, nbytes: int, together: int) -> list[Buffer]:
    """As many buffers as make the kernel's bytes, `together` a turn, come from memory; at most MOST."""
    return [cuda.device(nbytes) for _ in range(max(1, min(MOST, RING // together)))]


def scale_rows(cuda: Cuda, kernels: Kernels, rounds: int) -> list[tuple[str, float, int, bool]]:
    rows = []
    for input in (Input(), Input("NCHW", "float32", "RGB", (123.7, 116.3, 103.5), (58.4, 57.1, 57.4))):
        for frame, network in FRAMES:
            task = Scale(kernels, frame, network, network, input)
            nbytes = 3 * frame[0] * frame[1] + task.input_bytes
            sources, outs = ring(cuda, task.frame_bytes, nbytes), ring(cuda, task.input_bytes, nbytes)

            def queue(stream: Stream, turn: int, task=task, sources=sources, outs=outs) -> None:
                at = turn % len(sources)
                task.launch(stream, sources[at].pointer, outs[at].pointer)

            name = f"scale {frame[1]}x{frame[0]} to {network[1]}x{network[0]} {input.dtype}"
            rows.append((name, seconds(cuda, queue, rounds), nbytes, True))
            for thing in (task, *sources, *outs):
                thing.close()
    return rows


def decode_rows(cuda: Cuda, kernels: Kernels, rounds: int) -> list[tuple[str, float, int, bool]]:
    rows = []
    for dtype in ("float32", "float16"):
        for (height, width), size in LABELS:
            noise = np.random.default_rng(0).standard_normal((CLASSES, height, width), np.float32)
            smooth = cv2.GaussianBlur(noise.transpose(1, 2, 0), (0, 0), 4).transpose(2, 0, 1)
            for kind, scores in (("smooth", smooth), ("noise", noise)):
                task = Decode(kernels, (CLASSES, height, width), dtype, size, "align_corners")
                nbytes = task.scores_bytes + task.labels_bytes
                outs = ring(cuda, task.labels_bytes, nbytes)
                sources = [cuda.upload(np.ascontiguousarray(scores.astype(dtype))) for _ in outs]

                def queue(stream: Stream, turn: int, task=task, sources=sources, outs=outs) -> None:
                    at = turn % len(sources)
                    task.launch(stream, sources[at].pointer, outs[at].pointer)

                name = f"decode {CLASSES}x{height}x{width} {dtype} to {size[1]}x{size[0]}, {kind}"
                rows.append((name, seconds(cuda, queue, rounds), nbytes, kind == "smooth"))
                for thing in (task, *sources, *outs):
                    thing.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", choices=ADAPTERS)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    try:
        with open_cuda(arguments.adapter) as cuda:
            kernels = Kernels(cuda)
            rate = copy_rate(cuda, arguments.rounds)
            rows = scale_rows(cuda, kernels, arguments.rounds) + decode_rows(cuda, kernels, arguments.rounds)
            gpu, versions = cuda.gpu, cuda.versions
    except BackendError as error:
        sys.exit(f"not measured: {error}")
    table = []
    for name, taken, nbytes, has_goal in rows:
        bound = nbytes / rate
        met = taken <= max(GOAL * bound, LEAST) if has_goal else None
        table.append({"kernel": name, "seconds": taken, "bound": bound, "ratio": taken / bound, "met": met})
    missed = [row["kernel"] for row in table if row["met"] is False]
    if arguments.json:
        print(json.dumps({"gpu": gpu.name, "versions": versions, "copy_bytes_per_second": rate, "kernels": table}))
    else:
        print(f"{gpu.name}, {gpu.sm_count} SMs; {versions}; copies at {rate / 1e9:.0f} GB/s, read and written")
        for row in table:
            verdict = {True: "met", False: "MISSED", None: "no goal"}[row["met"]]
            figures = f"{1e6 * row['seconds']:9.1f} us, bound {1e6 * row['bound']:7.1f} us, {row['ratio']:5.2f} times"
            print(f"{row['kernel']:58s}{figures}, {verdict}")
        print(f"{len(missed)} of {sum(row['met'] is not None for row in table)} goals missed")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
