"""Whether two reports of one matrix, made one after the other on one machine, rank its candidates alike.

    fcn-edge bench --models all --out one && fcn-edge bench --models all --out two
    python benchmarks/ranking.py one two

Of all pairs of candidates whose medians differ by more than 5 %: how many the second report ranks the other way round;
and the same of all pairs of which both reports are sure, that is, where the 95 % intervals of their means lie apart.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

from fcn_edge.bench.schema import Summary, read_report

APART = 0.05  # of the faster one's latency


def totals(report: Path) -> dict[str, Summary]:
    """By candidate."""
    return {cell.key: cell.latency.total for cell in read_report(report).cells if cell.latency}


def by_median(first: Summary, second: Summary) -> int:
    """1 where the first is faster, -1 where it is slower, 0 where they are about as fast."""
    ratio = first.p50 / second.p50
    return (ratio < 1 / (1 + APART)) - (ratio > 1 + APART)


def surely(first: Summary, second: Summary) -> int:
    """The same, 0 where their intervals overlap."""
    return (first.high < second.low) - (second.high < first.low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs=2)
    one, two = map(totals, parser.parse_args().reports)
    if one.keys() != two.keys():
        parser.error(f"these are of different matrices: {', '.join(sorted(one.keys() ^ two.keys()))}")
    pairs = list(combinations(one, 2))
    print(f"{len(one)} candidates, {len(pairs)} pairs")
    for rank, meaning in ((by_median, f"medians more than {APART:.0%} apart"), (surely, "95 % intervals apart")):
        orders = [(rank(one[first], one[second]), rank(two[first], two[second])) for first, second in pairs]
        both = [before == after for before, after in orders if before and after]
        print(f"{meaning} in both reports: {len(both)} pairs, {both.count(False)} of them the other way round")


if __name__ == "__main__":
    main()
