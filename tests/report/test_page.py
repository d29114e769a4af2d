"""The page opens offline, shows names as they are, and has every figure in a table beside its plot."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import reports
from msgspec.structs import replace

pytest.importorskip("plotly", reason="the page's extra is not there: pip install -e '.[report]'")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from fcn_edge.report.page import page
from fcn_edge.report.plots import plots
from fcn_edge.report.view import boards

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"


def made(*folders: Path) -> str:
    from fcn_edge.bench.schema import read_report

    shown = boards((read_report(folder), folder) for folder in folders)
    return page(shown, plots(shown))


class Seen(HTMLParser):
    """Tags with their attributes, and the texts outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.written(tmp_path_factory.mktemp("whole"), reports.report(), pictures=True)


@pytest.fixture(scope="module")
def seen(whole: Path) -> Seen:
    return Seen(made(whole))


def test_nothing_is_loaded_from_anywhere(seen: Seen) -> None:
    places = [
        value
        for tag, attributes in seen.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action") and tag != "path"
    ]
    assert places
    assert [place for place in places if not (place or "").startswith(("data:", "#"))] == []
    (policy,) = (each["content"] for _, each in seen.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'; img-src data:;")


def test_every_plot_has_words_a_still_and_data_for_it(seen: Seen) -> None:
    live = [attributes for _, attributes in seen.tags if "data-figure" in attributes]
    stills = [attributes for _, attributes in seen.tags if attributes.get("class") == "still"]
    (text,) = (script for script in seen.scripts if script.startswith('{"pareto'))
    figures = json.loads(text)
    assert [each["data-figure"] for each in live] == list(figures)
    assert list(figures) == [
        "pareto-voc-val", "pareto-extra-coco", "latency", "stages", "classes-voc-val", "classes-extra-coco"
    ]  # fmt: skip
    assert len(stills) == len(live)
    told = str(live[0]["aria-label"])
    assert "small openvino int8 257: 0.500 at 4.00 ms; lite openvino int8 513: 0.700 at 10.0 ms" in told
    assert all(each["alt"] and str(each["src"]).startswith("data:image/svg+xml;base64,") for each in stills)


def test_the_frontier_of_the_plot_is_that_of_its_table(seen: Seen) -> None:
    (text,) = (script for script in seen.scripts if script.startswith('{"pareto'))
    line = json.loads(text)["pareto-voc-val"]["data"][0]
    assert (line["name"], line["text"]) == ("frontier", ["1", "2", "3"])
    assert line["x"] == pytest.approx([4, 10, 40])
    assert line["y"] == [0.5, 0.7, 0.75]


def test_models_differ_by_symbol_and_stages_by_pattern_as_well_as_by_colour(seen: Seen) -> None:
    (text,) = (script for script in seen.scripts if script.startswith('{"pareto'))
    figures = json.loads(text)
    symbols = [trace["marker"]["symbol"] for trace in figures["pareto-voc-val"]["data"][1:]]
    patterns = [trace["marker"]["pattern"]["shape"] for trace in figures["stages"]["data"]]
    assert len(set(symbols)) == len(symbols) == 4
    assert len(set(patterns)) == len(patterns) == 4


def test_all_runs_are_in_the_boxes(seen: Seen) -> None:
    (text,) = (script for script in seen.scripts if script.startswith('{"pareto'))
    boxes = json.loads(text)["latency"]["data"]
    assert boxes[1]["x"] == pytest.approx([9, 10, 10, 11])


def test_tables_have_heads_captions_and_can_be_reached_by_key(seen: Seen) -> None:
    tables = [tag for tag, _ in seen.tags if tag == "table"]
    captions = [tag for tag, _ in seen.tags if tag == "caption"]
    scopes = {attributes.get("scope") for tag, attributes in seen.tags if tag == "th"}
    scrolled = [attributes for _, attributes in seen.tags if attributes.get("class") == "scroll"]
    assert len(tables) == len(captions) >= 9
    assert scopes == {"col", "row"}
    assert all(each["tabindex"] == "0" and each["role"] == "region" and each["aria-label"] for each in scrolled)


def test_it_says_what_was_timed_by_which_command_and_where(seen: Seen) -> None:
    for part in (
        "from a frame of 1280 by 720 pixels in memory to labels of that size in memory, one at a time, with 2 threads",
        "Not in it: reading a file or a camera",
        "Timing itself takes 1.00 µs a run",
        "fcn-edge bench --models all --data voc:val --out DIR",
        "2.6 GHz, locked",
        "1 of 6 candidates failed",
        "out of memory. Take a smaller size.",
        "no counter can be read",
    ):
        assert part in seen.text


def test_masks_stand_beside_frame_and_truth_with_their_classes_named(seen: Seen) -> None:
    assert "one: all agree on 80.0 %" in seen.text
    images = {str(each["alt"]) for tag, each in seen.tags if tag == "img" and each.get("class") != "still"}
    told = "background 50.0 %, cat 25.0 %, dog 25.0 %"
    assert {"frame", f"truth: {told}", f"lite openvino int8 513: {told}"} <= images


def test_names_are_shown_as_they_are_and_run_nothing(tmp_path: Path) -> None:
    hostile = reports.cell(HOSTILE, val=0.7, clean=0.5, device=HOSTILE, seen=HOSTILE)
    report = reports.report(
        HOSTILE,
        cells=[hostile, replace(hostile, key="b", failed=HOSTILE, latency=None, accuracy=[])],
        command=HOSTILE,
        machine=reports.machine(HOSTILE, noise=[HOSTILE], versions={HOSTILE: HOSTILE}),
    )
    text = made(reports.written(tmp_path, report))
    seen = Seen(text)
    assert not [attributes for _, attributes in seen.tags if "onerror" in attributes]
    assert HOSTILE in seen.text
    hover = next(script for script in seen.scripts if script.startswith('{"pareto'))
    names = [trace["name"] for trace in json.loads(hover)["pareto-voc-val"]["data"]]
    assert names[1].startswith("&lt;/script&gt;&lt;img")  # plotly takes a few tags in texts


def test_without_accuracy_it_is_a_page_of_latency_alone(tmp_path: Path) -> None:
    seen = Seen(made(reports.written(tmp_path, reports.report(data=[], cells=[reports.cell("lite")]))))
    assert "Latency only" in seen.text
    assert [each["data-figure"] for _, each in seen.tags if "data-figure" in each] == ["latency", "stages"]
    assert "#accuracy" not in [each.get("href") for _, each in seen.tags]


def test_where_all_failed_there_is_a_page_that_says_so(tmp_path: Path) -> None:
    failed = [cell for cell in reports.cells() if cell.failed]
    seen = Seen(made(reports.written(tmp_path, reports.report(cells=failed))))
    assert "1 of 1 candidate failed" in seen.text
    assert not [each for _, each in seen.tags if "data-figure" in each]


def test_several_boards_have_a_column_each(whole: Path, tmp_path: Path) -> None:
    seen = Seen(made(whole, reports.written(tmp_path, reports.full())))
    names = [each["data-figure"] for _, each in seen.tags if "data-figure" in each]
    assert names[:2] == ["pareto-voc-val-1", "pareto-voc-val-2"]
    assert "Median milliseconds, a column a board" in seen.text
    for part in ("Layers of small openvino int8 257", "How close to the machine's limits, a board", "J a frame"):
        assert part in seen.text
    (text,) = (script for script in seen.scripts if script.startswith('{"pareto'))
    axes = [json.loads(text)[name]["layout"]["xaxis"]["range"] for name in names[:2]]
    assert axes[0] == axes[1]


@pytest.mark.parametrize("damage", ["gone", "text", "colours", "outside"])
def test_pictures_that_cannot_be_shown_are_left_out(damage: str, tmp_path: Path) -> None:
    folder = reports.written(tmp_path / "bench", reports.report(), pictures=True)
    mask = folder / "pictures" / "one.png"
    if damage == "gone":
        mask.unlink()
    elif damage == "text":
        mask.write_text("no picture")
    elif damage == "colours":
        mask.write_bytes((folder / "pictures" / "one.jpg").read_bytes())
    else:  # a report from elsewhere names a file beside it
        mask.rename(tmp_path / "one.png")
        path = folder / "report.json"
        path.write_text(path.read_text().replace('"one.png"', '"../../one.png"'))
    assert "all agree on" not in Seen(made(folder)).text


def test_long_tables_are_folded(tmp_path: Path) -> None:
    many = [reports.cell("lite", size=str(size), val=0.5) for size in range(100, 141)]
    report = reports.report(cells=many, data=reports.report().data[:1])
    assert "Milliseconds from a frame to its labels: 41 rows" in Seen(made(reports.written(tmp_path, report))).text


@pytest.mark.debian(chromium="chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_draws_every_plot_without_a_complaint(scheme: str, whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(made(whole))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,9000", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom"]
    flags += ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    done = subprocess.run(["chromium", *flags, file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    seen = Seen(done.stdout)
    drawn = [each for _, each in seen.tags if "js-plotly-plot" in str(each.get("class"))]
    assert len(drawn) == 6
    buttons = [each for _, each in seen.tags if "modebar-btn" in str(each.get("class"))]
    assert buttons == []  # one of plotly's sends the figures to its makers
    ink = "rgb(230, 233, 236)" if scheme == "dark" else "rgb(26, 29, 33)"
    assert ink in done.stdout
    assert ("rgb(26, 29, 33)" if scheme == "dark" else "rgb(230, 233, 236)") not in done.stdout
