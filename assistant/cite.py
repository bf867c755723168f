"""What the gate asks of one piece of evidence: Evidence + words of an answer -> quote, support, addresses, names.

In goes an `Evidence`; out come the sentence of its abstract that best supports a claim, with offsets and support, and
what else an answer may repeat of it: figures and names, addresses, authors. Nothing is refused here: a claim without
any support still gets a quote, with support 0, and what the evidence does not hold is left to the gate.

A model's output is a stranger's input: every repetition in the patterns is bounded, possessive, or unable to hold what
ends it, so that no text costs more than linear time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from assistant.chunk import split_sentences
from assistant.figures import Figures
from assistant.names import Names
from assistant.text import terms
from assistant.types import Evidence

NEAR_CHARS = 16
"""So many characters beside a form have to stand in the evidence, too, for it to belong to a quotation."""
CLAIM_CHARS = 600
"""So far around a marker its sentence is looked for."""

_URL = r"[!-;=?-Z\\^-z|~]"
ADDRESS = re.compile(
    rf"(?:doi:?\s?)?<?(?:https?://|\b[a-z][a-z0-9+.-]{{1,15}}://|\bwww\.|\b(?:javascript:|vbscript:|data:[a-z]+/))"
    rf"{_URL}*+>?|(?:\bdoi:?\s?)?(?<![\w.])10\.\d{{4,9}}/{_URL}++"
    r"|\barxiv(?: preprint)?+(?::\s?| )(?:arxiv:)?(?:[a-z.-]{2,20}/\d{7}|\d{4}\.\d{4,5})(?:v\d{1,2})?"
    rf"|(?<![\w@./-])(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:com|org|net|io|ai|edu|gov|dev|app|cn|de|fr|uk|jp)/{_URL}++",
    re.IGNORECASE,
)
_RESOLVER = re.compile(
    r"(?:doi:?\s?)?<?(?:https?://)?(?:www\.)?(?:(?:dx\.)?doi\.org/)?"
    r"(arxiv\.org/(?:abs|pdf|html)/|10\.48550/arxiv\.|arxiv(?: preprint)?[: ]\s?(?:arxiv:)?)?"
)
LEAST_SUPPORT, LEAST_SHARE = 0.35, 0.45
"""A citation is without support when its quote holds less of the claim than the first, and title and passage together
less than the second. Of faithful sentences in other words .2 % are, of sentences that cite another paper 98 %."""
_LEAST_TERMS = 3
"""A shorter claim says too little to be judged."""
_ENGLISH = frozenset(
    """about and are at between both by can for from into is it its of such than that the their this to when which while
    with""".split()  # noqa: SIM905 - a list of quoted words reads worse
)
"""Words that bind English sentences and few others."""
_TELEGRAM_WORDS = 6
"""A longer claim without any of them is not English, nor is a shorter one that is not ASCII."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of an abstract that a claim rests on."""

    start: int
    end: int
    support: float
    """Share of the claim's distinct content terms that it holds, those of figures counted twice."""
    share: float
    """Share of them that title, passage and the like hold; 1 where that says nothing: little or foreign text."""

    def supports(self, n_cited: int) -> bool:
        """Tell whether a claim that cites so many papers for its parts may rest on this one."""
        return self.support >= LEAST_SUPPORT / n_cited or self.share >= LEAST_SHARE / n_cited


