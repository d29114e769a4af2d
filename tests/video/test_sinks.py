from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fcn_edge.errors import SinkError
from fcn_edge.spec import voc_palette
from fcn_edge.video import Frame, open_source
from fcn_edge.video.sinks import LabelSink, PictureFolderSink, PictureSink, Result, StatsSink, VideoSink
from fcn_edge.video.writing import MARK

NOTE = f"{MARK} with a test"
PALETTE = voc_palette(21)


def result(picture: np.ndarray, number: int = 0, time: Fraction = Fraction(0), labels=None) -> Result:
    if labels is None:
        labels = np.zeros(picture.shape[:2], np.uint8)
    return Result(Frame(picture, number, time, f"frame_{number}"), labels, picture, {"cat": 0.25}, {"infer": 0.01})


def copy(path: Path, out: Path) -> VideoSink:
    """Every frame of the video at `path`, written to `out`."""
    with open_source(path) as source, VideoSink(out, source, force=False, note=NOTE) as sink:
        for frame in source:
            sink.write(Result(frame, np.zeros(frame.image.shape[:2], np.uint8), frame.image, {}, {}))
    return sink


def pixels(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


class TestVideo:
    @pytest.mark.parametrize("rate", [Fraction(30_000, 1001), Fraction(12_000, 401), Fraction(2997, 100), Fraction(24)])
    @pytest.mark.parametrize("suffix", [".mp4", ".mov"])
    def test_rate_and_times_are_the_sources_own(self, make_video, tmp_path, levels, rate, suffix):
        source = make_video(rate=rate, frames=15)
        copy(source, tmp_path / f"out{suffix}")

        with av.open(str(tmp_path / f"out{suffix}")) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == rate
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert container.metadata["comment"] == NOTE
        assert times(tmp_path / f"out{suffix}") == times(source)
        with open_source(tmp_path / f"out{suffix}") as written:
            assert [levels(frame.image) for frame in written] == [n % 8 for n in range(15)]

    def test_a_variable_rate_stays_variable(self, make_video, tmp_path):
        ticks = [0, 7, 9, 30, 31, 90]
        source = make_video(time_base=Fraction(1, 90), ticks=ticks)
        copy(source, tmp_path / "out.mp4")
        assert times(tmp_path / "out.mp4") == [Fraction(tick, 90) for tick in ticks]

    @pytest.mark.parametrize(("size", "even"), [((47, 64), (48, 64)), ((48, 63), (48, 64)), ((3, 1), (4, 2))])
    def test_an_odd_side_gains_one_replicated_row_or_column_and_it_is_said(self, make_video, tmp_path, size, even):
        rng = np.random.default_rng(0)
        picture = cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)
        with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink:
            sink.write(result(picture))

        with open_source(tmp_path / "out.mp4") as written:
            (frame,) = written
        assert frame.image.shape[:2] == even
        assert f"{even[1]}x{even[0]}" in sink.notes[0]
        padded = cv2.copyMakeBorder(picture, 0, even[0] - size[0], 0, even[1] - size[1], cv2.BORDER_REPLICATE)
        assert np.abs(frame.image.astype(int) - padded).mean() < 12

    def test_a_size_that_the_encoder_refuses_is_said(self, make_video, tmp_path):
        with (
            open_source(make_video()) as source,
            VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink,
            pytest.raises(SinkError, match="no video of 1x1"),
        ):
            sink.write(result(np.zeros((1, 1, 3), np.uint8)))
        assert not list(tmp_path.glob("*out*"))

    def test_colours_survive(self, make_video, tmp_path):
        picture = np.full((64, 64, 3), (30, 200, 90), np.uint8)
        with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink:
            sink.write(result(picture))
        with open_source(tmp_path / "out.mp4") as written:
            (frame,) = written
        assert np.abs(frame.image.astype(int) - picture).max() <= 5

    @pytest.mark.debian(ffprobe="ffmpeg")
    def test_ffprobe_reads_the_same_rate(self, make_video, tmp_path):
        copy(make_video(rate=Fraction(12_000, 401), frames=15), tmp_path / "out.mp4")
        shown = subprocess.run(
            ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(tmp_path / "out.mp4")],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        (stream,) = json.loads(shown)["streams"]
        assert stream["avg_frame_rate"] == "12000/401"
        assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")

    def test_until_it_is_whole_it_has_another_name(self, make_video, tmp_path):
        with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink:
            for frame in source:
                sink.write(result(frame.image, frame.sequence, frame.time))
                assert not (tmp_path / "out.mp4").exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]

    def test_an_interrupt_leaves_a_playable_file(self, make_video, tmp_path):
        def write_until_interrupted() -> None:
            with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink:
                for frame in source:
                    sink.write(result(frame.image, frame.sequence, frame.time))
                    if frame.sequence == 5:
                        raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_until_interrupted()
        assert len(times(tmp_path / "out.mp4")) == 6

    def test_a_change_of_size_is_refused_and_what_was_written_stays(self, make_video, tmp_path):
        with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink:
            sink.write(result(np.zeros((48, 64, 3), np.uint8)))
            with pytest.raises(SinkError, match="is 50x40 after 64x48"):
                sink.write(result(np.zeros((40, 50, 3), np.uint8), 1, Fraction(1)))
        assert len(times(tmp_path / "out.mp4")) == 1

    def test_nothing_written_leaves_nothing(self, make_video, tmp_path):
        with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE):
            pass
        assert not list(tmp_path.glob("*out*"))


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
    assert summary == {"summary": {"frames": 1}}


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
        assert "cannot be written: File too large" in run.stdout, run.stderr
        assert self.files(tmp_path) == []
