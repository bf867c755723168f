"""The library tab: what is in the library, its papers as one types, a paper's page; papers added and removed.

In: what was typed and chosen. Out: pieces of HTML. A filter that cannot be read is left out and named.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import gradio as gr
from fastapi import APIRouter, File, Form, Request, UploadFile
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from assistant import added, bibliography, shown
from assistant.answer import Assistant
from assistant.audit import audit
from assistant.clean import clean
from assistant.errors import AssistantError, ConfigError, StoreError
from assistant.explore import TOP
from assistant.ui import adding, fragments
from assistant.ui.desk import Desk, owner, who
from assistant.ui.plot import bars

if TYPE_CHECKING:
    from markupsafe import Markup

PAGE = 50
"""Papers listed at a time."""
SIMILAR = 6
BARS = 60
"""Most bars of the plot; of more years, several share one."""
TEXT_CHARS = 300
"""Longest text searched for."""
AUTHORS = 30
"""Authors shown at once on a paper's page; the others unfold."""
REJECTED = 200
"""Refusals shown of an addition; the download has them all."""
LIKENESS = ((0.7, "very close"), (0.55, "close"), (0.4, "related"))
"""From which likeness on it is called so: of the six papers most like one of the sample, a quarter is beyond .64."""


def routes(desk: Desk) -> APIRouter:  # noqa: C901 - a table of small ones
    """Return the pieces of the tab, and what removes papers."""
    router, assistant = APIRouter(), desk.assistant

    @router.get("/library")
    def library() -> HTMLResponse:
        """Show the whole tab: what is in the library, its papers, how to add some, and its health."""
        state, facets = assistant.status(), assistant.overview()
        sources = [(PurePath(source).name, _described(source), n) for source, n in facets.sources]
        return fragments.render(
            "library.html", state=state, facets=facets, bars=bars(facets.years, BARS), own=str(assistant.folder),
            most=TOP,
            sources=sources, health=_health(state["index"]), **find(assistant, Wanted()),
        )  # fmt: skip

    @router.get("/library/papers")
    def papers(request: Request) -> HTMLResponse:
        """Show a page of the papers that match."""
        return fragments.render("library-papers.html", **find(assistant, Wanted.of(request.query_params)))

    @router.post("/library/add")
    def add(
        request: Request, files: Annotated[list[UploadFile] | None, File()] = None, text: Annotated[str, Form()] = ""
    ) -> HTMLResponse:
        """Begin to add what was dropped and pasted."""
        uploads = [(each.filename, each.file) for each in files or () if each.filename]
        try:
            addition = adding.begin(desk, owner(request), uploads, text)
            named = [name for name, _ in uploads] + (
                [f"pasted text of {len(text):,} characters"] if text.strip() else []
            )
            audit(who(request), "ingest", ", ".join(named))
            return _ledger(addition)
        except AssistantError as error:
            return _told(str(error))

    @router.get("/library/ledger")
    def ledger(request: Request) -> HTMLResponse:
        """Show how far an owner's last addition is, or what became of it."""
        return _ledger(adding.last(desk, owner(request)))

    @router.get("/library/ledger.json")
    def ledger_file(request: Request) -> Response:
        """Give the whole ledger of an owner's last addition."""
        addition = adding.last(desk, owner(request))
        if addition is None or addition.ledger is None:
            return fragments.render("fault.html", status=404, message="There is no ledger: nothing was added yet.")
        headers = {"content-disposition": 'attachment; filename="ledger.json"', "cache-control": "no-store"}
        return JSONResponse(addition.ledger, headers=headers)

    @router.post("/library/remove")
    def remove(request: Request, ids: Annotated[list[str], Form()]) -> HTMLResponse:
        """Delete papers from the person's own library."""
        if assistant.library == "sample":
            raise ConfigError("the built-in sample cannot be changed; add papers, and a library of your own begins")
        titles = {each: paper.title for each in ids if (paper := assistant.paper(each))}
        try:
            gone, missing = assistant.remove(ids)
        except StoreError as error:
            return _told(f"Nothing was removed: {error}")
        audit(who(request), "remove", ", ".join(gone))
        return fragments.render("paper-removed.html", gone=[titles.get(each) or each for each in gone], missing=missing)

    @router.get("/paper")
    def paper(request: Request, id: str = "", start: int = 0, end: int = 0) -> Response:  # noqa: A002 - so in the address
        """Show a paper, a span of its abstract marked; an address that is opened by itself leads to the whole page."""
        if request.headers.get("sec-fetch-dest") == "document":
            return RedirectResponse(f"/?paper={quote(id, safe='')}")
        found = assistant.paper(id)
        if found is None:
            return _told(f"There is no paper {id[:200]!r} in this library; it may have been removed.")
        return fragments.render(
            "paper.html", paper=found, parts=_parts(found.abstract, start, end), most=AUTHORS,
            sample=assistant.library == "sample",
            citation="".join(bibliography.bibtex([found])).strip(),
            sources=[(PurePath(each).name, _described(each)) for each in found.sources],
        )  # fmt: skip

    @router.get("/paper/similar")
    def similar(id: str = "") -> HTMLResponse:  # noqa: A002 - the name in the address
        """Show the papers most like one."""
        found = [(each, likeness(score)) for each, score in assistant.similar(id, k=SIMILAR)]
        return fragments.render("paper-similar.html", found=found)

    return router


