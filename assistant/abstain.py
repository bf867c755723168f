"""Question + hits -> whether the library holds an answer: a calibrated decision before anything is said.

What retrieval says is not enough: a paper may be on the topic and yet leave out the detail that is asked for. So the
best paper's score and lead are joined with what it does not mention: of the things the question names (`WMT14`,
`Whisper`), of what it asks for (`which problem`, `how many kernels`), and of the details of an experiment, whose names
no abstract that tells them leaves out (`learning rate`, `GPU hours`, `BLEU`). The weights are fitted by
`python -m eval fit` and kept with their operating curve in `data/refusal.json`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from assistant.text import STOP_WORDS, terms
from assistant.types import Hits, Reason

MODEL = Path(__file__).parent / "data" / "refusal.json"
NO_MATCH, WEAK_MATCH = 0.26, 0.32
"""Best scores below which nothing is answered, whatever else: .32 refuses 95 % of off-topic claims and 2 % of good
questions."""

ABSTENTIONS: dict[Reason, str] = {
    "empty_library": "The library is empty: there is nothing to answer from. Add papers first.",
    "filter_excluded_all": "No paper of the library passes the filter, so there is nothing to answer from.",
    "no_match": "The library holds nothing on this question.",
    "weak_match": "The library holds nothing that fits this question closely enough to answer from.",
    "not_in_sources": "The abstracts found for this question do not hold the answer.",
    "all_citations_invalid": "The model's answer cited none of the abstracts validly, so it is not shown.",
}
"""What is said instead of an answer."""

_NAME = re.compile(r"\b(?=\w*[A-Z0-9])(?=[\w-]*[A-Za-z])[A-Za-z0-9][\w-]*")
_ASKED = re.compile(
    r"\b(?:what|which|whose|how (?:many|much|large|long|big|fast))\b((?:\W+[\w-]+){1,6})", re.IGNORECASE
)
_ASKED_ENDS = re.compile(
    r"\b(?:is|are|was|were|does|do|did|has|have|had|can|could|should|would|will|in|on|of|for|from|with|at|by|to|it|they|the"
    r"|that)\b",
    re.IGNORECASE,
)
"""What is asked for ends at a verb or a preposition."""
_BEGINNING = re.compile(r"(?:^|[.?!:]\s+)\W*[A-Z][a-z]*\b")


DETAILS = {
    "temperature": "temperature",
    "learning rate": "learning rate",
    "weight decay": "weight decay",
    "batch size": "batch",
    "dropout": "dropout",
    "epoch": "epoch|iteration|schedule",
    "optimizer": "optimi[sz]er|sgd|adam|lbfgs",
    "warmup": "warm-?up",
    "random seed": "seeds?",
    "hyperparameter": "hyper-?parameter|sensitiv",
    "GPU hour": "gpu|tpu|hour|day",
    "GPU": "gpu|tpu|hardware|accelerator|device",
    "training time": "hour|day|minute|faster|speed|time|fast",
    "training cost": "cost|hour|day|dollar|cheap|efficien|time",
    "price": "price|dollar|cheap|free",
    "licence": "licen[cs]e",
    "funding": "fund|grant|sponsor",
    "funded": "fund|grant|sponsor",
    "LoRA rank": "rank",
    "chunk size": "chunk",
    "vocabulary size": "vocabular",
    "hidden size": "hidden|dimension|width",
    "attention head": "heads?",
    "number of layers": "layer|depth|deep|block",
    "BLEU": "bleu",
    "ROUGE": "rouge",
    "word error rate": "wer|word error",
    "FID": "fid|fr[eé]chet",
    "perplexity": "perplexit|ppl",
    "mAP": "map|average precision|ap",
    "mIoU": "m?iou|intersection",
    "MAE": "mae|absolute error",
    "RMSE": "r?mse|squared? error",
    "AUC": "auc|auroc|area under|roc",
    "F1 score": "f1|f-?score|f-?measure",
    "frames per second": "fps|frames per second|frames/s|real-?time",
    "fps": "fps|frames per second|frames/s|real-?time",
    "latency": "latenc|ms|millisecond|faster|speed|real-?time",
    "throughput": "throughput|faster|speed|per second",
    "FLOP": "flop|macs?|comput",
    "energy consumption": "energy|power|watt|joule",
    "carbon footprint": "carbon|co2|energy",
    "annotator": "annotat|label+er|human|expert|crowd",
}
"""A detail, as it is asked for, and how an abstract that tells it names it (the beginning of a word)."""
_TOLD = {
    re.compile(rf"\b{detail.replace(' ', '[ -]?')}s?\b", re.IGNORECASE): re.compile(rf"\b(?:{told})", re.IGNORECASE)
    for detail, told in DETAILS.items()
}


@dataclass(frozen=True, slots=True)
class Signals:
    """What the decision rests on, each about 0 to 1."""

    score: float
    """Of the best hit."""
    gap: float
    """By how much the best hit leads."""
    unnamed: float
    """Share of the things the question names, by idf, that the best paper does not mention."""
    unasked: float
    """Share of what the question asks for, by idf, that the best paper does not mention."""
    untold: float
    """Share of the `DETAILS` that the question asks for which the best paper does not tell."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A fitted decision: a logistic model over `Signals` and the threshold it is used at."""

    weights: dict[str, float]
    bias: float
    threshold: float
    """An answer less probable than this is refused."""
    curve: tuple[dict[str, float], ...] = ()
    """What other thresholds would do; see `eval/README.md`."""

    def probability(self, signals: Signals) -> float:
        """Return the probability that the library answers the question."""
        logit = self.bias + sum(self.weights[each.name] * getattr(signals, each.name) for each in fields(Signals))
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))

    def reason(self, signals: Signals) -> Reason | None:
        """Return why the question is better refused, or None."""
        if signals.score < WEAK_MATCH:
            return "no_match" if signals.score < NO_MATCH else "weak_match"
        return "not_in_sources" if self.probability(signals) < self.threshold else None


