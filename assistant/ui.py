"""The chat page: questions in, cited answers out, in a browser on this machine; holds no logic of its own.

Text of users, models and papers reaches the page escaped: it is shown, never run, and no address in it is fetched or
linked. Links lead to the cards of an answer's own papers, and from a card to the paper. Refused: any address but
loopback to listen on, any other Host or Origin in a request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from assistant.errors import AssistantError, ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from assistant.answer import Assistant
    from assistant.types import Answer, Paper
    from assistant.types import Turn as Said

NAME = "Paper Assistant"
QUESTION_CHARS = 8_000
"""Longest question; the box takes no more."""
WAITING, AT_ONCE = 20, 8
"""Questions that may wait, and that are answered at the same time."""
AROUND_CHARS, CARD_CHARS = 1_500, 12_000
"""Of a very long abstract, what a card shows around its quotes, and at most."""
EXAMPLES = (
    "How much faster is linear attention at autoregressive prediction of very long sequences?",
    "What is large kernel attention, and which problems of self-attention does it avoid?",
    "How can vision transformers be trained on small datasets?",
    "How does AutoInt learn high-order feature interactions for click prediction?",
)
"""Questions that the built-in sample answers."""

_log = logging.getLogger(__name__)

# --- Serving ------------------------------------------------------------------------------------------------------------


def serve(assistant: Assistant, *, host: str, port: int) -> None:
    """Show the chat page on this machine until Ctrl-C.

    Raises:
        ConfigError: A host that other machines could reach: the page asks nobody for a password.
        AssistantError: The port is taken.
        StoreError: The library that was named cannot be read.
    """
    if host not in {"127.0.0.1", "localhost", "::1"}:
        raise ConfigError(
            f"cannot serve the chat page: host is {host!r}, which other machines could reach without a login; keep "
            "127.0.0.1 and put a reverse proxy with a login in front, which sends Host and Origin as 127.0.0.1"
        )
    if assistant.config.library is not None:
        _log.info("serving %s", assistant.library)  # opens it: what cannot be read is told now, not at the first question
    address = "127.0.0.1" if host == "localhost" else host
    with _listen(address, port) as listener:
        app = build_app(assistant)
        threading.Thread(target=_warm_up, args=(assistant,), name="warm-up", daemon=True).start()
        with suppress(KeyboardInterrupt):
            _run(app, listener, f"http://{f'[{address}]' if ':' in address else address}:{port}")


def _listen(address: str, port: int) -> socket.socket:
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        raise AssistantError(
            f"cannot open the chat page on {address}, port {port}: {error.strerror}; choose another with --port"
        ) from error


def _warm_up(assistant: Assistant) -> None:
    try:
        assistant.warm_up()
    except Exception as error:  # noqa: BLE001 - a border: the first question tells what is wrong
        _log.warning("the library could not be opened ahead of the first question: %s", error)


def _run(app: FastAPI, listener: socket.socket, url: str) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"assistant: the chat page is open at {url} (Ctrl-C stops it)", file=sys.stderr, flush=True)  # noqa: T201

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False, ws="none",
        timeout_graceful_shutdown=1,  # an open page holds a connection that would never end
    )  # fmt: skip
    Server(config).run(sockets=[listener])


def build_app(assistant: Assistant) -> FastAPI:
    """Return the page and its guard as one application."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    import gradio as gr
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)
    app.add_middleware(_Guard)
    fonts = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    return gr.mount_gradio_app(  # type: ignore[no-any-return]
        app, _build_page(assistant), path="/", footer_links=[], run_history=False, show_error=False, max_file_size="1kb",
        theme=gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=fonts[0], font_mono=fonts[1]),
        css_paths=[Path(__file__).with_name("ui.css")],
    )  # fmt: skip


# --- The guard ----------------------------------------------------------------------------------------------------------

_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'self'; object-src 'none'"
)
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))


