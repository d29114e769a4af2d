"""Reports made by hand, whose rounds' medians are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec import structs

from fcn_edge.bench.compare import Comparison, check, compare, text
from fcn_edge.bench.schema import KIND, SCHEMA, Accuracy, Cell, Data, Machine, Protocol, Report
from fcn_edge.bench.timing import Round, latency
from fcn_edge.errors import DataError, UsageError

MACHINE = Machine(
    name="a board", system="Linux", cpu="some CPU", flags=["avx2", "fma"], cores=2, memory=None, gpu=None, board=None,
    power_mode=None, governor=None, clocks={}, versions={"openvino": "1.0"}, before={}, after={}, noise=[],
)  # fmt: skip
PROTOCOL = Protocol((720, 1280), None, 5, 10, 1.0, 1e-6, "until stable")
PICTURES = Data("voc:val", 100, "abc", ["background", "cat"])


def cell(
    key: str = "model openvino fp32 512", milliseconds: Sequence[float] = (), mean_iou: float | None = None, **more: Any
) -> Cell:
    """One whose rounds have these medians."""
    rounds = [Round([each / 1e3] * 5, {}) for each in milliseconds]
    accuracy = [] if mean_iou is None else [Accuracy(PICTURES.name, 100, 0, mean_iou, 0.9, None, {}, None)]
    return Cell(
        key, "model", "openvino", "fp32", "512", latency=latency(rounds) if rounds else None, accuracy=accuracy, **more
    )


def report(*cells: Cell, machine: Machine = MACHINE, data: Sequence[Data] = (PICTURES,), **protocol: Any) -> Report:
    timed = structs.replace(PROTOCOL, **protocol)
    return Report(KIND, SCHEMA, "fcn-edge", "then", "now", "fcn-edge bench", machine, timed, list(data), list(cells))


STEADY = (10.0, 10.1, 9.9, 10.0, 10.0)
SLOWER = (11.0, 11.1, 10.9, 11.0, 11.0)


def test_a_planted_slowdown_is_a_regression_and_none_is_none() -> None:
    found = compare(report(cell(milliseconds=STEADY)), report(cell(milliseconds=SLOWER)), max_slowdown=0.05)
    assert found.rows[0].difference == pytest.approx(0.1, abs=1e-3)
    assert found.rows[0].significant
    assert found.regressions == ["model openvino fp32 512: 10.0% slower, 5.0% are allowed"]
    assert not compare(report(cell(milliseconds=STEADY)), report(cell(milliseconds=STEADY)), 0.05).regressions


def test_what_is_allowed_and_what_is_faster_is_no_regression() -> None:
    slower, faster = report(cell(milliseconds=SLOWER)), report(cell(milliseconds=STEADY))
    assert not compare(faster, slower, max_slowdown=0.15).regressions
    found = compare(slower, faster, max_slowdown=0.0)
    assert (found.regressions, found.rows[0].significant) == ([], True)
    assert found.rows[0].difference == pytest.approx(-1 / 11, abs=1e-3)


def test_without_a_limit_nothing_is_a_regression() -> None:
    base, new = report(cell(milliseconds=STEADY, mean_iou=0.7)), report(cell(milliseconds=SLOWER, mean_iou=0.1))
    assert [row.what for row in compare(base, new).rows] == ["latency", "voc:val"]
    assert not compare(base, new).regressions
    assert not compare(base, report(cell(failed="it crashed."))).regressions


def test_a_slowdown_within_the_noise_is_told_and_not_judged() -> None:
    restless = (10.0, 18.0, 9.0, 12.0, 14.0)
    found = compare(report(cell(milliseconds=STEADY)), report(cell(milliseconds=restless)), max_slowdown=0.05)
    assert not found.rows[0].significant
    assert not found.regressions
    assert "would fit. Take more --rounds." in found.warnings[0]
    assert "new: the medians of its rounds are up to 100% apart" in str(found.rows[0].doubtful)


def test_a_drop_of_accuracy_is_measured_in_points() -> None:
    base = report(cell(mean_iou=0.750))
    assert not compare(base, report(cell(mean_iou=0.747)), max_drop=0.3).regressions  # exactly what is allowed
    (line,) = compare(base, report(cell(mean_iou=0.746)), max_drop=0.3).regressions
    assert line == "model openvino fp32 512: 0.40 points lost on voc:val, 0.3 are allowed"
    assert not compare(base, report(cell(mean_iou=0.8)), max_drop=0.0).regressions


def test_accuracy_is_paired_by_pictures_and_not_by_name() -> None:
    renamed = structs.replace(PICTURES, name="other:test")
    ours = cell(mean_iou=0.7)
    theirs = structs.replace(ours, accuracy=[structs.replace(ours.accuracy[0], data="other:test", mean_iou=0.6)])
    found = compare(report(ours), report(theirs, data=[renamed]), max_drop=1.0)
    assert found.rows[0].difference == pytest.approx(-0.1)
    others = structs.replace(PICTURES, identity="def")
    found = compare(report(ours), report(cell(mean_iou=0.6), data=[others]))
    assert found.rows == []
    assert "voc:val is not the same pictures" in found.warnings[0]


def test_a_limit_on_accuracy_without_the_same_pictures_is_refused() -> None:
    others = structs.replace(PICTURES, classes=["background", "dog"])
    with pytest.raises(DataError, match=r"no accuracy on the same pictures as here; its data: voc:val \(100 pictures"):
        compare(report(cell(mean_iou=0.7)), report(cell(mean_iou=0.7), data=[others]), max_drop=0.3)
    with pytest.raises(DataError, match="its data: none"):
        compare(report(cell(), data=[]), report(cell(mean_iou=0.7)), max_drop=0.3)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cpu", "another CPU", "CPU another CPU, here some CPU"),
        ("flags", ["avx2"], "instruction sets avx2, here avx2 fma"),
        ("power_mode", "15W", "power mode 15W, here none"),
    ],
)
def test_a_slowdown_from_another_machine_is_not_judged(field: str, value: object, said: str) -> None:
    base = report(cell(milliseconds=STEADY, mean_iou=0.7), machine=structs.replace(MACHINE, **{field: value}))
    new = report(cell(milliseconds=SLOWER, mean_iou=0.7))
    with pytest.raises(DataError, match=rf"measured elsewhere \({said}\)"):
        compare(base, new, max_slowdown=0.05)
    found = compare(base, new, max_drop=0.3)
    assert "NOT THE SAME MACHINE" in found.warnings[0]
    assert not found.regressions


def test_another_frame_is_not_judged_and_threads_are_counted() -> None:
    base = report(cell(milliseconds=STEADY), frame=(480, 640))
    with pytest.raises(DataError, match="frame 480x640, here 720x1280"):
        compare(base, report(cell(milliseconds=STEADY)), max_slowdown=0.05)
    two = report(cell(milliseconds=STEADY), threads=2)  # as many as there are cores, which None means too
    assert not compare(two, report(cell(milliseconds=STEADY)), max_slowdown=0.05).warnings


def test_a_limit_that_cannot_be_judged_is_refused_before_anything_is_measured() -> None:
    base = report(cell(milliseconds=STEADY), frame=(480, 640))
    with pytest.raises(DataError, match="or leave --max-slowdown out"):
        check(base, MACHINE, PROTOCOL, [], 0.05, None)
    check(base, MACHINE, PROTOCOL, [], None, None)
    with pytest.raises(UsageError, match="--max-drop is a limit from 0 on, not -1"):
        check(base, MACHINE, PROTOCOL, [], None, -1)
    with pytest.raises(UsageError, match="--max-slowdown is a limit"):
        check(base, MACHINE, PROTOCOL, [], float("nan"), None)


def test_what_no_longer_runs_is_a_regression() -> None:
    base = report(cell(milliseconds=STEADY, mean_iou=0.7))
    assert compare(base, report(cell(failed="it crashed.")), 0.05).regressions == [
        "model openvino fp32 512: it no longer runs: it crashed."
    ]
    unmeasured = cell(milliseconds=STEADY, not_measured={"accuracy": "a mask is missing."})
    (line,) = compare(base, report(unmeasured), max_drop=0.3).regressions
    assert line.endswith("its accuracy could not be measured: a mask is missing.")
    assert not compare(base, report(unmeasured), max_slowdown=0.05).regressions
    failing = report(cell(failed="it crashed."))
    assert not compare(failing, failing, 0.05).regressions  # it did not run before either


def test_cells_of_one_report_alone_are_named() -> None:
    base, new = report(cell("a"), cell("b")), report(cell("b"), cell("c"))
    found = compare(base, new)
    assert (found.only_in_base, found.only_in_new) == (["a"], ["c"])
    with pytest.raises(DataError, match="no cell in common"):
        compare(report(cell("a")), report(cell("b")))


def test_the_text_tells_all_and_warns_first() -> None:
    noisy = structs.replace(MACHINE, noise=["load of 3.0 before it began"], versions={"openvino": "2.0"})
    base = report(cell(milliseconds=STEADY, mean_iou=0.7), cell("gone"))
    lines = text(compare(base, report(cell(milliseconds=SLOWER, mean_iou=0.7), machine=noisy), 0.05)).splitlines()
    assert lines[0] == "! other versions: openvino 1.0, now 2.0"
    assert lines[1].startswith("! the new was measured on a machine that was not at rest: load of 3.0")
    assert lines[3].split()[4:10] == ["latency", "10.000", "ms", "11.000", "ms", "+10.0%"]
    assert lines[3].endswith("slower")
    assert lines[4].endswith("+0.00 points, the same")
    assert lines[5:] == ["only in the base: gone", "REGRESSION model openvino fp32 512: 10.0% slower, 5.0% are allowed"]


def test_a_comparison_is_json() -> None:
    found = compare(report(cell(milliseconds=STEADY, mean_iou=0.7)), report(cell(milliseconds=SLOWER, mean_iou=0.7)))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Comparison) == found
