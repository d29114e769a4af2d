from __future__ import annotations

from pathlib import Path

import pytest

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.spec import ModelSpec
from fcn_edge.video import open_source
from fcn_edge.video.outputs import Wishes, open_sinks
from fcn_edge.video.series import Cut


def test_each_of_several_sources_has_its_own_outputs(tmp_path):
    (tmp_path / "there.d").mkdir()
    wishes = Wishes(("a.mp4", "folder", str(tmp_path / "there.d"), "rtsp://:8554/live"), Path("masks"), Path("s.jsonl"))
    mine = wishes.of(2)
    assert mine.out == ("a-2.mp4", "folder-2", str(tmp_path / "there.d-2"), "rtsp://:8554/live-2")
    assert (mine.labels, mine.stats) == (Path("masks-2"), Path("s-2.jsonl"))


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (Wishes(("a.xyz",)), "neither a video"),
        (Wishes(("http://:8081/",)), "--web serves MJPEG"),
        (Wishes(("ftp://me:secret@there/a.mp4",)), r"ftp://\*\*\*@there"),
        (Wishes(("a.mp4",), encoder="h265"), "no encoder 'h265'"),
        (Wishes(("folder",), cut=Cut(seconds=60)), "--segment: cuts videos"),
    ],
)
def test_what_cannot_come_of_it_is_said_before_anything_is_opened(wishes, words):
    with pytest.raises(UsageError, match=words):
        wishes.check()


def test_a_page_is_enough():
    Wishes(served=True).check()


def test_an_output_that_cannot_be_opened_leaves_nothing_of_those_before_it(tmp_path):
    (tmp_path / "file").touch()
    wishes = Wishes((str(tmp_path / "a.mp4"), str(tmp_path / "file" / "b.mp4")), stats=tmp_path / "s.jsonl")
    with open_source("demo:") as source, pytest.raises(SinkError):
        open_sinks(wishes, source, ModelSpec(name="m", classes=("a",), palette=((0, 0, 0),)), False, {}, dict, dict)  # type: ignore[call-arg]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
