"""PubMed: numbers and queries -> records, by NCBI's ESearch and EFetch (https://www.ncbi.nlm.nih.gov/books/NBK25499/)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date

from assistant.papers import Rejected, named_fields
from assistant.sources.live.asking import PARTS, Items, Live, as_object, batches, parse_json

_PAGE, _DEEP = 200, 9_999
"""Records of one reply, and the most that a search tells the numbers of (ESearch, `retmax`)."""
_LAST = 99_999_999
"""Greater than any number of a record."""


def read_pubmed(live: Live) -> Items:
    """Read the records of numbers or of a search; refuse each number that PubMed does not have."""
    ids = live.query.ids if live.query.kind == "ids" else _search(live)
    for n, batch in enumerate(batches(ids, _PAGE)):
        place = f"records {n * _PAGE + 1:,}-{n * _PAGE + len(batch):,}"
        reply = live.ask(
            "ncbi", "/entrez/eutils/efetch.fcgi", _whole_set, db="pubmed", retmode="xml", id=",".join(batch)
        )
        body = live.sound(reply, "ncbi")
        items = list(live.items("pubmed", body, place)) if re.search(rb"<Pubmed(Book)?Article[\s>]", body) else []
        yield from items
        if len(items) < len(batch):
            came = {str(named_fields(item.fields, {}).get("pmid")) for item in items}
            for each in batch:
                if each not in came:
                    yield Rejected(f"pmid:{each}", "PubMed has no such record; check the number", {"pmid": each})


def _search(live: Live) -> Iterator[str]:
    """Iterate the numbers of all records that a query finds, the newest first.

    A search tells no more than its first 9,999 records, by the history server too; so a larger one is halved by the
    records' numbers, which leaves none out and none in both halves. The numbers stay good where a place on the history
    server does not: an interrupted run can go on.
    """
    query, n_asked = live.query, 0
    ranges = [(1, _LAST)]
    dates: dict[str, str | int] = {}
    if query.since or query.until:
        begin, end = query.since or date(1500, 1, 1), query.until or date(3000, 12, 31)
        dates = {"datetype": "pdat", "mindate": f"{begin:%Y/%m/%d}", "maxdate": f"{end:%Y/%m/%d}"}
    while ranges:
        (low, high), n_asked = ranges.pop(), n_asked + 1
        is_all = (low, high) == (1, _LAST)
        term = query.text if is_all else f"({query.text}) AND {low}:{high}[UID]"
        path = "/entrez/eutils/esearch.fcgi"
        reply = live.ask("ncbi", path, _found_ids, db="pubmed", retmode="json", term=term, retmax=_DEEP, **dates)
        found = json.loads(live.sound(reply, "ncbi"))["esearchresult"]
        if int(found["count"]) > _DEEP and low < high and n_asked < PARTS:
            middle = (low + high) // 2
            ranges += [(low, middle), (middle + 1, high)]
        else:
            yield from (each for each in found["idlist"] if isinstance(each, str) and re.fullmatch("[0-9]{1,9}", each))


def _whole_set(body: bytes) -> str:
    """Check a reply of EFetch."""
    is_whole = b"<PubmedArticleSet" in body[:2_000] and re.search(rb"(</PubmedArticleSet>|/>)\s*$", body[-200:])
    return "" if is_whole else "its reply is no whole set of records"


def _found_ids(body: bytes) -> str:
    """Check a reply of ESearch."""
    found = as_object(as_object(parse_json(body)).get("esearchresult"))
    if error := found.get("ERROR"):
        return f"it says {str(error)[:200]!r}"
    is_sound = isinstance(found.get("idlist"), list) and re.fullmatch(r"[0-9]{1,12}", str(found.get("count")))
    return "" if is_sound else "its reply is no result of a search"
