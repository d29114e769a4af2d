"""Who may look: a token where others can reach the page, and on loopback only this machine's own names.

A page from elsewhere can have its name resolve to 127.0.0.1 and then read what this machine serves there; so without
a token the Host header has to be one of loopback's.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fcn_edge.errors import UsageError

OPEN = ("/healthz", "/static/")  # what says nothing of what is seen
SHORTEST_TOKEN = 8
MOST_BODY = 4096  # bytes; nothing but a token is ever sent here
BODY_WITHIN = 10.0  # seconds
WRONG_TOKEN_COSTS = 0.5  # seconds
COOKIE_DAYS = 30
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def make_token() -> str:
    return secrets.token_urlsafe(16)


def check_token(token: str) -> None:
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"--token: at least {SHORTEST_TOKEN} ASCII characters without spaces. Leave it out, and one is made."
        )


class Guard:
    """Lets a request through to `app` if it may be answered; `token` null: to whoever asks this machine by its name."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        answer = await self._judge(request)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault(
                    "Cache-Control", "no-cache" if request.url.path.startswith("/static/") else "no-store"
                )
            await send(message)

        await (answer or self.app)(scope, receive, guarded)

    async def _judge(self, request: Request) -> Response | None:
        """What to answer instead of the application; None: let it through."""
        body = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not body.isdecimal() or int(body) > MOST_BODY:
            return PlainTextResponse(f"At most {MOST_BODY} bytes.\n", 413, {"Connection": "close"})
        if self.token is None:
            return None if is_loopback(request.headers.get("host", "")) else _strange_host()
        path = request.url.path
        if path == "/token" and request.method == "POST":
            return await self._enter(request)
        if path.startswith(OPEN):
            return None
        if path == "/" and "token" in request.query_params:
            return await self._admit(request, request.query_params["token"])
        given = self._given(request)
        if given is not None and not self._is_right(given):
            await asyncio.sleep(WRONG_TOKEN_COSTS)
        elif given is not None:
            return None
        return _who_are_you(request, wrong=given is not None)

    async def _enter(self, request: Request) -> Response:
        try:
            body = await asyncio.wait_for(request.body(), BODY_WITHIN)
        except (asyncio.TimeoutError, ClientDisconnect):
            return PlainTextResponse("Too slow.\n", 408, {"Connection": "close"})
        return await self._admit(request, parse_qs(body.decode("latin-1")).get("token", [""])[0].strip())

    async def _admit(self, request: Request, given: str) -> Response:
        """To the page, with the token in a cookie in place of the address."""
        if not self._is_right(given):
            await asyncio.sleep(WRONG_TOKEN_COSTS)
            return _who_are_you(request, wrong=True)
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        response = RedirectResponse("/" + ("?" + urlencode(rest) if rest else ""), 303)
        response.set_cookie(
            _cookie(request), given, max_age=COOKIE_DAYS * 86_400, httponly=True, samesite="strict", path="/"
        )
        return response

    def _given(self, request: Request) -> str | None:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return value.strip()
        return request.query_params.get("token") or request.cookies.get(_cookie(request))

    def _is_right(self, given: str) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given.encode(), self.token.encode())


def _cookie(request: Request) -> str:
    """Its name holds the port: browsers share cookies between the ports of a host."""
    return f"fcn_edge_{request.url.port or 80}"


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine itself."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host.partition(":")[0] if host.count(":") == 1 else host
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _strange_host() -> Response:
    return PlainTextResponse(
        "Without a token this page answers to localhost alone. Start fcn-edge run with --token.\n", 421
    )


def _who_are_you(request: Request, wrong: bool) -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="fcn-edge"'}
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse("Wrong token.\n" if wrong else "A token is needed.\n", 401, headers)
    from fcn_edge.web.pages import door

    return Response(door(wrong), 401, headers, "text/html")
