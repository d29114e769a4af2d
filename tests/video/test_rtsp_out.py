"""The overlay over RTSP, seen by a player: FFmpeg's, through PyAV. The server is GStreamer's, of Debian's Python."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from av.error import FFmpegError, HTTPNotFoundError
from burnt import burn, burnt

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.video import rtsp_out, rtsp_process
from fcn_edge.video.demo import DemoSource
from fcn_edge.video.frames import Frame
from fcn_edge.video.rtsp_out import RtspSink, parse_address
from fcn_edge.video.sinks import Result

PLAYER = {"rtsp_transport": "tcp", "analyzeduration": "500000"}
SIZE = (120, 212)  # the width is no multiple of 8


@pytest.fixture(scope="module")
def served() -> None:
    problem = rtsp_process.look().problem
    if problem:
        pytest.skip(problem)


def result(number: int, size: tuple[int, int] = SIZE) -> Result:
    """Gray, with its number burnt in."""
    picture = np.full((*size, 3), 128, np.uint8)
    burn(picture, 0, number)
    frame = Frame(picture, number, Fraction(number, 25), f"frame_{number}")
    return Result(frame, np.zeros(size, np.uint8), picture, {}, {})


@contextlib.contextmanager
def showing(sink: RtspSink, size: tuple[int, int] = SIZE, always: int | None = None) -> Iterator[None]:
    """Pictures go into the sink, 25 a second, numbered from 0, or with one number always."""
    over = threading.Event()

    def show() -> None:
        number = 0
        while not over.wait(0.04):
            sink.write(result(number if always is None else always, size))
            number += 1

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def fill(sink: RtspSink) -> None:
    """More than the pipe to the server holds."""
    for number in range(100):
        sink.write(result(number, (480, 640)))


def play(url: str, frames: int) -> list[np.ndarray]:
    """So many pictures as a player decodes them. The stream is there once a first picture was written."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with av.open(url, options=PLAYER, timeout=20) as container:
                decoded = container.decode(video=0)
                return [next(decoded).to_ndarray(format="bgr24") for _ in range(frames)]
        except HTTPNotFoundError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.debian
