from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fcn_edge.errors import SinkError
from fcn_edge.spec import voc_palette
from fcn_edge.video import Frame, open_source
from fcn_edge.video.recording import VideoSink
from fcn_edge.video.sinks import LabelSink, PictureFolderSink, PictureSink, Result, StatsSink
from fcn_edge.video.writing import MARK

NOTE = f"{MARK} with a test"
PALETTE = voc_palette(21)


def result(picture: np.ndarray, number: int = 0, time: Fraction = Fraction(0), labels=None) -> Result:
    if labels is None:
        labels = np.zeros(picture.shape[:2], np.uint8)
    return Result(Frame(picture, number, time, f"frame_{number}"), labels, picture, {"cat": 0.25}, {"infer": 0.01})


def pixels(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


class TestLabels:
    def test_the_mask_holds_indices_and_the_palette(self, tmp_path):
        labels = np.random.default_rng(0).integers(0, 21, (37, 53), np.uint8)
        labels[0, 0] = 255
        with LabelSink(tmp_path / "masks", PALETTE, False, NOTE) as sink:
            sink.write(result(np.zeros((37, 53, 3), np.uint8), labels=labels))

        (path,) = (tmp_path / "masks").iterdir()
        with av.open(str(path)) as container:
            (frame,) = container.decode(video=0)
        indices, colours = frame.to_ndarray(format="pal8")
        assert path.name == "frame_0.png"
        assert (indices == labels).all()
        assert (colours[:21, 1:] == PALETTE).all()
        expected = np.array([*PALETTE, *[(255, 255, 255)] * 235], np.uint8)[labels][..., ::-1]
        assert (pixels(path) == expected).all()

    def test_frames_of_different_sizes_follow_each_other(self, tmp_path):
        with LabelSink(tmp_path, PALETTE, False, NOTE) as sink:
            for number, side in enumerate((5, 9, 5)):
                sink.write(result(np.zeros((side, 7, 3), np.uint8), number))
        assert [pixels(path).shape for path in sorted(tmp_path.iterdir())] == [(5, 7, 3), (9, 7, 3), (5, 7, 3)]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_a_picture_is_written_as_its_name_says(tmp_path, suffix):
    picture = np.full((20, 30, 3), (30, 200, 90), np.uint8)
    with PictureSink(tmp_path / f"a{suffix}", False, NOTE) as sink:
        sink.write(result(picture))
    assert np.abs(pixels(tmp_path / f"a{suffix}").astype(int) - picture).max() <= 6


def test_stats_are_a_header_a_line_a_frame_and_a_summary(tmp_path):
    with StatsSink(tmp_path / "s.jsonl", {"model": "m"}, lambda: {"frames": 1}, False) as sink:
        sink.write(result(np.zeros((4, 6, 3), np.uint8), time=Fraction(1, 3)))

    header, frame, summary = map(json.loads, (tmp_path / "s.jsonl").read_text().splitlines())
    assert header == {"model": "m"}
    assert frame["time"] == 0.333333
    assert (frame["width"], frame["height"]) == (6, 4)
    assert frame["classes"] == {"cat": 0.25}
    assert frame["milliseconds"] == {"infer": 10.0}
    assert 0 <= frame["age_ms"] < 60_000
    assert "captured" not in frame
    assert summary == {"summary": {"frames": 1}}


def test_stats_of_a_live_source_have_the_time_of_day_and_can_be_read_as_they_come(tmp_path):
    captured = time.monotonic() - 2
    frame = Frame(np.zeros((4, 6, 3), np.uint8), 7, Fraction(0), "camera_7", None, captured)
    with StatsSink(tmp_path / "s.jsonl", {"model": "m"}, dict, False, live=True) as sink:
        sink.write(Result(frame, np.zeros((4, 6), np.uint8), None, {}, {}))
        _, line = map(json.loads, (tmp_path / "s.part.jsonl").read_text().splitlines())

    ago = datetime.now(timezone.utc) - datetime.fromisoformat(line["captured"].replace("Z", "+00:00"))
    assert line["frame"] == 7
    assert 2 <= ago.total_seconds() < 60
    assert line["age_ms"] >= 2000
    assert [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "s.jsonl")
    with pytest.raises(SinkError, match="a device or a pipe"):
        StatsSink(tmp_path / "s.jsonl", {}, dict, False)


def open_kind(kind: str, path: Path, source, force: bool = False):
    return {
        "video": lambda: VideoSink(path / "out.mp4", source, force, NOTE),
        "png": lambda: PictureSink(path / "out.png", force, NOTE),
        "jpg": lambda: PictureSink(path / "out.jpg", force, NOTE),
        "pictures": lambda: PictureFolderSink(path / "out", force, NOTE),
        "labels": lambda: LabelSink(path / "out", PALETTE, force, NOTE),
        "stats": lambda: StatsSink(path / "out.jsonl", {"note": NOTE}, dict, force),
    }[kind]()


KINDS = ["video", "png", "jpg", "pictures", "labels", "stats"]


@pytest.mark.parametrize("kind", KINDS)
class TestEverySink:
    def written(self, kind: str, path: Path, source, force: bool = False) -> None:
        with open_kind(kind, path, source, force) as sink:
            sink.write(result(np.full((48, 64, 3), 99, np.uint8)))

    def files(self, path: Path) -> list[Path]:
        return [file for file in path.rglob("*") if file.is_file() and file.name != "clip.mp4"]

    def test_what_it_made_it_may_replace(self, kind, tmp_path, make_video):
        with open_source(make_video()) as source:
            self.written(kind, tmp_path, source)
            self.written(kind, tmp_path, source)
        assert len(self.files(tmp_path)) == 1

    def test_what_it_did_not_make_stays_unless_forced(self, kind, tmp_path, make_video):
        with open_source(make_video()) as source:
            self.written(kind, tmp_path, source)
            (file,) = self.files(tmp_path)
            file.write_bytes(b"precious")
            with pytest.raises(SinkError, match="--force"):
                self.written(kind, tmp_path, source)
            assert file.read_bytes() == b"precious"
            self.written(kind, tmp_path, source, force=True)
        assert file.read_bytes() != b"precious"
        assert self.files(tmp_path) == [file]

    def test_a_place_that_cannot_be_written_is_said_when_opening(self, kind, tmp_path, make_video):
        (tmp_path / "file").touch()
        with (
            open_source(make_video()) as source,
            pytest.raises(SinkError, match=r"out.*cannot be written: Not a directory|File exists"),
        ):
            open_kind(kind, tmp_path / "file", source)

    def test_a_full_disk_leaves_no_half_file(self, kind, tmp_path):
        """A limit on the size of files stands for the disk: the same write fails, with another number."""
        script = f"""
import resource, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import numpy as np, test_sinks
from fcn_edge.errors import SinkError
from fcn_edge.video import open_source
from pathlib import Path
picture = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
labels = picture[..., 0] % 21
names = {{"x" * 200 + str(n): 0.1 for n in range(99)}}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with open_source("demo:") as source:
    try:
        with test_sinks.open_kind({kind!r}, Path({str(tmp_path)!r}), source) as sink:
            for n in range(30):
                r = test_sinks.result(picture, n, n * source.time_base, labels)
                r.shares.update(names)
                sink.write(r)
    except SinkError as error:
        print(error)
"""
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert re.search("cannot be written: (File too large|it ended at 100000 bytes)", run.stdout), run.stderr
        assert self.files(tmp_path) == []
