from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest

from fcn_edge.errors import SourceError
from fcn_edge.video import open_source


def turn(path: Path, quarter_turns: int) -> None:
    """Writes a display matrix into the track header of an MP4, as a phone does that is held upright."""
    a, b = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns]
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, -b * one, a * one, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes from version to matrix
    data[start : start + 36] = matrix
    path.write_bytes(data)


def test_every_frame_comes_in_order_with_its_exact_time(make_video, levels):
    path = make_video(rate=Fraction(30_000, 1001), frames=12)

    with open_source(path) as source:
        frames = list(source)

    assert [levels(frame.image) for frame in frames] == [n % 8 for n in range(12)]
    assert [frame.time for frame in frames] == [n * Fraction(1001, 30_000) for n in range(12)]
    assert source.rate == Fraction(30_000, 1001)
    assert source.total == 12
    assert source.problems == []
    assert len({frame.name for frame in frames}) == 12


def test_a_variable_rate_keeps_its_times(make_video):
    ticks = [0, 33, 50, 150, 151, 400]
    path = make_video("clip.mkv", time_base=Fraction(1, 1000), ticks=ticks)
    with open_source(path) as source:
        assert [frame.time for frame in source] == [Fraction(tick, 1000) for tick in ticks]


@pytest.mark.parametrize(
    ("quarter_turns", "shape", "corner"),
    [(0, (48, 64), (0, 0)), (1, (64, 48), (0, -1)), (2, (48, 64), (-1, -1)), (3, (64, 48), (-1, 0))],
)
def test_a_display_matrix_turns_the_frames(tmp_path, quarter_turns, shape, corner):
    import numpy as np

    path = tmp_path / "phone.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = 255  # the top left corner as stored
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    turn(path, quarter_turns)

    with open_source(path) as source:
        (frame,) = source

    assert frame.image.shape[:2] == shape
    assert frame.image[corner].min() > 200
    assert sum(frame.image[y, x].min() > 200 for y in (0, -1) for x in (0, -1)) == 1


def test_colours_follow_the_matrix_that_the_file_names(tmp_path):
    import numpy as np

    for matrix in (1, 6):  # BT.709, SMPTE 170M
        path = tmp_path / f"{matrix}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
            stream.options = {"qp": "4"}
            planes = np.empty((48, 32), np.uint8)
            # Pure green: Y, Cb, Cr of either standard.
            planes[:32], planes[32:40], planes[40:] = {1: (173, 42, 26), 6: (145, 54, 34)}[matrix]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
            container.mux(stream.encode(None))
        with open_source(path) as source:
            (frame,) = source
        assert np.abs(frame.image.astype(int) - (0, 255, 0)).max() <= 6


def test_sound_beside_the_picture_changes_nothing(make_video, levels):
    with open_source(make_video(audio=True)) as source:
        assert [levels(frame.image) for frame in source] == [n % 8 for n in range(10)]
        assert source.problems == []


def test_frames_whose_rows_are_padded_arrive_whole(make_video, levels):
    with open_source(make_video(size=(36, 50))) as source:
        images = [frame.image for frame in source]
    assert {image.shape for image in images} == {(36, 50, 3)}
    assert all(image.flags.c_contiguous for image in images)
    assert [levels(image) for image in images] == [n % 8 for n in range(10)]


class TestCutOff:
    """A file whose end is missing gives what it has and says how much that is."""

    @pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "+faststart"}), ("a.mkv", {})])
    def test_what_is_readable_comes_and_the_count_is_said(self, make_video, levels, name, options):
        whole = make_video(name, frames=100, options=options)
        data = whole.read_bytes()
        whole.write_bytes(data[: len(data) * 2 // 3])

        with open_source(whole) as source:
            frames = list(source)

        assert 10 < len(frames) < 90
        assert [frame.sequence for frame in frames] == list(range(len(frames)))
        assert len(source.problems) == 1
        assert "is cut off" in source.problems[0]
        assert f"{len(frames)}" in source.problems[0]

    def test_without_its_index_nothing_can_be_read(self, make_video):
        path = make_video("a.mp4")  # the index is written last
        data = path.read_bytes()
        path.write_bytes(data[: data.index(b"moov")])
        with pytest.raises(SourceError, match=r"a\.mp4.*cut off"):
            open_source(path)


def test_damage_in_the_middle_is_counted_and_the_rest_comes(make_video):
    path = make_video("a.mkv", frames=60)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    victim = packets[30]
    start = data.index(bytes(victim))
    data[start : start + victim.size] = b"\xff" * victim.size
    path.write_bytes(data)

    with open_source(path) as source:
        frames = list(source)

    assert len(frames) >= 58
    assert "1 of its 60 packets" in source.problems[0]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [("a.mp4", b"hello\n", "not a video"), ("a.mp4", b"", "empty"), ("README", b"hello\n", "not a video")],
)
def test_what_is_no_video_is_refused(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=words):
        open_source(tmp_path / name)


def test_a_file_with_sound_alone_is_refused(tmp_path):
    import numpy as np

    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="no video, only audio"):
        open_source(path)
