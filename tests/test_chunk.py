from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from assistant.chunk import chunk_abstract, split_sentences

TEXT = st.lists(
    st.sampled_from(
        ["We show it.", "At 3.5% vs. 4, e.g. here", "(a) No!", "Is it?", "„Zitat“", "et al. say", "\n", "α·β", "x"]
    ),
    max_size=40,
).map(" ".join)


def spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


@given(TEXT | st.text(max_size=200))
def test_sentences_are_in_order_and_cover_all_but_white_space(text: str) -> None:
    found = split_sentences(text)
    assert all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))
    assert "".join("".join(text[a:b].split()) for a, b in found) == "".join(text.split())


@given(TEXT, st.integers(1, 30))
def test_chunks_are_exact_spans_within_the_budget_and_lose_no_token(text: str, budget: int) -> None:
    tokens = spans(text)
    chunks = chunk_abstract(text, split_sentences(text), tokens, budget)
    assert all(text[chunk.start : chunk.end] == chunk.text and 0 < chunk.n_tokens <= budget for chunk in chunks)
    assert sum(chunk.n_tokens for chunk in chunks) == len(tokens)
    assert all(any(chunk.start <= a and b <= chunk.end for chunk in chunks) for a, b in tokens)
    assert all(a.end <= b.start for a, b in zip(chunks, chunks[1:], strict=False))


def test_abbreviations_decimals_and_brackets_do_not_fool_the_splitter() -> None:
    text = (
        "We use Swin (see Fig. 2) by Liu et al. and reach 87.1% vs. 85.0 on it. "
        "This holds (15.8 vs 18.3) for O(n^2dright) too. "
        "In (3) It is shown. Then (i.e. The rest) follows."
    )
    parts = [text[a:b] for a, b in split_sentences(text)]
    assert parts[0].endswith("85.0 on it.")
    assert parts[1] == "This holds (15.8 vs 18.3) for O(n^2dright) too."


def test_unusual_white_space_does_no_harm() -> None:
    text = "A\u00a0. Then\u3000B.\u2003It goes on."
    assert "".join("".join(text[a:b].split()) for a, b in split_sentences(text)) == "".join(text.split())


def test_whole_sentences_are_kept_together_while_they_fit() -> None:
    text = "One two three. Four five six. Seven eight nine."
    assert [chunk.text for chunk in chunk_abstract(text, split_sentences(text), spans(text), 8)] == [
        "One two three. Four five six.",
        "Seven eight nine.",
    ]
