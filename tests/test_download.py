"""Downloads from a real server on loopback that does everything a server can do wrong."""

from __future__ import annotations

import fcntl
import hashlib
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Answer, Handler, serving, whole

from fcn_edge.download import Patience, Remote, cached, fetch
from fcn_edge.errors import DownloadError

BODY = random.Random(0).randbytes(600_000)
HALF = len(BODY) // 2
HASTY = Patience(seconds=0.3, attempts=2, pause=0.01)


def remote(url: str) -> Remote:
    return Remote(url, "net.pth", f"md5:{hashlib.md5(BODY).hexdigest()}", 0.6)


def breaking(every: int, ranges: bool = True) -> Answer:
    """Promises all and sends so many bytes a connection."""

    def answer(handler: Handler) -> None:
        start = handler.start() if ranges else 0
        rest = BODY[start:]
        ranged = {"Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
        handler.send(206 if start else 200, rest[:every], Content_Length=len(rest), **ranged)

    return answer


def hanging(after: int) -> Answer:
    def answer(handler: Handler) -> None:
        if after:
            handler.send(200, BODY[:after], Content_Length=len(BODY))
            handler.wfile.flush()
        handler.server.released.wait(10)  # type: ignore[attr-defined]

    return answer


def endless(handler: Handler) -> None:
    handler.send(200, Content_Length=None)
    while True:
        handler.wfile.write(bytes(100_000))


def other_part(handler: Handler) -> None:
    if handler.start():
        handler.send(206, BODY[:9], Content_Range=f"bytes 0-8/{len(BODY)}")
    else:
        breaking(HALF)(handler)


def fails(answer: Answer, cache: Path) -> str:
    with serving(net=answer) as server, pytest.raises(DownloadError) as caught:
        fetch(remote(server.url("/net")), cache, patience=HASTY)
    assert not cached(remote(""), cache).exists()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(server.url("/net"))
    return str(caught.value)


def test_a_file_comes_with_its_progress_and_is_then_taken_from_the_cache(tmp_path: Path) -> None:
    seen = []
    with serving(net=whole(BODY)) as server:
        path = fetch(remote(server.url("/net")), tmp_path, lambda done, total: seen.append((done, total)), HASTY)
        assert path.read_bytes() == BODY
        assert fetch(remote(server.url("/net")), tmp_path, patience=HASTY) == path
        assert server.asked == [("/net", None)]
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert [entry.name for entry in path.parent.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("digits", [8, 20, 64])
def test_the_first_digits_of_a_sha256_are_enough(digits: int, tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(BODY).hexdigest()[:digits]}"
    with serving(net=whole(BODY)) as server:
        assert fetch(replace(remote(server.url("/net")), digest=digest), tmp_path).read_bytes() == BODY


def test_a_connection_that_breaks_off_again_and_again_is_gone_on_with(tmp_path: Path) -> None:
    with serving(net=breaking(100_000)) as server:
        assert fetch(remote(server.url("/net")), tmp_path, patience=HASTY).read_bytes() == BODY
        assert [range_ for _, range_ in server.asked] == [None, *(f"bytes={n}00000-" for n in range(1, 6))]


def test_what_an_earlier_run_left_is_gone_on_with(tmp_path: Path) -> None:
    said = fails(breaking(HALF, ranges=False), tmp_path)
    assert "broke off at 0.3 of 0.6 MB. The same command goes on after the 0.3 MB" in said
    with serving(net=whole(BODY)) as server:
        assert fetch(remote(server.url("/net")), tmp_path).read_bytes() == BODY
        assert server.asked == [("/net", f"bytes={HALF}-")]


def test_a_server_that_cannot_go_on_is_asked_for_all_of_it(tmp_path: Path) -> None:
    fails(breaking(HALF, ranges=False), tmp_path)
    with serving(net=lambda handler: handler.send(200, BODY)) as server:
        assert fetch(remote(server.url("/net")), tmp_path).read_bytes() == BODY


def test_bytes_of_another_file_are_not_gone_on_with(tmp_path: Path) -> None:
    part = cached(remote(""), tmp_path).with_name("net.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(HALF))
    with serving(net=whole(BODY)) as server:
        assert fetch(remote(server.url("/net")), tmp_path, patience=HASTY).read_bytes() == BODY


@pytest.mark.parametrize("extra", [0, 1000])
def test_an_unfinished_file_that_is_complete_or_too_long_still_ends_well(extra: int, tmp_path: Path) -> None:
    part = cached(remote(""), tmp_path).with_name("net.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY + bytes(extra))
    with serving(net=whole(BODY)) as server:
        assert fetch(remote(server.url("/net")), tmp_path, patience=HASTY).read_bytes() == BODY


def test_a_part_that_was_not_asked_for_is_not_pasted_in(tmp_path: Path) -> None:
    fails(other_part, tmp_path)


def test_a_server_that_promises_more_than_there_is_does_no_harm(tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        handler.send(200, BODY, Content_Length=len(BODY) + 1000)

    with serving(net=answer) as server:
        assert fetch(remote(server.url("/net")), tmp_path, patience=HASTY).read_bytes() == BODY


def test_a_server_that_promises_less_than_there_is_gives_a_wrong_file(tmp_path: Path) -> None:
    said = fails(lambda handler: handler.send(200, BODY, Content_Length=HALF), tmp_path)
    assert f"do not have the hash {remote('').digest}, so they were thrown away" in said


def test_a_wrong_file_is_thrown_away_and_says_what_a_browser_can_do(tmp_path: Path) -> None:
    said = fails(whole(bytes(len(BODY))), tmp_path)
    assert "sent 0.6 MB that do not have the hash md5:" in said
    assert said.endswith(f"If a browser can fetch it, put it at {cached(remote(''), tmp_path)}.")
    assert [path.stat().st_size for path in tmp_path.rglob("*.part")] == [0]


def test_a_file_without_end_is_ended(tmp_path: Path) -> None:
    assert "sent more than 1 MB, where 1 are known" in fails(endless, tmp_path)
    assert [path.stat().st_size for path in tmp_path.rglob("*.part")] == [0]


@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (404, 1), (503, 2)])
def test_a_refusal_is_told_with_its_status(status: int, attempts: int, tmp_path: Path) -> None:
    asked = []

    def answer(handler: Handler) -> None:
        asked.append(status)
        handler.send(status)

    assert f"answered {status}" in fails(answer, tmp_path)
    assert len(asked) == attempts


def test_a_server_that_is_busy_once_is_asked_again(tmp_path: Path) -> None:
    answers = iter([lambda handler: handler.send(503), whole(BODY)])
    with serving(net=lambda handler: next(answers)(handler)) as server:
        assert fetch(remote(server.url("/net")), tmp_path, patience=HASTY).read_bytes() == BODY


@pytest.mark.parametrize("after", [0, HALF])
def test_a_server_that_hangs_is_left(after: int, tmp_path: Path) -> None:
    assert "sent nothing for 0.3 seconds" in fails(hanging(after), tmp_path)


def test_a_redirect_is_followed(tmp_path: Path) -> None:
    with serving(net=lambda handler: handler.send(302, Location="/moved"), moved=breaking(HALF)) as server:
        assert fetch(remote(server.url("/net")), tmp_path, patience=HASTY).read_bytes() == BODY


@pytest.mark.parametrize("target", ["/net", "file:///etc/passwd", "http://127.0.0.1:1/", "nonsense:"])
def test_a_redirect_to_nowhere_is_one_line(target: str, tmp_path: Path) -> None:
    fails(lambda handler: handler.send(302, Location=target), tmp_path)


def test_a_web_page_in_its_place_is_named_as_one(tmp_path: Path) -> None:
    page = b"<html>Google Drive can't scan this file for viruses.</html>"
    said = fails(lambda handler: handler.send(200, page, Content_Type="text/html; charset=utf-8"), tmp_path)
    assert "answered with a web page instead of the file" in said


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/net", "http://nowhere.invalid/net", "https://127.0.0.1:1/", "http://[/"]
)
def test_an_address_that_nobody_answers_is_one_line(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch(remote(url), tmp_path, patience=HASTY)
    assert str(caught.value).startswith(f"{url} cannot be reached (")
    assert "\n" not in str(caught.value)


def test_a_person_is_told_the_address_that_is_meant_for_people(tmp_path: Path) -> None:
    asked = replace(remote("http://127.0.0.1:1/net?confirm=t"), page="https://example.org/net")
    with pytest.raises(DownloadError, match=r"^https://example\.org/net cannot be reached"):
        fetch(asked, tmp_path, patience=HASTY)


def test_an_answer_that_is_no_http_is_one_line(tmp_path: Path) -> None:
    said = fails(lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n"), tmp_path)
    assert "cannot be reached" in said


def test_a_damaged_file_in_the_cache_is_said_and_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(net=whole(BODY)) as server:
        path = fetch(remote(server.url("/net")), tmp_path)
        path.write_bytes(BODY[:-1])
        assert fetch(remote(server.url("/net")), tmp_path).read_bytes() == BODY
    assert "does not have the hash" in caplog.text


def test_two_at_once_do_not_write_into_one_file(tmp_path: Path) -> None:
    part = cached(remote(""), tmp_path).with_name("net.pth.part")
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another fcn-edge is downloading it"):
            fetch(remote("http://127.0.0.1:1/"), tmp_path)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file where a folder has to be")
    with pytest.raises(DownloadError, match="cannot be written: Not a directory"):
        fetch(remote("http://127.0.0.1:1/"), tmp_path)


def test_a_full_disk_is_not_taken_for_a_broken_network(tmp_path: Path) -> None:
    with serving(net=whole(BODY)) as server:
        with files_up_to(HALF), pytest.raises(DownloadError, match="cannot be written: File too large"):
            fetch(remote(server.url("/net")), tmp_path, patience=HASTY)
        assert len(server.asked) == 1
    assert not cached(remote(""), tmp_path).exists()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Within it the system refuses to write files beyond that size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
