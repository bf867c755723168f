"""What stands between the API and whoever calls it: bodies of a bounded size, and work that ends when they hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.api.faults import Reply

Limit = Callable[[Scope], int]
"""The longest body of a request, in bytes."""


class Caller:
    """Refuses a body that is too long before it is read whole, and cancels a request that nobody waits for any more."""

    def __init__(self, app: ASGIApp, limit: Limit) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if any(each.isdigit() and int(each[:18]) > limit for each in lengths):
            await Reply({"error": {"type": "TooLarge", "message": _too_large(limit)}}, 413)(scope, receive, send)
            return
        call = _Call(receive, send, limit)
        try:
            await self._app(scope, call.receive, call.send)
        except asyncio.CancelledError:
            if not call.gone.is_set():
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        finally:
            call.end()


class _Call:
    """One request while it is served."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self.gone = asyncio.Event()
        self._receive, self._send, self._limit = receive, send, limit
        self._size = 0
        self._work = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Return what comes next of the body; once that is whole, whether the caller is still there is watched here."""
        if self._watch is not None:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self._limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(self._limit))
            if not message.get("more_body"):
                self._watch = asyncio.create_task(self._wait())
        return message

    async def send(self, message: Message) -> None:
        """Pass a piece of the response on; after its last one nothing is left to cancel."""
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.end()
        await self._send(message)

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        if self._work:
            self._work.cancel()

    def end(self) -> None:
        """Watch no longer."""
        if self._watch:
            self._watch.cancel()


def _too_large(limit: int) -> str:
    return f"the body is longer than {limit:,} bytes; send less at once"
