from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest

from fcn_edge.errors import SinkError, SourceError, UsageError
from fcn_edge.segmenter import Segmenter
from fcn_edge.video import Frame, open_source, pipeline
from fcn_edge.video.painter import Painter
from fcn_edge.video.pipeline import Feed, Limits, process
from fcn_edge.video.watchdog import STILL, Watchdog

HANGS = 30.0  # seconds; nothing here takes as long unless it hangs


@pytest.fixture(scope="module")
def segmenter() -> Iterator[Segmenter]:
    with Segmenter(size=65, threads=1) as opened:
        yield opened


class Keep:
    """A sink that keeps what it gets. `before`: called before each write, to be slow, to fail, to hang."""

    wants_picture = True

    def __init__(
        self, live: bool = False, where: str = "memory", before: Callable[[Keep], object] | None = None
    ) -> None:
        self.results = []
        self.notes: list[str] = []
        self.where, self.live = where, live
        self.left = threading.Event()
        self._before = before or (lambda keep: None)

    def write(self, result) -> None:
        self._before(self)
        self.results.append(result)

    @property
    def sequences(self) -> list[int]:
        return [result.frame.sequence for result in self.results]

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.left.set()


def full(keep: Keep) -> None:
    if len(keep.results) == 2:
        raise SinkError(f"{keep.where}: full.")


class Made:
    """A source of frames that the test makes; stands for a camera where `live`."""

    uri, files, still, dropped, reconnects, total = "made", [], False, 0, 0, None
    size = rate = time_base = None
    trouble: str | None = None
    lost_since: float | None = None
    pixel_aspect = Fraction(1)

    def __init__(self, frames: Callable[[Made], Iterator[int]], live: bool = False) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.closed = threading.Event()
        self.live = live
        self._numbers = frames

    def __iter__(self):
        for number in self._numbers(self):
            yield Frame(np.full((48, 64, 3), number % 256, np.uint8), number, Fraction(number, 100), f"made_{number}")

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        self.closed.set()


def breaks_after(count: int) -> Callable[[Made], Iterator[int]]:
    def frames(source: Made) -> Iterator[int]:
        yield from range(count)
        raise SourceError("broke")

    return frames


def every(seconds: float, count: int = 10**9) -> Callable[[Made], Iterator[int]]:
    """A camera's numbers: they come whether anybody takes them or not."""

    def frames(source: Made) -> Iterator[int]:
        for number in range(count):
            if source.closed.wait(seconds):
                return
            yield number

    return frames


def waits_for_ever(source: Made) -> Iterator[int]:
    yield 0
    source.closed.wait(HANGS)


def feed_of(source, segmenter: Segmenter, *sinks: Keep, **painting) -> Feed:
    return Feed(source, Painter(segmenter.spec, **painting), sinks)


def run(source, segmenter, *sinks: Keep, limits=Limits(), stop=None, progress=lambda feed: None, **painting):  # noqa: B008
    feed = feed_of(source, segmenter, *sinks, **painting)
    assert process([feed], segmenter, limits, stop or threading.Event(), progress) == []
    return feed.tally


def stop_after(frames: int, stop: threading.Event) -> Callable[[Feed], None]:
    return lambda feed: stop.set() if feed.tally.frames >= frames else None


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + HANGS
    while left := {thread for thread in threading.enumerate() if thread.is_alive()} - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def test_a_file_loses_no_frame_and_keeps_order(make_video, segmenter, levels):
    sink = Keep()
    with open_source(make_video(frames=20)) as source:
        tally = run(source, segmenter, sink)

    assert tally.frames == 20
    assert [levels(result.frame.image) for result in sink.results] == [n % 8 for n in range(20)]
    assert all(result.labels.shape == (48, 64) for result in sink.results)
    assert all(result.picture.shape == (48, 64, 3) for result in sink.results)
    assert set(tally.spreads) == {"read", "prepare", "infer", "decode", "draw", "write"}
    assert {spread.count for spread in tally.spreads.values()} == {20}
    assert tally.age.count == tally.deliveries[0].written == 20
    assert tally.age.percentile(50) >= tally.spreads["infer"].percentile(50)


