"""What is written, over what, and the same bytes each time."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import reports
from PIL import Image

pytest.importorskip("plotly", reason="the page's extra is not there: pip install -e '.[report]'")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from fcn_edge.errors import DataError, SinkError
from fcn_edge.report import MARK, MARK_WITHIN, make
from fcn_edge.report.markdown import markdown
from fcn_edge.report.plots import plots
from fcn_edge.report.view import boards


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.written(tmp_path_factory.mktemp("bench"), reports.report(), pictures=True)


@pytest.fixture(scope="module")
def out(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    names = [path.name for path in make([bench], folder)]
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    return folder


def test_page_markdown_and_each_plot_twice_are_written(out: Path) -> None:
    plots = ("pareto-voc-val", "pareto-extra-coco", "latency", "stages", "classes-voc-val", "classes-extra-coco")
    expected = {f"{name}.{kind}" for name in plots for kind in ("svg", "png")} | {"report.html", "report.md"}
    assert {path.name for path in out.iterdir()} == expected
    for path in out.iterdir():
        assert MARK in path.read_bytes()[:MARK_WITHIN]


def test_pictures_are_pictures(out: Path) -> None:
    for path in out.glob("*.png"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            assert min(image.size) > 200
    for path in out.glob("*.svg"):
        assert ET.parse(path).getroot().tag.endswith("svg")
        assert "lite" in path.read_text()


def test_a_report_gives_the_same_bytes_again(bench: Path, out: Path) -> None:
    shown = boards([(reports.report(), bench)])
    for plot in plots(shown)[0].all[:3]:
        assert plot.svg == (out / f"{plot.name}.svg").read_bytes()
        assert plot.png == (out / f"{plot.name}.png").read_bytes()


def test_markdown_shows_plots_and_tables_and_no_pictures_of_the_data(out: Path) -> None:
    text = (out / "report.md").read_text()
    images = re.findall(r"\]\(([^)]*)\)", text)
    assert len(images) == 6
    assert all((out / image).is_file() for image in images)
    assert "| 2 | lite | openvino | int8 | 513 | 0.700 | 10.0 | 10.8 |" in text
    assert "```\nfcn-edge bench --models all --data voc:val --out DIR\n```" in text
    assert "- **1 of 6 candidates failed; see Failed.**" in text
    assert "differ most" not in text


def test_names_become_no_markup() -> None:
    shown = boards([(reports.report(cells=[reports.cell("a|b`<b>*x*[y](z)\n# c", val=0.5)]), Path())])
    text = markdown(shown, plots(shown))
    assert r"a\|b\`\<b\>\*x\*\[y\](z) \# c" in text
    assert "\n# c" not in text


def test_several_boards_stand_in_columns(tmp_path: Path) -> None:
    folders = [reports.written(tmp_path / name, reports.brief(name)) for name in ("2x a CPU", "a board")]
    make([folders[0], folders[1] / "report.json"], tmp_path / "both")
    text = (tmp_path / "both" / "report.md").read_text()
    assert "| model | backend | precision | size | 2x a CPU | a board |" in text
    assert "](pareto-voc-val-1.svg) | ![" in text


def test_what_it_made_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    bench = reports.written(tmp_path / "bench", reports.brief(data=[]))
    tmp_path /= "out"
    tmp_path.mkdir()
    (tmp_path / "report.md").write_text("# my own notes\n")
    with pytest.raises(SinkError, match=r"report\.md: exists and was not made by fcn-edge report"):
        make([bench], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    make([bench], tmp_path, force=True)
    make([bench], tmp_path)
    assert (tmp_path / "report.md").read_text().startswith("<!-- made by fcn-edge report -->")
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_is_told_in_a_line(bench: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be written"):
        make([bench], tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no report of fcn-edge"),
        ("{}", "is no report of fcn-edge"),
        ('{"kind": "another tool", "schema": 1}', "is no report of fcn-edge"),
        ('{"kind": "fcn-edge report", "schema": 99}', "has schema 99, this fcn-edge reads up to 1"),
        ('{"kind": "fcn-edge report", "schema": 1}', "is damaged"),
    ],
)
def test_what_is_no_report_of_ours_is_refused_before_anything_is_written(
    text: str, words: str, bench: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        make([bench, tmp_path], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
