"""The study that chose the defaults of retrieval: one recipe, and what happens when one part of it is changed.

In: collections and recipes. Out: for each changed recipe its nDCG@10 on each collection, with the paired difference
from the default; and what choosing the numbers by cross-validation would have given. A recipe is scored from the same
vectors and terms that the product uses; that the default ranks as the product does is held by a test.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import bm25s
import numpy as np
from numpy.typing import NDArray

from assistant.chunk import TITLE_TOKENS, chunk_abstract, split_sentences
from assistant.config import cache_folder
from assistant.embed import Encoder
from assistant.followup import searched_text
from assistant.index import TITLE_WEIGHT
from assistant.ingest import identity
from assistant.lexicon import K1, B, Lexicon
from assistant.retrieve import (
    DEPTH,
    GRANULARITIES,
    LEXICAL_POWER,
    LEXICAL_WEIGHT,
    NEIGHBOUR_POOL,
    NEIGHBOUR_SHARE,
    NEIGHBOURS,
    UNKNOWN_TERM,
)
from assistant.text import STOP_WORDS, WORD, plain_terms, terms
from assistant.types import Paper
from eval.data import Collection, Qrels, Question, judge
from eval.measures import SEED, PerQuery, compare, estimate, score_run
from eval.retrieval import RRF_K

Floats = NDArray[np.float32]
_BATCH = 512
LARGE = 900
"""A collection with more documents is not encoded anew for each kind of unit."""
FOLDS = 10


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a score is made; the defaults are the product's."""

    units: tuple[str, ...] = ("whole", "chunk-128", "sentence")
    """What is embedded: whole, chunk-N, sentence, title; `-bare` leaves the title out (or, of a sentence, `-titled`
    puts it in), `-overlap` begins a chunk with the last sentence of the one before."""
    weights: tuple[float, ...] = GRANULARITIES
    pool: str = "best"
    """Of a paper's chunks or sentences: best, or mean of the best two."""
    fusion: str = "share"
    """share: cosine + weight * (share of the query's own lexical weight) ** power; best: cosine + weight * bm25 / best
    bm25 of the query; rrf; dense; bm25."""
    weight: float = LEXICAL_WEIGHT
    power: float = LEXICAL_POWER
    unknown: float = UNKNOWN_TERM
    method: str = "lucene"
    stem: bool = True
    respell: bool = True
    title_weight: int = TITLE_WEIGHT
    k1: float = K1
    b: float = B
    feedback: tuple[int, float] = (0, 0.0)
    """Papers whose vectors are added to the query's, and their weight."""
    neighbours: tuple[int, float] = (NEIGHBOURS, NEIGHBOUR_SHARE)
    """Nearest papers whose mean score is mixed into a paper's own, and its share."""
    forms: tuple[str, ...] = ("asked",)
    """Forms of the query whose vectors are averaged: asked; content, without its stop words."""