class _Guard:
    """Lets in requests that name this machine alone (no DNS rebinding, no foreign page), and sets the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = _refuse(scope)
        if refusal:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, send)
            return
        # A compressed page could not be read for its scripts.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await self._app(scope, receive, _Response(send))


def _refuse(scope: Scope) -> tuple[int, str] | None:
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return 400, "This page answers to the names localhost and 127.0.0.1 alone.\n"
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    foreign = any(not _HOST.fullmatch(re.sub(r"^https?://", "", origin)) for origin in origins)
    if foreign and scope["method"] not in {"GET", "HEAD"}:
        return 403, "Another site's page may not send requests here.\n"
    return None


class _Response:
    """Passes a response on with its headers; a page is held back until its own scripts are known and allowed by hash."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._page: bytearray | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            if any(name == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"]):
                self._page = bytearray()
            else:
                await self._open(())
        elif self._page is None:
            await self._send(message)
        else:
            self._page += message.get("body", b"")
            if not message.get("more_body"):
                await self._open(_INLINE_SCRIPT.findall(bytes(self._page)))
                await self._send({"type": "http.response.body", "body": bytes(self._page)})

    async def _open(self, scripts: Iterable[bytes]) -> None:
        hashes = "".join(f" 'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in scripts)
        policy = (b"content-security-policy", _POLICY.format(scripts=hashes).encode())
        await self._send({**self._start, "headers": [*self._start["headers"], *_HEADERS, policy]})


# --- The page -----------------------------------------------------------------------------------------------------------

State = Literal["searching", "writing", "done", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a conversation and what is known of its answer."""

    number: int
    """From 1; part of the ids of its cards."""
    question: str
    state: State = "searching"
    text: str = ""
    answer: Answer | None = None
    fault: str = ""
    """Why there is no answer, in one sentence."""


def _build_page(assistant: Assistant) -> Any:
    import gradio as gr

    maths = [{"left": r"\(", "right": r"\)", "display": False}, {"left": r"\[", "right": r"\]", "display": True}]
    with gr.Blocks(title=NAME, analytics_enabled=False, fill_width=True) as page:
        turns = gr.State([])
        with gr.Row(elem_id="top"):
            header = gr.Markdown(_header(""), elem_id="header", container=False)
            new = gr.Button("New conversation", size="sm", scale=0, min_width=150)
        with gr.Row(elem_id="main"):
            with gr.Column(scale=5, min_width=340, elem_id="left"):
                chat = gr.Chatbot(
                    layout="panel", show_label=False, elem_id="chat", buttons=[], latex_delimiters=maths, height=None,
                    sanitize_html=True, placeholder="### Ask about the papers of this library\nEach claim of an answer names its source.",
                )  # fmt: skip
                with gr.Row(elem_id="ask"):
                    box = gr.Textbox(
                        placeholder="Ask a question about the papers…", label="Question", show_label=False, container=False, scale=1,
                        lines=1, max_lines=6, max_length=QUESTION_CHARS, autofocus=True, elem_id="question", min_width=160,
                    )  # fmt: skip
                    send = gr.Button("Send", variant="primary", scale=0, min_width=90, elem_id="send")
                    stop = gr.Button("Stop", variant="stop", scale=0, min_width=90, elem_id="stop", visible=False)
            with gr.Column(scale=3, min_width=300, elem_id="right"):
                sources = gr.Markdown(_sources([]), elem_id="sources", latex_delimiters=maths, container=False)

        def show(now: Sequence[Turn], asked: str | None = None) -> dict[Any, Any]:
            busy = bool(now) and now[-1].state in {"searching", "writing"}
            shown = {turns: now, chat: _messages(now), send: gr.update(visible=not busy), stop: gr.update(visible=busy)}
            return shown | {sources: _sources(now)} | ({} if asked is None else {box: asked})

        def ask(before: list[Turn], question: str) -> Iterator[dict[Any, Any]]:
            asked = ""
            for now in _converse(assistant, before, question):
                yield show(now, asked)
                asked = None  # type: ignore[assignment]

        def choose(before: list[Turn], example: gr.SelectData) -> Iterator[dict[Any, Any]]:
            yield from ask(before, example.value["text"])

        def halt(now: list[Turn]) -> dict[Any, Any]:
            return show([*now[:-1], replace(now[-1], state="stopped")] if now and not now[-1].answer else now)

        def welcome() -> dict[Any, Any]:
            line, examples = _describe(assistant)
            return {header: _header(line), chat: gr.update(examples=[{"text": each} for each in examples])}

        outputs = [turns, chat, sources, box, send, stop]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        runs = [
            gr.on([box.submit, send.click], ask, [turns, box], outputs, concurrency_id="ask", concurrency_limit=AT_ONCE, **private),
            chat.example_select(choose, [turns], outputs, concurrency_id="ask", concurrency_limit=AT_ONCE, **private),
        ]
        stop.click(halt, [turns], outputs, cancels=runs, queue=False, **private)
        new.click(lambda: show([], ""), None, outputs, cancels=runs, queue=False, **private)
        page.load(welcome, None, [header, chat], **private)
    return page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)


def _describe(assistant: Assistant) -> tuple[str, Sequence[str]]:
    """Return a line on what answers here, and example questions."""
    try:
        count, library = assistant.status()["papers"], assistant.library
        examples = EXAMPLES if library == "sample" else _examples(assistant.papers()) if count else ()
    except AssistantError as error:
        return str(error), ()
    model = assistant.config.llm_model
    where = "built-in sample library" if library == "sample" else library
    who = f"answers by {model}" if model else "extractive answers (no LLM configured)"
    return f"{count:,} {'paper' if count == 1 else 'papers'} · {where} · {who}", examples


def _examples(papers: Sequence[Paper]) -> list[str]:
    titles = [paper.title for paper in papers if 12 <= len(paper.title) <= 110]
    return [f"What does “{title}” find?" for title in titles[:: max(1, len(titles) // 4)][:4]]


def _converse(assistant: Assistant, before: Sequence[Turn], question: str) -> Iterator[list[Turn]]:
    """Yield the conversation again and again while its new question is answered; nothing is raised."""
    if not question.strip():
        yield list(before)
        return
    turn = Turn(len(before) + 1, question.strip())
    yield [*before, turn]
    try:
        with closing(assistant.stream(turn.question, history=_history(before))) as stream:
            for piece in stream:
                turn = replace(turn, state="writing", text=turn.text + piece)
                yield [*before, turn]
            turn = replace(turn, state="done", answer=stream.answer)
    except AssistantError as error:
        turn = replace(turn, state="failed", fault=str(error))
    except Exception as error:
        _log.exception("a question could not be answered")
        turn = replace(turn, state="failed", fault=f"unexpected {type(error).__name__}; the terminal tells more")
    yield [*before, turn]


def _history(turns: Sequence[Turn]) -> list[Said]:
    said = [(turn.question, turn.text) for turn in turns if turn.text]
    return [{"role": role, "content": text} for pair in said for role, text in zip(("user", "assistant"), pair, strict=True)]


# --- What is shown: everything below is text in, escaped markdown or HTML out ---------------------------------------------
