"""The explore tab: papers found without an answer, a few of them side by side, and all of them on a map.

All that it shows is in the library; it changes nothing. Refused: more than `MOST` papers in one table.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import chain
from pathlib import PurePath
from typing import Annotated, Any, Literal

import gradio as gr
from fastapi import APIRouter, Query
from markupsafe import Markup
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from assistant import bibliography, shown
from assistant.abstain import WEAK_MATCH
from assistant.answer import Assistant
from assistant.atlas import Atlas
from assistant.errors import ConfigError
from assistant.explore import Facets
from assistant.table import COLUMNS, Row
from assistant.text import terms
from assistant.types import Hit
from assistant.ui import fragments
from assistant.ui.cards import RETRIEVERS, closeness
from assistant.ui.desk import Desk
from assistant.ui.plot import bars

PAGE, POOL = 20, 100
"""Papers shown at first and with each "more"; the best so many are ranked and counted, whatever is shown of them."""
MOST = 12
"""Papers in one table: more columns of text than that nobody compares."""
LEAST = 3
"""Papers of the smallest map."""
OFFERED = 6
"""Titles offered while one is typed."""
LISTED = 200
"""Papers of a topic listed at once; the next come as they are scrolled to."""
BARS = 14
"""Most bars of the plot of years."""
PATIENCE_S = 1.0
"""How long a request waits for the map before it is told to ask again."""
COLOURS = 7
"""The page has so many colours for topics; the next topics have them again in another shape."""
Words = Annotated[list[str], Query(default_factory=list)]

_FRESH = {"cache-control": "no-store"}
_BAR = re.compile(r"(\\.)|\|")
"""A bar, or a pair of which the second is escaped already."""
_MARKABLE = re.compile(r"<math\b.*?</math>|<[^>]*>|&#?\w+;|\w+", re.DOTALL)


def build_tab(_desk: Desk) -> None:
    """Build the tab inside the page."""
    gr.Markdown('<div data-load="/page/explore" class="explore-tab"></div>', sanitize_html=False)


def routes(desk: Desk) -> APIRouter:
    """Return the fragments of the tab, and the files that it offers."""
    router = APIRouter(prefix="/explore")
    _add_tab(router, desk.assistant)
    _add_search(router, desk)
    _add_table(router, desk.assistant)
    _add_map(router, Maps(desk.assistant))
    return router


def _add_tab(router: APIRouter, assistant: Assistant) -> None:
    def tab() -> HTMLResponse:
        _, papers = assistant.browse(limit=1)
        return fragments.render("explore.html", papers=papers, epoch=_epoch(assistant), most=MOST, least=LEAST)

    def epoch() -> Response:
        """Return which state of the library answers, by which an open page sees that it has changed."""
        return PlainTextResponse(_epoch(assistant), headers=_FRESH)

    router.get("")(tab)
    router.get("/epoch")(epoch)


def _epoch(assistant: Assistant) -> str:
    return " ".join(map(str, assistant.epoch))


# --- Search -----------------------------------------------------------------------------------------------------------


def _add_search(router: APIRouter, desk: Desk) -> None:
    assistant = desk.assistant

    def results(where: Words, text: str = "", n: int = PAGE) -> HTMLResponse:
        filters = [(each, _in_words(each)) for each in where]
        if not text.strip():
            facets = assistant.overview(where=where)
            questions = desk.first_questions() if facets.papers and not where else ()
            return fragments.render("explore_start.html", facets=_counts(facets), filters=filters, questions=questions)
        hits, wanted = assistant.search(text, k=POOL, where=where), set(terms(text))
        return fragments.render(
            "explore_results.html", items=[_item(hit, wanted) for hit in hits[: max(PAGE, n)]], found=len(hits),
            page=PAGE, pool=POOL, filters=filters, facets=_counts(assistant.facets([hit.paper for hit in hits])),
            reason=(hits.reason or "").partition(": ")[2], warnings=hits.warnings,
            far=bool(hits) and hits[0].score < WEAK_MATCH,
        )  # fmt: skip

    router.get("/results")(results)


def _item(hit: Hit, wanted: set[str]) -> dict[str, Any]:
    """Return what the template shows of a hit."""
    found = [f"{RETRIEVERS[name]} {_ordinal(rank)}" for name, rank in hit.retrievers.items() if name in RETRIEVERS]
    return {
        "hit": hit, "title": _marked(fragments.title(hit.paper), wanted), "passage": _marked(hit.passage, wanted),
        "closeness": closeness(hit.score).removesuffix(" to the question"), "found": ", ".join(found),
    }  # fmt: skip


def _marked(text: str, wanted: set[str]) -> Markup:
    """Return HTML that shows a text, the words in it marked that have one of the wanted terms; maths is left alone."""

    def mark(found: re.Match[str]) -> str:
        word = found[0]
        return f"<mark>{word}</mark>" if word[0] not in "<&" and wanted.intersection(terms(word)) else word

    return Markup(_MARKABLE.sub(mark, shown.html(text)))  # noqa: S704 - escaped already; words get an element of ours


def _ordinal(n: int) -> str:
    suffix = "th" if n % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def _in_words(condition: str) -> str:
    """Return a filter as it is shown: `year=2020..2024` -> "year 2020–2024"."""
    field, _, value = condition.partition("=")
    return f"{field} {value.replace('..', '–') if field == 'year' else value}"


def _counts(facets: Facets) -> dict[str, Any]:
    """Return what the template shows of counts; each value with the condition that chooses it, if there is one."""
    lists = (
        ("Venues", [(name, f"venue={name}", n, name) for name, n in facets.venues]),
        ("Authors", [(name, f"author={name}", n, name) for name, n in facets.authors]),
        ("Sources", [(PurePath(name).name or name, "", n, name) for name, n in facets.sources]),
    )
    return {"papers": facets.papers, "years": bars(facets.years, BARS), "lists": [each for each in lists if each[1]]}


# --- Comparison -------------------------------------------------------------------------------------------------------


def _add_table(router: APIRouter, assistant: Assistant) -> None:
    def titles(text: str = "") -> HTMLResponse:
        papers, total = assistant.browse(text, limit=OFFERED) if text.strip() else ([], 0)
        return fragments.render("explore_titles.html", papers=papers, total=total, text=text)

    def compare(ids: Words) -> HTMLResponse:
        rows = _rows(assistant, ids)
        cells = [(row.paper, [(name, getattr(row, name)) for name in COLUMNS]) for row in rows]
        return fragments.render(
            "explore_table.html", rows=cells, columns=COLUMNS, missing=len(set(ids)) - len(rows), most=MOST
        )

    def table(form: Literal["csv", "md"], ids: Words) -> Response:
        write, kind = (table_csv, "text/csv") if form == "csv" else (table_markdown, "text/markdown")
        headers = {**_FRESH, "content-disposition": f'attachment; filename="comparison.{form}"'}
        return PlainTextResponse("".join(write(_rows(assistant, ids))), headers=headers, media_type=kind)

    router.get("/titles")(titles)
    router.get("/compare")(compare)
    router.get("/compare.{form}")(table)


def _rows(assistant: Assistant, ids: Sequence[str]) -> tuple[Row, ...]:
    """Return the table of those papers that are there."""
    wanted = list(dict.fromkeys(ids))
    if len(wanted) > MOST:
        raise ConfigError(f"{len(wanted)} papers were chosen to be compared, at most {MOST} can be; take some out")
    return assistant.compare([each for each in wanted if assistant.paper(each)])


def table_csv(rows: Sequence[Row]) -> Iterator[str]:
    """Write a comparison for spreadsheets, each cell with its span in the abstract."""
    spans = chain.from_iterable((name, f"{name}_start", f"{name}_end") for name in COLUMNS)
    yield "\ufeff" + bibliography.table_row(["id", "title", "authors", "year", "venue", *spans])
    for row in rows:
        paper, cells = row.paper, [getattr(row, name) for name in COLUMNS]
        known = (paper.id, paper.title, "; ".join(paper.authors), paper.year or "", paper.venue or "")
        told = chain.from_iterable((c.text, c.start, c.end) if c.text else ("", "", "") for c in cells)
        yield bibliography.table_row([str(each) for each in (*known, *told)])


def table_markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Write a comparison as a table of Markdown."""
    yield f"| paper | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}\n"
    for row in rows:
        byline = _cell(fragments.byline(row.paper))
        paper = " · ".join(filter(None, [f"**{_cell(fragments.title(row.paper))}**", byline]))
        cells = [_cell(getattr(row, name).text) for name in COLUMNS]
        yield f"| {' | '.join([paper, *cells])} |\n"


