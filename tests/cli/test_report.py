"""`fcn-edge report`: the examples of its help as they stand, and its refusals."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import reports

pytest.importorskip("plotly", reason="the page's extra is not there: pip install -e '.[report]'")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from fcn_edge.cli.report import EPILOG

EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]


def fcn_edge(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fcn_edge", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    reports.written(tmp_path / "bench", reports.brief(), pictures=True)
    reports.written(tmp_path / "orin", reports.brief("Orin"))
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_works_as_it_stands(example: str, measured: Path) -> None:
    done = fcn_edge(*shlex.split(example)[1:], cwd=measured)
    assert done.returncode == 0, done.stderr
    if "--json" in example:
        files = [Path(name) for name in json.loads(done.stdout)["files"]]
        assert all((measured / file).is_file() and file.parent == Path("both") for file in files)
        assert "Orin" in (measured / "both" / "report.html").read_text()
    else:
        assert done.stdout == "bench/report.html: open it in a browser; 9 more files beside it\n"
        assert (measured / "bench" / "report.html").stat().st_size > 1e6


def test_the_help_shows_two_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nowhere"], 1, "nowhere cannot be read: No such file or directory."),
        (["empty"], 1, "empty/report.json cannot be read"),
        (["notes.txt"], 1, "notes.txt is no report of fcn-edge"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments: list[str], status: int, words: str, measured: Path) -> None:
    (measured / "empty").mkdir()
    (measured / "notes.txt").write_text("notes")
    done = fcn_edge("report", *arguments, cwd=measured)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert done.stderr.startswith("fcn-edge: ")
    assert done.stderr.count("\n") == 1