def _parts(abstract: str, start: int, end: int) -> tuple[str, str, str]:
    """Return an abstract before, within and after a span; a span that is none marks nothing."""
    if not 0 <= start < end <= len(abstract):
        return abstract, "", ""
    return abstract[:start], abstract[start:end], abstract[end:]


def _told(message: str) -> HTMLResponse:
    """Tell a person what did not go: no error of the page, whose console stays clean."""
    return fragments.render("fault.html", message=message)


def _ledger(addition: adding.Addition | None) -> HTMLResponse:
    return fragments.render("library-ledger.html", addition=addition, most=REJECTED)


# --- What is in it ----------------------------------------------------------------------------------------------------


def _health(index: str) -> str:
    """Return the health of the index in words."""
    tail = re.fullmatch(r"sound, (\d+) papers in the tail", index)
    if index == "sound":
        return "Sound: a search sees every paper."
    if tail:
        return f"Sound: a search sees every paper; the {tail[1]} that came last will be folded in later."
    return "Empty: there is nothing to search yet." if index == "empty" else index


def _described(source: str) -> str:
    """Return where a source lies, and how it came in."""
    is_added = len(PurePath(source).parts) > 2 and PurePath(source).parts[-3] == added.FOLDER
    return f"{source} (added on this page)" if is_added else source


# --- Its papers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed and chosen, as it came."""

    text: str = ""
    first: str = ""
    """The earliest year."""
    last: str = ""
    venue: str = ""
    author: str = ""
    order: str = "entry"
    page: str = "1"

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Wanted:
        """Return what the fields of the form say."""
        names = {"first": "from", "last": "to"}
        given = {each: fields.get(names.get(each, each)) for each in cls.__slots__}
        return cls(**{each: value for each, value in given.items() if value})


