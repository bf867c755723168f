"""The guard in front of the page: which requests come in, with which headers answers go out, and whose they are.

In: every request. Out: the application's response with security headers and, with a page, the cookie by which its
owner is known again. Refused: a request that names another host, or that comes from another site's page.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "assistant_owner"
"""Whoever holds it owns the conversations that were saved under it; no script of the page can read it."""
COOKIE_DAYS = 400
"""The longest that browsers keep one."""

_OURSELVES = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self'{}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " font-src 'self' data:; connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'self'; object-src 'none'"
)
_OWNER = re.compile(r"[\w-]{43}")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class Guard:
    """Lets in requests to this machine's own names, from its own pages; lets out responses with security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
        hosts, origins = ([value for name, value in fields if name == field] for field in (b"host", b"origin"))
        if len(hosts) != 1 or "/" in hosts[0] or not _OURSELVES.fullmatch(hosts[0]):
            refusal = PlainTextResponse("This page answers to the names localhost and 127.0.0.1 alone.\n", 400)
            await refusal(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"} and not all(map(_OURSELVES.fullmatch, origins)):
            await PlainTextResponse("The page of another site may not send requests here.\n", 403)(scope, receive, send)
        else:  # uncompressed, so that a page can be read for its scripts
            plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            owner = "" if owner_of(scope) else secrets.token_urlsafe(32)
            await self._app({**scope, "headers": plain}, receive, _Response(send, owner))


def owner_of(scope: Scope) -> str:
    """Return the owner that a request names by its cookie; empty when it names none."""
    jar = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            with suppress(CookieError):
                jar.load(value.decode("latin-1"))
    return jar[COOKIE].value if COOKIE in jar and _OWNER.fullmatch(jar[COOKIE].value) else ""


class _Response:
    """Passes a response on with its headers; a page waits until its inline scripts are known, which alone may run."""

    def __init__(self, send: Send, owner: str) -> None:
        self._send, self._page, self._owner = send, b"", owner
        self._start: Message = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
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
        headers = [*self._start["headers"], *_HEADERS, (b"content-security-policy", policy)]
        if self._page and self._owner:
            # Lax: a permalink that is followed from elsewhere has to bring the cookie, or it would be replaced.
            cookie = f"{COOKIE}={self._owner}; Path=/; Max-Age={COOKIE_DAYS * 86_400}; HttpOnly; SameSite=Lax"
            headers.append((b"set-cookie", cookie.encode()))
        await self._send({**self._start, "headers": headers})
        self._start = {}
