"""`fcn-edge calib`: the examples of its help as they stand, and what it answers to wrong pictures."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcn_edge.cli import main
from fcn_edge.cli.calib import CHECK_EPILOG, MAKE_EPILOG
from fcn_edge.data.calibration_set import read_set

MAKE, CHECK = (
    [line.strip() for line in epilog.splitlines() if line.strip().startswith("fcn-edge ")]
    for epilog in (MAKE_EPILOG, CHECK_EPILOG)
)
ENTRY = "from fcn_edge.cli.main import main; main()"


@pytest.fixture
def place(tmp_path: Path, cat: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, the current one, with VOCdevkit/VOC2012: four pieces of a photo in `train`, one of another in
    `val`; and with `photos`, copies of the first four."""
    for folder in ("export", "engines", "calib", "photos"):
        (tmp_path / folder).mkdir()
    root = tmp_path / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    pictures = {"v": cv2.imread(str(astronaut))[:200, 100:400]}  # type: ignore[index]
    photo = cv2.imread(str(cat))
    assert photo is not None
    for number, (top, left) in enumerate(((0, 0), (0, 220), (150, 0), (150, 220))):
        pictures[f"t{number}"] = photo[top : top + 150, left : left + 220]
    for id, picture in pictures.items():
        cv2.imwrite(str(root / f"JPEGImages/{id}.jpg"), picture)
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[30:60] = 8
        cv2.imwrite(str(root / f"SegmentationClass/{id}.png"), mask)
        if id != "v":
            cv2.imwrite(str(tmp_path / f"photos/{id}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
    (root / "ImageSets/Segmentation/train.txt").write_text("t0\nt1\nt2\nt3\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("v\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fcn_edge(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["fcn-edge", *shlex.split(line)])
    with pytest.raises(SystemExit) as end:
        main.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    return lambda line: fcn_edge(line, capsys, monkeypatch)


def test_each_help_shows_two_examples() -> None:
    assert (len(MAKE), len(CHECK)) == (2, 2)


def test_the_examples_of_make_work_as_they_stand(place: Path) -> None:
    for example, name in zip(MAKE, ("mine", "photos"), strict=True):
        command = [sys.executable, "-c", ENTRY, *shlex.split(example)[1:]]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(read_set(place / f"calib/{name}.toml").pictures) == 4
        if "--json" in example:
            assert json.loads(done.stdout)["path"] == "calib/photos.toml"
        else:
            assert done.stdout.startswith("calib/mine.toml: 4 of 4 pictures, evenly over the classes")
            assert done.stderr == ""


def test_the_examples_of_check_work_as_they_stand(place: Path, told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first names a bundled set, whose pictures are not here: one that was drawn here stands in for its file."""
    for data, name in (("VOCdevkit/VOC2012", "voc2012"), ("photos", "photos")):
        assert told(f"calib make --data {data} --out calib/{name}.toml")[0] == 0
    monkeypatch.setattr("fcn_edge.data.calibration_set.folder", lambda name: place / name)
    status, out, err = told(CHECK[0].removeprefix("fcn-edge "))
    assert (status, err) == (0, "")
    assert out.splitlines() == ["voc2012, 4 pictures, under VOCdevkit/VOC2012:", "      4 identical copies"]
    status, out, err = told(CHECK[1].removeprefix("fcn-edge "))
    assert status == 0
    document = json.loads(out)
    assert (document["same"], document["compared"], document["evaluated"]) == (4, 1, [])
    assert "0 among the 1 evaluation pictures" in err


def test_what_is_not_as_listed_is_counted_named_and_status_1(place: Path, told) -> None:
    told("calib make --data VOCdevkit/VOC2012 --out set.toml")
    pictures = place / "VOCdevkit/VOC2012/JPEGImages"
    status, out, _ = told("calib check set.toml --data photos")
    assert status == 0
    assert "4 other copies of the same pictures: " in out
    (pictures / "t0.jpg").unlink()
    (pictures / "t1.jpg").write_bytes((pictures / "v.jpg").read_bytes())
    status, out, err = told("calib check set.toml --data VOCdevkit/VOC2012")
    assert status == 1
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["2", "identical", "copies"],
        ["1", "other", "pictures", "of", "those", "ids:", "t1"],
        ["1", "missing:", "t0"],
    ]
    assert err.startswith("fcn-edge: 1 of 4 pictures of set.toml are missing under VOCdevkit/VOC2012, 1 are other")
    assert err.count("\n") == 1


def test_evaluation_pictures_in_a_set_are_named_and_status_1(place: Path, told) -> None:
    told("calib make --data photos --out set.toml")
    (place / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("v\nt2\n")
    status, out, err = told("calib check set.toml --data photos --against VOCdevkit/VOC2012")
    assert status == 1
    assert "1 among the 2 evaluation pictures: t2.jpg (nearly the same picture: VOCdevkit/VOC2012/JPEG" in out
    assert err.startswith("fcn-edge: 1 of 4 pictures of set.toml are evaluation pictures too.")


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("calib make --data VOCdevkit/VOC2012:val", 1, "val is for evaluation, by its name"),
        ("calib make --data nowhere", 1, "nowhere: there is no such folder"),
        ("calib make --data calib", 1, "there is no picture in it"),
        ("calib make --data VOCdevkit/VOC2012:tran", 1, "there is no list 'tran'"),
        ("calib make --data photos --count 0", 2, "--count"),
        ("calib make", 2, "--data"),
        ("calib make --data photos --out mine", 2, "Name it mine.toml"),
        ("calib make --data photos --out photos/t0.jpg/set.toml", 1, "set.toml: cannot be written"),
        ("calib make --data photos --against photos:val", 1, "photos"),
        ("calib check nothing --data photos", 1, "nothing: there is no such file. Bundled calibration sets: voc2012"),
        ("calib check photos/t0.jpg --data photos", 1, "not a calibration set"),
        ("calib check set.toml --data nowhere", 1, "nowhere: there is no such folder"),
        ("calib chek", 2, "No such command 'chek'"),
    ],
)
def test_what_cannot_be_done_is_one_line(place: Path, told, line: str, status: int, words: str) -> None:
    told("calib make --data photos --out set.toml")
    before = sorted(place.rglob("*"))
    found, out, err = told(line)
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert words in err
    assert sorted(place.rglob("*")) == before


def test_a_set_is_not_overwritten_unless_asked(place: Path, told) -> None:
    told("calib make --data photos --out set.toml --seed 1")
    before = (place / "set.toml").read_text()
    status, _, err = told("calib make --data photos --out set.toml")
    assert (status, (place / "set.toml").read_text()) == (1, before)
    assert "set.toml is there already" in err
    assert told("calib make --data photos --out set.toml --seed 2 --force")[0] == 0
    assert (place / "set.toml").read_text() != before


def test_terms_and_origin_stand_in_the_file(place: Path, told) -> None:
    told("calib make --data photos --out set.toml --licence 'CC0 \"so\"' --provenance 'my own, größtenteils'")
    read = read_set(place / "set.toml")
    assert (read.licence, read.provenance, read.source) == ('CC0 "so"', "my own, größtenteils", "photos")
