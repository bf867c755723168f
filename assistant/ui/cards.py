"""An exchange -> the cards of its sources: each paper with what is quoted of it, where, and how it was found."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from assistant.conversations import Exchange
from assistant.errors import ConfigError
from assistant.types import Evidence, Paper
from assistant.ui import fragments
from assistant.ui.desk import Desk, owner

SCORES = ((0.9, "Very close to the question"), (0.7, "Close to the question"), (0.5, "Related to the question"))
"""From which score on it is called so; see `Hit.score`. Of the best eight papers for each question of
`eval/questions/dev.jsonl`, 99, 81 and 39 % of those from these scores on are judged relevant."""
FAR = "Only loosely related to the question"
RETRIEVERS = {"dense": "by meaning", "bm25": "by words", "reranker": "by the reranker"}
"""How each retriever finds, in words."""
CLAIM_CHARS = 90
"""Of a sentence that cites, what its link shows."""
_MARKS = re.compile(r"(?<!\$)[*`#]+|^[\s>|-]+|^\d+[.)] |[\s|]+$")
"""Marks of formatting in a line, and those that begin and end a row, an item or a quotation."""
_BEFORE = re.compile(r"(?:\[\d+\])+[.,;:]?(?=\s)|(?<=[.!?])\s(?=[A-Z])|\s*\|\s*")
"""What a claim does not reach back over."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an abstract."""

    text: str
    places: tuple[int, ...] = ()
    """The citations that quote it, by their place in the answer; none: it is not quoted."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a paper is cited."""

    place: int
    """Of the citation in the answer, from 1."""
    text: str
    """The sentence that cites."""
    doubtful: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A paper of the evidence."""

    ident: str
    number: int
    """Of the evidence; 0 for the closest paper of an abstention."""
    paper: Paper
    parts: tuple[Part, ...]
    claims: tuple[Claim, ...] = ()
    closeness: str = ""
    found: str = ""


def routes(desk: Desk) -> APIRouter:
    """Return the fragments with cards."""
    router = APIRouter()

    @router.get("/sources")
    def show(request: Request, c: str = "", turn: int = 0) -> HTMLResponse:
        """Return the sources of a conversation, or of one exchange of it."""
        found = desk.open(owner(request), c)
        if not found:
            raise ConfigError("this conversation is not among yours; it may have been deleted, or saved elsewhere")
        chosen = [each for each in found.exchanges if turn in {0, each.number}]
        return fragments.page(sources(chosen, last=len(found.exchanges), conversation=found.id))

    return router


def sources(exchanges: Sequence[Exchange], *, last: int = 0, conversation: str = "") -> str:
    """Return the cards of exchanges of a conversation, the latest first; those of number `last` are open."""
    turns = [_turn(each, last) for each in reversed(exchanges)]
    return fragments.fill("sources.html", turns=turns, conversation=conversation)


def _turn(each: Exchange, last: int) -> dict[str, Any]:
    """Return what the template shows of an exchange."""
    answer, n = each.answer, each.number
    cited = [card(item, each) for item in each.evidence if any(item.number == c.number for c in each.citations)]
    closest = [
        Card(f"src-{n}-closest-{place}", 0, paper, (Part(paper.abstract),))
        for place, paper in enumerate(answer.closest if answer else (), 1)
    ]
    others = [item for item in each.evidence if all(item.number != c.number for c in each.citations)]
    return {
        "n": n, "question": shorten(each.question, 160, placeholder=" …"), "is_last": n == last,
        "cited": cited, "closest": closest, "others": others, "state": each.state, "over": each.over,
    }  # fmt: skip


def card(item: Evidence, each: Exchange) -> Card:
    """Return the card of a paper that an answer cites."""
    doubtful = {(mark.start, mark.end) for mark in each.answer.checks.citations_unsupported} if each.answer else set()
    quotes: dict[tuple[int, int], list[int]] = {}
    claims = []
    for place, citation in enumerate(each.citations, 1):
        if citation.number == item.number:
            quotes.setdefault((citation.start, citation.end), []).append(place)
            span = (citation.text_start, citation.text_end)
            claims.append(Claim(place, _claim(each.text, citation.text_start), span in doubtful))
    return Card(
        f"src-{each.number}-{item.number}", item.number, item.paper, tuple(_parts(item.paper.abstract, quotes)),
        tuple(claims), closeness(item.score), found(item.retrievers),
    )  # fmt: skip


def _parts(abstract: str, quotes: Mapping[tuple[int, int], list[int]]) -> list[Part]:
    """Cut an abstract where a quote begins or ends; quotes may overlap."""
    edges = sorted({0, len(abstract), *(edge for span in quotes for edge in span)})
    parts = []
    for start, end in itertools.pairwise(edges):
        places = sorted(p for (first, last), own in quotes.items() if first <= start and end <= last for p in own)
        parts.append(Part(abstract[start:end], tuple(places)))
    return parts


def _claim(text: str, marker: int) -> str:
    """Return what a marker stands behind: the end of its line, from the last marker or full stop on, without marks."""
    line = _MARKS.sub("", text[:marker].rstrip().rpartition("\n")[2]).strip()
    said = _BEFORE.split(line)[-1].strip() or line
    return said if len(said) <= CLAIM_CHARS else "… " + said[-CLAIM_CHARS:].partition(" ")[2]


def closeness(score: float) -> str:
    """Return the meaning of a score in words."""
    return next((words for least, words in SCORES if score >= least), FAR)


def found(retrievers: Mapping[str, int]) -> str:
    """Return which retrievers found a paper, and at which place."""
    known = [f"{RETRIEVERS[name]} (place {rank})" for name, rank in retrievers.items() if name in RETRIEVERS]
    return f"found {' and '.join(known)}" if known else ""
