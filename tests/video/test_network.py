"""Streams from servers on loopback that behave, and that do not."""

from __future__ import annotations

import base64
import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import pytest
from burnt import BITS, burnt
from mjpeg_server import Camera, filming
from rtsp_server import DEBIANS_PYTHON, PASSWORD, USER, Server, missing, serving

from fcn_edge.errors import SourceError
from fcn_edge.video import Frame, open_source
from fcn_edge.video.capture.av import Backlog

PATIENCE = 60  # seconds; only a hang takes as long
RTSP = pytest.mark.debian(**{DEBIANS_PYTHON: "python3"})  # what else it needs, `missing` tells


@pytest.fixture
def camera() -> Iterator[Camera]:
    with filming() as camera:
        yield camera


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def until(frames: Iterator[Frame], condition) -> Frame:
    end = time.monotonic() + PATIENCE
    for frame in frames:
        if condition(frame):
            return frame
        assert time.monotonic() < end
    raise AssertionError("the source ended")


class TestMjpeg:
    def test_the_newest_frame_comes_and_none_twice(self, camera):
        with open_source(camera.url) as source:
            frames = iter(source)
            seen = []
            for _ in range(8):
                seen.append(burnt(next(frames).image, 0))
                time.sleep(0.05)
        assert seen == sorted(set(seen))
        assert source.dropped > 0
        assert source.live
        assert source.uri == camera.url

    def test_a_connection_that_is_dropped_is_made_again(self, camera):
        with open_source(camera.url) as source:
            frames = iter(source)
            for loss in range(3):
                next(frames)
                camera.hang_up()
                until(frames, lambda frame, loss=loss: source.reconnects > loss)
        assert source.reconnects == 3
        assert source.problems == []

    def test_a_camera_that_comes_back_with_another_size_carries_on(self, camera):
        with open_source(camera.url) as source:
            frames = iter(source)
            assert next(frames).image.shape == (64, 192, 3)
            camera.vanish()
            camera.size = (128, 224)
            camera.appear()
            frame = until(frames, lambda frame: frame.image.shape[:2] == (128, 224))
        assert source.size == (128, 224)
        assert frame.sequence > 0

    def test_a_size_that_changes_in_the_middle_of_a_connection_carries_on(self, camera):
        with open_source(camera.url) as source:
            frames = iter(source)
            next(frames)
            camera.size = (32, 256)
            until(frames, lambda frame: frame.image.shape == (32, 256, 3))
        assert source.reconnects == 0

    def test_one_that_stalls_is_lost_and_found(self, camera):
        with open_source(f"{camera.url}#stall=500ms") as source:
            frames = iter(source)
            next(frames)
            camera.stalled = True
            end = time.monotonic() + PATIENCE
            while source.lost_since is None and time.monotonic() < end:
                time.sleep(0.01)
            assert source.trouble == f"{camera.url}: gave no frame for 0.5 s."
            camera.stalled = False
            until(frames, lambda frame: source.reconnects == 1)

    def test_pictures_that_are_broken_are_left_out(self, camera):
        camera.mode = "broken"
        with open_source(camera.url) as source:
            frames = iter(source)
            numbers = [burnt(next(frames).image, 0) for _ in range(5)]
        assert numbers == sorted(set(numbers))

    def test_user_and_password_open_it_and_wrong_ones_are_refused(self, camera):
        camera.password = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        url = camera.url.replace("//", f"//{USER}:{PASSWORD}@")
        with open_source(url) as source:
            next(iter(source))
            assert source.uri == camera.url.replace("//", "//***@")
        with pytest.raises(SourceError, match=r"http://\*\*\*@127.*: refused this user and password") as caught:
            open_source(camera.url.replace("//", "//viewer:geheim@"))
        assert "geheim" not in str(caught.value)
        with pytest.raises(SourceError, match="wants a user and a password"):
            open_source(camera.url)

    @pytest.mark.parametrize(
        ("mode", "path", "words"),
        [
            ("html", "/video", "sends nothing that is a video stream|cannot be read"),
            ("good", "/audio", r"has nothing under this path \(404\)"),
            ("silent", "/video", r"did not answer within 1 s"),
        ],
    )
    def test_what_is_no_stream_is_refused_in_one_line(self, camera, mode, path, words):
        camera.mode = mode
        with pytest.raises(SourceError, match=words) as caught:
            open_source(camera.url.replace("/video", path) + "#wait=1")
        assert "\n" not in str(caught.value)


