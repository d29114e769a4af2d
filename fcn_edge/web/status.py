"""What is known of a run, as one JSON document: the page's figures, /api/status and /metrics are all made of it."""

from __future__ import annotations

import time
from typing import Any

import fcn_edge
from fcn_edge.video.uri import redact
from fcn_edge.web.hub import Hub, View

STANDS_STILL = 10.0  # seconds without a result from a source that is not lost
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
    lost = origin.lost_since
    return {
        "id": view.id,
        "name": redact(view.title),
        "state": state(view),
        "lost_for": None if lost is None else round(time.monotonic() - lost, 1),
        "live": origin.live,
        "size": list(result.labels.shape) if result else None,
        "network_sizes": [list(size) for size in sorted(tally.network_sizes)],
        "rate": float(origin.rate) if origin.rate else None,
        "total": origin.total,
        "frames": tally.frames,
        "fps": round(view.fps, 2),
        "dropped": origin.dropped,
        "reconnects": origin.reconnects,
        "stages_ms": {name: {"mean": _ms(taken)} for name, taken in tally.stage_means.items()},
        "problems": [redact(line) for line in list(origin.problems)[-5:]],
        "classes": {name: round(share, 6) for name, share in result.shares.items()} if result else {},
    }


def state(view: View) -> str:
    """`starting`, `running`, `lost`, `standing still` or `ended`."""
    if view.hub.ended:
        return "ended"
    if view.source.lost_since is not None:
        return "lost"
    if view.put_at is None:
        return "starting" if time.time() - view.hub.began < STARTS_WITHIN else "standing still"
    return "running" if time.monotonic() - view.put_at < STANDS_STILL else "standing still"


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 2)
