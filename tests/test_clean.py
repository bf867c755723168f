from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.clean import clean, repair_latex


@pytest.mark.parametrize(
    ("given_text", "wanted"),
    [
        ("lone \ud800 surrogate", "lone surrogate"),
        ("nul\x00 and bell\x07", "nul and bell"),
        ("right\u202eto left\u2066", "rightto left"),
        ("zero\u200bwidth \u2060joiner", "zerowidth joiner"),
        ("tags\U000e0041\U000e0042 hidden", "tags hidden"),
        ("cafe\u0301", "café"),
        ("schÃ¶n", "schön"),
        ("  a \t b\n\nc ", "a b c"),
    ],
)
def test_every_invisible_or_broken_character_is_gone(given_text: str, wanted: str) -> None:
    assert clean(given_text) == wanted


@given(st.text(max_size=300))
def test_cleaning_twice_changes_nothing_and_always_encodes(text: str) -> None:
    once = clean(text)
    once.encode("utf-8")
    assert clean(once) == once


def test_lines_are_kept_where_a_turn_has_them() -> None:
    assert clean("one\n\ntwo   three", lines=True) == "one\n\ntwo three"


@pytest.mark.parametrize(
    ("given_text", "title", "wanted"),
    [
        ("only {sim}13% of the cost", "", "only ~13% of the cost"),
        ("HyperZcdotZcdotW Operator", "", "HyperZ·Z·W Operator"),
        ("a HyperZ{cdotZ{cdot}W} operator", "", "a HyperZ·Z·W operator"),
        ("problems x2013 a platform", "", "problems – a platform"),
        (r"representations (\ie, many; \eg one)", "", "representations (i.e., many; e.g. one)"),
        (r"from the \overfeat network", "OverFeat again", "from the OverFeat network"),
        ("reduce this to O(n n).", "", "reduce this to O(n√n)."),
        ("attention to Oleft(n^{1.5}dright) from Oleft(n^2dright)", "", "attention to O(n^{1.5}d) from O(n^2d)"),
        (r"over 95\% of \emph{all} cases", "", "over 95% of all cases"),
        (r"na\"ive", "", "naïve"),
        ("from left to right) and {kept} as is", "", "from left to right) and {kept} as is"),
    ],
)
def test_latex_residue_of_web_pages_is_mended(given_text: str, title: str, wanted: str) -> None:
    assert repair_latex(given_text, title) == wanted
