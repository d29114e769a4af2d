"""Who is on the frontier, whom a plot shows, and how boards stand side by side."""

from __future__ import annotations

from pathlib import Path

import reports
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fcn_edge.bench.schema import Cell
from fcn_edge.report import story, tables
from fcn_edge.report.view import boards, by_key, champions, frontier, frontiers, shown

HERE = Path()


def keys(cells: list[Cell]) -> list[str]:
    return [cell.key for cell in cells]


class TestFrontier:
    def test_it_is_what_was_worked_out_by_hand(self) -> None:
        assert keys(frontier(reports.cells(), "voc:val")) == reports.FRONTIER

    def test_what_is_untrained_or_without_accuracy_is_on_none(self) -> None:
        without = reports.cell("fast", median=0.0001)
        untrained = reports.cell("raw", median=0.0001, val=0.99, trained=False)
        assert frontier([without, untrained], "voc:val") == []

    def test_a_gain_that_is_not_shown_is_no_gain(self) -> None:
        cells = [reports.cell("a", median=0.01, val=0.7001), reports.cell("b", median=0.02, val=0.7004)]
        assert keys(frontier(cells, "voc:val")) == ["a openvino int8 513"]

    @given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), max_size=20))
    def test_none_on_it_is_matched_and_all_others_are(self, points: list[tuple[int, int]]) -> None:
        cells = [reports.cell(str(i), median=1e-3 * time, val=iou / 20) for i, (time, iou) in enumerate(points)]
        kept = {int(cell.model) for cell in frontier(cells, "voc:val")}
        strictly_worse = {
            i
            for i, (time, iou) in enumerate(points)
            if any(t <= time and a >= iou and (t, a) != (time, iou) for t, a in points)
        }
        assert not kept & strictly_worse
        assert {points[i] for i in kept} == {points[i] for i in range(len(points)) if i not in strictly_worse}


class TestChoices:
    def test_champions_are_each_models_most_accurate_and_the_faster_of_equals(self) -> None:
        (board,) = boards(
            [
                (
                    reports.report(
                        cells=[
                            reports.cell("a", "fp32", median=0.02, val=0.7),
                            reports.cell("a", median=0.01, val=0.7),
                            reports.cell("a", "bf16", median=0.001, val=0.6),
                            reports.cell("b", val=0.8),
                        ]
                    ),
                    HERE,
                )
            ]
        )
        assert keys(champions(board, "voc:val")) == ["b openvino int8 513", "a openvino int8 513"]

    def test_a_plot_shows_the_frontiers_first_then_each_models_fastest(self) -> None:
        (board,) = boards([(reports.report(), HERE)])
        assert keys(frontiers(board)) == ["small openvino int8 257", *keys(board.report.cells)[1:4]]
        assert keys(shown(board, 5)) == keys(board.report.cells)[:5]
        assert keys(shown(board, 2)) == keys(board.report.cells)[:2]


class TestBoards:
    def test_two_of_one_machine_are_told_apart(self) -> None:
        names = [board.name for board in boards([(reports.report(), HERE), (reports.report(), HERE)])]
        assert len(set(names)) == 2
        assert all(name.startswith("2x a CPU, ") for name in names)

    def test_a_candidate_of_one_board_alone_has_a_gap_on_the_other(self) -> None:
        both = boards([(reports.report("a", cells=reports.cells()[:1]), HERE), (reports.report("b"), HERE)])
        rows = by_key(both)
        assert [cell is None for cell in rows["lite openvino int8 513"]] == [True, False]
        overview = tables.overview(both)
        assert overview.head == ["model", "backend", "precision", "size", "a", "b"]
        assert overview.rows[0] == ["small", "openvino", "int8", "257", "4.00", "4.00"]
        assert overview.rows[3] == ["large", "openvino", "int8", "513", "not in it", "40.0 (noisy)"]
        assert overview.rows[5] == ["huge", "openvino", "fp32", "513", "not in it", "failed"]


class TestHead:
    def test_failures_noise_and_untrained_weights_are_told_first(self) -> None:
        made = reports.report(machine=reports.machine(noise=["another process took a core"]))
        assert story.head(boards([(made, HERE)])) == [
            "1 of 6 candidates failed; see Failed.",
            "Noisy: another process took a core.",
            "The figures of 1 candidate are doubtful, marked noisy.",
            "UNTRAINED, on no frontier: raw.",
        ]

    def test_without_data_it_says_latency_only(self) -> None:
        made = reports.report(data=[], cells=[reports.cell("lite")])
        (line,) = story.head(boards([(made, HERE)]))
        assert line == "Latency only: no labelled data were named, so accuracy was not measured."

    def test_what_keeps_two_boards_from_being_compared_is_told(self) -> None:
        one = reports.report("a", cells=[reports.cell("lite", val=0.7)])
        other = reports.report(
            "b",
            cells=[reports.cell("lite", val=0.7, sha256="f" * 64)],
            data=[replace(data, identity="2" * 64) for data in one.data[:1]],
            protocol=replace(one.protocol, frame=(480, 640)),
        )
        assert story.head(boards([(one, HERE), (other, HERE)])) == [
            "The boards were given frames of different sizes: a 720x1280, b 480x640.",
            "voc:val holds other pictures on one board than on another.",
            "1 candidate of one name came from different files: lite openvino int8 513.",
        ]
