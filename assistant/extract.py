"""Prompt -> text pieces without an LLM: the evidence's best sentences, word for word, each with its marker.

A sentence is chosen for what it shares with the question in meaning and in words, for the standing of its paper, and
for holding a figure when one is asked for. When one paper stands out it may give several sentences; when several papers
are about as good (a survey, a comparison) each gives its best.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assistant.embed import Encoder
from assistant.store import Store
from assistant.text import terms
from assistant.types import Prompt

SENTENCES = 4
"""Most sentences in an answer."""
WORDS_WEIGHT, PAPER_WEIGHT, FIGURE_BONUS, REPEAT_COST = 0.5, 2.0, 0.2, 0.05
"""Weights beside the sentence's cosine: share of the question's terms, the paper's score, a figure that is asked for,
and what each further sentence of one paper costs."""

_ASKS_FIGURE = re.compile(r"\d")
_FIGURE = re.compile(r"\d")
_POINTER = re.compile(
    r"https?://|\b(?:code|models?|project page|data(?:set)?)s?\b[^.]{0,60}\bavailable\b", re.IGNORECASE
)
_ASKS_POINTER = re.compile(r"\b(?:code|github|link|url|download|available|page|repository)\b", re.IGNORECASE)
POINTER_COST = 0.4
"""What a sentence that only says where the code lies costs, unless that is asked."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be quoted."""

    number: int
    start: int
    end: int
    score: float


class Extractive:
    """The answerer that needs no LLM."""

    def __init__(self, store: Store, encoder: Encoder) -> None:
        self._store, self._encoder = store, encoder

    def stream(self, prompt: Prompt) -> Iterator[str]:
        """Yield list items, each a sentence of the evidence with its marker, the best first."""
        for each in self.choose(prompt):
            sentence = prompt.evidence[each.number - 1].paper.abstract[each.start : each.end]
            yield f"- {sentence} [{each.number}]\n"

    def choose(self, prompt: Prompt, most: int = SENTENCES) -> list[Candidate]:
        """Return at most `most` sentences, the best first."""
        candidates = self.candidates(prompt)
        chosen: list[Candidate] = []
        taken: dict[int, int] = {}
        while candidates and len(chosen) < most:
            best = max(
                candidates,
                key=lambda each: (each.score - REPEAT_COST * taken.get(each.number, 0), -each.number, -each.start),
            )
            candidates.remove(best)
            chosen.append(best)
            taken[best.number] = taken.get(best.number, 0) + 1
        return chosen

    def candidates(self, prompt: Prompt) -> list[Candidate]:
        """Return every sentence of the evidence with its score."""
        vector = self._encoder.encode_queries([prompt.searched])[0]
        asked, wants_figure = set(terms(prompt.question)), bool(_ASKS_FIGURE.search(prompt.question))
        wants_pointer = bool(_ASKS_POINTER.search(prompt.question))
        top = max((each.score for each in prompt.evidence), default=0.0)
        out: list[Candidate] = []
        for piece in prompt.evidence:
            units = self._store.units(piece.paper.id)
            if units is None:
                continue
            cosines = units.vectors[1 + len(units.chunks) :].astype(np.float32) @ vector
            standing = PAPER_WEIGHT * (piece.score - top)
            for (start, end), cosine in zip(units.sentences, cosines, strict=True):
                if piece.start <= start and end <= piece.end:
                    sentence = piece.paper.abstract[start:end]
                    words = len(asked & set(terms(sentence))) / max(1, len(asked))
                    figure = FIGURE_BONUS if wants_figure and _FIGURE.search(sentence) else 0.0
                    pointer = POINTER_COST if not wants_pointer and _POINTER.search(sentence) else 0.0
                    score = float(cosine) + WORDS_WEIGHT * words + figure + standing - pointer
                    out.append(Candidate(piece.number, start, end, score))
        return out
