"""Papers -> a comparison table: what each abstract says of its task, method, data and numbers, word for word.

A cell is one sentence of the abstract, or the clauses of one that matter, chosen by cues of wording alone; where no
sentence has the cues the cell is empty, for a wrong cell misleads more than a missing one. Nothing is refused.

Read strictly, on 80 abstracts of the sample that had not served to choose the cues, these cells were right: 58 of 71
tasks, 64 of 65 methods, 45 of 45 data, 24 of 26 numbers. What goes wrong with a task is mostly background taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assistant import cues
from assistant.chunk import Span, split_sentences
from assistant.text import terms
from assistant.types import Paper

COLUMNS = ("task", "method", "data", "numbers")
LEAD_WORDS = 6
"""A sentence is about what it names in so many words."""
READ_CHARS = 10_000
"""Of an abstract, what is read; the longest of a thousand seen has 2,800 characters."""
LEAST, LEAST_DATA = 1.0, 1.35
"""A sentence with a lower score leaves its cell empty."""

Weights = dict[re.Pattern[str], float]
"""What a cue adds to the score of a sentence that has it; all chosen by reading, as the cues were."""
TASK: Weights = {
    cues.AIM: 0.6, cues.FAULT: 0.8, cues.PRAISE: -0.6, cues.PROPOSES: -1.0, cues.DOES: -0.6, cues.RESULT: -0.4,
    cues.POINTER: -5.0,
}  # fmt: skip
METHOD: Weights = {
    cues.PROPOSES: 1.8, cues.DOES: 1.2, cues.ALSO: -0.8, cues.RESULT: -0.7, cues.FAULT: -0.7, cues.POINTER: -5.0
}  # fmt: skip
DATA: Weights = {
    cues.SET: 1.0, cues.TRIED: 1.0, cues.SETS: 0.8, cues.COUNTED: 0.6, cues.MADE: 0.6, cues.ON: 0.5, cues.POINTER: -3.0
}  # fmt: skip
NUMBERS: Weights = {cues.RESULT: 0.4, cues.POINTER: -3.0}

# --- Records ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """A span of an abstract: `abstract[start:end] == text`; all empty when the abstract says nothing."""

    text: str = ""
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """What one abstract says in each column."""

    paper: Paper
    task: Cell
    """The problem that is worked on."""
    method: Cell
    """What is proposed or done about it."""
    data: Cell
    """What it was tried on, or made from."""
    numbers: Cell
    """What was measured."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: the paper, and for each column text, start and end."""
        cells = {name: getattr(self, name) for name in COLUMNS}
        return {"paper": self.paper.as_dict()} | {
            name: {"text": cell.text, "start": cell.start, "end": cell.end} for name, cell in cells.items()
        }


# --- Sentences --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    start: int
    end: int
    place: int
    """From 0."""
    title: float
    """Share of the title's terms that it holds."""
    named: bool
    """It is about what the paper makes, by name."""
    answers: bool
    """The one before it states a problem, and this one does not."""

    @property
    def span(self) -> Span:
        return self.start, self.end


def compare(papers: Sequence[Paper]) -> tuple[Row, ...]:
    """Return one row for each paper, in their order."""
    return tuple(_row(paper) for paper in papers)


def own_name(paper: Paper) -> str:
    """Return the name that a paper gives to what it makes, as its title does before a colon; empty when it has none."""
    head, colon, _ = paper.title.partition(":")
    candidates = [head.strip()] if colon and len(head.split()) <= 3 else []
    candidates += re.findall(r"\(([\w+-]*[A-Z][\w+-]*)\)", paper.title)
    candidates += re.findall(
        r"\b(?:called|named|dubbed|termed|entitled|coined)\s(?:as\s)?([\w+-]*[A-Z][\w+-]*[A-Z][\w+-]*)", paper.abstract
    )
    return next((each for each in candidates if re.search("[A-Z]", each) and _holds(paper.abstract, each)), "")


def _holds(text: str, name: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))


def _sentences(paper: Paper) -> list[_Sentence]:
    about = set(terms(paper.title))
    found: list[_Sentence] = []
    for place, (start, end) in enumerate(_units(paper.abstract[:READ_CHARS])):
        text = paper.abstract[start:end]
        states_fault = bool(cues.FAULT.search(text))
        named = _leads(text, own_name(paper), place) or (not states_fault and _presents(text, paper.title, found))
        answers = bool(found and cues.FAULT.search(found[-1].text)) and not states_fault
        share = len(about & set(terms(text))) / max(1, len(about))
        found.append(_Sentence(text, start, end, place, share, named, answers))
    return found


def _leads(text: str, name: str, place: int) -> bool:
    """Tell whether a sentence is about `name`; the first one is wherever it names it."""
    return bool(name) and _holds(" ".join(text.split()[: LEAD_WORDS if place else None]), name)


