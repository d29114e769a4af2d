"""The page, its API, the metrics: what is asked for, answered from the hub."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fcn_edge.web import encoding, pages
from fcn_edge.web.guard import Guard
from fcn_edge.web.hub import Hub, View
from fcn_edge.web.metrics import exposition
from fcn_edge.web.status import changing_json, state, status

if TYPE_CHECKING:
    from fcn_edge.video.sinks import Result

PATIENCE = 1.0  # seconds that a request waits for a newer picture, before it gets the figures alone
BOUNDARY = "fcn-edge-frame"


def create_app(hub: Hub, token: str | None = None) -> Starlette:
    """The ASGI application over `hub`; with a token it answers only to those who have it."""
    app = Starlette(
        routes=[
            Route("/", page),
            Route("/healthz", healthz),
            Route("/metrics", metrics),
            Route("/stream.mjpg", stream),
            Route("/api/status", api_status),
            Route("/api/live", live),
            Route("/api/sources/{id:int}/{what}", newest),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Guard, token=token)],
    )
    app.state.hub = hub
    return app


async def page(request: Request) -> Response:
    return HTMLResponse(pages.live(_hub(request)))


async def healthz(request: Request) -> Response:
    """200 while every source either gives pictures or is being looked for; else 503 and which does not."""
    ill = [view.id for view in _hub(request).views.values() if state(view) == "standing still"]
    if ill:
        return PlainTextResponse(f"source {', '.join(map(str, ill))}: no result\n", 503)
    return PlainTextResponse("ok\n")


async def metrics(request: Request) -> Response:
    body, kind = exposition(_hub(request))
    return Response(body, media_type=kind)


async def api_status(request: Request) -> Response:
    return _json(status(_hub(request)))


async def live(request: Request) -> Response:
    """Figures, and for each source the picture that is newer than what the client has, as a multipart form."""
    hub = _hub(request)
    have = _have(request)
    await hub.turns.take()

    def newer(view: View) -> bool:
        return view.number > 0 and view.number != have.get(view.id, 0)

    with _watching(hub):
        await hub.bell.wait_for(lambda: hub.ended or any(map(newer, hub.views.values())), PATIENCE)
        parts: list[tuple[str, str, bytes]] = []
        for view in filter(newer, hub.views.values()):
            known = have.get(view.id, 0)
            number, shown = await view.shown.after(known if known < view.number else 0)
            about = {"number": number, **_about(shown.result)}
            parts += [
                (f"result-{view.id}", "", msgspec.json.encode(about)),
                (f"frame-{view.id}", "image/jpeg", shown.jpeg),
                (f"mask-{view.id}", "image/png", shown.mask),
            ]
    return _form([("status", "", changing_json(hub)), *parts])


async def newest(request: Request) -> Response:
    """A file of a source's newest result, at the frame's own size."""
    view = _view(request, request.path_params["id"])
    _, result = view.newest
    what = request.path_params["what"]
    hub = view.hub
    if what == "result":
        return _json(_about(result))
    await hub.turns.take()
    if what == "frame.jpg":
        return _file(await run_in_threadpool(_frame, result), "image/jpeg", f"{result.frame.name}.jpg")
    if what == "overlay.jpg":
        data = await run_in_threadpool(encoding.kept, result, view.painter)
        return _file(data, "image/jpeg", f"{result.frame.name}-overlay.jpg")
    if what == "mask.png":
        data = await run_in_threadpool(encoding.palette_png, result.labels, hub.spec.palette)
        return _file(data, "image/png", f"{result.frame.name}-mask.png")
    if what == "snapshot":
        return _form(await run_in_threadpool(_snapshot, result, hub))
    raise HTTPException(404)


def _snapshot(result: Result, hub: Hub) -> list[tuple[str, str, bytes]]:
    """One frame with all that belongs to it."""
    return [
        ("result", "", msgspec.json.encode(_about(result))),
        ("frame", "image/jpeg", _frame(result)),
        ("labels", "image/png", encoding.gray_png(result.labels)),
        ("mask", "image/png", encoding.palette_png(result.labels, hub.spec.palette)),
    ]


def _frame(result: Result) -> bytes:
    return encoding.jpeg(result.frame.image, encoding.KEPT_QUALITY, encoding.JPEG_SIDE)


async def stream(request: Request) -> Response:
    """The drawn picture as motion JPEG; a client that reads slowly gets fewer of them."""
    try:
        view = _view(request, int(request.query_params.get("source", 1)))
    except ValueError as error:
        raise HTTPException(404) from error
    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    if request.method == "HEAD":
        return Response(media_type=kind)
    return StreamingResponse(_pictures(view), media_type=kind)


async def _pictures(view: View) -> AsyncIterator[bytes]:
    number = 0
    with _watching(view.hub):
        while not view.hub.ended:
            await view.hub.turns.take()
            if not await view.hub.bell.wait_for(lambda: view.hub.ended or view.number > number, PATIENCE):  # noqa: B023
                view.renew()
            if view.number > number:
                number, data = await view.drawn.after(number)
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                yield head.encode() + data + b"\r\n"


def _hub(request: Request) -> Hub:
    return request.app.state.hub


def _view(request: Request, id: int) -> View:
    """The view of this number, once it has something to show."""
    view = _hub(request).views.get(id)
    if view is None:
        raise HTTPException(404, f"There is no source {id}.")
    if not view.number:
        raise HTTPException(503, "No picture came yet.", {"Retry-After": "1"})
    return view


def _have(request: Request) -> dict[int, int]:
    """What the client shows: source to number, of `have=1:120,2:98`."""
    pairs = (pair.partition(":") for pair in request.query_params.get("have", "").split(",") if pair)
    try:
        return {int(id): int(number) for id, _, number in pairs}
    except ValueError as error:
        raise HTTPException(400, "have=SOURCE:NUMBER,SOURCE:NUMBER") from error


@contextlib.contextmanager
def _watching(hub: Hub) -> Iterator[None]:
    hub.watching += 1
    try:
        yield
    finally:
        hub.watching -= 1


def _about(result: Result) -> dict[str, object]:
    height, width = result.labels.shape
    return {
        "frame": result.frame.sequence,
        "name": result.frame.name,
        "time": round(float(result.frame.time), 6),
        "width": width,
        "height": height,
        "classes": {name: round(share, 6) for name, share in result.shares.items()},
        "milliseconds": {stage: round(1e3 * taken, 3) for stage, taken in result.seconds.items()},
    }


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")


def _file(data: bytes, kind: str, name: str) -> Response:
    quoted = quote(name)
    filename = f'filename="{name}"' if quoted == name else f"filename*=utf-8''{quoted}"
    return Response(data, media_type=kind, headers={"Content-Disposition": f"inline; {filename}"})


def _form(parts: list[tuple[str, str, bytes]]) -> Response:
    """multipart/form-data, which browsers take apart by themselves; parts with a media type are files."""
    boundary = secrets.token_hex(16)
    lines: list[bytes] = []
    for name, kind, data in parts:
        disposition = f'Content-Disposition: form-data; name="{name}"'
        head = f'{disposition}; filename="{name}"\r\nContent-Type: {kind}' if kind else disposition
        lines += [f"--{boundary}\r\n{head}\r\n\r\n".encode(), data, b"\r\n"]
    lines.append(f"--{boundary}--\r\n".encode())
    return Response(b"".join(lines), media_type=f"multipart/form-data; boundary={boundary}")
