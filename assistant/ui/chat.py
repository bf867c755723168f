"""The tab of the conversation: questions in, answers out as they are written, the sources beside them.

What was asked and answered lives at the desk, not in the page: the page holds the conversation's id alone, so that a
reload, another tab or a restart of the server find it as it was. The chat is Gradio's; the cards beside it are pieces
of HTML that the page fetches when the line `#pulse` tells it that there are new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import gradio as gr
from fastapi import APIRouter, Form, Request
from gradio.events import Dependency
from starlette.responses import PlainTextResponse

from assistant import bibliography, shown
from assistant.conversations import Exchange, Feedback
from assistant.errors import AssistantError, ConfigError
from assistant.ui import cards
from assistant.ui.desk import Desk, Run, follow_ups, owner, who
from assistant.ui.messages import messages

QUESTION_CHARS = 8_000
"""Longest question that the box takes."""
WORD_CHARS = 500
"""Longest remark on an answer."""
_MATHS: Any = [
    {"left": r"\(", "right": r"\)", "display": False},
    {"left": r"\[", "right": r"\]", "display": True},
]
_HINT = "## Ask about the papers of this library\nEvery claim of an answer names its source."
_EMPTY = "## This library is empty\nAdd papers in the tab Library: drop a file there, or paste records."
_TOOLS = (
    '<button type="button" id="new">New conversation</button>'
    '<button type="button" id="theme" aria-label="Light or dark">◐</button>'
    '<a href="/logout" id="logout">Log out</a>'
)
_SOURCES = (
    '<section id="sources-panel" aria-label="Sources"><h2>Sources</h2><div id="take-along" hidden></div>'
    '<div id="sources"><p class="quiet">The papers behind an answer appear here, the quoted sentences marked.</p>'
    "</div></section>"
)
_Field = Annotated[str, Form()]
_Shown = dict[Any, Any]
"""Components, each with what it shows from now on."""


def build_header(name: str) -> gr.Markdown:
    """Build the head of the page; return what shows the library's line."""
    with gr.Row(elem_id="top"):
        header = gr.Markdown(_header(name, "Opening the library…"), elem_id="header")
        gr.Markdown(_TOOLS, elem_id="tools", sanitize_html=False)
    return header


