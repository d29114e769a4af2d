"""Matrices of real models in real processes: what is done once is not done again, and what fails stays alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from msgspec import structs
from PIL import Image
from tiny import SPEC, write_onnx

from fcn_edge.bench import group, labelled, matrix, pictures
from fcn_edge.bench.candidates import Artefact, Planned
from fcn_edge.bench.cells import Settings, Work, reference_of
from fcn_edge.bench.measuring import measure
from fcn_edge.bench.messages import Opened
from fcn_edge.bench.progress import Progress
from fcn_edge.bench.schema import Memory, Report, Throughput, read_report, write_report
from fcn_edge.bench.store import Store
from fcn_edge.bench.timing import Round
from fcn_edge.bench.worker import Candidate
from fcn_edge.data import Sample
from fcn_edge.errors import BackendError, DataError, SinkError

SETTINGS = Settings(frame=(48, 64), threads=1, rounds=2, runs=2, seconds=0.01)
CLASSES = "dark 0 0 0\nblue 0 0 255\ngreen 0 255 0\nred 255 0 0\n"


def planned(model: Path, backend: str = "onnxruntime", precision: str = "fp32") -> Planned:
    return Planned(model.name, backend, precision, None, 32, Artefact(str(model)))


def run(
    out: Path,
    cells: Sequence[Planned],
    settings: Settings = SETTINGS,
    show: Callable[[float, str], None] = lambda done, text: None,
    force: bool = False,
) -> tuple[Report, list[str]]:
    """The report, and what was told."""
    told: list[str] = []

    def make(cell: Planned) -> Path:
        assert cell.artefact is not None
        return Path(cell.artefact.source)

    return measure(out, cells, settings, make, Progress(show), told.append, force=force), told


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures with a blue and a red half, and masks that say so but for a quarter of the second."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    (root / "classes.txt").write_text(CLASSES)
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:, :16, 0], frame[:, 16:, 2] = 250, 250
    truth = np.where(np.arange(32) < 16, 1, 3).astype(np.uint8) * np.ones((32, 1), np.uint8)
    wrong = truth.copy()
    wrong[16:, 16:] = 2
    for name, mask in (("a", truth), ("b", wrong)):
        cv2.imwrite(str(root / f"images/{name}.png"), frame)
        cv2.imwrite(str(root / f"masks/{name}.png"), mask)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that says what it is and that no runtime opens: it was cut off."""
    whole = write_onnx(tmp_path_factory.mktemp("broken") / "whole.onnx")
    file = whole.with_name("broken.onnx")
    file.write_bytes(whole.read_bytes()[:-40])
    return file


