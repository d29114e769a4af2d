from __future__ import annotations

import subprocess
import sys

import pytest

import fcn_edge

COMMANDS = [
    "run", "eval", "train", "export", "calib", "build", "bench", "inspect", "models", "report", "recommend", "doctor",
]  # fmt: skip
FCN_EDGE = [sys.executable, "-m", "fcn_edge.cli.main"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FCN_EDGE, *arguments], capture_output=True, text=True)


def test_version():
    assert run("--version").stdout == f"fcn-edge {fcn_edge.__version__}\n"


def test_help_lists_the_commands_and_loads_nothing_heavy():
    script = (
        "import sys; from fcn_edge.cli.main import app; "
        "heavy = {'numpy', 'cv2', 'av', 'torch', 'rich', 'openvino', 'onnxruntime', 'numba', 'msgspec'}; "
        "print(heavy & set(sys.modules)); app(['--help'], prog_name='fcn-edge')"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("set()\n")
    assert all(f"  {command}" in shown for command in COMMANDS)


def test_no_command_shows_the_help_as_a_usage_error():
    shown = run()
    assert shown.returncode == 2
    assert "Commands:" in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'. Try: fcn-edge --help"),
        (["run", "--nonsense"], "Try: fcn-edge run --help"),
        (["run", "--frames", "many"], "--frames"),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(arguments, words):
    shown = run(*arguments)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("fcn-edge: ")
    assert shown.stderr.count("\n") == 1
    assert words in shown.stderr


@pytest.mark.parametrize("where", ["front", "back"])
def test_debug_shows_the_traceback_wherever_it_stands(where):
    command = ["run", "--source", "nowhere.jpg", "--out", "a.png"]
    shown = run("--debug", *command) if where == "front" else run(*command, "--debug")
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr
    assert "SourceError: nowhere.jpg" in shown.stderr


def test_a_reader_that_leaves_early_is_no_drama():
    script = f"{sys.executable} -m fcn_edge.cli.main models --json | true; exit ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert shown.stderr == ""
    assert shown.returncode in (0, 1)
