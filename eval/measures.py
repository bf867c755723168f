"""The measures: retrieval's through `ir_measures`, intervals and tests by resampling with a fixed seed.

nDCG has linear gain, as trec_eval computes it. Every mean is over all judged queries; one that a run does not answer
counts 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import RR, R, Success, nDCG

from eval.data import Qrels, Run

RETRIEVAL = {
    "nDCG@10": nDCG @ 10,
    "Recall@5": R @ 5,
    "Recall@10": R @ 10,
    "Recall@10 (grade 2)": R(rel=2) @ 10,
    "Recall@100": R @ 100,
    "MRR@10": RR @ 10,
    "Success@1": Success @ 1,
    "Success@5": Success @ 5,
}
SEED, RESAMPLES = 20_24, 10_000
PerQuery = dict[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval, over n queries."""

    mean: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Return the JSON form."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def score_run(qrels: Qrels, run: Run, measures: Sequence[str] = tuple(RETRIEVAL)) -> dict[str, PerQuery]:
    """Return the value of each of these measures for each judged query."""
    wanted = {name: RETRIEVAL[name] for name in measures}
    judged = [ir_measures.Qrel(query, doc, grade) for query, docs in qrels.items() for doc, grade in docs.items()]
    found = [ir_measures.ScoredDoc(query, doc, score) for query, docs in run.items() for doc, score in docs.items()]
    values = {name: dict.fromkeys(qrels, 0.0) for name in wanted}
    names = {measure: name for name, measure in wanted.items()}
    for each in ir_measures.iter_calc(list(wanted.values()), judged, found):
        if each.query_id in qrels:
            values[names[each.measure]][each.query_id] = float(each.value)
    return values


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean with its percentile-bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""
    if not values:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    array = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(SEED).integers(0, len(array), size=(RESAMPLES, len(array)))
    means = array[picks].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(round(float(array.mean()), 6), round(float(low), 6), round(float(high), 6), len(array))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same queries: B minus A."""

    difference: Estimate
    p: float
    wins: int
    losses: int
    ties: int


def compare(a: Mapping[str, float], b: Mapping[str, float]) -> Comparison:
    """Test by paired randomisation whether B differs from A (Smucker, Allan and Carterette, CIKM 2007, section 3.1).

    p = share of random sign flips of the differences whose mean is at least as far from 0, one added to both counts.
    """
    shared = sorted(a.keys() & b.keys())
    differences = np.array([b[query] - a[query] for query in shared])
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], size=(RESAMPLES, len(differences)))
    far = np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()) - 1e-12
    return Comparison(
        estimate(differences.tolist()),
        (int(far.sum()) + 1) / (RESAMPLES + 1),
        int((differences > 0).sum()),
        int((differences < 0).sum()),
        int((differences == 0).sum()),
    )
