"""`fcn-edge run --on`, with real workers: a Ray of two is started on this machine, and one of them is killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_edge.cli import main
from fcn_edge.data import read_image
from fcn_edge.errors import BackendError, UsageError
from fcn_edge.many.cluster import cluster
from fcn_edge.many.work import Job, make_job

PICTURES = 80
FCN_EDGE = [sys.executable, "-m", "fcn_edge.cli.main", "run"]
WORKERS = ("--on", "local", "--workers", "2")
SIZE = ("--size", "257", "--backend", "onnxruntime")


@pytest.fixture(scope="module")
def photos(cat, tmp_path_factory) -> Path:
    """Parts of a photo, each another one."""
    folder = tmp_path_factory.mktemp("photos")
    image = read_image(cat)
    for number in range(PICTURES):
        part = image[number : number + 200, 2 * number : 2 * number + 280]
        cv2.imwrite(str(folder / f"{number:03}.jpg"), part)
    return folder


@pytest.fixture(scope="module")
def plain(photos, tmp_path_factory) -> dict[str, np.ndarray]:
    """What a run without workers makes of them."""
    folder = tmp_path_factory.mktemp("plain")
    shown = subprocess.run([*FCN_EDGE, "--source", photos, "--labels", folder, *SIZE], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return {path.stem: read_mask(path) for path in folder.glob("*.png")}


def read_mask(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    pytest.importorskip("ray.data", reason="pip install -e '.[ray]'")
    command = [*FCN_EDGE, *map(str, arguments), "--json"]
    env = {**os.environ, **environment}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    told, said = process.communicate(timeout=300)
    return process.returncode, json.loads(told) if told else {}, said


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """The whole lines of the manifest, by name; it may still be growing."""
    path = folder / "manifest.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {line["name"]: line for line in lines[1:]}


def first_worker(folder: Path, process: subprocess.Popen[str]) -> int:
    """The process that made the first picture."""
    while process.poll() is None:
        for record in records(folder).values():
            host, pid = record["worker"].split("/")
            assert host == socket.gethostname()
            return int(pid)
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


def test_a_killed_worker_loses_nothing(photos, plain, tmp_path):
    masks = tmp_path / "masks"
    process = start("--source", photos, "--labels", masks, *WORKERS, *SIZE)
    os.kill(first_worker(masks, process), signal.SIGKILL)
    status, told, said = finish(process)
    assert status == 0, said
    assert (told["made"] + told["found"], told["bad"], told["workers"]) == (PICTURES, 0, 2)
    kept = records(masks)
    assert {name: read_mask(masks / f"{name}.png").tolist() for name in kept} == {
        name: mask.tolist() for name, mask in plain.items()
    }
    for name, record in kept.items():
        assert record["sha256"] == sha256(photos / f"{name}.jpg")
        assert [(each["file"], each["sha256"]) for each in record["outputs"]] == [
            (f"{name}.png", sha256(masks / f"{name}.png"))
        ]
    assert len({record["worker"] for record in kept.values()}) >= 2
    assert not [path for path in masks.iterdir() if path.suffix not in (".png", ".jsonl")]


@pytest.mark.slow
def test_a_second_start_does_what_is_missing_and_names_what_is_broken(photos, plain, tmp_path):
    mine, masks = tmp_path / "photos", tmp_path / "masks"
    shutil.copytree(photos, mine)
    command = ("--source", mine, "--labels", masks, "--on", "local", "--workers", "1", *SIZE)
    status, _, said = finish(start(*command))
    assert status == 0, said

    untouched = {name: (masks / f"{name}.png").stat().st_mtime_ns for name in plain if name not in ("003", "007")}
    (masks / "003.png").unlink()
    shutil.copy(mine / "008.jpg", mine / "007.jpg")
    shutil.copy(mine / "009.jpg", mine / "new.jpg")
    (mine / "cut.jpg").write_bytes((mine / "010.jpg").read_bytes()[:2000])
    status, told, said = finish(start(*command))
    assert status == 1
    assert (told["pictures"], told["before"], told["made"], told["bad"]) == (PICTURES + 2, PICTURES - 2, 3, 1)
    assert f"fcn-edge: {mine}/cut.jpg: is not a picture that can be read, or is broken." in said
    assert "Traceback" not in said
    assert records(masks)["cut"]["problem"] in told["problems"]
    assert {name: (masks / f"{name}.png").stat().st_mtime_ns for name in untouched} == untouched
    assert (read_mask(masks / "007.png") == plain["008"]).all()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_a_lost_manifest_costs_no_picture(photos, tmp_path):
    masks, overlays = tmp_path / "masks", tmp_path / "overlays"
    outputs = ("--labels", masks, "--out", overlays)
    process = start("--source", photos, *outputs, *WORKERS, *SIZE)
    first_worker(masks, process)
    process.send_signal(signal.SIGINT)
    status, told, said = finish(process)
    assert status == 130, said
    assert told["interrupted"] == "SIGINT"
    done = records(masks)
    assert 0 < len(done) == told["done"] < PICTURES
    assert {each["file"] for each in done[min(done)]["outputs"]} == {f"{min(done)}.png", f"../overlays/{min(done)}.jpg"}
    (masks / "manifest.jsonl").unlink()
    status, told, said = finish(start("--source", photos, *outputs, *WORKERS, *SIZE))
    assert status == 0, said
    assert told["found"] >= len(done)
    assert told["made"] + told["found"] == PICTURES
    assert len(list(overlays.glob("*.jpg"))) == PICTURES


POISON = """
import os
import numpy

