from __future__ import annotations

import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from fcn_edge.errors import SinkError, SourceError, UsageError
from fcn_edge.segmenter import Segmenter
from fcn_edge.video import Frame, open_source
from fcn_edge.video.painter import Painter
from fcn_edge.video.pipeline import Channel, Limits, Tally, process


@pytest.fixture(scope="module")
def segmenter():
    with Segmenter(size=65, threads=1) as opened:
        yield opened


class Keep:
    """A sink that keeps what it gets."""

    wants_picture = True
    where = "memory"

    def __init__(self, fail_at: int | None = None) -> None:
        self.results = []
        self.notes = []
        self.fail_at = fail_at

    def write(self, result) -> None:
        if len(self.results) == self.fail_at:
            raise SinkError("full")
        self.results.append(result)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass


class Breaks:
    """A source that breaks after some frames."""

    uri, files, live, still, dropped, total = "breaks", [], False, False, 0, None
    size = rate = time_base = None
    pixel_aspect = Fraction(1)

    def __init__(self, after: int) -> None:
        self.after = after
        self.problems: list[str] = []

    def __iter__(self):
        for n in range(self.after):
            yield Frame(np.zeros((40, 40, 3), np.uint8), n, Fraction(n), str(n))
        raise SourceError("broke")

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None: ...
    def close(self) -> None: ...


def run(source, segmenter, sink, limits=Limits(), stop=None, progress=lambda tally: None, **painting):  # noqa: B008
    tally = Tally()
    painter = Painter(segmenter.spec, **painting)
    process(source, segmenter, painter, [sink], limits, stop or threading.Event(), tally, progress)
    return tally


def idle_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()} & {"read", "infer", "camera"}


def test_a_file_loses_no_frame_and_keeps_order(make_video, segmenter, levels):
    sink = Keep()
    with open_source(make_video(frames=20)) as source:
        tally = run(source, segmenter, sink)

    assert tally.frames == 20
    assert [levels(result.frame.image) for result in sink.results] == [n % 8 for n in range(20)]
    assert all(result.labels.shape == (48, 64) for result in sink.results)
    assert all(result.picture.shape == (48, 64, 3) for result in sink.results)
    assert set(tally.stage_means) == {"read", "prepare", "infer", "decode", "draw", "write"}
    assert not idle_threads()


def test_a_slow_sink_loses_no_frame(make_video, segmenter):
    class Slow(Keep):
        def write(self, result) -> None:
            time.sleep(0.02)
            super().write(result)

    sink = Slow()
    with open_source(make_video(frames=20)) as source:
        run(source, segmenter, sink)
    assert [result.frame.sequence for result in sink.results] == list(range(20))


def test_labels_are_those_of_each_frame_alone(segmenter, cat, astronaut, tmp_path):
    for name, photo in (("a.jpg", cat), ("b.jpg", astronaut), ("c.jpg", cat)):
        (tmp_path / name).write_bytes(photo.read_bytes())
    sink = Keep()
    with open_source(tmp_path) as source:
        run(source, segmenter, sink)
    for result in sink.results:
        assert (result.labels == segmenter(result.frame.image).labels).all()


def test_frames_and_seconds_end_an_endless_source(segmenter):
    for limits, frames in ((Limits(frames=3), 3), (Limits(seconds=0.2), 6)):  # the demo has 30 frames a second
        with open_source("demo:") as source:
            assert run(source, segmenter, Keep(), limits).frames == frames


def test_a_stop_finishes_what_is_in_flight(segmenter):
    stop = threading.Event()
    sink = Keep()
    with open_source("demo:") as source:
        tally = run(source, segmenter, sink, stop=stop, progress=lambda t: stop.set() if t.frames == 2 else None)
    assert 2 <= tally.frames <= 12
    assert [result.frame.sequence for result in sink.results] == list(range(tally.frames))
    assert not idle_threads()


def test_a_failing_sink_ends_the_run_with_its_error(segmenter):
    with open_source("demo:") as source, pytest.raises(SinkError, match="full"):
        run(source, segmenter, Keep(fail_at=2))
    assert not idle_threads()


def test_a_source_that_breaks_leaves_what_came_before(segmenter):
    sink = Keep()
    tally = run(Breaks(5), segmenter, sink)
    assert tally.frames == len(sink.results) == 5
    assert str(tally.error) == "broke"


def test_a_source_that_breaks_at_once_is_an_error(segmenter):
    with pytest.raises(SourceError, match="broke"):
        run(Breaks(0), segmenter, Keep())


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


class TestChannel:
    def test_it_takes_so_many_bytes_and_one_item_whatever_its_size(self):
        channel: Channel[str] = Channel(items=10, size=100)
        assert channel.put("huge", 500)
        taker = threading.Thread(target=lambda: next(iter(channel)))
        done = threading.Event()
        sender = threading.Thread(target=lambda: (channel.put("next", 1), done.set()))
        sender.start()
        assert not done.wait(0.05)
        taker.start()
        assert done.wait(5)
        taker.join()
        sender.join()

    def test_an_abandoned_channel_frees_its_sender(self):
        channel: Channel[int] = Channel(items=1, size=100)
        channel.put(1, 1)
        answers = []
        sender = threading.Thread(target=lambda: answers.append(channel.put(2, 1)))
        sender.start()
        channel.abandon()
        sender.join(5)
        assert answers == [False]
        assert list(channel) == []

    def test_a_closed_channel_gives_what_it_holds_and_ends(self):
        channel: Channel[int] = Channel(items=3, size=100)
        for number in range(3):
            channel.put(number, 1)
        channel.close()
        assert list(channel) == [0, 1, 2]
