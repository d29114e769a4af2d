"""docs/report.md names every key that a report and an answer hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import reports
from msgspec import Struct
from msgspec.structs import fields

from fcn_edge.bench import schema
from fcn_edge.report.recommend import Bounds, recommend
from fcn_edge.report.view import boards

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
NAMED = {name for code in re.findall(r"`([^`\n]+)`", PAGE) for name in re.split(r"[.\s]", code)}
KINDS = [
    kind
    for kind in vars(schema).values()
    if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct and not kind.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_key_of_a_report_is_named(kind: type[Struct]) -> None:
    assert [field.name for field in fields(kind) if field.name not in NAMED] == []


def test_every_key_of_an_answer_is_named() -> None:
    (board,) = boards([(reports.report(), Path())])
    document = recommend(board, Bounds(max_latency=1.0)).document()
    assert document["candidate"]
    assert {*document, *document["candidate"], *Bounds.__dataclass_fields__} <= NAMED


def test_the_schema_of_the_page_is_that_of_the_code() -> None:
    assert f"## `report.json`, schema {schema.SCHEMA}" in PAGE
