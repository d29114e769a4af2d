from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fcn_edge.errors import SinkError
from fcn_edge.video import Frame, open_source
from fcn_edge.video.recording import VideoSink
from fcn_edge.video.series import Cut
from fcn_edge.video.sinks import Result
from fcn_edge.video.writing import MARK

NOTE = f"{MARK} with a test"
RATE = Fraction(10)


@dataclass
class Kept:
    """A source as a sink sees one. Bounded by `total`; live where frames come when they come."""

    live: bool = False
    still: bool = False
    total: int | None = None
    rate: Fraction | None = RATE
    time_base: Fraction | None = Fraction(1, 90_000)
    pixel_aspect: Fraction = Fraction(1)
    uri: str = "kept"
    size: tuple[int, int] | None = None
    files: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dropped: int = 0
    reconnects: int = 0
    lost_since: float | None = None
    trouble: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *error: object) -> None: ...
    def close(self) -> None: ...


def flat(number: int, size: tuple[int, int] = (48, 64)) -> Result:
    """Frame `number` of such a source, flat gray of a level that says which it is, modulo 8."""
    picture = np.full((*size, 3), 20 + 25 * (number % 8), np.uint8)
    return shown(picture, number, number / RATE)


def noise(number: int, size: tuple[int, int] = (144, 176)) -> Result:
    return shown(np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8), number, number / RATE)


def shown(picture: np.ndarray, number: int = 0, time: Fraction = Fraction(0)) -> Result:
    labels = np.zeros(picture.shape[:2], np.uint8)
    return Result(Frame(picture, number, time, f"frame_{number}"), labels, picture, {}, {})


def copy(path: Path, out: Path) -> VideoSink:
    """Every frame of the video at `path`, written to `out`."""
    with open_source(path) as source, VideoSink(out, source, force=False, note=NOTE) as sink:
        for frame in source:
            sink.write(Result(frame, np.zeros(frame.image.shape[:2], np.uint8), frame.image, {}, {}))
    return sink


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def numbers(path: Path) -> list[int]:
    """Which frames, modulo 8, a file of flat ones holds."""
    with av.open(str(path)) as container:
        return [
            round((float(frame.to_ndarray(format="gray").mean()) * 219 / 255 + 16 - LUMA[0]) / LUMA[1])
            for frame in container.decode(video=0)
        ]


LUMA = (20 * 219 / 255 + 16, 25 * 219 / 255)  # of number 0, and from one to the next


def probed(path: Path) -> dict[str, str]:
    """What ffprobe says of the video stream, every frame decoded; it must not complain."""
    command = ["ffprobe", "-v", "warning", "-count_frames", "-show_streams", "-of", "json", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    (stream,) = json.loads(run.stdout)["streams"]
    return stream


def boxes(path: Path) -> list[str]:
    """The kinds of an MP4 file's outermost boxes, in order."""
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[4:8].decode())
        data = data[int.from_bytes(data[8:16], "big") if size == 1 else size :]
    return found