def test_a_slow_sink_of_a_file_loses_no_frame(make_video, segmenter):
    sink = Keep(before=lambda keep: time.sleep(0.02))
    with open_source(make_video(frames=20)) as source:
        tally = run(source, segmenter, sink)
    assert sink.sequences == list(range(20))
    assert tally.lost == 0


def test_a_slow_sink_of_a_camera_loses_what_it_is_too_slow_for_and_the_others_nothing(segmenter):
    slow, quick = Keep(before=lambda keep: time.sleep(0.05)), Keep()
    tally = run(Made(every(0.01, 60), live=True), segmenter, slow, quick)
    first, second = tally.deliveries
    assert first.written == len(slow.results) < second.written == tally.frames
    assert first.written + first.lost == tally.frames
    assert second.lost == 0
    assert slow.sequences == sorted(set(slow.sequences))


def test_of_a_camera_no_frame_is_taken_twice_and_taken_and_dropped_are_all(segmenter):
    sink = Keep()
    tally = run(Made(lambda source: iter(range(500)), live=True), segmenter, sink)
    assert sink.sequences == sorted(set(sink.sequences))
    assert sink.sequences[-1] == 499
    assert tally.frames + tally.dropped == 500
    assert tally.frames < 500


def test_a_cameras_last_frame_does_not_wait_for_the_next_one(segmenter):
    """Two frames are in flight where two are there; a camera that gives no second one must not hold the first."""
    shown = threading.Event()

    def frames(source: Made) -> Iterator[int]:
        yield 0
        assert shown.wait(HANGS)
        yield 1

    tally = run(Made(frames, live=True), segmenter, Keep(before=lambda keep: shown.set()))
    assert tally.frames == 2


def test_labels_are_those_of_each_frame_alone(segmenter, cat, astronaut, tmp_path):
    for name, photo in (("a.jpg", cat), ("b.jpg", astronaut), ("c.jpg", cat)):
        (tmp_path / name).write_bytes(photo.read_bytes())
    sink = Keep()
    with open_source(tmp_path) as source:
        run(source, segmenter, sink)
    for result in sink.results:
        assert (result.labels == segmenter(result.frame.image).labels).all()


class TestLimits:
    def test_frames_and_seconds_end_an_endless_source(self, segmenter):
        for limits, frames in ((Limits(frames=3), 3), (Limits(seconds=0.2), 6)):  # the demo has 30 frames a second
            with open_source("demo:") as source:
                assert run(source, segmenter, Keep(), limits=limits).frames == frames

    def test_seconds_of_a_camera_are_those_of_the_clock_even_where_it_gives_nothing(self, segmenter):
        source = Made(waits_for_ever, live=True)
        assert run(source, segmenter, Keep(), limits=Limits(seconds=0.3)).frames == 1
        assert source.closed.is_set()

    def test_some_frames_are_left_out_after_each_one(self, segmenter):
        sink = Keep()
        tally = run(Made(lambda source: iter(range(10))), segmenter, sink, limits=Limits(skip=2))
        assert sink.sequences == [0, 3, 6, 9]
        assert tally.left_out == 6

    def test_of_a_camera_at_a_highest_rate_the_rest_is_dropped_and_a_file_waits(self, segmenter):
        camera, file = Keep(), Keep()
        tally = run(Made(every(0.005, 60), live=True), segmenter, camera, limits=Limits(max_fps=20))
        assert tally.frames <= tally.seconds * 20 + 2
        assert tally.frames + tally.dropped == 60
        run(Made(lambda source: iter(range(5))), segmenter, file, limits=Limits(max_fps=50))
        assert file.sequences == list(range(5))

    def test_a_file_that_is_only_watched_plays_at_its_own_rate(self, segmenter):
        start = time.monotonic()
        tally = run(Made(lambda source: iter(range(31))), segmenter, Keep(live=True))
        assert time.monotonic() - start > 0.29  # its frames are 10 ms apart
        assert tally.frames == 31


