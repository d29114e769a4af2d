"""What a report says in sentences: its head, what was timed, and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from fcn_edge.bench.schema import Protocol
from fcn_edge.report.view import Board, by_key
from fcn_edge.report.words import digits, pixels, plural

NOT_TIMED = (
    "Not in it: reading a file or a camera, decoding video, drawing the overlay (a stage of its own, timed apart), "
    "encoding and writing. Load and first frame are told apart and are in no other figure."
)


def head(boards: Sequence[Board]) -> list[str]:
    """What a reader has to know before any figure: failures, noise, what is missing."""
    lines = []
    for board in boards:
        report, where = board.report, f"{board.name}: " if len(boards) > 1 else ""
        if report.failed:
            lines.append(f"{where}{len(report.failed)} of {plural(len(report.cells), 'candidate')} failed; see Failed.")
        lines += [f"{where}Noisy: {sentence.rstrip('.')}." for sentence in report.machine.noise]
        noisy = [cell.key for cell in board.timed if cell.latency and cell.latency.noisy]
        if noisy:
            lines.append(f"{where}The figures of {plural(len(noisy), 'candidate')} are doubtful, marked noisy.")
        if not report.data:
            lines.append(f"{where}Latency only: no labelled data were named, so accuracy was not measured.")
        untrained = sorted({cell.model for cell in report.cells if not cell.trained})
        if untrained:
            lines.append(f"{where}UNTRAINED, on no frontier: {', '.join(untrained)}.")
    return lines + _differences(boards)


def _differences(boards: Sequence[Board]) -> list[str]:
    """Of boards that stand side by side: what makes their figures not comparable."""
    lines = []
    if len({board.report.protocol.frame for board in boards}) > 1:
        frames = ", ".join(f"{board.name} {pixels(board.report.protocol.frame)}" for board in boards)
        lines.append(f"The boards were given frames of different sizes: {frames}.")
    identities: dict[str, set[str]] = {}
    for board in boards:
        for data in board.report.data:
            identities.setdefault(data.name, set()).add(data.identity)
    lines += [
        f"{name} holds other pictures on one board than on another."
        for name, those in identities.items()
        if len(those) > 1
    ]
    files = [
        key for key, cells in by_key(boards).items() if len({cell.sha256 for cell in cells if cell and cell.sha256}) > 1
    ]
    if files:
        lines.append(
            f"{plural(len(files), 'candidate')} of one name came from different files: {', '.join(files[:3])}."
        )
    return lines


def timed(protocol: Protocol) -> list[str]:
    """What one figure of latency covers, and how it was come by."""
    threads = (
        "as many threads as each backend takes" if protocol.threads is None else plural(protocol.threads, "thread")
    )
    return [
        f"Latency is from a frame of {protocol.frame[1]} by {protocol.frame[0]} pixels in memory to labels of that "
        f"size in memory, one at a time, with {threads}.",
        NOT_TIMED,
        f"{plural(protocol.rounds, 'round')} over all candidates in turn; of each in a round at least "
        f"{plural(protocol.runs, 'run')} and {protocol.seconds:g} s. Intervals of the mean are bootstrapped over "
        "rounds, because the runs of a round are alike.",
        f"Warm-up: {protocol.warm_up.rstrip('.')}. Timing itself takes {digits(1e6 * protocol.timer_overhead)} µs a "
        "run, which is in the figures.",
        "Outliers lie beyond p75 + 3 x (p75 - p25); they are counted, and stay in every figure.",
    ]
