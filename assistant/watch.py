"""What becomes of each request -> an id in its reply, a line in the log, and counts.

A line holds method, path, status and seconds; never a query, a body, a header or an address. What nobody foresaw ends
here: the caller gets a plain error under that id, the log one line, and neither a traceback.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
import uuid
from datetime import UTC, datetime
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.metrics import Metrics

HEADER = b"x-request-id"
KEY = "assistant.request_id"
"""Where a request's id stands in its scope."""
PATH_CHARS = 200
HUNG_UP = 499
"""The status of a request whose caller did not wait for one, as web servers log it."""
_SANE = re.compile(rb"[\w.:-]{1,64}", re.ASCII)
_log = logging.getLogger("assistant.requests")


class Watch:
    """Stands in front of all doors, the guard included."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        ident = given if _SANE.fullmatch(given) else uuid.uuid4().hex.encode()
        scope[KEY] = ident.decode()
        begun, status = time.monotonic(), 0

        async def passed_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                kept = [each for each in message.get("headers", ()) if each[0] != HEADER]
                message = {**message, "headers": [*kept, (HEADER, ident)]}
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, passed_on)
        except Exception as error:  # noqa: BLE001 - a border: no traceback reaches a caller or a log
            what = f"unexpected {type(error).__name__}"
            _log.error("%s in request %s", what, scope[KEY], exc_info=_log.isEnabledFor(logging.DEBUG))
            if not status:
                said = "something unexpected went wrong; the server's log has a line under this request's X-Request-ID"
                await _refuse(passed_on, 500, "AssistantError", said)
        except asyncio.CancelledError:  # by the server, which ends
            if not status:
                await _refuse(passed_on, 503, "Stopping", "the server was stopped before the answer came; ask again")
            raise
        finally:
            self._metrics.in_flight.dec()
            self._metrics.count(scope["method"], status or HUNG_UP)
            _tell(scope, status or HUNG_UP, time.monotonic() - begun)


def _tell(scope: Scope, status: int, seconds: float) -> None:
    path = quote(scope["path"][:PATH_CHARS], safe="/:@+,;=~!$&'()*")
    fields = {
        "id": scope[KEY], "method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 4),
    }  # fmt: skip
    _log.info("%s %s %s %.3f s %s", scope["method"], path, status, seconds, scope[KEY], extra={"request": fields})


async def _refuse(send: Send, status: int, kind: str, said: str) -> None:
    body = json.dumps({"error": {"type": kind, "message": said}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# --- The log ----------------------------------------------------------------------------------------------------------


class Lines(logging.Formatter):
    """Each record as one JSON object on a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name}
        fields = getattr(record, "request", None)
        said = {"message": "request", **fields} if fields else {"message": record.getMessage()}
        return json.dumps({**line, **said}, ensure_ascii=False)


def set_up_log(form: str | None) -> None:
    """Let a line be logged for each request, as text or as JSON; None: warnings alone, as text."""
    root = logging.getLogger()
    if not root.handlers:  # a worker, which no command line has set up
        root.addHandler(logging.StreamHandler(sys.stderr))
        root.handlers[0].setFormatter(logging.Formatter("assistant: %(message)s"))
    if form:
        _log.setLevel(logging.INFO)
    if form == "json":
        for handler in root.handlers:
            handler.setFormatter(Lines())
