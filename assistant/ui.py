"""The chat page: questions in, cited answers out, in a browser on this machine; holds no logic of its own.

Text of users, models and papers reaches the page escaped: it is shown, never run, and no address in it is fetched or
linked. Links lead from a marker to the card of its paper, and from a card to the paper. Refused: to listen on anything
but loopback; a request that names another host or comes from another site's page.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from textwrap import shorten
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from assistant.clean import drop_unseen
from assistant.errors import AssistantError, ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from assistant.answer import Assistant
    from assistant.types import Answer, Paper

NAME = "Paper Assistant"
QUESTION_CHARS, WAITING, AT_ONCE = 8_000, 20, 8
"""Longest question that the box takes; questions that may wait for their turn; questions answered at the same time."""
EXAMPLES = (
    "How much faster is linear attention at autoregressive prediction of very long sequences?",
    "What is large kernel attention, and which problems of self-attention does it avoid?",
    "How can vision transformers be trained on small datasets?",
    "How does AutoInt learn high-order feature interactions for click prediction?",
)
"""Questions that the built-in sample answers."""
_log = logging.getLogger(__name__)


def serve(assistant: Assistant, *, host: str, port: int) -> None:
    """Show the chat page on this machine until Ctrl-C.

    Raises:
        ConfigError: A host that other machines could reach: the page asks nobody for a password.
        AssistantError: The port is taken, or the library that was named cannot be read.
    """
    if host not in {"127.0.0.1", "localhost", "::1"}:
        raise ConfigError(
            f"cannot serve the chat page: host is {host!r}, which other machines could reach without a login; keep "
            "127.0.0.1 and put a reverse proxy with a login in front, which sends Host and Origin as 127.0.0.1"
        )
    if assistant.config.library is not None:  # one that cannot be read is told now, not at the first question
        _log.info("serving %s", assistant.library)
    address, family = ("::1", socket.AF_INET6) if host == "::1" else ("127.0.0.1", socket.AF_INET)
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        why = f"port {port} of {address} cannot be used ({os.strerror(error.errno or 0)})"
        raise AssistantError(f"cannot serve the chat page: {why}; choose another with --port") from error
    with listener, suppress(KeyboardInterrupt):
        app = build_app(assistant)
        threading.Thread(target=_warm_up, args=(assistant,), name="warm-up", daemon=True).start()
        _run(app, listener, f"http://{f'[{address}]' if ':' in address else address}:{port}")


def _warm_up(assistant: Assistant) -> None:
    try:
        assistant.warm_up()
    except Exception as error:  # noqa: BLE001 - a border: the first question will say it too
        _log.warning("the library could not be opened ahead of the first question: %s", error)


def _run(app: FastAPI, listener: socket.socket, url: str) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # each page still open would be told as a fault
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"assistant: the chat page is open at {url} (Ctrl-C stops it)", file=sys.stderr)  # noqa: T201

    quiet = {"log_level": "warning", "access_log": False, "server_header": False, "proxy_headers": False}
    # An open page holds a connection that never ends by itself.
    Server(uvicorn.Config(app, ws="none", timeout_graceful_shutdown=1, **quiet)).run(sockets=[listener])  # type: ignore[arg-type]


def build_app(assistant: Assistant) -> FastAPI:
    """Return the page behind its guard, as one application."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1")
    import gradio as gr
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)
    app.add_middleware(_Guard)
    fonts: Any = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}  # none is fetched
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", **fonts)
    look = {"theme": theme, "css_paths": [Path(__file__).with_name("ui.css")], "footer_links": []}
    limits = {"run_history": False, "show_error": False, "max_file_size": "1kb"}
    return gr.mount_gradio_app(app, _build_page(assistant), path="/", **look, **limits)  # type: ignore[no-any-return]


# --- The guard --------------------------------------------------------------------------------------------------------