def _cell(text: str) -> str:
    """Return Markdown that shows a text in a cell, which a bar would end."""
    return _BAR.sub(lambda found: found[1] or "\\|", bibliography.escape_markdown(text))


# --- Map --------------------------------------------------------------------------------------------------------------


class Maps:
    """The map of a library, made once for each state of it in a thread of its own; whoever asks shares it."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self._lock = threading.Lock()
        self._epoch = ("", -1)
        self._job: Future[tuple[Atlas, str]] | None = None

    def job(self) -> Future[tuple[Atlas, str]]:
        """Return the map with its JSON form, made or being made; one at a time, whatever happens to the library."""
        epoch = self._assistant.epoch
        with self._lock:
            job = self._job
            if job is None or (job.done() and (job.exception() or epoch != self._epoch)):
                job = self._job = Future()
                self._epoch = epoch
                threading.Thread(target=self._make, args=(job,), name="map", daemon=True).start()
            return job

    def _make(self, job: Future[tuple[Atlas, str]]) -> None:
        try:
            atlas = self._assistant.atlas()
            job.set_result((atlas, atlas.to_json()))
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            job.set_exception(error)


def _add_map(router: APIRouter, maps: Maps) -> None:
    def plane() -> Response:
        try:
            _, text = maps.job().result(PATIENCE_S)
        except TimeoutError:
            return JSONResponse({"state": "being drawn"}, 202, _FRESH)
        return Response(text, headers=_FRESH, media_type="application/json")

    def topics() -> HTMLResponse:
        atlas, _ = maps.job().result()
        sizes = Counter(atlas.topic.tolist())
        named = [(number, name, sizes[number]) for number, name in enumerate(atlas.names)]
        return fragments.render("explore_topics.html", topics=named, colours=COLOURS)

    def topic(number: int, start: int = 0) -> HTMLResponse:
        atlas, _ = maps.job().result()
        own = [i for i, each in enumerate(atlas.topic.tolist()) if each == number]
        papers = [(atlas.ids[i], atlas.titles[i]) for i in own[start : start + LISTED]]
        after = start + LISTED if len(own) > start + LISTED else 0
        return fragments.render("explore_topic.html", papers=papers, number=number, after=after)

    router.get("/map.json")(plane)
    router.get("/topics")(topics)
    router.get("/topic")(topic)
