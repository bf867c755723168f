"""Questions, searches and papers over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from assistant import access
from assistant.api.events import Parts, begin, event
from assistant.api.faults import NotFound, Reply, broken_off, shorten
from assistant.api.forms import AskForm, PapersForm, SearchForm
from assistant.api.schema import EVENT, AnswerModel, Found, FullPaper, HitsModel
from assistant.api.shared import Service, errors
from assistant.retrieve import parse_where

ID_CHARS = 2_000
_EVENTS = """
With `stream`, events instead: `piece` with `{"text"}` as often as need be, then one `answer` with the Answer; or
`error`, if something fails after the first piece. The texts of all pieces, joined, are the Answer's text.
"""


def routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router, assistant = APIRouter(prefix="/api/v1", tags=["papers"]), service.assistant

    @router.post(
        "/ask",
        summary="Answer a question",
        description=f"Answers from the library, each claim with its citation. Not knowing is no error.{_EVENTS}",
        responses={
            200: {
                "model": AnswerModel,
                "description": "The Answer.",
                "content": {"text/event-stream": {"schema": EVENT}},
            },
            **errors(413, 415, 422),
        },
    )
    @_reads(AskForm)
    async def ask(request: Request, form: AskForm) -> Response:
        caller = access.require(request.scope, "ask").name
        parse_where(form.where)  # before the line is waited for
        history = [turn.model_dump() for turn in form.history]
        start = lambda: assistant.stream(form.question, history=history, k=form.k, where=form.where)  # noqa: E731
        if not form.stream:
            return Reply((await service.line.ask("api", start, caller)).as_dict())
        return await begin(service.line.stream("api", start, caller), _write)

    @router.post(
        "/search",
        summary="Rank the papers for a query",
        responses={200: {"model": HitsModel, "description": "The papers, best first."}, **errors(413, 415, 422)},
    )
    @_reads(SearchForm)
    async def search(request: Request, form: SearchForm) -> Response:
        access.require(request.scope, "search")
        history = [turn.model_dump() for turn in form.history]
        hits = await service.quick.run(assistant.search, form.query, k=form.k, where=form.where, history=history)
        return Reply(hits.as_dict())

    @router.get(
        "/papers",
        summary="List the papers",
        responses={200: {"model": Found, "description": "One page of them."}, **errors(422)},
    )
    @_reads(PapersForm)
    async def papers(request: Request, form: Annotated[PapersForm, Query()]) -> Response:
        access.require(request.scope, "search")
        found, total = await service.quick.run(
            assistant.browse, form.text, where=form.where, limit=form.limit, offset=form.offset
        )
        return Reply({"papers": [paper.as_dict() for paper in found], "total": total})

    @router.get(
        "/papers/{paper_id:path}",
        summary="One paper, with its abstract",
        responses={200: {"model": FullPaper, "description": "The paper."}, **errors(404, 422)},
    )
    async def paper(
        request: Request,
        paper_id: Annotated[str, Path(max_length=ID_CHARS, description="Its id, DOI, arXiv id, PMID or link.")],
    ) -> Response:
        access.require(request.scope, "search")
        found = await service.quick.run(assistant.paper, paper_id)
        if found is None:
            raise NotFound(f"no paper has the id {shorten(paper_id)}; /api/v1/papers lists them")
        return Reply(found.as_dict(full=True))

    return router


def _reads(form: type) -> Callable[[Any], Any]:
    """Note at a route which form it reads, so that an unknown field can be told the nearest right one."""

    def note(route: Any) -> Any:
        route.form = form
        return route

    return note


async def _write(parts: Parts) -> AsyncGenerator[str, None]:
    try:
        async for part in parts:
            yield event({"text": part}, "piece") if isinstance(part, str) else event(part.as_dict(), "answer")
    except Exception as error:  # noqa: BLE001 - a border: the response has begun, so that no status can tell it
        yield event(broken_off(error), "error")
