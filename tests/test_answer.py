"""End to end: question -> Answer, over the sample library and, where they are at hand, the five search pages."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ir_measures
import pytest
from conftest import TEST_DATA, write_jsonl
from endpoint import Endpoint, Reply, answer, error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant import Answer, Assistant, Config, ConfigError, StoreError, ask
from assistant.clean import clean, repair_latex
from assistant.followup import searched_text
from assistant.identity import normalised_title
from assistant.store import Store

QUESTION = "What does VOLO reach on ImageNet?"
DEADLINE_S = 4.0
"""Of a question to a scripted endpoint; room for a busy machine."""
OFF_TOPIC = "How do I fix a dripping kitchen tap?"


def holds(answer: Answer, assistant: Assistant) -> None:
    """Assert what is always true of an answer."""
    import re

    markers = [(int(match[1]), *match.span()) for match in re.finditer(r"\[(\d+)\]", answer.text)]
    assert markers == [(each.number, each.text_start, each.text_end) for each in answer.citations]
    for each in answer.citations:
        paper = assistant.paper(each.paper.id)
        assert paper is not None and paper.abstract[each.start : each.end] == each.quote != ""
        assert answer.evidence[each.number - 1].paper.id == each.paper.id
    assert answer.abstained == (answer.reason is not None)
    assert not (answer.abstained and answer.citations)
    json.dumps(answer.as_dict())


@pytest.fixture(scope="module")
def sample() -> Iterator[Assistant]:
    with Assistant(Config()) as assistant:
        assert assistant.library == "sample"
        yield assistant


@pytest.fixture
def scripted() -> Iterator[tuple[list[Reply], Assistant, Endpoint]]:
    """An assistant whose endpoint gives the replies put into the list."""
    replies: list[Reply] = []
    with (
        Endpoint(lambda _body: replies[0]) as endpoint,
        Assistant(Config(llm_base_url=endpoint.url, llm_model="scripted", llm_timeout_s=DEADLINE_S)) as assistant,
    ):
        yield replies, assistant, endpoint


# --- Without an LLM ---------------------------------------------------------------------------------------------------


def test_the_sample_library_answers_at_once_with_verbatim_cited_sentences(sample: Assistant) -> None:
    given_answer = sample.ask(QUESTION)
    holds(given_answer, sample)
    assert "87.1%" in given_answer.text
    assert given_answer.answerer == "extractive" and given_answer.model is None and given_answer.fallback is None
    assert given_answer.library == "sample"
    assert 1 <= len(given_answer.citations) <= 4
    assert all(each.support == 1.0 and each.quote in given_answer.text for each in given_answer.citations)
    assert given_answer.usage.llm_calls == 0


def test_ask_is_one_call() -> None:
    assert "87.1%" in ask(QUESTION).text


def test_nothing_relevant_is_an_abstention_with_reason_and_closest_papers(sample: Assistant) -> None:
    given_answer = sample.ask(OFF_TOPIC)
    holds(given_answer, sample)
    assert given_answer.abstained and given_answer.reason == "no_match"
    assert len(given_answer.closest) == 3


def test_a_filter_that_excludes_all_is_told(sample: Assistant) -> None:
    given_answer = sample.ask(QUESTION, where=["year>=2020"])
    assert given_answer.reason == "filter_excluded_all"
    assert "451 have no year" in given_answer.text


def test_pieces_joined_are_the_text_and_each_is_a_list_item(sample: Assistant) -> None:
    stream = sample.stream(QUESTION)
    pieces = list(stream)
    assert "".join(pieces) == stream.answer.text == sample.ask(QUESTION).text
    assert len(pieces) > 1


def test_async_code_gets_the_same(sample: Assistant) -> None:
    async def both() -> tuple[str, str]:
        stream = sample.astream(QUESTION)
        pieces = [piece async for piece in stream]
        assert stream.answer.text == "".join(pieces)
        return (await sample.aask(QUESTION)).text, "".join(pieces)

    whole, streamed = asyncio.run(both())
    assert whole == streamed == sample.ask(QUESTION).text


def test_a_follow_up_is_searched_with_what_it_leans_on_and_a_new_topic_is_not(sample: Assistant) -> None:
    first = sample.ask(QUESTION)
    history = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": first.text}]
    follow = sample.ask("And how is it different from self-attention?", history=history)
    assert "VOLO" in follow.searched and follow.evidence[0].paper.title.startswith("VOLO")
    fresh = "Which papers deal with click-through rate prediction and feature interactions?"
    assert sample.ask(fresh, history=history).searched == fresh
    assert sample.search("And on ADE20K?", history=history).searched == searched_text("And on ADE20K?", history)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question": "  "}, "empty"),
        ({"question": "\u200b"}, "empty"),
        ({"question": "x" * 9_000}, "9,000"),
        ({"question": 5}, "int"),
        ({"question": "q", "k": 0}, "k is 0"),
        ({"question": "q", "k": "3"}, "k is '3'"),
        ({"question": "q", "where": ["nonsense"]}, "cannot read the condition"),
        ({"question": "q", "history": "hello"}, "history is a str"),
        ({"question": "q", "history": [{"role": "system", "content": "x"}]}, "turn 1"),
        ({"question": "q", "history": [{"role": "user"}]}, "turn 1"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_in_words(sample: Assistant, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sample.ask(**arguments)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=120).filter(lambda text: any(c.isalnum() for c in clean(text))))
def test_any_question_ends_in_an_answer_that_holds(sample: Assistant, question: str) -> None:
    holds(sample.ask(question), sample)


def test_a_library_of_ones_own_takes_the_place_of_the_sample(tmp_path: Path) -> None:
    with Assistant(Config()) as assistant:
        assert assistant.ask(QUESTION).library == "sample"
        assistant.ingest(
            [
                write_jsonl(
                    tmp_path / "a.jsonl",
                    [{"title": "Kettles", "abstract": "Kettles of steel boil water in 97 seconds."}],
                )
            ]
        )
        own = assistant.ask("How long do kettles of steel take to boil water?")
        assert own.library == str(assistant.folder) and "97 seconds" in own.text
        holds(own, assistant)


def test_an_empty_library_says_so_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    with Assistant(Config(library=tmp_path)) as assistant:
        assert assistant.ask(QUESTION).reason == "empty_library"
        assert str(assistant.search(QUESTION).reason).startswith("empty_library")
    with Assistant(Config(library=tmp_path / "none")) as assistant, pytest.raises(StoreError, match="no such folder"):
        assistant.ask(QUESTION)


def test_a_running_assistant_sees_what_another_process_ingests(tmp_path: Path) -> None:
    write = lambda name, n: write_jsonl(
        tmp_path / name, [{"title": f"Kettle {n}", "abstract": f"The kettle model K{n} boils in {n} seconds."}]
    )
    with (
        Assistant(Config(library=tmp_path / "library")) as reader,
        Assistant(Config(library=tmp_path / "library")) as writer,
    ):
        writer.ingest([write("a.jsonl", 31)])
        assert len(reader.search("kettle model")) == 1
        writer.ingest([write("b.jsonl", 77)])
        deadline = time.monotonic() + 5
        while len(reader.search("kettle model")) < 2:
            assert time.monotonic() < deadline, "a finished ingest is seen within 5 s"
            time.sleep(0.1)


# --- With an endpoint -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("VOLO reaches 87.1% [1].", [1]),
        ("VOLO reaches 87.1% [1, 2].", [1, 2]),
        ("VOLO reaches 87.1% [1-3].", [1, 2, 3]),
        ("VOLO reaches 87.1% [1]. It is new [9]. So it is [0].", [1]),
        ("VOLO reaches 87.1% [1] (Smithson et al., 2019). See doi:10.9999/fake.123 for more [2].", [1, 2]),
    ],
)
@pytest.mark.parametrize("pieces", [None, 1, 7])
def test_markers_resolve_and_inventions_never_reach_the_user(
    scripted: tuple, said: str, numbers: list[int], pieces: int | None
) -> None:
    replies, assistant, endpoint = scripted
    replies.append(answer(said, pieces))
    stream = assistant.stream(QUESTION)
    shown = list(stream)
    given_answer = stream.answer
    holds(given_answer, assistant)
    assert "".join(shown) == given_answer.text == assistant.ask(QUESTION).text
    assert [each.number for each in given_answer.citations] == numbers
    for invention in ("[9]", "[0]", "Smithson", "10.9999", "()"):
        assert invention not in given_answer.text
    assert given_answer.answerer == "llm" and given_answer.model == "scripted" and given_answer.usage.llm_calls == 1
    roles = [message["role"] for message in endpoint.requests[0]["body"]["messages"]]
    assert roles == ["system", "user"]


def test_stopping_from_another_thread_ends_the_endpoints_call(scripted: tuple) -> None:
    replies, assistant, endpoint = scripted
    replies.append(answer("VOLO reaches 87.1% [1]. And more.", finish=None, done=False, hang=True))
    stream = assistant.stream(QUESTION)
    assert next(stream)
    waiting = threading.Thread(target=list, args=(stream,))
    waiting.start()
    stream.close()
    waiting.join(1.0)
    assert not waiting.is_alive()
    assert endpoint.is_idle(), "the connection is closed"


def test_a_prompt_too_long_for_the_model_is_cut_and_tried_once_more() -> None:
    too_long = error(400, "This model's maximum context length is 4096 tokens", code="context_length_exceeded")
    with (
        Endpoint([too_long, answer("VOLO reaches 87.1% [1].")]) as endpoint,
        Assistant(Config(llm_base_url=endpoint.url, llm_model="m")) as assistant,
    ):
        given_answer = assistant.ask(QUESTION)
        holds(given_answer, assistant)
    assert given_answer.text == "VOLO reaches 87.1% [1]." and given_answer.fallback is None
    first, second = (len(request["body"]["messages"][1]["content"]) for request in endpoint.requests)
    assert second < 0.7 * first and given_answer.usage.llm_calls == 2


def test_an_answer_without_a_valid_citation_is_never_shown(scripted: tuple) -> None:
    replies, assistant, _ = scripted
    replies.append(answer("From memory I know that it is 99.9% for sure [17]. Trust me."))
    given_answer = assistant.ask(QUESTION)
    holds(given_answer, assistant)
    assert given_answer.reason == "all_citations_invalid"
    assert "99.9" not in given_answer.text and given_answer.closest


def test_the_models_own_refusal_is_an_abstention(scripted: tuple) -> None:
    replies, assistant, _ = scripted
    replies.append(answer("NOT_IN_SOURCES"))
    given_answer = assistant.ask(QUESTION)
    holds(given_answer, assistant)
    assert given_answer.reason == "not_in_sources" and given_answer.closest[0].title.startswith("VOLO")


def test_nothing_relevant_makes_no_call(scripted: tuple) -> None:
    replies, assistant, endpoint = scripted
    replies.append(answer("A tap is mended like this [1]."))
    assert assistant.ask(OFF_TOPIC).abstained
    assert endpoint.requests == []


def test_a_figure_that_no_cited_abstract_holds_is_flagged_in_place(scripted: tuple) -> None:
    replies, assistant, _ = scripted
    replies.append(answer("VOLO reaches 88.4% on ImageNet [1]."))
    given_answer = assistant.ask(QUESTION)
    (figure,) = given_answer.checks.figures_unsupported
    assert given_answer.text[figure.start : figure.end] == "88.4"


# --- Over the five search pages ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(page_library: Path) -> Iterator[Assistant]:
    with Assistant(Config(library=page_library)) as assistant:
        yield assistant


@pytest.fixture(scope="module")
def questions() -> list[dict]:
    file = TEST_DATA / "questions" / "dev.jsonl"
    if not file.exists():
        pytest.skip(f"no questions in {file}; name the folder with ASSISTANT_TEST_DATA")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_the_five_pages_give_527_records_and_451_papers_whatever_their_order(
    page_library: Path, corpus: Path, tmp_path: Path
) -> None:
    with Assistant(Config(library=page_library)) as assistant:
        again = assistant.ingest(sorted(corpus.glob("*.txt"), reverse=True))
        assert again.totals == {
            "found": 527,
            "new": 0,
            "updated": again.totals["updated"],
            "unchanged": again.totals["unchanged"],
            "merged": 76,
            "rejected": 0,
        }
        assert again.totals["updated"] + again.totals["unchanged"] == 451
        assert again.encoded == 0 and again.papers == 451
        same = assistant.ingest(sorted(corpus.glob("*.txt")))
        assert same.totals == {"found": 527, "new": 0, "updated": 0, "unchanged": 451, "merged": 76, "rejected": 0}


@pytest.mark.slow
def test_every_title_finds_its_paper_first(pages: Assistant) -> None:
    papers = pages.papers()
    assert len(papers) == 451
    missed = [paper.title for paper in papers if pages.search(paper.title, k=1)[0].paper.id != paper.id]
    assert missed == []


@pytest.mark.slow
def test_retrieval_reaches_its_floor_on_the_dev_questions(pages: Assistant, questions: list[dict]) -> None:
    ids = {normalised_title(paper.title): paper.id for paper in pages.papers()}
    qrels, run = [], []
    for question in questions:
        if question["answerable"]:
            for gold in question["gold"]:
                paper_id = ids[normalised_title(repair_latex(clean(gold["title"])))]
                qrels.append(ir_measures.Qrel(question["id"], paper_id, gold["grade"]))
            hits = pages.search(question["question"], k=10, history=question["history"])
            run += [ir_measures.ScoredDoc(question["id"], hit.paper.id, hit.score) for hit in hits]
    assert ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10] >= 0.86


@pytest.mark.slow
def test_extractive_answers_hold_the_facts(pages: Assistant, questions: list[dict]) -> None:
    held = []
    for question in questions:
        if question["kind"] in {"fact", "named"}:
            given_answer = pages.ask(question["question"])
            holds(given_answer, pages)
            assert len(given_answer.citations) <= 4
            text = given_answer.text.lower()
            held += [any(each.lower() in text for each in group) for group in question["fact_strings"]]
    assert sum(held) / len(held) >= 0.75


@pytest.mark.slow
def test_off_topic_claims_are_refused(sample: Assistant) -> None:
    file = TEST_DATA / "bench" / "scifact" / "queries.jsonl"
    if not file.exists():
        pytest.skip(f"no claims in {file}; name the folder with ASSISTANT_TEST_DATA")
    claims = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()[:100]]
    refused = [sample.ask(claim).abstained for claim in claims]
    assert sum(refused) >= 0.9 * len(refused), os.linesep.join(c for c, r in zip(claims, refused, strict=True) if not r)


def test_a_library_is_explored_through_the_assistant(sample: Assistant, tmp_path: Path) -> None:
    paper = sample.search("Music Transformer", k=1)[0].paper
    assert all(other.id != paper.id and score <= 1.0 for other, score in sample.similar(paper.id, k=3))
    (row,) = sample.compare([paper.id])
    method = row.as_dict()["method"]
    assert method["text"] and paper.abstract[method["start"] : method["end"]] == method["text"]
    assert sample.overview().papers == 451 and len(sample.atlas().ids) == 451
    question = sample.suggest(1)[0]
    assert sample.ask(question).citations
    with pytest.raises(ConfigError, match="no paper 'nowhere'"):
        sample.compare([paper.id, "nowhere"])
    with Assistant(Config(library=tmp_path / "empty")) as empty:
        (tmp_path / "empty").mkdir()
        with Store(tmp_path / "empty", create=True):
            pass
        assert empty.suggest() == () and empty.overview().papers == 0


def test_a_stream_tells_its_stages_and_what_it_may_cite_before_its_first_piece(scripted: tuple) -> None:
    replies, assistant, _ = scripted
    replies.append(answer("VOLO reaches 87.1% top-1 accuracy on ImageNet [1]. It is a model [1].", 12))
    stages: list[tuple[str, int]] = []
    stream = assistant.stream(QUESTION, watch=lambda stage: stages.append((stage, len(stream.evidence))))
    assert stream.evidence == () == stream.citations
    seen = [len(stream.citations) for _ in stream]
    assert [stage for stage, _ in stages] == ["reading", "writing"] and all(n > 0 for _, n in stages)
    assert seen == sorted(seen) and seen[0] >= 1
    assert stream.citations == stream.answer.citations and stream.evidence == stream.answer.evidence


def test_a_question_may_bring_its_own_settings(scripted: tuple) -> None:
    replies, assistant, endpoint = scripted
    replies.append(answer("VOLO reaches 87.1% [1]."))
    extractive = assistant.stream(QUESTION, config=assistant.config.changed(llm_model=None, k=2)).answer
    assert extractive.answerer == "extractive" and len(extractive.evidence) == 2 and endpoint.requests == []
    french = assistant.config.changed(answer_language="Français", answer_tokens=321)
    assert assistant.stream(QUESTION, config=french).answer.answerer == "llm"
    sent = endpoint.requests[-1]["body"]
    assert sent["max_tokens"] == 321 and "Français" in json.dumps(sent["messages"], ensure_ascii=False)
    assert assistant.ask(QUESTION).digest.config != extractive.digest.config
