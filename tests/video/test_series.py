from __future__ import annotations

import pytest

from fcn_edge.errors import UsageError
from fcn_edge.video.series import Cut, parse_cut


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("10min", Cut(seconds=600)),
        ("90s", Cut(seconds=90)),
        ("1.5h", Cut(seconds=5400)),
        ("100MB", Cut(bytes=100_000_000)),
        ("2 gb", Cut(bytes=2_000_000_000)),
        ("10min,100MB", Cut(seconds=600, bytes=100_000_000)),
        ("10min, keep=48", Cut(seconds=600, keep=48)),
    ],
)
def test_a_length_a_size_and_how_many_are_kept(text, cut):
    assert parse_cut(text) == cut


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "min",
        "10 parsecs",
        "-5min",
        "nan s",
        "1e9h",
        "0s",
        "0.5s",
        "1kB",
        "5min,6min",
        "keep=3",
        "5min,keep=0",
    ],
)
def test_what_is_neither_is_refused(text):
    with pytest.raises(UsageError, match=r"^--segment"):
        parse_cut(text)
