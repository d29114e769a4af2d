from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcn_edge.errors import SourceError
from fcn_edge.many.pictures import Picture, find_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "notes.md", "street/a.jpg", "street/a.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"-")
    return tmp_path / "in"


def names(source: Path | str) -> list[str]:
    return [picture.name for picture in find_pictures(str(source))]


def test_a_folder_gives_its_own_pictures_in_order(folder):
    assert find_pictures(str(folder)) == [
        Picture(str(folder / "a.png"), "a"),
        Picture(str(folder / "b.jpg"), "b"),
    ]


def test_a_glob_keeps_the_folders_below_its_fixed_part(folder):
    assert names(folder / "**" / "*") == ["a", "b", "street/a.jpg", "street/a.png"]


def test_a_list_is_relative_to_its_own_folder(folder, tmp_path, monkeypatch):
    (folder / "list.txt").write_text("street/a.jpg\n\n  b.jpg\nb.jpg\nmissing.jpg\n")
    monkeypatch.chdir(tmp_path)
    found = find_pictures("in/list.txt")
    assert [picture.name for picture in found] == ["b", "missing", "street/a"], "twice named is once done"
    assert found[0].path == str(folder / "b.jpg")


def test_a_picture_outside_the_lists_folder_is_named_by_its_whole_path(folder, tmp_path):
    (folder / "list.txt").write_text(f"{tmp_path}/far/x.jpg\n../near/x.jpg\n")
    below = str(tmp_path).lstrip(os.sep)
    assert names(folder / "list.txt") == [f"{below}/far/x", f"{below}/near/x"]


def test_a_list_that_grows_leaves_the_names_as_they_were(folder):
    listed = folder / "list.txt"
    listed.write_text("b.jpg\n")
    before = find_pictures(str(listed))
    listed.write_text("street/a.png\nb.jpg\na.png\n")
    assert before[0] in find_pictures(str(listed))


def test_no_two_pictures_get_one_name(folder):
    (folder / "list.txt").write_text("x.jpg\nx.png\nx.jpg.jpg\n")
    assert names(folder / "list.txt") == ["x.jpg", "x.jpg.jpg", "x.png"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing", "no such file or folder"),
        ("street/*.bmp", "holds no picture"),
        ("notes.md", "neither a picture nor a list"),
        ("empty.txt", "holds no picture"),
        ("binary.txt", "is no text"),
    ],
)
def test_what_holds_no_pictures_is_told_with_what_would(folder, source, said):
    (folder / "empty.txt").write_text("\n")
    (folder / "binary.txt").write_bytes(b"a\0b")
    with pytest.raises(SourceError, match=said) as caught:
        find_pictures(str(folder / source))
    assert str(folder / source) in str(caught.value)
    assert "Name a list of pictures" in str(caught.value)