class Source:
    """One piece of evidence with what the gate asks of it, worked out once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._quotes: dict[str, Quote] = {}

    @cached_property
    def _sentences(self) -> list[tuple[int, int, str, frozenset[str]]]:
        """(start, end, folded text, terms) of each sentence of the abstract within the passage."""
        abstract, low, high = self.evidence.paper.abstract, self.evidence.start, self.evidence.end
        spans = [(a, b) for a, b in split_sentences(abstract) if a >= low and b <= high] or [(low, high)]
        return [(a, b, f" {_fold(abstract[a:b])} ", frozenset(terms(abstract[a:b]))) for a, b in spans]

    def has_sentence(self, text: str) -> bool:
        """Tell whether a text is a whole sentence of the abstract, letter by letter."""
        abstract = self.evidence.paper.abstract
        return any(abstract[start:end] == text for start, end, *_ in self._sentences)

    @cached_property
    def figures(self) -> Figures:
        """The numbers of title, abstract, venue and year."""
        return Figures(self._text)

    @cached_property
    def names(self) -> Names:
        """The words of title, abstract, venue, year and authors, which are where names can be."""
        return Names(f"{self._text} {' '.join(self.evidence.paper.authors)}")

    @cached_property
    def _text(self) -> str:
        paper = self.evidence.paper
        return f"{paper.title} {paper.abstract} {paper.venue} {paper.year}"

    @cached_property
    def addresses(self) -> frozenset[str]:
        """The addresses in title and abstract and those of the paper, in one form."""
        paper = self.evidence.paper
        found = [match[0] for match in ADDRESS.finditer(f"{paper.title} {paper.abstract}")]
        # A lost space has glued the next sentence to some.
        found += [re.split(r"\.(?=[A-Z])", each)[0] for each in found]
        ids = (paper.url, paper.doi, paper.arxiv_id and f"arxiv:{paper.arxiv_id}")
        return frozenset(address_key(each) for each in (*ids, *found) if each)

    @cached_property
    def words(self) -> frozenset[str]:
        """All words that may be the name of an author."""
        paper, passage = self.evidence.paper, self.evidence.passage
        return frozenset(
            re.findall(r"[^\W\d_]{2,}", f"{paper.title} {passage} {paper.venue} {' '.join(paper.authors)}")
        )

    def is_named(self, text: str) -> bool:
        """Tell whether a text is little more than the title of the paper, with authors, venue or year."""
        paper, folded = self.evidence.paper, _fold(text)
        title = _fold(paper.title)
        if len(title) < NEAR_CHARS // 2 or title not in folded or len(text) > CLAIM_CHARS:
            return False
        known = set(
            _fold(
                f"{' '.join(paper.authors)} {paper.venue} and the proceedings conference preprint arxiv doi https"
            ).split()
        )
        rest = [word for word in folded.replace(title, " ", 1).split() if word not in known]
        return sum(word.isalpha() and len(word) > 2 for word in rest) < 3

    def quote(self, claim: str) -> Quote:
        """Return the sentence that best supports a claim; of equals one that holds it word for word, else the first."""
        if claim not in self._quotes:
            folded, wanted = f" {_fold(claim)} ", frozenset(terms(claim))
            total = max(1, _weight(wanted))
            support, _, start, end = max(
                (_weight(wanted & held) / total, folded in text, -start, end)
                for start, end, text, held in self._sentences
            )
            is_judged = len(wanted) >= _LEAST_TERMS and _is_english(claim) and self._is_english
            share = len(wanted & self._terms) / len(wanted) if is_judged else 1.0
            self._quotes[claim] = Quote(-start, end, round(support, 3), share)
        return self._quotes[claim]

    def says(self, claim: str) -> bool:
        """Tell whether a claim rests on a sentence of the abstract, and is not just the paper's title and the like."""
        paper, wanted = self.evidence.paper, frozenset(terms(claim))
        named = frozenset(terms(f"{paper.title} {paper.venue} {paper.year} {' '.join(paper.authors)}"))
        return len(wanted & named) < len(wanted) / 2 and self.quote(claim).support >= LEAST_SUPPORT

    @cached_property
    def _terms(self) -> frozenset[str]:
        paper, passage = self.evidence.paper, self.evidence.passage
        return frozenset(terms(f"{paper.title} {passage} {paper.venue} {paper.year} {' '.join(paper.authors)}"))

    @cached_property
    def _is_english(self) -> bool:
        return _is_english(self.evidence.passage)


def _weight(wanted: frozenset[str]) -> int:
    return sum(2 if term[0].isdigit() else 1 for term in wanted)


def _is_english(claim: str) -> bool:
    words = re.findall(r"\w+", claim.casefold())
    return not _ENGLISH.isdisjoint(words) or (len(words) <= _TELEGRAM_WORDS and claim.isascii())


def address_core(address: str) -> str:
    """Return an address without the punctuation around it."""
    core = address.strip("<>").rstrip(".,;:!?)]'\"*>|")
    return core + ")" if core.count("(") > core.count(")") and f"{core})" in address else core


def address_key(address: str) -> str:
    """Return the one form of an address, however it is written: no scheme, no resolver, no version."""
    key = address_core(address.casefold())
    resolver = _RESOLVER.match(key)
    key = key[resolver.end() :] if resolver else key
    is_arxiv = resolver and resolver[1]
    return "arxiv:" + re.sub(r"(?:v\d{1,2})?(?:\.pdf)?$", "", key) if is_arxiv else key.rstrip("/")


def _fold(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
