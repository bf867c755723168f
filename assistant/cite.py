"""What the gate asks of one piece of evidence: Evidence + words of an answer -> quote, figures, addresses, names.

In goes an `Evidence`; out come the sentence of its abstract that best supports a claim, with offsets and support, and
the figures, addresses and names that an answer may repeat. Nothing is refused here: a claim without any support still
gets a quote, with support 0, and what the evidence does not hold is told apart and left to the gate.

A model's output is a stranger's input: every repetition in the patterns is bounded, possessive, or unable to hold what
ends it, so that no text costs more than linear time.
"""

from __future__ import annotations

import re
from functools import cached_property

from assistant.chunk import split_sentences
from assistant.text import terms
from assistant.types import Evidence

NEAR_CHARS = 16
"""So many characters beside a form have to stand in the evidence, too, for it to belong to a quotation."""
CLAIM_CHARS = 600
"""So far around a marker its sentence is looked for."""

_URL = r"[!-;=?-Z\\^-z|~]"
ADDRESS = re.compile(
    rf"(?:doi:?\s?)?<?(?:https?://|\bwww\.){_URL}*+>?|(?:\bdoi:?\s?)?(?<![\w.])10\.\d{{4,9}}/{_URL}++"
    r"|\barxiv(?: preprint)?+(?::\s?| )(?:arxiv:)?(?:[a-z.-]{2,20}/\d{7}|\d{4}\.\d{4,5})(?:v\d{1,2})?"
    rf"|(?<![\w@./-])(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:com|org|net|io|ai|edu|gov|dev|app|cn|de|fr|uk|jp)/{_URL}++",
    re.IGNORECASE,
)
_RESOLVER = re.compile(
    r"(?:doi:?\s?)?<?(?:https?://)?(?:www\.)?(?:(?:dx\.)?doi\.org/)?"
    r"(arxiv\.org/(?:abs|pdf|html)/|10\.48550/arxiv\.|arxiv(?: preprint)?[: ]\s?(?:arxiv:)?)?"
)
FIGURE = re.compile(r"(?<![\d\[])(?:(?<![\d.])\.)?\d+(?:[.,]\d+)*")
_COUNTED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


class Source:
    """One piece of evidence with what the gate asks of it, worked out once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._quotes: dict[str, tuple[int, int, float]] = {}

    @cached_property
    def _sentences(self) -> list[tuple[int, int, str, frozenset[str]]]:
        """(start, end, folded text, terms) of each sentence of the abstract within the passage."""
        abstract, low, high = self.evidence.paper.abstract, self.evidence.start, self.evidence.end
        spans = [(a, b) for a, b in split_sentences(abstract) if a >= low and b <= high] or [(low, high)]
        return [(a, b, f" {_fold(abstract[a:b])} ", frozenset(terms(abstract[a:b]))) for a, b in spans]

    @cached_property
    def figures(self) -> frozenset[str]:
        """The figures that were put before the model: those of title, abstract, venue and year."""
        paper = self.evidence.paper
        text = f"{paper.title} {paper.abstract} {paper.venue} {paper.year}".replace("[", " ")
        words = _fold(text).split()
        counted = {str(number) for number, word in enumerate(_COUNTED, 2) if word in words}
        return figures(text) | counted

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
    def names(self) -> frozenset[str]:
        """All words that may be a name."""
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

    def quote(self, claim: str) -> tuple[int, int, float]:
        """Return start and end of the sentence that best supports a claim, and the support.

        Support = share of the claim's distinct content terms that the sentence holds; of equals the one that holds the
        claim word for word, else the first.
        """
        if claim not in self._quotes:
            folded, wanted = f" {_fold(claim)} ", frozenset(terms(claim))
            support, _, start, end = max(
                (len(wanted & held) / max(1, len(wanted)), folded in text, -start, end)
                for start, end, text, held in self._sentences
            )
            self._quotes[claim] = (-start, end, round(support, 3))
        return self._quotes[claim]


def figures(text: str) -> frozenset[str]:
    """Return the figures of a text, each in one spelling; a number right behind `[` is a marker's, and none."""
    return frozenset(_plain(found) for found in FIGURE.findall(text))


def _plain(text: str) -> str:
    """Return a figure without thousands separators and trailing zeros, so that 1,000 and 87.10 meet 1000 and 87.1."""
    plain = re.sub(r",(?=\d{3}(?!\d))", "", text).replace(",", ".")
    plain = plain.rstrip("0").rstrip(".") if plain.count(".") == 1 else plain
    return plain.lstrip("0") or "0"


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
