"""scripts/venv.sh finds an interpreter that really works, among those that only seem to.

Each test gives it a PATH of its own: the shell's tools, and Pythons that are real ones, or stand-ins for what pyenv and
Debian leave lying about.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
TOOLS = ["sh", "dirname", "uname", "cat", "cksum", "grep", "pwd"]
BROKEN_SHIM = "#!/bin/sh\necho 'pyenv: python: command not found' >&2\nexit 127\n"
TOO_OLD = "#!/bin/sh\nexit 1\n"  # what `sys.exit(sys.version_info < (3, 10))` answers
WITHOUT_VENV = f'#!/bin/sh\nPYTHONPATH="$(dirname "$0")/broken" exec {sys.executable} "$@"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with scripts/venv.sh, a script `make` that calls it, and `bin`, which PATH will name."""
    checkout = tmp_path / "a checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPTS / "venv.sh", checkout / "scripts")
    (checkout / "scripts" / "make").write_text('. "$(dirname "$0")/venv.sh"\nmake_venv\n')
    (checkout / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is not None:
            (checkout / "bin" / tool).symlink_to(found)
    return checkout


def stand_in(checkout: Path, name: str, script: str) -> None:
    path = checkout / "bin" / name
    path.write_text(script)
    path.chmod(0o755)


def make_venv(checkout: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(checkout / "bin")}
    command = ["/bin/sh", str(checkout / "scripts" / "make")]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def test_a_shim_that_fails_is_passed_over(checkout: Path) -> None:
    stand_in(checkout, "python3.11", BROKEN_SHIM)
    stand_in(checkout, "python3.12", TOO_OLD)
    stand_in(checkout, "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    done = make_venv(checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Making .venv with python3: ")
    assert os.access(checkout / ".venv" / "bin" / "python", os.X_OK)


def test_a_venv_that_works_is_kept(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    done = make_venv(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_python_is_one_line(checkout: Path) -> None:
    done = make_venv(checkout)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "CPython 3.10 or newer with venv is needed. Debian, Ubuntu: sudo apt install python3-venv"
    ]
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_named_in_the_line_that_mends_it(checkout: Path) -> None:
    (checkout / "bin" / "broken").mkdir()
    (checkout / "bin" / "broken" / "ensurepip.py").write_text("raise ImportError('Debian ships this apart')\n")
    stand_in(checkout, "python3.11", WITHOUT_VENV)
    done = make_venv(checkout)
    assert done.returncode == 1
    assert done.stderr.endswith("sudo apt install python3.11-venv\n")


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.iterdir() if path.is_file()))
def test_each_script_is_short_and_parses(script: str) -> None:
    subprocess.run(["/bin/sh", "-n", str(SCRIPTS / script)], check=True)
    assert len((SCRIPTS / script).read_text().splitlines()) < 30
