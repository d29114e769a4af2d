"""Real processes with a real runtime in them, ended in the ways that runtimes end."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny

from fcn_edge.bench import labelled, subject
from fcn_edge.bench.child import answer
from fcn_edge.bench.messages import Open, TakeRound, TellMemory
from fcn_edge.bench.nvml import Nvml
from fcn_edge.bench.subject import Subject
from fcn_edge.bench.worker import Candidate, Opened, Worker
from fcn_edge.data import read_mask
from fcn_edge.errors import BackendError, DataError, ModelError, SinkError, SpecError, UsageError
from fcn_edge.files import sha256
from fcn_edge.segmenter import Segmenter

FRAME = (48, 64)
LIMIT = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def candidate(model: Path) -> Candidate:
    return Candidate("tiny onnxruntime fp32 32", model, "onnxruntime", "fp32", 32, threads=2, name="tiny.onnx")


@pytest.fixture(scope="module")
def pair(candidate: Candidate) -> Iterator[tuple[Worker, Opened]]:
    with Worker(candidate, None, FRAME, LIMIT) as worker:
        yield worker, worker.open()


@pytest.fixture
def worker(pair: tuple[Worker, Opened]) -> Worker:
    """One that no test harms."""
    return pair[0]


@pytest.fixture
def victim(candidate: Candidate) -> Iterator[Worker]:
    with Worker(candidate, None, FRAME, LIMIT) as worker:
        worker.open()
        yield worker


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures that the network labels as their masks say, but for four of their 8 x 12 pixels."""
    root = tmp_path_factory.mktemp("set")
    for part in ("images", "masks"):
        (root / part).mkdir()
    (root / "classes.txt").write_text("\n".join(tiny.SPEC.classes))
    truth = np.repeat(np.arange(4, dtype=np.uint8), 3)[None].repeat(8, 0)
    for name in ("a", "b"):
        picture = np.zeros((8, 12, 3), np.uint8)
        for channel in range(3):
            picture[..., channel][truth == channel + 1] = 255
        mask = truth.copy()
        if name == "b":
            mask[:4, 0] = 3
        cv2.imwrite(str(root / "images" / f"{name}.png"), picture)
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    return root


def later(act: Callable[[], object], seconds: float = 0.4) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def state(pid: int) -> str:
    """As Linux has it: S sleeps, R runs, T is stopped, Z is dead; "" is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def comes(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


# ---- what it measures


def test_opening_tells_what_the_candidate_is(pair: tuple[Worker, Opened], model: Path) -> None:
    worker, opened = pair
    assert (opened.backend, opened.precision, opened.network) == ("onnxruntime", "fp32", (24, 32))
    assert opened.device.endswith("2 threads")
    assert (opened.sha256, opened.bytes) == (sha256(model), model.stat().st_size)
    assert (opened.spec_name, opened.classes, opened.trained) == ("tiny", list(tiny.SPEC.classes), True)
    assert opened.load > 0
    assert opened.first > 0
    with pytest.raises(BackendError, match="is open already"):
        worker.open()


def test_a_round_holds_every_run_and_its_stages(worker: Worker) -> None:
    assert "runs in" in worker.warm_up()
    taken = worker.round(20, 0.05, draws=3)
    assert len(taken.total) >= 20
    assert {name: len(each) for name, each in taken.stages.items()} == {
        **dict.fromkeys(("prepare", "infer", "decode"), len(taken.total)),
        "draw": 3,
    }
    for total, *stages in zip(
        taken.total, *(taken.stages[name] for name in ("prepare", "infer", "decode")), strict=True
    ):
        assert 0 < sum(stages) <= total
    assert "draw" not in worker.round(1, 0.0, draws=0).stages


def test_the_best_throughput_is_of_one_of_the_ways(worker: Worker) -> None:
    found = worker.throughput(0.2)
    assert found.best >= found.alone > 0
    assert (found.how, found.concurrency) in [
        ("one at a time", 1),
        ("a stream with two in flight", 2),
        ("2 Segmenters side by side", 2),
    ]


def test_memory_is_that_of_the_candidates_own_process(worker: Worker) -> None:
    memory = worker.memory()
    assert memory.host is not None
    assert memory.base is not None
    assert 2**20 < memory.base <= memory.host < 2**32
    before = memory.host
    worker.throughput(0.1)  # several Segmenters are another matter
    assert worker.memory().host == before


def test_device_memory_is_what_opening_and_running_added(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no GPU can be had, a stand-in for what its driver tells, and for the backend's word of where it is."""
    used = iter([5000, 7000, 7500, 7200])
    monkeypatch.setattr(subject, "device_memory", lambda: next(used))
    there = Subject(lambda *_: None)
    there.do(Open(str(model), "onnxruntime", None, None, None, None, None, None, FRAME))
    there.do(TakeRound(1, 0.0, 0))
    there.do(TakeRound(1, 0.0, 0))
    assert there.do(TellMemory()).device is None  # it is on the CPU
    monkeypatch.setattr(there._opened.backend, "device", "GPU: a stand-in")
    assert there.do(TellMemory()).device == 2500