class TestBacklog:
    """A camera of 25 frames a second, by its own clock and ours."""

    @staticmethod
    def skipped(arrivals, positions, idle: float) -> int:
        backlog = Backlog()
        gaps = [0.04, *(after - before for before, after in pairwise(arrivals))]
        heard = zip(positions, arrivals, gaps, strict=True)
        return sum(backlog.behind(position, 100 + arrived, idle * gap) for position, arrived, gap in heard)

    def test_a_camera_that_is_on_time_loses_nothing(self):
        times = [n / 25 for n in range(500)]
        assert self.skipped(times, times, idle=0.3) == 0

    def test_nor_does_one_whose_clock_is_slow(self):
        times = [n / 25 for n in range(50_000)]
        assert self.skipped(times, [0.999 * time for time in times], idle=0.1) == 0

    def test_nor_one_that_is_late_itself(self):
        times = [n / 25 for n in range(500)]
        assert self.skipped([time + (time > 5) for time in times], times, idle=0.9) == 0

    def test_nor_one_that_sets_its_clock_back(self):
        times = [n / 25 for n in range(500)]
        assert self.skipped(times, [time - 3 * (time > 5) for time in times], idle=0.1) == 0

    def test_a_decoder_that_is_too_slow_skips_but_not_all(self):
        positions = [n / 25 for n in range(500)]
        arrivals = [1.5 * position for position in positions]
        assert 400 < self.skipped(arrivals, positions, idle=0) < 460


class TestUnreachable:
    @pytest.mark.parametrize("scheme", ["rtsp", "http"])
    def test_a_closed_port_is_told(self, scheme):
        with pytest.raises(SourceError, match=rf"{scheme}://\*\*\*@127\.0\.0\.1:\d+/x: nothing listens there"):
            open_source(f"{scheme}://viewer:geheim@127.0.0.1:{closed_port()}/x")

    def test_a_decoder_that_is_not_there_is_told_with_those_that_are(self):
        with pytest.raises(SourceError, match="hardware=magic: this PyAV has no such decoder"):
            open_source("http://127.0.0.1/x#hardware=magic")

    def test_a_name_that_does_not_resolve_is_told(self):
        with pytest.raises(SourceError, match=r"its host cannot be found|gave no frame within") as caught:
            open_source("rtsp://viewer:geheim@no-such-camera.invalid/x#wait=3")
        assert "geheim" not in str(caught.value)

    def test_a_server_that_accepts_and_says_nothing_is_given_up(self):
        with silent_server() as port, pytest.raises(SourceError, match=r"did not answer within 1 s"):
            open_source(f"rtsp://viewer:geheim@127.0.0.1:{port}/x#wait=1")


class TestHls:
    def test_frames_come_when_they_are_due(self, make_video, levels, tmp_path):
        clip = make_video(frames=50, rate=Fraction(25))
        playlist = tmp_path / "live.m3u8"
        with av.open(str(clip)) as source, av.open(str(playlist), "w", "hls", {"hls_time": "1"}) as segments:
            stream = segments.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    segments.mux(packet)
        with serving_folder(tmp_path) as url, open_source(f"{url}/live.m3u8") as source:
            began = time.monotonic()
            frames = list(source)
            took = time.monotonic() - began
        assert len(frames) + source.dropped > 40
        assert took > 1  # two seconds of video in two segments, less what had come before
        assert source.problems == []  # a list that says it is complete is no loss