@pytest.fixture(scope="module")
def interrupted(
    tmp_path_factory: pytest.TempPathFactory, model: Path, broken: Path, data: Path
) -> tuple[Path, dict[str, int], Report, list[str]]:
    """A matrix that Ctrl-C ended in its second round and that then went on: its folder, when each part was written
    before that, and what came of it."""
    out = tmp_path_factory.mktemp("out")
    settings = replace(SETTINGS, data=(str(data),))
    cells = [planned(model), planned(model, "openvino"), planned(broken)]

    def interrupt(done: float, text: str) -> None:
        if text.startswith("round 2 of 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, cells, settings, interrupt)
    written = {str(path): path.stat().st_mtime_ns for path in out.rglob("*-round-*.json")}
    return out, written, *run(out, cells, settings)


def test_an_interrupted_matrix_goes_on_where_it_was(
    interrupted: tuple[Path, dict[str, int], Report, list[str]],
) -> None:
    out, written, report, _ = interrupted
    assert len(written) == 2  # the first round of each that runs
    assert {path: Path(path).stat().st_mtime_ns for path in written} == written
    assert [len(cell.latency.rounds) for cell in report.cells if cell.latency] == [2, 2]
    assert read_report(out) == report


def test_a_second_start_starts_no_process_and_says_the_same(
    interrupted: tuple[Path, dict[str, int], Report, list[str]],
    model: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, _, report, _ = interrupted

    def refuse(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(matrix, "Worker", refuse)
    cells = [planned(model), planned(model, "openvino")]
    again, told = run(out, cells, replace(SETTINGS, data=(str(data),)))
    assert told == []
    assert again.cells == report.cells[:2]
    assert (again.begun, again.ended, again.pictures) == (report.begun, report.ended, report.pictures)


def test_what_fails_is_told_and_the_rest_goes_on(interrupted: tuple[Path, dict[str, int], Report, list[str]]) -> None:
    _, _, report, told = interrupted
    assert [cell.key for cell in report.failed] == ["broken.onnx onnxruntime fp32 32"]
    assert "is not an ONNX file, or is damaged" in (report.failed[0].failed or "")
    assert told == [f"broken.onnx onnxruntime fp32 32: {report.failed[0].failed}"]


def test_accuracy_is_of_each_data_set_and_agreement_with_float32_of_the_same_model(
    interrupted: tuple[Path, dict[str, int], Report, list[str]], data: Path
) -> None:
    _, _, report, _ = interrupted
    reference, other = (cell.accuracy[0] for cell in report.cells[:2])
    # All 1024 blue pixels are found, and of 1024 that are called red 256 are green: IoU 1, 0.75 and 0.
    assert reference.per_class_iou == {"dark": None, "blue": 1.0, "green": 0.0, "red": 0.75}
    assert reference.mean_iou == pytest.approx(1.75 / 3)
    assert (reference.data, reference.images) == (data.name, 2)
    assert (reference.agreement, other.agreement) == (None, 1.0)
    assert [one.images for one in report.data] == [2]


def test_pictures_lie_beside_the_report_with_the_labels_of_every_candidate(
    interrupted: tuple[Path, dict[str, int], Report, list[str]],
) -> None:
    out, _, report, _ = interrupted
    assert [picture.agreement for picture in report.pictures] == [1.0, 1.0]
    first = report.pictures[0]
    assert set(first.labels) == {cell.key for cell in report.cells if not cell.failed}
    with Image.open(out / "pictures" / next(iter(first.labels.values()))) as mask:
        assert mask.mode == "P"
        assert np.unique(np.asarray(mask)).tolist() == [1, 3]
        assert mask.convert("RGB").getpixel((0, 0)) == (0, 0, 255)  # the data set's own colour of blue
    assert (out / "pictures" / first.frame).is_file()


def test_what_was_not_asked_for_is_told_so(interrupted: tuple[Path, dict[str, int], Report, list[str]]) -> None:
    _, _, report, _ = interrupted
    why = report.cells[0].not_measured
    assert why["layers"] == "--layers was not asked for"
    assert "accuracy" not in why
    assert report.cells[0].operations == 2 * 32 * 32 * 3 * 4 * 0.75  # a 1x1 convolution on 24x32, from 3 to 4 planes


def test_more_rounds_are_added_to_those_that_are_there(
    interrupted: tuple[Path, dict[str, int], Report, list[str]], model: Path
) -> None:
    out, _, report, _ = interrupted
    more, _ = run(out, [planned(model)], replace(SETTINGS, rounds=3))
    latency, before = more.cells[0].latency, report.cells[0].latency
    assert latency is not None
    assert before is not None
    assert latency.rounds[:2] == before.rounds
    assert len(latency.rounds) == 3


@pytest.mark.usefixtures("standing")
def test_a_data_set_without_labels_leaves_the_speed(tmp_path: Path, model: Path, data: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "bare" / name).mkdir(parents=True)
    (tmp_path / "bare/classes.txt").write_text(CLASSES)
    (tmp_path / "bare/images/a.png").write_bytes((data / "images/a.png").read_bytes())
    report, told = run(tmp_path / "out", [planned(model)], replace(SETTINGS, data=(str(tmp_path / "bare"),), rounds=1))
    assert report.cells[0].latency is not None
    assert "a.png" in (report.cells[0].failed or "")
    assert len(told) == 1


def test_data_that_are_not_there_end_it_before_anything_is_measured(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        run(tmp_path / "out", [planned(model)], replace(SETTINGS, data=("nowhere:val",)))


def test_a_report_that_is_none_of_ours_is_not_overwritten(tmp_path: Path, model: Path) -> None:
    (tmp_path / "report.json").write_text('{"of": "somebody else"}')
    with pytest.raises(SinkError, match="in the way"):
        run(tmp_path, [planned(model)])
    assert (tmp_path / "report.json").read_text() == '{"of": "somebody else"}'


# ---- groups, with a worker that stands in for a process


class Standing:
    """A stand-in for a worker: takes as long as it is told, and fails where it is told to."""

    seconds: ClassVar[dict[str, float]] = {}
    alone_only: ClassVar[frozenset[str]] = frozenset()
    fails: ClassVar[dict[str, str]] = {}  # key: in which call
    open_now: ClassVar[set[str]] = set()
    taken: ClassVar[list[str]] = []

    def __init__(self, candidate: Candidate, *_: object) -> None:
        self.key = candidate.key

    def open(self) -> Opened:
        if self.key in self.alone_only and self.open_now:
            raise BackendError("out of memory")
        self._meet("open")
        self.open_now.add(self.key)
        return Opened(
            "onnxruntime", "", "fp32", "CPU: a stand-in", {}, (24, 32), 0.1, 0.1, "tiny", "", True, None, "fp32",
            ["dark"], [(0, 0, 0)], "nowhere.onnx", "", 1, None,
        )  # fmt: skip

    def _meet(self, call: str) -> None:
        if self.fails.get(self.key) == call:
            raise BackendError(f"it failed in {call}")

    def warm_up(self) -> str:
        return ""

    def memory(self) -> Memory:
        return Memory(1, 1, None)

    def round(self, runs: int, seconds: float, draws: int = 0) -> Round:
        self._meet("round")
        self.taken.append(self.key)
        took = [self.seconds.get(self.key, 0.001) * (1 + index / 1000) for index in range(10)]
        return Round(took, {"infer": took})

    def throughput(self, seconds: float) -> Throughput:
        return Throughput(1.0, 1.0, 1)

    def pause(self) -> None:
        pass

    def close(self) -> None:
        self.open_now.discard(self.key)

    def __enter__(self) -> Standing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> type[Standing]:
    monkeypatch.setattr(matrix, "Worker", Standing)
    for name, value in (
        ("seconds", {}),
        ("alone_only", frozenset()),
        ("fails", {}),
        ("open_now", set()),
        ("taken", []),
    ):
        monkeypatch.setattr(Standing, name, value)
    return Standing


def files(tmp_path: Path, count: int) -> list[Planned]:
    """Cells of files with different content."""
    made = [tmp_path / f"m{index}.onnx" for index in range(count)]
    for index, path in enumerate(made):
        path.write_bytes(bytes([index]))
    return [planned(path) for path in made]


def test_a_round_of_each_comes_before_the_second_round_of_any(standing: type[Standing], tmp_path: Path) -> None:
    cells = files(tmp_path, 3)
    run(tmp_path / "out", cells, replace(SETTINGS, rounds=3))
    order = [cell.key for cell in cells]
    assert standing.taken == [*order, *order[1:], order[0], order[2], *order[:2]]


def test_what_does_not_fit_takes_its_turns_later_with_the_first_beside_it(
    standing: type[Standing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "GROUP", 2)
    cells = files(tmp_path, 3)
    run(tmp_path / "out", cells)
    first, second, third = (cell.key for cell in cells)
    assert standing.taken == [first, second, second, first, first, third, third, first]


def test_a_machine_that_changed_between_groups_is_told(
    standing: type[Standing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "GROUP", 2)
    cells = files(tmp_path, 3)

    def slow_down(done: float, text: str) -> None:
        if text == f"opening {cells[2].key}":
            standing.seconds[cells[0].key] = 0.0012

    report, _ = run(tmp_path / "out", cells, show=slow_down)
    noisy = [cell.latency.noisy if cell.latency else "" for cell in report.cells]
    assert noisy[:2] == [None, None]
    assert noisy[2] == f"{cells[0].key} took 20% more beside it than before: the machine changed meanwhile"


def test_what_cannot_be_opened_beside_others_is_tried_alone(standing: type[Standing], tmp_path: Path) -> None:
    cells = files(tmp_path, 3)
    standing.alone_only = frozenset([cells[1].key])
    report, told = run(tmp_path / "out", cells)
    assert told == []
    assert all(cell.latency for cell in report.cells)


def test_force_measures_anew_and_says_nothing_of_the_time_before(standing: type[Standing], tmp_path: Path) -> None:
    cells = files(tmp_path, 1)
    first, _ = run(tmp_path / "out", cells)
    early = structs.replace(first.machine, noise=["somebody compiled."])
    write_report(structs.replace(first, begun="2001-01-01T00:00:00Z", machine=early), tmp_path / "out/report.json")
    standing.taken.clear()
    again, _ = run(tmp_path / "out", cells)
    assert (again.begun, standing.taken) == ("2001-01-01T00:00:00Z", [])
    assert "somebody compiled." in again.machine.noise
    anew, _ = run(tmp_path / "out", cells, force=True)
    assert anew.begun >= first.begun
    assert "somebody compiled." not in anew.machine.noise
    assert standing.taken == [cells[0].key] * 2


@pytest.mark.parametrize("call", ["open", "round"])
def test_a_candidate_that_fails_leaves_the_others_their_turns(
    standing: type[Standing], tmp_path: Path, call: str
) -> None:
    cells = files(tmp_path, 3)
    standing.fails = {cells[1].key: call}
    report, told = run(tmp_path / "out", cells)
    assert told == [f"{cells[1].key}: it failed in {call}"]
    assert [len(cell.latency.rounds) if cell.latency else 0 for cell in report.cells] == [2, 0, 2]
    assert standing.open_now == set()


# ---- references and pictures


def work(tmp_path: Path, backend: str, precision: str, size: int = 64) -> Work:
    cell = Planned("model", backend, precision, size, None, Artefact("model.onnx"))
    return Work(cell, SETTINGS, Store(tmp_path).cell({"of": cell.key}))


def test_the_reference_is_the_plainest_float32_of_the_same_model_and_size(tmp_path: Path) -> None:
    openvino, plain = work(tmp_path, "openvino", "fp32"), work(tmp_path, "onnxruntime", "fp32")
    int8, other = work(tmp_path, "openvino", "int8"), work(tmp_path, "openvino", "int8", 96)
    works = [openvino, plain, int8, other]
    assert [reference_of(each, works) for each in works] == [plain, None, plain, None]


def test_the_pictures_that_differ_most_come_first(tmp_path: Path) -> None:
    """Two candidates on 2x4 pixels, of which two are void: they differ on none, three and one of the other six."""
    truth = np.array([[0, 0, 0, 255], [0, 0, 0, 255]], np.uint8)
    one = np.zeros((2, 4), np.uint8)
    differing = {"same": 0, "most": 3, "some": 1}
    samples = []
    for name, count in differing.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), truth)
        samples.append(Sample(name, tmp_path / f"{name}.jpg", tmp_path / f"{name}.png"))
        other = one.copy()
        other[:, 3] = 1  # on void nobody is wrong
        other.ravel()[[0, 1, 2][:count]] = 1
        for candidate, labels in (("one", one), ("other", other)):
            file = labelled.labels_file(tmp_path / candidate, "set:val", name)
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), labels)
    folders = {name: tmp_path / name for name in ("one", "other")}
    found = pictures.differing("set:val", samples, folders, lambda share, what: None)
    assert [(sample.id, agreement) for sample, agreement in found] == [("most", 0.5), ("some", 5 / 6), ("same", 1.0)]


def test_another_thread_count_and_another_description_are_other_cells(tmp_path: Path, model: Path) -> None:
    from fcn_edge.bench.store import identity

    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC.to_json())
    ways = [(None, None), (None, 1), (spec, None)]
    kept = [
        Store(tmp_path).cell(identity(model, "onnxruntime", "fp32", 32, None, toml, threads)) for toml, threads in ways
    ]
    assert len({each.folder for each in kept}) == 3


def test_of_untrained_weights_speed_alone_is_measured(tmp_path: Path, data: Path) -> None:
    noise = write_onnx(tmp_path / "noise.onnx", replace(SPEC, trained=False))
    report, _ = run(tmp_path / "out", [planned(noise)], replace(SETTINGS, data=(str(data),)))
    (cell,) = report.cells
    assert cell.latency
    assert (cell.failed, cell.accuracy, report.data[0].images) == (None, [], 2)
    assert cell.not_measured["accuracy"] == "its weights are untrained: labels mean nothing"
