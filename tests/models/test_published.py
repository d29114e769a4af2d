"""The table of published weights, and a download as the commands do it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from loopback import serving, whole

from fcn_edge.download import Patience, Remote
from fcn_edge.errors import DownloadError, UsageError
from fcn_edge.models import VARIANTS
from fcn_edge.models.published import WEIGHTS, Published, download, of_variant

BODY = b"weights" * 1000
HASTY = Patience(seconds=0.3, attempts=1, pause=0.01)


def entry(url: str, body: bytes = BODY) -> Published:
    remote = Remote(url, "net.pth", f"md5:{hashlib.md5(body).hexdigest()}", 0.01)
    return Published(remote, ("fcn8s",), False, "CC0", "VOC", "https://example.org")


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_entry_says_what_a_user_has_to_know(name: str) -> None:
    weights = WEIGHTS[name]
    assert weights.variants
    assert set(weights.variants) <= set(VARIANTS)
    assert all((weights.licence, weights.data, weights.source))
    assert 10 < weights.remote.megabytes < 1000
    for url in filter(None, (weights.remote.url, weights.remote.page, weights.source)):
        assert urlsplit(url).scheme == "https"


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_hash_has_the_digits_that_its_publisher_gives(name: str) -> None:
    remote = WEIGHTS[name].remote
    assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{8}", remote.digest)
    if remote.digest.startswith("sha256:"):
        assert remote.name.endswith(f"-{remote.digest.removeprefix('sha256:')}.pth")
        assert remote.url.endswith(f"/{remote.name}")


def test_sizes_are_those_of_the_parameters_in_float32() -> None:
    # Long et al.'s VGG16 networks for 21 classes, counted by hand: convolutions, fc6, fc7, scores, upsampling.
    trunk = 14_714_688 + 102_764_544 + 16_781_312 + 4097 * 21
    up2, up8, up16, up32 = (21 * 21 * side**2 for side in (4, 16, 32, 64))
    pool3, pool4 = 257 * 21, 513 * 21
    parameters = {
        "fcn32s": trunk + up32,
        "fcn16s": trunk + pool4 + up2 + up16,
        "fcn8s": trunk + pool4 + pool3 + 2 * up2 + up8,
        "fcn8s-atonce": trunk + pool4 + pool3 + 2 * up2 + up8,
        "vgg16-caffe": 138_357_544,  # Simonyan 2015, table 2: 138 million
        "vgg16": 138_357_544,
    }
    for name, count in parameters.items():
        assert WEIGHTS[name].remote.megabytes == pytest.approx(4e-6 * count, abs=0.1)


def test_no_two_entries_share_a_file() -> None:
    assert len({weights.remote.digest for weights in WEIGHTS.values()}) == len(WEIGHTS)
    assert len({weights.remote.url for weights in WEIGHTS.values()}) == len(WEIGHTS)


def test_a_variant_has_one_whole_file_at_most_and_its_own_trunk_first() -> None:
    assert all(len(of_variant(variant)) <= 1 for variant in VARIANTS)
    assert of_variant("fcn8s") == ["fcn8s"]
    assert of_variant("fcn8s", trunk=True) == ["vgg16-caffe", "vgg16"]
    assert of_variant("fcn-alexnet") == []


def test_size_and_licence_are_said_before_anything_is_fetched_and_only_then(tmp_path: Path) -> None:
    events = []
    with serving(net=lambda handler: (events.append("asked"), whole(BODY)(handler))) as server:
        table = {"mine": entry(server.url("/net"))}
        path = download("mine", events.append, cache=tmp_path, patience=HASTY, weights=table)
        assert download("mine", events.append, cache=tmp_path, patience=HASTY, weights=table) == path
    assert path.read_bytes() == BODY
    host = server.url("").removeprefix("http://")
    assert events == [f"Downloading net.pth from {host}: about 0 MB. Licence: CC0.", "asked"]


def test_a_wrong_file_is_never_given_out(tmp_path: Path) -> None:
    with serving(net=whole(bytes(len(BODY)))) as server, pytest.raises(DownloadError, match="thrown away"):
        download("mine", print, cache=tmp_path, patience=HASTY, weights={"mine": entry(server.url("/net"))})


def test_a_name_that_nobody_published_is_answered_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="vgg16-caffe"):
        download("vgg99", print)


def test_the_table_needs_no_torch() -> None:
    code = "import sys, fcn_edge.models.published; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_page_about_weights_has_each_name_with_its_size(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/weights.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    assert any(f"{WEIGHTS[name].remote.megabytes:.0f}" in row for row in rows)
