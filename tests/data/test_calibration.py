"""Calibration sets on real photos: pieces of the two that the repository ships, saved in several ways."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcn_edge.data import Sample
from fcn_edge.data.calibration import identity, near, open_calibration
from fcn_edge.data.calibration_set import open_source, read_set, verify, write_set
from fcn_edge.data.drawing import draw_set, evenly
from fcn_edge.data.likeness import FAR, NEAR, NOISE, distances, look, perceptual_hash, smoothness
from fcn_edge.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


@pytest.fixture(scope="session")
def photos(cat: Path, astronaut: Path) -> list[np.ndarray]:
    """Twelve pictures, 150x150: pieces of two photos."""
    pictures = [read(cat), read(astronaut)]
    return [
        picture[top : top + 150, left : left + 150]
        for picture in pictures
        for top in (0, 150, 300)
        for left in (0, 150, 300)
        if top + 150 <= picture.shape[0] and left + 150 <= picture.shape[1]
    ][:12]


@pytest.fixture
def voc(tmp_path: Path, photos: list[np.ndarray]) -> Path:
    """Twelve pictures a0..a11: `train` has the first eight, `val` the last four.

    Classes: 1 in a0..a6, 2 in a7 alone, beside background in all.
    """
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number, photo in enumerate(photos):
        cv2.imwrite(str(root / f"JPEGImages/a{number}.jpg"), photo)
        mask = np.zeros(photo.shape[:2], np.uint8)
        mask[40:80], mask[80:82] = 2 if number == 7 else 1, 255
        cv2.imwrite(str(root / f"SegmentationClass/a{number}.png"), mask)
    ids = [f"a{number}" for number in range(len(photos))]
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids[:8]))
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(ids[8:]))
    return root


@pytest.fixture
def folder(tmp_path: Path, photos: list[np.ndarray]) -> Path:
    """The same pictures in a folder and one below it."""
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    for number, photo in enumerate(photos):
        cv2.imwrite(str(root / ("more" if number % 2 else "") / f"a{number}.jpg"), photo)
    return root


def drawn_from(root: Path, tmp_path: Path, count: int = 8) -> Path:
    """A set drawn from `root` and written."""
    path = tmp_path / "set.toml"
    write_set(path, draw_set(open_source(str(root)), count, name="set"))
    return path


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# the perceptual hash


def slow_hash(gray: np.ndarray) -> int:
    """By the definition: the mean of each of 32x32 fields, and a DCT-II written out as a sum of cosines."""
    fields = [[part.mean() for part in np.array_split(band, 32, axis=1)] for band in np.array_split(gray, 32)]
    at = np.arange(32)
    cosines = np.cos(np.pi * np.outer(np.arange(8), 2 * at + 1) / 64)
    scale = np.where(np.arange(8) == 0, np.sqrt(1 / 32), np.sqrt(2 / 32))
    lowest = (scale[:, None] * cosines) @ np.array(fields) @ (scale[:, None] * cosines).T
    values = lowest.ravel()[1:]
    return int("0" + "".join("01"[int(value > np.median(values))] for value in values), 2)


def test_the_hash_is_the_signs_of_the_lowest_frequencies_against_their_median(astronaut: Path) -> None:
    gray = cv2.cvtColor(read(astronaut), cv2.COLOR_BGR2GRAY)  # 512x512: fields of whole pixels
    assert distances([perceptual_hash(gray)], [slow_hash(gray)]).item() <= 2  # INTER_AREA rounds to whole numbers


def test_distances_are_the_bits_that_differ() -> None:
    ours, theirs = [0, 0xFFFFFFFFFFFFFFFF, 0x0F], [0x01, 0xF0F0]
    counted = [[(our ^ their).bit_count() for their in theirs] for our in ours]
    assert distances(ours, theirs).tolist() == counted


@pytest.mark.parametrize("quality", [90, 40, 15])
@pytest.mark.parametrize("side", [128, 300, 800])
def test_a_copy_of_another_size_and_quality_is_near(photos: list[np.ndarray], quality: int, side: int) -> None:
    for photo in photos:
        shape = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA if side < 150 else cv2.INTER_LINEAR)
        copy = cv2.imdecode(cv2.imencode(".jpg", shape, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
        assert copy is not None
        gray = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
        assert distances([perceptual_hash(gray)], [perceptual_hash(copy)]).item() <= NEAR


def test_different_pictures_are_far_apart(photos: list[np.ndarray]) -> None:
    hashes = [perceptual_hash(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)) for photo in photos]
    apart = distances(hashes, hashes)[np.triu_indices(len(hashes), 1)]
    assert apart.min() > NEAR
    assert np.median(apart) >= FAR


# noise


@pytest.mark.parametrize("side", [150, 224, 512])
def test_photos_and_noise_are_apart_however_noise_is_saved(photos: list[np.ndarray], side: int) -> None:
    white = noise((side, side), 0)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", white, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_GRAYSCALE)
    blocks = cv2.resize(white[: side // 4, : side // 4], (side, side), interpolation=cv2.INTER_NEAREST)
    flat = np.full((side, side), 128, np.uint8)
    assert jpeg is not None
    for picture in (white, jpeg, blocks, cv2.GaussianBlur(white, (0, 0), 2), flat):
        assert smoothness(picture) < NOISE - 0.1
    assert np.median([smoothness(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)) for photo in photos]) > NOISE + 0.2


def test_a_set_of_noise_is_refused(tmp_path: Path) -> None:
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), noise((120, 160, 3), number))
    with pytest.raises(DataError, match=r"6 of 6 pictures are noise or of one colour .*calibrate with photos"):
        open_calibration(tmp_path)
    with pytest.raises(DataError, match="6 of 6 pictures are noise"):
        draw_set(open_source(str(tmp_path)), 4 + 2)


def test_a_set_of_one_colour_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "gray.png"), np.full((50, 50, 3), 114, np.uint8))
    with pytest.raises(DataError, match="1 of 1 pictures are noise or of one colour"):
        open_calibration(tmp_path)


# drawing


def test_the_class_that_few_hold_is_drawn_for() -> None:
    holds = [frozenset({0, 1})] * 50 + [frozenset({0, 2})] * 3 + [frozenset({0})] * 20
    for seed in range(20):
        first = list(evenly(holds, seed))[:6]
        assert Counter(label for index in first for label in holds[index]) == {0: 6, 1: 3, 2: 3}


def test_drawing_takes_each_once_and_goes_by_the_seed() -> None:
    holds = [frozenset({number % 3, number % 5}) for number in range(40)] + [frozenset()] * 5
    orders = [tuple(evenly(holds, seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(45))
    assert set(orders[0][-5:]) == set(range(40, 45))  # without any class: last


def test_a_set_lists_ids_and_the_hashes_of_these_files(voc: Path, tmp_path: Path) -> None:
    listed = read_set(drawn_from(voc, tmp_path, 4))
    assert (listed.source, listed.name, listed.seed) == ("VOC2012:train", "set", 0)
    assert listed.drawn == "4 of 8 pictures, evenly over the classes that their masks hold"
    assert listed.classes == {"background": 4, "aeroplane": 3, "bicycle": 1}
    for entry in listed.pictures:
        path = voc / f"JPEGImages/{entry.id}.jpg"
        assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert int(entry.hash, 16) == perceptual_hash(cv2.cvtColor(read(path), cv2.COLOR_BGR2GRAY))


def test_a_mask_with_an_index_that_is_no_class_is_named(voc: Path) -> None:
    cv2.imwrite(str(voc / "SegmentationClass/a2.png"), np.full((150, 150), 33, np.uint8))
    with pytest.raises(DataError, match=r"a2\.png holds index 33, 21 classes end at 20.*Mend the mask"):
        draw_set(open_source(str(voc)), 3)


def test_a_folder_has_paths_for_ids(folder: Path, tmp_path: Path) -> None:
    listed = read_set(drawn_from(folder, tmp_path, 400))
    assert {entry.id for entry in listed.pictures} >= {"a0.jpg", "more/a1.jpg"}
    assert listed.classes == {}
    assert verify(listed.pictures, folder).same == [entry.id for entry in listed.pictures]


def test_evaluation_pictures_are_passed_over_and_a_picture_is_drawn_once(voc: Path, folder: Path) -> None:
    (folder / "again.jpg").write_bytes((folder / "a0.jpg").read_bytes())
    cv2.imwrite(str(folder / "renamed.png"), read(voc / "JPEGImages/a9.jpg"))
    val = [Sample(f"a{number}", voc / f"JPEGImages/a{number}.jpg", None) for number in range(8, 12)]
    drawn = draw_set(open_source(str(folder)), 400, against=val)
    names = {Path(entry.id).stem for entry in drawn.pictures}
    assert len(names & {"a0", "again"}) == 1
    assert names - {"again"} | {"a0"} == {f"a{number}" for number in range(8)}
    assert drawn.drawn.endswith("compared with 4 evaluation pictures, 5 passed over")


@pytest.mark.parametrize("name", ["val", "test", "trainval", "val2017", "seg11valid", "minival", "my-test-set"])
def test_an_evaluation_list_is_refused_with_the_reason(voc: Path, name: str) -> None:
    (voc / f"ImageSets/Segmentation/{name}.txt").write_text("a8\na9\n")
    with pytest.raises(DataError, match=rf"{name} is for evaluation, by its name\. .* --force"):
        open_source(f"{voc}:{name}")
    assert len(open_source(f"{voc}:{name}", force=True).samples) == 2
    with pytest.raises(DataError, match="is for evaluation"):
        open_calibration(Path(f"{voc}:{name}"))


@pytest.mark.parametrize("name", ["latest", "interval", "train", "contest"])
def test_a_list_that_only_sounds_like_one_is_not(voc: Path, name: str) -> None:
    (voc / f"ImageSets/Segmentation/{name}.txt").write_text("a1\na2\n")
    assert len(open_source(f"{voc}:{name}").samples) == 2


def test_a_folder_of_evaluation_pictures_is_refused_too(folder: Path) -> None:
    (folder / "more").rename(folder / "val")
    with pytest.raises(DataError, match="val is for evaluation"):
        open_source(str(folder))
    (folder / "val").rename(folder / "test2017")
    with pytest.raises(DataError, match="test2017 is for evaluation"):
        open_source(str(folder / "test2017"))


def test_a_folder_that_is_named_for_a_try_is_not(folder: Path) -> None:
    (folder / "more").rename(folder / "test_drive_in_spring")
    assert len(open_source(str(folder)).samples) == 12


def test_what_another_list_keeps_for_evaluation_is_left_out(voc: Path) -> None:
    (voc / "ImageSets/Segmentation/all.txt").write_text("a1\na8\na9\n")
    assert [sample.id for sample in open_source(f"{voc}:all").samples] == ["a1"]
    (voc / "ImageSets/Segmentation/all.txt").write_text("a8\na9\n")
    with pytest.raises(DataError, match="every picture of it is in an evaluation list"):
        open_source(f"{voc}:all")


# verifying and opening


def test_same_copy_other_and_missing_are_told_apart(voc: Path, tmp_path: Path, photos: list[np.ndarray]) -> None:
    listed = read_set(drawn_from(voc, tmp_path))
    pictures = voc / "JPEGImages"
    cv2.imwrite(str(pictures / "a1.jpg"), photos[1], [cv2.IMWRITE_JPEG_QUALITY, 50])
    (pictures / "a2.jpg").unlink()
    cv2.imwrite(str(pictures / "a2.png"), cv2.resize(photos[2], (400, 400)))
    cv2.imwrite(str(pictures / "a3.jpg"), photos[9])
    (pictures / "a4.jpg").unlink()
    found = verify(listed.pictures, voc)
    assert (sorted(found.same), sorted(found.copies)) == (["a0", "a5", "a6", "a7"], ["a1", "a2"])
    assert (found.others, found.missing) == (["a3"], ["a4"])


def test_a_set_of_a_data_set_is_found_in_its_bare_folder_of_pictures(voc: Path, tmp_path: Path) -> None:
    listed = read_set(drawn_from(voc, tmp_path))
    assert len(verify(listed.pictures, voc / "JPEGImages").same) == 8


def test_a_set_opens_in_the_order_of_drawing(voc: Path, tmp_path: Path) -> None:
    path = drawn_from(voc, tmp_path)
    listed = read_set(path)
    opened = open_calibration(path, voc, count=3)
    assert [picture.stem for picture in opened.pictures] == [entry.id for entry in listed.pictures[:3]]
    assert opened.name == "set"
    joined = b"".join(hashlib.sha256(picture.read_bytes()).digest() for picture in opened.pictures)
    assert opened.identity == hashlib.sha256(joined).hexdigest() == identity(e.sha256 for e in listed.pictures[:3])


def test_a_set_whose_pictures_are_missing_or_others_does_not_open(voc: Path, tmp_path: Path) -> None:
    path = drawn_from(voc, tmp_path)
    cv2.imwrite(str(voc / "JPEGImages/a3.jpg"), read(voc / "JPEGImages/a9.jpg"))
    with pytest.raises(DataError, match=r"1 of 8 pictures of .*set\.toml are other pictures .* first: a3\."):
        open_calibration(path, voc)
    (voc / "JPEGImages/a4.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 8 pictures of .*set\.toml are missing, first: a4\..*calib check"):
        open_calibration(path, voc)
    with pytest.raises(UsageError, match="--data"):
        open_calibration(path)


def test_a_data_set_opens_by_its_train_list_and_a_folder_as_a_whole(voc: Path, folder: Path) -> None:
    assert [path.stem for path in open_calibration(voc).pictures] == [f"a{number}" for number in range(8)]
    assert [path.stem for path in open_calibration(voc, count=4).pictures] == ["a0", "a2", "a4", "a6"]
    assert len(open_calibration(folder).pictures) == 12
    assert open_calibration(folder, count=99).name == "photos"


def test_missing_pictures_of_a_list_are_counted_and_named(voc: Path) -> None:
    (voc / "JPEGImages/a3.jpg").unlink()
    (voc / "JPEGImages/a5.jpg").unlink()
    with pytest.raises(DataError, match=r"2 of 8 pictures are missing, first: a3\."):
        open_calibration(voc)


def test_an_empty_folder_and_an_empty_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no picture in it"):
        open_calibration(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: there is no such calibration set or folder\..* voc2012\."):
        open_calibration(tmp_path / "nowhere")
    (tmp_path / "set.toml").write_text(
        'name = "a"\nsource = "a"\ndrawn = ""\nseed = 0\nprovenance = ""\nlicence = ""\npictures = []\n'
    )
    with pytest.raises(DataError, match="the set is empty"):
        open_calibration(tmp_path / "set.toml", tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("pictures = [", "pictures = ["), ""),
        (("seed = 0", "seed = 0\nsed = 1"), "unknown field `sed`"),
        (("schema = 1", "schema = 2\nmore = 1"), "its schema is 2, this fcn-edge knows 1"),
        (('"a1"', '"a2"'), "1 pictures are listed twice, first: a2"),
        (('["a1", "', '["a1", "x'), "not a calibration set"),
        (("pictures = [", "pictures = ]"), "not a calibration set"),
    ],
)
def test_a_damaged_set_is_told_in_one_line(voc: Path, tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = drawn_from(voc, tmp_path)
    path.write_text(path.read_text().replace(*change, 1))
    if not says:
        read_set(path)
        return
    with pytest.raises(DataError, match=says) as caught:
        read_set(path)
    assert "\n" not in str(caught.value)


def test_a_set_or_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.toml: there is no such file\. Bundled"):
        read_set(tmp_path / "none.toml")
    (tmp_path / "a.jpg").write_bytes(b"")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(DataError, match=rf"{name}: not readable"):
            look(tmp_path / name)


# against evaluation pictures


def test_near_finds_bytes_copies_and_cropped_pictures_of_one_id(voc: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    pictures = voc / "JPEGImages"
    (mine / "bytes.jpg").write_bytes((pictures / "a8.jpg").read_bytes())
    cv2.imwrite(str(mine / "copy.png"), cv2.resize(read(pictures / "a9.jpg"), (90, 90), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(mine / "a10.jpg"), read(pictures / "a10.jpg")[8:, 8:])  # cropped
    cv2.imwrite(str(mine / "a11.jpg"), read(pictures / "a0.jpg"))  # by chance of that name
    cv2.imwrite(str(mine / "other.jpg"), read(pictures / "a1.jpg"))
    val = [Sample(f"a{number}", pictures / f"a{number}.jpg", None) for number in range(8, 12)]
    found = near(sorted(mine.iterdir()), val)
    assert {(ours.name, theirs.name) for ours, theirs in found} == {
        ("bytes.jpg", "a8.jpg"),
        ("copy.png", "a9.jpg"),
        ("a10.jpg", "a10.jpg"),
    }
    assert near([], val) == near([mine / "other.jpg"], []) == []


# the set that travels


def test_the_bundled_set_is_whole() -> None:
    listed = read_set(Path("voc2012"))
    assert (len(listed.pictures), listed.source) == (400, "VOC2012:train")
    assert len(listed.classes) == 21
    assert min(listed.classes.values()) >= 18
    hashes = [int(entry.hash, 16) for entry in listed.pictures]
    assert len(set(hashes)) == len(hashes)
    assert "Flickr" in listed.licence
