"""The tools of the Model Context Protocol: an `Assistant` in, a server for its clients out, over HTTP or stdio.

In: calls of the tools of `assistant.tools`, and requests for papers as resources, `paper://ID` with the id
percent-encoded. Out: structured results with a readable text beside them, and progress for those who want it. What
fails is told in words, as the result of the tool; whoever cancels a question or hangs up stops the endpoint's call.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast
from urllib.parse import quote, unquote

import anyio
import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from assistant import readable
from assistant.access import require, who_of
from assistant.answer import Assistant
from assistant.clean import clean
from assistant.errors import AssistantError, ConfigError
from assistant.line import Line, quick_line
from assistant.tools import INSTRUCTIONS, TOOLS, Tool, read_arguments
from assistant.types import Answer, Paper, Stage

Tell = Callable[[str], None]
"""Tells a client how far its call has come; from any thread, without waiting."""

SCHEME = "paper://"
LISTED = 100
"""Most papers that are listed as resources, the newest ones: a client may put them all before its user."""
SESSIONS, IDLE_S = 1_000, 600.0
"""Most clients at once of those that keep a session, and how long one is kept that asks nothing."""
MESSAGE_CHARS = 300
"""Longest message beside the progress of a call."""
_CALLS = "assistant.mcp.calls"
_STAGES: dict[Stage, str] = {
    "searching": "Looking for papers",
    "reading": "Reading the abstracts",
    "writing": "Writing the answer",
}
_log = logging.getLogger(__name__)
_Context = Any  # mcp's ServerRequestContext, which takes type arguments that say nothing here


def build(
    assistant: Assistant, *, line: Line | None = None, quick: Line | None = None, stateless: bool = False
) -> tuple[Door, Callable[[], AbstractAsyncContextManager[None]]]:
    """Return the ASGI application of the HTTP transport, and what has to be open while it runs.

    Args:
        assistant: Who answers.
        line: Where each question waits for its turn; None: in one of its own.
        quick: The same for each search and paper.
        stateless: Keep no session, as where several processes serve one address. Then those clients of the protocols
            before 2026 that cancel a call without hanging up are not heard.
    """
    manager = StreamableHTTPSessionManager(
        _server(assistant, line, quick), stateless=stateless, max_sessions=SESSIONS, session_idle_timeout=IDLE_S
    )
    return Door(manager), manager.run


class Door:
    """The ASGI application: a route's endpoint, for all methods of one path. Who may come in was asked before it."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; when its caller has gone, end what it called."""
        if scope["method"] not in {"POST", "DELETE"}:
            # A stream of what a server says unasked is a client's to ask for by GET; this one says nothing unasked.
            await PlainTextResponse("Send calls by POST.\n", 405, {"Allow": "POST, DELETE"})(scope, receive, send)
            return
        name = who_of(scope).name or ""
        user = AuthenticatedUser(AccessToken(token="", client_id=name, scopes=[]))  # whose alone a session is
        calls: set[anyio.CancelScope] = set()
        try:
            await self._manager.handle_request({**scope, "user": user, _CALLS: calls}, receive, send)
        finally:
            for call in calls:
                call.cancel()


def run_stdio(assistant: Assistant) -> None:
    """Serve one client over stdin and stdout, until stdin ends or Ctrl-C."""

    async def run() -> None:
        server = _server(assistant)
        lines = cast("anyio.AsyncFile[str]", _Lines(asyncio.get_running_loop()))
        async with stdio_server(stdin=lines) as (read, write):
            await server.run(read, write, server.create_initialization_options())

    with suppress(KeyboardInterrupt):
        asyncio.run(run())


