"""Logging in and out: two small pages of our own, which work without script.

In: a name and a password. Out: a login, whose secret is in a cookie that no script can read. Refused: what is wrong, in
words, and after too much of it with how long to wait.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable
from typing import ParamSpec
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from assistant.access import Who, who_of
from assistant.accounts import LOGIN_DAYS, Accounts
from assistant.audit import audit
from assistant.errors import AssistantError, Busy, NotAllowed, StoreError
from assistant.ui import fragments
from assistant.ui.requests import address_of, cookie_of

COOKIE = "assistant_login"
AT_ONCE, WAITING = 2, 20
"""Passwords checked at the same time, 64 MiB each, and logins that may wait for it."""
FORM_BYTES = 8192
_PLACE = re.compile(r"/(?![/\\])[!-~]*")
"""A place on this server."""
_HEADERS = {
    "cache-control": "no-store",
    # Under the stricter rule of the other pages a browser would not say with a form that it comes from here.
    "referrer-policy": "same-origin",
}
P = ParamSpec("P")
_log = logging.getLogger(__name__)


def login_of(scope: Scope) -> str:
    """Return the secret of the login that a request names by its cookie; empty when it names none."""
    return cookie_of(scope, COOKIE)


def routes(accounts: Accounts) -> APIRouter:
    """Return the pages that log in and out; the guard lets everybody see them."""
    router, turn = APIRouter(), asyncio.Semaphore(AT_ONCE)
    waiting = 0

    async def _logged_in(request: Request, login: str = "") -> Who | None:
        return await asyncio.to_thread(accounts.who_logged_in, login or login_of(request.scope))

    @router.get("/login")
    @_safely
    async def show(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
        """Show the form; whoever need not log in goes on."""
        is_known = who_of(request.scope).scopes or await _logged_in(request)  # the guard gives scopes while it is open
        return RedirectResponse(_place(next), 303) if is_known else _page(next)

    @router.post("/login")
    @_safely
    async def log_in(request: Request) -> Response:
        """Log in, and go on to where one wanted to go."""
        nonlocal waiting
        fields = await _read(request)
        name, password, place = (fields.get(each, "") for each in ("name", "password", "next"))
        address = address_of(request.scope)
        if waiting >= WAITING:
            return _page(place, name, "Too many people log in just now; try again in 5 s.", status=429, retry_s=5)
        waiting += 1
        try:
            async with turn:
                login = await asyncio.to_thread(accounts.log_in, name, password, address)
        except Busy as error:
            return _page(place, name, _sentence(error), status=429, retry_s=error.retry_s)
        except NotAllowed as error:
            known = {each.name.casefold(): each.name for each in await asyncio.to_thread(accounts.users)}
            who = Who(known.get(name.casefold()), "", address=address)
            await asyncio.to_thread(audit, who, "login failed", "" if who.name else "a name that nobody has")
            return _page(place, name, _sentence(error), status=401)
        finally:
            waiting -= 1
        person = await _logged_in(request, login)
        await asyncio.to_thread(audit, Who(person.name if person else None, "", address=address), "login")
        return _set(RedirectResponse(_place(place), 303), request, login, LOGIN_DAYS * 86_400)

    @router.get("/logout")
    @_safely
    async def ask(request: Request) -> Response:
        """Ask whether to log out: a link alone shall not do it, since any page may hold one."""
        who = await _logged_in(request)
        return _answer("logout.html", name=who.name) if who else RedirectResponse("/login", 303)

    @router.post("/logout")
    @_safely
    async def log_out(request: Request) -> Response:
        """Log out."""
        who = await _logged_in(request)
        if who:
            await asyncio.to_thread(accounts.log_out, login_of(request.scope))
            await asyncio.to_thread(audit, Who(who.name, "", address=address_of(request.scope)), "logout")
        return _set(RedirectResponse("/login", 303), request, "", 0)

    return router


def _safely(route: Callable[P, Awaitable[Response]]) -> Callable[P, Awaitable[Response]]:
    """Tell a stranger no more than that the accounts cannot be read; the log has the rest."""

    @functools.wraps(route)
    async def run(*given: P.args, **named: P.kwargs) -> Response:
        try:
            return await route(*given, **named)
        except StoreError as error:
            _log.error("nobody can log in: %s", error)
            return _page("/", fault="The accounts cannot be read just now; the log of the server says why.", status=503)

    return run


async def _read(request: Request) -> dict[str, str]:
    """Return the fields of a form; of one too long, none."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_BYTES:
            return {}
    try:
        return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace"), max_num_fields=9).items()}
    except ValueError:
        return {}


def _place(place: str) -> str:
    """Return where to go on to, on this server alone."""
    return place if _PLACE.fullmatch(place) else "/"


def _sentence(error: AssistantError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _page(place: str, name: str = "", fault: str = "", *, status: int = 200, retry_s: int = 0) -> Response:
    response = _answer("login.html", status=status, place=_place(place), name=name[:64], fault=fault)
    if retry_s:
        response.headers["retry-after"] = str(retry_s)
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


def _answer(template: str, *, status: int = 200, **values: str | None) -> Response:
    response = fragments.render(template, status=status, **values)
    response.headers.update(_HEADERS)
    return response


def _set(response: Response, request: Request, login: str, seconds: int) -> Response:
    # Lax: a permalink that is followed from elsewhere has to bring the cookie.
    response.set_cookie(
        COOKIE, login, max_age=seconds, httponly=True, samesite="lax", secure=request.scope["scheme"] == "https"
    )
    response.headers["cache-control"] = "no-store"
    return response
