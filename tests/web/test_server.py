from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from live_page import serving

from fcn_edge.errors import SinkError, UsageError
from fcn_edge.web import server
from fcn_edge.web.server import WebServer

ASK = b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
STREAM = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


class TestAddress:
    def test_it_is_this_machine_alone_without_a_token(self, hub):
        with WebServer(hub, port=0) as web:
            assert web.greeting == f"http://127.0.0.1:{web.port}/"
            assert web.token is None

    def test_on_any_other_address_a_token_is_made(self, hub):
        with WebServer(hub, "0.0.0.0", 0) as web:
            assert web.token is not None
            assert web.greeting.endswith(f":{web.port}/?token={web.token}")
            assert "0.0.0.0" not in web.greeting

    def test_a_port_that_is_taken_is_told_in_one_line(self, hub):
        with WebServer(hub, port=0) as web:
            with pytest.raises(SinkError, match=f"port {web.port} is taken by another program") as caught:
                WebServer(hub, port=web.port)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("host", "port", "words"),
        [
            ("192.0.2.7", 0, "no address of this machine"),
            ("no.such.host.invalid", 0, "no such address"),
            ("a" * 70, 0, "no such address"),
            ("127.0.0.1", 70_000, "from 0 to 65535"),
            ("127.0.0.1", -1, "from 0 to 65535"),
        ],
    )
    def test_what_cannot_be_served_on_is_told_in_one_line(self, hub, host, port, words):
        with pytest.raises((SinkError, UsageError), match=words) as caught:
            WebServer(hub, host, port)
        assert "\n" not in str(caught.value)

    def test_a_weak_token_is_refused_before_anything_listens(self, hub):
        with pytest.raises(UsageError, match="--token"):
            WebServer(hub, token="1234")

    def test_ipv6_is_written_as_browsers_take_it(self, hub):
        try:
            web = WebServer(hub, "::1", 0)
        except SinkError:
            pytest.skip("no IPv6 here")
        with web:
            assert web.url == f"http://[::1]:{web.port}/"
            assert web.token is None


class TestClients:
    def test_one_who_reads_nothing_keeps_nobody_waiting(self, page, view, seen):
        view.put(seen())
        with contextlib.ExitStack() as stuck:
            for _ in range(20):
                stuck.enter_context(connect(page.server.port)).sendall(STREAM)
            for number in range(1, 12):
                view.put(seen(number))
                parts = page.get(f"/api/live?have=1:{view.number - 1}").parts
                assert f'"frame":{number}'.encode() in parts["result-1"]

    def test_those_who_vanish_leave_nothing_behind(self, page, view, seen):
        view.put(seen())
        for request in (ASK, STREAM, b"", b"GET / HT"):
            for _ in range(10):
                with connect(page.server.port) as connection:
                    connection.sendall(request)
        deadline = time.monotonic() + 30
        while page.hub.watching or page.server.connections:
            assert time.monotonic() < deadline
            view.put(seen())
            time.sleep(0.02)

    def test_a_request_that_does_not_end_is_cut_off(self, page, monkeypatch):
        monkeypatch.setattr(server, "HEAD_WITHIN", 0.2)
        for whole, begun in ((b"", b""), (b"", b"GET / HTTP/1.1\r\nHost: loc"), (HEALTH, b"GET /hea")):
            with connect(page.server.port) as connection:
                connection.sendall(whole)
                while whole and not connection.recv(4096).endswith(b"ok\n"):
                    pass
                connection.sendall(begun)
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(4096) == b""

    def test_more_than_there_is_room_for_are_told_to_wait(self, hub, view, monkeypatch):
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
        with serving(hub) as page:
            held = [connect(page.server.port) for _ in range(4)]
            time.sleep(0.1)
            assert page.get("/healthz").status == 503
            for connection in held:
                connection.close()
            deadline = time.monotonic() + 30
            while page.get("/healthz").status != 200:
                assert time.monotonic() < deadline

    def test_many_at_once_are_all_served(self, page, view, seen):
        view.put(seen())
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: page.get("/api/live"), range(40)))
        assert all(answer.status == 200 and "frame-1" in answer.parts for answer in answers)


def test_it_ends_in_time_whatever_is_under_way(hub, view, seen):
    view.put(seen())
    before = {thread.name for thread in threading.enumerate()}
    with serving(hub) as page:
        clients = []
        for request in (ASK, STREAM, STREAM, b"", b"GET / HT"):
            client = connect(page.server.port)
            client.sendall(request)
            clients.append(client)
        time.sleep(0.2)
        start = time.monotonic()
    taken = time.monotonic() - start
    for client in clients:
        client.close()
    assert taken < 10, "a hang"
    assert {thread.name for thread in threading.enumerate()} <= before | {"web-encode_0"}


def test_a_server_that_was_never_entered_leaves_no_socket(hub):
    web = WebServer(hub, port=0)
    web.close()
    web.close()
    WebServer(hub, port=web.port).close()
