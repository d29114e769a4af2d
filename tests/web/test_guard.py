from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from live_page import Page, serving

from fcn_edge.errors import UsageError
from fcn_edge.web import guard
from fcn_edge.web.guard import check_token, is_loopback, make_token
from fcn_edge.web.hub import Hub, View

TOKEN = "correct-horse"
SECRET = ["/", "/api/status", "/api/live", "/stream.mjpg", "/metrics", "/api/sources/1/frame.jpg", "/api/nothing"]


@pytest.fixture
def guarded(hub: Hub, view: View, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setattr(guard, "WRONG_TOKEN_COSTS", 0.01)
    with serving(hub, TOKEN) as page:
        yield page


class TestToken:
    @pytest.mark.parametrize("path", SECRET)
    def test_without_it_nothing_is_seen(self, guarded, view, seen, path):
        view.put(seen())
        answer = guarded.get(path)
        assert (answer.status, answer.body) == (401, b"A token is needed.\n")
        assert answer.headers["www-authenticate"].startswith("Bearer")

    @pytest.mark.parametrize("wrong", ["", "correct-hors", "correct-horse2", "CORRECT-HORSE", "ü" * 8])
    def test_another_one_is_no_key(self, guarded, wrong):
        given = {"Authorization": f"Bearer {wrong}".encode().decode("latin-1")}
        assert guarded.get("/api/status", **given).status == 401

    def test_it_opens_as_a_bearer_in_the_address_and_in_a_cookie(self, guarded):
        assert guarded.get("/api/status", Authorization=f"Bearer {TOKEN}").status == 200
        assert guarded.get(f"/api/status?token={TOKEN}").status == 200
        assert guarded.get("/api/status", Cookie=f"fcn_edge_{guarded.server.port}={TOKEN}").status == 200
        assert guarded.get("/api/status", Cookie=f"fcn_edge_1={TOKEN}").status == 401

    def test_the_printed_address_leads_to_the_page_and_leaves_no_token_in_it(self, guarded):
        assert guarded.server.greeting.endswith(f":{guarded.server.port}/?token={TOKEN}")
        answer = guarded.get(f"/?token={TOKEN}&source=1")
        assert (answer.status, answer.headers["location"]) == (303, "/?source=1")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert guarded.get("/", Cookie=cookie.partition(";")[0]).status == 200

    def test_a_browser_is_asked_for_it(self, guarded):
        door = guarded.get("/", Accept="text/html")
        assert door.status == 401
        assert b'action="/token"' in door.body
        form = {"Content_Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
        wrong = guarded.get("/token", "POST", b"token=guess+guess", **form)
        assert (wrong.status, b"That is not the token." in wrong.body) == (401, True)
        right = guarded.get("/token", "POST", f"token={TOKEN}".encode(), **form)
        assert (right.status, right.headers["location"]) == (303, "/")

    def test_health_and_the_look_of_the_door_need_none(self, guarded):
        assert guarded.get("/healthz").status == 200
        assert guarded.get("/static/page.css").status == 200
        assert guarded.get("/static/../app.py").status in (401, 404)
        assert guarded.get("/static/%2e%2e/app.py").status in (401, 404)

    @pytest.mark.parametrize("token", ["", "short", "with spaces in it", "ünicode-token", "line\nbreak1"])
    def test_a_weak_one_is_refused(self, token):
        with pytest.raises(UsageError, match="at least 8"):
            check_token(token)

    def test_a_made_one_is_long_and_new(self):
        check_token(make_token())
        assert len({make_token() for _ in range(20)}) == 20
        assert len(make_token()) >= 22


class TestWithoutAToken:
    @pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "::1"])
    def test_this_machine_answers_to_its_own_names(self, host):
        assert is_loopback(host)

    @pytest.mark.parametrize(
        "host", ["", "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1:80", "[::2]:1"]
    )
    def test_and_to_no_other(self, host):
        assert not is_loopback(host)

    def test_a_name_that_was_made_to_lead_here_gets_nothing(self, page, view, seen):
        view.put(seen())
        answer = page.get("/api/sources/1/frame.jpg", Host="evil.example")
        assert answer.status == 421
        assert b"--token" in answer.body

    def test_other_sites_may_not_show_the_pictures(self, page):
        headers = page.get("/").headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


class TestSizes:
    def test_a_large_body_is_refused_unread(self, page):
        assert page.get("/api/status", "POST", b"x" * 5000).status == 413

    def test_a_body_of_unknown_length_is_refused(self, page):
        assert page.get("/api/status", "POST", Transfer_Encoding="chunked").status == 413

    def test_endless_headers_are_cut_off(self, page):
        with socket.create_connection(("127.0.0.1", page.server.port), timeout=30) as connection:
            head = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * 200_000
            try:
                connection.sendall(head)
                answer = connection.recv(100)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
        assert re.match(rb"HTTP/1\.1 4\d\d|$", answer)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_nothing_can_be_changed(self, page, method):
        assert page.get("/api/status", method).status == 405

    def test_head_is_answered_as_get_without_a_body(self, page):
        answer = page.get("/api/status", "HEAD")
        assert (answer.status, answer.body) == (200, b"")