def read_signals(question: str, hits: Hits, idf: Callable[[str], float]) -> Signals:
    """Measure what a question and its hits say about an answer being there.

    Args:
        question: As it was asked, without what a follow-up takes from its conversation.
        hits: At least one, best first.
        idf: Weight of a term in this library.
    """
    best = hits[0].paper
    text = f"{best.title} {best.abstract}"
    held = set(terms(text))
    details = [told.search(text) is None for detail, told in _TOLD.items() if detail.search(question)]
    named = {term: idf(term) for name in names(question) for term in terms(name)}
    asked = {term: idf(term) for phrase in asked_for(question) for term in terms(phrase)}
    return Signals(
        score=hits[0].score,
        gap=hits[0].score - hits[1].score if len(hits) > 1 else 0.0,
        unnamed=_missing(named, held),
        unasked=_missing(asked, held),
        untold=sum(details) / len(details) if details else 0.0,
    )


def asked_for(question: str) -> list[str]:
    """Return the phrases that follow a question word: `learning rate` of `which learning rate was used`."""
    phrases = (match[1] for match in _ASKED.finditer(question))
    return [_ASKED_ENDS.split(phrase, maxsplit=1)[0] for phrase in phrases]


def names(question: str) -> list[str]:
    """Return the things a question names: words with a capital or a digit, but not a sentence's first word."""
    first = {match.end() for match in _BEGINNING.finditer(question)}
    found = (match for match in _NAME.finditer(question) if match.end() not in first)
    return [match[0] for match in found if match[0].casefold() not in STOP_WORDS]


@cache
def load_refusal() -> Refusal:
    """Return the fitted decision that ships."""
    values: dict[str, Any] = json.loads(MODEL.read_text(encoding="utf-8"))
    return Refusal(values["weights"], values["bias"], values["threshold"], tuple(values["curve"]))


def _missing(wanted: dict[str, float], held: set[str]) -> float:
    total = sum(wanted.values())
    return sum(weight for term, weight in wanted.items() if term not in held) / total if total else 0.0
