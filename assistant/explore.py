"""A library looked at without a question: papers like a paper, counts by year, venue, author and source, pages of it.

Counts of a whole library are made in SQL, so that memory does not grow with it; those of a handful of papers are made
from the papers. Refused: a paper that is not there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from assistant.clean import clean
from assistant.errors import ConfigError
from assistant.index import Index
from assistant.products import scan
from assistant.retrieve import parse_where
from assistant.store import Store
from assistant.types import Paper

TOP = 20
"""Most values shown of a facet; years are all shown."""
SIMILAR_POOL = 200
"""So many of the nearest whole abstracts are compared chunk by chunk."""
ORDERS = {"entry": "n", "newest": "year IS NULL, year DESC, n", "title": "fold(title), n"}
"""In which order papers are listed."""

T = TypeVar("T", bound=Hashable)

# --- Similar papers ---------------------------------------------------------------------------------------------------


def similar(store: Store, index: Index, paper_id: str, k: int = 10) -> tuple[tuple[Paper, float], ...]:
    """Return the papers nearest to a paper, best first, each with its score.

    Score = mean of two cosines: of the whole abstracts, and of the two chunks, one of each, that are nearest; -1 to 1.

    Args:
        store: The library.
        index: Its index.
        paper_id: The paper's id or alias.
        k: Most papers, > 0; the paper itself is never among them.

    Raises:
        ConfigError: There is no such paper.
    """
    paper = store.paper(paper_id)
    units = store.units(paper.id) if paper else None
    if paper is None or units is None:
        raise ConfigError(f"there is no paper {paper_id!r} in {store.folder}; `assistant papers` lists them")
    vectors = units.vectors[: 1 + len(units.chunks)].astype(np.float32)
    whole = np.concatenate([scan(part.whole.array, vectors[:1])[0] for part in index.parts])
    rows = np.flatnonzero(index.alive & ~np.isin(index.numbers, store.numbers("id = ?", [paper.id])))
    rows = np.sort(rows[np.argsort(-whole[rows], kind="stable")[: max(SIMILAR_POOL, 4 * k)]])
    chunks = np.max([index.best_chunks(vector, rows) for vector in vectors[1:]], axis=0, initial=-1.0)
    scores = (whole[rows] + chunks) / 2
    best = [int(i) for i in np.argsort(-scores, kind="stable")[:k]]
    papers = store.get([int(index.numbers[rows[i]]) for i in best])
    found = ((papers.get(int(index.numbers[rows[i]])), float(scores[i])) for i in best)
    return tuple((stored.paper, score) for stored, score in found if stored)


# --- Counts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facets:
    """How many papers have which value; each facet the most frequent first, equals by value, years ascending."""

    papers: int
    years: tuple[tuple[int, int], ...]
    venues: tuple[tuple[str, int], ...]
    authors: tuple[tuple[str, int], ...]
    """Anywhere among the authors."""
    first_authors: tuple[tuple[str, int], ...]
    sources: tuple[tuple[str, int], ...]
    """A paper counts for each of its sources."""
    without: dict[str, int]
    """Papers whose year, venue or author is unknown."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def facets(papers: Sequence[Paper], store: Store | None = None, *, top: int = TOP) -> Facets:
    """Count some papers, such as those of a search.

    Args:
        papers: Each once.
        store: Where the sources of papers that do not carry them are looked up; None: only those carried count.
        top: Most values of a facet.
    """
    years = Counter(paper.year for paper in papers if paper.year is not None)
    sources = _top((source for paper in papers for source in paper.sources), top)
    if store is not None:
        ids = json.dumps([paper.id for paper in papers])
        sources = _sources(store, "id IN (SELECT value FROM json_each(?))", [ids], top)
    return Facets(
        papers=len(papers),
        years=tuple(sorted(years.items())),
        venues=_top((paper.venue for paper in papers if paper.venue), top),
        authors=_top((author for paper in papers for author in dict.fromkeys(paper.authors)), top),
        first_authors=_top((paper.authors[0] for paper in papers if paper.authors), top),
        sources=sources,
        without={
            "year": len(papers) - years.total(),
            "venue": sum(not paper.venue for paper in papers),
            "author": sum(not paper.authors for paper in papers),
        },
    )


