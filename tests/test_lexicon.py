from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant import lexicon as lexicon_module
from assistant.lexicon import K1, B, Lexicon, Postings, PostingsBuilder

TERM = st.sampled_from(["kettle", "tea", "teapot", "tē", "étude", "x", "zebra", "𝛼beta"])
DOCUMENTS = st.lists(st.lists(TERM, max_size=12), max_size=12)


def by_hand(documents: list[list[str]], query: list[str]) -> list[float]:
    """Return BM25 as its formula has it, one document after the other."""
    n, average = len(documents), max(1.0, sum(map(len, documents)) / max(1, len(documents)))
    scores = []
    for document in documents:
        score = 0.0
        for term in query:
            df, tf = sum(term in each for each in documents), document.count(term)
            weight = math.log(1 + (n - df + 0.5) / (df + 0.5))
            score += weight * tf / (tf + K1 * (1 - B + B * len(document) / average))
        scores.append(score)
    return scores


@given(DOCUMENTS, st.lists(TERM, max_size=5), st.integers(1, 9))
def test_scores_are_those_of_the_formula_however_the_postings_were_made(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[str]], query: list[str], run: int
) -> None:
    query = [*query, "unknown"]
    for folder in (None, tmp_path_factory.mktemp("lexicon") / "postings"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lexicon_module, "RUN", run)
            builder = PostingsBuilder(folder)
            builder.add(Counter(each) for each in documents)
            lexicon = Lexicon(builder.close())
        assert np.allclose(lexicon.scores(query), by_hand(documents, query), atol=1e-5)
        for term in query:
            assert lexicon.knows(term) == any(term in each for each in documents)
        if folder:
            assert not list(folder.glob("run-*"))
            again = Lexicon(Postings.opened(folder))
            assert np.array_equal(again.scores(query), lexicon.scores(query))


@given(DOCUMENTS, TERM)
def test_postings_name_the_documents_of_a_term(documents: list[list[str]], term: str) -> None:
    builder = PostingsBuilder(None)
    builder.add(map(Counter, documents))
    found, counts = builder.close().find(term)
    wanted = {i: each.count(term) for i, each in enumerate(documents) if term in each}
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == wanted


@given(DOCUMENTS, st.sampled_from("tzé𝛼q"))
def test_terms_are_listed_by_their_first_letter(documents: list[list[str]], letter: str) -> None:
    builder = PostingsBuilder(None)
    builder.add(map(Counter, documents))
    known = {term for each in documents for term in each if term.startswith(letter)}
    assert set(builder.close().beginning_with(letter)) == known


def test_documents_that_came_later_are_weighed_as_if_they_were_there() -> None:
    first, later = [["tea", "kettle"], ["tea"], ["zebra"]], [["zebra", "tea"], ["tea"]]
    lexicon, builder = Lexicon.of(first), PostingsBuilder(None)
    builder.add(map(Counter, later))
    assert lexicon.scores(["tea"], builder.close())[1] == pytest.approx(lexicon.scores(["tea"])[1])


def test_an_unknown_term_becomes_the_nearest_known_one() -> None:
    lexicon = Lexicon.of([["transformer", "attention"], ["attenuation"]])
    assert lexicon.respell("transfomer") == "transformer"
    assert lexicon.respell("atention") == "attention"
    assert lexicon.respell("attention") == "attention"
    assert lexicon.respell("qzx") == "qzx"
    assert lexicon.respell("ransformer") == "ransformer"  # the first letter counts