class TestOneFile:
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

    @pytest.mark.parametrize("kept", [Kept(), Kept(total=1)])
    @pytest.mark.parametrize("frames", [1, 2, 3, 10, 11, 12, 13])
    def test_the_last_frame_is_there_however_fragments_fall(self, tmp_path, kept, frames):
        for name, step in (("rate", 1 / RATE), ("slow", Fraction(1)), ("fast", Fraction(1, 100))):
            with VideoSink(tmp_path / f"{name}.mp4", kept, False, NOTE) as sink:
                for number in range(frames):
                    sink.write(shown(flat(number).frame.image, number, number * step))
            assert times(tmp_path / f"{name}.mp4") == [number * step for number in range(frames)]

    @pytest.mark.parametrize("kept", [Kept(), Kept(total=20)])
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_a_source_that_does_not_begin_at_zero_keeps_its_times(self, tmp_path, kept, suffix):
        with VideoSink(tmp_path / f"out{suffix}", kept, False, NOTE) as sink:
            for number in range(20):
                sink.write(shown(flat(number).frame.image, number, 5 + number / RATE))
        assert times(tmp_path / f"out{suffix}") == [5 + n / RATE for n in range(20)]

    def test_frames_of_one_time_are_all_there(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(total=4), False, NOTE) as sink:
            for number in range(4):
                sink.write(shown(flat(number).frame.image, number, Fraction(number // 2)))
        assert numbers(tmp_path / "out.mp4") == [0, 1, 2, 3]

    @pytest.mark.parametrize(("size", "even"), [((47, 64), (48, 64)), ((48, 63), (48, 64)), ((3, 1), (4, 2))])
    def test_an_odd_side_gains_one_replicated_row_or_column_and_it_is_said(self, tmp_path, size, even):
        rng = np.random.default_rng(0)
        picture = cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)
        with VideoSink(tmp_path / "out.mp4", Kept(total=1), False, NOTE) as sink:
            sink.write(shown(picture))

        with open_source(tmp_path / "out.mp4") as written:
            (frame,) = written
        assert frame.image.shape[:2] == even
        assert f"{even[1]}x{even[0]}" in sink.notes[0]
        padded = cv2.copyMakeBorder(picture, 0, even[0] - size[0], 0, even[1] - size[1], cv2.BORDER_REPLICATE)
        assert np.abs(frame.image.astype(int) - padded).mean() < 12

    @pytest.mark.parametrize("size", [(1, 1), (4, 40_000)])
    def test_a_size_that_the_encoder_refuses_is_said(self, tmp_path, size):
        with (
            VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE) as sink,
            pytest.raises(SinkError, match=rf"video of {size[1]}x{size[0]}\. Name a picture"),
        ):
            sink.write(shown(np.zeros((*size, 3), np.uint8)))
        assert not list(tmp_path.iterdir())
        assert sink.where == ""

    def test_colours_survive(self, tmp_path):
        picture = np.full((64, 64, 3), (30, 200, 90), np.uint8)
        with VideoSink(tmp_path / "out.mp4", Kept(total=1), False, NOTE) as sink:
            sink.write(shown(picture))
        with open_source(tmp_path / "out.mp4") as written:
            (frame,) = written
        assert np.abs(frame.image.astype(int) - picture).max() <= 5

    def test_until_it_is_whole_its_name_says_so(self, make_video, tmp_path):
        with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink:
            for frame in source:
                sink.write(shown(frame.image, frame.sequence, frame.time))
                assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.part.mp4"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]

    def test_what_a_killed_run_left_is_not_overwritten(self, tmp_path):
        (tmp_path / "out.part.mp4").write_bytes(b"left")
        with VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE) as sink:
            sink.write(flat(0))
        assert (tmp_path / "out.part.mp4").read_bytes() == b"left"
        assert numbers(tmp_path / "out.mp4") == [0]

    def test_an_interrupt_leaves_a_playable_file(self, make_video, tmp_path):
        def write_until_interrupted() -> None:
            with open_source(make_video()) as source, VideoSink(tmp_path / "out.mp4", source, False, NOTE) as sink:
                for frame in source:
                    sink.write(shown(frame.image, frame.sequence, frame.time))
                    if frame.sequence == 5:
                        raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_until_interrupted()
        assert numbers(tmp_path / "out.mp4") == list(range(6))

    def test_nothing_written_leaves_nothing(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE) as sink:
            pass
        assert not list(tmp_path.iterdir())
        assert sink.where == ""

    def test_of_an_endless_source_it_stays_in_fragments_and_of_a_bounded_one_it_has_an_index(self, tmp_path):
        for name, source in (("endless", Kept()), ("bounded", Kept(total=25))):
            with VideoSink(tmp_path / f"{name}.mp4", source, False, NOTE) as sink:
                for number in range(25):
                    sink.write(flat(number))
            assert numbers(tmp_path / f"{name}.mp4") == [n % 8 for n in range(25)]
        assert boxes(tmp_path / "bounded.mp4") == ["ftyp", "free", "mdat", "moov"]
        assert boxes(tmp_path / "endless.mp4")[:6] == ["ftyp", "moov", "moof", "mdat", "moof", "mdat"]

    def test_a_live_source_begins_at_zero_and_says_when(self, tmp_path):
        before = datetime.now(timezone.utc)
        with VideoSink(tmp_path / "out.mp4", Kept(live=True), False, NOTE) as sink:
            for number in range(50, 55):
                sink.write(flat(number))
        assert times(tmp_path / "out.mp4") == [n / RATE for n in range(5)]
        with av.open(str(tmp_path / "out.mp4")) as container:
            made = datetime.fromisoformat(container.metadata["creation_time"].replace("Z", "+00:00"))
        assert before <= made.replace(microsecond=999_999) <= datetime.now(timezone.utc).replace(microsecond=999_999)

    @pytest.mark.debian(ffprobe="ffmpeg")
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_ffprobe_finds_nothing_wrong(self, make_video, tmp_path, suffix):
        copy(make_video(rate=Fraction(12_000, 401), frames=15), tmp_path / f"out{suffix}")
        stream = probed(tmp_path / f"out{suffix}")
        assert (stream["avg_frame_rate"], stream["nb_read_frames"]) == ("12000/401", "15")
        assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
        assert (stream["width"], stream["height"]) == (64, 48)


