"""Parts of an answer -> server-sent events, begun once the first part is there, and kept alive while none comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assistant.types import Answer

FIRST_S = 10.0
"""So long the first part is waited for before the response begins: an error until then has a status of its own."""
QUIET_S = 10.0
"""After so long without a word a comment is sent, so that nobody in between takes the connection for dead."""
_STILL_HERE = ": still here\n\n"

Parts = AsyncGenerator[str | Answer, None]
Write = Callable[[Parts], AsyncGenerator[str, None]]
"""Turns the parts of an answer into events, and tells the errors that come after the first part."""


def event(data: Any, name: str = "") -> str:
    """Return one event."""
    line = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {line}\n\n" if name else f"data: {line}\n\n"


async def begin(parts: Parts, write: Write) -> Events:
    """Return the response for an answer whose first part is there, or that is taking its time.

    Raises:
        AssistantError: The first part is an error.
    """
    first = asyncio.ensure_future(cast("Awaitable[str | Answer]", anext(parts)))
    try:
        await asyncio.wait([first], timeout=FIRST_S)
        if first.done():
            first.result()
    except BaseException:
        await _end(first)
        await parts.aclose()
        raise
    return Events(first, parts, write)


class Events(Response):
    """A response of events; what they come from is closed as soon as nobody listens."""

    media_type = "text/event-stream"

    def __init__(self, first: asyncio.Future[str | Answer], parts: Parts, write: Write) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._first, self._parts, self._write = first, parts, write

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send them as they come."""
        texts = self._write(self._chain())
        coming: asyncio.Future[str] | None = None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while True:
                coming = coming or asyncio.ensure_future(cast("Awaitable[str]", anext(texts)))
                await asyncio.wait([coming], timeout=QUIET_S)
                try:
                    text, coming = (coming.result(), None) if coming.done() else (_STILL_HERE, coming)
                except StopAsyncIteration:
                    break
                await send({"type": "http.response.body", "body": text.encode("utf-8", "replace"), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await _end(coming)
            await texts.aclose()
            await _end(self._first)
            await self._parts.aclose()

    async def _chain(self) -> Parts:
        yield await self._first
        async for part in self._parts:
            yield part


async def _end(future: asyncio.Future[Any] | None) -> None:
    """Cancel what still waits, and wait until it has ended."""
    if future and not future.done():
        future.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
            await future
