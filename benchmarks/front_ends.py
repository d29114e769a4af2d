"""What docs/front-ends.md says of DeepLab's scores and of unpooling's cost.

    python benchmarks/front_ends.py peer deeplabv3_mnv2_pascal_trainval_513_fp32.onnx --weights WEIGHTS
    python benchmarks/front_ends.py indices

`peer` runs its authors' DeepLabV3 and `deeplabv3-lite` with the same weights on the same planes and compares their
scores before the last upsampling, on the demo photos at several sides 8k+1: as their graph is, and with its weights
rounded to float16, as a weights file holds them. Their file takes one size, their graph any: it is opened so. Its
labels are 513x513 always, and ours are brought there.

`indices` runs SegNet, with seeded noise for weights, in ONNX Runtime's profiler and adds up what its pools' indices and
its unpooling take of the time, beside the space that the indices take in bits, bytes and floats. Then the same network
with plain pools and every pixel doubled takes turns with it on the fastest backend.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch.nn import functional as F

from fcn_edge.data import read_image
from fcn_edge.models import unpooling
from fcn_edge.models.checkpoint import untrained
from fcn_edge.models.network import Network
from fcn_edge.models.vgg import STAGES
from fcn_edge.models.weights import resolve
from fcn_edge.onnx_export import export
from fcn_edge.resources import demo_photos
from fcn_edge.segmenter import Segmenter

SIZES = ((513, 513), (377, 505), (257, 641), (769, 769))  # (H, W), sides 8k+1; the first is their own
FRAME = (384, 512)  # (H, W) of a common VOC picture, rounded to SegNet's stride
ROUNDS, WARMUP = 5, 2
# Operators of the exported file that only the indices and what they undo need.
POOLING = ("Slice", "Max", "GreaterOrEqual")
UNPOOLING = ("Not", "Where", "Unsqueeze", "Concat", "Shape", "Reshape", "DepthToSpace", "Cast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("peer", help="are the scores the authors'?")
    command.add_argument("peer", type=Path, help="their graph as ONNX, 513x513")
    command.add_argument("--weights", type=Path, required=True, help="its weights under the names of docs/weights.md")
    command.set_defaults(do=compare_with_peer)
    command = commands.add_parser("indices", help="what unpooling costs")
    command.set_defaults(do=cost_of_indices)
    options = parser.parse_args()
    options.do(options)


def compare_with_peer(options: argparse.Namespace) -> None:
    network = resolve(str(options.weights), "deeplabv3-lite", None, Path(), Path).network
    for title, rounds in (("as it is", False), ("weights in float16", True)):
        peer, names = with_scores(options.peer, rounds)
        for height, width in SIZES:
            found = np.array([differences(network, peer, names, path, (height, width)) for path in demo_photos()])
            print(
                f"{title}, {width}x{height}: largest difference of a score {found[:, 0].max():.2g} where they deviate "
                f"by {found[:, 1].min():.2f}; {found[:, 2].min():.4%} of the labels equal"
            )


def differences(network: Network, peer: Any, names: list[str], path: Path, size: tuple[int, int]) -> tuple[float, ...]:
    """The largest difference of a score, the deviation of theirs, and the part of their labels that is ours too."""
    frame = torch.from_numpy(cv2.resize(read_image(path), size[::-1], interpolation=cv2.INTER_AREA))[None]
    with torch.inference_mode():
        planes, ours = network.planes(frame).numpy(), network(frame)
    logits, theirs = (np.asarray(value) for value in peer.run(names, {peer.get_inputs()[0].name: planes}))
    whole = F.interpolate(ours, logits.shape[2:], mode="bilinear", align_corners=True).numpy()
    farthest = float(np.abs(ours.numpy() - theirs).max())
    return farthest, float(theirs.std()), float((whole.argmax(1) == logits.argmax(1)).mean())


def with_scores(path: Path, rounds: bool) -> tuple[Any, list[str]]:
    """The graph in ONNX Runtime for planes of any size, and the names of its output and of what its last Resize reads.

    rounds: its weights to float16.
    """
    model = onnx.load(path)
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]  # the shapes at their own size
    last = next(node for node in reversed(model.graph.node) if node.op_type == "Resize")
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
    for weight in model.graph.initializer:
        if rounds and weight.data_type == onnx.TensorProto.FLOAT:
            rounded = onnx.numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(rounded, weight.name))
    names = [value.name for value in model.graph.output]
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]), names


def cost_of_indices(_: argparse.Namespace) -> None:
    windows = sum(channels * prod(FRAME) // 4**stage for stage, (channels, _) in enumerate(STAGES, 1))
    print(
        f"{windows / 1e6:.2f} million windows at {FRAME[1]}x{FRAME[0]}: {windows / 4e6:.1f} MB at two bits each, "
        f"{3 * windows / 1e6:.1f} MB as three booleans, {4 * windows / 1e6:.1f} MB as the pooled maps in float32"
    )
    with tempfile.TemporaryDirectory() as folder:
        network, spec = untrained("segnet")
        path = export(network, spec, Path(folder) / "segnet.onnx", [], ()).path
        taken = profile(path, Path(folder))
        with patch.multiple(unpooling, pool=lambda x: (F.max_pool2d(x, 2), None), unpool=doubled):
            plain = export(network, spec, Path(folder) / "plain.onnx", [], ()).path
        with Segmenter(path) as ours, Segmenter(plain) as other:
            compare_times(ours, other)
    total = sum(taken.values())
    for label, kinds in (("pools with indices", POOLING), ("unpooling", UNPOOLING), ("convolutions", ("Conv",))):
        part = sum(taken[kind] for kind in kinds)
        print(f"{label}: {part / 1e3 / ROUNDS:.0f} ms a frame, {part / total:.1%} of {total / 1e3 / ROUNDS:.0f} ms")
    print(
        ", ".join(f"{kind} {value / 1e3 / ROUNDS:.1f} ms" for kind, value in taken.most_common() if value > total / 1e3)
    )


def doubled(x: torch.Tensor, winners: None) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def compare_times(ours: Segmenter, other: Segmenter) -> None:
    frame = cv2.resize(read_image(demo_photos()[0]), FRAME[::-1])
    seconds: dict[Segmenter, list[float]] = {ours: [], other: []}
    for number in range(WARMUP + 3 * ROUNDS):
        for segmenter, taken in seconds.items():
            result = segmenter(frame)
            if number >= WARMUP:
                taken.append(result.timings["infer"])
    medians = [1000 * float(np.median(taken)) for taken in seconds.values()]
    print(
        f"{ours.backend.name} {ours.backend.precision}: {medians[0]:.0f} ms with indices, {medians[1]:.0f} ms with "
        f"plain pools and doubled pixels, {medians[0] / medians[1]:.2f} times as long"
    )


def profile(path: Path, folder: Path) -> Counter[str]:
    """Microseconds of `ROUNDS` frames by operator."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    frame = cv2.resize(read_image(demo_photos()[0]), FRAME[::-1])[None]
    for _ in range(WARMUP + ROUNDS):
        session.run(None, {"frame": frame})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    taken: Counter[str] = Counter()
    for event in nodes[len(nodes) * WARMUP // (WARMUP + ROUNDS) :]:
        taken[event["args"]["op_name"]] += event["dur"]
    return taken


if __name__ == "__main__":
    main()
