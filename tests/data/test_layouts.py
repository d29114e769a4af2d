"""CamVid, SBD and folder pairs, on small files of each layout, and what is answered where none fits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fcn_edge.data import DataSet, check, open_data, read_truth
from fcn_edge.errors import DataError, UsageError
from fcn_edge.spec import VOC_CLASSES, voc_palette

PICTURE = np.zeros((4, 6, 3), np.uint8)


def put(path: Path, pixels: np.ndarray | int = PICTURE) -> None:
    """A picture, or a mask that holds one index all over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((4, 6), pixels, np.uint8) if isinstance(pixels, int) else pixels)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def ids(data: DataSet) -> list[str]:
    return [sample.id for sample in data.samples]


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    root = tmp_path / "camvid"
    for folder, names in (("train", "ab"), ("test", "c")):
        for name in names:
            put(root / folder / f"{name}.png")
            put(root / f"{folder}annot" / f"{name}.png", 10)
    return root


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Two pictures of a data set with a background and fruit."""
    root = tmp_path / "own"
    for name in ("one", "two"):
        put(root / f"images/{name}.jpg")
        put(root / f"masks/{name}.png", 1)
    write(root / "classes.txt", "background\nfruit 255 0 0\n")
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """`a` has a mask of VOC's own and one of SBD's, `b` one of SBD's alone."""
    root = tmp_path / "VOCdevkit/VOC2012"
    for name in "ab":
        put(root / f"JPEGImages/{name}.jpg")
        put(root / f"SegmentationClassAug/{name}.png", 2)
    put(root / "SegmentationClass/a.png", 1)
    write(root / "ImageSets/Segmentation/trainaug.txt", "a\nb\n")
    write(root / "ImageSets/Segmentation/val.txt", "a\nb\n")
    return root


def test_camvid_has_eleven_classes_and_its_eleven_is_void(camvid: Path) -> None:
    put(camvid / "testannot/c.png", np.array([[0, 10, 11, 11, 255, 3]] * 4, np.uint8))
    data = open_data([f"{camvid}:test"])
    assert data.classes[0] == "sky"
    assert data.classes[3] == "road"
    assert data.palette[3] == (128, 64, 128)
    assert len(data.classes) == len(data.palette) == 11
    check(data.samples, 11)
    assert read_truth(data.samples[0])[0].tolist() == [0, 10, 255, 255, 255, 3]


def test_a_camvid_index_above_void_is_named_as_the_mask_stores_it(camvid: Path) -> None:
    put(camvid / "trainannot/b.png", 12)
    with pytest.raises(DataError, match=r"1 of 2 .*b\.png holds index 12, 11 classes end at 10, 11 is void"):
        check(open_data([f"{camvid}:train"]).samples, 11)


