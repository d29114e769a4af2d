"""What values the tensors of a network take on real pictures, as histograms that grow picture by picture.

ONNX Runtime's own calibrators keep every tensor of every picture until the end: 400 pictures through FCN-8s on VGG16
would take 140 GB. Here a picture's tensors are counted and dropped, so the peak is one picture's, whatever the number.
The counts do not depend on how thresholds are chosen from them: one pass serves all methods.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import onnx
from numba import float32, float64, int64, void

from fcn_edge.data import read_image
from fcn_edge.errors import FcnEdgeError
from fcn_edge.files import replacing
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.prepare import Size, lay_out, prepare
from fcn_edge.quantization.graph import layer_nodes, values_read
from fcn_edge.runtime.host import physical_cores
from fcn_edge.spec import METADATA_KEY, ModelSpec, from_json

BINS = 2048  # 16 for each of the 127 steps, as TensorRT's own calibrator had
SAVED_EVERY = 20  # pictures: an interrupted run loses a few seconds of work

Progress = Callable[[Iterable[Path]], Iterable[Path]]


@dataclass(frozen=True)
class Histogram:
    """How often |x| of a tensor fell where: `counts`, int64 (BINS,), between 0 and `top` in equal steps."""

    counts: np.ndarray
    top: float

    @property
    def largest(self) -> float:
        """The upper edge of the last bin that holds anything; 0 where the tensor was zero throughout."""
        filled = np.flatnonzero(self.counts)
        return 0.0 if filled.size == 0 or self.top == 0 else (filled[-1] + 1) * self.top / len(self.counts)


@dataclass(frozen=True)
class Observed:
    """A network's tensors on a calibration set."""

    histograms: dict[str, Histogram]
    means: dict[str, np.ndarray]  # float64 (C,): of each channel, over all places and pictures
    pictures: int
    key: str  # SHA-256 of what they were counted from: graph, weights, pictures, size