class TestSeveralFiles:
    def test_none_is_lost_where_one_ends_and_each_begins_at_zero(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE, Cut(seconds=1)) as sink:
            for number in range(35):
                sink.write(flat(number))

        files = sorted(tmp_path.iterdir())
        assert [path.name for path in files] == [f"out-{n:04d}.mp4" for n in range(1, 5)]
        assert [n for path in files for n in numbers(path)] == [n % 8 for n in range(35)]
        assert [times(path) for path in files] == [[n / RATE for n in range(10)]] * 3 + [[n / RATE for n in range(5)]]
        assert sink.where == str(tmp_path / "out-*.mp4")

    def test_none_is_larger_than_asked_for(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE, Cut(bytes=300_000)) as sink:
            for number in range(60):
                sink.write(noise(number))
        sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
        assert len(sizes) > 2
        assert max(sizes) <= 300_000
        assert min(sizes[:-1]) > 150_000
        assert sum(len(times(path)) for path in tmp_path.iterdir()) == 60

    def test_those_of_a_live_source_carry_the_time_and_an_earlier_runs_stay(self, tmp_path):
        now = datetime.now(timezone.utc)
        for _ in range(2):
            with VideoSink(tmp_path / "cam.mkv", Kept(live=True), False, NOTE, Cut(seconds=1)) as sink:
                for number in range(15):
                    sink.write(flat(number))
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) == 4
        for name in names:
            began = datetime.strptime(name[4:20], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
            assert -1 <= (began - now).total_seconds() < 60

    def test_the_oldest_go_where_only_some_are_kept(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE, Cut(seconds=1, keep=2)) as sink:
            for number in range(45):
                sink.write(flat(number))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out-0004.mp4", "out-0005.mp4"]
        assert any("3 older ones were removed" in note for note in sink.notes)

    def test_an_earlier_runs_count_among_those_kept_and_others_files_are_not_touched(self, tmp_path):
        foreign = tmp_path / "cam-20200101T000000Z.mp4"
        foreign.write_bytes(b"precious")
        for _ in range(2):
            with VideoSink(tmp_path / "cam.mp4", Kept(live=True), False, NOTE, Cut(seconds=1, keep=3)) as sink:
                for number in range(35):
                    sink.write(flat(number))
        assert foreign.read_bytes() == b"precious"
        assert len(list(tmp_path.iterdir())) == 1 + 3

    def test_a_change_of_size_goes_on_in_another_file(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE) as sink:
            for number in range(20):
                sink.write(flat(number, (48, 64) if number < 12 else (64, 80)))
        assert numbers(tmp_path / "out.mp4") + numbers(tmp_path / "out-2.mp4") == [n % 8 for n in range(20)]
        with av.open(str(tmp_path / "out-2.mp4")) as container:
            assert (container.streams.video[0].height, container.streams.video[0].width) == (64, 80)
        assert any("goes on in 1 more" in note and "out-2.mp4" in note for note in sink.notes)

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_a_source_that_was_lost_for_hours_goes_on_in_another_file(self, tmp_path, suffix):
        with VideoSink(tmp_path / f"out{suffix}", Kept(live=True), False, NOTE) as sink:
            for number in range(20):
                away = 7 * 3600 if number >= 12 else 0  # beyond what MP4 can say of one picture
                sink.write(shown(flat(number).frame.image, number, number / RATE + away))
        for name, held in ((f"out{suffix}", range(12)), (f"out-2{suffix}", range(12, 20))):
            assert numbers(tmp_path / name) == [n % 8 for n in held]
            assert times(tmp_path / name) == [n / RATE for n in range(len(held))]

    def test_after_a_gap_a_file_that_is_due_begins_with_the_next_frame(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(), False, NOTE, Cut(seconds=60)) as sink:
            for number in range(20):
                sink.write(shown(flat(number).frame.image, number, number / RATE + (3000 if number >= 12 else 0)))
        first, second = (open_source(path) for path in sorted(tmp_path.iterdir()))
        with first, second:
            assert [source.total for source in (first, second)] == [12, 8]
            assert [frame.time for frame in second] == [n / RATE for n in range(8)]

    def test_pictures_of_another_size_are_refused_and_what_was_written_stays(self, tmp_path):
        with VideoSink(tmp_path / "out.mp4", Kept(still=True, total=2), False, NOTE) as sink:
            sink.write(flat(0))
            with pytest.raises(SinkError, match="is 50x40 after 64x48"):
                sink.write(flat(1, (40, 50)))
        assert numbers(tmp_path / "out.mp4") == [0]


WRITE = """
import sys, os, signal
sys.path.insert(0, {folder!r})
from pathlib import Path
import test_recording as t
from fcn_edge.errors import SinkError
from fcn_edge.video.recording import VideoSink
from fcn_edge.video.series import Cut
"""


def script(text: str) -> subprocess.CompletedProcess[str]:
    """`text` run by a process of its own, with this module as `t`."""
    text = WRITE.format(folder=os.path.dirname(__file__)) + text
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)


