"""`fcn-edge eval`: the examples of its help as they stand, and what it answers to wrong data."""

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
from fcn_edge.cli.evaluate import EPILOG
from fcn_edge.spec import VOC_CLASSES

CAT, PERSON = VOC_CLASSES.index("cat"), VOC_CLASSES.index("person")
EXAMPLES = [line.strip() for line in EPILOG.splitlines() if line.strip().startswith("fcn-edge ")]
ENTRY = "from fcn_edge.cli.main import main; main()"


@pytest.fixture
def devkit(tmp_path: Path, cat: Path, astronaut: Path) -> Path:
    """A folder with VOCdevkit/VOC2012 in it: two photos, and masks with the middle of what they show."""
    root = tmp_path / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, photo, index in (("cat", cat, CAT), ("astronaut", astronaut, PERSON)):
        (root / f"JPEGImages/{name}.jpg").write_bytes(photo.read_bytes())
        picture = cv2.imread(str(photo))
        assert picture is not None
        height, width = picture.shape[:2]
        mask = np.full((height, width), 255, np.uint8)  # the middle is labelled, the rest is void
        mask[height // 3 : height * 2 // 3, width // 3 : width * 2 // 3] = index
        cv2.imwrite(str(root / f"SegmentationClass/{name}.png"), mask)
    (root / "ImageSets/Segmentation/val.txt").write_text("cat\nastronaut\n")
    return tmp_path


def fcn_edge(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["fcn-edge", *arguments])
    with pytest.raises(SystemExit) as end:
        main.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_help_shows_two_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_help_works_as_it_stands(example: str, devkit: Path) -> None:
    command = [sys.executable, "-c", ENTRY, *shlex.split(example)[1:]]
    done = subprocess.run(command, cwd=devkit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "--json" in example:
        document = json.loads(done.stdout)
        assert document["images"] == 2
        assert document["classes"] == ["cat", "dog", "person"]
        assert document["absent"] == ["dog"]
        ious = document["per_class_iou"]
        assert list(ious) == list(VOC_CLASSES)
        assert ious["dog"] is None
        assert document["mean_iou"] == pytest.approx((ious["cat"] + ious["person"]) / 2)
        assert document["mean_iou"] > 0.8
        assert "mean IoU over 2 of 21 classes" in done.stderr
    else:
        assert "fcn8s-lite on 2 pictures" in done.stdout
        assert "cat" in done.stdout
        assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--data", "nowhere"], 1, "nowhere: there is no such folder"),
        (["--data", "nowhere:"], 2, "'nowhere:' names no list"),
        (["--data", "."], 1, "no data set of a known layout. Looked for"),
        (["--data", "nowhere:val"], 1, "nowhere: there is no such folder"),
        (["--data", "VOCdevkit/VOC2012", "--split", "test"], 1, "there is no list 'test'. Its lists: val."),
        (["--data", "VOCdevkit/VOC2012:val", "--split", "val"], 2, "leave --split val out"),
        (["--data", "VOCdevkit/VOC2012", "--classes", "cat,unicorn"], 2, "no class 'unicorn'"),
        (["--data", "VOCdevkit/VOC2012", "--classes", ","], 2, "--classes names no class"),
        (["--data", "VOCdevkit/VOC2012", "--model", "nothing"], 2, "no bundled model 'nothing'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    arguments: list[str],
    status: int,
    says: str,
    devkit: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(devkit)
    code, out, err = fcn_edge(["eval", *arguments], capsys, monkeypatch)
    assert (code, out) == (status, "")
    assert says in err
    assert err.count("\n") == 1


def test_several_data_sets_make_one_evaluation(
    devkit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(devkit)
    lists = Path("VOCdevkit/VOC2012/ImageSets/Segmentation")
    (lists / "one.txt").write_text("cat\n")
    (lists / "two.txt").write_text("astronaut\n")
    data = ["--data", "VOCdevkit/VOC2012:one", "--data", "VOCdevkit/VOC2012:two"]
    code, out, _ = fcn_edge(["eval", *data, "--json"], capsys, monkeypatch)
    assert code == 0
    assert json.loads(out)["images"] == 2


def test_own_folders_are_measured_by_the_names_of_their_classes(
    devkit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The devkit's two photos again, with indices of their own and void in the middle of them."""
    monkeypatch.chdir(devkit)
    voc, own = Path("VOCdevkit/VOC2012"), Path("own")
    own.mkdir()
    (own / "classes.txt").write_text("person 255 0 0\nvoid\ncat\n")
    (voc / "JPEGImages").rename(own / "images")
    for mask in (voc / "SegmentationClass").iterdir():
        indices = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        assert indices is not None
        cv2.imwrite(str(mask), np.select([indices == PERSON, indices == CAT], [0, 2], 1).astype(np.uint8))
    (voc / "SegmentationClass").rename(own / "masks")
    code, out, err = fcn_edge(["eval", "--data", "own", "--boundary", "2.5", "--json"], capsys, monkeypatch)
    document = json.loads(out)
    assert code == 0
    assert document["mean_iou"] > 0.8
    assert [name for name, iou in document["per_class_iou"].items() if iou is not None] == ["cat", "person"]
    assert len(document["unknown_to_the_data"]) == 19
    assert document["boundary_tolerance"] == 2.5
    assert "unknown to the data, wrong wherever the model sees them: background, aeroplane" in err
    assert "boundary F, 2.5 px over 2 of 21 classes" in err


def test_data_of_other_classes_are_refused_in_one_line(
    tmp_path: Path, cat: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("test", "testannot"):
        (tmp_path / folder).mkdir()
    (tmp_path / "test/cat.jpg").write_bytes(cat.read_bytes())
    cv2.imwrite(str(tmp_path / "testannot/cat.png"), np.zeros((300, 451), np.uint8))
    code, out, err = fcn_edge(["eval", "--data", f"{tmp_path}:test"], capsys, monkeypatch)
    assert (code, out) == (1, "")
    assert "fcn8s-lite has no class sky, building, pole, road, pavement and 5 more, which the data have" in err
    assert err.count("\n") == 1
