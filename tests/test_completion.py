"""`assistant.completion` without a network: which thoughts of a model are dropped, and which models a list names.

What else it reads and refuses is tested through `assistant.llm` in `test_llm.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from endpoint import answer
from hypothesis import given
from hypothesis import strategies as st

from assistant.completion import Completion, Faults, read_models
from assistant.errors import LLMUnparsable

SAID = "VOLO reaches 87.1% [1]."
FAULTS = Faults("http://127.0.0.1")


def body(text: str, pieces: int | None = None, finish: str = "stop") -> bytes:
    return b"".join(answer(text, pieces, finish=finish).wire()).partition(b"\r\n\r\n")[2]


def read(text: str, pieces: int | None = None, finish: str = "stop") -> tuple[str, bool]:
    """Read an answer that comes in pieces of that many characters; return what is shown, and if it is complete."""
    completion = Completion(FAULTS)
    shown = "".join([*completion.feed(body(text, pieces, finish)), *completion.end()])
    return shown, completion.complete


# --- Thoughts ---------------------------------------------------------------------------------------------------------

THOUGHT = {
    "between tags": (f"<think>[1] it is.</think>\n\n{SAID}", SAID),
    "between tags, twice": (f"<think>a</think> <think>b</think>{SAID}", SAID),
    "in the middle": (f"{SAID} <think>Is [2] better?</think> It wins.", f"{SAID}  It wins."),
    "in the middle, on lines": (f"{SAID}\n<think>\nHm.\n</think>\nIt wins.", f"{SAID}\n\nIt wins."),
    "behind a marker": ("It wins [1] <think>Really?</think>by far.", "It wins [1] by far."),
    "without a beginning": (f"Okay, so [1] says this. And [2] that.\n</think>\n\n{SAID}", SAID),
    "without a beginning, in capitals": (f"THE USER WANTS a number.</think>{SAID}", SAID),
    "without a beginning, in Chinese": (f"好的，用户问。</think>{SAID}", SAID),
    "without a beginning, then in the middle": (f"Hmm.</think>{SAID} <think>x</think>", f"{SAID} "),
    "without a beginning, and twice aloud": (f"Let me see.</think>Okay, {SAID}", f"Okay, {SAID}"),
}
KEPT = {
    "tags that a sentence speaks of": "R1 thinks between <think> and </think> tags [1].",
    "tags that are quoted": 'It writes "<think>" and `<think>` first [1].',
    "half a tag": f"{SAID} It is <thi",
    "a beginning that no thought has": "The user study of [1] is small.",
    "a beginning that a thought has, without an end": "Okay, FNet replaces attention [1].",
    "one word of a beginning": "The",
}


@pytest.mark.parametrize("pieces", [1, 3, 999])
@pytest.mark.parametrize(("text", "shown"), THOUGHT.values(), ids=THOUGHT)
def test_no_thought_is_shown_however_it_arrives(text: str, shown: str, pieces: int) -> None:
    assert read(text, pieces) == (shown, True)


@pytest.mark.parametrize("pieces", [1, 3, 999])
@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_what_is_no_thought_is_kept(text: str, pieces: int) -> None:
    assert read(text, pieces) == (text, True)


@given(st.text("<think>/ .\nok", max_size=60), st.integers(1, 20))
def test_no_cut_of_the_stream_changes_what_is_shown(text: str, pieces: int) -> None:
    assert read(f"{text}{SAID}</think>It wins.", pieces) == read(f"{text}{SAID}</think>It wins.")


@pytest.mark.parametrize("pieces", [1, 999])
def test_an_answer_that_ends_within_its_thoughts_is_not_complete(pieces: int) -> None:
    assert read(f"{SAID}\n<think>But wait", pieces) == (f"{SAID}\n", False)


@pytest.mark.parametrize("text", ["<think>Is it [1]?", "Okay, so the user wants [1]"])
def test_thoughts_that_the_length_limit_cuts_are_an_answer_without_text(text: str) -> None:
    with pytest.raises(LLMUnparsable, match="without text .*raise answer_tokens"):
        read(text, finish="length")


def test_text_is_held_back_only_where_it_begins_as_thoughts_do() -> None:
    plain, aloud = Completion(FAULTS), Completion(FAULTS)
    assert "".join(plain.feed(body("FNet is quick [1]. It is", 4))) == "FNet is quick [1]. It is"
    assert "".join(aloud.feed(body("Okay, FNet is quick [1]. It is", 4))) == ""


# --- Models -----------------------------------------------------------------------------------------------------------

LISTS = {
    "OpenAI's form": {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
    "a bare list": [{"id": "a"}, {"id": "b"}],
    "another form": {"models": [{"name": "a"}, {"name": "b"}]},
    "odd ones and repeated ones": {"data": [{"id": "a"}, 7, {}, {"id": 5}, {"id": "x\n"}, {"id": "b"}, {"id": "a"}]},
    "one that is too long": [{"id": "a"}, {"id": "x" * 201}, {"id": "b"}],
}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
def test_the_names_of_the_models_are_read(listed: object) -> None:
    assert list(read_models(json.dumps(listed).encode(), FAULTS)) == ["a", "b"]


def test_a_list_may_be_empty() -> None:
    assert list(read_models(b'{"data": []}', FAULTS)) == []


@pytest.mark.parametrize("raw", [b"", b"<html>", b"7", b'{"data": "a"}', b'{"status": "ok"}', b"[" * 100_000, b"\xff"])
def test_what_is_no_list_of_models_is_refused(raw: bytes) -> None:
    with pytest.raises(LLMUnparsable, match="no list of models"):
        list(read_models(raw, FAULTS))


def test_only_so_many_models_are_listed_and_none_shows_the_key() -> None:
    key = "sk-very-secret-0123456789"
    names: Iterable[str] = [key, *map(str, range(5_000))]
    found = list(read_models(json.dumps([{"id": name} for name in names]).encode(), Faults("x", frozenset({key}))))
    assert found[:2] == ["***", "0"]
    assert len(found) == 2_000