def find(assistant: Assistant, wanted: Wanted) -> dict[str, Any]:
    """Return a page of the papers that match, for its template; see `assistant.explore.browse`.

    Raises:
        ConfigError: A text too long, an unknown order, or a page that is no number.
    """
    text = wanted.text.strip()
    if len(text) > TEXT_CHARS:
        raise ConfigError(f"the text searched for has {len(text):,} characters; give at most {TEXT_CHARS}")
    if not re.fullmatch(r"\d{1,9}", wanted.page):
        raise ConfigError(f"the page is {wanted.page[:50]!r}; give a whole number, from 1")
    (low, high), notes = _span(wanted.first.strip(), wanted.last.strip())
    filters = _filters(assistant, low, high, wanted)
    where = [condition for condition, _ in filters.values()]
    total = assistant.browse(text, where=where, order=wanted.order, limit=0)[1]
    pages = max(1, -(-total // PAGE))
    page = max(1, min(int(wanted.page), pages))
    before = PAGE * (page - 1)
    papers, total = assistant.browse(text, where=where, order=wanted.order, limit=PAGE, offset=before)
    words = clean(text).split()
    shown_as = ((each, fragments.title(each), fragments.byline(each)) for each in papers)
    return {
        "found": [(each, marked(title, words), marked(byline, words)) for each, title, byline in shown_as],
        "total": total, "before": before, "page": page, "pages": pages, "asked": bool(text or where),
        "notes": notes, "why": [] if total else _why_none(assistant, text, filters),
        "venues": _offered((each.venue for each in papers), wanted.venue),
        "authors": _offered((name for each in papers for name in each.authors), wanted.author),
    }  # fmt: skip


def _span(first: str, last: str) -> tuple[tuple[str, str], list[str]]:
    """Return the years asked for, and remarks: what is no year is left out."""
    years = [each if re.fullmatch(r"\d{4}", each, re.ASCII) else "" for each in (first, last)]
    notes = [
        f"“{given[:20]}” is no year and was left out; write it like 2020."
        for given, year in zip((first, last), years, strict=True)
        if given and not year
    ]
    low, high = sorted(years) if all(years) else years
    if (low, high) != tuple(years):
        notes.append(f"The years stood the wrong way round: these are from {low} to {high}.")
    return (low, high), notes


def _filters(assistant: Assistant, low: str, high: str, wanted: Wanted) -> dict[str, tuple[str, str]]:
    """Return for each field that is filtered a condition of `parse_where`, and what it means in words."""
    filters = {}
    venue, author = (clean(each, 200).strip("'\"=~ ") for each in (wanted.venue, wanted.author))
    if low or high:
        meant = (
            f"from {low}"
            if low and low == high
            else " ".join(word for word in (low and f"from {low}", high and f"up to {high}") if word)
        )
        filters["year"] = (f"year={low}..{high}", meant)
    if venue:  # one that is chosen is meant as it stands, one that is still being typed is not
        exact = assistant.browse(where=[f"venue={venue}"], limit=0)[1]
        filters["venue"] = (f"venue{'=' if exact else '~'}{venue}", f"in a venue like “{venue}”")
    if author:
        filters["author"] = (f"author~{author}", f"by an author like “{author}”")
    return filters


def _why_none(assistant: Assistant, text: str, filters: Mapping[str, tuple[str, str]]) -> list[str]:
    """Say why nothing was found: by the text, or by which filters, and what these cannot see."""
    facets = assistant.overview(text)
    if not facets.papers:
        return [
            f"No paper has “{text}” in its title, authors or venue.",
            "A search in the tab Explore looks into the abstracts, too.",
        ]
    held = f" that hold “{text}”" if text else ""
    meant = " and ".join(words for _, words in filters.values())
    lacking = [f"{facets.without[name]:,} have no {name}" for name in filters if facets.without[name]]
    unseen = [f"{', '.join(lacking)}: a paper without the field does not match."] if lacking else []
    return [f"None of the {facets.papers:,} papers{held} is {meant}.", *unseen]


def _offered(names: Iterable[str | None], typed: str) -> list[str]:
    """Return names to choose from: those of the papers found that hold what was typed."""
    wanted = typed.strip().casefold()
    return list(dict.fromkeys(name for name in names if name and wanted in name.casefold()))[:PAGE]


def marked(text: str, words: Sequence[str]) -> Markup:
    """Return `text` as HTML, its maths set, with the parts outside of it that match a word marked."""
    from markupsafe import Markup

    whole = shown.html(text)
    if not words:
        return whole
    wanted = re.compile("|".join(re.escape(each) for each in sorted(words, key=len, reverse=True)), re.IGNORECASE)
    parts = re.split(r"(<math.*?</math>|<[^>]*>)", whole, flags=re.DOTALL)
    parts[::2] = [_mark(html.unescape(each), wanted) for each in parts[::2]]
    return Markup("".join(parts))  # noqa: S704 - escaped piece by piece


def _mark(text: str, wanted: re.Pattern[str]) -> str:
    out, end = "", 0
    for found in wanted.finditer(text):
        out += f"{html.escape(text[end : found.start()])}<mark>{html.escape(found[0])}</mark>"
        end = found.end()
    return out + html.escape(text[end:])


def likeness(score: float) -> str:
    """Return a likeness from -1 to 1 in words."""
    word = next((word for least, word in LIKENESS if score >= least), "far")
    return f"{word} · {max(0, round(100 * score))} % alike"


# --- The tab ----------------------------------------------------------------------------------------------------------


def build_tab(_desk: Desk) -> None:
    """Build the tab inside the page."""
    gr.Markdown('<div data-load="/page/library"></div>', sanitize_html=False)
