"""Fit the refusal: when is it better to say that the library does not hold the answer?

Examples: the answerable questions; the unanswerable ones; claims from another field; each answerable question that is
about one paper asked again of the library without that paper; and questions made of a paper's title and a detail that
its abstract does not tell. The model is a logistic regression over the few
signals of `assistant.abstain`; what it would do is estimated by repeated 10-fold cross-validation, never on what it was
fitted to.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from assistant.abstain import DETAILS, WEAK_MATCH, Signals, read_signals
from assistant.embed import Encoder
from assistant.followup import searched_text
from assistant.index import Index
from assistant.retrieve import search
from assistant.store import Store
from assistant.types import Paper
from eval.data import Qrels, Question

FALSE_REFUSALS = 0.05
"""Share of answerable questions that the threshold may refuse, by cross-validation."""
SHARES = {"unanswerable": 60.0, "without": 40.0, "off_topic": 40.0, "made": 40.0}
"""Weight of each kind of negative example, as a number of answerable questions."""
REPEATS, FOLDS = 20, 10
MADE_EVERY = 4
"""Of so many papers one gets a question on a detail."""
FORMS = ("What {detail} does {name} use?", "Which {detail} was reported for {name}?", "{name}: what is the {detail}?")


def examples(  # noqa: PLR0913, PLR0917 - what a library is made of
    store: Store, index: Index, encoder: Encoder, questions: Sequence[Question], qrels: Qrels, off_topic: Sequence[str]
) -> list[tuple[str, Signals]]:
    """Return the signals of every example with its group: answerable, unanswerable, without, off_topic, made."""
    idf = index.lexicon.idf
    found: list[tuple[str, Signals]] = []
    for each in tqdm(questions, desc="measuring", unit=" questions"):
        text = searched_text(each.question, each.history)
        hits = search(store, index, encoder, text, k=30)
        found.append(("answerable" if each.answerable else "unanswerable", read_signals(each.question, hits, idf)))
        gold = qrels.get(each.id, {})
        if each.kind in {"fact", "named", "followup", "messy"}:
            rest = tuple(hit for hit in hits if hit.paper.id not in gold)
            found.append(("without", read_signals(each.question, dataclasses.replace(hits, hits=rest), idf)))
    for claim in tqdm(off_topic, desc="measuring", unit=" claims"):
        hits = search(store, index, encoder, claim, k=5)
        found.append(("off_topic", read_signals(claim, hits, idf)))
    for question in tqdm(list(_made(store.papers())), desc="measuring", unit=" details"):
        hits = search(store, index, encoder, question, k=5)
        found.append(("made", read_signals(question, hits, idf)))
    return found


def _made(papers: Sequence[Paper]) -> Iterator[str]:
    """Yield questions on details that the abstract of the paper they name does not tell."""
    details = list(DETAILS.items())
    for i, paper in enumerate(papers[::MADE_EVERY]):
        detail, told = details[i % len(details)]
        name = paper.title.split(":")[0]
        if not re.search(rf"\b(?:{told})", f"{paper.title} {paper.abstract}", re.IGNORECASE):
            yield FORMS[i % len(FORMS)].format(detail=detail, name=name)


def fit(found: Sequence[tuple[str, Signals]]) -> dict[str, Any]:
    """Return the content of `refusal.json`: weights, bias, threshold and the cross-validated operating curve."""
    names = [each.name for each in dataclasses.fields(Signals)]
    groups = np.array([group for group, _ in found])
    x = np.array([[getattr(signals, name) for name in names] for _, signals in found])
    y = (groups == "answerable").astype(int)
    weight = np.ones(len(y))
    for group, share in SHARES.items():
        weight[groups == group] = share / max(1, int((groups == group).sum()))
    out = np.mean([_cross_validate(x, y, weight, seed) for seed in range(REPEATS)], axis=0)
    out[x[:, names.index("score")] < WEAK_MATCH] = 0.0
    threshold = float(np.quantile(out[y == 1], FALSE_REFUSALS))
    model = _model().fit(x, y, sample_weight=weight)
    curve = [
        {"threshold": round(float(t), 3)}
        | {group: round(float((out[groups == group] < t).mean()), 3) for group in ("answerable", *SHARES)}
        for t in [*np.arange(0.05, 1.0, 0.05), threshold]
    ]
    return {
        "weights": {name: round(float(w), 4) for name, w in zip(names, model.coef_[0], strict=True)},
        "bias": round(float(model.intercept_[0]), 4),
        "threshold": round(threshold, 4),
        "curve": sorted(curve, key=lambda row: row["threshold"]),
        "examples": {group: int((groups == group).sum()) for group in ("answerable", *SHARES)},
    }


def _cross_validate(x: Any, y: Any, weight: Any, seed: int) -> Any:
    out = np.zeros(len(y))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y):
        out[test] = _model().fit(x[train], y[train], sample_weight=weight[train]).predict_proba(x[test])[:, 1]
    return out


def _model() -> Any:
    return LogisticRegression(C=5.0)