_OURSELVES = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self'{}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " font-src 'self' data:; connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'self'; object-src 'none'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class _Guard:
    """Lets in requests to this machine's own names, from its own pages; lets out responses with security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.responses import PlainTextResponse

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
            await self._app({**scope, "headers": plain}, receive, _Response(send))


class _Response:
    """Passes a response on with its headers; a page waits until its inline scripts are known, which alone may run."""

    def __init__(self, send: Send) -> None:
        self._send, self._page = send, b""
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
        await self._send({**self._start, "headers": headers})
        self._start = {}


# --- The page ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question of a conversation and what is known of its answer."""

    number: int
    """From 1; part of the ids of its cards."""
    question: str
    state: Literal["searching", "writing", "done", "failed", "stopped"] = "searching"
    text: str = ""
    answer: Answer | None = None
    fault: str = ""
    """Why there is no answer."""


def _build_page(assistant: Assistant) -> Any:
    import gradio as gr

    threads = ThreadPoolExecutor(WAITING + AT_ONCE, "question")  # room for the stopped ones that wait for an endpoint
    maths: Any = [{"left": r"\(", "right": r"\)", "display": False}, {"left": r"\[", "right": r"\]", "display": True}]
    with gr.Blocks(title=NAME, analytics_enabled=False, fill_width=True) as page:
        talk = gr.State([])
        with gr.Row(elem_id="top"):
            header = gr.Markdown(_header("Opening the library…"), elem_id="header")
            new = gr.Button("New conversation", size="sm", scale=0, min_width=150)
        with gr.Row(elem_id="main"):
            with gr.Column(scale=5, min_width=320, elem_id="left"):
                hint = "### Ask about the papers of this library\nEvery claim of an answer names its source."
                chat = gr.Chatbot(
                    layout="panel", show_label=False, elem_id="chat", buttons=[], height=None, placeholder=hint,
                    sanitize_html=True, latex_delimiters=maths,
                )  # fmt: skip
                with gr.Row(elem_id="ask"):
                    box = gr.Textbox(
                        placeholder="Ask a question about the papers…", label="Question", show_label=False, lines=1,
                        max_lines=6, max_length=QUESTION_CHARS, autofocus=True, container=False, scale=1, min_width=160,
                    )  # fmt: skip
                    send = gr.Button("Send", variant="primary", scale=0, min_width=88)
                    stop = gr.Button("Stop", scale=0, min_width=88, visible=False)
            with gr.Column(scale=3, min_width=300, elem_id="right"):
                sources = gr.Markdown(_sources([]), elem_id="sources", latex_delimiters=maths)

        def show(now: Sequence[Exchange]) -> dict[Any, Any]:
            busy = bool(now) and now[-1].state in {"searching", "writing"}
            buttons = {send: gr.update(visible=not busy), stop: gr.update(visible=busy)}
            return {talk: now, chat: _messages(now), sources: _sources(now), **buttons}

        async def ask(before: list[Exchange], question: str) -> AsyncIterator[dict[Any, Any]]:
            cleared = {box: ""}
            async for now in _converse(assistant, threads, before, question):
                yield show(now) | cleared
                cleared = {}

        async def choose(before: list[Exchange], example: Any) -> AsyncIterator[dict[Any, Any]]:
            async for shown in ask(before, example.value["text"]):
                yield shown

        def halt(now: list[Exchange]) -> dict[Any, Any]:
            return show([*now[:-1], replace(now[-1], state="stopped")] if now and not now[-1].answer else now)

        def welcome() -> dict[Any, Any]:
            line, examples = _describe(assistant)
            return {header: _header(line), chat: gr.update(examples=[{"text": each} for each in examples])}

        choose.__annotations__["example"] = gr.SelectData  # by this Gradio knows what to pass
        outputs = [talk, chat, sources, box, send, stop]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        shared = {**private, "concurrency_id": "ask", "concurrency_limit": AT_ONCE}
        asked = gr.on([box.submit, send.click], ask, [talk, box], outputs, **shared)
        chosen = chat.example_select(choose, [talk], outputs, **shared)
        stop.click(halt, [talk], outputs, cancels=[asked, chosen], queue=False, **private)
        new.click(lambda: show([]), None, outputs, cancels=[asked, chosen], queue=False, **private)
        page.load(welcome, None, [header, chat], **private)
    return page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)


