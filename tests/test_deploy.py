"""What deploy/ holds does what docs/deploy.md says of it, as far as that shows without systemd."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "fcn-edge@.service"


def settings(path: Path) -> dict[str, str]:
    """NAME=VALUE lines, as systemd reads them."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and line[0] not in "#[")


def test_the_service_runs_its_options_and_tells_systemd_that_all_is_well(tmp_path: Path) -> None:
    options = settings(DEPLOY / "gate.env")["OPTIONS"]
    arguments = shlex.split(settings(UNIT)["ExecStart"].replace("$OPTIONS", options))[1:]
    variables = {"FCN_EDGE_SOURCE": "demo:#live=yes,size=90x160", "NOTIFY_SOCKET": str(tmp_path / "notify")}
    command = [sys.executable, "-m", "fcn_edge", *arguments, "--host", "127.0.0.1", "--port", "0", "--duration", "3"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(variables["NOTIFY_SOCKET"])
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        systemd.setblocking(False)
        told = [systemd.recv(100).decode()]
        while told[-1] != "STOPPING=1":
            told.append(systemd.recv(100).decode())
    assert done.returncode == 0, done.stderr
    assert told[0] == "READY=1"
    assert "WATCHDOG=1" in told
    (video,) = tmp_path.glob("gate-*.mp4")
    assert not video.name.endswith(".part.mp4")


@pytest.mark.debian(**{"systemd-analyze": "systemd"})
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/fcn-edge/bin/fcn-edge", shutil.which("true") or "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.stem in line]) == (0, [])
