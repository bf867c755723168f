"""All doors behind one guard, on one port, until Ctrl-C or SIGTERM: the page, the API, OpenAI's form and MCP.

Refused: to be within the reach of others while nobody could log in; see `ui.rules`.

Stopping is graceful: no new question is let in, answers under way have `STOP_S` to end, then the rest is cut off.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant import api
from assistant.answer import Assistant
from assistant.api import Service
from assistant.errors import AssistantError
from assistant.line import Line
from assistant.metrics import Metrics
from assistant.spans import open_spans
from assistant.types import Answer
from assistant.ui.guard import Guard
from assistant.ui.rules import Rules, make_rules
from assistant.watch import Watch, set_up_log

if TYPE_CHECKING:
    from assistant.ui import Desk

STOP_S = 10.0
"""So long answers that are under way may take to end once the server is told to stop."""
PAINT_S = 3.0
"""So long a page that is opened at once may take to be shown before the library is warmed up: both want the processor
(first paint 0.5 s instead of 1.3)."""
_log = logging.getLogger(__name__)


def serve(  # noqa: PLR0913 - settings by name
    assistant: Assistant,
    *,
    host: str,
    port: int,
    workers: int = 1,
    log_format: str | None = None,
    without_login: bool = False,
    behind_proxy: str | None = None,
) -> None:
    """Serve the page and the doors for programs until Ctrl-C or SIGTERM.

    Args:
        assistant: Answers.
        host: What to listen on; one that others can reach needs a user or a token, see `ui.rules`.
        port: Likewise.
        workers: Processes; more than one serve the doors for programs without the page, whose state is of one process.
        log_format: "text" or "json": log a line for each request.
        without_login: Others may reach it while no user and no token is set up.
        behind_proxy: Address of a proxy, which is believed what it says of whom it passes on.

    Raises:
        ConfigError: Others could reach it and nobody asked who they are.
        AssistantError: The port is taken, or the library that was named cannot be read.
    """
    names = assistant.config.host_names
    rules = make_rules(host, names, without_login=without_login, behind_proxy=behind_proxy)
    set_up_log(log_format)
    if assistant.config.library is not None:  # one that cannot be read is told now, not at the first question
        _log.info("serving %s", assistant.library)
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        why = f"port {port} of {address} cannot be used ({why})"
        raise AssistantError(f"cannot serve the chat page: {why}; choose another with --port") from error
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
    with listener, suppress(KeyboardInterrupt):
        if workers > 1:
            from assistant.workers import supervise

            assistant.close()  # each worker opens the library for itself
            say = f"assistant: the API is open at {url}, {workers} workers, no chat page (Ctrl-C stops it)"
            work = functools.partial(run, rules=rules, proxy=behind_proxy)
            supervise(workers, work, listener, assistant.config, log_format=log_format, say=say)
            return
        from assistant.ui import Desk

        desk = Desk(assistant)
        try:
            say = f"assistant: the chat page is open at {url} (Ctrl-C stops it)"
            started = functools.partial(print, say, file=sys.stderr)
            run(assistant, listener, started, desk, rules=rules, proxy=behind_proxy)
        finally:
            desk.close()


def run(  # noqa: PLR0913 - settings by name
    assistant: Assistant,
    listener: socket.socket,
    started: Callable[[], None],
    desk: Desk | None = None,
    *,
    rules: Rules,
    proxy: str | None = None,
) -> None:
    """Serve in this process until it is told to stop.

    Args:
        assistant: Answers.
        listener: Where requests come in.
        started: Called once they are.
        desk: Of the page; None: no page.
        rules: Of the guard.
        proxy: Address of the proxy that is believed what it says.
    """
    from assistant.mcp import build as build_tools  # takes a while, and most commands serve nothing

    metrics, spans = Metrics(), open_spans()

    def tell(door: str, outcome: str, answer: Answer | None) -> None:
        metrics.tell(door, outcome, answer)
        if spans:
            spans.tell(door, outcome, answer)

    service = Service(assistant, metrics, Line(rate=assistant.config.rate, tell=tell))
    readiness = _Readiness(service, desk)
    threading.Thread(target=readiness.prepare, name="prepare", daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)  # what uvicorn raises anew at its end
    tools, open_tools = build_tools(assistant, line=service.line, quick=service.quick, stateless=desk is None)
    app = build_app(service, desk, readiness.state, {"mcp": tools}, rules=rules)
    answerers: list[Line | Desk] = [service.line, service.quick, *([desk] if desk else [])]
    _Server(app, answerers, started, open_tools, proxy).run(sockets=[listener])


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def build_app(
    service: Service,
    desk: Desk | None = None,
    state: Callable[[], Literal["ready", "starting", "stopping"]] = lambda: "ready",
    more: Mapping[str, ASGIApp] | None = None,
    *,
    rules: Rules | None = None,
) -> ASGIApp:
    """Return all doors behind their guard.

    Args:
        service: Who answers.
        desk: Of the page; None: no page.
        state: How the server is.
        more: Further doors, by the first part of their paths.
        rules: Of the guard; None: as on loopback.
    """
    rules = rules or Rules()
    programs = api.build_api(service, state)
    page: ASGIApp = programs
    if desk is not None:
        from assistant.ui import build_app as build_page

        desk.answered = functools.partial(service.line.tell, "page")
        page = build_page(desk, rules.accounts)
    doors = _Doors({**dict.fromkeys(api.PREFIXES, programs), **(more or {})}, page)
    return Watch(Guard(doors, rules, with_page=desk is not None), service.metrics)


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

    def __init__(
        self,
        app: ASGIApp,
        answerers: Sequence[Line | Desk],
        started: Callable[[], None],
        tools: Callable[[], AbstractAsyncContextManager[None]],
        proxy: str | None,
    ) -> None:
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        believed: dict[str, Any] = {"proxy_headers": proxy is not None, "forwarded_allow_ips": proxy or ""}
        # An open page holds a connection that never ends by itself.
        super().__init__(uvicorn.Config(app, ws="none", timeout_graceful_shutdown=1, **quiet, **believed))
        self._answerers, self._tell_started, self._tools = answerers, started, tools
        self._open = AsyncExitStack()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # each page still open would be told as a fault
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._open.enter_async_context(self._tools())
        await super().startup(sockets)
        if self.started:
            self._tell_started()

    async def main_loop(self) -> None:
        await super().main_loop()

        def is_hurried() -> bool:
            return self._captured_signals.count(signal.SIGINT) > 1

        for each in self._answerers:
            each.shut()
        await asyncio.gather(*(each.drain(STOP_S, hurry=is_hurried) for each in self._answerers))
        if left := sum(each.answering for each in self._answerers):
            _log.warning("%d answers were cut off, for they did not end within %g s", left, STOP_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._open.aclose()
