"""Vectors and texts -> topics: clusters of papers, each named by the terms that tell it from the others.

A name is made of words as the papers write them. A term's weight is, in the manner of class-based TF-IDF (Grootendorst
2022, arXiv:2203.05794, section 3), how often the topic's papers have it, times the logarithm of how much more often
than those of an average topic; titles count as much again as the whole paper.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from assistant.text import STOP_WORDS, terms
from assistant.types import Paper

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Term = tuple[str, ...]
"""The stems of one to three words that stand side by side, parts of a hyphened word each for itself."""

FEWEST, MOST = 6, 14
"""Topics of a small and of a large library."""
STARTS, ROUNDS = 8, 50
"""Times that k-means begins anew, and its most rounds."""
READ, READ_CHARS = 150, 5_000
"""So many papers of a topic, those nearest to its centre, are read for its name, and so much of each abstract."""
TERMS = 3
"""Terms in a name."""
LENGTH_BONUS = {1: 1.0, 2: 2.5, 3: 3.2}
"""Words side by side are rarer than one, and say more."""
SHARE_POWER = 0.85
"""Between what most papers of a topic have (1) and what no other topic has (0)."""
LEAST_SHARE, LEAST_PAPERS = 0.05, 3
"""A term that fewer papers of a topic have does not name it."""
SAME = 0.4
"""Terms whose papers overlap by more (Jaccard) say the same: `Vision Transformers` and `ViT`."""
PLAIN_SHARE = 0.2
"""A writing without capitals is preferred when it is this share of the most frequent one: titles have capitals."""

_RUN = re.compile(r"[^\W\d_][\w+-]*(?: +[^\W\d_][\w+-]*)*")
"""Words with nothing but spaces between them."""
_OF_THE_TRADE = frozenset(
    """achieve achieves after against among approach author authors available baseline baselines based before benchmark
    benchmarks best better between both code compared different during each effective even every existing experiments
    first github good high http https improve improved improves large less low lower main many method methods model
    models more most much new not novel number often only other out outperform outperforms over paper performance
    previous prior problem proposed recent recently result results same second several significant significantly small
    state-of-the-art still study task tasks three through top-1 two under up various via well when while within without
    work works""".split()  # noqa: SIM905 - a list of quoted words reads worse
)
"""Words that every topic has and some a little more often."""


def count_topics(n: int) -> int:
    """Return how many topics tell `n` papers apart: the square root of a fifth, but 6 to 14, and 5 papers for each."""
    return max(1, min(round(float(np.clip((n / 5) ** 0.5, FEWEST, MOST))), n // 5))


# --- Clusters ---------------------------------------------------------------------------------------------------------


def cluster(points: Floats, k: int) -> tuple[Ints, Floats]:
    """Return the (n,) cluster of each point and the (k, dim) centres, the largest cluster first: the best of 8 k-means.

    They start as k-means++ does (Arthur and Vassilvitskii, SODA 2007), by a fixed seed.

    Args:
        points: (n, dim), n > 0.
        k: Clusters, > 0; equal points may leave some of them empty.
    """
    chance = np.random.default_rng(0)
    runs = [_settle(points, _start(points, k, chance)) for _ in range(STARTS)]
    _, labels, centres = min(runs, key=lambda run: run[0])
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    return np.argsort(order)[labels], centres[order]


def _start(points: Floats, k: int, chance: np.random.Generator) -> Floats:
    centres = [points[chance.integers(len(points))]]
    away = np.full(len(points), np.inf)
    while len(centres) < k:
        away = np.minimum(away, ((points - centres[-1]) ** 2).sum(axis=1))
        row = int(np.searchsorted(np.cumsum(away), chance.random() * away.sum()))
        centres.append(points[min(row, len(points) - 1)])
    return np.stack(centres)


def _settle(points: Floats, centres: Floats) -> tuple[float, Ints, Floats]:
    """Return the sum of squared distances to the centres, less a constant, the clusters and their centres."""
    labels = np.full(len(points), -1)
    for _ in range(ROUNDS):
        distances = (centres**2).sum(axis=1) - 2 * points @ centres.T
        now = distances.argmin(axis=1)
        if np.array_equal(now, labels):
            break
        labels = now
        sizes = np.bincount(labels, minlength=len(centres))[:, None]
        sums = np.stack([np.bincount(labels, axis, len(centres)) for axis in points.T], axis=1)
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres).astype(np.float32)
    return float(distances.min(axis=1).sum()), labels, centres


def central(points: Floats, labels: Ints, centres: Floats, most: int = READ) -> list[Ints]:
    """Return for each cluster its rows nearest to the centre, the nearest first, at most `most` of them."""
    away = ((points - centres[labels]) ** 2).sum(axis=1)
    rows = (np.flatnonzero(labels == number) for number in range(len(centres)))
    return [own[np.argsort(away[own], kind="stable")[:most]] for own in rows]


# --- Names ------------------------------------------------------------------------------------------------------------


class _Lexis:
    """The terms of one topic's papers."""

    def __init__(self, papers: Sequence[Paper]) -> None:
        self.n = len(papers)
        self.holders: defaultdict[Term, set[int]] = defaultdict(set)
        self.written: defaultdict[Term, Counter[str]] = defaultdict(Counter)
        counts: Counter[Term] = Counter()
        for number, paper in enumerate(papers):
            in_title, in_abstract = dict(_terms(paper.title)), dict(_terms(paper.abstract[:READ_CHARS]))
            for term, writing in (*in_abstract.items(), *in_title.items()):
                self.holders[term].add(number)
                self.written[term][writing] += 1
            counts.update(in_title.keys())
            counts.update(in_title.keys() | in_abstract.keys())
        self.shares = {term: count / (2 * self.n) for term, count in counts.items()}

    def best(self, total: Counter[Term], topics: int) -> list[Term]:
        """Return the terms that tell this topic from the others, the best first."""
        least = max(LEAST_PAPERS, LEAST_SHARE * self.n)
        weights = {
            term: share**SHARE_POWER * LENGTH_BONUS[min(len(term), 3)] * _lead(share, total[term], topics)
            for term, share in self.shares.items()
            if len(self.holders[term]) >= least and (topics == 1 or share * topics > total[term] * (1 + 1e-9))
        }
        chosen: list[Term] = []
        for term in sorted(weights, key=lambda each: (-weights[each], each)):
            if not any(self._is_same(term, other) for other in chosen):
                chosen.append(self._whole(term, weights))
            if len(chosen) == TERMS:
                break
        return chosen

    def _is_same(self, term: Term, other: Term) -> bool:
        mine, its = self.holders[term], self.holders[other]
        both = len(mine & its)
        return (
            bool(set(term) & set(other)) or both > SAME * len(mine | its) or both > 2 * SAME * min(len(mine), len(its))
        )

    def _whole(self, term: Term, weights: dict[Term, float]) -> Term:
        """Return the longer term that half of a term's papers mean by it: `graph neural networks`."""
        longer = [each for each in weights if len(each) == len(term) + 1 and term in {each[1:], each[:-1]}]
        best = max(longer, key=lambda each: (len(self.holders[each]), each), default=term)
        return best if 2 * len(self.holders[best]) >= len(self.holders[term]) else term


