"""CONTRIBUTING.md's model of one's own works as it is written there, and leaves a file that needs none of it."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch  # noqa: F401 (what the page's model is made of: where it is left out, so are these tests)

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
SECTION = PAGE.partition("## Bring a model of your own")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the page's two files, and what its export command wrote."""
    folder = tmp_path_factory.mktemp("own")
    mine, edge = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    (folder / "mine.py").write_text(mine)
    (folder / "edge.py").write_text(edge)
    (command,) = re.findall(r"`(python edge\.py [^`]*)`", SECTION)
    run(folder, *command.split()[1:])
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_it_takes_three_statements_and_the_call():
    edge = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[1]
    *registration, call = [line for line in edge.splitlines() if line]
    assert len(registration) == 3
    assert call == "main()"


def test_its_file_runs_without_its_code(folder, cat):
    arguments = [
        "--model",
        str(folder / "export" / "mine.onnx"),
        "--source",
        str(cat),
        "--out",
        str(folder / "cat.png"),
    ]
    run(folder.parent, "-m", "fcn_edge", "run", *arguments)
    picture = cv2.imread(str(folder / "cat.png"))
    assert picture is not None
    assert picture.shape == (300, 451, 3)


def test_the_command_lists_it(folder):
    assert "mine" in run(folder, "edge.py", "models").stdout
