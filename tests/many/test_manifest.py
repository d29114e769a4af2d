from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fcn_edge.errors import SinkError
from fcn_edge.many.manifest import Header, Manifest, Output, Record, note
from fcn_edge.many.pictures import Picture

HEADER = Header(note("net", True), "net", True, "one", {})


@pytest.fixture
def done(tmp_path: Path) -> tuple[Picture, Record]:
    """A picture with its mask, and the line that says so."""
    (tmp_path / "in.jpg").write_bytes(b"picture")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "in.png").write_bytes(b"mask")
    picture = Picture(str(tmp_path / "in.jpg"), "in")
    modified = os.stat(picture.path).st_mtime_ns
    return picture, Record("in", picture.path, 7, modified, "ab", (Output("in.png", 4, "cd"),), "net fp32", "host/1")


def open_manifest(tmp_path: Path, header: Header = HEADER, force: bool = False) -> Manifest:
    return Manifest(tmp_path / "out", header, force)


def lines(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]


def test_what_was_added_is_done_in_the_next_run(tmp_path, done):
    picture, record = done
    with open_manifest(tmp_path) as manifest:
        assert not manifest.is_done(picture)
        manifest.add([record])
    with open_manifest(tmp_path) as manifest:
        assert manifest.is_done(picture)


def test_a_line_is_there_at_once_and_a_torn_one_costs_only_itself(tmp_path, done):
    picture, record = done
    path = tmp_path / "out" / "manifest.jsonl"
    with open_manifest(tmp_path) as manifest:
        manifest.add([record])
        written = path.read_bytes()
    path.write_bytes(written + b'{"name": "half')
    with open_manifest(tmp_path) as again:
        assert again.is_done(picture)
    assert [line.get("name") for line in lines(tmp_path)] == [None, "in"]


def change_picture(tmp_path: Path) -> None:
    (tmp_path / "in.jpg").write_bytes(b"another")
    os.utime(tmp_path / "in.jpg", ns=(1, 1))


def cut_mask(tmp_path: Path) -> None:
    (tmp_path / "out" / "in.png").write_bytes(b"")


def remove_mask(tmp_path: Path) -> None:
    (tmp_path / "out" / "in.png").unlink()


@pytest.mark.parametrize("change", [change_picture, cut_mask, remove_mask])
def test_what_changed_is_to_be_done_again(tmp_path, done, change):
    with open_manifest(tmp_path) as manifest:
        manifest.add([done[1]])
    change(tmp_path)
    with open_manifest(tmp_path) as manifest:
        assert not manifest.is_done(done[0])


def test_a_bad_picture_is_tried_again(tmp_path, done):
    with open_manifest(tmp_path) as manifest:
        manifest.add([Record("in", done[0].path, problem="broken")])
    with open_manifest(tmp_path) as manifest:
        assert not manifest.is_done(done[0])


def test_other_options_begin_anew(tmp_path, done):
    with open_manifest(tmp_path) as manifest:
        manifest.add([done[1]])
    other = Header(HEADER.note, "net", True, "two", {})
    with open_manifest(tmp_path, other) as manifest:
        assert not manifest.is_done(done[0])
    assert [line["mark"] for line in lines(tmp_path)] == ["two"]


def test_at_the_end_lines_are_in_order_and_the_last_on_a_picture_counts(tmp_path, done):
    with open_manifest(tmp_path) as manifest:
        manifest.add([Record("z", "/z"), Record("in", done[0].path, problem="broken")])
        manifest.add([done[1], Record("a", "/a", worker="host/2")])
    assert [line["name"] for line in lines(tmp_path)[1:]] == ["a", "in", "z"]
    assert "problem" not in lines(tmp_path)[2]


def test_anothers_file_of_that_name_is_left_alone(tmp_path, done):
    path = tmp_path / "out" / "manifest.jsonl"
    path.write_text('{"mine": 1}\n')
    with pytest.raises(SinkError, match=r"manifest\.jsonl: exists and was not made by fcn-edge.*--force"):
        open_manifest(tmp_path)
    assert path.read_text() == '{"mine": 1}\n'
    with open_manifest(tmp_path, force=True):
        assert lines(tmp_path)[0]["model"] == "net"