def observe(
    model: Path,
    pictures: Sequence[Path],
    identity: str,
    size: int | Size | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Observed:
    """Run every picture through the float32 ONNX file `model`; count what its convolutions and sums read.

    identity: names the pictures' content, as `Calibration.identity`.
    size:     of the network; the spec's own where None.
    cache:    a folder; what was counted for the same key is taken from there, also half of it after an interruption.
    progress: wraps the iteration over the pictures that are still to be counted.
    Raises DataError for a picture that cannot be read, FcnEdgeError where a tensor holds a value that is not finite.
    """
    graph = onnx.load(model)
    spec = from_json({each.key: each.value for each in graph.metadata_props}[METADATA_KEY], str(model))
    key = _key(graph, identity, size or spec.size)
    file = None if cache is None else cache / f"{spec.name}.{key[:8]}.npz"
    read = [value for node in layer_nodes(graph.graph) for value in values_read(node)]
    counting = _Counting(file, key, list(dict.fromkeys(read)))
    waiting = pictures[counting.done :]
    if waiting:
        session = _session(graph, counting.names)
        del graph  # half a gigabyte, for VGG16
        for path in waiting if progress is None else progress(waiting):
            counting.add(session.run(counting.names, {"frame": frame_of(spec, path, size)}), path)
            if counting.done % SAVED_EVERY == 0:
                counting.save()
        counting.save()
    return Observed(counting.histograms(), counting.means(), counting.done, key)


class _Counting:
    """Histograms that are being filled, and their file."""

    def __init__(self, file: Path | None, key: str, names: list[str]) -> None:
        self.names, self.done = names, 0
        self._file, self._key = file, key
        self._counts = np.zeros((len(names), BINS), np.int64)
        self._tops = np.zeros(len(names))
        self._sums: list[np.ndarray] = []  # of the pictures' means, a channel
        if file is not None and file.is_file():
            self._load(file)

    def _load(self, file: Path) -> None:
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
                if str(saved["key"]) == self._key and list(saved["names"]) == self.names:
                    counts, tops, done = saved["counts"], saved["tops"], int(saved["done"])
                    sums = np.split(saved["sums"], np.cumsum(saved["channels"])[:-1])
                    self._counts, self._tops, self._sums, self.done = counts, tops, sums, done
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # cut off, or of another kind: counted anew
            return

    def add(self, tensors: Sequence[np.ndarray], picture: Path) -> None:
        means = [values.mean(axis=(0, 2, 3), dtype=np.float64) for values in tensors]
        self._sums = [old + new for old, new in zip(self._sums, means, strict=True)] if self._sums else means
        for index, (name, values) in enumerate(zip(self.names, tensors, strict=True)):
            flat = np.ascontiguousarray(values).reshape(-1)
            largest = float(_largest(flat))
            if not np.isfinite(largest):
                raise FcnEdgeError(f"{name} holds a value that is not finite on {picture}: the network is broken.")
            while largest > 0 and largest >= self._tops[index]:
                self._widen(index, largest)
            if self._tops[index] > 0:
                _count(flat, BINS / self._tops[index], self._counts[index])
            else:
                self._counts[index, 0] += flat.size
        self.done += 1

    def _widen(self, index: int, largest: float) -> None:
        """Twice the range, each two bins as one; the first value that is not zero sets it."""
        if self._tops[index] == 0:
            # A power of two above it: so all pictures' bins coincide, in any order.
            self._tops[index] = 2.0 ** (np.floor(np.log2(largest)) + 1)
            return
        halves = self._counts[index].reshape(-1, 2).sum(axis=1)
        self._counts[index] = np.concatenate([halves, np.zeros(BINS // 2, np.int64)])
        self._tops[index] *= 2

    def save(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._file) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                key=self._key,
                names=self.names,
                counts=self._counts,
                tops=self._tops,
                sums=np.concatenate(self._sums),
                channels=[len(sums) for sums in self._sums],
                done=self.done,
            )

    def means(self) -> dict[str, np.ndarray]:
        return {name: sums / self.done for name, sums in zip(self.names, self._sums, strict=True)}

    def histograms(self) -> dict[str, Histogram]:
        return {
            name: Histogram(counts, float(top))
            for name, counts, top in zip(self.names, self._counts, self._tops, strict=True)
        }


def _session(model: onnx.ModelProto, names: list[str]) -> Any:
    """The model with `names` as its outputs, in ONNX Runtime."""
    import onnxruntime

    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = physical_cores()  # its own count takes two virtual processors for one core
    options.enable_cpu_mem_arena = False  # it keeps the largest picture's memory, twice over
    # Else half a gigabyte of weights is held twice, once rearranged, which takes longer than it saves.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "watched.onnx")
        onnx.save(model, file)
        model.Clear()
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def frame_of(spec: ModelSpec, path: Path, size: int | Size | None) -> np.ndarray:
    """The picture as the network takes it, (1, h, w, 3) or (1, 3, h, w).

    size: of the network; the spec's own where None.
    Raises DataError where it cannot be read.
    """
    frame = read_image(path)
    return prepare(spec, frame, lay_out(spec, (frame.shape[0], frame.shape[1]), spec.resize, size))


def _key(model: onnx.ModelProto, identity: str, size: int | Size) -> str:
    """What the counts depend on, as one hash; the file's metadata, such as its figures, are no part of it."""
    hash = hashlib.sha256(f"{BINS} bins and means; {identity} {size}".encode())
    for part in (*model.graph.node, *model.graph.initializer):
        hash.update(part.SerializeToString(deterministic=True))
    return hash.hexdigest()


@kernel(float64(readable(float32, 1)))
def _largest(values):  # type: ignore[no-untyped-def]
    largest = 0.0
    for value in values:
        size = abs(float64(value))
        if size > largest or size != size:  # NaN, once there, stays: nothing is larger
            largest = size
    return largest


@kernel(void(readable(float32, 1), float64, writable(int64, 1)))
def _count(values, scale, counts):  # type: ignore[no-untyped-def]
    last = len(counts) - 1
    for value in values:
        counts[min(int64(abs(value) * scale), last)] += 1
