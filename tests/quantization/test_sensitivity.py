"""A network whose middle layers can and cannot be int8, by construction: which is which is known beforehand.

It names the strongest colour of a pixel, which is 6 above the others. `fine` reads values up to 255, so that a step of
int8 is 2; `coarse` reads beside them a channel of 1270, so that a step is 10 and the difference mostly disappears.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fcn_edge.data import Sample
from fcn_edge.data.calibration import Calibration
from fcn_edge.errors import DataError, FcnEdgeError, UsageError
from fcn_edge.quantization import budget as budgets
from fcn_edge.quantization import measuring
from fcn_edge.quantization.budget import REASON, Budget, fewest, fit_budget
from fcn_edge.quantization.convert import Choices
from fcn_edge.quantization.plot import draw
from fcn_edge.quantization.qdq import FIRST, SCORES
from fcn_edge.quantization.sensitivity import Harm, harm, harms, multiply_adds
from fcn_edge.quantization.thresholds import Ranges
from fcn_edge.spec import METADATA_KEY, ModelSpec, Output

SPEC = ModelSpec("strongest", ("blue", "green", "red"), size=32, stride=1, sides="any", resize="native")
SIDE, BLOCK, AHEAD, LOUD = 32, 4, 6, 1270
WEIGHTS = {"first": 3 * 4, "fine": 4 * 4, "coarse": 4 * 4, "score": 4 * 3}


def write_network(path: Path, spec: ModelSpec = SPEC) -> Path:
    """Four 1x1 convolutions that hand three colours on; the second adds the loud channel, the last drops it."""
    eye = np.eye(4, dtype=np.float32)[:, :, None, None]
    arrays = {"first": eye[:, :3], "fine": eye, "coarse": eye, "score": eye[:3]}
    loud = np.array([0, 0, 0, LOUD], np.float32)
    weights = [numpy_helper.from_array(array, f"{name}.w") for name, array in arrays.items()]
    weights.append(numpy_helper.from_array(loud, "loud"))
    nodes = [
        helper.make_node("Cast", ["frame"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first.w"], ["a"], "first"),
        helper.make_node("Conv", ["a", "fine.w", "loud"], ["b"], "fine"),
        helper.make_node("Conv", ["b", "coarse.w"], ["c"], "coarse"),
        helper.make_node("Conv", ["c", "score.w"], ["scores"], "score"),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, ["n", "h", "w", 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph = helper.make_graph(nodes, "strongest", [frame], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, path)
    return path


def draw_samples(folder: Path, count: int, seed: int) -> list[Sample]:
    """Pictures of blocks whose strongest colour is `AHEAD` of the two others."""
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        truth = rng.integers(0, 3, (SIDE // BLOCK,) * 2)
        frame = np.repeat(rng.integers(0, 256 - AHEAD, truth.shape)[..., None], 3, axis=2)
        frame[np.eye(3, dtype=bool)[truth]] += AHEAD
        paths = folder / f"{seed}_{index}.png", folder / f"{seed}_{index}.mask.png"
        for path, array in zip(paths, (frame, truth), strict=True):
            cv2.imwrite(str(path), np.kron(array, np.ones((BLOCK, BLOCK, 1)[: array.ndim])).astype(np.uint8))
        samples.append(Sample(paths[0].stem, *paths))
    return samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget")
    write_network(folder / "strongest.onnx")
    return folder


@pytest.fixture(scope="module")
def calibration(folder: Path) -> Calibration:
    return Calibration("drawn", tuple(sample.image for sample in draw_samples(folder, 4, seed=1)), "drawn 1")


@pytest.fixture(scope="module")
def samples(folder: Path) -> list[Sample]:
    return draw_samples(folder, 4, seed=2)


def fit(folder: Path, calibration: Calibration, samples: list[Sample], max_drop: float = 1.0, **more: object) -> Budget:
    choices = more.pop("choices", Choices())
    return fit_budget(
        folder / "strongest.onnx", calibration, choices, samples, max_drop, backend="onnxruntime", **more  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def tight(folder: Path, calibration: Calibration, samples: list[Sample]) -> Budget:
    return fit(folder, calibration, samples)


# ---- harm


def test_harm_is_the_divergence_and_the_share_of_other_labels() -> None:
    even, three_to_one = [0.0, 0.0], [math.log(3), 0.0]
    expected = np.array([even, three_to_one]).T.reshape(1, 2, 1, 2)
    got = np.array([three_to_one, [0.0, math.log(3)]]).T.reshape(1, 2, 1, 2)
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    second = 0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.75)
    found = harm([expected], [got])
    assert found.divergence == pytest.approx((first + second) / 2)
    assert found.changed == 0.5
    assert harm([expected], [expected]) == Harm(0.0, 0.0)


def test_the_layer_that_reads_a_loud_channel_is_the_most_harmful(folder: Path, calibration: Calibration) -> None:
    model = onnx.load(folder / "strongest.onnx")
    largest = {"planes": 255.0, "a": 255.0, "b": float(LOUD), "c": float(LOUD)}
    reach = Ranges(largest, {name: np.zeros(3 if name == "planes" else 4) for name in largest})
    found = dict(harms(model, SPEC, reach, calibration.pictures))
    assert list(found) == ["first", "fine", "coarse", "score"]
    assert found["fine"].changed == 0
    assert found["coarse"].changed > 0.2  # of the blocks; two in five differ by no step of 10
    assert found["coarse"].divergence > 5 * found["fine"].divergence


def test_multiply_adds_are_weights_times_places(folder: Path) -> None:
    found = multiply_adds(onnx.load(folder / "strongest.onnx"), SPEC)
    assert found == {name: count * SIDE * SIDE for name, count in WEIGHTS.items()}


def test_a_file_that_gives_labels_tells_no_harm(folder: Path, calibration: Calibration) -> None:
    labels = replace(SPEC, output=Output("labels"))
    with pytest.raises(FcnEdgeError, match="--output scores"):
        next(harms(onnx.load(folder / "strongest.onnx"), labels, Ranges({}, {}), calibration.pictures))


# ---- the search


@given(st.integers(0, 70), st.integers(0, 80))
def test_the_fewest_that_hold_are_found_in_few_looks(most: int, enough: int) -> None:
    looks: list[int] = []

    def holds(count: int) -> bool:
        looks.append(count)
        return count >= enough

    assert fewest(most, holds) == (enough if enough < most else None)
    assert len(looks) <= 2 * math.log2(most + 1) + 3
    assert all(0 <= count < most for count in looks)


# ---- the budget


def test_the_budget_keeps_the_harmful_layer_in_float_and_no_other(tight: Budget) -> None:
    assert tight.kept == {"first": FIRST, "coarse": REASON, "score": SCORES}
    assert tight.float32 == 1.0
    assert tight.mean_iou > 0.99
    assert tight.curve[0][0] == 2
    assert tight.curve[0][1] < 0.9  # with both in int8
    assert tight.curve[-1] == (1, tight.mean_iou)
    assert tight.moved == pytest.approx(WEIGHTS["coarse"] / sum(WEIGHTS.values()))
    assert tight.images == 4


def test_a_budget_that_holds_at_once_moves_nothing(
    folder: Path, calibration: Calibration, samples: list[Sample]
) -> None:
    wide = fit(folder, calibration, samples, max_drop=90)
    assert wide.kept == {"first": FIRST, "score": SCORES}
    assert "no layer had to leave int8" in wide.summary().lower()


def test_the_float_file_may_be_called_anything(
    folder: Path, calibration: Calibration, samples: list[Sample], tight: Budget, tmp_path: Path
) -> None:
    file = tmp_path / ".strongest.12.part"
    file.write_bytes((folder / "strongest.onnx").read_bytes())
    found = fit_budget(file, calibration, Choices(), samples, 1.0, backend="onnxruntime")
    assert found.kept == tight.kept


def test_layers_that_are_named_stay_in_float_for_their_reason(
    folder: Path, calibration: Calibration, samples: list[Sample]
) -> None:
    found = fit(folder, calibration, samples, choices=Choices(kept={"coarse": "asked for"}))
    assert found.kept == {"coarse": "asked for", "score": REASON}  # which reads the loud channel too


def test_an_interrupted_budget_goes_on_where_it_stopped(
    folder: Path,
    calibration: Calibration,
    samples: list[Sample],
    tight: Budget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[str] = []
    real = measuring.evaluate

    def evaluate(segmenter, *arguments, **more):  # type: ignore[no-untyped-def]
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(segmenter.spec.precision)
        return real(segmenter, *arguments, **more)

    monkeypatch.setattr(measuring, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        fit(folder, calibration, samples, cache=tmp_path)
    measured.clear()
    monkeypatch.setattr(budgets, "harms", None)  # all known
    again = fit(folder, calibration, samples, cache=tmp_path)
    assert measured == ["int8"]
    assert replace(again, milliseconds={}) == replace(tight, milliseconds={})


def test_another_labelled_set_is_measured_anew(
    folder: Path, calibration: Calibration, samples: list[Sample], tmp_path: Path
) -> None:
    fit(folder, calibration, samples, cache=tmp_path)
    fit(folder, calibration, samples[:2], cache=tmp_path)
    assert len(list(tmp_path.glob("strongest.*.budget.json"))) == 2


def test_a_broken_memory_is_not_used(
    folder: Path, calibration: Calibration, samples: list[Sample], tight: Budget, tmp_path: Path
) -> None:
    fit(folder, calibration, samples, cache=tmp_path)
    (file,) = tmp_path.glob("*.budget.json")
    file.write_bytes(file.read_bytes()[:100])
    assert fit(folder, calibration, samples, cache=tmp_path).curve == tight.curve


def test_what_was_found_is_told_in_a_document_a_table_and_a_line(tight: Budget) -> None:
    document = tight.document()
    assert [layer["float"] for layer in document["layers"]] == [FIRST, None, REASON, SCORES]
    assert sum(layer["weights"] for layer in document["layers"]) == pytest.approx(1)
    assert set(document["milliseconds"]) == {"float32", "int8", "chosen"}
    assert document["max_drop"] == 1.0
    assert tight.table().splitlines()[1].startswith("coarse")
    assert "report a figure on others" in tight.summary()


def test_the_plot_is_a_picture(tight: Budget, tmp_path: Path) -> None:
    draw(tight, tmp_path / "made" / "budget.png")
    assert cv2.imread(str(tmp_path / "made" / "budget.png")) is not None


# ---- what is refused


def test_labelled_pictures_that_are_calibration_pictures_are_refused(
    folder: Path, calibration: Calibration, samples: list[Sample]
) -> None:
    both = replace(calibration, pictures=(*calibration.pictures, samples[1].image))
    with pytest.raises(DataError, match=r"1 of the 4 .*2_1\.png.*name another list"):
        fit(folder, both, samples)


@pytest.mark.parametrize("max_drop", [0, -1, 100, math.nan])
def test_a_budget_that_is_none_is_refused(
    folder: Path, calibration: Calibration, samples: list[Sample], max_drop: float
) -> None:
    with pytest.raises(UsageError, match="--max-drop"):
        fit(folder, calibration, samples, max_drop=max_drop)


def test_untrained_weights_have_no_accuracy_to_keep(
    tmp_path: Path, calibration: Calibration, samples: list[Sample]
) -> None:
    write_network(tmp_path / "strongest.onnx", replace(SPEC, trained=False))
    with pytest.raises(FcnEdgeError, match="untrained"):
        fit(tmp_path, calibration, samples)


def test_a_network_that_no_layer_of_can_be_int8_says_so(
    folder: Path, calibration: Calibration, samples: list[Sample]
) -> None:
    only_coarse = Choices(kept={name: "asked for" for name in WEIGHTS if name != "coarse"})
    with pytest.raises(FcnEdgeError, match="no layer can be int8 within 1 points"):
        fit(folder, calibration, samples, choices=only_coarse)
