"""The terms of a text as lexical search sees them: lower-cased words, stop words dropped, English stems."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

STOP_WORDS = frozenset(
    """a about all also an and any are as at be been but by can could did do does for from give had has have how i if in
    into is it its me my no not of on or our paper papers s so some such than that the their them then there these they
    this those to use used using was we were what when where which while who whom whose why will with would you
    your""".split()  # noqa: SIM905 - a list of 90 quoted words reads worse
)
"""A small list: words that ask or bind and tell no two abstracts apart."""

SENTENCES, SENTENCE_CHARS = 4_096, 500
"""The terms of so many texts of so many characters at most are remembered: one answer asks for them time and again."""

WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"\b[a-z]+\b")


def terms(text: str) -> list[str]:
    """Return the stemmed terms of `text`, in order, repeats included."""
    return list(_sentence_terms(text)) if len(text) <= SENTENCE_CHARS else _terms(text)


def _terms(text: str) -> list[str]:
    words = [word for word in WORD.findall(text.casefold()) if word not in STOP_WORDS]
    return _stemmer().stemWords(words)  # type: ignore[no-any-return]


@lru_cache(SENTENCES)
def _sentence_terms(text: str) -> tuple[str, ...]:
    return tuple(_terms(text))


def plain_terms(text: str) -> frozenset[str]:
    """Return the terms of words in small letters: those may be misspelt, where a name may just be unknown."""
    return frozenset(terms(" ".join(_PLAIN.findall(text))))


def words(text: str) -> list[str]:
    """Return the words of `text`, lower-cased, nothing dropped."""
    return WORD.findall(text.casefold())


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")
