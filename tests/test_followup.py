from __future__ import annotations

import pytest

from assistant import Assistant, Config
from assistant.abstain import ABSTENTIONS
from assistant.followup import leans, read_rewriting, searched_text
from tests.endpoint import Endpoint, answer, error, hang, raw

ASKED = "Which Transformer composes music?"
TOLD = "Music Transformer composes minute-long pieces [1]. Another one upsamples audio [2]."
HISTORY = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": TOLD}]
FOLLOW_UP = "How did they bring its memory down?"


@pytest.mark.parametrize(
    "question",
    [
        "How did they bring its memory down?",
        "and on which datasets?",
        "What about images?",
        "how many parameters?",
        "What does the second one do?",
        "is that any good?",
        "Which results did the authors report?",
    ],
)
def test_a_question_that_points_back_goes_on_or_names_no_topic_leans_on_its_conversation(question: str) -> None:
    assert leans(question, HISTORY)
    assert searched_text(question, HISTORY).startswith(ASKED)
    assert not leans(question, []) and searched_text(question, []) == question


@pytest.mark.parametrize(
    "question",
    [
        "Which papers forecast traffic by ordinary differential equations?",
        "Something else: how are teeth arranged?",
        "Now a different topic, does it rain?",
        "And gait recognition with hierarchical spatio-temporal features?",
        "What does MInference speed up?",
        "what is knowledge distillation",
    ],
)
def test_a_question_with_a_topic_of_its_own_is_searched_as_it_is(question: str) -> None:
    assert searched_text(question, HISTORY) == question


def test_a_numbered_answer_is_carried_alone() -> None:
    searched = searched_text("What does the second one need?", HISTORY)
    assert "upsamples audio" in searched and "minute-long" not in searched
    assert "minute-long" in searched_text("How long is [1]?", HISTORY)


def test_a_new_name_takes_the_question_along_but_not_the_answer() -> None:
    searched = searched_text("And FNet?", HISTORY)
    assert searched == f"{ASKED} And FNet?"


def test_a_chain_of_follow_ups_carries_the_question_that_opened_the_topic() -> None:
    history = [*HISTORY, {"role": "user", "content": FOLLOW_UP}, {"role": "assistant", "content": "To linear [1]."}]
    searched = searched_text("And on which pieces was it evaluated?", history)
    assert searched.startswith(ASKED) and "minute-long" in searched and "To linear" in searched


def test_an_abstention_is_never_carried_into_a_search() -> None:
    history = [HISTORY[0], {"role": "assistant", "content": ABSTENTIONS["not_in_sources"]}]
    assert searched_text(FOLLOW_UP, history) == f"{ASKED} {FOLLOW_UP}"


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ('"How did Music Transformer bring its memory down?"\n', "How did Music Transformer bring its memory down?"),
        ("", None),
        ("...", None),
        ("One line.\nAnother line.", None),
        ("x" * 500, None),
    ],
)
def test_a_rewriting_is_one_short_line(reply: str, read: str | None) -> None:
    assert read_rewriting(reply) == read


def ask(endpoint: Endpoint, question: str = FOLLOW_UP, **settings: object):
    values = {"llm_base_url": endpoint.url, "llm_model": "scripted", "llm_timeout_s": 8.0, **settings}
    with Assistant(Config(**values)) as assistant:  # type: ignore[arg-type]
        return assistant.ask(question, history=HISTORY)


REWRITTEN = "How does Music Transformer reduce the memory of relative attention?"


def test_a_model_rewrites_a_follow_up_by_one_request_whose_text_is_searched() -> None:
    with Endpoint([answer(REWRITTEN), answer("To linear in the sequence length [1].")]) as endpoint:
        given = ask(endpoint)
    assert given.searched == REWRITTEN and given.answerer == "llm"
    assert given.usage.llm_calls == len(endpoint.requests) == 2
    assert given.usage.prompt_tokens == 22  # both requests are counted
    asked = endpoint.requests[0]["body"]["messages"]
    assert [each["role"] for each in asked] == ["system", "user"] and "minute-long pieces." in asked[1]["content"]
    assert given.evidence[0].paper.title == "Music Transformer"


def test_a_question_of_its_own_is_not_rewritten() -> None:
    with Endpoint(answer("So it is [1].")) as endpoint:
        given = ask(endpoint, "Which papers deal with click-through rate prediction?")
    assert given.usage.llm_calls == 1 and "click-through" in given.searched


@pytest.mark.parametrize(
    "fault", [error(500, "busy"), raw(b"<html>", "text/html"), answer("Sure!\n\nHere it is."), hang()]
)
def test_a_failed_rewriting_is_not_tried_again_and_the_rules_serve(fault: object) -> None:
    with Endpoint([fault, answer("To linear [1].")]) as endpoint:  # type: ignore[list-item]
        given = ask(endpoint, llm_timeout_s=4.0)
    assert given.searched == searched_text(FOLLOW_UP, HISTORY)
    assert given.answerer == "llm" and given.text == "To linear [1]."
    assert len(endpoint.requests) == given.usage.llm_calls == 2


def test_rewriting_and_answer_make_three_requests_at_most() -> None:
    with Endpoint(error(503, "busy")) as endpoint:
        given = ask(endpoint)
    assert len(endpoint.requests) == given.usage.llm_calls == 3
    assert given.answerer == "extractive" and given.fallback and given.fallback.error == "llm_unavailable"
    assert any("did not rewrite" in warning for warning in given.warnings)


def test_nothing_is_rewritten_where_no_paper_passes_the_filter() -> None:
    with Endpoint(answer(REWRITTEN)) as endpoint:
        values = {"llm_base_url": endpoint.url, "llm_model": "scripted"}
        with Assistant(Config(**values)) as assistant:  # type: ignore[arg-type]
            given = assistant.ask(FOLLOW_UP, history=HISTORY, where=["year>=2100"])
    assert given.reason == "filter_excluded_all" and not endpoint.requests