def test_the_driver_tells_what_is_used_of_a_gpus_memory() -> None:
    class Driver:
        """A stand-in for NVIDIA's management library."""

        nvmlInit_v2 = nvmlShutdown = nvmlDeviceGetHandleByIndex_v2 = staticmethod(lambda *_: 0)

        @staticmethod
        def nvmlDeviceGetMemoryInfo(gpu: Any, into: Any) -> int:
            into._obj[:] = (10, 3, 7)  # total, free, used
            return 0

    assert Nvml(Driver()).used_bytes() == 7
    silent = Driver()
    silent.nvmlDeviceGetMemoryInfo = lambda *_: 3  # type: ignore[method-assign] (NVML_ERROR_NOT_SUPPORTED)
    assert Nvml(silent).used_bytes() is None


def test_accuracy_is_that_of_the_artefact(worker: Worker, data: Path, tmp_path: Path) -> None:
    (found,) = worker.evaluate([str(data)], keep=tmp_path / "kept")
    assert (found.data, found.images, found.agreement) == (data.name, 2, None)
    assert found.pixel_accuracy == pytest.approx(1 - 4 / 192)
    assert found.per_class_iou == pytest.approx({"dark": 44 / 48, "blue": 1, "green": 1, "red": 48 / 52})
    assert found.mean_iou == pytest.approx((44 / 48 + 48 / 52 + 2) / 4)
    labels = labelled.labels_file(tmp_path / "kept", found.data, "b")
    assert read_mask(labels).tolist() == np.repeat(np.arange(4), 3)[None].repeat(8, 0).tolist()


def test_accuracy_may_be_over_some_classes_and_pictures(worker: Worker, data: Path) -> None:
    (found,) = worker.evaluate([str(data)], classes=["blue"], limit=1)
    assert (found.images, found.mean_iou) == (1, 1.0)
    with pytest.raises(UsageError, match="no class 'pink'"):
        worker.evaluate([str(data)], classes=["pink"])


def test_agreement_is_with_the_labels_that_another_kept(worker: Worker, data: Path, tmp_path: Path) -> None:
    worker.evaluate([str(data)], keep=tmp_path)
    labels = labelled.labels_file(tmp_path, data.name, "a")
    changed = read_mask(labels)
    changed[0, :6] = 3  # 6 of 192 pixels
    labelled.write_labels(labels, changed)
    (found,) = worker.evaluate([str(data)], reference=tmp_path)
    assert found.agreement == pytest.approx(1 - 6 / 192)


