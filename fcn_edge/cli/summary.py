"""What a run did, as a document for programs and as text for people; docs/run.md lists the keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcn_edge.segmenter import Segmenter
from fcn_edge.video.feed import Delivery, Feed
from fcn_edge.video.spread import Spread

PERCENTS = ("p50", "p95", "p99")


def document(feeds: Sequence[Feed], segmenter: Segmenter, interrupted: str | None) -> dict[str, Any]:
    """The keys of `--json` and of the last line of `--stats`."""
    backend = segmenter.backend
    return {
        **_account(feeds, interrupted),
        **({"sources": [_account([feed], interrupted) for feed in feeds]} if len(feeds) > 1 else {}),
        "model": segmenter.spec.name,
        "trained": segmenter.spec.trained,
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
        "choice": segmenter.choice,
        "resize": segmenter.resize,
        "refine": segmenter.refine,
        "interrupted": interrupted,
    }


def _account(feeds: Sequence[Feed], interrupted: str | None) -> dict[str, Any]:
    """Of one source, or of several together."""
    tallies = [feed.tally for feed in feeds]
    deliveries = [delivery for tally in tallies for delivery in tally.deliveries]
    stages = dict.fromkeys(name for tally in tallies for name in tally.spreads)
    spreads = {name: Spread.of(tally.spreads[name] for tally in tallies if name in tally.spreads) for name in stages}
    spreads = {name: spread for name, spread in spreads.items() if spread.count}
    age = Spread.of(tally.age for tally in tallies)
    return {
        "source": ", ".join(feed.source.uri for feed in feeds),
        "frames": sum(tally.frames for tally in tallies),
        "skipped": sum(len(feed.source.problems) for feed in feeds if feed.source.still),
        "dropped": sum(feed.dropped for feed in feeds),
        "left_out": sum(tally.left_out for tally in tallies),
        "reconnects": sum(feed.source.reconnects for feed in feeds),
        "seconds": round(max(tally.seconds for tally in tallies), 3),
        "fps": round(sum(tally.fps for tally in tallies), 2),
        "stages_ms": {name: round(1e3 * spread.mean, 3) for name, spread in spreads.items()},
        "spreads_ms": {name: spread.milliseconds() for name, spread in spreads.items()},
        "age_ms": age.milliseconds() if age.count else None,
        "network_sizes": [list(size) for size in sorted(set().union(*(tally.network_sizes for tally in tallies)))],
        "outputs": [delivery.sink.where for delivery in deliveries if delivery.sink.where],
        "deliveries": [_delivery(delivery) for delivery in deliveries],
        "notes": [
            *(note for feed in feeds for note in feed.source.notes),
            *(note for delivery in deliveries for note in delivery.sink.notes),
        ],
        "problems": [line for feed in feeds for line in _problems(feed, interrupted)],
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "where": delivery.where,
        "live": delivery.sink.live,
        "written": delivery.written,
        "lost": delivery.lost,
        "write_ms": delivery.write.milliseconds(),
        "age_ms": delivery.age.milliseconds(),
    }


def _problems(feed: Feed, interrupted: str | None) -> list[str]:
    source, tally = feed.source, feed.tally
    problems = [*source.problems, *map(str, tally.errors)]
    nothing = not problems and not tally.frames and not interrupted
    return [f"{source.uri}: no frame could be read."] if nothing else problems


def text(told: dict[str, Any]) -> str:
    """The summary for people."""
    lines = []
    for account in told.get("sources", [told]):
        lines += _account_text(account)
    sizes = [f"{height}x{width}" for height, width in told["network_sizes"]]
    shown = ", ".join(sizes[:3]) + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")
    if "sources" in told:
        lines.append(f"all {len(told['sources'])} sources: {told['frames']} frames, {told['fps']:.1f} a second")
    at = f" at {shown} (rows x columns, {told['resize']})" if sizes else ""  # none where it ended before a frame
    lines += [f"  {told['model']}{at}, {told['precision']}", f"  {told['choice']}"]
    if not told["trained"]:
        lines.append("  UNTRAINED weights: the labels mean nothing")
    watched = {
        each["where"] for account in told.get("sources", [told]) for each in account["deliveries"] if each["live"]
    }
    lines += [f"  wrote {where}" for where in told["outputs"] if where not in watched]
    lines += [f"  {note}" for note in told["notes"]]
    if told["interrupted"]:
        lines.append(f"  ended early by {told['interrupted']}")
    return "\n".join(lines)


def _account_text(account: dict[str, Any]) -> list[str]:
    words = {"dropped": "dropped", "skipped": "skipped", "left_out": "left out", "reconnects": "reconnects"}
    counts = "".join(f", {account[key]} {word}" for key, word in words.items() if account[key])
    stages = ", ".join(f"{name} {mean:.1f}" for name, mean in account["stages_ms"].items())
    frames = "1 frame" if account["frames"] == 1 else f"{account['frames']} frames"
    rate = f"; after the first one {account['fps']:.1f} a second" if account["frames"] > 1 else ""
    lines = [f"{frames} of {account['source']} in {account['seconds']:.2f} s{counts}{rate}"]
    lines += [f"  ms a frame: {stages}"] if stages else []
    if account["age_ms"] and account["frames"] > 1:
        age = ", ".join(f"{percent} {account['age_ms'][percent]:.0f}" for percent in PERCENTS)
        lines.append(f"  ms from capture to written: {age}")
    lost = [f"{each['where']} lost {each['lost']}" for each in account["deliveries"] if each["lost"]]
    return [*lines, *(f"  {line} of them" for line in lost)]
