"""Which weights a variant's name means."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from loopback import Answer, serving, whole
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fcn_edge.download import Patience, Remote
from fcn_edge.errors import DownloadError, FcnEdgeError, ModelError, SpecError, UsageError
from fcn_edge.models.checkpoint import load, save_checkpoint, untrained
from fcn_edge.models.published import Published, download
from fcn_edge.models.weights import Fetch, Resolved, pretrained, resolve
from fcn_edge.runtime.files import bundled
from fcn_edge.spec import METADATA_KEY, SCHEMA

VARIANT = "fcn32s-lite"  # quick to build, and not bundled
HASTY = Patience(seconds=0.3, attempts=1, pause=0.01)


def never(name: str) -> Path:
    raise AssertionError(f"{name} was downloaded although better weights are at hand")


def checkpoint(path: Path, seed: int, variant: str = VARIANT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, *untrained(variant, seed))
    return path


def state_dict(path: Path, seed: int = 7, variant: str = VARIANT) -> Path:
    torch.save(untrained(variant, seed)[0].state_dict(), path)
    return path


def changed(path: Path, **change: object) -> Path:
    """The checkpoint with other fields in its spec."""
    with safe_open(path, "pt") as file:
        spec = json.loads(file.metadata()[METADATA_KEY])
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(spec | change)})
    return path


def same(resolved: Resolved, path: Path) -> bool:
    own, its = resolved.network.state_dict(), load(path)[0].state_dict()
    return all(torch.equal(own[name], its[name]) for name in its)


def published(url: str, file: Path, trunk: bool = False, caffe: bool = False) -> dict[str, Published]:
    remote = Remote(url, file.name, f"md5:{hashlib.md5(file.read_bytes()).hexdigest()}", file.stat().st_size / 1e6)
    return {"mine": Published(remote, (VARIANT,), trunk, "CC0", "VOC", "https://example.org", seen="val", caffe=caffe)}


def fetching(table: dict[str, Published], cache: Path) -> Fetch:
    return lambda name: download(name, print, cache=cache, patience=HASTY, weights=table)


def test_the_projects_newest_checkpoint_of_that_variant_comes_first(tmp_path: Path) -> None:
    old = checkpoint(tmp_path / f"runs/{VARIANT}/{VARIANT}.safetensors", 1)
    new = checkpoint(tmp_path / f"runs/another/{VARIANT}.safetensors", 2)
    checkpoint(tmp_path / "runs/fcn16s-lite/fcn16s-lite.safetensors", 3, "fcn16s-lite")
    (tmp_path / "runs/another/state.safetensors").write_bytes(b"cut off")
    os.utime(old, (1, 1))

    resolved = resolve(None, VARIANT, None, tmp_path, never)

    assert (resolved.origin, resolved.path) == ("project", new)
    assert same(resolved, new)


def test_the_bundled_weights_come_next(tmp_path: Path) -> None:
    for variant in ("fcn8s-lite", None):
        resolved = resolve(None, variant, None, tmp_path, never)
        assert (resolved.origin, resolved.path) == ("bundled", bundled()["fcn8s-lite"].with_suffix(".safetensors"))
        assert resolved.spec.trained


def test_published_weights_come_last_and_say_where_they_are_from(tmp_path: Path) -> None:
    file = state_dict(tmp_path / "net.pth")
    with serving(net=whole(file.read_bytes())) as server:
        table = published(server.url("/net"), file)
        resolved = resolve(None, VARIANT, None, tmp_path, fetching(table, tmp_path / "cache"), table)
    assert resolved.origin == "published"
    assert resolved.path is not None
    assert resolved.path.read_bytes() == file.read_bytes()
    assert resolved.spec.trained
    told = resolved.spec.provenance
    assert (told["license"], told["data"], told["seen"]) == ("CC0", "VOC", "val")
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"another file"),
        lambda handler: handler.send(503),
        lambda handler: handler.send(200, b"half", Content_Length=1000),
    ],
    ids=["wrong", "busy", "broken off"],
)
def test_without_the_download_the_other_choices_are_named(answer: Answer, tmp_path: Path) -> None:
    file = state_dict(tmp_path / "net.pth")
    with serving(net=answer) as server:
        table = published(server.url("/net"), file)
        with pytest.raises(DownloadError) as caught:
            resolve(None, VARIANT, None, tmp_path, fetching(table, tmp_path / "cache"), table)
    assert "\n" not in str(caught.value)
    assert all(choice in str(caught.value) for choice in ("--weights FILE", "fcn-edge train", "--weights untrained"))
    assert not list(tmp_path.rglob("cache/**/net.pth"))


@pytest.mark.parametrize("weights", [None, "published"])
def test_a_variant_that_nobody_published_is_answered_with_its_choices(weights: str | None, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(weights, "fcn-alexnet-owt", None, tmp_path, never)
    assert "fcn-edge train --variant fcn-alexnet-owt --weights alexnet" in str(caught.value)
    assert "--weights untrained" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"), [({"schema": SCHEMA + 1}, f"has schema {SCHEMA + 1}"), ({"classes": 3}, "is not a spec")]
)
def test_a_spec_that_cannot_be_read_is_never_taken_for_none(change: dict[str, int], said: str, tmp_path: Path) -> None:
    """A checkpoint of noise that a newer fcn-edge wrote, loaded as bare weights, would say that it is trained."""
    path = changed(checkpoint(tmp_path / f"runs/new/{VARIANT}.safetensors", 1), **change)
    with pytest.raises(SpecError, match=said):
        resolve(str(path), VARIANT, None, tmp_path, never)


def test_a_checkpoint_of_a_newer_fcn_edge_is_passed_over_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = checkpoint(tmp_path / f"runs/old/{VARIANT}.safetensors", 1)
    new = changed(checkpoint(tmp_path / f"runs/new/{VARIANT}.safetensors", 2), schema=SCHEMA + 1)
    save_file({"features": torch.zeros(2)}, tmp_path / "runs/old/features.safetensors")
    os.utime(old, (1, 1))
    assert resolve(None, VARIANT, None, tmp_path, never).path == old
    (said,) = caplog.messages
    assert said.startswith(f"{new} is passed over: ")
    assert f"schema {SCHEMA + 1}" in said


def test_noise_is_the_same_each_time_says_so_and_has_to_be_asked_for(tmp_path: Path) -> None:
    checkpoint(tmp_path / f"runs/{VARIANT}/{VARIANT}.safetensors", 1)
    once, again = (resolve("untrained", VARIANT, None, tmp_path, never) for _ in range(2))
    assert not once.spec.trained
    assert (once.origin, once.path) == ("untrained", None)
    its = again.network.state_dict()
    assert all(torch.equal(value, its[name]) for name, value in once.network.state_dict().items())


def test_a_file_that_says_what_it_is_needs_no_variant(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine.safetensors", 5)
    resolved = resolve(str(path), None, None, tmp_path, never)
    assert (resolved.origin, resolved.spec.variant) == ("file", VARIANT)
    assert same(resolved, path)


def test_a_bare_state_dict_is_taken_for_the_variant_that_is_named(tmp_path: Path) -> None:
    path = state_dict(tmp_path / "net.pth")
    resolved = resolve(str(path), VARIANT, None, tmp_path, never)
    assert resolved.spec.trained
    assert torch.equal(resolved.network.state_dict()["head32.score.weight"], torch.load(path)["head32.score.weight"])
    with pytest.raises(SpecError, match="--variant NAME"):
        resolve(str(path), None, None, tmp_path, never)


def test_a_trunk_alone_is_no_network_and_says_what_it_is_good_for(tmp_path: Path) -> None:
    state = untrained(VARIANT)[0].state_dict()
    torch.save({name: value for name, value in state.items() if name.startswith("features.")}, tmp_path / "trunk.pth")
    with pytest.raises(ModelError, match=rf"tensors are missing.*fcn-edge train --variant {VARIANT} --weights"):
        resolve(str(tmp_path / "trunk.pth"), VARIANT, None, tmp_path, never)


@pytest.mark.parametrize(
    ("weights", "variant", "padding", "kind", "said"),
    [
        ("gone.pth", None, None, ModelError, "gone.pth: no such weights file"),
        (None, "fcn9s", None, UsageError, "there is no variant 'fcn9s'"),
        ("untrained", VARIANT, "paper", UsageError, "no form with padding 'paper'"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    weights: str | None, variant: str | None, padding, kind: type[FcnEdgeError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        resolve(weights, variant, padding, tmp_path, never)


def test_training_starts_from_a_file_or_from_a_published_name(tmp_path: Path) -> None:
    file = state_dict(tmp_path / "net.pth")
    assert pretrained(str(file), never) == (file, None)
    table = published("", file, trunk=True, caffe=True)
    path, normalisation = pretrained("mine", lambda name: tmp_path / f"fetched {name}", table)
    assert path == tmp_path / "fetched mine"
    assert normalisation is not None
    assert (normalisation.color, normalisation.std) == ("BGR", (1.0, 1.0, 1.0))
