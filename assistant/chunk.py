"""Paper -> sentences and chunks, as exact spans of the abstract; no token is lost.

A chunk is a run of whole sentences within a token budget of the encoder's own tokenizer, because what exceeds the
encoder's limit would be invisible to dense search. A sentence beyond the budget is split between tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import sentencex

from assistant.types import Chunk

Span = tuple[int, int]
"""(start, end) in code points."""

CHUNK_TOKENS = 128
"""Budget of a chunk, in tokens, the title not counted; chosen in `eval/STUDY.md`."""
TITLE_TOKENS = 96
"""Of a longer title only this many tokens are joined to a chunk for embedding; title and chunk fit in 256."""

_ODD_SPACE = re.compile(r"[^\S\n\x20]")
"""sentencex panics on some; each becomes one plain space, so that offsets hold."""
_MISSED = re.compile(r"(?<=[a-z0-9)\]}%\"”][.!?])\s+(?=[A-Z(“\"])")
ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|vs|al|etc|Figs?|Eqs?|cf|resp|approx|Drs?|Prof|No|Nos|Secs?|Tabs?|Refs?|w\.r\.t|ca|St)|\b[A-Z])\.$"
)


def split_sentences(text: str) -> list[Span]:
    """Return the spans of the sentences of `text`, in order; together they cover all but white space.

    sentencex finds the boundaries; it passes over those inside what it takes for an open bracket or quotation, which a
    second look at full stops before a capital adds.
    """
    spans: list[Span] = []
    start = 0
    for sentence in sentencex.segment("en", _ODD_SPACE.sub(" ", text)):
        cuts = [m.end() for m in _MISSED.finditer(sentence) if not ABBREVIATION.search(sentence[: m.start()])]
        for a, b in zip([0, *cuts], [*cuts, len(sentence)], strict=True):
            spans.extend(_trim(text, start + a, start + b))
        start += len(sentence)
    return spans


def chunk_abstract(
    abstract: str, sentences: Sequence[Span], tokens: Sequence[Span], budget: int = CHUNK_TOKENS
) -> list[Chunk]:
    """Pack whole sentences into chunks of at most `budget` tokens.

    Args:
        abstract: The text that all spans point into.
        sentences: As `split_sentences` returns them.
        tokens: Spans of the encoder's tokens over the whole abstract, in order, none left out.
        budget: Most tokens in a chunk, > 0.

    Returns:
        Chunks in order; `abstract[start:end] == text`, and together they cover every token.
    """
    chunks: list[Chunk] = []
    open_start, open_end, open_n = 0, 0, 0
    for start, end, n in _pieces(sentences, tokens, budget):
        if open_n and open_n + n > budget:
            chunks.append(Chunk(abstract[open_start:open_end], open_start, open_end, open_n))
            open_n = 0
        if not open_n:
            open_start = start
        open_end, open_n = end, open_n + n
    if open_n:
        chunks.append(Chunk(abstract[open_start:open_end], open_start, open_end, open_n))
    return chunks


def _pieces(sentences: Sequence[Span], tokens: Sequence[Span], budget: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, tokens) for each sentence, or for parts of one that exceeds the budget."""
    at = 0
    for start, end in sentences:
        first = at
        while at < len(tokens) and tokens[at][0] < end:
            at += 1
        inside = tokens[first:at]
        for i in range(0, len(inside), budget):
            part = inside[i : i + budget]
            last = i + budget >= len(inside)
            yield (start if i == 0 else part[0][0]), (end if last else part[-1][1]), len(part)


def _trim(text: str, start: int, end: int) -> Iterator[Span]:
    part = text[start:end]
    stripped = part.strip()
    if stripped:
        left = start + len(part) - len(part.lstrip())
        yield left, left + len(stripped)
