"""The answer under bounds, on a report whose figures are round.

voc:val: small 0.500 in 4 ms, lite int8 0.700 in 10, lite fp32 0.690 in 20, large 0.750 in 40; each p95 is 1.085 of
that. raw is untrained, huge failed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reports
from msgspec.structs import replace

from fcn_edge.bench.schema import Memory, Report
from fcn_edge.errors import FcnEdgeError, UsageError
from fcn_edge.report.recommend import Answer, Bounds, recommend, text
from fcn_edge.report.view import boards


def ask(report: Report | None = None, **bounds: Any) -> Answer:
    (board,) = boards([(report or reports.report(), Path())])
    return recommend(board, Bounds(**bounds))


@pytest.mark.parametrize(
    ("bounds", "model", "precision"),
    [
        ({"max_latency": 0.05}, "large", "int8"),  # the most accurate
        ({"max_latency": 0.02}, "lite", "int8"),
        ({"max_latency": 0.0109}, "lite", "int8"),  # p95 is 10.85 ms
        ({"max_latency": 0.0108}, "small", "int8"),
        ({"min_miou": 0.6}, "lite", "int8"),  # the fastest
        ({"min_miou": 0.7}, "lite", "int8"),
        ({"min_miou": 0.701}, "large", "int8"),
        ({"min_miou": 0.6, "max_latency": 0.05}, "large", "int8"),
        ({"min_miou": 0.56, "max_latency": 0.03, "data": "extra:coco"}, "lite", "fp32"),  # 0.56 there, int8 has 0.55
        ({"max_memory": 300e6}, "small", "int8"),
    ],
)
def test_the_answer_is_what_was_worked_out_by_hand(bounds: dict[str, Any], model: str, precision: str) -> None:
    cell = ask(**bounds).cell
    assert cell
    assert (cell.model, cell.precision) == (model, precision)


def test_a_difference_within_half_a_point_is_none() -> None:
    cells = [reports.cell("a", median=0.01, val=0.700), reports.cell("b", median=0.02, val=0.7049)]
    assert ask(reports.report(cells=cells), max_latency=0.1).cell == cells[0]
    further = [cells[0], reports.cell("b", median=0.02, val=0.7051)]
    assert ask(reports.report(cells=further), max_latency=0.1).cell == further[1]


def test_why_is_told_with_what_was_asked_and_what_else_fits() -> None:
    answer = ask(min_miou=0.6, max_latency=0.05)
    assert answer.why == [
        "mean IoU 0.750 on voc:val (at least 0.6); 0.600 on extra:coco; 95 of 100 frames within 43.4 ms (at most "
        "50.0), median 40.0 ms; 300 MB of memory at its peak.",
        "The most accurate of the 3 that fit, of 4; of those within 0.005 of each other the fastest.",
        "The fastest that fits: lite openvino int8 513, mean IoU 0.700, p95 10.8 ms, 300 MB.",
        "In training its weights have seen VOC trainaug; figures on that flatter it.",
    ]
    assert answer.doubts == ["its rounds lie 20 % apart"]
    assert answer.fitting == ["lite openvino int8 513", "lite openvino fp32 513", "large openvino int8 513"]
    assert "fcn-edge run --model large --backend openvino --precision int8 --size 513 " in text(answer)


def test_the_line_that_runs_it_names_files_where_they_lie() -> None:
    own = reports.cell("a.onnx", median=0.01, val=0.7, file="~/my models/a.onnx", spec="specs/a.toml")
    answer = ask(reports.report(cells=[own]), min_miou=0.5)
    assert answer.command
    assert answer.command.startswith("fcn-edge run --model ~/'my models/a.onnx' --spec specs/a.toml --backend openvino")


def test_where_nothing_fits_the_nearest_is_named() -> None:
    answer = ask(min_miou=0.75, max_latency=0.02)
    assert answer.cell is None
    assert answer.command is None
    assert text(answer) == (
        "2x a CPU: nothing fits. Nearest, missing accuracy alone: lite openvino int8 513, mean IoU 0.700, p95 10.8 ms, "
        "300 MB. Nearest, missing latency alone: large openvino int8 513, mean IoU 0.750, p95 43.4 ms, 300 MB."
    )
    assert "misses more than one bound" in text(ask(min_miou=0.9, max_latency=0.001))


def test_memory_is_the_hosts_and_the_devices_and_unknown_memory_fits_nowhere() -> None:
    on_device = reports.cell("a", val=0.7, memory=Memory(200, 100, 101))
    unknown = reports.cell("b", val=0.8, memory=None)
    report = reports.report(cells=[on_device, unknown])
    assert ask(report, max_memory=301).cell == on_device
    assert ask(report, max_memory=300).cell is None


def test_a_candidate_that_failed_after_it_was_timed_is_not_recommended() -> None:
    cells = [replace(each, failed="its profile crashed") for each in reports.cells()]
    answer = ask(reports.report(cells=cells), max_latency=1.0)
    assert text(answer) == "2x a CPU: nothing fits. None of its 6 candidates was timed, trained and without failure."


def test_without_accuracy_only_the_clock_is_asked() -> None:
    report = reports.report(data=[], cells=[reports.cell("a", median=0.02), reports.cell("b", median=0.01)])
    answer = ask(report, max_latency=0.05)
    assert answer.cell == report.cells[1]
    assert answer.doubts == ["accuracy was not measured"]
    with pytest.raises(FcnEdgeError, match=r"latency only\. Measure accuracy too"):
        ask(report, min_miou=0.5)


def test_data_that_the_report_does_not_have_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"no data 'val'\. Known: extra:coco, voc:val"):
        ask(min_miou=0.5, data="val")