def variants() -> Iterator[tuple[str, str, Recipe]]:
    """Yield (part, variant, recipe): the default, then each change of one part."""
    yield "all", "default", Recipe()
    for text, units, weights in (
        ("whole alone", ("whole",), (1,)),
        ("chunks alone", ("chunk-128",), (1,)),
        ("sentences alone", ("sentence",), (1,)),
        ("whole and chunks", ("whole", "chunk-128"), (1, 1)),
        ("chunks and sentences", ("chunk-128", "sentence"), (1, 1)),
        ("all three alike", ("whole", "chunk-128", "sentence"), (1, 1, 1)),
        ("and the title alone", ("whole", "chunk-128", "sentence", "title"), (1, 2, 1, 1)),
        ("sentences with title", ("whole", "chunk-128", "sentence-titled"), GRANULARITIES),
        ("no title joined", ("whole-bare", "chunk-128-bare", "sentence"), GRANULARITIES),
    ):
        yield "units", text, Recipe(units=units, weights=weights)
    for size in (64, 96, 192, 256):
        yield "chunks", f"{size} tokens", Recipe(units=("whole", f"chunk-{size}", "sentence"))
    yield "chunks", "overlapping by a sentence", Recipe(units=("whole", "chunk-128-overlap", "sentence"))
    yield "chunks", "mean of the best two", Recipe(pool="two")
    for text, change in (
        ("no stemming", {"stem": False}),
        ("no respelling", {"respell": False}),
        ("title once", {"title_weight": 1}),
        ("title three times", {"title_weight": 3}),
        ("k1 1.2", {"k1": 1.2}),
        ("k1 0.9, b 0.4", {"k1": 0.9, "b": 0.4}),
        ("BM25+", {"method": "bm25+"}),
        ("BM25L", {"method": "bm25l"}),
        ("ATIRE's idf", {"method": "atire"}),
        ("unknown terms not counted", {"unknown": 0.0}),
        ("unknown terms in full", {"unknown": 1.0}),
    ):
        yield "lexical", text, Recipe(**change)
    for fusion in ("bm25", "dense", "rrf"):
        yield "fusion", fusion, Recipe(fusion=fusion, neighbours=(0, 0.0))
    for weight in (0.4, 0.67):
        yield "fusion", f"cosine + {weight} bm25 / best", Recipe(fusion="best", weight=weight)
    for power, weight in ((1.0, 0.5), (1.0, 0.8), (1.0, 1.1), (2.0, 1.5), (2.0, 3.0)):
        yield "fusion", f"cosine + {weight} share^{power:g}", Recipe(power=power, weight=weight)
    for n, share in ((0, 0.0), (3, 0.36), (10, 0.36), (5, 0.2), (5, 0.6)):
        yield "neighbours", f"{n}, share {share}" if n else "none", Recipe(neighbours=(n, share))
    for n, share in ((3, 0.2), (3, 0.4), (10, 0.3)):
        yield "feedback", f"{n} papers, weight {share}", Recipe(feedback=(n, share))
    yield "query", "content words", Recipe(forms=("content",))
    yield "query", "as asked and content words", Recipe(forms=("asked", "content"))


GRID = [
    Recipe(weights=weights, power=power, weight=weight, neighbours=(NEIGHBOURS, share))
    for weights in ((1, 1, 1), (1, 2, 1), (0, 1, 1))
    for power, weight in ((1.0, 0.5), (1.0, 0.8), (1.3, 1.5), (1.6, 1.8))
    for share in (0.0, 0.2, 0.36)
]
"""What cross-validation may choose from."""


