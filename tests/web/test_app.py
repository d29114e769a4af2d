from __future__ import annotations

import http.client
import threading
import time

import pytest
from live_page import decoded

from fcn_edge.video.painter import Painter
from fcn_edge.web import encoding
from fcn_edge.web.sink import WebSink

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"


@pytest.fixture
def encodings(monkeypatch):
    """Counts the pictures that are made for the page."""
    made, make = [], encoding.shown

    def count(result):
        made.append(result)
        return make(result)

    monkeypatch.setattr(encoding, "shown", count)
    return made


class TestLive:
    def test_a_result_comes_with_its_picture_its_labels_and_its_figures(self, page, view, seen):
        view.put(seen(7))
        parts = page.get("/api/live").parts
        assert (decoded(parts["mask-1"]) == seen().labels).all()
        assert decoded(parts["frame-1"]).shape == seen().frame.image.shape
        assert b'"frame":7' in parts["result-1"]
        assert b'"state":"running"' in parts["status"]

    def test_who_has_the_newest_gets_figures_alone_after_a_while(self, page, view, seen):
        view.put(seen())
        before = time.monotonic()
        assert set(page.get("/api/live?have=1:1").parts) == {"status"}
        assert time.monotonic() - before > 0.5

    def test_who_waits_gets_what_comes(self, page, view, seen):
        view.put(seen(0))
        timer = threading.Timer(0.2, view.put, [seen(1)])
        timer.start()
        assert b'"frame":1' in page.get("/api/live?have=1:1").parts["result-1"]
        timer.join()

    def test_who_falls_behind_gets_the_newest_and_none_of_those_between(self, page, view, seen):
        for number in range(50):
            view.put(seen(number))
        assert b'"frame":49' in page.get("/api/live?have=1:3").parts["result-1"]

    def test_who_knows_an_earlier_run_gets_this_one(self, page, view, seen):
        view.put(seen())
        assert "frame-1" in page.get("/api/live?have=1:5000").parts

    def test_nothing_is_encoded_while_nobody_looks(self, encodings, page, view, seen):
        for number in range(20):
            view.put(seen(number))
        for path in ("/api/status", "/metrics", "/"):
            assert page.get(path).status == 200
        assert not encodings

    def test_a_picture_is_encoded_once_for_all_who_look(self, encodings, page, view, seen):
        view.put(seen())
        threads = [threading.Thread(target=page.get, args=["/api/live"]) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(encodings) == 1

    def test_several_sources_come_in_one_answer(self, hub, page, view, source, seen):
        other = hub.add(source, view.painter, view.tally)
        view.put(seen(3))
        other.put(seen(5))
        parts = page.get("/api/live").parts
        assert {"frame-1", "mask-1", "frame-2", "mask-2"} <= set(parts)
        assert b'"frame":5' in parts["result-2"]

    @pytest.mark.parametrize("have", ["x", "1", "1:x", "1:2:3"])
    def test_what_makes_no_sense_is_refused(self, page, have):
        assert page.get(f"/api/live?have={have}").status == 400


class TestSources:
    def test_files_of_the_newest_result_have_its_own_size(self, page, view, seen):
        view.put(seen())
        assert decoded(page.get("/api/sources/1/frame.jpg").body).shape == (300, 451, 3)
        assert decoded(page.get("/api/sources/1/overlay.jpg").body).shape == (300, 451, 3)
        mask = page.get("/api/sources/1/mask.png")
        assert mask.headers["content-type"] == "image/png"
        assert mask.headers["content-disposition"] == 'inline; filename="cat_000000-mask.png"'
        result = page.get("/api/sources/1/result").json
        assert (result["name"], result["width"], result["height"]) == ("cat_000000", 451, 300)
        assert result["classes"]["cat"] > 0.2

    def test_a_snapshot_is_of_one_frame(self, page, view, seen):
        view.put(seen(4))
        parts = page.get("/api/sources/1/snapshot").parts
        assert set(parts) == {"result", "frame", "labels", "mask"}
        assert b'"cat_000004"' in parts["result"]
        assert (decoded(parts["labels"]) == seen().labels).all()

    @pytest.mark.parametrize(("path", "status"), [("2/frame.jpg", 404), ("1/nothing", 404), ("x/frame.jpg", 404)])
    def test_what_is_not_there_is_said(self, page, view, seen, path, status):
        view.put(seen())
        assert page.get(f"/api/sources/{path}").status == status

    def test_before_the_first_picture_there_is_none(self, page):
        answer = page.get("/api/sources/1/frame.jpg")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")

    def test_a_name_of_any_letters_is_offered_as_a_file(self, page, view, seen):
        from dataclasses import replace

        result = seen()
        view.put(replace(result, frame=replace(result.frame, name='kö"ter\n')))
        answer = page.get("/api/sources/1/frame.jpg")
        assert answer.status == 200
        assert answer.headers["content-disposition"] == "inline; filename*=utf-8''k%C3%B6%22ter%0A.jpg"


def read_parts(response: http.client.HTTPResponse, count: int) -> list[bytes]:
    found = []
    while len(found) < count:
        assert response.readline() == b"--fcn-edge-frame\r\n"
        assert response.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(response.readline().removeprefix(b"Content-Length: "))
        assert response.readline() == b"\r\n"
        found.append(response.read(length))
        assert response.readline() == b"\r\n"
    return found


class TestStream:
    @pytest.fixture
    def stream(self, page):
        connection = http.client.HTTPConnection("127.0.0.1", page.server.port, timeout=30)
        connection.request("GET", "/stream.mjpg")
        with connection.getresponse() as response:
            yield response
        connection.close()

    def test_pictures_follow_each_other(self, stream_of_results, stream):
        assert stream.headers["content-type"] == "multipart/x-mixed-replace; boundary=fcn-edge-frame"
        pictures = [decoded(data) for data in read_parts(stream, 3)]
        assert {picture.shape for picture in pictures} == {(300, 451, 3)}

    @pytest.fixture
    def stream_of_results(self, view, seen):
        done = threading.Event()

        def put() -> None:
            number = 0
            while not done.wait(0.02):
                view.put(seen(number))
                number += 1

        view.put(seen())
        thread = threading.Thread(target=put)
        thread.start()
        yield
        done.set()
        thread.join()

    def test_a_lost_source_goes_on_with_a_notice(self, view, seen, source, page):
        view.put(seen())
        source.lost_since = time.monotonic() - 12
        connection = http.client.HTTPConnection("127.0.0.1", page.server.port, timeout=30)
        connection.request("GET", "/stream.mjpg")
        with connection.getresponse() as response:
            pictures = [decoded(data) for data in read_parts(response, 2)]
        connection.close()
        assert (pictures[0] != pictures[1]).any(), "the seconds go on"


class TestStatus:
    def test_it_says_what_is_known(self, page, view, seen):
        view.put(seen())
        document = page.get("/api/status").json
        assert (document["model"]["name"], document["model"]["trained"]) == ("fcn8s-lite", True)
        assert document["model"]["palette"][1] == "#800000"
        (source,) = document["sources"]
        assert (source["id"], source["name"], source["state"], source["size"]) == (1, "demo:", "running", [300, 451])
        assert source["classes"]["cat"] > 0.2

    def test_a_lost_source_is_said_with_its_time(self, page, view, seen, source):
        view.put(seen())
        source.lost_since = time.monotonic() - 12
        told = page.get("/api/status").json["sources"][0]
        assert told["state"] == "lost"
        assert 12 <= told["lost_for"] < 60

    def test_credentials_are_shown_nowhere(self, page, view, source, seen):
        source.uri = "rtsp://user:hunter22@camera/a?password=hunter22"
        source.problems.append("rtsp://user:hunter22@camera/a: is gone.")
        view.put(seen())
        for path in ("/", "/api/status", "/api/live", "/metrics", "/api/sources/1/result"):
            answer = page.get(path)
            assert answer.status == 200
            assert b"hunter22" not in answer.body
            assert b"camera" in answer.body or path.endswith("result")


class TestHealth:
    def test_it_is_well_while_pictures_come_or_are_looked_for(self, page, view, seen, source):
        assert page.get("/healthz").status == 200  # starting
        view.put(seen())
        assert page.get("/healthz").status == 200
        view.put_at -= 60
        source.lost_since = time.monotonic() - 60
        assert page.get("/healthz").status == 200  # which a restart would not mend

    def test_it_is_ill_where_nothing_comes_of_what_is_there(self, page, view, seen):
        view.put(seen())
        view.put_at -= 60
        answer = page.get("/healthz")
        assert (answer.status, answer.body) == (503, b"source 1: no result\n")

    def test_one_picture_a_minute_is_no_illness(self, page, view, seen):
        view.put(seen(0))
        view.put_at -= 60
        view.put(seen(1))
        view.put_at -= 100
        assert page.get("/healthz").status == 200

    def test_a_source_that_came_to_its_end_is_no_illness(self, page, view, seen):
        with WebSink(view) as sink:
            sink.write(seen())
        view.put_at -= 60
        assert page.get("/healthz").status == 200


def test_metrics_are_as_prometheus_reads_them(page, hub, view, source, seen):
    from prometheus_client.parser import text_string_to_metric_families

    hub.add(source, view.painter, view.tally)  # of the same name
    view.put(seen())
    view.tally.frames = 42
    answer = page.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    where = (("name", "demo:"), ("source", "1"))
    assert samples[("fcn_edge_frames_total", *where)] == 42
    assert samples[("fcn_edge_source_lost_seconds", *where)] == 0
    assert samples[("fcn_edge_class_area_ratio", ("class", "cat"), *where)] > 0.2
    assert any(name == "process_resident_memory_bytes" for name, *_ in samples)


def test_names_are_shown_as_they_are_and_run_nothing(page, source, view, seen):
    source.uri = HOSTILE
    view.put(seen())
    text = page.get("/").body.decode()
    assert "<img src=x" not in text
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in text


def test_untrained_weights_are_told_of(page, hub, monkeypatch):
    assert "Untrained" not in page.get("/").body.decode()
    from dataclasses import replace

    monkeypatch.setattr(hub, "spec", replace(hub.spec, trained=False))
    assert "<strong>Untrained weights:</strong> the labels mean nothing." in page.get("/").body.decode()


def test_the_page_loads_nothing_from_elsewhere(page):
    import re

    paths = [
        "/",
        "/static/page.css",
        "/static/page.js",
        "/static/picture.js",
        "/static/chart.js",
        "/static/snapshot.js",
    ]
    for path in paths:
        answer = page.get(path)
        assert answer.status == 200
        links = set(re.findall(rb"(?:https?:)?//[\w.-]+", answer.body))
        assert links <= {b"http://www.w3.org"}, path
    assert "default-src 'none'" in page.get("/").headers["content-security-policy"]


def test_a_heat_map_is_asked_of_the_pipeline(hub, source, segmenter, view):
    assert not WebSink(view).wants_picture
    heat = Painter(segmenter.spec, heat="cat")
    assert WebSink(hub.add(source, heat, view.tally)).wants_picture
