"""Records -> pieces of HTML, by the templates beside this module; what a template is given is escaped.

The page asks for them by plain GET requests: they change nothing. An error becomes a piece of HTML that tells it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from assistant import shown
from assistant.errors import AssistantError
from assistant.types import Paper

AUTHORS = 3
"""Most authors named before "et al."."""


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a filled template as a response that nobody keeps."""
    return page(fill(template, **values), status=status)


def page(html: str, *, status: int = 200) -> HTMLResponse:
    """Return a piece of HTML as a response that nobody keeps."""
    return HTMLResponse(html, status, {"cache-control": "no-store"})


def fill(template: str, **values: Any) -> str:
    """Return a filled template."""
    return _environment().get_template(template).render(values)


def tell_errors(app: FastAPI) -> None:
    """Let an error of a fragment become a fragment that tells it in words."""

    def told(_request: Request, error: Exception) -> HTMLResponse:
        return render("fault.html", status=422, message=str(error))

    app.add_exception_handler(AssistantError, told)


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(shown=shown.html, links=shown.links, title=title, byline=byline)
    return made


def title(paper: Paper) -> str:
    """Return a paper's title, or what stands for it."""
    return paper.title or "(no title)"


def byline(paper: Paper) -> str:
    """Return authors, venue and year, as far as they are known."""
    authors = ", ".join(paper.authors[:AUTHORS]) + (" et al." if len(paper.authors) > AUTHORS else "")
    return " · ".join(str(each) for each in (authors, paper.venue, paper.year) if each)