read = numpy.fromfile

def fromfile(file, *arguments, **more):
    if str(file).endswith("007.jpg"):
        os.kill(os.getpid(), 9)
    return read(file, *arguments, **more)

numpy.fromfile = fromfile
"""


@pytest.mark.slow
def test_a_picture_that_kills_its_worker_is_named_and_the_others_are_done(photos, tmp_path):
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "sitecustomize.py").write_text(POISON)
    path = os.pathsep.join([str(tmp_path / "kit"), os.environ.get("PYTHONPATH", "")])
    masks = tmp_path / "masks"
    status, told, said = finish(start("--source", photos, "--labels", masks, *WORKERS, *SIZE, PYTHONPATH=path))
    assert status == 1, said
    assert (told["done"], told["bad"]) == (PICTURES - 1, 1)
    assert f"{photos}/007.jpg: its worker died each time" in said
    assert not (masks / "007.png").exists()


@pytest.mark.slow
def test_a_cluster_is_reached_through_its_client(photos, plain, tmp_path):
    with started_cluster() as address:
        masks = tmp_path / "masks"
        process = start("--source", photos, "--labels", masks, "--on", address, *SIZE)
        os.kill(first_worker(masks, process), signal.SIGKILL)
        status, told, said = finish(process)
        assert status == 0, said
        assert (told["on"], told["made"] + told["found"]) == (address, PICTURES)
        assert (read_mask(masks / "000.png") == plain["000"]).all()


@contextmanager
def started_cluster() -> Iterator[str]:
    """A head of two cores with Ray's client server, in a folder of its own."""
    pytest.importorskip("ray.data", reason="pip install -e '.[ray]'")
    port, client = free_port(), free_port()
    with TemporaryDirectory(prefix="fcn-edge-", ignore_cleanup_errors=True) as folder:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
        command += [f"--port={port}", f"--ray-client-server-port={client}", "--include-dashboard=false"]
        command += [f"--temp-dir={folder}", "--disable-usage-stats", "--node-ip-address=127.0.0.1"]
        head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(client)
            yield f"ray://127.0.0.1:{client}"
        finally:
            head.terminate()
            head.wait(60)


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as tried:
            if not tried.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on {port}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# What needs no workers.


@pytest.fixture
def refused(photos, tmp_path, capsys, monkeypatch):
    """The one line of a command that cannot be done, and its status."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fcn-edge", "run", "--source", str(photos), *arguments])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1, captured.err
        assert not captured.out
        return int(end.value.code or 0), captured.err

    return run


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--on", "local"), 2, "Add --labels FOLDER for masks, or --out FOLDER"),
        (("--on", "local", "--out", "a.mp4"), 2, "--out a.mp4: with --on it is a folder"),
        (("--on", "local", "--labels", "m", "--stable", "--frames", "3"), 2, "--frames, --stable: not with --on"),
        (("--on", "local", "--labels", "m", "--source", "more"), 2, "--on takes one --source"),
        (("--on", "slurm", "--labels", "m"), 2, "--on slurm: is neither local nor an address like ray://"),
        (("--workers", "2", "--labels", "m"), 2, "--workers: goes with --on"),
        (("--on", "local", "--labels", "m", "--classes", "unicorn"), 2, "unicorn"),
        (("--on", "local", "--labels", "m", "--model", "none.onnx"), 1, "none.onnx: no such model file"),
    ],
)
def test_what_makes_no_sense_is_one_line(refused, arguments, status, said):
    got, line = refused(*arguments)
    assert got == status
    assert said in line


@pytest.fixture
def job(tmp_path) -> Job:
    model = dict.fromkeys(("precision", "size", "resize", "refine", "spec", "threads", "url"))
    drawing = {"alpha": 0.5, "keep": None, "heat": None, "legend": True}
    return make_job({**model, "model": "fcn8s-lite", "backend": "auto"}, drawing, None, tmp_path, False)[0]


def test_an_address_with_nobody_behind_it_is_told_with_what_starts_a_head(job):
    pytest.importorskip("ray.data", reason="pip install -e '.[ray]'")
    on = f"ray://127.0.0.1:{free_port()}"
    with (
        pytest.raises(BackendError, match=f"--on {on}: nobody answers there: Connection refused.*ray start"),
        cluster(on, None, job),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"--on ray://head: is no address. Write ray://HOST:PORT"),
        cluster("ray://head", None, job),
    ):
        pass


def test_without_ray_the_line_that_installs_it_is_given(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(BackendError, match=r"ray is not installed: pip install 'ray\[data\]<2.64' grpcio"),
        cluster("local", None, job),
    ):
        pass


def test_the_mark_is_of_what_the_outputs_depend_on(tmp_path, photos):
    def mark(**changes: Any) -> str:
        model = dict.fromkeys(("precision", "size", "resize", "refine", "spec", "threads", "url"))
        drawing = {"alpha": 0.5, "keep": None, "heat": None, "legend": True}
        model |= {"model": "fcn8s-lite", "backend": "auto", **changes}
        return make_job(model, drawing, None, tmp_path, False)[0].mark

    weights = Path(__file__).parents[2] / "fcn_edge" / "weights"
    copy = tmp_path / "copy.onnx"
    shutil.copy(weights / "fcn8s-lite.onnx", copy)
    assert mark() == mark() == mark(threads=1) == mark(model=str(copy))
    assert len({mark(), mark(size=257), mark(model="fcn8s-lite-small"), mark(backend="onnxruntime")}) == 4
