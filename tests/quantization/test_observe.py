"""What is counted of a network's tensors, against NumPy on the same values, and what an interruption leaves of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from float_network import float_network

from fcn_edge.errors import FcnEdgeError
from fcn_edge.quantization import observe as module
from fcn_edge.quantization.observe import BINS, Histogram, observe


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Five pictures, each brighter than the one before, so that ranges widen on the way."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), rng.integers(0, 3 * 4**number, (32, 32, 3)).clip(0, 255).astype(np.uint8))
    return paths


def same(one: dict[str, Histogram], other: dict[str, Histogram]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].top == other[name].top and (one[name].counts == other[name].counts).all() for name in one
    )


def test_counts_are_numpys_of_the_same_values(tmp_path, pictures):
    found = observe(float_network(tmp_path / "net.onnx"), pictures, "five")
    values = np.concatenate([cv2.imread(str(path)).reshape(-1).astype(np.float32) for path in pictures])  # type: ignore[union-attr]
    read = found.histograms["planes"]
    assert read.top == 256
    assert (read.counts == np.histogram(values, BINS, (0, 256))[0]).all()
    assert abs(read.largest - values.max()) <= read.top / BINS


def test_means_are_each_channels_over_all_pictures(tmp_path, pictures):
    found = observe(float_network(tmp_path / "net.onnx"), pictures, "five")
    frames = np.stack([cv2.imread(str(path)) for path in pictures])  # type: ignore[arg-type]
    np.testing.assert_allclose(found.means["planes"], frames.mean(axis=(0, 1, 2)))


def test_every_tensor_that_a_layer_reads_is_watched_and_weights_are_not(tmp_path, pictures):
    found = observe(float_network(tmp_path / "net.onnx"), pictures, "five")
    assert set(found.histograms) == {"planes", "a", "b", "c", "sum"}


def test_the_order_of_the_pictures_changes_nothing(tmp_path, pictures):
    model = float_network(tmp_path / "net.onnx")
    forwards, backwards = observe(model, pictures, "five"), observe(model, pictures[::-1], "five")
    assert same(forwards.histograms, backwards.histograms)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(module, "SAVED_EVERY", 1)
    model, cache = float_network(tmp_path / "net.onnx"), tmp_path / "calib"

    def stops(waiting: Iterable[Path]) -> Iterator[Path]:
        for number, path in enumerate(waiting):
            if number == 3:
                raise KeyboardInterrupt
            yield path

    with pytest.raises(KeyboardInterrupt):
        observe(model, pictures, "five", cache=cache, progress=stops)
    left: list[Path] = []
    resumed = observe(model, pictures, "five", cache=cache, progress=lambda waiting: left.extend(waiting) or left)
    assert left == pictures[3:]
    assert same(resumed.histograms, observe(model, pictures, "five").histograms)
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


@pytest.mark.parametrize("change", ["pictures", "size", "weights"])
def test_what_was_counted_of_something_else_is_not_taken(tmp_path, pictures, change):
    cache = tmp_path / "calib"
    first = observe(float_network(tmp_path / "net.onnx"), pictures, "five", cache=cache)
    model = float_network(tmp_path / "net.onnx", gain=2.0 if change == "weights" else 1.0)
    identity, size = ("others" if change == "pictures" else "five"), (16, 16) if change == "size" else None
    counted: list[Path] = []
    again = observe(model, pictures, identity, size, cache, lambda waiting: counted.extend(waiting) or counted)
    assert counted == pictures
    assert again.key != first.key


def test_a_damaged_cache_is_counted_anew(tmp_path, pictures):
    model, cache = float_network(tmp_path / "net.onnx"), tmp_path / "calib"
    first = observe(model, pictures, "five", cache=cache)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert same(observe(model, pictures, "five", cache=cache).histograms, first.histograms)


def test_a_value_that_is_not_finite_is_named_with_its_picture(tmp_path, pictures):
    model = float_network(tmp_path / "net.onnx", gain=float("nan"))
    with pytest.raises(FcnEdgeError, match=r"b holds a value that is not finite on .*0\.png"):
        observe(model, pictures, "five")