def _describe(assistant: Assistant) -> tuple[str, Sequence[str]]:
    """Return a line on what answers here, and example questions."""
    try:
        count, library, model = assistant.status()["papers"], assistant.library, assistant.config.llm_model
        if library == "sample":
            library, examples = "built-in sample library", list(EXAMPLES)
        else:
            titles = [each.title for each in assistant.papers() if 12 <= len(each.title) <= 110]
            examples = [f"What does “{title}” find?" for title in titles[:: max(1, len(titles) // 4)][:4]]
    except AssistantError as error:
        return str(error), []
    who = f"answers by {model}" if model else "extractive answers (no LLM configured)"
    return f"{count:,} {'paper' if count == 1 else 'papers'} · {library} · {who}", examples


async def _converse(
    assistant: Assistant, threads: ThreadPoolExecutor, before: Sequence[Exchange], question: str
) -> AsyncIterator[list[Exchange]]:
    """Yield the conversation again and again while its new question is answered; faults become part of it."""
    if not question.strip():
        yield list(before)
        return
    said = [(("user", each.question), ("assistant", each.text)) for each in before if each.text]
    history = [{"role": role, "content": text} for pair in said for role, text in pair]
    last, stream = Exchange(len(before) + 1, question.strip()), None
    yield [*before, last]
    try:
        stream = assistant.stream(last.question, history=history)
        # In a thread that may be left behind: Stop has to act while an endpoint is silent.
        while (piece := await asyncio.get_running_loop().run_in_executor(threads, next, stream, None)) is not None:
            last = replace(last, state="writing", text=last.text + piece)
            yield [*before, last]
        last = replace(last, state="done", answer=stream.answer)
    except AssistantError as error:
        last = replace(last, state="failed", fault=str(error))
    except Exception as error:  # noqa: BLE001 - a border: the next question shall work
        _log.exception("a question could not be answered")
        last = replace(last, state="failed", fault=f"unexpected {type(error).__name__}; the terminal shows more")
    finally:
        with suppress(ValueError):  # still waiting in its thread
            if stream is not None:
                stream.close()
    yield [*before, last]


# --- Text in, escaped markdown or HTML out ----------------------------------------------------------------------------

_MATHS = r"(?P<maths>\$\$.{1,800}?\$\$|\$(?![\s$])[^$\n]{1,400}?(?<!\s)\$(?!\d)|\\\(.{1,400}?\\\)|\\\[.{1,800}?\\\])"
_CODE = (
    r"(?P<code>^(?P<lead>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"\n(?:(?:.*?\n)? *(?P=fence)[`~]* *$|.*\Z)|(?<![\\`])(?P<tick>`+)(?!`)[^\n]+?(?<!`)(?P=tick)(?!`))"
)
_KEPT, _KEPT_FORMATTED = re.compile(_MATHS, re.DOTALL), re.compile(f"{_MATHS}|{_CODE}", re.DOTALL | re.MULTILINE)
_ACTIVE = re.compile(
    r"[<>&@$]|\](?=[(\[:])|\[(?=[ x]\])|!(?=\[|\Z)|(?<=:)//|www(?=\.)|%(?=%%LATEX)|\\(?=[()\[\]<>&@$!])",
    re.IGNORECASE,
)
_FORMATTING = re.compile(r"[\\<>&\[\]!@$%*_`~#|]|(?<=:)//|www(?=\.)", re.IGNORECASE)
_ACTIVE_IN_CODE = re.compile(
    r"<(?=[a-z/!?])|(?<=[\w.+-])@(?=\w)|\](?=[(\[:])|\[(?=[ x]\])|!(?=\[)|(?<=:)//|www(?=\.)|%(?=%%LATEX)"
    r"|\\(?=[()\[\]])",
    re.IGNORECASE,
)
"""What is acted on in prose. It is broken up in code, too: where code begins, readers of markdown do not agree."""
_LANGUAGE = re.compile(r"(?!mermaid)[a-z][a-z0-9+#-]{0,15}", re.IGNORECASE)
_UNSAFE_MATHS = re.compile(
    r"\\(?:[()\[\]]|[a-zA-Z]*@|html|(?:[a-z]*(?:box|char|color|command|def|kern|lap|let|message|phantom|skip|space)"
    r"|above|cr|genfrac|href|includegraphics|mathchoice|newline|rule|show|smash|TextOrMath|tiny|url|vcenter"
    r"|(?:blue|gold|gray|green|kaBlue|kaGreen|maroon|mint|orange|pink|purple|red|teal)[A-I]?)(?![a-zA-Z]))"
)
"""Commands that reach beyond their formula or hide a part of it, and delimiters inside one."""
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%")
"""In maths, what would hide the rest of its line."""
_NESTED = re.compile(r"^(?:[ \t]*+(?:[-*+]|\d{1,9}[.)])[ \t]++){8}", re.MULTILINE)
"""Lists within lists on one line, so many that nobody means them: a thousand of them stop the browser."""
_LINK = '<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>'


def _around(text: str, kept: re.Pattern[str], escape: Callable[[str], str]) -> str:
    """Return `text` escaped but for its maths, which is set, and its code."""
    out, end = "", 0
    for found in kept.finditer(text):
        out += escape(text[end : found.start()])
        out += _maths(found["maths"], escape) if found["maths"] else _code(found)
        end = found.end()
    return out + escape(text[end:])


def _code(found: re.Match[str]) -> str:
    """Return code with nothing in it to act on; behind an opening fence no words but a language, for none are shown."""
    code, info = found[0], (found["info"] or "").strip()
    if info and not _LANGUAGE.fullmatch(info):
        indent = " " * len(found["lead"])
        code = f"{found['lead']}{found['fence']}\n{indent}{info}{found[0][found.end('info') - found.start() :]}"
    return _ACTIVE_IN_CODE.sub("\\g<0>\u200b", code)


def _maths(text: str, escape: Callable[[str], str]) -> str:
    r"""Return maths between `\(` and `\)` or `\[` and `\]`, the only forms that are set: a lone dollar is a dollar."""
    display = text.startswith(("$$", "\\["))
    body = text[2:-2] if display or text.startswith("\\") else text[1:-1]
    if _UNSAFE_MATHS.search(body):
        return escape(text)
    body = html.escape(_COMMENT.sub(r"\1\\%", body))
    return f"\\[{body}\\]" if display else f"\\({body}\\)"


def _entities(match: re.Match[str]) -> str:
    # Maths is looked for once more in the finished page: a backslash must not stand right before a bracket.
    return "".join(f"&#{ord(each)};" for each in match[0]).replace("&#92;", "&#92;&#8203;")


def _markdown(text: str, *, formatted: bool = False) -> str:
    """Return markdown that shows `text` word for word; `formatted`: with its own lists, tables, emphasis and code."""
    text = drop_unseen(text)
    if formatted:
        text = _NESTED.sub("\\g<0>\u200b", text)
        return _around(text, _KEPT_FORMATTED, lambda prose: _ACTIVE.sub(_entities, prose))
    text = re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE)  # four spaces would make it code
    return _around(text, _KEPT, lambda prose: _FORMATTING.sub(_entities, prose))


def _html(text: object) -> str:
    """Return HTML that shows `text`, in one line: an empty one would end the HTML inside markdown."""
    line = " ".join(drop_unseen(str(text)).split())
    return _around(line, _KEPT, lambda prose: re.sub(r"\\", _entities, html.escape(prose)))


def _messages(talk: Sequence[Exchange]) -> list[dict[str, str]]:
    """Return the conversation for the chat; the notes on an answer are a message that its text cannot reach."""
    said = (
        (("user", _markdown(each.question)), ("assistant", _text(each)), ("assistant", _notes(each))) for each in talk
    )
    return [{"role": role, "content": content} for parts in said for role, content in parts if content]


def _text(each: Exchange) -> str:
    """Return the answer's text, its markers leading to their cards."""
    answer, out, end = each.answer, "", 0
    formatted = answer is None or answer.answerer == "llm" or not answer.complete
    for marker in answer.citations if answer else ():
        out += _markdown(each.text[end : marker.text_start], formatted=formatted)
        out += f"[[{marker.number}]](#src-{each.number}-{marker.number})"
        end = marker.text_end
    return _widen_tables(out + _markdown(each.text[end:], formatted=formatted))


_RULE = re.compile(r" {0,3}\|?(?: *:?-+:? *\|)* *:?-+:? *\|? *")
"""The line below the head of a table."""


def _widen_tables(markdown: str) -> str:
    """Give each table as many columns as its longest row: a cell beyond those of its head would not be shown."""
    lines = markdown.split("\n")
    for i in range(1, len(lines)):
        head, rule = lines[i - 1 : i + 1]
        if "|" in head + rule and _RULE.fullmatch(rule):
            longest = max(map(_bars, takewhile(str.strip, lines[i + 1 :])), default=0)
            missing = longest - _bars(head)
            if missing > 0:
                lines[i - 1] = f"{head.rstrip().removesuffix('|')}|{' |' * missing}"
                lines[i] = f"{rule.rstrip().removesuffix('|')}|{'---|' * missing}"
    return "\n".join(lines)


def _bars(row: str) -> int:
    """Return how many bars part and frame the cells of a row."""
    row = row.strip()
    return len(re.findall(r"(?<!\\)\|", row)) + (not row.startswith("|")) + (not re.search(r"(?<!\\)\|$", row))


def _notes(each: Exchange) -> str:
    notes = [_markdown(" ".join(note.split())) for note in _remarks(each)]
    if each.answer and (each.answer.citations or each.answer.closest):
        label = "Closest papers" if each.answer.abstained else "Sources of this answer"
        notes.append(f"[{label}](#sources-{each.number})")
    return "\n>\n".join(f"> {note}" for note in notes)


def _remarks(each: Exchange) -> list[str]:
    answer = each.answer
    if answer is None:
        stopped = "Stopped before its end; sources come with a whole answer."
        words = {"searching": "Searching…", "writing": "Writing…", "stopped": stopped}
        return [words.get(each.state, f"This question could not be answered: {each.fault}")]
    notes = []
    if answer.fallback:
        what = "did not answer" if answer.complete else "did not finish"
        notes.append(f"The language model {what}: {answer.fallback.message.rstrip('.')}.")
        if answer.complete and not answer.abstained:
            notes.append("The sentences above are the abstracts' own, word for word.")
    elif answer.answerer == "extractive" and not answer.abstained:
        notes.append("Sentences of the abstracts, word for word: no language model is configured.")
    elif not answer.complete:
        notes.append("The model's answer was cut at its length limit.")
    if answer.checks.figures_unsupported:
        figures = ", ".join(dict.fromkeys(each.figure for each in answer.checks.figures_unsupported))
        notes.append(f"Figures not found in the cited abstracts: {figures}.")
    if answer.checks.names_unsupported:
        names = ", ".join(dict.fromkeys(each.name for each in answer.checks.names_unsupported))
        notes.append(f"Names not found in the cited abstracts: {names}.")
    if answer.checks.citations_unsupported:
        numbers = ", ".join(
            f"[{each}]" for each in dict.fromkeys(c.number for c in answer.checks.citations_unsupported)
        )
        notes.append(f"Citations whose abstract may not say so: {numbers}.")
    if answer.checks.markers_dropped:
        notes.append(f"Citations that named no source and were left out: {answer.checks.markers_dropped}.")
    return [*notes, *answer.warnings, *(["From the built-in sample library."] if answer.library == "sample" else [])]


def _header(line: str) -> str:
    return f"<div><h1>{NAME}</h1><p>{_html(line)}</p></div>"


def _sources(talk: Sequence[Exchange]) -> str:
    """Return the cards of every answer, those of the last one first and open."""
    hint = "" if talk else "<p>The papers behind an answer appear here, the quoted sentences marked.</p>"
    sections = "".join(_section(each, talk[-1]) for each in reversed(talk))
    return f'<div class="all"><h2>Sources</h2>{hint}{sections}</div>'


def _section(each: Exchange, last: Exchange) -> str:
    answer, n = each.answer, each.number
    if answer is None:
        words = {"searching": "Searching…", "writing": "They follow with the end of the answer."}
        body = f"<p>{words.get(each.state, 'None.')}</p>"
    elif answer.abstained:
        papers = enumerate(answer.closest, 1)
        body = "".join(_card(paper, f"src-{n}-closest-{place}", "") for place, paper in papers)
        body = f"<p>{'The closest papers that were found.' if body else 'None.'}</p>{body}"
    else:
        body = _evidence(answer, n)
    back = '<a class="back" href="#chat">Back to the conversation</a>'
    heading = f"<summary>{n}. {_html(shorten(each.question, 160, placeholder=' …'))}</summary>"
    return f'<details class="turn" id="sources-{n}"{" open" if each is last else ""}>{heading}{body}{back}</details>'


def _evidence(answer: Answer, n: int) -> str:
    cited: dict[int, set[tuple[int, int]]] = {}
    for marker in answer.citations:
        cited.setdefault(marker.number, set()).add((marker.start, marker.end))
    cards, others = "", ""
    for each in answer.evidence:
        if each.number in cited:
            cards += _card(each.paper, f"src-{n}-{each.number}", str(each.number), sorted(cited[each.number]))
        else:
            others += f"<li>{_title(each.paper)}</li>"
    return cards + (f"<details><summary>Found, not cited</summary><ul>{others}</ul></details>" if others else "")


def _card(paper: Paper, ident: str, number: str, quotes: Sequence[tuple[int, int]] = ()) -> str:
    out, end = "", 0
    for start, stop in quotes:
        if start >= end:
            out += f"{_html(paper.abstract[end:start])} <mark>{_html(paper.abstract[start:stop])}</mark> "
            end = stop
    authors = ", ".join(paper.authors[:3]) + (" et al." if len(paper.authors) > 3 else "")
    about = [_html(each) for each in (authors, paper.venue, paper.year) if each]
    about += [_LINK.format(html.escape(url), label) for label, url in _links(paper)]
    heading = f"<h3>{f'<span>{number}</span> ' if number else ''}{_title(paper)}</h3><p>{' · '.join(about)}</p>"
    return f'<article class="card" id="{ident}">{heading}<p>{out}{_html(paper.abstract[end:])}</p></article>'


def _title(paper: Paper) -> str:
    title, links = _html(paper.title or "(no title)"), _links(paper)
    return _LINK.format(html.escape(links[0][1]), title) if links else title


def _links(paper: Paper) -> list[tuple[str, str]]:
    """Return where a paper can be read, as labels and addresses; http and https alone."""
    known = [
        ("Page", paper.url, r"https?://[^\s\"'<>\\]+", "{}"),
        ("DOI", paper.doi, r"10\.\d{4,9}/[^\s\"'<>\\]+", "https://doi.org/{}"),
        ("arXiv", paper.arxiv_id, r"[\w.-]+(?:/\d+)?", "https://arxiv.org/abs/{}"),
    ]
    return [(name, form.format(value)) for name, value, valid, form in known if value and re.fullmatch(valid, value)]