@pytest.mark.usefixtures("served")
class TestServing:
    def test_a_viewer_sees_the_pictures_in_order_at_their_size(self):
        with RtspSink(parse_address("rtsp://:0/live"), DemoSource()) as sink, showing(sink):
            pictures = play(sink.where, 20)

        assert pictures[0].shape == (*SIZE, 3)
        numbers = [burnt(picture, 0) for picture in pictures]
        assert numbers == sorted(set(numbers))
        assert abs(int(pictures[-1][60, 100, 0]) - 128) < 6

    def test_odd_sides_gain_one_row_and_column(self):
        with RtspSink(parse_address("rtsp://:0/live"), DemoSource()) as sink, showing(sink, (121, 213)):
            (picture,) = play(sink.where, 1)
        assert picture.shape == (122, 214, 3)

    def test_a_picture_of_another_size_is_scaled_to_the_streams_own(self):
        with RtspSink(parse_address("rtsp://:0/live"), DemoSource()) as sink:
            sink.write(result(0))
            with showing(sink, (60, 106)):
                pictures = play(sink.where, 5)
        assert {picture.shape for picture in pictures} == {(*SIZE, 3)}

    def test_a_viewer_of_a_source_that_is_silent_is_shown_the_last_picture(self):
        with RtspSink(parse_address("rtsp://:0/live"), DemoSource()) as sink:
            sink.write(result(7))
            (picture,) = play(sink.where, 1)
        assert burnt(picture, 0) == 7

    def test_it_is_known_whether_somebody_watches_and_less_is_handed_over_while_nobody_does(self, monkeypatch):
        sent = []
        with RtspSink(parse_address("rtsp://:0/live"), DemoSource()) as sink:
            server = sink._server
            assert server is not None
            monkeypatch.setattr(server, "send", lambda *message: sent.append(message))
            monkeypatch.setattr(rtsp_out, "UNWATCHED_SECONDS", 3600)
            for number in range(10):
                sink.write(result(number))
            assert len(sent) == 2  # what the stream is, and one picture

            monkeypatch.undo()
            sink._size = None
            with showing(sink):
                play(sink.where, 3)
                wait_until(lambda: server.watched == set())

    def test_several_streams_share_a_port(self):
        with RtspSink(parse_address("rtsp://:0/one"), DemoSource()) as one:
            with RtspSink(parse_address("rtsp://:0/two"), DemoSource()) as two:
                assert one.where.removesuffix("one") == two.where.removesuffix("two")
                with showing(one, always=1), showing(two, always=2):
                    assert [burnt(play(sink.where, 1)[0], 0) for sink in (one, two)] == [1, 2]
            with showing(one, always=1):
                assert burnt(play(one.where, 1)[0], 0) == 1

    def test_one_path_is_not_served_twice(self):
        address = parse_address("rtsp://:0/one")
        with RtspSink(address, DemoSource()), pytest.raises(SinkError, match="served already"):
            RtspSink(address, DemoSource())

    def test_the_password_is_asked_for_and_shown_nowhere(self):
        address = parse_address("rtsp://viewer:p%40ss-word@127.0.0.1:0/live")
        with RtspSink(address, DemoSource()) as sink, showing(sink, always=3):
            place = sink.where.removeprefix("rtsp://")
            for login in ("", "viewer:wrong@"):
                with pytest.raises(FFmpegError):
                    play(f"rtsp://{login}{place}", 1)
            assert burnt(play(f"rtsp://viewer:p%40ss-word@{place}", 1)[0], 0) == 3
            assert "ss-word" not in " ".join([sink.where, *sink.notes, repr(sink)])

    def test_a_port_that_is_taken_is_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(SinkError, match=f"127.0.0.1:{port}/live: that port is in use"):
                RtspSink(parse_address(f"rtsp://:{port}/live"), DemoSource())
        assert rtsp_process.RtspProcess._running == {}

    def test_a_server_that_died_is_one_error(self):
        with RtspSink(parse_address("rtsp://:0/live"), DemoSource()) as sink:
            assert sink._server is not None
            sink._server._process.kill()
            sink._server._process.wait()
            with pytest.raises(SinkError, match="its server has ended"):
                sink.write(result(0))

    def test_a_server_that_hangs_is_given_up_and_ended(self, monkeypatch):
        monkeypatch.setattr(rtsp_process, "WRITE_SECONDS", 0.3)
        monkeypatch.setattr(rtsp_out, "UNWATCHED_SECONDS", 0)
        with RtspSink(parse_address("rtsp://:0/live"), DemoSource()) as sink:
            assert sink._server is not None
            process = sink._server._process
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(SinkError, match=r"took nothing for 0\.3 s"):
                fill(sink)
        assert process.poll() == -signal.SIGKILL


def test_without_gstreamers_bindings_the_packages_are_named(monkeypatch):
    if rtsp_process.find_spec("gi") is not None:
        pytest.skip("this Python has them")
    monkeypatch.setattr(rtsp_process, "find_python", lambda: sys.executable)
    with pytest.raises(SinkError, match=r"No module named 'gi'.*apt install python3-gi gir"):
        RtspSink(parse_address("rtsp://:0/live"), DemoSource())


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("rtsp://", "rtsp://127.0.0.1:8554/live"),
        ("rtsp://:8555", "rtsp://127.0.0.1:8555/live"),
        ("rtsp://localhost/hall/2", "rtsp://localhost:8554/hall/2"),
        ("rtsp://[::1]:99/live", "rtsp://[::1]:99/live"),
        ("rtsp://viewer:secret@0.0.0.0/live", "rtsp://0.0.0.0:8554/live"),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(written, read):
    assert str(parse_address(written)) == read


@pytest.mark.parametrize("address", ["rtsp://0.0.0.0:8554/live", "rtsp://viewer@192.168.1.5/live"])
def test_what_the_network_reaches_wants_a_password(address):
    with pytest.raises(UsageError, match="USER:PASSWORD@"):
        parse_address(address)


def test_an_address_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="cannot be"):
        parse_address("rtsp://:123456/live")