def test_a_camvid_picture_without_mask_and_a_mask_without_picture_are_both_named(
    camvid: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (camvid / "trainannot/a.png").unlink()
    (camvid / "train/b.png").unlink()
    with pytest.raises(DataError, match=r"2 of 2 .*trainannot/a\.png: there is no such file; all are named"):
        check(open_data([f"{camvid}:train"]).samples, 11)
    assert caplog.messages[1] == f"{camvid}/train/b.png: there is no such file"


def test_several_lists_are_one_data_set_even_where_their_pictures_share_names(camvid: Path) -> None:
    put(camvid / "test/a.png")
    put(camvid / "testannot/a.png", 0)
    assert ids(open_data([str(camvid)], split="train,test")) == ["a", "b", "a", "c"]
    assert ids(open_data([f"{camvid}:test", f"{camvid}:train,test"])) == ["a", "c", "a", "b"]


def test_vocs_own_mask_goes_before_sbds(voc: Path) -> None:
    data = open_data([f"{voc}:trainaug"])
    assert (data.classes, data.palette) == (VOC_CLASSES, voc_palette(21))
    assert [read_truth(sample)[0, 0] for sample in data.samples] == [1, 2]


def test_sbd_does_not_mend_a_mask_that_vocs_own_lists_lack(voc: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 2 .*SegmentationClass/b\.png: there is no such file"):
        check(open_data([f"{voc}:val"]).samples, 21)


def test_a_list_of_pairs_as_deeplab_writes_it_is_read(voc: Path) -> None:
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in "ba"]
    write(voc / "ImageSets/Segmentation/pairs.txt", "\n".join(lines))
    assert ids(open_data([f"{voc}:pairs"])) == ["b", "a"]


def test_folders_of_images_and_masks_are_one_data_set_without_a_list(own: Path) -> None:
    data = open_data([str(own)], default="val")
    assert ids(data) == ["one", "two"]
    assert data.classes == ("background", "fruit")
    assert data.palette == ((0, 0, 0), (255, 0, 0))
    check(data.samples, 2)


def test_lists_are_files_or_folders(own: Path) -> None:
    write(own / "lists/some.txt", "two.jpg\none\n")
    put(own / "images/late/three.webp")
    put(own / "masks/late/three.png", 0)
    assert ids(open_data([f"{own}:some"])) == ["two", "one"]
    late = open_data([str(own)], split="late")
    assert ids(late) == ["three"]
    check(late.samples, 2)
    with pytest.raises(UsageError, match=r"has the lists late, some: name one, as in .*own:late"):
        open_data([str(own)])
    assert ids(open_data([str(own)], default="late")) == ["three"]


def test_masks_of_colours_are_named_all_of_them(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "two"):
        put(own / f"masks/{name}.png", PICTURE)
    with pytest.raises(DataError, match=r"2 of 2 .*one\.png: the mask holds colours .*; all are named above\. "):
        check(open_data([str(own)]).samples, 2)
    assert [message.partition(": ")[0] for message in caplog.messages] == [
        f"{own}/masks/{n}.png" for n in ("one", "two")
    ]


def test_a_list_that_names_what_is_not_there_is_found_by_check(own: Path) -> None:
    write(own / "lists/some.txt", "one\nthree\n")
    with pytest.raises(DataError, match=r"1 of 2 .*images/three\.jpg: there is no such file"):
        check(open_data([f"{own}:some"]).samples, 2)


def test_void_may_be_any_line_of_the_classes_and_those_behind_it_move_down(own: Path) -> None:
    write(own / "classes.txt", "\ufeff# fruit\nvoid\n\napple 1 2 3\nred pear\n")
    put(own / "masks/one.png", np.array([[0, 1, 2, 255, 0, 1]] * 4, np.uint8))
    data = open_data([str(own)])
    assert data.classes == ("apple", "red pear")
    assert data.palette == ((1, 2, 3), voc_palette(2)[1])
    assert read_truth(data.samples[0])[0].tolist() == [255, 0, 1, 255, 255, 0]
    check(data.samples, 2)
    put(own / "masks/one.png", 3)
    with pytest.raises(DataError, match=r"index 3, 2 classes end at 2, 0 is void"):
        check(data.samples, 2)


def test_a_classes_file_replaces_a_layouts_own_classes(camvid: Path) -> None:
    write(camvid / "classes.txt", "road\ncar\n")
    data = open_data([f"{camvid}:test"])
    assert data.classes == ("road", "car")
    assert data.samples[0].void == 255


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 classes, 1 to 254"),
        ("\n".join(f"c{n}" for n in range(256)), "256 classes"),
        ("a\nb\na\n", "a stands there more than once"),
        ("a 1 2 256\n", "'a 1 2 256' has a colour above 255"),
        ("void\n", "no class but void"),
    ],
)
def test_a_wrong_classes_file_is_refused(own: Path, text: str, says: str) -> None:
    write(own / "classes.txt", text)
    with pytest.raises(DataError, match=rf"classes\.txt: .*{says}"):
        open_data([str(own)])


def test_a_classes_file_that_is_no_text_is_refused(own: Path) -> None:
    (own / "classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"classes\.txt: not readable as a text file"):
        open_data([str(own)])


def test_folders_without_classes_are_told_to_name_them(own: Path) -> None:
    (own / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"own has no classes\.txt. Write one"):
        open_data([str(own)])


def test_an_unrecognised_folder_is_told_what_was_looked_for_and_where_one_lies(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Looked for JPEGImages .*; train .*; images .*Did you mean .*VOC2012\?$"):
        open_data([str(voc.parent)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty is no data set .*docs/data\.md"):
        open_data([str(tmp_path / "empty")])


def test_an_empty_pair_of_folders_is_refused(own: Path) -> None:
    for path in (*own.glob("images/*"), *own.glob("masks/*")):
        path.unlink()
    with pytest.raises(DataError, match="there is no picture"):
        open_data([str(own)])


def test_a_list_where_there_are_none_is_refused(own: Path) -> None:
    with pytest.raises(DataError, match=r"no list 'val'\. It has none: name the folder alone"):
        open_data([f"{own}:val"])


def test_data_sets_of_different_classes_do_not_mix(own: Path, camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"own and .*camvid:test speak of different classes: 2 against 11"):
        open_data([f"{camvid}:test", str(own)])
    other = tmp_path / "other"
    put(other / "images/x.png")
    put(other / "masks/x.png", 0)
    write(other / "classes.txt", "background\nmeat\n")
    with pytest.raises(DataError, match=r"index 1 is meat in the one, fruit in the other"):
        open_data([str(own), str(other)])
    write(other / "classes.txt", "background\nfruit\n")
    assert ids(open_data([str(own), str(other)])) == ["one", "two", "x"]


def test_words_that_make_no_sense_are_usage_errors(own: Path) -> None:
    with pytest.raises(UsageError, match="no data set is named"):
        open_data([])
    with pytest.raises(UsageError, match="names no list"):
        open_data([f"{own}:"])
