"""A model's training pictures, known again by their content."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from fcn_edge.data import Sample, pictures_seen, unseen
from fcn_edge.errors import DataError, SpecError
from fcn_edge.spec import ModelSpec


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    for name in "abcd":
        (tmp_path / name).write_bytes(b"picture " + name.encode())
    return [Sample(name, tmp_path / name, None) for name in "abcd"]


def model(seen: object) -> ModelSpec:
    return ModelSpec("model", ("thing",), provenance={"pictures_seen": seen})


def test_what_was_seen_is_left_out_in_order_whatever_its_name_is_now(samples: list[Sample]) -> None:
    seen = model(pictures_seen([samples[2].image, samples[0].image]))
    samples[0].image.rename(samples[0].image.with_name("renamed"))
    again = [Sample("again", samples[0].image.with_name("renamed"), None), *samples[1:]]
    assert [sample.id for sample in unseen(again, seen)] == ["b", "d"]


def test_what_earlier_models_saw_is_carried_on(samples: list[Sample]) -> None:
    first = model(pictures_seen([samples[0].image]))
    second = model(pictures_seen([samples[1].image], first, ModelSpec("unknown", ("thing",))))
    assert [sample.id for sample in unseen(samples, second)] == ["c", "d"]


def test_the_form_is_the_sorted_beginnings_of_sha256(samples: list[Sample]) -> None:
    digests = [hashlib.sha256(sample.image.read_bytes()).digest()[:5] for sample in samples]
    assert base64.b64decode(pictures_seen(sample.image for sample in samples)) == b"".join(sorted(digests))


def test_a_model_that_tells_nothing_has_seen_nothing(samples: list[Sample]) -> None:
    assert unseen(samples, ModelSpec("model", ("thing",))) == samples


@pytest.mark.parametrize("seen", ["no base64!", 7])
def test_an_unreadable_list_is_an_error_and_not_an_empty_one(samples: list[Sample], seen: object) -> None:
    with pytest.raises(SpecError, match="pictures_seen in its provenance is not base64"):
        unseen(samples, model(seen))


def test_a_missing_picture_is_named(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: not readable"):
        pictures_seen([tmp_path / "nowhere"])
