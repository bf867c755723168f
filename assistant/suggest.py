"""Library -> first questions; answer -> follow-ups: questions that the library itself answers, in a reader's words.

A first question is offered only after a search has found its paper first and the refusal has let it pass. A follow-up
asks for a side of a cited paper that its abstract has and the answer has not shown. Nothing is drawn by lot.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from assistant import abstain, retrieve
from assistant.embed import Encoder
from assistant.ideas import Idea, ideas, purpose_of, singular_name
from assistant.index import Index
from assistant.store import Store
from assistant.text import terms
from assistant.topics import central, cluster, says_nothing
from assistant.types import Answer, Citation, Paper

POOL = 400
"""First questions are drawn from so many papers, evenly spread over the library."""
TRIES = 12
"""Papers of one topic that are tried, before a topic is passed over."""
MOST_CHARS = 130
"""A longer question is no suggestion."""
FOLLOW_UPS = 3
"""Most follow-ups of one answer."""
K, CHECKS = 5, 80
"""Hits looked at to check a question, and most questions checked, each some 10 ms."""


# --- First questions --------------------------------------------------------------------------------------------------


def first_questions(store: Store, index: Index, encoder: Encoder, n: int = 6) -> tuple[str, ...]:
    """Return at most `n` questions to begin with, each of another topic and, where it can be, of another kind.

    Args:
        store: The library.
        index: Its index.
        encoder: The encoder of its vectors.
        n: Most questions, > 0.
    """
    rows = np.flatnonzero(index.alive)
    if not len(rows):
        return ()
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), POOL)).astype(np.int64))]
    vectors = index.whole(rows)
    labels, centres = cluster(vectors, min(n, len(rows)))
    stored = store.get([int(number) for number in index.numbers[rows]])
    topics = [
        [stored[number].paper for number in map(int, index.numbers[rows[own]]) if number in stored]
        for own in central(vectors, labels, centres, TRIES)
    ]
    chosen = _Chosen(store, index, encoder, n)
    # One of each topic; then more of those that have more to ask; papers that can only be named by their title last.
    for by_title in (False, False, True):
        for papers in topics:
            chosen.add_one([paper for paper in papers if paper.id not in chosen.papers], by_title=by_title)
    return tuple(chosen.questions)


class _Chosen:
    """The questions chosen so far, and what chooses the next one."""

    def __init__(self, store: Store, index: Index, encoder: Encoder, most: int) -> None:
        self._store, self._index, self._encoder, self._most = store, index, encoder, most
        self._aspects: Counter[str] = Counter()
        self._tried: set[str] = set()
        self.questions: list[str] = []
        self.papers: set[str] = set()

    def add_one(self, papers: Iterable[Paper], *, by_title: bool) -> None:
        """Add the first question of these papers that is answered, the aspects asked for least before the others."""
        if len(self.questions) >= self._most:
            return
        for paper in papers:
            for idea in sorted(ideas(paper), key=lambda each: self._aspects[each.aspect]):
                if (idea.aspect != "finding" or by_title) and self._is_answered(idea.question, paper):
                    self._aspects[idea.aspect] += 1
                    self.questions.append(idea.question)
                    self.papers.add(paper.id)
                    return

    def _is_answered(self, question: str, paper: Paper) -> bool:
        """Tell whether a search finds the paper first and the refusal lets the question pass; each is tried once."""
        if len(question) > MOST_CHARS or question in self._tried or len(self._tried) >= CHECKS:
            return False
        self._tried.add(question)
        hits = retrieve.search(self._store, self._index, self._encoder, question, k=K, how="exact")
        if not hits or hits[0].paper.id != paper.id:
            return False
        signals = abstain.read_signals(question, hits, self._index.lexicon.idf)
        return abstain.load_refusal().reason(signals) is None


# --- Follow-ups -------------------------------------------------------------------------------------------------------


def follow_ups(answer: Answer) -> tuple[str, ...]:
    """Return at most three questions that go on from an answer; none where nothing is cited.

    Cited papers with names are set against each other, or against one that was found and not cited; it is asked for
    what the cited abstracts tell and the answer has not quoted, one kind of question only once; for other methods with
    the purpose of a cited one, where another paper that was found speaks of it; and for papers found that are akin.
    """
    cited: dict[str, list[Citation]] = {}
    for citation in answer.citations:
        cited.setdefault(citation.paper.id, []).append(citation)
    if not cited:
        return ()
    papers = [citations[0].paper for citations in cited.values()]
    others = [each.paper for each in answer.evidence if each.paper.id not in cited]
    akin = [other for other in others if _is_akin(papers[0], other)]
    questions = itertools.chain(
        _differences(papers),
        _sides([idea for idea in ideas(paper) if not _is_shown(idea, cited[paper.id])] for paper in papers),
        _other_methods(papers, others),
        _differences([papers[0], *akin]) if singular_name(papers[0]) else (),
        (idea.question for other in akin for idea in ideas(other) if idea.aspect in {"approach", "finding"}),
    )
    asked = _plain(answer.question)
    fresh = (question for question in dict.fromkeys(questions) if _plain(question) != asked)
    return tuple(itertools.islice(fresh, FOLLOW_UPS))


def _sides(ideas_by_paper: Iterable[Sequence[Idea]]) -> Iterator[str]:
    """Yield questions for sides of the papers in turn, one kind of question only once."""
    found: dict[str, str] = {}
    for idea in (idea for column in itertools.zip_longest(*ideas_by_paper) for idea in column if idea):
        if idea.aspect in {"accuracy", "gain", "data", "reason"} and len(idea.question) <= MOST_CHARS:
            found.setdefault(idea.aspect, idea.question)
    yield from found.values()


def _differences(papers: Sequence[Paper]) -> Iterator[str]:
    """Yield the question that sets the first two names against each other."""
    names = list(dict.fromkeys(filter(None, map(singular_name, papers))))
    if len(names) > 1:
        yield f"How does {names[0]} differ from {names[1]}?"


def _is_akin(paper: Paper, other: Paper) -> bool:
    """Tell whether two titles share two terms of weight."""
    first, second = (
        {word for word in terms(each.title) if len(word) > 2 and not says_nothing(word)} for each in (paper, other)
    )
    return len(first & second) > 1


def _other_methods(papers: Sequence[Paper], others: Sequence[Paper]) -> Iterator[str]:
    """Yield the question for other methods that serve the purpose of one of `papers`."""
    for paper in papers:
        purpose = purpose_of(paper)
        wanted = set(terms(purpose))
        if wanted and any(wanted <= set(terms(f"{other.title} {other.abstract}")) for other in others):
            yield f"Which other methods are there for {purpose}?"
            return


def _is_shown(idea: Idea, citations: Iterable[Citation]) -> bool:
    return any(each.start < idea.cell.end and idea.cell.start < each.end for each in citations)


def _plain(question: str) -> str:
    return " ".join(re.findall(r"\w+", question.casefold()))
