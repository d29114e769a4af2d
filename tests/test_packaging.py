"""What leaves this repository: the wheel holds everything a user needs, and works far away from the checkout.

The wheel is installed without its dependencies; a .pth file lends it those of the environment that runs the tests. That
folder's own .pth files are not followed, so the checkout, which is installed editable there, stays out of reach.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fcn_edge

pytest.importorskip("hatchling", reason="hatchling is not there: scripts/test brings it")

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())["project"]
COMMANDS = [
    "run", "eval", "train", "export", "calib", "build", "bench", "inspect", "models", "report", "recommend", "doctor",
]  # fmt: skip
TRAVELLERS = [
    "recipes/*.toml", "recipes/refine/*.toml", "export/*.toml", "engines/*.toml", "calib/*.toml", "examples/*.jpg",
]  # fmt: skip


def build(kind: str, source: Path, to: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(to)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (built,) = to.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; commands run in the empty folder `home` beside its own files."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "env"),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "home").mkdir()
    return folder


def run_there(elsewhere: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(elsewhere / "env" / "bin" / arguments[0]), *arguments[1:]]
    done = subprocess.run(
        command, cwd=elsewhere / "home", env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_wheel_carries_what_commands_read_from_the_repository(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"fcn_edge/_data/{path.relative_to(ROOT)}" for pattern in TRAVELLERS for path in ROOT.glob(pattern)}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "fcn_edge" / "weights").iterdir() if path.is_file()}
    assert wanted
    assert wanted <= names
    assert {Path(name).name for name in names} >= {"LICENSE", "NOTICE", "fcn8s-lite.toml", "cat.jpg", "fcn8s-lite.onnx"}


def test_the_wheel_carries_nothing_else(wheel: Path) -> None:
    allowed = re.compile(r"fcn_edge/.+|fcn_edge-[\w.]+\.dist-info/.+")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if not allowed.fullmatch(name) or "__pycache__" in name] == []
    assert wheel.stat().st_size < 30e6


def test_the_sdist_builds_the_same_wheel_and_holds_the_tests(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again = build("wheel", source, tmp_path / "dist")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())
    wanted = ["tests/conftest.py", "constraints.txt", "scripts/test", "scripts/venv.sh", "README.md", "CHANGELOG.md"]
    assert [name for name in wanted if not (source / name).is_file()] == []


def test_the_installed_wheel_is_not_the_checkout(elsewhere: Path) -> None:
    done = run_there(elsewhere, "python", "-c", "import fcn_edge; print(fcn_edge.__file__, fcn_edge.__version__)")
    where, version = done.stdout.split()
    assert Path(where).is_relative_to(elsewhere)
    assert version == fcn_edge.__version__


def test_the_installed_wheel_segments_its_own_photo(elsewhere: Path) -> None:
    import cv2

    (photo,) = (elsewhere / "env").glob("lib/*/site-packages/fcn_edge/_data/examples/cat.jpg")
    run_there(elsewhere, "fcn-edge", "run", "--source", str(photo), "--out", "cat.png")
    picture = cv2.imread(str(elsewhere / "home" / "cat.png"))
    assert picture is not None
    assert picture.shape == (300, 451, 3)


def test_the_installed_wheel_plays_its_demo(elsewhere: Path) -> None:
    run_there(elsewhere, "fcn-edge", "run", "--source", "demo:", "--frames", "3", "--out", "demo.mp4")
    assert (elsewhere / "home" / "demo.mp4").stat().st_size > 1000


def test_the_installed_wheel_lists_its_models(elsewhere: Path) -> None:
    done = run_there(elsewhere, "fcn-edge", "models", "--json")
    assert "fcn8s-lite" in json.dumps(json.loads(done.stdout))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_installed_wheel_explains_each_command(elsewhere: Path, command: str) -> None:
    assert "--help" in run_there(elsewhere, "fcn-edge", command, "--help").stdout


def test_every_place_and_task_has_its_extra() -> None:
    places = {"cpu", "desktop", "jetson"}
    tasks = {"train", "export", "web", "report", "litert", "giant", "ray", "refine", "triton"}
    tasks |= {"tensorrt", "tensorrt-rtx", "pycuda"}
    assert places | tasks | {"test", "dev"} == set(PROJECT["optional-dependencies"])


def test_no_place_brings_torch_or_a_second_opencv() -> None:
    for place in ("cpu", "desktop", "jetson"):
        wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][place]]
        assert not any(line.startswith("torch") for line in wanted)
        assert sum(line.startswith("opencv") for line in wanted) == (place != "jetson")


def test_what_the_scripts_install_is_held_to_one_version() -> None:
    extras = PROJECT["optional-dependencies"]
    installed = [
        PROJECT["dependencies"],
        *(extras[name] for name in ("cpu", "dev", "test", "train", "export", "litert", "web")),
    ]
    wanted = {re.split(r"[><=;\[ ]", line)[0] for lines in installed for line in lines} - {"fcn-edge"}
    held = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert sorted(wanted - set(held)) == []
