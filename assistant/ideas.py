"""Paper -> the questions that its abstract answers, in a reader's words.

They are made from the paper's name or title, what its title says it is for, and what the comparison table found in the
abstract: for data, figures or a reason is asked only where the abstract tells them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from assistant import cues
from assistant.table import Cell, Row, compare, own_name
from assistant.types import Paper

TITLE_CHARS = 80
"""A longer title is not named in a question."""

_PURPOSE = re.compile(
    r"\bfor\s([\w-]++(?:\s[\w-]++){0,4}?)(?=$|[:,.]|\s(?:with|via|by|using|from|through|and|on|without|based)\b)"
)
_NOUN = re.compile(r"(?:[^aeious]s|tion|sion|ment|ing|ity|ness|sis|[A-Z])$")
"""Ends of words that can stand alone as what something is for."""
_QUESTION = re.compile(
    r"^(?:what|which|who|why|how|when|where|do|does|did|is|are|can|could|should|will)\b[^:?]*\?$", re.IGNORECASE
)
_GAIN = re.compile(
    r"\b(?:improv\w+|gains?|outperform\w*|surpass\w*|beats?|rais\w+|rises?|exceed\w*|reduc\w+|fewer|faster)\b",
    re.IGNORECASE,
)
_ACCURACY = re.compile(r"\baccuracy\b", re.IGNORECASE)
_NAMED_DATA = re.compile(
    r"\b[Oo]n\s(?:the\s)?[A-Z]|\b[A-Z]\w{0,20}[A-Z0-9][\w-]{0,20},? (?:and )?[A-Z]\w{0,20}[A-Z0-9]"
)
"""What something was tried on has a capital, or is two names side by side."""


@dataclass(frozen=True, slots=True)
class Idea:
    """A question about one paper."""

    aspect: str
    """What it asks for: approach, data, accuracy, gain, reason, methods, title or finding."""
    question: str
    cell: Cell
    """Where the abstract tells it."""


def ideas(paper: Paper) -> Iterator[Idea]:
    """Yield the questions that a paper's title and abstract answer, the most inviting first."""
    row, name, purpose = compare([paper])[0], singular_name(paper), purpose_of(paper)
    if _QUESTION.match(paper.title):
        yield Idea("title", paper.title, row.method)
    if name and row.method.text:
        yield Idea(
            "approach", f"How does {name} approach {purpose}?" if purpose else f"How does {name} work?", row.method
        )
    yield from _sides(paper, row, name)
    if purpose and row.method.text and not name:
        yield Idea("methods", f"Which methods are there for {purpose}?", row.method)
    if _called(paper) and not name:
        yield Idea("finding", f"What does {_called(paper)} show?", row.method)


def _sides(paper: Paper, row: Row, name: str) -> Iterator[Idea]:
    """Yield the questions for figures, data and reason, as far as the abstract tells them."""
    subject, told = name or _called(paper), row.numbers.text
    if not subject:
        return
    of_set = cues.SET.search(told)
    if of_set and _ACCURACY.search(told):
        yield Idea("accuracy", f"What accuracy does {subject} reach on {of_set[0]}?", row.numbers)
    elif _GAIN.search(told):
        yield Idea("gain", f"How much does {subject} improve on earlier work?", row.numbers)
    if cues.SET.search(row.data.text) or _NAMED_DATA.search(row.data.text):
        kind = "benchmarks" if "benchmark" in row.data.text else "datasets"
        yield Idea(
            "data", f"Which {kind} was {name} tested on?" if name else f"Which {kind} does {subject} use?", row.data
        )
    if name and cues.FAULT.search(row.task.text):
        purpose = purpose_of(paper)
        yield Idea("reason", f"Why is {name} needed for {purpose}?" if purpose else f"Why is {name} needed?", row.task)


# --- Wording ----------------------------------------------------------------------------------------------------------


def _called(paper: Paper) -> str:
    """Return how a paper is called by its title, up to a colon; empty where that is too long to be said."""
    head = paper.title.partition(":")[0].strip()
    title = head if len(head.split()) > 2 else paper.title
    return f"the paper “{title}”" if 0 < len(title) <= TITLE_CHARS else ""


def singular_name(paper: Paper) -> str:
    """Return the paper's own name, but none in the plural: `does` and `was` go with one thing."""
    name = own_name(paper)
    return "" if name.endswith("s") else name


def purpose_of(paper: Paper) -> str:
    """Return what a title says its paper is for, as the abstract writes it; empty where it does not."""
    match = _PURPOSE.search(paper.title.partition(":")[2] or paper.title)
    if not match:
        return ""
    said = match[1]
    if " " not in said and not _NOUN.search(said):
        return ""  # "for Effective and ..."
    written = re.search(rf"(?<!\w){re.escape(said)}(?!\w)", paper.abstract, re.IGNORECASE)
    if written and not re.match(r"[A-Z][a-z]", written[0]):
        return written[0]
    return re.sub(r"\b[A-Z][a-z]+\b", lambda word: _uncapitalised(word[0], paper.abstract), said)


def _uncapitalised(word: str, abstract: str) -> str:
    """Return a title's word without its capital, unless the abstract has it within a sentence: `Fourier`."""
    return word if re.search(rf"[a-z,] {word}\b", abstract) else word.lower()