class TestStopping:
    def test_what_is_in_flight_is_finished(self, segmenter):
        stop = threading.Event()
        sink = Keep()
        with open_source("demo:") as source:
            tally = run(source, segmenter, sink, stop=stop, progress=stop_after(2, stop))
        assert tally.frames >= 2
        assert sink.sequences == list(range(tally.frames))
        assert sink.left.is_set()

    def test_a_camera_that_blocks_is_closed(self, segmenter):
        stop = threading.Event()
        source = Made(waits_for_ever, live=True)
        tally = run(source, segmenter, Keep(), stop=stop, progress=stop_after(1, stop))
        assert tally.frames == 1
        assert source.closed.is_set()

    def test_a_sink_that_hangs_is_left_behind_and_named_and_the_others_are_whole(self, segmenter):
        stop, released = threading.Event(), threading.Event()
        hung = Keep(where="a.mp4", before=lambda keep: released.wait(HANGS))
        whole = Keep(where="b.mp4", before=lambda keep: stop.set())
        feed = feed_of(Made(every(0.01), live=True), segmenter, hung, whole)
        start = time.monotonic()
        stuck = process([feed], segmenter, Limits(), stop)
        assert time.monotonic() - start < HANGS / 2
        assert stuck == ["write a.mp4"]
        assert whole.left.is_set()
        assert not hung.left.is_set()
        assert str(feed.tally.errors[0]).startswith("a.mp4: did not end in time")
        released.set()

    def test_a_file_whose_sink_hangs_ends_too(self, segmenter):
        stop, released = threading.Event(), threading.Event()

        def hang(keep: Keep) -> None:
            stop.set()
            released.wait(HANGS)

        feed = feed_of(Made(lambda source: iter(range(100))), segmenter, Keep(before=hang), Keep(where="other"))
        assert process([feed], segmenter, Limits(), stop) == ["write memory"]
        released.set()

    def test_an_interrupt_ends_all_threads(self, segmenter):
        sink = Keep()
        feed = feed_of(Made(every(0.01), live=True), segmenter, sink)
        run_ = pipeline._Run([feed], segmenter, Limits(), threading.Event(), lambda feed: None, lambda line: None)

        def interrupt(stages, now) -> None:
            if sink.results and not run_.stop.is_set():
                raise KeyboardInterrupt

        run_.watchdog.look = interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            run_.go_on()
        run_.stop.set()
        assert run_.end() == []
        assert sink.left.is_set()


class TestFaults:
    def test_the_only_sink_failing_ends_the_run_and_keeps_what_was_done(self, segmenter):
        sink = Keep(before=full)
        with open_source("demo:") as source:
            tally = run(source, segmenter, sink)
        assert [str(error) for error in tally.errors] == ["memory: full."]
        assert tally.deliveries[0].written == 2
        assert sink.left.is_set()

    def test_a_sink_that_fails_at_once_is_an_error(self, segmenter):
        def fails(keep: Keep) -> None:
            raise SinkError("no such disk")

        with open_source("demo:") as source, pytest.raises(SinkError, match="no such disk"):
            run(source, segmenter, Keep(before=fails))

    def test_a_failing_sink_is_told_once_and_the_others_go_on(self, segmenter):
        lines: list[str] = []
        failing, other = Keep(where="a.mp4", before=full), Keep(where="b.mp4", before=lambda keep: time.sleep(0.01))
        feed = feed_of(Made(lambda source: iter(range(40))), segmenter, failing, other)
        process([feed], segmenter, Limits(), threading.Event(), tell=lines.append)
        assert lines == ["a.mp4: full. The other outputs go on."]
        assert other.sequences == list(range(40))
        assert len(failing.results) == 2

    def test_a_sink_that_does_not_answer_is_given_up(self, segmenter, monkeypatch):
        monkeypatch.setattr(pipeline, "PATIENCE", 0.3)
        released = threading.Event()
        hung, other = Keep(where="a.mp4", before=lambda keep: released.wait(HANGS)), Keep(where="b.mp4")
        feed = feed_of(Made(lambda source: iter(range(20))), segmenter, hung, other)
        stuck = process([feed], segmenter, Limits(), threading.Event())
        released.set()
        assert stuck == ["write a.mp4"]
        assert other.sequences == list(range(20))
        assert "did not answer" in str(feed.tally.errors[0])

    def test_a_defect_of_a_sink_is_raised(self, segmenter):
        def defect(keep: Keep) -> None:
            raise ZeroDivisionError

        with open_source("demo:") as source, pytest.raises(ZeroDivisionError):
            run(source, segmenter, Keep(before=defect))

    def test_a_source_that_breaks_leaves_what_came_before(self, segmenter):
        sink = Keep()
        tally = run(Made(breaks_after(5)), segmenter, sink)
        assert tally.frames == len(sink.results) == 5
        assert [str(error) for error in tally.errors] == ["broke"]

    def test_a_source_that_breaks_at_once_is_an_error(self, segmenter):
        with pytest.raises(SourceError, match="broke"):
            run(Made(breaks_after(0)), segmenter, Keep())

    def test_a_lost_camera_shows_its_last_picture_with_a_notice_and_records_nothing(self, segmenter):
        lines: list[str] = []
        noticed = threading.Event()

        def frames(source: Made) -> Iterator[int]:
            yield 0
            source.trouble = "made: gave no frame for 12 s."
            source.lost_since = time.monotonic() - 12
            noticed.wait(HANGS)
            source.lost_since = None
            while len(lines) < 2:
                time.sleep(0.01)
            yield 1

        screen = Keep(live=True, before=lambda keep: noticed.set() if keep.results else None)
        file = Keep()
        feed = feed_of(Made(frames, live=True), segmenter, screen, file)
        process([feed], segmenter, Limits(), threading.Event(), tell=lines.append)

        assert screen.sequences == [0, 0, 1]
        assert file.sequences == [0, 1]
        normal, notice, _ = (result.picture for result in screen.results)
        assert notice.mean() != normal.mean()
        assert feed.tally.deliveries[0].written == 2
        assert lines[0] == "made: gave no frame for 12 s. Looking for it again."
        assert lines[1].startswith("made: is back after 12.")


