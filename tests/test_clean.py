from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.clean import clean, drop_unseen, repair_latex


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


def test_no_character_is_let_in_that_is_a_control_a_format_private_or_no_character() -> None:
    shown = re.compile(
        "[\u0600-\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd\t\n\r]"
    )  # marks of Arabic and Kaithi numbers
    every = (chr(code) for code in range(0x110000))
    unseen = [
        each for each in every if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Co"} and not shown.match(each)
    ]
    assert len(unseen) > 100_000 and drop_unseen("".join(unseen)) == ""
    assert drop_unseen("\ufdd0\uffff\u2800\u3164\u034f\ufe0f\U000e0100") == ""


def test_a_letter_keeps_no_more_marks_than_a_script_needs() -> None:
    assert drop_unseen("a" + "\u0323\u0302\u0301\u0300" * 20 + "b") == "a\u0323\u0302\u0301\u0300b"
    assert clean("ệ ñ̃ ที่ שָׁ") == unicodedata.normalize("NFC", "ệ ñ̃ ที่ שָׁ")


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


def test_commands_of_maths_are_left_alone_and_those_outside_are_spelled() -> None:
    text = r"The cost is $\frac{a}{b}$ and \(\mathcal{O}(n \sqrt{d})\), as \overfeat shows for $5."
    mended = repair_latex(text, "OverFeat for all")
    assert mended == r"The cost is $\frac{a}{b}$ and \(\mathcal{O}(n \sqrt{d})\), as OverFeat shows for $5."
