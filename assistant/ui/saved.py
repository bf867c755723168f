"""The tab of saved conversations: listed, searched, named, opened again, taken along, deleted.

Each request reaches the conversations of its own owner alone; for everybody else they do not exist.
"""

from __future__ import annotations

import json
import re
from typing import Annotated

import gradio as gr
from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, Response

from assistant import bibliography
from assistant.conversations import Conversation, Summary
from assistant.errors import ConfigError
from assistant.ui import fragments
from assistant.ui.desk import Desk, owner

SHOWN = 200
"""Most conversations in the list; a search finds the others."""
_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)
"""What a file's name leaves out."""
_Field = Annotated[str, Form()]


def build_tab(desk: Desk) -> None:  # noqa: ARG001 - as the other tabs
    """Build the tab inside the page."""
    gr.Markdown('<div id="saved" data-load="/page/saved" data-again></div>', sanitize_html=False)


def routes(desk: Desk) -> APIRouter:
    """Return the list of conversations, what can be done with one, and its files."""
    router = APIRouter()
    _list_them(desk, router)
    _change_them(desk, router)
    _take_them_along(desk, router)
    return router


def _known(desk: Desk, request: Request, ident: str) -> Conversation:
    found = desk.open(owner(request), ident)
    if not found:
        raise ConfigError("this conversation is not among yours; it may have been deleted already")
    return found


def _listed(desk: Desk, request: Request, text: str = "") -> HTMLResponse:
    return fragments.render("saved_list.html", found=_find(desk, request, text), text=text, most=SHOWN)


def _find(desk: Desk, request: Request, text: str = "") -> list[Summary]:
    whose = owner(request)
    return desk.conversations.summaries(whose, text, SHOWN) if whose else []


def _list_them(desk: Desk, router: APIRouter) -> None:
    @router.get("/saved")
    def saved(request: Request) -> HTMLResponse:
        """Return the tab: a search, and the conversations."""
        return fragments.render("saved.html", found=_find(desk, request), text="", most=SHOWN)

    @router.get("/saved/list")
    def find(request: Request, text: str = "") -> HTMLResponse:
        """Return the conversations that hold every word of a text, the last one first."""
        return _listed(desk, request, text)


def _change_them(desk: Desk, router: APIRouter) -> None:
    @router.post("/saved/{ident}/name")
    def name(request: Request, ident: str, name: _Field = "", text: _Field = "") -> HTMLResponse:
        """Give a conversation another name; return the list of those that hold every word of a text."""
        desk.conversations.rename(owner(request), _known(desk, request, ident).id, name)
        return _listed(desk, request, text)

    @router.post("/saved/{ident}/delete")
    def delete(request: Request, ident: str, text: _Field = "") -> HTMLResponse:
        """Delete a conversation; return the list of those that hold every word of a text."""
        desk.delete(owner(request), _known(desk, request, ident).id)
        return _listed(desk, request, text)


def _take_them_along(desk: Desk, router: APIRouter) -> None:
    @router.get("/saved/feedback")
    def feedback(request: Request) -> Response:
        """Return what the reader thinks of the answers, as JSON lines."""
        whose = owner(request)
        found = desk.conversations.feedback(whose) if whose else ()
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in found)
        return _file(text, "feedback", ".jsonl", "application/jsonl")

    @router.get("/saved/{ident}/take-along")
    def take_along(request: Request, ident: str) -> HTMLResponse:
        """Return the links by which a conversation is taken along; none unless it is known."""
        is_known = desk.open(owner(request), ident) is not None
        return fragments.render("take_along.html", ident=ident, is_known=is_known)

    @router.get("/saved/{ident}/export")
    def export(request: Request, ident: str, form: str = "markdown", turn: int = 0) -> Response:
        """Return a conversation, or one answer of it, as a file: Markdown with all it says, or the cited papers."""
        found = _known(desk, request, ident)
        chosen = [each for each in found.exchanges if turn in {0, each.number}]
        if not chosen:
            raise ConfigError(f"there is no answer number {turn}; this conversation has {len(found.exchanges)}")
        if form not in bibliography.FORMATS:
            raise ConfigError(f"unknown form {form!r}; the forms are {', '.join(bibliography.FORMATS)}")
        kind, name = bibliography.FORMATS[form], chosen[0].question if turn else _name(found)
        if form == "markdown":
            said = [(each.question, each.answer, each.text) for each in chosen]
            return _file(bibliography.conversation_markdown(_name(found), said), name, kind.suffix, kind.media_type)
        papers = bibliography.sources_of([each.answer for each in chosen if each.answer])
        return _file("".join(kind.write(papers)), name, kind.suffix, kind.media_type)


def _name(conversation: Conversation) -> str:
    """Return its name; one that could not be saved has none."""
    return conversation.name or conversation.exchanges[0].question


def _file(text: str, name: str, suffix: str, media_type: str) -> Response:
    """Return a download under a name that every system takes."""
    stem = _UNSAFE.sub("-", name).strip("-.")[:60] or "conversation"
    disposition = f'attachment; filename="{stem}{suffix}"'
    headers = {"content-disposition": disposition, "cache-control": "no-store"}
    return Response(text.encode("utf-8", "replace"), media_type=f"{media_type}; charset=utf-8", headers=headers)
