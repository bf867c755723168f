from __future__ import annotations

import re

import pytest

from assistant import Assistant, Config
from assistant.abstain import DETAILS, asked_for, load_refusal, names

DETAILS_THAT_ABSTRACTS_LEAVE_OUT = [
    ("What temperature does DINOv2 use?", "DINOv2"),
    ("How many GPU hours did training Hiera take?", "Hiera"),
    ("What batch size was used for SimMIM?", "SimMIM"),
    ("Which optimizer does the Routing Transformer use?", "Routing Transformers"),
    ("Who funded the work on Matryoshka Representation Learning?", "Matryoshka"),
]


@pytest.fixture(scope="module")
def sample():
    with Assistant(Config()) as assistant:
        yield assistant


@pytest.mark.parametrize(("question", "title"), DETAILS_THAT_ABSTRACTS_LEAVE_OUT)
def test_a_detail_that_the_abstract_leaves_out_is_not_answered_and_the_paper_is_offered(
    sample: Assistant, question: str, title: str
) -> None:
    given = sample.ask(question)
    assert given.abstained and given.reason == "not_in_sources"
    assert any(title in paper.title for paper in given.closest) and not given.citations


@pytest.mark.parametrize(
    "question",
    [
        "How many layers does the Routing Transformer have and what perplexity does it reach on PG-19?",
        "What accuracy does SimMIM reach on ImageNet-1K?",
        "Which ablations does the A ConvNet for the 2020s paper go through?",
    ],
)
def test_a_detail_that_the_abstract_tells_is_answered(sample: Assistant, question: str) -> None:
    assert sample.ask(question).citations


def test_names_are_words_with_a_capital_or_a_digit_but_no_bare_numbers_and_no_first_word() -> None:
    assert names("Does ViT-B/16 beat the 2 models of ResNet in 2021? Nobody knows.") == ["ViT-B", "ResNet"]
    assert asked_for("Which learning rate was used?") == [" learning rate "]


def test_each_detail_is_told_by_its_own_name() -> None:
    for detail, told in DETAILS.items():
        assert re.search(rf"\b(?:{told})", detail, re.IGNORECASE) or detail in {"mAP", "word error rate"}, detail


def test_the_shipped_decision_keeps_its_operating_curve() -> None:
    refusal = load_refusal()
    used = [row for row in refusal.curve if row["threshold"] == round(refusal.threshold, 3)]
    assert used and used[0]["answerable"] <= 0.1 and used[0]["unanswerable"] >= 0.55 and used[0]["off_topic"] >= 0.95
    assert all(a["answerable"] <= b["answerable"] for a, b in zip(refusal.curve, refusal.curve[1:], strict=False))
