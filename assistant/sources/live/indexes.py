"""OpenAlex, Semantic Scholar and Hugging Face: ids, searches and days -> records, page by page.

Documentation: https://developers.openalex.org, https://api.semanticscholar.org/api-docs/graph,
https://huggingface.co/docs/hub/api (the calls of `huggingface_hub`: `list_daily_papers`, `list_papers`, `paper_info`).
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from urllib.parse import quote

from assistant.papers import damaged
from assistant.sources.live.asking import Items, Live, as_object, as_objects, has, is_list, next_place, read_one, today

_OPENALEX_PAGE = 100
_OPENALEX_FIELDS = (
    "id,doi,ids,title,display_name,publication_year,publication_date,authorships,primary_location,type,"
    "abstract_inverted_index"
)
_S2_FIELDS = "paperId,corpusId,externalIds,url,title,abstract,venue,year,publicationDate,journal,authors"
_HF_PAGE, _HF_FOUND = 100, 120
"""Papers of one reply of a day, and the most that a search gives."""
_HF_PAGES = 100
"""Of one day; the fullest known ones fill one."""


def read_openalex(live: Live) -> Items:
    """Read works by their ids, or by a search and filters."""
    if live.query.kind == "ids":
        for each in live.query.ids:
            reply = live.ask("openalex", f"/works/{each}", has("id"), select=_OPENALEX_FIELDS)
            yield from read_one(live, reply, "openalex", f"openalex:{each}", "OpenAlex has no such work; check the id")
        return
    query = live.query
    dates = [
        f"{name}_publication_date:{day}"
        for name, day in (("from", query.since), ("to", query.until))
        if day is not None
    ]
    filters = ",".join([part for part in (query.filters, *dates) if part])
    cursor, n_read, total = "*", 0, 0
    while cursor:
        reply = live.ask(
            "openalex", "/works", has("meta", "results"), search=query.text, filter=filters, cursor=cursor,
            per_page=_OPENALEX_PAGE, select=_OPENALEX_FIELDS,
        )  # fmt: skip
        body = live.sound(reply, "openalex")
        found = json.loads(body)
        results, meta = as_objects(found["results"]), as_object(found["meta"])
        if results:
            yield from live.items("openalex", body, f"records {n_read + 1:,}-{n_read + len(results):,}")
            n_read += len(results)
        total = meta["count"] if isinstance(meta.get("count"), int) else 0
        cursor = next_place(meta.get("next_cursor"), cursor) if results else ""
    if n_read < total:
        yield damaged(f"records {n_read + 1:,}-{total:,}", f"OpenAlex ended after {n_read:,} of {total:,} records")


def read_s2(live: Live) -> Items:
    """Read papers by their ids, or by the bulk search, a thousand at a time."""
    if live.query.kind == "ids":
        for each in live.query.ids:
            path = f"/graph/v1/paper/{quote(each, safe=':')}"
            reply = live.ask("s2", path, has("paperId"), fields=_S2_FIELDS)
            yield from read_one(live, reply, "s2", f"s2:{each}", "Semantic Scholar has no such paper; check the id")
        return
    query, token, n_read = live.query, "", 0
    days = f"{query.since or ''}:{query.until or ''}" if query.since or query.until else ""
    while True:
        reply = live.ask(
            "s2", "/graph/v1/paper/search/bulk", has("data"), query=query.text, publicationDateOrYear=days,
            fields=_S2_FIELDS, token=token,
        )  # fmt: skip
        body = live.sound(reply, "s2")
        found = json.loads(body)
        papers = as_objects(found["data"])
        if papers:
            yield from live.items("s2", body, f"records {n_read + 1:,}-{n_read + len(papers):,}")
            n_read += len(papers)
        token = next_place(found.get("token"), token) if papers else ""
        if not token:
            return


def read_hf_papers(live: Live) -> Items:
    """Read papers by their ids, the papers of days, or those that a search finds."""
    query = live.query
    if query.kind == "ids":
        for each in query.ids:
            reply = live.ask("hf", f"/api/papers/{quote(each)}", has("id"))
            reason = f"Hugging Face has no page of this paper; try arxiv:{each}"
            yield from read_one(live, reply, "hf-papers", f"hf-papers:{each}", reason)
    elif query.kind == "query":
        reply = live.ask("hf", "/api/papers/search", is_list, q=query.text, limit=_HF_FOUND)
        yield from _hf_list(live, live.sound(reply, "hf"), "search")
    elif query.since is None:
        yield from _hf_day(live, None)
    else:
        last = min(query.until or today(), today())
        for n_days in range((last - query.since).days + 1):
            yield from _hf_day(live, query.since + timedelta(days=n_days))


def _hf_day(live: Live, day: date | None) -> Items:
    """Read the papers of a day; None: of the newest."""
    for page in range(_HF_PAGES):
        when = {"date": str(day)} if day else {}
        reply = live.ask("hf", "/api/daily_papers", is_list, **when, limit=_HF_PAGE, p=page)
        body = live.sound(reply, "hf")
        yield from _hf_list(live, body, f"{day or 'newest day'}, page {page + 1}")
        if day is None or len(json.loads(body)) < _HF_PAGE:
            return


def _hf_list(live: Live, body: bytes, place: str) -> Items:
    if json.loads(body):
        yield from live.items("hf-papers", body, place)
