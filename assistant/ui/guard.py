"""The guard in front of every door: which requests come in, as whom, and with which headers answers go out.

In: every request. Out: the application's response with security headers and, with a page, the cookie by which its
owner is known again. Refused: a request that names another host, or that comes from another site's page; and once
there are users or tokens, whoever shows neither a login nor a token. On loopback without any, everybody comes in.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.access import SCOPES, Who, set_who
from assistant.errors import NotAllowed, StoreError
from assistant.ui.login import login_of
from assistant.ui.requests import address_of, cookie_of, field_of, fields_of
from assistant.ui.rules import Rules

COOKIE = "assistant_owner"
"""Where nobody logs in: whoever holds it owns the conversations that were saved under it; no script can read it."""
COOKIE_DAYS = 400
"""The longest that browsers keep one."""
OPEN = {"/healthz", "/readyz", "/login", "/logout"}
"""Doors that ask for nothing; everything else does, so that a new one is shut from the beginning."""
PROGRAMS = ("/api", "/v1", "/mcp", "/metrics", "/openapi.json", "/.well-known")
"""Doors of programs, each with all below it: a token opens these alone, and what is refused there is told as JSON."""

_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self'{}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " font-src 'self' data:; connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'self'; object-src 'none'"
)
_OWNER = re.compile(r"[\w-]{43}", re.ASCII)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_DROPPED = {
    b"accept-encoding",  # uncompressed, so that a page can be read for its scripts
    # What a proxy says of itself is read by the server, from a trusted one alone; Gradio would believe everybody.
    b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port",
    b"x-forwarded-prefix", b"x-gradio-server",
}  # fmt: skip
_ENDED = '<p class="fault" role="alert">You are not logged in any more. <a href="/login">Log in again</a></p>'
_log = logging.getLogger(__name__)


class Guard:
    """Lets in who may, under one of the server's own names; lets out responses with security headers."""

    def __init__(self, app: ASGIApp, rules: Rules | None = None, *, with_page: bool = True) -> None:
        """Stand in front of an application; without a page there is nothing to log in to."""
        self._app, self._rules, self._with_page = app, rules or Rules(), with_page
        self._is_shut = self._rules.always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # no door of ours speaks anything else
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._refuse_stranger(scope) or await self._identify(scope)
        if isinstance(found, Response):
            await found(scope, receive, _Response(send, ""))
            return
        owner = "" if found.owner or self._is_shut else secrets.token_urlsafe(32)
        response = _Response(send, owner)
        scope = {**scope, "headers": [each for each in scope["headers"] if each[0] not in _DROPPED]}
        set_who(scope, found)
        try:
            await self._app(scope, receive, response)
        except NotAllowed as error:
            if response.begun:
                raise
            await _refusal(scope, 403, str(error))(scope, receive, response)

    def _refuse_stranger(self, scope: Scope) -> Response | None:
        """Refuse another host's name, which may lead here all the same, and the pages of other sites."""
        hosts, origins = fields_of(scope, "host"), fields_of(scope, "origin")
        if len(hosts) != 1 or not self._rules.know(hosts[0]):
            known = ", ".join(["localhost", "127.0.0.1", *sorted(self._rules.names)])
            return _refusal(scope, 400, f"This server answers to the names {known} alone; ASSISTANT_HOSTS adds others")
        is_own = field_of(scope, "sec-fetch-site") == "same-origin"  # a browser alone can say so
        if not all(self._knows_origin(each) or (is_own and each == "null") for each in origins):
            return _refusal(scope, 403, "The page of another site may not send requests here")
        return None

    def _knows_origin(self, origin: str) -> bool:
        scheme, _, authority = origin.partition("://")
        return scheme.lower() in {"http", "https"} and self._rules.know(authority)

    # --- As whom ------------------------------------------------------------------------------------------------------

    async def _identify(self, scope: Scope) -> Who | Response:
        """Return who sends a request, or what they are told instead of an answer."""
        # Once shut it stays so until the server ends, should the file go.
        self._is_shut = self._is_shut or self._rules.accounts.are_set_up
        if scope["path"] in OPEN:
            return Who(None, "", frozenset() if self._is_shut else frozenset(SCOPES), address_of(scope))
        if not self._is_shut:
            owner = cookie_of(scope, COOKIE)
            return Who(None, owner if _OWNER.fullmatch(owner) else "", address=address_of(scope))
        try:
            is_program = _is_program(scope) or not self._with_page
            found = await (self._identify_program(scope) if is_program else self._identify_person(scope))
        except StoreError as error:
            _log.error("nobody can be let in: %s", error)
            return _refusal(scope, 503, "The accounts cannot be read, so that nobody is let in; the log says more")
        return replace(found, address=address_of(scope)) if isinstance(found, Who) else found

    async def _identify_program(self, scope: Scope) -> Who | Response:
        shown, accounts = fields_of(scope, "authorization"), self._rules.accounts
        if shown:
            scheme, _, token = shown[0].partition(" ")
            is_bearer = len(shown) == 1 and scheme.lower() == "bearer"
            who = await asyncio.to_thread(accounts.who_shows, token.strip()) if is_bearer else None
            return who or _refusal(scope, 401, "The token is wrong or revoked; make one with `assistant tokens add`")
        who = await asyncio.to_thread(accounts.who_logged_in, login_of(scope))
        if who and not _is_same_origin(scope):
            return _refusal(scope, 403, "A login is good for this server's own page; a program shows a token instead")
        return who or _refusal(scope, 401, "There is no token; send one as `Authorization: Bearer TOKEN`")

    async def _identify_person(self, scope: Scope) -> Who | Response:
        who = await asyncio.to_thread(self._rules.accounts.who_logged_in, login_of(scope))
        # An address that is opened; a script that asks for one says so, or at least where it comes from.
        is_opened = (
            scope["method"] in {"GET", "HEAD"}
            and field_of(scope, "sec-fetch-mode") in {"", "navigate"}
            and not fields_of(scope, "origin")
        )
        if who and not is_opened and _is_same_origin(scope) is False:
            return _refusal(scope, 403, "The page of another site may not send requests here")
        if who:
            return who
        if not is_opened:
            return HTMLResponse(_ENDED, 401, {"www-authenticate": "Bearer", "cache-control": "no-store"})
        place = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
        wanted = "" if place == "/" else f"?next={quote(place[:2000], safe='')}"
        return RedirectResponse(f"/login{wanted}", 303, {"cache-control": "no-store"})