class Tab:
    """The components of the tab, built inside the page, and what happens when they are used."""

    def __init__(self, desk: Desk, name: str, header: gr.Markdown) -> None:
        self.desk, self.name, self.header = desk, name, header
        with gr.Row(elem_id="main"):
            with gr.Column(scale=5, min_width=320, elem_id="left"):
                self.chat = gr.Chatbot(
                    layout="panel", show_label=False, elem_id="chat", buttons=[], height=None, placeholder=_HINT,
                    sanitize_html=True, latex_delimiters=_MATHS, feedback_options=None,
                )  # fmt: skip
                with gr.Row(elem_id="ask"):
                    self.box = gr.Textbox(
                        placeholder="Ask a question…", label="Question", show_label=False, lines=1,
                        max_lines=6, max_length=QUESTION_CHARS, autofocus=True, container=False, scale=1,
                        min_width=160, elem_id="question",
                    )  # fmt: skip
                    self.send = gr.Button("Send", variant="primary", scale=0, min_width=88, elem_id="send")
                    self.stop = gr.Button("Stop", scale=0, min_width=88, visible=False, elem_id="stop")
            with gr.Column(scale=3, min_width=300, elem_id="right"):
                gr.Markdown(_SOURCES, sanitize_html=False)
        self.conversation = gr.Textbox("", visible=False)
        self.replaces = gr.Textbox("", visible="hidden", elem_id="replaces")
        self.pulse = gr.Markdown("", elem_id="pulse")
        self.again = gr.Button("", visible="hidden", elem_id="introduce")
        self.new = gr.Button("", visible="hidden", elem_id="begin")

    def listen(self, page: gr.Blocks, changes: Sequence[Dependency]) -> None:
        """Connect the components with what they do; none of it is an API.

        Args:
            page: Shows the conversation that its address names.
            changes: Events after which something else may answer here.
        """
        outputs = [self.conversation, self.chat, self.pulse, self.box, self.replaces, self.send, self.stop]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        many = {**private, "concurrency_limit": None}  # each waits at the desk
        inputs = [self.box, self.conversation, self.replaces]
        following = [
            gr.on([self.box.submit, self.send.click], self.ask, inputs, outputs, **many),
            self.chat.example_select(self.choose_example, [self.conversation], outputs, **many),
            self.chat.option_select(self.choose_option, [self.conversation], outputs, **many),
            page.load(self.welcome, None, outputs, **many),
        ]
        self.new.click(self.begin, None, outputs, cancels=following, queue=False, **private)
        self.stop.click(self.halt, [self.conversation], None, queue=False, **private)
        introduced = [self.header, self.chat]
        page.load(self.introduce, None, introduced, **private)
        self.again.click(self.introduce, None, introduced, **private)
        for change in changes:
            change.then(self.introduce, None, introduced, **private)

    async def ask(self, question: str, ident: str, number: str, request: gr.Request) -> AsyncIterator[_Shown]:
        """Answer a question, in place of an earlier one where a number is given."""
        if not question.strip():
            yield {self.replaces: ""}
            return
        try:
            wanted = int(number) if number.isdecimal() else None
            run = await asyncio.to_thread(self.desk.ask, owner(request), ident, question, number=wanted)
        except AssistantError as error:
            yield {self.pulse: _told(str(error))}
            return
        cleared: _Shown = {self.box: "", self.replaces: ""}
        async for now in self._follow(run):
            yield now | cleared
            cleared = {}

    async def choose_example(self, ident: str, chosen: gr.SelectData, request: gr.Request) -> AsyncIterator[_Shown]:
        """Ask one of the questions to begin with."""
        async for now in self.ask(str(chosen.value["text"]), ident, "", request):
            yield now

    async def choose_option(self, ident: str, chosen: gr.SelectData, request: gr.Request) -> AsyncIterator[_Shown]:
        """Ask one of the questions that go on from an answer."""
        async for now in self.ask(str(chosen.value), ident, "", request):
            yield now

    def begin(self) -> _Shown:
        """Begin a new conversation; what is being answered in the one before goes on, and is found under Saved."""
        emptied: _Shown = {self.conversation: "", self.chat: [], self.pulse: "`new`"}  # not what is being typed
        return emptied | {self.send: gr.update(visible=True), self.stop: gr.update(visible=False)}

    def halt(self, ident: str, request: gr.Request) -> None:
        """Stop what is being answered; whoever follows it sees that."""
        run = self.desk.run(owner(request), ident)
        if run:
            run.stop()

    async def welcome(self, request: gr.Request) -> AsyncIterator[_Shown]:
        """Show the conversation that the address names, and what is still being answered in it."""
        whose, ident = owner(request), str(request.query_params.get("c", ""))
        if not ident:
            yield {self.replaces: ""}  # a handler that yields nothing would empty all its outputs
            return
        try:
            found = await asyncio.to_thread(self.desk.open, whose, ident)
        except AssistantError as error:
            yield {self.pulse: _told(str(error))}
            return
        run = self.desk.run(whose, ident)
        if run and found:
            async for now in self._follow(run):
                yield now
        elif found:
            yield self._show(found.id, found.exchanges)
        else:
            yield {self.pulse: _told("This conversation is not among yours: deleted, or asked in another browser.")}

    def introduce(self, request: gr.Request) -> _Shown:
        """Say what answers here, and offer questions to begin with."""
        self.desk.seen.set()
        line, questions = _describe(self.desk, owner(request))
        name = who(request).name
        examples, hint = [{"text": each} for each in questions], _HINT if questions else _EMPTY
        return {self.header: _header(self.name, line, name), self.chat: gr.update(examples=examples, placeholder=hint)}

    async def _follow(self, run: Run) -> AsyncIterator[_Shown]:
        async for now in run.follow():
            place = self.desk.place(run) if now.state == "waiting" else 0
            yield self._show(run.conversation, [*run.before, now], place=place, unsaved=run.unsaved)

    def _show(self, ident: str, exchanges: Sequence[Exchange], *, place: int = 0, unsaved: str = "") -> _Shown:
        last = exchanges[-1]
        suggestions = follow_ups(last) if last.over else ()
        return {
            self.conversation: ident,
            self.chat: messages(exchanges, suggestions, place=place),
            self.pulse: _pulse(ident, last, unsaved),
            self.send: gr.update(visible=last.over),
            self.stop: gr.update(visible=not last.over),
        }