def test_errors_come_back_as_they_are(worker: Worker, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        worker.evaluate([str(tmp_path / "none")])
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"cannot be written: Not a directory"):
        worker.evaluate([str(data)], keep=tmp_path / "file")
    assert len(worker.round(1, 0.0).total) >= 1  # it is as well as before


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"model": "none.onnx"}, ModelError),
        ({"model": "broken.onnx"}, ModelError),
        ({"model": "bare.onnx"}, SpecError),
        ({"backend": "abacus"}, UsageError),
        ({"precision": "int8"}, BackendError),
        ({"resize": "native", "size": 32}, UsageError),
    ],
)
def test_what_cannot_be_opened_says_what_segmenter_says(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], kind: type[Exception]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.onnx").write_bytes(b"no model")
    tiny.write_onnx(Path("bare.onnx"), None)
    given = {"model": str(model), "backend": "onnxruntime", "precision": None, "size": None, "resize": None, **changed}
    with pytest.raises(kind) as ours:
        Segmenter(**given).segment(np.zeros((*FRAME, 3), np.uint8))
    told = answer(Subject(lambda *_: None), Open(**given, spec=None, threads=None, frame=None, frame_size=FRAME))
    assert told.error == (kind.__name__, str(ours.value))


def test_what_a_runtime_raises_is_one_line_too(capfd: pytest.CaptureFixture[str]) -> None:
    class Failing(Subject):
        def do(self, request: Any) -> Any:
            raise request

    def said(error: Exception) -> Any:
        return answer(Failing(lambda *_: None), error).error  # type: ignore[arg-type]

    assert said(RuntimeError("no kernel\nat 0xdead")) == ("BackendError", "it failed with RuntimeError: no kernel.")
    assert "RuntimeError: no kernel" in capfd.readouterr().err
    assert "not enough memory" in said(MemoryError())[1]


def test_a_frame_is_the_middle_of_the_picture_at_the_size_asked_for(tmp_path: Path) -> None:
    from fcn_edge.bench.subject import read_frame

    picture = np.zeros((10, 40, 3), np.uint8)
    picture[:, 15:25] = 200
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    frame = read_frame(str(tmp_path / "picture.png"), (20, 20))
    assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((20, 20, 3), np.uint8, True)
    assert frame[:, 3:-3].min() > 190
    assert read_frame(None, (7, 1000)).shape == (7, 1000, 3)
    with pytest.raises(DataError, match="no such file"):
        read_frame(str(tmp_path / "none.png"), (20, 20))


# ---- how it ends


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGSEGV, r"crashed \(SIGSEGV\) while being timed"), (signal.SIGKILL, r"was killed .*\(?SIGKILL")],
)
def test_a_crash_is_one_line_and_takes_nothing_along(victim: Worker, number: signal.Signals, said: str) -> None:
    pid = victim.pid
    assert pid is not None
    later(lambda: os.kill(pid, number))
    with pytest.raises(BackendError, match=f"^tiny onnxruntime fp32 32: its process {said}") as caught:
        victim.round(1, 60.0)
    assert "\n" not in str(caught.value)
    assert victim.pid is None
    with pytest.raises(BackendError, match="is not running: its process"):
        victim.round(1, 0.0)
    victim.pause()  # neither this nor closing it is an error
    assert state(pid) == ""


def test_what_hangs_is_ended_at_the_limit(victim: Worker) -> None:
    pid = victim.pid
    assert pid is not None
    victim.limit = 2.0
    later(lambda: os.kill(pid, signal.SIGSTOP))
    with pytest.raises(
        BackendError, match=r"gave no sign of life for 2 s while being timed, and was ended\. Take a sm"
    ):
        victim.round(1, 60.0)
    assert state(pid) == ""


def test_work_that_takes_longer_than_the_limit_goes_on(worker: Worker) -> None:
    worker.limit = 2.0
    assert sum(worker.round(1, 2.5).total) > 2.0
    worker.limit = LIMIT