def overview(store: Store, text: str = "", *, where: Sequence[str] = (), top: int = TOP) -> Facets:
    """Count a whole library, or what a text and conditions leave of it; see `browse`."""
    condition, values = _condition(text, where)
    chosen = f"FROM papers WHERE {condition}"
    # json_each has columns of its own called id and value, so that it sees no others.
    each_author = f"FROM (SELECT n, authors {chosen}) AS chosen, json_each(chosen.authors)"
    by_year = store.select(f"SELECT year, count(*) {chosen} GROUP BY year ORDER BY year", values)
    totals = store.select(
        f"SELECT count(*), sum(coalesce(venue, '') = ''), sum(authors = '[]'), sum(year IS NULL) {chosen}", values
    )[0]

    def most(sql: str) -> tuple[tuple[str, int], ...]:
        rows = store.select(f"{sql} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?", [*values, top])
        return tuple((str(value), int(n)) for value, n in rows)

    return Facets(
        papers=int(totals[0]),
        years=tuple((int(year), int(n)) for year, n in by_year if year is not None),
        venues=most(f"SELECT venue, count(*) {chosen} AND coalesce(venue, '') != ''"),
        authors=most(f"SELECT json_each.value, count(DISTINCT chosen.n) {each_author}"),
        first_authors=most(f"SELECT json_each.value, count(*) {each_author} WHERE json_each.key = 0"),
        sources=_sources(store, condition, values, top),
        without={"year": int(totals[3] or 0), "venue": int(totals[1] or 0), "author": int(totals[2] or 0)},
    )


# --- Pages ------------------------------------------------------------------------------------------------------------


def browse(  # noqa: PLR0913 - settings by name
    store: Store,
    text: str = "",
    *,
    where: Sequence[str] = (),
    order: str = "entry",
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Paper], int]:
    """Return one page of the papers whose title, authors or venue hold every word of `text`, and how many there are.

    Args:
        store: The library.
        text: As it is typed; words may be unfinished.
        where: Conditions that all must hold, such as `year=2020..2023`; see `assistant.retrieve.parse_where`.
        order: entry, newest or title.
        limit: Most papers on the page.
        offset: Papers before it.

    Raises:
        ConfigError: An unknown order, or a condition that cannot be read.
    """
    if order not in ORDERS:
        raise ConfigError(f"unknown order {order!r}; the orders are {', '.join(ORDERS)}")
    condition, values = _condition(text, where)
    total = int(store.select(f"SELECT count(*) FROM papers WHERE {condition}", values)[0][0])
    rows = store.select(
        f"SELECT n FROM papers WHERE {condition} ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?", [*values, limit, offset]
    )
    numbers = [int(row[0]) for row in rows]
    papers = store.get(numbers)
    return [papers[n].paper for n in numbers if n in papers], total


def _condition(text: str, where: Sequence[str]) -> tuple[str, list[object]]:
    """Return an SQL condition and its values."""
    condition, values, _ = parse_where([where] if isinstance(where, str) else where) if where else ("1", [], [])
    for word in clean(text).casefold().split():
        if word.isascii():
            # LIKE sees no case in ASCII, and is ten times quicker than folding each text.
            pattern = "%" + "".join(f"\\{c}" if c in "\\%_" else c for c in word) + "%"
            condition += r" AND (title LIKE ? ESCAPE '\' OR authors LIKE ? ESCAPE '\' OR venue LIKE ? ESCAPE '\')"
        else:
            pattern = word
            condition += " AND (instr(fold(title), ?) OR instr(fold(authors), ?) OR instr(fold(venue), ?))"
        values = [*values, *[pattern] * 3]
    return condition, values


def _sources(store: Store, condition: str, values: Sequence[object], top: int) -> tuple[tuple[str, int], ...]:
    rows = store.select(
        f"SELECT source, count(DISTINCT n) FROM records WHERE n IN (SELECT n FROM papers WHERE {condition})"
        " GROUP BY source ORDER BY 2 DESC, 1 LIMIT ?",
        [*values, top],
    )
    return tuple((str(source), int(n)) for source, n in rows)


def _top(values: Iterable[T], top: int) -> tuple[tuple[T, int], ...]:
    counted = Counter(values)
    return tuple(sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))[:top])