@dataclass(frozen=True)
class Lab:
    """A collection with all that recipes need, made at first use and kept in the cache folder."""

    name: str
    encoder: Encoder
    ids: list[str]
    papers: list[tuple[str, str]]
    """Title and abstract of each document."""
    queries: dict[str, str]
    kinds: dict[str, str]
    qrels: Qrels
    _made: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of_questions(cls, name: str, encoder: Encoder, asked: Sequence[Question], papers: Sequence[Paper]) -> Lab:
        """Return the lab of a question file over papers; what is searched is what the product searches."""
        qrels = judge(list(asked), list(papers))
        asked = [question for question in asked if question.id in qrels]
        return cls(
            name, encoder, [paper.id for paper in papers], [(paper.title, paper.abstract) for paper in papers],
            {each.id: searched_text(each.question, each.history) for each in asked},
            {each.id: each.kind for each in asked}, {each.id: qrels[each.id] for each in asked},
        )  # fmt: skip

    @classmethod
    def of_collection(cls, name: str, encoder: Encoder, collection: Collection) -> Lab:
        """Return the lab of a collection."""
        queries = {each.id: each.question for each in collection.queries}
        papers = [(record.title, record.abstract) for record in collection.documents.values()]
        qrels = {query: collection.qrels[query] for query in queries}
        return cls(name, encoder, list(collection.documents), papers, queries, dict.fromkeys(queries, "all"), qrels)

    def score(self, recipe: Recipe) -> Floats:
        """Return the (queries, documents) scores of a recipe; -1 for what is no candidate."""
        vectors = self._queries(recipe.forms)
        scores = self._fuse(recipe, vectors)
        n, share = recipe.feedback
        if n:
            whole = self.vectors("whole")[0]
            moved = []
            for row, vector in zip(scores, vectors, strict=True):
                top = np.argsort(-row, kind="stable")[:n]
                weight = np.exp((row[top] - row[top[0]]) * 5)
                moved.append(vector + share * (weight @ whole[top]) / weight.sum())
            scores = self._fuse(recipe, _unit(np.array(moved)))
        return self._smooth(recipe, scores) if recipe.neighbours[0] else scores

    def _smooth(self, recipe: Recipe, scores: Floats) -> Floats:
        """Mix in the scores of neighbours among the candidates, as the product does."""
        n, most = recipe.neighbours
        whole, out = self.vectors("whole")[0], np.full_like(scores, -1.0)
        for row, rows in enumerate(self._candidates(recipe)):
            own = scores[row, rows]
            pool = np.argsort(-own, kind="stable")[:NEIGHBOUR_POOL]
            likeness = whole[rows] @ whole[rows[pool]].T
            likeness[pool, np.arange(len(pool))] = -1.0
            near = np.argpartition(-likeness, n - 1, axis=1)[:, :n]
            share = most * np.maximum(np.take_along_axis(likeness, near, axis=1).mean(axis=1), 0)
            out[row, rows] = (1 - share) * own + share * own[pool][near].mean(axis=1)
        return out

    def _candidates(self, recipe: Recipe) -> list[NDArray[np.int64]]:
        """Return for each query the best rows of either retriever."""
        lexical = self._lexical(recipe)[0]

        def make() -> list[NDArray[np.int64]]:
            matrix, starts = self.vectors("chunk-128")
            dense = _pool(self._queries(("asked",)) @ matrix.T, starts, "best")
            best = [np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH] for scores in (dense, lexical)]
            return [np.union1d(*rows) for rows in zip(*best, strict=True)]

        return self._remember(("candidates", id(lexical)), make)  # type: ignore[no-any-return]

    def run(self, recipe: Recipe, depth: int = 100) -> dict[str, dict[str, float]]:
        """Return the ranking of each query."""
        scores = self.score(recipe)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        return {query: {self.ids[j]: float(scores[i, j]) for j in best[i]} for i, query in enumerate(self.queries)}

    def _fuse(self, recipe: Recipe, vectors: Floats) -> Floats:
        dense = self._dense(recipe, vectors)
        lexical, weights = self._lexical(recipe)
        if recipe.fusion == "dense":
            return dense
        if recipe.fusion == "bm25":
            return lexical
        if recipe.fusion == "rrf":
            found = np.where(lexical > 0, 1 / (RRF_K + _ranks(lexical)), 0)
            return (1 / (RRF_K + _ranks(dense)) + found).astype(np.float32)
        if recipe.fusion == "best":
            share = lexical / np.maximum(lexical.max(axis=1, keepdims=True), 1e-9)
        else:
            share = (lexical / weights[:, None]) ** recipe.power
        return cast("Floats", dense + recipe.weight * share)

    def _dense(self, recipe: Recipe, vectors: Floats) -> Floats:
        key = (recipe.units, recipe.pool, hashlib.sha256(vectors.tobytes()).hexdigest())
        parts = self._remember(
            key,
            lambda: [
                np.maximum(_pool(vectors @ rows.T, starts, recipe.pool), 0)
                for rows, starts in map(self.vectors, recipe.units)
            ],
        )
        return np.average(parts, axis=0, weights=recipe.weights).astype(np.float32)

    def _queries(self, forms: tuple[str, ...]) -> Floats:
        def make() -> Floats:
            texts = list(self.queries.values())
            return _unit(sum(self.encoder.encode_queries([_FORMS[form](text) for text in texts]) for form in forms))

        return self._remember(("queries", forms), make)  # type: ignore[no-any-return]

    def _lexical(self, recipe: Recipe) -> tuple[Floats, Floats]:
        """Return BM25 (queries, documents) and each query's own weight, the sum of its terms' idf."""
        key = (
            "bm25",
            recipe.method,
            recipe.stem,
            recipe.title_weight,
            recipe.k1,
            recipe.b,
            recipe.unknown,
            recipe.respell,
        )
        return self._remember(key, lambda: self._bm25(recipe))  # type: ignore[no-any-return]

    def _bm25(self, recipe: Recipe) -> tuple[Floats, Floats]:
        cut = terms if recipe.stem else _plain_terms
        bm25 = bm25s.BM25(k1=recipe.k1, b=recipe.b, method=recipe.method)
        documents = [cut(title) * recipe.title_weight + cut(abstract) for title, abstract in self.papers]
        bm25.index(documents, show_progress=False)
        lexicon = Lexicon.of(documents)
        scores, weights = [], []
        for text in self.queries.values():
            plain = plain_terms(text) if recipe.respell and recipe.stem else frozenset()
            query = [lexicon.respell(term) if term in plain else term for term in cut(text)]
            known = [term for term in query if lexicon.knows(term)]
            scores.append(bm25.get_scores(known) if known else np.zeros(len(documents)))
            weights.append(sum(lexicon.idf(t) * (1 if lexicon.knows(t) else recipe.unknown) for t in query))
        return np.array(scores, dtype=np.float32), np.maximum(np.array(weights, dtype=np.float32), 1e-9)

    def vectors(self, unit: str) -> tuple[Floats, NDArray[np.int64]]:
        """Return the vectors of one kind of unit, those of a paper together, and where each paper's begin."""
        return self._remember(("unit", unit), lambda: self._encode(unit))  # type: ignore[no-any-return]

    def _encode(self, unit: str) -> tuple[Floats, NDArray[np.int64]]:
        cuts = list(self._cut(unit))
        texts = [text for cut in cuts for text in cut]
        starts = np.concatenate([[0], np.cumsum([len(cut) for cut in cuts])]).astype(np.int64)
        digest = hashlib.sha256("\0".join([identity(self.encoder), *texts]).encode()).hexdigest()[:16]
        file = cache_folder() / "eval" / "study" / f"{unit}-{digest}.npy"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [self.encoder.encode_documents(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
            draft = file.with_suffix(".draft.npy")
            np.save(draft, np.concatenate(rows).astype(np.float16))
            draft.rename(file)
        return np.load(file).astype(np.float32), starts

    def _cut(self, unit: str) -> Iterator[list[str]]:
        """Yield the texts that are embedded for each paper."""
        kind, *options = unit.split("-")
        tokens = self._tokens if kind == "chunk" else [None] * len(self.papers)
        for (title, abstract), spans in zip(self._titled, tokens, strict=True):
            head = f"{title}. " if title and "bare" not in options else ""
            if kind == "title":
                yield [title or abstract]
            elif kind == "whole":
                yield [head + abstract]
            else:
                sentences = split_sentences(abstract) or [(0, len(abstract))]
                if kind == "sentence":
                    yield [(head if "titled" in options else "") + abstract[a:b] for a, b in sentences]
                    continue
                chunks = chunk_abstract(abstract, sentences, spans or [], int(options[0]))
                begins = [chunk.start for chunk in chunks] or [0]
                if "overlap" in options:
                    begins = [
                        begins[0],
                        *(max((a for a, _ in sentences if a < start), default=0) for start in begins[1:]),
                    ]
                ends = [chunk.end for chunk in chunks] or [len(abstract)]
                yield [head + abstract[a:b] for a, b in zip(begins, ends, strict=True)]

    @cached_property
    def _tokens(self) -> list[list[tuple[int, int]]]:
        return self.encoder.token_spans([abstract for _, abstract in self.papers])

    @cached_property
    def _titled(self) -> list[tuple[str, str]]:
        spans = self.encoder.token_spans([title for title, _ in self.papers])
        return [
            (title[: span[TITLE_TOKENS - 1][1]] if len(span) > TITLE_TOKENS else title, abstract)
            for (title, abstract), span in zip(self.papers, spans, strict=True)
        ]

    def _remember(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _content(text: str) -> str:
    return " ".join(word for word in text.split() if word.casefold().strip(".,?!") not in STOP_WORDS) or text


_FORMS: dict[str, Callable[[str], str]] = {"asked": str, "content": _content}


def _plain_terms(text: str) -> list[str]:
    return [word for word in WORD.findall(text.casefold()) if word not in STOP_WORDS]


def _pool(scores: Floats, starts: NDArray[np.int64], how: str) -> Floats:
    best = np.maximum.reduceat(scores, starts[:-1], axis=1)
    if how == "best":
        return best
    out = best.copy()
    for j, (a, b) in enumerate(pairwise(starts.tolist())):
        if b - a > 1:
            out[:, j] = np.partition(scores[:, a:b], b - a - 2, axis=1)[:, -2:].mean(axis=1)
    return out


def _ranks(scores: Floats) -> Floats:
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty(scores.shape, dtype=np.float32)
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[1] + 1, dtype=np.float32)[None], axis=1)
    return ranks


def _unit(rows: Any) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def study(labs: Sequence[Lab], progress: Callable[[str], None]) -> dict[str, Any]:
    """Return the rows of the study, and what cross-validation chooses and reaches."""
    values: dict[str, PerQuery] = {}
    rows = []
    for part, variant, recipe in variants():
        progress(f"{part}: {variant}")
        found = {}
        for lab in labs:
            if len(lab.papers) > LARGE and not set(recipe.units) <= set(Recipe().units):
                continue
            own = score_run(lab.qrels, lab.run(recipe), ["nDCG@10"])["nDCG@10"]
            default = values.setdefault(lab.name, own)
            versus = compare(default, own)
            found[lab.name] = estimate(list(own.values())).as_dict() | {
                "difference": versus.difference.as_dict(), "p": versus.p,
            } | {f"{kind} mean": mean for kind, mean in _by_kind(lab, own).items()}  # fmt: skip
        rows.append({"part": part, "variant": variant, "collections": found})
    progress("cross-validation")
    return {"what": "study", "collections": [lab.name for lab in labs], "rows": rows, "chosen": cross_validate(labs)}


def cross_validate(labs: Sequence[Lab]) -> dict[str, Any]:
    """Choose from `GRID` on nine tenths of each collection's queries, measure on the rest; every query once."""
    values = [
        [np.array(list(score_run(lab.qrels, lab.run(recipe), ["nDCG@10"])["nDCG@10"].values())) for lab in labs]
        for recipe in GRID
    ]
    fold = [np.random.default_rng(SEED).permutation(len(lab.queries)) % FOLDS for lab in labs]
    reached: list[list[float]] = [[] for _ in labs]
    chosen: Counter[int] = Counter()
    for k in range(FOLDS):
        macro = [np.mean([own[f != k].mean() for own, f in zip(each, fold, strict=True)]) for each in values]
        best = int(np.argmax(macro))
        chosen[best] += 1
        for i, own in enumerate(values[best]):
            reached[i].extend(own[fold[i] == k].tolist())
    return {
        "reached": {lab.name: estimate(each).as_dict() for lab, each in zip(labs, reached, strict=True)},
        "recipes": [
            {"weights": r.weights, "power": r.power, "weight": r.weight, "neighbour share": r.neighbours[1], "folds": n}
            for r, n in ((GRID[i], n) for i, n in chosen.most_common())
        ],
    }


def _by_kind(lab: Lab, values: PerQuery) -> dict[str, float]:
    kinds = sorted(set(lab.kinds.values()) - {"all"})
    return {
        kind: round(float(np.mean([values[query] for query in values if lab.kinds[query] == kind])), 6)
        for kind in kinds
    }