def name_topics(topics: Sequence[Sequence[Paper]]) -> tuple[str, ...]:
    """Return a name for each topic: up to three terms, parted by commas; a topic that shares all has its number.

    Args:
        topics: For each its most central papers; none may be empty.
    """
    lexes = [_Lexis(papers) for papers in topics]
    total: Counter[Term] = Counter()
    for lexis in lexes:
        total.update(lexis.shares)
    writings: defaultdict[Term, Counter[str]] = defaultdict(Counter)
    for lexis in lexes:
        for term, written in lexis.written.items():
            writings[term].update(written)
    names = [", ".join(_writing(writings[term]) for term in lexis.best(total, len(lexes))) for lexis in lexes]
    return tuple(name or f"topic {number}" for number, name in enumerate(names, 1))


def _lead(share: float, total: float, topics: int) -> float:
    """Return by how much a share leads that of an average topic; one topic alone leads in all it has."""
    return float(np.log(share * topics / total)) if topics > 1 else 1.0


def _terms(text: str) -> Iterator[tuple[Term, str]]:
    """Yield one to three neighbouring words as stems and as they are written, the first place of each last."""
    for run in reversed(_RUN.findall(text)):
        written = run.split()
        stems = [_stems(word) for word in written]
        for i in range(len(written)):
            for n in LENGTH_BONUS:
                part = [stem for stem in stems[i : i + n] if stem]
                if len(part) == n:
                    yield tuple(stem for word in part for stem in word), " ".join(written[i : i + n])


@lru_cache(maxsize=50_000)
def _stems(word: str) -> Term:
    """Return the stems of a word's parts, none where it says nothing; most words come again and again."""
    return () if says_nothing(word) else tuple(terms(word))


def says_nothing(word: str) -> bool:
    """Tell whether a word is one that every topic has."""
    folded = word.casefold()
    return len(word) < 2 or folded in STOP_WORDS or folded in _OF_THE_TRADE


def _writing(written: Counter[str]) -> str:
    """Return the most frequent writing, rather one whose words are not merely capitalised."""
    most = max(written.values())
    plain = [each for each, n in written.items() if n >= PLAIN_SHARE * most and not _is_capitalised(each)]
    return max(plain or written, key=lambda each: (written[each], each))


def _is_capitalised(writing: str) -> bool:
    return any(word[:1].isupper() and word[1:].islower() for word in re.split("[ -]", writing))
