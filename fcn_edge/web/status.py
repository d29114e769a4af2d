"""What is known of a run, as one JSON document: the page's figures, /api/status and /metrics are all made of it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

import fcn_edge
from fcn_edge.video.feed import Delivery
from fcn_edge.video.uri import redact
from fcn_edge.web.hub import Hub, View

MOST_PROBLEMS = 5  # the newest
STANDS_STILL = 10.0  # seconds without a result from a source that is not lost
GAPS = 3  # of the last length
TOLD_FOR = 0.25  # seconds
STARTS_WITHIN = 60.0  # a runtime compiles for its first frame, a camera takes its time


def status(hub: Hub) -> dict[str, Any]:
    """The document that docs/web.md describes."""
    return {"version": fcn_edge.__version__, "model": model(hub), **changing(hub)}


def changing(hub: Hub) -> dict[str, Any]:
    """The part of it that changes in a run."""
    return {
        "run": round(hub.began, 3),
        "ended": hub.ended,
        "watching": hub.watching,
        "sources": [source(view) for view in hub.views.values()],
    }


def changing_json(hub: Hub) -> bytes:
    """The same as text, a quarter of a second old at most: percentiles take a millisecond a source."""
    if hub.ended or time.monotonic() - hub.told[0] > TOLD_FOR:
        hub.told = time.monotonic(), msgspec.json.encode(changing(hub))
    return hub.told[1]


def model(hub: Hub) -> dict[str, Any]:
    spec, backend = hub.spec, hub.segmenter.backend
    return {
        "name": spec.name,
        "trained": spec.trained,
        "classes": list(spec.classes),
        "palette": ["#" + bytes(color).hex() for color in spec.palette],
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
        "choice": hub.segmenter.choice,
        "resize": hub.segmenter.resize,
    }


def source(view: View) -> dict[str, Any]:
    origin, tally = view.source, view.tally
    result = view.newest[1] if view.number else None
    lost_for = view.lost_for
    return {
        "id": view.id,
        "name": redact(origin.uri),
        "state": state(view),
        "trouble": redact(origin.trouble) if origin.trouble else None,
        "lost_for": None if lost_for is None else round(lost_for, 1),
        "live": origin.live,
        "size": list(result.labels.shape) if result else None,
        "network_sizes": [list(size) for size in sorted(tally.network_sizes)],
        "rate": float(origin.rate) if origin.rate else None,
        "total": origin.total,
        "frames": tally.frames,
        "fps": round(tally.recent_fps, 2),
        "dropped": origin.dropped + tally.dropped,
        "reconnects": origin.reconnects,
        "stages_ms": {name: spread.milliseconds() for name, spread in tally.spreads.items() if spread.count},
        "age_ms": tally.age.milliseconds() if origin.live and tally.age.count else None,
        "outputs": [output(delivery) for delivery in list(tally.deliveries)],
        "problems": [redact(line) for line in [*origin.problems, *map(str, tally.errors)][-MOST_PROBLEMS:]],
        "classes": {name: round(share, 6) for name, share in result.shares.items()} if result else {},
    }


def output(delivery: Delivery) -> dict[str, Any]:
    return {
        "name": delivery.where,
        "written": delivery.written,
        "lost": delivery.lost,
        "failed": delivery.error is not None,
    }


def state(view: View) -> str:
    """`starting`, `running`, `lost`, `standing still` or `ended`."""
    if view.ended or view.hub.ended:
        return "ended"
    if view.lost_for is not None:
        return "lost"
    now = time.monotonic()
    if view.put_at is None:
        return "starting" if now - view.hub.opened < STARTS_WITHIN else "standing still"
    patience = max(STANDS_STILL, GAPS * view.gap)  # one picture a minute may be what was asked for
    return "running" if now - view.put_at < patience else "standing still"
