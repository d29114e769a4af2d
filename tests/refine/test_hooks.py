"""What a back end changes on the way from a frame to a figure, told by the fastest of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import SPEC, random_frames, write_onnx

from fcn_edge import Segmenter
from fcn_edge.bench.candidates import Named, Words, expand
from fcn_edge.bench.store import identity
from fcn_edge.cli import main
from fcn_edge.errors import ModelError, UsageError
from fcn_edge.prepare import Ending
from fcn_edge.refine import REFINES, open_refine
from fcn_edge.report import interactive, still, tables
from fcn_edge.segmenter import STAGES
from fcn_edge.spec import Grid, Output


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "tiny.onnx")


def halves(height: int, width: int) -> np.ndarray:
    """Black at the left, green at the right."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, width // 2 :, 1] = 255
    return frame


class Noting:
    """A back end that keeps what it is given, and says that all is class 2."""

    name = "noting"

    def __init__(self) -> None:
        self.given: list[tuple[np.ndarray, np.ndarray, Ending, Grid]] = []

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
        self.given.append((scores, frame, ending, grid))
        return np.full(frame.shape[:2], 2, np.uint8)


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Noting:
    opened = Noting()
    monkeypatch.setattr("fcn_edge.segmenter.open_refine", lambda name: opened)
    return opened


def test_its_labels_take_the_place_of_decoded_ones(tiny: Path, noting: Noting) -> None:
    frame = random_frames(40, 64, 3)
    with Segmenter(tiny, precision="fp32", refine="noting") as segmenter:
        result = segmenter(frame)
        streamed = list(segmenter.stream([frame, frame]))
    assert segmenter.refine == "noting"
    for each in (result, *streamed):
        assert (each.labels == 2).all()
        assert each.labels.shape == (40, 64)
    scores, seen, ending, grid = noting.given[0]
    assert scores is result.scores
    assert seen is frame
    assert (ending.labels, grid) == ((40, 64), "half_pixel")


def test_of_a_letterboxed_frame_it_gets_the_scores_that_lie_on_it(tiny: Path, noting: Noting) -> None:
    with Segmenter(tiny, precision="fp32", resize="letterbox", refine="noting") as segmenter:
        segmenter(random_frames(16, 64, 3))
    scores, _, ending, _ = noting.given[0]
    assert scores.shape[1:] == ending.used == (8, 32)


def test_scores_that_were_steadied_are_refined(tiny: Path, noting: Noting) -> None:
    with Segmenter(tiny, precision="fp32", refine="noting") as segmenter:
        result = segmenter.segment(random_frames(16, 32, 3), lambda scores, frame, ending: scores * 0)
    assert not noting.given[0][0].any()
    assert list(result.timings) == ["prepare", "infer", "steady", "refine"]


def test_its_time_is_the_stage_refine_and_nothing_is_decoded(tiny: Path) -> None:
    with Segmenter(tiny, precision="fp32", refine="guided") as segmenter:
        timings = segmenter(halves(90, 120)).timings
    assert list(timings) == ["prepare", "infer", "refine"]
    assert set(timings) <= set(STAGES)
    assert timings["refine"] > 0


@pytest.mark.parametrize("name", REFINES)
def test_every_back_end_gives_labels_of_the_frames_size_in_every_layout(tiny: Path, name: str) -> None:
    if name == "mrf":
        pytest.importorskip("ortools")
    for resize in ("fit", "stretch", "native", "letterbox"):
        with Segmenter(tiny, precision="fp32", resize=resize, refine=name) as segmenter:  # type: ignore[arg-type]
            for size in ((48, 80), (33, 17), (1, 1)):
                labels = segmenter(halves(*size)).labels
                assert (labels.shape, labels.dtype, labels.flags.c_contiguous) == (size, np.uint8, True)
                assert labels.max() < len(SPEC.classes)
    assert open_refine(name).name == name


def test_a_model_of_finished_labels_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "labels.onnx", replace(SPEC, output=Output(kind="labels")), labels=True)
    with pytest.raises(ModelError, match=r"labels\.onnx: gives finished labels.*--refine guided.*--output scores"):
        Segmenter(file, precision="fp32", refine="guided")


def test_an_unknown_name_is_answered_with_the_known_ones(tiny: Path) -> None:
    with pytest.raises(UsageError, match="crf, guided, mrf"):
        Segmenter(tiny, refine="sharpen")


def test_without_a_back_end_none_is_loaded(tiny: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy; from fcn_edge import Segmenter; "
        f"Segmenter({str(tiny)!r}, precision='fp32')(numpy.zeros((9, 9, 3), numpy.uint8)); "
        "print([name for name in sys.modules if name.startswith('fcn_edge.refine.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['fcn_edge.refine.protocol']"


def test_run_tells_which_back_end_it_was_and_how_long_it_took(
    tiny: Path, cat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cat.png"
    code, document, _ = fcn_edge(
        ["run", "--source", str(cat), "--model", str(tiny), "--refine", "guided", "--out", str(out), "--json"],
        capsys,
        monkeypatch,
    )
    told = json.loads(document)
    assert (code, told["refine"]) == (0, "guided")
    assert "refine" in told["stages_ms"]
    assert "decode" not in told["stages_ms"]
    assert out.is_file()


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["run", "--source", "demo:", "--out", "a.mp4", "--refine", "sharpen"], 2, "no refine 'sharpen'"),
        (["run", "--source", "demo:", "--out", "a.mp4", "--model", "labels.onnx", "--refine", "crf"], 1, "Export it"),
        (["bench", "--out", "report", "--refine", "none,sharpen"], 2, "crf, guided, mrf, none"),
        (["eval", "--data", "nowhere", "--boundary", "1,wide"], 2, "--boundary 1,wide"),
        (["eval", "--data", "nowhere", "--boundary", "1000"], 2, "0 to 100"),
    ],
)
def test_what_cannot_be_is_one_line(
    command: list[str],
    status: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_onnx(tmp_path / "labels.onnx", replace(SPEC, output=Output(kind="labels")), labels=True)
    code, out, err = fcn_edge(command, capsys, monkeypatch)
    assert (code, out, err.count("\n")) == (status, "", 1)
    assert words in err
    assert not (tmp_path / "a.mp4").exists()


def test_a_matrix_has_a_cell_with_and_one_without(tiny: Path) -> None:
    cells = expand(Words((Named(str(tiny)),), ("onnxruntime",), ("fp32",), refines=(None, "guided")))
    assert [cell.key for cell in cells] == ["tiny.onnx onnxruntime fp32 32", "tiny.onnx onnxruntime fp32 32 guided"]
    assert [cell.refine for cell in cells] == [None, "guided"]


def test_what_was_measured_with_one_back_end_is_not_taken_for_another(tiny: Path) -> None:
    computed = tiny, "onnxruntime", "fp32", 32, None, None, None
    plain, guided, crf = (identity(*computed, refine) for refine in (None, "guided", "crf"))
    assert "refine" not in plain
    assert len({json.dumps(each, default=str) for each in (plain, guided, crf)}) == 3


def test_every_stage_has_a_look_of_its_own_in_the_plots() -> None:
    drawn = {*STAGES, "draw"} - {"steady"}
    assert drawn == set(tables.STAGES)
    assert len(drawn) <= min(map(len, (still.HATCHES, interactive.PATTERNS, interactive.COLORS)))


def fcn_edge(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["fcn-edge", *arguments])
    with pytest.raises(SystemExit) as end:
        main.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err
