"""arXiv: ids and queries -> records, page by page (https://info.arxiv.org/help/api/user-manual.html).

The API is known to give empty and short pages in the middle of a query. Such a page is asked for again; one that stays
so is refused with its range, and the reading goes on after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from assistant.errors import CorpusError
from assistant.papers import Rejected, arxiv_id, damaged, named_fields
from assistant.sources.live.asking import PARTS, Items, Live, batches, today
from assistant.sources.live.fetch import Reply

_PAGE, _IDS = 200, 100
"""Records of one reply: the API gives up to 2,000, and fails the more often the more it has to give."""
_DEEP = 10_000
"""A query with more records is split by date; the API ends at 30,000 and gets slow before."""
_BEGIN = datetime(1991, 1, 1, tzinfo=UTC)
"""Nothing was submitted before."""


def read_arxiv(live: Live) -> Items:
    """Read ids, or a query."""
    if live.query.kind == "query":
        yield from _read_query(live)
        return
    for ids in batches(live.query.ids, _IDS):
        yield from read_arxiv_ids(live, ids)


def read_arxiv_ids(live: Live, ids: Sequence[str]) -> Items:
    """Read papers by their ids; refuse each that arXiv does not have."""

    def check(body: bytes) -> str:
        return "" if _count(body) else "its reply is no whole Atom feed"

    reply = live.ask("arxiv", "/api/query", check, id_list=",".join(ids), max_results=len(ids))
    body = live.sound(_feed(live, reply), "arxiv")
    items = list(live.items("atom", body, "arXiv")) if b"<entry" in body else []
    yield from items
    if len(items) < len(ids):
        texts = [str(each) for item in items for each in named_fields(item.fields, {}).values()]
        came = {arxiv_id(text) for text in texts}
        for each in ids:
            if (bare := arxiv_id(each)) not in came:
                yield Rejected(f"arxiv:{each}", "arXiv has no such paper; check the id", {"arxiv_id": bare})


def _read_query(live: Live) -> Items:
    """Read all pages of a query, newest papers first, in windows of time that the API can page through."""
    query, n_asked = live.query, 0
    windows: list[tuple[datetime, datetime] | None] = [None]
    if query.since or query.until:
        begin = _start(query.since) if query.since else _BEGIN
        windows = [(begin, _start(query.until or today()) + timedelta(days=1, minutes=-1))]
    while windows:
        window, n_asked = windows.pop(), n_asked + 1
        first = _ask_page(live, window, 0)
        found = _count(_feed(live, first).body) or _count(live.sound(first, "arxiv"))
        assert found is not None
        begin, end = window or (_BEGIN, _start(today()) + timedelta(days=2))
        if found[1] > _DEEP and end - begin > timedelta(minutes=1) and n_asked < PARTS:
            middle = begin + timedelta(minutes=(end - begin) // timedelta(minutes=2))
            windows += [(begin, middle), (middle + timedelta(minutes=1), end)]
        else:
            yield from _read_window(live, window, first, found[1])


def _read_window(live: Live, window: tuple[datetime, datetime] | None, first: Reply, total: int) -> Items:
    is_broken = False
    for start in range(0, total, _PAGE):
        reply = _ask_page(live, window, start) if start else first
        place = f"{_shown(window)}records {start + 1:,}-{min(start + _PAGE, total):,}"
        if b"<entry" in reply.body:
            yield from live.items("atom", reply.body, place)
        if fault := live.fault(reply):
            yield damaged(f"{place} of {total:,}", f"arXiv did not give them: {fault}; run it again later")
            if is_broken:
                raise CorpusError(f"cannot read {live.query.name} beyond {place}: {fault}; run it again later")
        is_broken = bool(fault)


def _ask_page(live: Live, window: tuple[datetime, datetime] | None, start: int) -> Reply:
    def check(body: bytes) -> str:
        found = _count(body)
        if found is None:
            return "its reply is no whole Atom feed"
        expected = max(0, min(_PAGE, found[1] - start))
        return "" if found[0] >= expected else f"its reply holds {found[0]} of {expected} records"

    sought = live.query.text
    if window:
        begin, end = (f"{each:%Y%m%d%H%M}" for each in window)
        sought = f"({sought}) AND submittedDate:[{begin} TO {end}]"
    return live.ask(
        "arxiv", "/api/query", check, search_query=sought, start=start, max_results=_PAGE,
        sortBy="submittedDate", sortOrder="descending",
    )  # fmt: skip


def _count(body: bytes) -> tuple[int, int] | None:
    """Return the number of records in a feed and in all; None for what is no whole feed."""
    total = re.search(rb"<(?:\w{1,20}:)?totalResults[^>]{0,200}>\s*(\d{1,9})\s*<", body[:20_000])
    if not total or not body.rstrip().endswith(b"</feed>"):
        return None
    return len(re.findall(rb"<entry[\s>]", body)), int(total[1])


def _feed(live: Live, reply: Reply) -> Reply:
    """Return a reply that tells of records: the API tells of its errors in a feed as well (user's manual, 3.4)."""
    body = reply.body
    if b"arxiv.org/api/errors" in body[:20_000]:
        said = re.search(rb"<summary[^>]{0,200}>([^<]{1,300})</summary>", body)
        found = " ".join(said[1].decode(errors="replace").split()) if said else "it tells of an error"
        raise CorpusError(f"cannot read {live.query.name}: arXiv refuses it ({found}); check the name")
    return reply


def _shown(window: tuple[datetime, datetime] | None) -> str:
    return f"{window[0]:%Y-%m-%d %H:%M} to {window[1]:%Y-%m-%d %H:%M}, " if window else ""


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
