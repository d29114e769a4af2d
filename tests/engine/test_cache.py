"""The same content is not built again, and whatever differs is named."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import plans
import pytest
import tiny
from plans import ORIN_NX, RTX_CARD

from fcn_edge.engine.cache import Key, difference, engines_folder, find, make_key, plan_name, stale
from fcn_edge.engine.profiles import Options, Profile
from fcn_edge.engine.sidecar import sidecar_path
from fcn_edge.errors import BackendError, ModelError

OTHERS: dict[str, object] = {
    "onnx": "0" * 64,
    "product": "tensorrt-rtx",
    "version": "10.16.1",
    "os": "windows",
    "arch": "x86_64",
    "gpu": "Thor",
    "compute_capability": "11.0",
    "sm_count": 20,
    "memory": 64,
    "board": "NVIDIA Jetson AGX Orin Developer Kit",
    "l4t": "36.4.4",
    "profiles": (Profile((32, 32), (64, 64), (96, 96)),),
    "options": Options(level=5),
}


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return make_key(tiny.write_onnx(tmp_path / "tiny.onnx"), ORIN_NX, plans.PROFILES, Options())


def test_every_field_of_the_key_makes_another_engine(key: Key) -> None:
    assert set(OTHERS) == {field.name for field in fields(Key)}
    digests = {replace(key, **{name: value}).digest() for name, value in OTHERS.items()}  # type: ignore[arg-type]
    assert len(digests | {key.digest()}) == len(OTHERS) + 1


@pytest.mark.parametrize("field", OTHERS)
def test_whatever_differs_is_told_on_one_line(key: Key, field: str) -> None:
    other = replace(key, **{field: OTHERS[field]})  # type: ignore[arg-type]
    assert difference(key, other)
    assert "\n" not in difference(key, other)


def test_a_difference_reads_as_what_was_and_what_is(key: Key) -> None:
    more = (*key.profiles, Profile((32, 32), (64, 64), (96, 96)))
    other = replace(key, onnx="0", version="10.16.1", memory=8, options=Options(level=5), profiles=more)
    assert difference(key, other) == (
        "the ONNX file's content, version 10.3.0 -> 10.16.1, memory 15 -> 8, "
        "profiles 32x32 -> 32x32+32x32..64x64..96x96, level none -> 5"
    )
    assert difference(key, key) == ""


def test_a_byte_more_or_less_of_memory_is_the_same_gpu(tmp_path: Path, key: Key) -> None:
    gpu = replace(ORIN_NX.gpu, memory=ORIN_NX.gpu.memory - 4096)  # type: ignore[type-var, union-attr]
    assert make_key(tmp_path / "tiny.onnx", replace(ORIN_NX, gpu=gpu), plans.PROFILES, Options()) == key


def test_the_digest_is_that_of_plain_json_with_sorted_names(key: Key) -> None:
    """So no version of Python or of a library changes it, and a cache stays good."""
    text = json.dumps(asdict(key), sort_keys=True, separators=(",", ":"))
    assert key.digest() == hashlib.sha256(text.encode()).hexdigest()


def test_ahead_of_time_the_gpu_of_the_builder_does_not_count(tmp_path: Path) -> None:
    onnx = tiny.write_onnx(tmp_path / "tiny.onnx")
    here, there = (make_key(onnx, replace(RTX_CARD, gpu=gpu), (), plans.TARGETS) for gpu in (RTX_CARD.gpu, None))
    assert here == there
    assert here.gpu is None


def test_without_a_gpu_and_without_targets_nothing_can_be_built(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="CUDA shows none here"):
        make_key(tiny.write_onnx(tmp_path / "tiny.onnx"), replace(ORIN_NX, gpu=None), (), Options())


def test_a_missing_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx cannot be read"):
        make_key(tmp_path / "gone.onnx", ORIN_NX, (), Options())


class TestFind:
    def test_the_engine_of_the_key_is_found_among_others(self, tmp_path: Path) -> None:
        plans.write(tmp_path, replace(ORIN_NX, l4t="36.4.4"))
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        assert find(tmp_path, sidecar.key) == plan
        assert plan.name == plan_name("tiny", sidecar.key)

    def test_it_may_have_been_renamed(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        sidecar_path(plan).rename(tmp_path / "mine.plan.json")
        assert find(tmp_path, sidecar.key) is None
        renamed = plan.rename(tmp_path / "mine.plan")
        assert find(tmp_path, sidecar.key) == renamed

    @pytest.mark.parametrize("content", [b"", b"ftrt" + bytes(1024), None], ids=["empty", "other bytes", "gone"])
    def test_a_damaged_one_is_none(self, tmp_path: Path, content: bytes | None) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        plan.unlink() if content is None else plan.write_bytes(content)
        assert find(tmp_path, sidecar.key) is None

    def test_a_folder_that_is_not_there_has_none(self, tmp_path: Path, key: Key) -> None:
        assert find(tmp_path / "gone", key) is None
        assert stale(tmp_path / "gone", "tiny", key) == ""

    def test_an_option_of_another_version_is_another_engine(self, tmp_path: Path) -> None:
        """Read without that field, the keys would be equal."""
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        document = json.loads(sidecar_path(plan).read_text())
        document["key"]["options"]["of_the_future"] = True
        sidecar_path(plan).write_text(json.dumps(document))
        assert find(tmp_path, sidecar.key) is None
        assert stale(tmp_path, "tiny", sidecar.key) == "the fcn-edge that built it"

    def test_what_lies_in_the_way_is_passed_over(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        (tmp_path / "foreign.plan").write_bytes(b"ftrt")
        (tmp_path / "folder.plan").mkdir()
        (tmp_path / "broken.plan").write_bytes(b"ftrt")
        (tmp_path / "broken.plan.json").write_text("{")
        assert find(tmp_path, sidecar.key) == plan


class TestStale:
    def test_the_nearest_one_says_why_it_does_not_serve(self, tmp_path: Path, key: Key) -> None:
        plans.write(tmp_path, replace(ORIN_NX, l4t="36.4.4", version="10.16.1", board="a board"))
        plans.write(tmp_path, replace(ORIN_NX, l4t="36.4.4"))
        plans.write(tmp_path, ORIN_NX, "another")
        assert stale(tmp_path, "tiny", key) == "L4T 36.4.4 -> 36.4.3"

    def test_damage_is_told(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        plan.write_bytes(plan.read_bytes()[:-1])
        assert stale(tmp_path, "tiny", sidecar.key) == "the engine that is there is damaged"


def test_a_project_has_its_own_folder_and_run_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert engines_folder(Path("project")) == Path("project/engines")
    assert engines_folder() == Path("/somewhere/fcn-edge/engines")