def _is_program(scope: Scope) -> bool:
    return any(scope["path"] == door or scope["path"].startswith(f"{door}/") for door in PROGRAMS)


def _is_same_origin(scope: Scope) -> bool | None:
    """Tell whether a request comes from this server's own page, or from nobody's; None when it does not say.

    Cookies do not look at the port: without this the page of another program on this machine could use a login.
    """
    site, origin = field_of(scope, "sec-fetch-site"), field_of(scope, "origin")
    if site:
        return site in {"same-origin", "none"}
    if origin:
        scheme, _, authority = origin.lower().partition("://")
        port = {"http": ":80", "https": ":443"}.get(scheme, "")
        return authority.removesuffix(port) == field_of(scope, "host").lower().removesuffix(port)
    return None


def _refusal(scope: Scope, status: int, message: str) -> Response:
    """Return what is told instead of an answer: to a program as JSON, to a person in words."""
    headers = {"cache-control": "no-store"} | ({"www-authenticate": "Bearer"} if status == 401 else {})
    if _is_program(scope):
        kind = {400: "ConfigError", 503: "StoreError"}.get(status, "NotAllowed")
        return JSONResponse({"error": {"type": kind, "message": message}}, status, headers)
    return PlainTextResponse(f"{message}.\n", status, headers)


class _Response:
    """Passes a response on with its headers; a page waits until its inline scripts are known, which alone may run."""

    def __init__(self, send: Send, owner: str) -> None:
        self._send, self._page, self._owner = send, b"", owner
        self._start: Message = {}
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start, self.begun = message, True
            if not any(name == b"content-type" and kind.startswith(b"text/html") for name, kind in message["headers"]):
                await self._open([])
        elif not self._start:
            await self._send(message)
        else:
            self._page += message.get("body", b"")
            if not message.get("more_body"):
                await self._open(_INLINE_SCRIPT.findall(self._page))
                await self._send({"type": "http.response.body", "body": self._page})

    async def _open(self, scripts: Sequence[bytes]) -> None:
        hashes = (base64.b64encode(hashlib.sha256(each).digest()).decode() for each in scripts)
        policy = _POLICY.format("".join(f" 'sha256-{each}'" for each in hashes)).encode()
        own = [*self._start["headers"]]
        named = {name for name, _ in own}
        headers = [*own, *(each for each in _HEADERS if each[0] not in named), (b"content-security-policy", policy)]
        if self._page and self._owner:
            # Lax: a permalink that is followed from elsewhere has to bring the cookie, or it would be replaced.
            cookie = f"{COOKIE}={self._owner}; Path=/; Max-Age={COOKIE_DAYS * 86_400}; HttpOnly; SameSite=Lax"
            headers.append((b"set-cookie", cookie.encode()))
        await self._send({**self._start, "headers": headers})
        self._start = {}