def test_running_out_of_memory_is_one_line(victim: Worker, data: Path, tmp_path: Path) -> None:
    assert victim.pid is not None
    pages = int(Path(f"/proc/{victim.pid}/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + 2**24
    resource.prlimit(victim.pid, resource.RLIMIT_AS, (room, room))
    large = tmp_path / "large"
    for part in ("images", "masks"):
        (large / part).mkdir(parents=True)
    (large / "classes.txt").write_text("\n".join(tiny.SPEC.classes))
    cv2.imwrite(str(large / "images/a.png"), np.zeros((4000, 6000, 3), np.uint8))
    cv2.imwrite(str(large / "masks/a.png"), np.zeros((4000, 6000), np.uint8))
    with pytest.raises((BackendError, DataError)) as caught:
        victim.evaluate([str(large)])
    assert "\n" not in str(caught.value)


def test_what_it_last_said_is_in_the_line(candidate: Candidate, model: Path, tmp_path: Path) -> None:
    """A library that prints and ends the process: a file of its name that Python finds first."""
    (tmp_path / "onnxruntime.py").write_text(
        "import os, sys\nprint('to stdout', flush=True)\nprint('cannot go on', file=sys.stderr)\nos._exit(3)\n"
    )
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        with Worker(candidate, None, FRAME, LIMIT) as worker, pytest.raises(BackendError) as caught:
            worker.open()
    finally:
        os.chdir(here)
    said = "its process ended with status 3 while being opened. It last said: cannot go on"
    assert str(caught.value) == f"tiny onnxruntime fp32 32: {said}"


def test_while_paused_it_takes_no_core_and_the_next_call_wakes_it(worker: Worker) -> None:
    pid = worker.pid
    assert pid is not None
    worker.pause()
    assert comes(lambda: state(pid) == "T")
    assert len(worker.round(1, 0.0).total) >= 1
    assert state(pid) in ("S", "R")


def test_closing_ends_it_even_while_paused(candidate: Candidate) -> None:
    worker = Worker(candidate, None, FRAME, LIMIT)
    worker.close()  # before it was opened
    worker.open()
    pid = worker.pid
    assert pid is not None
    worker.pause()
    worker.close()
    worker.close()
    assert state(pid) == ""
    with pytest.raises(BackendError, match="is not running"):
        worker.warm_up()


def test_ctrl_c_is_for_the_one_who_measures(worker: Worker) -> None:
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert len(worker.round(1, 0.0).total) >= 1


def test_it_does_not_outlive_who_measures(model: Path) -> None:
    script = (
        "import sys, time; from fcn_edge.bench.worker import *\n"
        f"worker = Worker(Candidate('a', {str(model)!r}, 'onnxruntime', None, 32), None, (48, 64), 60)\n"
        "worker.open(); worker.pause(); print(worker.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert comes(lambda: state(pid) in ("", "Z"))


# ---- labelled sets


def test_a_set_is_called_by_its_folder_and_list(data: Path) -> None:
    assert labelled.name(str(data)) == data.name
    assert labelled.name(f"{data}/", "val") == f"{data.name}:val"
    assert labelled.name("some/VOC2012:train,val") == "VOC2012:train,val"


def test_the_same_pictures_are_known_wherever_they_lie(data: Path, tmp_path: Path) -> None:
    import shutil

    here, there = labelled.describe(str(data)), labelled.describe(shutil.copytree(data, tmp_path / "copy").as_posix())
    assert (here.images, here.classes) == (2, list(tiny.SPEC.classes))
    assert here.identity == there.identity
    assert labelled.describe(str(data), limit=1).identity != here.identity
    assert labelled.describe(str(data), classes=["red"]).over == ["red"]
    cv2.imwrite(str(tmp_path / "copy/masks/a.png"), np.zeros((8, 12), np.uint8))
    assert labelled.describe(str(tmp_path / "copy")).identity != here.identity
    (tmp_path / "copy/masks/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: not readable"):
        labelled.describe(str(tmp_path / "copy"))
