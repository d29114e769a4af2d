"""Live sources with real capturing processes; a clip or demo: that plays at its own rate stands for the camera."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest

from fcn_edge.errors import SourceError
from fcn_edge.video import open_source
from fcn_edge.video.live import LiveSource

PATIENCE = 60  # seconds; only a hang takes as long
SMALL = "demo:#live,size=48x64,rate=50"


def child(source) -> int:
    """The process that captures for it now."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if source._process is not None:
            return source._process._process.pid
        time.sleep(0.01)
    raise AssertionError("no process came")


def is_gone(pid: int) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def open_live(uri: str) -> LiveSource:
    source = open_source(uri)
    assert isinstance(source, LiveSource)
    return source


def test_a_slow_taker_gets_what_is_new_and_the_others_are_counted(make_video):
    path = make_video(frames=60, rate=Fraction(100))
    taken = []
    with open_live(f"{path}#live") as source:
        for frame in source:
            taken.append(frame)
            time.sleep(0.05)

    numbers = [frame.sequence for frame in taken]
    assert numbers == sorted(set(numbers))
    assert source.dropped > 0
    assert len(taken) + source.dropped == numbers[-1] + 1
    assert source.problems == []


def test_frames_hold_the_pictures_that_their_numbers_say(make_video, levels):
    path = make_video(frames=40, rate=Fraction(20))
    with open_live(f"{path}#live") as source:
        frames = list(source)

    shown = [levels(frame.image) for frame in frames]
    offset = shown[0] - frames[0].sequence
    assert shown == [(frame.sequence + offset) % 8 for frame in frames]
    assert all(frame.image.flags.owndata or frame.image.base is not None for frame in frames)
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    assert all(frame.captured <= time.monotonic() for frame in frames)


def test_options_reach_the_capture():
    with open_live("demo:#live,size=48x64,rate=50,flip=90") as source:
        frame = next(iter(source))
    with open_source("demo:#size=48x64") as demo:
        upright = next(iter(demo)).image
    assert frame.image.shape == (64, 48, 3)
    assert source.size == (64, 48)
    assert source.rate == 50
    # The view has moved on a little: corner by corner it is the first one, turned clockwise.
    turned = upright[::-1].transpose(1, 0, 2)
    assert abs(turned.astype(int) - frame.image).mean() < abs(upright.mean() - turned.astype(int)).mean()


class TestLoss:
    def test_a_process_that_is_killed_is_followed_by_another_and_numbers_go_on(self):
        with open_live(SMALL) as source:
            frames = iter(source)
            before = [next(frames).sequence for _ in range(3)]
            pid = child(source)
            os.kill(pid, signal.SIGKILL)
            after = []
            while source.reconnects == 0:
                after.append(next(frames).sequence)

        numbers = before + after
        assert numbers == sorted(set(numbers))
        assert source.reconnects == 1
        assert source.lost_since is None
        assert source.problems == []
        assert is_gone(pid)

    def test_silence_is_a_loss(self):
        with open_live(f"{SMALL},stall=300ms") as source:
            frames = iter(source)
            next(frames)
            pid = child(source)
            os.kill(pid, signal.SIGSTOP)
            while source.reconnects == 0:
                next(frames)
        assert source.reconnects == 1
        assert is_gone(pid)

    def test_while_it_is_lost_it_says_since_when_and_why(self, make_video, tmp_path):
        path = make_video(frames=100)
        with open_live(f"{path}#live,loop,stall=300ms") as source:
            frames = iter(source)
            last = next(frames).captured
            path.rename(tmp_path / "away.mp4")
            os.kill(child(source), signal.SIGKILL)
            end = time.monotonic() + PATIENCE
            while not (source.trouble and "no such file" in source.trouble) and time.monotonic() < end:
                time.sleep(0.01)

            assert source.lost_since is not None
            assert last <= source.lost_since < time.monotonic()
            assert source.trouble is not None
            assert f"{path}: no such file" in source.trouble

            (tmp_path / "away.mp4").rename(path)
            while source.lost_since is not None:
                next(frames)
            assert source.trouble is None

    def test_where_the_time_for_it_is_up_the_frames_end_with_a_problem(self):
        with open_live(f"{SMALL},reconnect=0") as source:
            frames = iter(source)
            next(frames)
            os.kill(child(source), signal.SIGKILL)
            rest = sum(1 for _ in frames)
        assert rest < 1000
        assert len(source.problems) == 1
        assert "demo:: its capturing process was ended by SIGKILL" in source.problems[0]

    def test_what_cannot_be_opened_at_first_is_an_error(self, tmp_path):
        with pytest.raises(SourceError, match=r"nowhere\.mp4: no such file"):
            open_source(f"{tmp_path}/nowhere.mp4#live")

    def test_unless_reconnecting_was_asked_for(self, tmp_path, make_video):
        made = make_video("made.mp4")
        with open_live(f"{tmp_path}/later.mp4#live,reconnect=forever") as source:
            assert source.trouble is not None
            assert "no such file" in source.trouble
            made.rename(tmp_path / "later.mp4")
            assert next(iter(source)).sequence == 0
        assert source.reconnects == 0


class TestEnd:
    def test_closing_ends_an_iteration_that_waits(self, tmp_path):
        with open_live(f"{tmp_path}/never.mp4#live,reconnect=forever") as source:
            closer = threading.Timer(0.1, source.close)
            closer.start()
            assert list(source) == []
            closer.join()

    def test_nothing_is_left_behind(self):
        def left() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), threading.active_count()

        with open_live(SMALL):  # what is loaded once
            pass
        before = left()
        pids = []
        for _ in range(3):
            with open_live(SMALL) as source:
                frames = iter(source)
                kept = [frame.image for frame in islice(frames, 3)]
                pids.append(child(source))
            assert all(image.mean() > 0 for image in kept)  # a frame outlives its source
        assert left() == before
        assert all(is_gone(pid) for pid in pids)

    def test_a_process_that_does_not_react_is_ended_too(self):
        source = open_live(SMALL)
        pid = child(source)
        os.kill(pid, signal.SIGSTOP)
        source.close()
        assert is_gone(pid)

    def test_the_capturing_process_does_not_outlive_a_program_that_is_killed(self):
        script = (
            "import time\nfrom fcn_edge.video import open_source\n"
            f"source = open_source({SMALL!r})\nprint(source._process._process.pid, flush=True)\ntime.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            pid = int(program.stdout.readline())
            program.kill()
        assert is_gone(pid)

    def test_ctrl_c_at_the_keyboard_is_for_the_program_alone(self):
        with open_live(SMALL) as source:
            assert os.getpgid(child(source)) != os.getpgrp()


def test_no_secret_stands_on_the_command_line_of_the_process(tmp_path):
    with open_source(f"rtsp://viewer:geheim@127.0.0.1:1/{tmp_path.name}#reconnect=forever") as source:
        pid = child(source)
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"fcn_edge.video.capture" in line or not line  # empty where it just ended
    assert b"geheim" not in line + environment


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 always looks into the current folder")
def test_modules_in_the_current_folder_are_not_taken_for_ours(tmp_path, monkeypatch):
    (tmp_path / "msgspec.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with open_live(SMALL) as source:
        assert next(iter(source)).sequence == 0
