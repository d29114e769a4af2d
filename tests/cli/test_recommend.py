"""`fcn-edge recommend`: the examples of its help as they stand, its bounds and its exit status."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import reports

from fcn_edge.cli.recommend import EPILOG

EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]


def fcn_edge(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fcn_edge", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    cells = [*reports.cells(), reports.cell("quick", median=0.012, val=0.76, clean=0.5)]
    reports.written(tmp_path / "bench", reports.report(cells=cells))
    reports.written(tmp_path / "orin", reports.full("Orin"))
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_works_as_it_stands(example: str, measured: Path) -> None:
    done = fcn_edge(*shlex.split(example)[1:], cwd=measured)
    assert done.returncode == 0, done.stderr
    if "--json" in example:
        document = json.loads(done.stdout)
        assert document["bounds"] == {"min_miou": None, "max_latency": 0.04, "max_memory": 1e9, "data": None}
        first, second = document["boards"]
        assert (first["board"], first["candidate"]["model"]) == ("2x a CPU", "quick")
        assert (second["board"], second["candidate"]["model"]) == ("Orin", "lite")
        assert first["candidate"]["mean_iou"] == {"voc:val": 0.76, "extra:coco": 0.5}
        assert second["candidate"]["memory"] == 350_000_000
        assert "Orin: lite, openvino, int8, size 513" in done.stderr
    else:
        assert done.stdout.splitlines()[0] == "2x a CPU: quick, openvino, int8, size 513"


def test_the_help_shows_two_examples() -> None:
    assert len(EXAMPLES) == 2


def test_a_board_where_nothing_fits_is_an_exit_of_1_beside_the_others_answer(measured: Path) -> None:
    done = fcn_edge("recommend", "--min-miou", "0.76", "--json", "bench", "orin", cwd=measured)
    assert done.returncode == 1
    assert [each["candidate"] and each["candidate"]["model"] for each in json.loads(done.stdout)["boards"]] == [
        "quick",
        None,
    ]
    assert "fcn-edge: Orin: nothing fits. Nearest, missing accuracy alone: large" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["bench"], 2, "name a bound: --min-miou"),
        (["--max-latency", "20", "bench"], 2, "--max-latency 20 needs a number above 0 and a unit of us, ms, s"),
        (["--max-latency", "0ms", "bench"], 2, "--max-latency 0ms needs"),
        (["--max-memory", "1TB", "bench"], 2, "--max-memory 1TB needs"),
        (["--min-miou", "75", "bench"], 2, "--min-miou"),
        (["--min-miou", "0.5", "--data", "val", "bench"], 2, "there is no data 'val'. Known: extra:coco, voc:val"),
        (["--min-miou", "0.99", "bench"], 1, "2x a CPU: nothing fits."),
        (["--min-miou", "0.5", "nowhere.json"], 1, "nowhere.json cannot be read"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments: list[str], status: int, words: str, measured: Path) -> None:
    done = fcn_edge("recommend", *arguments, cwd=measured)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert done.stderr.startswith("fcn-edge: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["20ms", "20 ms", "0.02s", ".02 S", "20000us"])
def test_units_of_time_mean_the_same(text: str, measured: Path) -> None:
    done = fcn_edge("recommend", "--max-latency", text, "--json", "bench", cwd=measured)
    assert json.loads(done.stdout)["bounds"]["max_latency"] == pytest.approx(0.02)
