"""Retrieval: the product's search beside BM25 alone, dense alone and reciprocal rank fusion, on the same library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from assistant.embed import Encoder
from assistant.followup import searched_text
from assistant.index import Index
from assistant.rerank import Reranker
from assistant.retrieve import Dense, Lexical, Query, Ranking, search
from assistant.store import Store
from eval.data import Qrels, Question, Run
from eval.measures import PerQuery, estimate, score_run

SYSTEMS = ("hybrid", "bm25", "dense", "rrf")
"""The product's search, and what it has to beat."""
SHOWN = 5
"""Titles kept of what was found for a query."""
DEPTH = 100
"""Documents kept of each ranking: Recall@100 needs no more."""
RRF_K = 60
"""Damping of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""


def fuse(rankings: list[Ranking], k: int = RRF_K) -> Ranking:
    """Merge rankings by reciprocal rank fusion: score = sum over rankings of 1 / (k + rank), rank from 1."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for row, rank in ranking.ranks().items():
            scores[row] = scores.get(row, 0.0) + 1 / (k + rank)
    rows = sorted(scores, key=lambda row: (-scores[row], row))
    return Ranking(np.array(rows, dtype=np.int64), np.array([scores[row] for row in rows], dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Systems:
    """The rankings that are compared, each from a question to documents by id."""

    store: Store
    index: Index
    encoder: Encoder
    reranker: Reranker | None = None

    def run(self, questions: list[Question]) -> dict[str, Run]:
        """Return a run of each system; all search the same text, history included."""
        ids = {n: paper.paper.id for n, paper in self.store.get(self.index.numbers.tolist()).items()}
        names = [ids[int(n)] for n in self.index.numbers]
        runs: dict[str, Run] = {name: {} for name in SYSTEMS}
        for question in tqdm(questions, desc="searching", unit=" questions"):
            text = searched_text(question.question, question.history)
            hits = search(self.store, self.index, self.encoder, text, k=DEPTH, reranker=self.reranker)
            runs["hybrid"][question.id] = {hit.paper.id: hit.score for hit in hits}
            query = Query.of(text, self.encoder)
            dense = Dense(self.index, "exact").rank(query, self.index.alive, DEPTH)
            bm25 = Lexical(self.index).rank(query, self.index.alive, DEPTH)
            for name, ranking in (("dense", dense), ("bm25", bm25), ("rrf", fuse([dense, bm25]))):
                best = ranking.rows[:DEPTH].tolist()
                runs[name][question.id] = {names[row]: float(s) for row, s in zip(best, ranking.scores, strict=False)}
        return runs


def evaluate(qrels: Qrels, kinds: Mapping[str, str], runs: Mapping[str, Run]) -> dict[str, Any]:
    """Return the table of each system, over all queries and by kind, and every query's values.

    Args:
        qrels: Judgements.
        kinds: Kind of each judged query.
        runs: Systems by name.
    """
    values = {name: score_run(qrels, run) for name, run in runs.items()}
    groups: dict[str, list[str]] = {"all": list(qrels)}
    for query in qrels:
        if kinds[query] != "all":
            groups.setdefault(kinds[query], []).append(query)

    def table(queries: list[str]) -> dict[str, Any]:
        mean: Callable[[PerQuery], Any] = lambda by_query: estimate([by_query[q] for q in queries]).as_dict()  # noqa: E731
        return {
            name: {measure: mean(by_query) for measure, by_query in found.items()} for name, found in values.items()
        }

    return {
        "systems": {group: table(queries) for group, queries in groups.items()},
        "per_query": {
            query: {
                "kind": kinds[query],
                **{name: {m: found[m][query] for m in found} for name, found in values.items()},
            }
            for query in qrels
        },
    }


def show_found(result: dict[str, Any], qrels: Qrels, run: Run, titles: Mapping[str, str]) -> None:
    """Add to each query of a result the titles of what was found, best first, and of what is missing in the top 10."""
    for query, values in result["per_query"].items():
        best = sorted(run.get(query, {}), key=lambda each: -run[query][each])[:10]
        values["found"] = [titles[each] for each in best[:SHOWN]]
        missed = [each for each, grade in qrels[query].items() if grade > 0 and each not in best]
        values["missed"] = [titles.get(each, each) for each in missed]
