"""The tables hold what the report holds, in units that people read."""

from __future__ import annotations

from pathlib import Path

import pytest
import reports

from fcn_edge.report import tables, words
from fcn_edge.report.view import boards

(BOARD,) = boards([(reports.report(), Path())])
(FULL,) = boards([(reports.full(), Path())])
VAL = BOARD.report.data[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123456, "0.00123"),
        (0.0999, "0.0999"),
        (9.544, "9.54"),
        (99.96, "100"),
        (0, "0"),
        (123.4, "123"),
        (12345.6, "12346"),
    ],
)
def test_figures_have_three_digits_and_no_powers(value: float, text: str) -> None:
    assert words.digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (999, "999 B"), (2_500_000, "2.50 MB"), (3e9, "3.00 GB"), (5e15, "5000 TB")]
)
def test_bytes_have_the_unit_that_fits(value: float | None, text: str) -> None:
    assert words.size(value) == text


def test_the_frontier_is_numbered_from_the_fastest() -> None:
    table = tables.frontier_table(BOARD, VAL)
    assert table.head == ["no.", "model", "backend", "precision", "size", "mean IoU", "median, ms", "p95, ms", "noise"]
    assert table.rows == [
        ["1", "small", "openvino", "int8", "257", "0.500", "4.00", "4.34", ""],
        ["2", "lite", "openvino", "int8", "513", "0.700", "10.0", "10.8", ""],
        ["3", "large", "openvino", "int8", "513", "0.750", "40.0", "43.4", "noisy"],
    ]


def test_latency_has_percentiles_interval_ends_and_counts() -> None:
    table = tables.latency_table(BOARD)
    row = dict(zip(table.head, table.rows[1], strict=True))
    assert row["mean (95 % interval)"] == "10.0 (9.50 to 10.5)"
    assert (row["median"], row["p90"], row["p95"], row["p99"]) == ("10.0", "10.7", "10.8", "11.0")
    assert (row["least to most"], row["runs"], row["outliers"]) == ("9.00 to 11.0", "4", "0")
    assert table.rows[4][0] == "raw (UNTRAINED)"


def test_stages_are_in_the_order_of_a_frame_and_start_stands_apart() -> None:
    stages = tables.stages_table(BOARD)
    assert stages.head[4:] == ["prepare", "infer", "decode", "draw"]
    assert stages.rows[1][4:] == ["1.00", "8.00", "1.00", "1.00"]
    assert tables.start_table(BOARD).rows[1][4:] == ["200", "500", "100", "150", "a stream"]


def test_columns_that_nothing_was_measured_for_are_left_out() -> None:
    assert tables.cost_table(BOARD).head[4:] == ["file", "host memory, peak", "before opening"]
    full = tables.cost_table(FULL)
    assert dict(zip(full.head[4:], full.rows[0][4:], strict=True)) == {
        "file": "2.50 MB",
        "parameters": "1.20 M",
        "operations a frame": "2.10 G",
        "host memory, peak": "300 MB",
        "before opening": "100 MB",
        "device memory, peak": "50.0 MB",
        "W": "7.00",
        "W idle": "3.00",
        "J a frame": "0.0700",
        "read by": "tegrastats",
    }


def test_classes_stand_beside_each_other_for_each_models_best() -> None:
    table = tables.classes_table(BOARD, VAL)
    assert table.head == ["class", "raw openvino int8 513", *reversed(reports.FRONTIER)]
    assert table.rows == [["background"] + ["0.900"] * 4, ["cat", "0.990", "0.750", "0.700", "0.500"]]  # no dog in it


def test_the_costliest_layers_come_first_and_their_share_is_told() -> None:
    table = tables.layers_table(FULL.report.cells[0])
    assert [row[0] for row in table.rows] == [f"conv{i}" for i in range(11, 1, -1)]
    assert table.rows[0] == ["conv11", "Convolution", "int8", "1x8x4x4", "12.0", "10.0 %"]
    assert table.note.startswith("10 of 12 layers, 100.0 %")


def test_the_roofline_names_peak_bandwidth_and_share() -> None:
    row = tables.roofline_table(FULL).rows[0][4:]
    assert row == ["2.10 Gop", "12.0 MB", "175", "100 Gop/s", "20.0 GB/s", "43.0 %"]


def test_the_reason_why_figures_are_doubtful_is_told() -> None:
    assert tables.noise_table(BOARD).rows == [["large openvino int8 513", "its rounds lie 20 % apart"]]


def test_what_failed_and_what_was_not_measured_say_why() -> None:
    assert tables.failures_table(BOARD).rows == [["huge openvino fp32 513", "out of memory. Take a smaller size."]]
    assert tables.unmeasured_table(BOARD).rows == [["energy", "no counter can be read", "all"]]
    assert ["lite", "VOC trainaug"] in tables.seen_table([BOARD]).rows


def test_the_environment_is_complete_and_has_a_column_a_board() -> None:
    table = tables.environment_table([BOARD, FULL])
    assert table.head == ["", "2x a CPU", "a board"]
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["openvino version"] == "2026.4"
    assert rows["cpu clock"] == "2.6 GHz, locked"
    assert rows["load, before and after"] == "0.100, 2.00"
    assert rows["governor"] == "performance"