class TestSeveralSources:
    def test_each_sink_gets_the_frames_and_labels_of_its_own_source(self, segmenter, cat, astronaut):
        sinks = [Keep(), Keep(), Keep()]
        sources = [open_source(path) for path in (cat, astronaut, cat)]
        feeds = [feed_of(source, segmenter, sink) for source, sink in zip(sources, sinks, strict=True)]
        process(feeds, segmenter, Limits(), threading.Event())
        for source, sink in zip(sources, sinks, strict=True):
            (expected,) = open_source(source.files[0])
            (result,) = sink.results
            assert (result.frame.image == expected.image).all()
            assert (result.labels == segmenter(expected.image).labels).all()

    def test_they_have_fair_shares_of_the_network(self):
        stop = threading.Event()
        with Segmenter(size=257, threads=1) as segmenter:  # the smaller one takes less time than Python's own lock
            feeds = [feed_of(Made(lambda source: iter(range(10**9))), segmenter, Keep()) for _ in range(3)]
            process(feeds, segmenter, Limits(), stop, progress=stop_after(30, stop))
        counts = [feed.tally.frames for feed in feeds]
        assert min(counts) >= 20, counts

    def test_one_that_ends_or_breaks_lets_the_others_go_on_and_its_outputs_are_whole_meanwhile(self, segmenter):
        ended, broken = Keep(), Keep()
        longest = Keep(before=lambda keep: ended.left.wait(HANGS) and broken.left.wait(HANGS))
        feeds = [
            feed_of(Made(lambda source: iter(range(2))), segmenter, ended),
            feed_of(Made(breaks_after(3)), segmenter, broken),
            feed_of(Made(every(0.005, 20), live=True), segmenter, longest),
        ]
        process(feeds, segmenter, Limits(), threading.Event())
        assert [len(ended.results), len(broken.results)] == [2, 3]
        assert longest.sequences[-1] == 19
        assert [len(feed.tally.errors) for feed in feeds] == [0, 1, 0]

    def test_a_slow_sink_of_one_file_keeps_no_other_waiting(self, segmenter):
        done = threading.Event()
        slow = Keep(before=lambda keep: done.wait(HANGS))
        feeds = [
            feed_of(Made(lambda source: iter(range(20))), segmenter, slow),
            feed_of(Made(lambda source: iter(range(40))), segmenter, Keep()),
        ]
        process(
            feeds,
            segmenter,
            Limits(),
            threading.Event(),
            progress=lambda feed: done.set() if feed.tally.frames == 40 else None,
        )
        assert slow.sequences == list(range(20))
        assert feeds[1].tally.frames == 40

    def test_each_is_steadied_by_its_own_memory(self, segmenter):
        seen: list[set[int]] = [set(), set()]

        def steady(number: int):
            def remember(scores, frame, ending):
                seen[number].add(int(frame[0, 0, 0]))
                return scores

            return remember

        feeds = [feed_of(Made(lambda source, k=k: iter(range(k, 20, 2))), segmenter, Keep()) for k in (0, 1)]
        for number, feed in enumerate(feeds):
            feed.steady = steady(number)
        process(feeds, segmenter, Limits(), threading.Event())
        assert seen == [set(range(0, 20, 2)), set(range(1, 20, 2))]