def _presents(text: str, title: str, before: Sequence[_Sentence]) -> bool:
    """Tell whether the subject of a sentence is a name not heard before, or the title's beginning."""
    match, lead, opening = cues.NAMED.search(text), text.casefold().split()[:3], title.casefold().split()[:3]
    if match and match["first"] and any(_holds(each.text, match["first"]) for each in before):
        return False
    if before:
        return bool(match) or lead == opening
    # A first sentence may as well define the task: "Person re-identification (ReID) needs ...".
    defines = match and (match["first"] or match["verb"] == "is" or lead[:2] == opening[:2])
    return bool(defines) and not cues.NEEDS.search(text)


def _units(abstract: str) -> Iterator[Span]:
    for start, end in split_sentences(abstract):
        at = start
        for cut in cues.UNIT_CUT.finditer(abstract, start, end):
            yield at, cut.start()
            at = cut.end()
        yield at, end


def _row(paper: Paper) -> Row:
    sentences = _sentences(paper)
    method = _best(sentences, _method_score)
    at, after = (method.place, method.place) if method else (2, 1)
    background, done = sentences[:at], sentences[after:]
    task, numbers = _best(background, _task_score), _best(done or sentences, _number_score)
    data = _best(done, _data_score, LEAST_DATA)
    purpose = None if task or not method else _purpose(method, set(terms(paper.title)))
    wanted = (cues.SET, cues.SETS, cues.COUNTED, cues.ON)
    return Row(
        paper,
        _cell(paper, task.span if task else purpose),
        _cell(paper, method.span if method else None),
        _cell(paper, _clauses(data, wanted) if data else None),
        _cell(paper, numbers.span if numbers else None),
    )


def _cell(paper: Paper, span: Span | None) -> Cell:
    return Cell(paper.abstract[slice(*span)], *span) if span else Cell()


def _best(
    sentences: Sequence[_Sentence], score: Callable[[_Sentence], float], least: float = LEAST
) -> _Sentence | None:
    """Return the sentence with the greatest score of at least `least`, the earlier of equals."""
    best = max(sentences, key=lambda each: (score(each), -each.place), default=None)
    return best if best and score(best) >= least else None


def _score(each: _Sentence, weights: Weights) -> float:
    return sum(weight for cue, weight in weights.items() if cue.search(each.text))


def _task_score(each: _Sentence) -> float:
    return 0.5 + _score(each, TASK) + 2.0 * each.title - 1.0 * each.named - 0.2 * each.place


def _method_score(each: _Sentence) -> float:
    return _score(each, METHOD) + 1.6 * each.named + 0.8 * each.answers + each.title - 0.15 * each.place


def _data_score(each: _Sentence) -> float:
    return _score(each, DATA)


def _number_score(each: _Sentence) -> float:
    n = len(cues.FIGURE.findall(each.text))
    return 0.5 + 0.5 * n + _score(each, NUMBERS) if n else 0.0


def _purpose(sentence: _Sentence, about: set[str]) -> Span | None:
    """Return what the thing that a sentence presents is for, where it says so in words of the title."""
    found = [(len(about & set(terms(match["what"]))), match) for match in cues.PURPOSE.finditer(sentence.text)]
    n, match = max(found, key=lambda each: each[0], default=(0, None))
    return (sentence.start + match.start("what"), sentence.start + match.end("what")) if match and n else None


def _clauses(sentence: _Sentence, wanted: Sequence[re.Pattern[str]]) -> Span:
    """Return the shortest run of clauses that holds all matches of the cues, with the rest of a list that it is in."""
    cuts = [0, *_cuts(sentence.text), len(sentence.text)]
    spans = [match.span() for cue in wanted for match in cue.finditer(sentence.text)]
    if not spans:
        return sentence.span
    low, high = min(a for a, _ in spans), max(b for _, b in spans)
    first = max(i for i, cut in enumerate(cuts) if cut <= low)
    last = min(i for i, cut in enumerate(cuts) if cut >= high)
    while last + 1 < len(cuts) and cues.ITEM.match(sentence.text, cuts[last], cuts[last + 1]):
        last += 1
    within = first
    while first > 0 and cues.ITEM.fullmatch(sentence.text, cuts[first - 1], cuts[first]):
        first -= 1
    first -= 0 < first < within
    text = sentence.text[cuts[first] : cuts[last]]
    left, right = text.lstrip(" ,;:"), text.rstrip(" ,;:")
    return sentence.start + cuts[first] + len(text) - len(left), sentence.start + cuts[first] + len(right)


def _cuts(text: str) -> Iterator[int]:
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and character in ",;" and text[at + 1 : at + 2] == " ":
            yield at + 1