@pytest.mark.debian(ffmpeg="ffmpeg")
class TestUdp:
    def test_mpeg_ts_arrives(self, make_video, levels):
        port = closed_udp_port()
        with (
            sending(make_video, f"udp://127.0.0.1:{port}?pkt_size=1316", "mpegts"),
            open_source(f"udp://127.0.0.1:{port}") as source,
        ):
            frames = iter(source)
            shown = [levels(next(frames).image) for _ in range(3)]
        assert all(0 <= level < 8 for level in shown)

    def test_rtp_arrives_with_the_codec_that_is_named(self, make_video, levels):
        port = closed_udp_port()
        with (
            sending(make_video, f"rtp://127.0.0.1:{port}", "rtp"),
            open_source(f"rtp://127.0.0.1:{port}#codec=h264") as source,
        ):
            assert next(iter(source)).image.shape == (48, 64, 3)

    def test_an_rtp_address_without_a_port_says_what_is_missing(self):
        with pytest.raises(SourceError, match="write address, port and codec"):
            open_source("rtp://127.0.0.1")


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """Two seconds of the demo at 320x180, H.264."""
    path = tmp_path_factory.mktemp("rtsp") / "clip.mp4"
    with open_source("demo:#size=180x320") as demo, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 180, 320, "yuv420p"
        for frame, _ in zip(demo, range(60), strict=False):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def server(clip: Path) -> Iterator[Server]:
    if reason := missing():
        pytest.skip(reason)
    with serving(clip) as server:
        yield server


@RTSP
class TestRtsp:
    def test_a_frame_is_young_when_it_is_taken(self, server):
        ages = []
        with open_source(server.url()) as source:
            for frame, _ in zip(source, range(40), strict=False):
                ages.append((round(1e3 * frame.captured) - burnt(frame.image, 1)) % (1 << BITS))
            numbers = source.dropped
        assert (
            max(ages) < 5000
        )  # milliseconds: the clock is read right, and nothing queues; how young is for benchmarks
        assert numbers < 40

    def test_it_survives_that_the_server_is_killed_and_started_again(self, server):
        with open_source(server.url()) as source:
            frames = iter(source)
            for loss in range(2):
                next(frames)
                server.kill()
                server.start()
                until(frames, lambda frame, loss=loss: source.reconnects > loss)
        assert source.reconnects == 2
        assert source.problems == []

    def test_a_path_that_is_not_there_is_told(self, server):
        with pytest.raises(SourceError, match=r"/nothing: has nothing under this path \(404\)"):
            open_source(server.url("/nothing"))

    def test_user_and_password_open_it_and_wrong_ones_are_refused(self, clip):
        if reason := missing():
            pytest.skip(reason)
        with serving(clip, password=True) as server:
            with open_source(server.url(credentials=f"{USER}:{PASSWORD}@")) as source:
                assert next(iter(source)).image.shape == (180, 320, 3)
                assert PASSWORD not in source.uri
            with pytest.raises(SourceError, match="refused this user and password") as caught:
                open_source(server.url(credentials="viewer:geheim@"))
            with pytest.raises(SourceError, match="wants a user and a password"):
                open_source(server.url())
        assert "geheim" not in str(caught.value)


@RTSP
@pytest.mark.slow
def test_twenty_deaths_of_the_server_cost_no_more_than_their_gaps(clip):
    if reason := missing():
        pytest.skip(reason)
    with serving(clip) as server, open_source(server.url()) as source:
        frames = iter(source)
        gaps, away = [], []
        for loss in range(20):
            running = time.monotonic() + 1
            until(frames, lambda frame, running=running: time.monotonic() > running)
            server.kill()
            killed = time.monotonic()
            server.start()
            away.append(time.monotonic() - killed)
            found = until(frames, lambda frame, loss=loss: source.reconnects > loss)
            gaps.append(found.captured - killed)
    assert source.reconnects == 20
    assert source.problems == []
    print(f"server away {median(away):.2f} s, gaps {median(gaps):.2f} s, longest {max(gaps):.2f} s")


@contextlib.contextmanager
def serving_folder(folder: Path) -> Iterator[str]:
    from loopback import serving as serving_files
    from loopback import whole

    with serving_files() as server:
        server.answers.update({f"/{path.name}": whole(path.read_bytes()) for path in folder.iterdir()})
        yield server.url("")


def closed_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1] & ~1  # RTP wants an even one


@contextlib.contextmanager
def sending(make_video, url: str, format: str) -> Iterator[None]:
    """A clip sent over and over by ffmpeg, at its own rate, with a key frame every eight."""
    clip = make_video(frames=200)
    coded = ["-c:v", "libx264", "-g", "8", "-tune", "zerolatency", "-bsf:v", "dump_extra", "-f", format, url]
    command = ["ffmpeg", "-v", "quiet", "-re", "-stream_loop", "-1", "-i", str(clip), *coded]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as sender:
        try:
            yield
        finally:
            sender.kill()
