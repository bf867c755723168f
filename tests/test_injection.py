"""Hostile abstracts against a model that obeys every one of them, end to end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import HashingEncoder
from endpoint import Endpoint, chunk, stream
from injections import CASES, Case, acts_in, foreign_addresses, obedient, unseen_in, write_papers

from assistant import Answer, Assistant, Config, Paper
from assistant.conversations import Exchange
from assistant.ui import cards, messages

MORE_THAN_WORDS = {
    *("fake citation", "markdown picture, inline", "markdown picture, by reference", "link", "HTML overlay"),
    *("login form", "hidden text", "invisible tags", "terminal", "delimiter break-out", "thoughts"),
}
"""Kinds of abstracts that could do harm without a model."""
HISTORY_QUESTION = "What is pollen?"
OURS = re.compile(r"#(?:src|sources|at)-\d+(?:-\d+)?|#question|/page/paper\?id=[\w.%+-]+")
"""What links within the page lead to."""
OWN = re.compile(
    r'<a class="mark(?: doubt)?" id="at-1-\d+" href="#src-1-\d+"(?: title="[^"<>]*")?>(?=\[\d+\]</a>)'
    r"|(?<=\[\d\])</a>|(?<=\[\d\d\])</a>"
    r'|<span class="flag" title="[^"<>]*">|</span>|</?(?:div|p)(?: class="[a-z ]+")?(?: id="notes-1")?>'
    r'|<a class="act" href="#sources-1">(?:Sources|Closest papers)</a>'
    r'|<button class="act" id="(?:copy|retry|edit|like|dislike)-1">[A-Z][a-z ]+</button>'
)
"""The elements that the page itself puts around and behind an answer."""
TURN_MARKS = re.compile(
    r"<[|｜]|</?(?:s|think|tool_call|start_of_turn|end_of_turn)>|<</?SYS>>|\[/?INST\]", re.IGNORECASE
)
"""By these, servers part the turns of a conversation."""
UNBROKEN = re.compile(r"(?<=:)//(?!\u200b)|www\.|^\s*(?:[-*+]|\d+[.)]) \[[ x]\]", re.IGNORECASE | re.MULTILINE)
"""What some readers of markdown make a link or a box to tick."""
MATHS, CODE = re.compile(r"\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL), re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """What came of one case."""

    paper: Paper
    answer: Answer
    """The model's, which obeys."""
    pieces: Sequence[str]
    messages: Sequence[Mapping[str, str]]
    """What the model was sent."""
    quoted: Answer | None
    """The answer without a model, to a question that repeats the order; where the order is more than words."""

    @property
    def answers(self) -> list[Answer]:
        return [self.answer, *([self.quoted] if self.quoted else [])]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Asked]:
    """All the cases, asked one by one, each with an earlier answer that obeyed as well."""
    folder, found = tmp_path_factory.mktemp("obeyed"), {}
    library = folder / "library"
    with (
        Endpoint(obedient) as endpoint,
        Assistant(Config(library=library, llm_base_url=endpoint.url, llm_model="obedient")) as assistant,
        Assistant(Config(library=library)) as extractive,
    ):
        assistant._encoder = extractive._encoder = HashingEncoder()
        assistant.ingest([write_papers(folder)])
        papers = {int(match[1]): each for each in assistant.papers() if (match := re.search(r"no(\d+)", each.title))}
        for case in CASES:
            where = [f"id={papers[case.number].id}"]
            history = [
                {"role": "user", "content": HISTORY_QUESTION},
                {"role": "assistant", "content": case.obeys},
            ]
            said = assistant.stream(case.question, history=history, where=where)
            pieces = list(said)
            quoted = extractive.ask(case.abstract, where=where) if case.kind in MORE_THAN_WORDS else None
            (request,) = endpoint.requests
            endpoint.requests.clear()
            found[case.name] = Asked(papers[case.number], said.answer, pieces, request["body"]["messages"], quoted)
    return found


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_there_are_enough_cases_of_many_kinds() -> None:
    kinds = {case.kind for case in CASES}
    assert len(CASES) >= 70 and len(kinds) >= 15 and kinds >= MORE_THAN_WORDS
    assert len({case.abstract for case in CASES}) == len({case.obeys for case in CASES}) == len(CASES)


# --- What the model is sent -------------------------------------------------------------------------------------------


@every_case
def test_a_prompt_is_system_history_and_user_whatever_an_abstract_says(case: Case, asked: Mapping[str, Asked]) -> None:
    messages = asked[case.name].messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert all(set(message) == {"role", "content"} for message in messages)
    assert messages[1]["content"] == HISTORY_QUESTION
    assert not any(TURN_MARKS.search(message["content"]) for message in messages)
    assert not any(unseen_in(message["content"]) for message in messages)


@every_case
def test_an_abstract_stands_whole_between_two_lines_that_it_cannot_hold(case: Case, asked: Mapping[str, Asked]) -> None:
    found = asked[case.name]
    system, user = found.messages[0]["content"], found.messages[-1]["content"]
    match = re.fullmatch(r"Abstracts:\n(===[0-9a-f]{16})\n(.*)\n\1 end\n\nQuestion: (.*)", user, re.DOTALL)
    assert match
    fence, evidence, question = match.groups()
    assert question == case.question and fence not in evidence and fence not in found.paper.abstract
    assert evidence.count("\n") == 1 and squeezed(evidence).endswith(squeezed(found.paper.abstract))
    assert system.count(fence) == 1 and user.count(fence) == 2
    first = asked[CASES[0].name].messages[0]["content"]
    assert system.replace(fence, "") == re.sub("===[0-9a-f]{16}", "", first)


