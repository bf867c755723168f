"""Question -> ranked papers: dense and BM25, fused; one hit a paper, with its best passage.

Dense and lexical evidence are both measured on scales that do not depend on what else was found: a cosine, and the
share of the query's own lexical weight that a paper matches. So a query whose words the library hardly knows (a
paraphrase) is ranked by meaning, and one that names things is ranked by names, without any per-query switch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from assistant import abstain
from assistant.config import nearest
from assistant.embed import Encoder
from assistant.errors import ConfigError, StoreError
from assistant.identity import normalised_title
from assistant.index import Floats, Index, Ints
from assistant.rerank import Reranker
from assistant.store import Store
from assistant.text import plain_terms, terms
from assistant.types import Hit, Hits

GRANULARITIES = (1.0, 2.0, 1.0)
"""Weights of the cosines of whole abstract, best chunk and best sentence."""
_WEIGHTS = np.array(GRANULARITIES, dtype=np.float32) / sum(GRANULARITIES)
LEXICAL_WEIGHT, LEXICAL_POWER = 1.5, 1.3
"""Weight of the matched share of the query's lexical weight against the mean cosine, and the power it is raised to: a
decisive match counts for more than several faint ones."""
NEIGHBOURS, NEIGHBOUR_SHARE = 5, 0.36
"""A paper's score takes this share, times their likeness to it, from its nearest papers among the candidates: what its
neighbours are about, it probably is, too (score regularisation; Diaz, CIKM 2005, section 4)."""
NEIGHBOUR_POOL = 200
"""So many of the best candidates have neighbours, and are some."""
UNKNOWN_TERM = 0.5
"""An unknown term counts this much of its idf in the query's lexical weight: it should not silence the other words."""
DEPTH = 200
"""Candidates taken from each retriever before fusion, at least."""
RERANKED = 50
"""So many of the best papers are put before a reranker."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched, in the two forms that retrievers read."""

    text: str
    vector: Floats
    terms: tuple[str, ...]
    plain: frozenset[str]
    """Those that may be misspelt; see `plain_terms`."""

    @classmethod
    def of(cls, text: str, encoder: Encoder) -> Query:
        """Encode a text."""
        return cls(text, encoder.encode_queries([text])[0], tuple(terms(text)), plain_terms(text))


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows of an index, best first, with their scores."""

    rows: Ints
    scores: Floats

    def ranks(self) -> dict[int, int]:
        """Return the rank, from 1, of each row."""
        return {row: rank for rank, row in enumerate(self.rows.tolist(), 1)}


class Retriever(Protocol):
    """Ranks the papers of an index for a query."""

    def rank(self, query: Query, allowed: NDArray[np.bool_], depth: int) -> Ranking:
        """Return at most `depth` of the rows that `allowed` admits, best first; ties by row."""


@dataclass(frozen=True, slots=True)
class Dense:
    """Papers by the best cosine of any chunk; scores -1 to 1."""

    index: Index
    search: str = "auto"
    """auto, exact or chroma; see `Config.search`."""

    def rank(self, query: Query, allowed: NDArray[np.bool_], depth: int) -> Ranking:
        """See `Retriever`. Chroma serves unfiltered queries alone; filters are exact, by scanning what they admit."""
        return self.look(query, allowed, depth)[0]

    def look(self, query: Query, allowed: NDArray[np.bool_], depth: int) -> tuple[Ranking, Floats | None]:
        """Return the ranking and, where all chunks were scanned for it, the score of every row."""
        if self.index.uses_chroma(self.search) and np.array_equal(allowed, self.index.alive):
            rows = self.index.nearest_chunks(query.vector, depth)
            rows = rows[allowed[rows]]
            return _top(rows, self.index.best_chunks(query.vector, rows), depth), None
        rows, scores = np.flatnonzero(allowed), self.index.chunk_scores(query.vector)
        return _top(rows, scores[rows], depth), scores


@dataclass(frozen=True, slots=True)
class Lexical:
    """Papers by BM25 as a share of the query's own weight, the sum of its terms' idf; scores 0 to 1."""

    index: Index

    def scores(self, query: Query) -> Floats:
        """Return the score of every row."""
        lexicon = self.index.lexicon
        meant = [self.index.respell(term) if term in query.plain else term for term in query.terms]
        weight = sum(lexicon.idf(t) * (1.0 if lexicon.knows(t) else UNKNOWN_TERM) for t in meant)
        return self.index.lexical_scores(meant) / np.float32(max(weight, 1e-9))

    def rank(self, query: Query, allowed: NDArray[np.bool_], depth: int) -> Ranking:
        """See `Retriever`; a paper that shares no term with the query is not found."""
        return self.rank_by(self.scores(query), allowed, depth)

    def rank_by(self, scores: Floats, allowed: NDArray[np.bool_], depth: int) -> Ranking:
        """Rank by scores that are known already."""
        rows = np.flatnonzero(allowed & (scores > 0))
        return _top(rows, scores[rows], depth)


@dataclass(frozen=True, slots=True)
class Explained:
    """A fused ranking, and what it was made from."""

    ranking: Ranking
    parts: dict[str, Ranking]
    """What each retriever found, by its name."""
    rows: Ints
    """The candidates, ascending."""
    cosines: Floats
    """Of each candidate, the best of all that is encoded of it."""

    def cosine(self, row: int) -> float:
        """Return that of one candidate."""
        return float(self.cosines[np.searchsorted(self.rows, row)])


@dataclass(frozen=True, slots=True)
class Fused:
    """The product's retriever: both lists' candidates, each scored by all evidence.

    own = mean of max(0, cosine) of whole abstract, best chunk and best sentence by `GRANULARITIES`
    + `LEXICAL_WEIGHT` * lexical share ** `LEXICAL_POWER`; score = own, a share of it taken from the mean of the
    `NEIGHBOURS` nearest candidates: `NEIGHBOUR_SHARE` * their mean cosine with the paper. `eval/STUDY.md` tells how
    each number was chosen.
    """

    dense: Dense
    lexical: Lexical

    def rank(self, query: Query, allowed: NDArray[np.bool_], depth: int) -> Ranking:
        """See `Retriever`."""
        return self.explain(query, allowed, depth).ranking

    def explain(self, query: Query, allowed: NDArray[np.bool_], depth: int) -> Explained:
        """Return the fused ranking and what it was made from."""
        lexical = self.lexical.scores(query)
        by_words = self.lexical.rank_by(lexical, allowed, depth)
        by_meaning, chunks = self.dense.look(query, allowed, depth)
        parts = {"dense": by_meaning, "bm25": by_words}
        is_candidate = np.zeros(len(allowed), dtype=bool)
        for part in parts.values():
            is_candidate[part.rows] = True
        rows = np.flatnonzero(is_candidate)
        index = self.dense.index
        best = index.best_chunks(query.vector, rows) if chunks is None else chunks[rows]
        cosines = np.stack([index.cosines(query.vector, rows), best, index.best_sentences(query.vector, rows)])
        own = _WEIGHTS @ np.maximum(cosines, 0.0) + LEXICAL_WEIGHT * lexical[rows] ** LEXICAL_POWER
        ranking = _top(rows, _smooth(index, rows, own.astype(np.float32)), depth)
        return Explained(ranking, parts, rows, cosines.max(axis=0, initial=-1.0))


def _smooth(index: Index, rows: Ints, own: Floats) -> Floats:
    """Mix the scores of neighbours into the best candidates' own; the others stay behind them.

    Args:
        index: Knows how like papers are.
        rows: (n,) the candidates.
        own: (n,) their scores.
    """
    pool = _top(np.arange(len(own)), own, NEIGHBOUR_POOL).rows
    if len(pool) <= NEIGHBOURS:
        return own
    likeness = index.likeness(rows[pool])
    np.fill_diagonal(likeness, -1.0)  # itself
    nearest = np.sort(likeness, axis=1)[:, -NEIGHBOURS:]
    near = (likeness >= nearest[:, :1]).astype(np.float32)  # more than so many where some are equally near
    share = NEIGHBOUR_SHARE * np.maximum(nearest.mean(axis=1), 0.0)
    best = own[pool]
    smoothed = np.float32(1 - NEIGHBOUR_SHARE) * own
    smoothed[pool] = (1 - share) * best + share * (near @ best) / near.sum(axis=1)
    return smoothed


def search(  # noqa: PLR0913 - settings by name
    store: Store,
    index: Index,
    encoder: Encoder,
    text: str,
    *,
    k: int,
    where: Sequence[str] = (),
    how: str = "auto",
    reranker: Reranker | None = None,
) -> Hits:
    """Return the `k` best papers for `text`.

    Args:
        store: The library.
        index: Its index.
        encoder: The encoder of its vectors.
        text: What is searched.
        k: Most hits, > 0.
        where: Conditions that all must hold; see `parse_where`.
        how: `Config.search`.
        reranker: Puts the best papers in its own order; their scores stay those of the places.

    Raises:
        ConfigError: A condition that cannot be read.
        StoreError: The library cannot be read.
    """
    if not len(index):
        return Hits(text, text, reason="empty_library: the library holds no papers; add some with `assistant ingest`")
    allowed = index.alive
    if where:
        condition, values, names = parse_where(where)
        allowed = allowed & index.mask((condition, *values), lambda: store.numbers(condition, values))
        if not allowed.any():
            return Hits(text, text, reason=_why_excluded(store, where, names))
    query = Query.of(text, encoder)
    hits, warnings = _find(store, index, query, allowed, max(k, RERANKED) if reranker else k, how)
    hits = _rerank(text, hits, reranker)[:k] if reranker and hits else hits
    return Hits(
        text, text, tuple(hits), None if hits else "no_match: nothing in the library resembles the query", warnings
    )


def _find(  # noqa: PLR0913, PLR0917 - what a search consists of
    store: Store, index: Index, query: Query, allowed: NDArray[np.bool_], k: int, how: str
) -> tuple[list[Hit], tuple[str, ...]]:
    """Return the best papers, and what could not be done as it should."""
    warnings, depth = index.warnings, max(DEPTH, 2 * k)
    try:
        found = Fused(Dense(index, how), Lexical(index)).explain(query, allowed, depth)
    except StoreError as error:
        # Chroma is derived data: an exact scan gives the same hits, later.
        warnings = (*warnings, f"searched by exact scan: {error}")
        found = Fused(Dense(index, "exact"), Lexical(index)).explain(query, allowed, depth)
    ranking = _cover_names(_named_first(found.ranking, index, store, query.text), index, query.text, k)
    ranks = {name: part.ranks() for name, part in found.parts.items()}
    rows = ranking.rows[:k]
    numbers = index.numbers[rows].tolist()
    papers, spans = index.papers(store, numbers), index.passages(query.vector, rows)
    hits: list[Hit] = []
    for row, n, score, span in zip(rows.tolist(), numbers, ranking.scores.tolist(), spans, strict=False):
        stored = papers.get(n)
        if stored is None:
            continue  # Removed since the index was opened.
        text = stored.paper.abstract
        start, end = (0, len(text)) if stored.version > index.epoch else span  # All of it, if it has changed since.
        by = {name: own[row] for name, own in ranks.items() if row in own}
        hits.append(Hit(len(hits) + 1, score, stored.paper, text[start:end], start, end, by, found.cosine(row)))
    return hits, warnings


def _rerank(text: str, hits: list[Hit], reranker: Reranker) -> list[Hit]:
    scores = reranker.score(text, [f"{hit.paper.title}. {hit.passage}" for hit in hits])
    order = np.argsort(-scores, kind="stable").tolist()
    return [
        replace(hits[i], rank=rank, score=hits[rank - 1].score, retrievers={**hits[i].retrievers, "reranker": rank})
        for rank, i in enumerate(order, 1)
    ]


def _named_first(ranking: Ranking, index: Index, store: Store, text: str) -> Ranking:
    """Put the papers whose title is the query first: whoever pastes a title wants that paper."""
    named = store.numbers("n IN (SELECT n FROM aliases WHERE alias = ?)", [f"title:{normalised_title(text)}"])
    first = _among(index.numbers[ranking.rows], named)
    if not first.any():
        return ranking
    order = np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])
    scores = ranking.scores.copy()
    scores[first] = scores.max()
    return Ranking(ranking.rows[order], scores[order])


def _cover_names(ranking: Ranking, index: Index, text: str, k: int) -> Ranking:
    """Let each thing that the query names have a paper among the `k` best: a comparison needs all its sides.

    A name that none of them mentions brings its best paper to the last place that no other name needs.
    """
    if not (named := abstain.names(text)):
        return ranking
    rows = ranking.rows.tolist()
    held = [_among(ranking.rows, index.holding(terms(name))) for name in named]
    wanted = [set(ranking.rows[by].tolist()) for by in held if by.any()]
    for by in wanted:
        first = next(i for i, row in enumerate(rows) if row in by)
        free = [i for i, row in enumerate(rows[:k]) if not any(row in own for own in wanted)]
        if first >= k and free:
            paper, displaced = rows.pop(first), rows.pop(free[-1])
            rows[k - 1 : k - 1] = [paper, displaced]
    return Ranking(np.array(rows, dtype=np.int64), ranking.scores)


def _among(rows: Ints, known: Ints) -> NDArray[np.bool_]:
    """Tell of each row whether it is one of those known, which ascend."""
    if not len(known):
        return np.zeros(len(rows), dtype=bool)
    places = np.minimum(np.searchsorted(known, rows), len(known) - 1)
    return cast("NDArray[np.bool_]", known[places] == rows)


def _top(rows: Ints, scores: Floats, depth: int) -> Ranking:
    """Return the best `depth` rows without sorting all of them; ties by row."""
    if len(rows) > depth:
        # Everything that ties with the last one is kept until the stable sort has decided.
        keep = scores >= np.partition(scores, len(scores) - depth)[len(scores) - depth]
        rows, scores = rows[keep], scores[keep]
    order = np.lexsort((rows, -scores))[:depth]
    return Ranking(rows[order], scores[order])


# --- Filters ----------------------------------------------------------------------------------------------------------

_CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|!=|==|=|<|>|~)\s*(.+?)\s*$", re.DOTALL)
_FIELDS = ("year", "venue", "author", "title", "doi", "id")


def parse_where(where: Sequence[str]) -> tuple[str, list[object], list[str]]:
    """Read conditions such as `year>=2022`, `year=2020..2023`, `venue=CVPR`, `author~Dosovitskiy`, `id=...`.

    `=` compares without regard to case, `~` looks for a part of the text. A paper without the field does not match.

    Returns:
        An SQL condition, its values, and the columns that it names.

    Raises:
        ConfigError: An unknown field or operator, or a year that is no number.
    """
    clauses, values, names = [], [], []
    for each in where:
        match = _CONDITION.match(each)
        if not match:
            raise ConfigError(
                f"cannot read the condition {each!r}; write it like year>=2022, venue=CVPR or author~Dosovitskiy"
            )
        field, operator, value = match[1].lower(), match[2].replace("==", "="), match[3].strip("'\"")
        if field not in _FIELDS:
            hint = nearest(field, _FIELDS) or f"; the fields are {', '.join(_FIELDS)}"
            raise ConfigError(f"unknown field {field!r} in the condition {each!r}{hint}")
        clause, bound = _year(each, operator, value) if field == "year" else _textual(each, field, operator, value)
        clauses.append(f"({clause})")
        values.extend(bound)
        names.append({"author": "authors"}.get(field, field))
    return " AND ".join(clauses), values, names


def _year(condition: str, operator: str, value: str) -> tuple[str, list[object]]:
    span = re.fullmatch(r"(\d{1,4})?\s*\.\.\s*(\d{1,4})?", value)
    if span and operator == "=" and (span[1] or span[2]):
        return "year BETWEEN ? AND ?", [int(span[1] or 0), int(span[2] or 9999)]
    if operator == "~" or not re.fullmatch(r"\d{1,4}", value):
        raise ConfigError(f"cannot read the year in {condition!r}; write it like year>=2022 or year=2020..2023")
    return f"year {operator} ?", [int(value)]


def _textual(condition: str, field: str, operator: str, value: str) -> tuple[str, list[object]]:
    if operator not in {"=", "~", "!="}:
        raise ConfigError(f"{field} cannot be compared by {operator} in {condition!r}; use =, != or ~ (contains)")
    wanted = value.casefold()
    if field == "id":
        negate = "NOT " if operator == "!=" else ""
        return f"{negate}(id = ? OR n IN (SELECT n FROM aliases WHERE alias = ?))", [value, value]
    if field == "author":
        test = {"=": "fold(value) = ?", "!=": "fold(value) = ?", "~": "instr(fold(value), ?)"}[operator]
        negate = "authors != '[]' AND NOT " if operator == "!=" else ""
        return f"{negate}EXISTS (SELECT 1 FROM json_each(authors) WHERE {test})", [wanted]
    return {"=": f"fold({field}) = ?", "!=": f"fold({field}) != ?", "~": f"instr(fold({field}), ?)"}[operator], [wanted]


def _why_excluded(store: Store, where: Sequence[str], names: Sequence[str]) -> str:
    total, _ = store.counts()
    without = []
    for name in dict.fromkeys(names):
        empty = {"authors": "authors = '[]'", "title": "title = ''"}.get(name, f"{name} IS NULL")
        missing = len(store.numbers(empty))
        if missing:
            without.append(f"; {missing} have no {name.rstrip('s') if name == 'authors' else name}")
    return f"filter_excluded_all: none of {total} papers match {' and '.join(where)}{''.join(without)}"