@pytest.mark.debian(ffprobe="ffmpeg")
class TestKilled:
    @pytest.mark.parametrize(
        ("suffix", "kept"), [(".mp4", "Kept()"), (".mp4", "Kept(total=100)"), (".mov", "Kept()"), (".mkv", "Kept()")]
    )
    def test_what_is_there_plays_but_for_the_last_second(self, tmp_path, suffix, kept):
        run = script(f"""
with VideoSink(Path({str(tmp_path / f"out{suffix}")!r}), t.{kept}, False, t.NOTE) as sink:
    for number in range(100):
        sink.write(t.flat(number))
    os.kill(os.getpid(), signal.SIGKILL)
""")
        assert run.returncode == -9, run.stderr
        (left,) = tmp_path.iterdir()
        assert left.name == f"out.part{suffix}"
        stream = probed(left)
        frames = int(stream["nb_read_frames"])
        assert 80 <= frames <= 100  # a fragment of 10, and what the encoder holds
        assert (stream["avg_frame_rate"], stream["pix_fmt"]) == ("10/1", "yuv420p")
        assert numbers(left) == [n % 8 for n in range(frames)]

    def test_of_several_files_the_finished_ones_are_whole(self, tmp_path):
        run = script(f"""
with VideoSink(Path({str(tmp_path / "out.mp4")!r}), t.Kept(live=True), False, t.NOTE, Cut(seconds=2)) as sink:
    for number in range(100):
        sink.write(t.flat(number))
    sink.disk.do(lambda: os.kill(os.getpid(), signal.SIGKILL))
    sink.disk.close()
""")
        assert run.returncode == -9, run.stderr
        *finished, last = sorted(tmp_path.iterdir(), key=lambda path: (".part" in path.name, path.stat().st_mtime_ns))
        assert ".part" in last.name
        assert [probed(path)["nb_read_frames"] for path in finished] == ["20"] * 4
        assert sorted(n for path in finished for n in numbers(path)) == sorted(n % 8 for n in range(80))
        probed(last)

    def test_sigterm_ends_it_well(self, tmp_path):
        run = script(f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with VideoSink(Path({str(tmp_path / "out.mp4")!r}), t.Kept(live=True), False, t.NOTE) as sink:
    for number in range(35):
        sink.write(t.flat(number))
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
""")
        assert run.returncode == 143, run.stderr
        stream = probed(tmp_path / "out.mp4")
        assert (stream["nb_read_frames"], stream["avg_frame_rate"]) == ("35", "10/1")

    @pytest.mark.parametrize(("size", "frames"), [(400_000, 60), (350_000, 25)], ids=["while it grows", "at its end"])
    @pytest.mark.parametrize("cut", [None, Cut(seconds=100)])
    def test_what_a_live_source_gave_before_the_disk_was_full_stays_and_plays(self, tmp_path, cut, size, frames):
        """A limit on the size of files stands for the disk; of seconds of some 155 kB two fit."""
        run = limited(size, frames, tmp_path / "out.mp4", "Kept(live=True)", cut)
        assert re.search("cannot be written: (File too large|it ended at 350000 bytes)", run.stdout), run.stderr
        (left,) = tmp_path.iterdir()
        assert run.stdout.strip().endswith(f"plays: {left}")
        assert probed(left)["nb_read_frames"] == "20"

    def test_a_last_fragment_that_did_not_fit_is_not_passed_over(self, tmp_path):
        run = limited(200_000, 16, tmp_path / "out.mp4", "Kept()", None)
        assert "cannot be written: it ended at 200000 bytes" in run.stdout, run.stderr
        assert not list(tmp_path.iterdir())


def limited(size: int, frames: int, path: Path, kept: str, cut: Cut | None) -> subprocess.CompletedProcess[str]:
    """So many frames of noise to `path`, where no file may be larger than `size`."""
    return script(f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    with VideoSink(Path({str(path)!r}), t.{kept}, False, t.NOTE, {cut!r}) as sink:
        for number in range({frames}):
            sink.write(t.noise(number))
except SinkError as error:
    print(error)
""")