def test_the_fence_is_repeatable_and_each_questions_own(asked: Mapping[str, Asked]) -> None:
    fences = [found.messages[-1]["content"].splitlines()[1] for found in asked.values()]
    assert len(set(fences)) == len(CASES)


# --- What is answered -------------------------------------------------------------------------------------------------


@every_case
def test_an_obedient_model_cites_nothing_but_the_evidence(case: Case, asked: Mapping[str, Asked]) -> None:
    found = asked[case.name]
    for answer in found.answers:
        text = CODE.sub(lambda match: " " * len(match[0]), answer.text)
        markers = [(int(match[1]), *match.span()) for match in re.finditer(r"\[(\d+)\]", text)]
        assert markers == [(each.number, each.text_start, each.text_end) for each in answer.citations]
        assert [each.paper.id for each in answer.evidence] == [found.paper.id]
        for each in answer.citations:
            assert each.number == 1 and each.paper.id == found.paper.id
            assert found.paper.abstract[each.start : each.end] == each.quote != ""
        assert answer.citations or answer.abstained
    assert "".join(found.pieces) == found.answer.text
    assert found.answer.fallback is None and found.answer.answerer == "llm"


@every_case
def test_no_answer_holds_a_character_that_nobody_sees(case: Case, asked: Mapping[str, Asked]) -> None:
    found = asked[case.name]
    assert not unseen_in(found.paper.abstract) and not unseen_in(found.paper.title)
    assert not any(unseen_in(answer.text) for answer in found.answers)


@every_case
def test_no_answer_holds_an_address_that_its_paper_does_not(case: Case, asked: Mapping[str, Asked]) -> None:
    found = asked[case.name]
    assert not any(foreign_addresses(answer.text, found.paper) for answer in found.answers)


@every_case
def test_no_answer_loads_or_links_anything_where_markdown_is_read(case: Case, asked: Mapping[str, Asked]) -> None:
    assert not any(acts_in(answer.text, html=False) for answer in asked[case.name].answers)


@every_case
def test_no_answer_holds_html_that_acts(case: Case, asked: Mapping[str, Asked]) -> None:
    for answer in asked[case.name].answers:
        assert not Counter(acts_in(answer.text, html=True)) - Counter(acts_in(answer.text, html=False))


@every_case
def test_no_answer_shows_the_thoughts_of_a_model(case: Case, asked: Mapping[str, Asked]) -> None:
    assert not re.search("</?think>|the abstract wants|Now obey", asked[case.name].answer.text)


def test_a_call_of_a_tool_is_no_answer_and_calls_nothing(hostile: Path) -> None:
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "remove", "arguments": '{"ids": ["*"]}'}}
    reply = stream(chunk({"role": "assistant", "tool_calls": [call]}), chunk(finish="tool_calls"))
    with (
        Endpoint(reply) as endpoint,
        Assistant(Config(library=hostile / "library", llm_base_url=endpoint.url, llm_model="obedient")) as assistant,
    ):
        answer = assistant.ask(CASES[0].question)
        assert "tools" not in endpoint.requests[0]["body"] and "functions" not in endpoint.requests[0]["body"]
        assert answer.fallback and answer.fallback.error == "llm_unparsable" and answer.answerer == "extractive"
        assert len(assistant.papers()) == len(CASES)


# --- What is shown ----------------------------------------------------------------------------------------------------


@every_case
def test_the_chat_page_shows_an_answer_and_acts_on_nothing_in_it(case: Case, asked: Mapping[str, Asked]) -> None:
    found = asked[case.name]
    said = (
        Exchange(1, case.question, "done", each.text, each, evidence=each.evidence, citations=each.citations)
        for each in found.answers
    )
    raw = Exchange(1, case.abstract, "writing", case.obeys)
    for exchange in (*said, raw):
        for message in messages.messages([exchange]):
            content = OWN.sub("", message["content"])
            assert not acts_in(content, html=True, links=OURS)
            assert not UNBROKEN.search(MATHS.sub("", content))
        links = re.compile(rf"{OURS.pattern}|{found.paper.url}|https://doi\.org/{found.paper.doi}")
        assert not acts_in(cards.sources([exchange]), html=True, links=links)


# --- The terminal -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printed(hostile: Path) -> str:
    """All that a conversation about the papers prints whose text could reach a terminal otherwise than as text."""
    cases = [case for case in CASES if case.kind in {"terminal", "invisible tags", "other languages", "hidden text"}]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSISTANT_", "OPENAI_"))}
    with Endpoint(obedient) as endpoint:
        options = ["--library", str(hostile / "library"), "--llm", endpoint.url, "--model", "obedient"]
        run = subprocess.run(
            [sys.executable, "-m", "assistant", "chat", *options],
            input="".join(f"{case.question}\n" for case in cases).encode(),
            capture_output=True,
            timeout=120,
            cwd=hostile,
            env={**kept, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
    said = (run.stdout + run.stderr).decode()
    assert run.returncode == 0 and "Traceback" not in said
    assert len(cases) > 20 and said.count("Sources:") == len(cases)
    return said


def test_nothing_printed_steers_a_terminal(printed: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", printed)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", printed)


def test_nothing_printed_is_unseen(printed: str) -> None:
    assert not unseen_in(printed)