class TestWatchdog:
    def test_what_stands_still_is_told_once_and_again_when_it_goes_on(self):
        lines: list[str] = []
        watchdog = Watchdog(lines.append)
        for now, since in ((0, None), (5, 4.0), (STILL + 5, 4.0), (STILL + 6, 4.0), (STILL + 7, STILL + 6.5)):
            watchdog.look([("the network", since), ("reading a.mp4", None)], now)
        assert lines == [
            f"the network has stood still for {STILL:.0f} s.",
            f"the network goes on after {STILL + 3:.0f} s.",
        ]

    def test_systemd_hears_of_a_run_as_long_as_nothing_stands_still(self, tmp_path, monkeypatch):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(HANGS)
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            watchdog = Watchdog(lambda line: None)
            watchdog.look([("the network", None)], 100.0)
            assert systemd.recv(100) == b"WATCHDOG=1"
            watchdog.look([("the network", 100.0)], 200.0)
            watchdog.look([("the network", None)], 300.0)
            assert systemd.recv(100) == b"WATCHDOG=1"
            systemd.setblocking(False)
            with pytest.raises(BlockingIOError):
                systemd.recv(100)


class TestPainting:
    def test_only_the_classes_asked_for_remain(self, segmenter, astronaut):
        shown = Painter(segmenter.spec, keep=("cat",)).labels(np.array([[0, 8, 15, 255]], np.uint8))
        assert shown.tolist() == [[0, 8, 0, 255]]

    def test_shares_are_parts_of_the_frame(self, segmenter):
        labels = np.array([[0, 0, 8, 15]], np.uint8)
        assert Painter(segmenter.spec).shares(labels) == {"background": 0.5, "cat": 0.25, "person": 0.25}

    def test_an_unknown_class_lists_the_known_ones(self, segmenter):
        with pytest.raises(UsageError, match=r"unicorn.*cat.*person"):
            Painter(segmenter.spec, keep=("cat", "unicorn"))
        with pytest.raises(UsageError, match=r"unicorn.*cat.*person"):
            Painter(segmenter.spec, heat="unicorn")

    def test_classes_that_the_weights_know_little_of_are_named_once(self, segmenter):
        from dataclasses import replace

        spec = replace(segmenter.spec, covered=("background", "cat", "sofa"), thin=("sofa",))
        lines = Painter(spec, keep=("cat", "sofa", "dog"), heat="dog").warnings()
        assert ["sofa" in lines[0], "dog" in lines[1], len(lines)] == [True, True, 2]

    def test_a_heat_map_shows_the_class(self, segmenter, cat):
        sink = Keep()
        with open_source(cat) as source:
            run(source, segmenter, sink, heat="cat", legend=False)
        (result,) = sink.results
        assert result.picture.shape == result.frame.image.shape
        assert (result.picture != result.frame.image).any()

    def test_untrained_weights_are_written_into_the_picture(self, segmenter, cat):
        from dataclasses import replace

        segmentation = segmenter(np.zeros((200, 300, 3), np.uint8))
        labels = np.zeros((200, 300), np.uint8)
        drawn = [
            Painter(replace(segmenter.spec, trained=trained), legend=False).draw(segmentation, labels, {}, "")
            for trained in (True, False)
        ]
        assert not drawn[0].any()
        assert drawn[1].any()