def _header(name: str, line: str, user: str | None = None) -> str:
    whose = f' · logged in as <b class="user">{shown.html(user)}</b>' if user else ""
    return f"<div><h1>{name}</h1><p>{shown.html(line)}{whose}</p></div>"


def _describe(desk: Desk, whose: str) -> tuple[str, tuple[str, ...]]:
    """Return a line on what answers here, and questions to begin with."""
    try:
        status, model = desk.assistant.status(), desk.config(whose).llm_model
        questions = desk.first_questions()
    except AssistantError as error:
        return str(error), ()
    library = "built-in sample library" if status["library"] == "sample" else status["library"]
    who = f"answers by {model}" if model else "extractive answers (no LLM configured)"
    count = status["papers"]
    return f"{count:,} {'paper' if count == 1 else 'papers'} · {library} · {who}", questions


def _pulse(ident: str, last: Exchange, unsaved: str) -> str:
    """Return the line by which the page knows which sources to fetch, and whether the conversation has an address."""
    version = f"{last.state}-{len(last.evidence)}-{len(last.citations)}"
    note = f" Not saved: {shown.markdown(unsaved)}" if unsaved and last.over else ""
    return f"`{ident} {last.number} {version} {'unsaved' if unsaved else 'saved'}`{note}"


def _told(message: str) -> str:
    """Return the line by which the page tells a person something."""
    return f"`told` {shown.markdown(message)}"


# --- What the page does by itself -------------------------------------------------------------------------------------


def routes(desk: Desk) -> APIRouter:
    """Return what the page asks for beside Gradio's events: an answer to copy, and what a reader thinks of it."""

    def exchange(request: Request, c: str, turn: int) -> Exchange:
        found = desk.open(owner(request), c)
        if not found or not 1 <= turn <= len(found.exchanges):
            raise ConfigError("this answer is not among yours; it may have been deleted")
        return found.exchanges[turn - 1]

    def answer(request: Request, c: str, turn: int) -> PlainTextResponse:
        """Return an answer with its sources, as Markdown to copy."""
        each = exchange(request, c, turn)
        text = bibliography.answer_markdown(each.answer) if each.answer else each.text
        return PlainTextResponse(text, headers={"cache-control": "no-store"})

    def question(request: Request, c: str, turn: int) -> PlainTextResponse:
        """Return a question as it was typed."""
        return PlainTextResponse(exchange(request, c, turn).question, headers={"cache-control": "no-store"})

    def rate(
        request: Request, c: _Field, turn: Annotated[int, Form()], verdict: _Field = "", word: _Field = ""
    ) -> PlainTextResponse:
        """Keep what a reader thinks of an answer."""
        exchange(request, c, turn)
        if verdict not in {"like", "dislike", ""}:
            raise ConfigError(f"the verdict is {verdict!r}; give like, dislike or nothing")
        feedback = Feedback("like" if verdict == "like" else "dislike", word[:WORD_CHARS]) if verdict else None
        desk.conversations.rate(owner(request), c, turn, feedback)
        return PlainTextResponse("Thank you, noted.")

    router = APIRouter()
    router.get("/answer")(answer)
    router.get("/question")(question)
    router.post("/feedback")(rate)
    router.include_router(cards.routes(desk))
    return router
