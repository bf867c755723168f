"""All doors behind one guard, on one port, until Ctrl-C or SIGTERM: the page, the API and OpenAI's form.

Refused: to listen on anything but loopback, since nobody is asked for a password.

Stopping is graceful: no new question is let in, answers under way have `STOP_S` to end, then the rest is cut off.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant import api
from assistant.answer import Assistant
from assistant.api import Service
from assistant.errors import AssistantError, ConfigError
from assistant.line import Line
from assistant.metrics import Metrics
from assistant.spans import open_spans
from assistant.types import Answer
from assistant.ui.guard import Guard
from assistant.watch import Watch, set_up_log

if TYPE_CHECKING:
    from assistant.ui import Desk

STOP_S = 10.0
"""So long answers that are under way may take to end once the server is told to stop."""
PAINT_S = 3.0
"""So long a page that is opened at once may take to be shown before the library is warmed up: both want the processor
(first paint 0.5 s instead of 1.3)."""
_log = logging.getLogger(__name__)


def serve(assistant: Assistant, *, host: str, port: int, workers: int = 1, log_format: str | None = None) -> None:
    """Serve page and API on this machine until Ctrl-C or SIGTERM.

    Args:
        assistant: Answers.
        host: A name or address of this machine's loopback.
        port: To listen on.
        workers: Processes; more than one serve the API without the page, whose state lives in one process.
        log_format: "text" or "json": log a line for each request.

    Raises:
        ConfigError: A host that other machines could reach: nobody is asked for a password.
        AssistantError: The port is taken, or the library that was named cannot be read.
    """
    if host not in {"127.0.0.1", "localhost", "::1"}:
        raise ConfigError(
            f"cannot serve the chat page: host is {host!r}, which other machines could reach without a login; keep "
            "127.0.0.1 and put a reverse proxy with a login in front, which sends Host and Origin as 127.0.0.1"
        )
    set_up_log(log_format)
    if assistant.config.library is not None:  # one that cannot be read is told now, not at the first question
        _log.info("serving %s", assistant.library)
    address, family = ("::1", socket.AF_INET6) if host == "::1" else ("127.0.0.1", socket.AF_INET)
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        why = f"port {port} of {address} cannot be used ({os.strerror(error.errno or 0)})"
        raise AssistantError(f"cannot serve the chat page: {why}; choose another with --port") from error
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
    with listener, suppress(KeyboardInterrupt):
        if workers > 1:
            from assistant.workers import supervise

            assistant.close()  # each worker opens the library for itself
            say = f"assistant: the API is open at {url}, {workers} workers, no chat page (Ctrl-C stops it)"
            supervise(workers, run, listener, assistant.config, log_format=log_format, say=say)
            return
        from assistant.ui import Desk

        desk = Desk(assistant)
        try:
            say = f"assistant: the chat page is open at {url} (Ctrl-C stops it)"
            run(assistant, listener, lambda: print(say, file=sys.stderr), desk)  # noqa: T201
        finally:
            desk.close()


def run(assistant: Assistant, listener: socket.socket, started: Callable[[], None], desk: Desk | None = None) -> None:
    """Serve in this process until it is told to stop.

    Args:
        assistant: Answers.
        listener: Where requests come in.
        started: Called once they are.
        desk: Of the page; None: no page.
    """
    metrics, spans = Metrics(), open_spans()

    def tell(door: str, outcome: str, answer: Answer | None) -> None:
        metrics.tell(door, outcome, answer)
        if spans:
            spans.tell(door, outcome, answer)

    service = Service(assistant, metrics, Line(tell=tell))
    readiness = _Readiness(service, desk)
    threading.Thread(target=readiness.prepare, name="prepare", daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)  # what uvicorn raises anew at its end
    _Server(build_app(service, desk, readiness.state), service, started).run(sockets=[listener])


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def build_app(
    service: Service,
    desk: Desk | None = None,
    state: Callable[[], Literal["ready", "starting", "stopping"]] = lambda: "ready",
    more: Mapping[str, ASGIApp] | None = None,
) -> ASGIApp:
    """Return all doors behind their guard.

    Args:
        service: Who answers.
        desk: Of the page; None: no page.
        state: How the server is.
        more: Further doors, by the first part of their paths.
    """
    programs = api.build_api(service, state)
    page: ASGIApp = programs
    if desk is not None:
        from assistant.ui import build_app as build_page

        desk.answered = functools.partial(service.line.tell, "page")
        page = build_page(desk)
    return Watch(Guard(_Doors({**dict.fromkeys(api.PREFIXES, programs), **(more or {})}, page)), service.metrics)


class _Doors:
    """Sends each request to the door that the first part of its path names, all others to the page."""

    def __init__(self, doors: Mapping[str, ASGIApp], page: ASGIApp) -> None:
        self._doors, self._page = doors, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        first = scope["path"].split("/")[1:2] if scope["type"] == "http" else []
        await self._doors.get("".join(first), self._page)(scope, receive, send)


class _Readiness:
    """Whether questions are answered at once."""

    def __init__(self, service: Service, desk: Desk | None) -> None:
        self._service, self._desk = service, desk
        self._is_ready = False

    def state(self) -> Literal["ready", "starting", "stopping"]:
        """Return how the server is; who asks this is no page that wants to be painted first."""
        if self._desk:
            self._desk.seen.set()
        return "stopping" if self._service.line.closed else "ready" if self._is_ready else "starting"

    def prepare(self) -> None:
        """Open all that a first question needs; then encode the library anew if the settings name another encoder."""
        assistant = self._service.assistant
        try:
            if self._desk:
                self._desk.seen.wait(PAINT_S)
            assistant.warm_up()
            self._is_ready = True
            if self._desk:
                self._desk.first_questions()
                assistant.reencode()
        except Exception as error:  # noqa: BLE001 - a border: the first question will say it too
            _log.warning("the library could not be made ready ahead of the first question: %s", error)


class _Server(uvicorn.Server):
    """Lets answers that are under way end before it stops."""

    def __init__(self, app: ASGIApp, service: Service, started: Callable[[], None]) -> None:
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        # An open page holds a connection that never ends by itself.
        super().__init__(uvicorn.Config(app, ws="none", proxy_headers=False, timeout_graceful_shutdown=1, **quiet))
        self._service, self._tell_started = service, started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # each page still open would be told as a fault
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started()

    async def main_loop(self) -> None:
        await super().main_loop()
        lines, is_hurried = (
            (self._service.line, self._service.quick),
            lambda: self._captured_signals.count(signal.SIGINT) > 1,
        )
        for line in lines:
            line.close()
        for line in lines:
            if not await line.drain(STOP_S, hurry=is_hurried):
                _log.warning("%d answers were cut off, for they did not end within %g s", line.answering, STOP_S)