class _Lines:
    """The lines of stdin, read in a thread that nobody waits for: one that waits for a line could not be stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        threading.Thread(target=self._read, args=(sys.stdin.fileno(),), name="stdin", daemon=True).start()

    def _read(self, fd: int) -> None:
        rest = b""
        with suppress(RuntimeError, OSError):  # the loop has ended, or stdin cannot be read
            while data := os.read(fd, 65_536):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    self._put(line.decode("utf-8", "replace"))
        with suppress(RuntimeError):
            self._put(None)

    def _put(self, line: str | None) -> None:
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (line := await self._lines.get()) is not None:
            yield line


# --- What a client may ask --------------------------------------------------------------------------------------------


def _server(assistant: Assistant, line: Line | None = None, quick: Line | None = None) -> Server[Any]:
    desk = _Desk(assistant, line or Line(), quick or quick_line())
    return Server(
        "paper-assistant",
        version=_version(),
        title="Paper Assistant",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=lambda name: TOOLS[name].takes if name in TOOLS else None,
        on_list_tools=desk.list_tools,
        on_call_tool=desk.call_tool,
        on_list_resources=desk.list_resources,
        on_list_resource_templates=desk.list_templates,
        on_read_resource=desk.read_resource,
    )


def _version() -> str:
    try:
        return version("paper-assistant")
    except PackageNotFoundError:  # run from a checkout
        return "0"


class _Desk:
    """Answers what clients ask; the blocking part of it in threads."""

    def __init__(self, assistant: Assistant, line: Line, quick: Line) -> None:
        self._assistant, self._line, self._quick = assistant, line, quick
        self._runs: dict[str, Callable[..., Awaitable[tuple[dict[str, Any], str]]]] = {
            "search_papers": self._search,
            "get_paper": self._get,
            "ask_papers": self._ask,
        }

    async def list_tools(self, _ctx: _Context, _params: object) -> types.ListToolsResult:
        """Return the tools."""
        return types.ListToolsResult(tools=[_described(tool) for tool in TOOLS.values()])

    async def call_tool(self, ctx: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Run a tool; what fails is its result."""
        if params.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"no tool {clean(params.name, 80)!r}; they are {', '.join(TOOLS)}")
        tool, scope = TOOLS[params.name], _scope(ctx)
        result = _failed("the caller has gone")
        async with anyio.create_task_group() as group:
            scope.get(_CALLS, set()).add(group.cancel_scope)
            told, news = anyio.create_memory_object_stream[str](math.inf)
            group.start_soon(_pass_on, news, ctx.session)
            with told:
                result = await self._run(tool, params.arguments or {}, scope, _teller(told))
        return result

    async def _run(
        self, tool: Tool, given: Mapping[str, Any], scope: MutableMapping[str, Any], tell: Tell
    ) -> types.CallToolResult:
        try:
            caller = require(scope, tool.scope).name
            found, text = await self._runs[tool.name](tell, caller, **read_arguments(tool, given))
        except AssistantError as error:
            return _failed(str(error))
        except Exception as error:  # noqa: BLE001 - a border: no traceback reaches a client
            _log.error("%s failed unexpectedly: %s", tool.name, type(error).__name__)
            return _failed(f"{tool.name} failed unexpectedly ({type(error).__name__}); ask in another way")
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=found)

    async def _search(self, tell: Tell, _caller: str | None, *, query: str, **how: Any) -> tuple[dict[str, Any], str]:
        tell(_STAGES["searching"])
        hits = await self._quick.run(self._assistant.search, query, **how)
        return hits.as_dict(), readable.hits_text(hits)

    async def _get(self, _tell: Tell, _caller: str | None, *, id: str) -> tuple[dict[str, Any], str]:  # noqa: A002 - its name
        paper = await self._paper(id)
        return paper.as_dict(full=True), readable.paper_text(paper)

    async def _ask(self, tell: Tell, caller: str | None, *, question: str, **how: Any) -> tuple[dict[str, Any], str]:
        tell(_STAGES["searching"])
        start = partial(self._assistant.stream, question, **how, watch=lambda stage: tell(_STAGES[stage]))
        answer: Answer | None = None
        async with aclosing(self._line.stream("mcp", start, caller)) as parts:
            async for part in parts:
                if isinstance(part, Answer):
                    answer = part
                else:
                    tell(" ".join(part.split()))
        assert answer, "a line ends with the answer"
        return answer.as_dict(), readable.answer_text(answer)

    async def _paper(self, name: str) -> Paper:
        wanted = clean(name, 2_000)
        paper = await self._quick.run(self._assistant.paper, wanted)
        if paper is None:
            raise ConfigError(f"no paper {clean(name, 200)!r} in the library; search_papers gives the ids")
        return paper

    async def list_resources(self, ctx: _Context, _params: object) -> types.ListResourcesResult:
        """Return some papers; the template leads to every one."""
        browse = partial(self._quick.run, self._assistant.browse, order="newest", limit=LISTED)
        papers, _ = await _answering(ctx, browse)
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=SCHEME + quote(each.id, safe=""), name=each.id, title=each.title or None, mime_type="text/plain"
                )
                for each in papers
            ]
        )

    async def list_templates(self, _ctx: _Context, _params: object) -> types.ListResourceTemplatesResult:
        """Return the form of the papers' addresses."""
        template = types.ResourceTemplate(
            uri_template=f"{SCHEME}{{id}}",
            name="paper",
            title="A paper of the library",
            description="Title, authors and abstract of a paper. The id is percent-encoded, as search_papers gives it.",
            mime_type="text/plain",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(self, ctx: _Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        """Return a paper as text."""
        uri = params.uri
        if not uri.startswith(SCHEME):
            raise MCPError(types.INVALID_PARAMS, f"no resource {clean(uri, 200)!r}; papers are {SCHEME}ID")
        paper = await _answering(ctx, lambda: self._paper(unquote(uri.removeprefix(SCHEME))))
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=uri, mime_type="text/plain", text=readable.paper_text(paper))]
        )


def _scope(ctx: _Context) -> MutableMapping[str, Any]:
    """Return the ASGI scope of a call; over stdio an empty one, which may do everything."""
    return ctx.request.scope if ctx.request is not None else {}


async def _answering(ctx: _Context, ask: Callable[[], Any]) -> Any:
    """Return what is asked for of the papers; what fails is an error of the protocol."""
    try:
        require(_scope(ctx), "search")
        return await ask()
    except AssistantError as error:
        raise MCPError(types.INVALID_PARAMS, str(error)) from error


def _described(tool: Tool) -> types.Tool:
    hints = types.ToolAnnotations(title=tool.title, read_only_hint=True, open_world_hint=False)
    return types.Tool(
        name=tool.name, title=tool.title, description=tool.description, annotations=hints,
        input_schema=tool.takes, output_schema=tool.gives,
    )  # fmt: skip


def _failed(why: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=why)], is_error=True)


def _teller(told: Any) -> Tell:
    """Return what puts messages into a stream, in order, from any thread; those that come too late are dropped."""
    loop = asyncio.get_running_loop()

    def put(message: str) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            told.send_nowait(message[:MESSAGE_CHARS])

    def tell(message: str) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(put, message)

    return tell


async def _pass_on(news: Any, session: Any) -> None:
    """Send messages to the client as progress of its call, if it asked for that."""
    with news:
        n = 0
        async for message in news:
            n += 1
            await session.report_progress(n, message=message)
