from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant import abstain
from assistant.answer import Assistant
from assistant.config import Config
from assistant.embed import Encoder
from assistant.ideas import ideas, purpose_of, singular_name
from assistant.index import Index
from assistant.ingest import ingest
from assistant.retrieve import search
from assistant.sample import open_sample
from assistant.store import Store
from assistant.suggest import FOLLOW_UPS, MOST_CHARS, first_questions, follow_ups
from assistant.types import Paper

TIDES = Paper(
    "1",
    "TideNet: A Sparse Network for Harbour Forecasts",
    "Existing numerical models are costly. We propose TideNet, a sparse network. On ImageNet and GaugeSet-10, TideNet"
    " reaches 91.2% accuracy.",
)


@pytest.fixture(scope="module")
def sample(encoder: Encoder) -> Iterator[tuple[Store, Index]]:
    with open_sample(encoder) as store:
        yield store, Index.open(store)


@pytest.fixture(scope="module")
def assistant() -> Iterator[Assistant]:
    with Assistant(Config()) as assistant:
        yield assistant


def questions(paper: Paper) -> dict[str, str]:
    return {idea.aspect: idea.question for idea in ideas(paper)}


def test_first_questions_are_answered_by_the_library_itself(sample: tuple[Store, Index], encoder: Encoder) -> None:
    store, index = sample
    found = first_questions(store, index, encoder, 6)
    assert len(set(found)) == len(found) == 6
    tops = set()
    for question in found:
        assert question.endswith("?") and len(question) <= MOST_CHARS
        hits = search(store, index, encoder, question, k=5)
        tops.add(hits[0].paper.id)
        assert question in questions(hits[0].paper).values()
        signals = abstain.read_signals(question, hits, index.lexicon.idf)
        assert abstain.load_refusal().reason(signals) is None
    assert len(tops) == 6
    assert len({question.split()[0] for question in found}) > 1


def test_first_questions_are_the_same_every_time(sample: tuple[Store, Index], encoder: Encoder) -> None:
    assert first_questions(*sample, encoder, 4) == first_questions(*sample, encoder, 4)


def test_a_library_without_papers_suggests_nothing(tmp_path: Path, hashing: HashingEncoder) -> None:
    with Store(tmp_path / "none", create=True) as store:
        assert first_questions(store, Index.open(store), hashing) == ()


def test_a_small_library_suggests_no_more_than_it_answers(tmp_path: Path, hashing: HashingEncoder) -> None:
    with Store(tmp_path / "few", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "few.jsonl", make_records(3))])
        found = first_questions(store, Index.open(store), hashing, 6)
    assert len(found) <= 3 and all(question.startswith("What does the paper “Study ") for question in found)


def test_a_question_is_asked_for_each_side_that_the_abstract_tells() -> None:
    assert questions(TIDES) == {
        "approach": "How does TideNet approach harbour forecasts?",
        "accuracy": "What accuracy does TideNet reach on ImageNet?",
        "data": "Which datasets was TideNet tested on?",
        "reason": "Why is TideNet needed for harbour forecasts?",
    }
    for idea in ideas(TIDES):
        assert TIDES.abstract[idea.cell.start : idea.cell.end] == idea.cell.text != ""


def test_no_side_is_asked_for_that_the_abstract_lacks() -> None:
    bare = Paper("1", TIDES.title, "We propose TideNet, a sparse network.")
    assert set(questions(bare)) == {"approach"}


@pytest.mark.parametrize(
    ("title", "abstract", "asked"),
    [
        ("Do Tides Remember Storms?", "We watch tides.", "Do Tides Remember Storms?"),
        ("A Remark on Tides", "We watch tides.", "What does the paper “A Remark on Tides” show?"),
        ("Kernels for Harbour Maps", "We count kernels.", "Which methods are there for harbour maps?"),
        ("Kernels for Fourier Maps", "We like Fourier maps.", "Which methods are there for Fourier maps?"),
    ],
)
def test_a_paper_without_a_name_is_asked_about_by_title_or_purpose(title: str, abstract: str, asked: str) -> None:
    assert asked in questions(Paper("1", title, abstract)).values()


def test_a_name_in_the_plural_makes_no_question_in_the_singular() -> None:
    nets = Paper("1", "TideNets: Sparse Networks", "We propose TideNets. However, existing nets are slow.")
    assert singular_name(nets) == ""
    assert not any("does TideNets" in question for question in questions(nets).values())


def test_a_purpose_is_written_as_the_abstract_writes_it() -> None:
    title = "TideNet: A Network for ViT-Based Harbour Maps with Few Gauges"
    assert purpose_of(Paper("1", title, "It draws ViT-based harbour maps.")) == "ViT-based harbour maps"
    assert purpose_of(Paper("1", title, "It draws.")) == "ViT-based harbour maps"
    assert purpose_of(Paper("1", "Networks for Effective and Quick Maps", "")) == ""


def test_two_cited_papers_are_set_against_each_other(assistant: Assistant) -> None:
    answer = assistant.ask("How do AutoInt and Hiformer model feature interactions?")
    found = follow_ups(answer)
    assert found[0] == "How does AutoInt differ from Hiformer?" and len(found) <= FOLLOW_UPS


@pytest.mark.parametrize(
    "question",
    [
        "How do AutoInt and Hiformer model feature interactions?",
        "Which methods replace attention by Fourier mixing?",
        "Which papers extend language models to very long videos?",
        "How are vision transformers made to use less memory?",
    ],
)
def test_follow_ups_name_what_was_found_and_are_answered(assistant: Assistant, question: str) -> None:
    answer = assistant.ask(question)
    found = follow_ups(answer)
    assert 0 < len(found) <= FOLLOW_UPS and len(set(found)) == len(found) and question not in found
    assert found == follow_ups(answer)
    for follow_up in found:
        assert not assistant.ask(follow_up).abstained, follow_up


def test_an_answer_that_cites_nothing_has_no_follow_ups(assistant: Assistant) -> None:
    answer = assistant.ask("How long does pizza dough rise in a cold kitchen?")
    assert answer.abstained and follow_ups(answer) == ()
