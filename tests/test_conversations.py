"""What was saved of a conversation comes back equal, to its owner alone, whatever became of disk or library."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import make_records, write_jsonl
from endpoint import Endpoint, Script, answer, status

from assistant import Answer, Assistant, Config, ConfigError, StoreError
from assistant.config import default_library
from assistant.conversations import Conversations, Exchange, Feedback, Phase, Summary, default_file
from assistant.rebuild import UnfitError, rebuild

ROOT = Path(__file__).parent.parent
ADA, BO = "q3dZ-cookie-of-ada", "x8Kw-cookie-of-bo"
QUESTION = "What does VOLO reach on ImageNet?"
SOON = "2026-03-01T10:00:00Z"
LIKED, DISLIKED = Feedback("like", ""), Feedback("dislike", "The figure is of another model.")

CASES: dict[str, tuple[dict[str, Any], Script | None]] = {
    "extractive": ({}, None),
    "abstained": ({"question": "How do I fix a dripping kitchen tap?"}, None),
    "all filtered out": ({"where": ["year>=2020"]}, None),
    "a model": ({}, answer("VOLO reaches 87.1 % — “≥ 87” 🙂 [1, 2]; 99.9% [9] (Smithson et al., 2019). So [1-3].", 3)),
    "no valid citation": ({}, answer("From memory it is 99.9% [17].")),
    "fallback": ({}, status(500)),
    "fallback after text": ({}, answer("VOLO reaches 87.1% [1]. And it is", 3, finish=None, done=False)),
}
"""What is asked, and what the endpoint does; None: no model is named."""


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    """Each case's answer."""
    made = {}
    with (
        Endpoint(status(500)) as endpoint,
        Assistant(Config(llm_base_url=endpoint.url, llm_model="scripted")) as with_llm,
        Assistant(Config()) as without,
    ):
        for name, (asked, script) in CASES.items():
            endpoint.become(script or status(500))
            made[name] = (with_llm if script else without).ask(**{"question": QUESTION, **asked})
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new #1 ?" / "folder" / "conversations.sqlite"


@pytest.fixture
def saved(file: Path) -> Conversations:
    return Conversations(file)


def done(given: Answer, number: int = 1, **changes: Any) -> Exchange:
    made = Exchange(
        number, given.question, "done", given.text, given, phases=(Phase("search", 0.25), Phase("write", 3)),
        evidence=given.evidence, citations=given.citations, asked_at=SOON,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def failed(question: str = QUESTION, number: int = 1, **changes: Any) -> Exchange:
    made = Exchange(number, question, "failed", fault="The library cannot be read.", asked_at=SOON)
    return dataclasses.replace(made, **changes)


def said(text: str, question: str, number: int = 1) -> Exchange:
    return failed(question, number, state="stopped", text=text)


def begin(saved: Conversations, *exchanges: Exchange, owner: str = ADA) -> str:
    """Save these as one conversation; return its id."""
    conversation_id = None
    for each in exchanges:
        conversation_id = saved.save(owner, conversation_id, each, library="sample")
    assert conversation_id
    return conversation_id


def held(saved: Conversations, conversation_id: str, owner: str = ADA) -> tuple[Exchange, ...]:
    conversation = saved.open(owner, conversation_id)
    assert conversation
    return conversation.exchanges


def as_json(record: Any) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(record)))


def execute(file: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        return db.execute(sql, values).fetchall()


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Run a script in another process."""
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + script, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


PREAMBLE = """
import dataclasses, json, os, sys, threading
from pathlib import Path
from assistant.conversations import Conversations, Exchange
from assistant.errors import StoreError
owner, saved = sys.argv[1], Conversations(Path(sys.argv[2]))
def exchange(number, question):
    return Exchange(number, question, "stopped", "So far. " * 200, asked_at="2026-03-01T10:00:00Z")
"""


# --- What comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_an_answer_comes_back_equal_whoever_gave_it(
    answers: dict[str, Answer], saved: Conversations, name: str
) -> None:
    exchange = done(answers[name], feedback=DISLIKED)
    assert held(saved, begin(saved, exchange)) == (exchange,)
    assert rebuild(Answer, as_json(answers[name])) == answers[name]


def test_an_exchange_with_an_answer_has_that_answers_evidence_and_citations(
    answers: dict[str, Answer], saved: Conversations
) -> None:
    given = answers["a model"]
    exchange = done(given, evidence=(), citations=())
    assert held(saved, begin(saved, exchange)) == (done(given),)


def test_the_cases_are_what_they_are_called(answers: dict[str, Answer]) -> None:
    assert {name for name, each in answers.items() if each.fallback} == {"fallback", "fallback after text"}
    assert {name for name, each in answers.items() if each.answerer == "llm"} == {"a model", "no valid citation"}
    reasons = {"no_match", "filter_excluded_all", "all_citations_invalid", None}
    assert {each.reason for each in answers.values()} == reasons
    assert answers["abstained"].closest and answers["a model"].checks.markers_dropped


def test_an_exchange_that_failed_or_was_stopped_comes_back_equal(
    answers: dict[str, Answer], saved: Conversations
) -> None:
    odd, found = "half \udcff a pair, \x00, \u202e, <b>&amp;</b>, 🙂", answers["a model"]
    shown = {"text": odd, "evidence": found.evidence, "citations": found.citations}
    exchanges = (failed(odd, fault=odd), failed(odd, 2, state="stopped", fault="", feedback=LIKED, **shown))
    assert held(saved, begin(saved, *exchanges)) == exchanges


def test_papers_are_as_they_were_when_their_library_is_gone(tmp_path: Path, saved: Conversations) -> None:
    folder = tmp_path / "library"
    with Assistant(Config(library=folder)) as assistant:
        assistant.ingest([write_jsonl(tmp_path / "a.jsonl", make_records(20))])
        given = assistant.ask("Which percentage does method m3 reach?")
    assert given.citations
    conversation_id = saved.save(ADA, None, done(given), library=str(folder))
    shutil.rmtree(folder)
    conversation = saved.open(ADA, conversation_id)
    assert conversation and conversation.library == str(folder)
    again = conversation.exchanges[0].answer
    assert again == given and again.citations[0].paper.abstract == given.citations[0].paper.abstract != ""


def test_after_a_restart_and_in_another_process_everything_is_there(
    answers: dict[str, Answer], saved: Conversations, file: Path
) -> None:
    conversation_id = begin(saved, *(done(each, i) for i, each in enumerate(answers.values(), 1)))
    conversation, summaries = saved.open(ADA, conversation_id), saved.summaries(ADA)
    assert conversation and len(conversation.exchanges) == len(CASES)
    again = Conversations(file)
    assert again.open(ADA, conversation_id) == conversation and again.summaries(ADA) == summaries
    script = "print(json.dumps(dataclasses.asdict(saved.open(owner, sys.argv[3]))))"
    with start(script, ADA, file, conversation_id) as process:
        assert json.loads(process.communicate(timeout=60)[0]) == json.loads(
            json.dumps(dataclasses.asdict(conversation))
        )


def test_an_exchange_of_a_taken_number_replaces_it_and_all_that_followed(saved: Conversations) -> None:
    conversation_id = begin(saved, *(failed(f"Question {i}?", i) for i in range(1, 5)))
    before = saved.open(ADA, conversation_id)
    asked_anew = failed("Another question?", 3)
    assert saved.save(ADA, conversation_id, asked_anew, library="other") == conversation_id
    after = saved.open(ADA, conversation_id)
    assert before and after
    assert after.exchanges == (*before.exchanges[:2], asked_anew)
    assert (after.library, after.created_at) == ("other", before.created_at) and after.changed_at > before.changed_at
    assert [each.exchanges for each in saved.summaries(ADA)] == [3]
    assert saved.summaries(ADA, "question 4") == []


def test_an_exchange_of_a_free_number_replaces_nothing(saved: Conversations) -> None:
    conversation_id = begin(saved, *(failed(f"Question {i}?", i) for i in (1, 4, 2)))
    assert [each.number for each in held(saved, conversation_id)] == [1, 2, 4]


def test_nothing_is_made_before_the_first_save(saved: Conversations, tmp_path: Path) -> None:
    assert saved.open(ADA, "x") is None
    assert saved.summaries(ADA) == list(saved.feedback(ADA)) == []
    assert saved.delete(ADA, "x") is False
    with pytest.raises(ConfigError):
        saved.save(ADA, "x", failed(), library="sample")
    assert os.listdir(tmp_path) == []


# --- Names, lists, copies, ratings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "name"),
    [
        (QUESTION, QUESTION),
        ("  Two\n lines\tof it? ", "Two lines of it?"),
        ("word " * 30, "word " * 15 + "word…"),
        ("x" * 100, "x" * 79 + "…"),
        ("short " + "x" * 100, "short " + "x" * 73 + "…"),
        ("如何" * 60, "如何" * 39 + "如…"),
        ("half \udcff", "half ?"),
    ],
)
def test_a_conversation_is_named_by_its_first_question_in_one_short_line(
    saved: Conversations, question: str, name: str
) -> None:
    begin(saved, failed(question), failed("And then?", 2))
    assert [each.name for each in saved.summaries(ADA)] == [name]
    assert len(name) <= 80


def test_the_name_follows_an_edited_first_question_until_somebody_chose_one(saved: Conversations) -> None:
    conversation_id = begin(saved, failed("What is VOL?"))
    saved.save(ADA, conversation_id, failed("What is VOLO?"), library="sample")
    assert [each.name for each in saved.summaries(ADA)] == ["What is VOLO?"]
    saved.rename(ADA, conversation_id, "  Outlook\nattention ")
    saved.save(ADA, conversation_id, failed("What is VOLO-D5?"), library="sample")
    assert [each.name for each in saved.summaries(ADA)] == ["Outlook attention"]
    with pytest.raises(ConfigError, match="give it a name"):
        saved.rename(ADA, conversation_id, " \n")


def test_the_list_begins_with_what_was_changed_last(saved: Conversations) -> None:
    first, second, third = (begin(saved, failed(name)) for name in ("A?", "B?", "C?"))
    saved.save(ADA, first, failed("D?", 2), library="sample")
    saved.rename(ADA, second, "E")
    saved.rate(ADA, second, 1, LIKED)
    listed = saved.summaries(ADA)
    assert [each.id for each in listed] == [first, third, second]
    opened = saved.open(ADA, first)
    assert opened and listed[0] == Summary(first, "A?", "sample", 2, opened.changed_at)
    assert saved.summaries(ADA, limit=2) == listed[:2]


SOUGHT = {
    "mixing": said("FNet mixes tokens by a Fourier transform [1].", "Which papers use Fourier mixing?"),
    "street": said("In der Straße 100% [1]; Poincaré_maps", "Wo ist es?"),
    "vision": said("Of VISION transformers, VOLO [1].", "ＷＨＡＴ reaches 87.1%?"),
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["vision", "street", "mixing"]),
        (" \n", ["vision", "street", "mixing"]),
        ("FOURIER", ["mixing"]),
        ("four token", ["mixing"]),
        ("token vision", []),
        ("vision", ["vision"]),
        ("what", ["vision"]),
        ("STRASSE", ["street"]),
        ("poincare\u0301", ["street"]),
        ("%", ["vision", "street"]),
        ("0%", ["street"]),
        ("_", ["street"]),
        ("'", []),
        ("named", ["street", "mixing"]),
        ("named fourier", ["mixing"]),
        ("later", ["mixing"]),
        ("wo", ["street"]),
        ("half \udcff", []),
        ("e " * 5000, ["vision", "street", "mixing"]),
    ],
)
def test_a_search_finds_every_word_in_name_questions_or_answers(
    saved: Conversations, text: str, found: list[str]
) -> None:
    ids = {begin(saved, exchange): name for name, exchange in SOUGHT.items()}
    mixing, street, _ = ids
    saved.rename(ADA, mixing, "Named mixing")
    saved.rename(ADA, street, "NAMED street")
    execute(saved.file, "UPDATE conversations SET changed_at = n")
    saved.save(ADA, mixing, said("A later one.", "And?", 2), library="sample")
    execute(saved.file, "UPDATE conversations SET changed_at = n")
    assert [ids[each.id] for each in saved.summaries(ADA, text)] == found


def test_a_search_looks_through_the_text_of_an_answer(answers: dict[str, Answer], saved: Conversations) -> None:
    begin(saved, done(answers["a model"], text=""))
    assert len(saved.summaries(ADA, "“≥ 87” 🙂")) == 1


def test_a_copy_holds_the_exchanges_up_to_one_and_goes_its_own_way(
    answers: dict[str, Answer], saved: Conversations
) -> None:
    exchanges = tuple(done(answers["a model"], i) for i in range(1, 4))
    original = begin(saved, *exchanges)
    saved.rate(ADA, original, 1, LIKED)
    copied = saved.copy(ADA, original, 2)
    assert held(saved, copied) == exchanges[:2]
    assert [(each.name, each.exchanges) for each in saved.summaries(ADA)] == [(f"{QUESTION} (copy)", 2), (QUESTION, 3)]
    assert len(list(saved.feedback(ADA))) == 1
    saved.save(ADA, copied, failed("Something else?", 1), library="sample")
    assert len(held(saved, original)) == 3
    saved.delete(ADA, original)
    assert len(held(saved, copied)) == 1
    with pytest.raises(ConfigError, match="no exchange up to number 0"):
        saved.copy(ADA, copied, 0)
    assert len(saved.summaries(ADA)) == 1


def test_a_deleted_conversation_is_no_longer_in_the_file(saved: Conversations, file: Path) -> None:
    kept, gone = begin(saved, failed("What is kept?")), begin(saved, *(failed(f"zebra-{i}", i) for i in range(1, 200)))
    assert b"zebra-7" in file.read_bytes()
    assert saved.delete(ADA, gone) is True
    assert saved.delete(ADA, gone) is False
    assert saved.open(ADA, gone) is None and [each.id for each in saved.summaries(ADA)] == [kept]
    assert b"zebra" not in file.read_bytes() and os.listdir(file.parent) == [file.name]


def test_a_rating_is_kept_changed_and_taken_back(answers: dict[str, Answer], saved: Conversations) -> None:
    conversation_id = begin(saved, done(answers["a model"]), done(answers["extractive"], 2, feedback=LIKED))
    for rating in (LIKED, DISLIKED, None):
        saved.rate(ADA, conversation_id, 1, rating)
        assert [each.feedback for each in held(saved, conversation_id)] == [rating, LIKED]
    saved.rate(ADA, conversation_id, 1, Feedback("like", "half \udcff"))
    assert held(saved, conversation_id)[0].feedback == Feedback("like", "half ?")
    with pytest.raises(ConfigError, match="no exchange number 3"):
        saved.rate(ADA, conversation_id, 3, LIKED)


def test_ratings_are_told_with_what_they_were_given_for(answers: dict[str, Answer], saved: Conversations) -> None:
    given = answers["a model"]
    conversation_id = begin(
        saved,
        done(given, feedback=DISLIKED),
        done(answers["extractive"], 2),
        said("As far as it", "Why?", 3),
        failed("Damaged?", 4, feedback=LIKED),
    )
    saved.rate(ADA, conversation_id, 3, LIKED)
    execute(saved.file, "UPDATE exchanges SET body = x'00' WHERE number = 4")
    first, *others = (json.loads(json.dumps(each)) for each in saved.feedback(ADA))
    assert first == {
        "question": given.question, "searched": given.searched, "text": given.text,
        "cited": list(dict.fromkeys(each.paper.id for each in given.citations)),
        "verdict": "dislike", "word": DISLIKED.word, "asked_at": SOON, "answerer": "llm", "model": "scripted",
        "library": "sample", "digest": dataclasses.asdict(given.digest),
    }  # fmt: skip
    assert [(each["question"], each["text"], each["verdict"]) for each in others] == [
        ("Why?", "As far as it", "like"), ("Damaged?", "", "like"),
    ]  # fmt: skip
    assert all(set(each) == set(first) and each["searched"] is each["digest"] is None for each in others)


# --- Whose it is ------------------------------------------------------------------------------------------------------


def test_owners_never_see_or_change_what_belongs_to_others(answers: dict[str, Answer], saved: Conversations) -> None:
    of_ada = begin(saved, done(answers["a model"], feedback=LIKED))
    of_bo = begin(saved, done(answers["extractive"], feedback=DISLIKED), owner=BO)
    before = saved.open(ADA, of_ada)
    assert saved.open(BO, of_ada) is None
    assert saved.delete(BO, of_ada) is False
    assert [each.id for each in saved.summaries(BO, "VOLO")] == [of_bo]
    assert [each["verdict"] for each in saved.feedback(BO)] == ["dislike"]
    changes: list[Callable[[str], object]] = [
        lambda found: saved.save(BO, found, failed(), library="sample"),
        lambda found: saved.rename(BO, found, "Mine"),
        lambda found: saved.copy(BO, found, 1),
        lambda found: saved.rate(BO, found, 1, None),
    ]
    for change in changes:
        told = []
        for conversation_id in (of_ada, "no-such-conversation--"):
            with pytest.raises(ConfigError, match="there is no conversation") as caught:
                change(conversation_id)
            told.append(str(caught.value).replace(conversation_id, "ID"))
        assert told[0] == told[1]
    assert saved.open(ADA, of_ada) == before and len(saved.summaries(BO)) == 1


def test_the_file_opens_nobodys_session(saved: Conversations, file: Path) -> None:
    begin(saved, failed())
    data = b"".join(each.read_bytes() for each in file.parent.iterdir())
    assert ADA.encode() not in data
    ((kept,),) = execute(file, "SELECT owner FROM conversations")
    assert saved.summaries(kept) == [] and len(saved.summaries(ADA)) == 1


def test_nobody_is_no_owner(saved: Conversations) -> None:
    begin(saved, failed(), owner="half \udcff")
    for refused in (lambda: saved.save("", None, failed(), library="sample"), lambda: saved.summaries("")):
        with pytest.raises(ConfigError, match="the owner is ''"):
            refused()


def test_only_the_user_may_read_the_file(saved: Conversations, file: Path) -> None:
    before = os.umask(0)
    try:
        begin(saved, failed())
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# --- At once, and in the middle ---------------------------------------------------------------------------------------

SAVE_AT_ONCE = """
def save(name):
    own = None
    for number in range(1, 21):
        own = saved.save(owner, own, exchange(number, f"{name}, {number}"), library="sample")
        saved.save(owner, shared, exchange(int(name) * 100 + number, name), library="sample")
    kept.append(own)
shared, kept = sys.argv[3], []
print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=save, args=[name]) for name in sys.argv[4:]]
for each in threads: each.start()
for each in threads: each.join()
print(json.dumps(kept))
"""


def test_threads_and_processes_that_save_at_once_lose_nothing(saved: Conversations, file: Path) -> None:
    shared = begin(saved, failed())
    with start(SAVE_AT_ONCE, ADA, file, shared, 1, 2) as one, start(SAVE_AT_ONCE, ADA, file, shared, 3, 4) as other:
        for each in (one, other):
            assert each.stdout and each.stdout.readline() == "ready\n"
        outputs = []
        for each in (one, other):
            assert each.stdin
            each.stdin.write("go\n")
            each.stdin.flush()
        outputs = [json.loads(each.communicate(timeout=120)[0]) for each in (one, other)]
    own = [conversation_id for kept in outputs for conversation_id in kept]
    assert len(own) == 4
    for conversation_id in own:
        assert [each.number for each in held(saved, conversation_id)] == list(range(1, 21))
    expected = [1, *(name * 100 + number for name in range(1, 5) for number in range(1, 21))]
    assert [each.number for each in held(saved, shared)] == expected
    assert len(saved.summaries(ADA)) == 5


BEGIN_AT_ONCE = """
print("ready", flush=True)
sys.stdin.readline()
def save():
    saved.save(owner, None, exchange(1, "Who is first?"), library="sample")
threads = [threading.Thread(target=save) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
"""


def test_a_file_that_several_make_at_once_holds_what_each_saved(file: Path, tmp_path: Path) -> None:
    processes = [start(BEGIN_AT_ONCE, ADA, file) for _ in range(2)]
    for each in processes:
        assert each.stdout and each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in processes:
        each.communicate(timeout=60)
        assert each.returncode == 0
    assert len(Conversations(file).summaries(ADA)) == 8
    assert os.listdir(file.parent) == [file.name]


SAVE_ON_AND_ON = """
print("ready", flush=True)
own = None
for number in range(1, 10_000):
    own = saved.save(owner, own, exchange(number, f"Question {number}?"), library="sample")
    print(own, flush=True)
"""


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_in_the_middle_of_saving_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "conversations.sqlite"
    process = start(SAVE_ON_AND_ON, ADA, file)
    assert process.stdout and process.stdin
    assert process.stdout.readline() == "ready\n"
    time.sleep(random.Random(seed).random() * 0.2)
    process.kill()
    lines = process.stdout.read().split("\n")[:-1]
    process.wait()
    process.stdout.close(), process.stdin.close()
    saved = Conversations(file)
    if not lines:
        assert sum(each.exchanges for each in saved.summaries(ADA)) <= 1
        return
    exchanges = held(saved, lines[-1])
    assert len(exchanges) in {len(lines), len(lines) + 1}
    assert [each.question for each in exchanges] == [f"Question {i + 1}?" for i in range(len(exchanges))]
    assert execute(file, "PRAGMA integrity_check") == [("ok",)]
    saved.save(ADA, lines[-1], failed("And now?", 99), library="sample")
    assert held(saved, lines[-1])[-1].number == 99


# --- What is damaged, full or forbidden -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: b"",
        lambda body: body[:-5],
        lambda body: body[:40] + b"\0\0\0" + body[43:],
        lambda body: zlib.decompress(body).decode(),
        lambda body: zlib.compress(zlib.decompress(body)[:-9]),
        lambda body: zlib.compress(b"[" * 200_000),
        lambda body: zlib.compress(b"\xff\xfe"),
        lambda body: zlib.compress(b'{"number": 2}'),
        lambda body: zlib.compress(b"[1, 2]"),
        lambda body: zlib.compress(zlib.decompress(body).replace(b'"score": ', b'"score": "high", "was": ')),
        lambda body: 7,
    ],
)
def test_a_damaged_exchange_costs_itself_alone(
    answers: dict[str, Answer], saved: Conversations, file: Path, damage: Callable[[bytes], object]
) -> None:
    exchanges = [done(answers["a model"], i, question=f"Question {i}?", feedback=LIKED) for i in range(1, 4)]
    conversation_id = begin(saved, *exchanges)
    ((body,),) = execute(file, "SELECT body FROM exchanges WHERE number = 2")
    execute(file, "UPDATE exchanges SET body = ? WHERE number = 2", damage(body))
    first, second, third = held(saved, conversation_id)
    assert [first, third] == [exchanges[0], exchanges[2]]
    assert (second.number, second.question, second.state, second.answer) == (2, "Question 2?", "failed", None)
    assert (second.asked_at, second.feedback) == (SOON, LIKED)
    assert second.fault == "What was saved of this answer is damaged and cannot be shown; ask the question again."
    saved.save(ADA, conversation_id, exchanges[1], library="sample")
    assert held(saved, conversation_id) == tuple(exchanges[:2])


def test_a_damaged_name_hides_no_other(saved: Conversations, file: Path) -> None:
    begin(saved, failed("Is it whole?")), begin(saved, failed("Is it damaged?"))
    execute(file, "UPDATE conversations SET name = CAST(x'49ff' AS TEXT), folded = CAST(x'ff' AS TEXT) WHERE n = 2")
    execute(file, "UPDATE exchanges SET question = CAST(x'49ff' AS TEXT), body = x'' WHERE n = 2")
    assert [each.name for each in saved.summaries(ADA)] == ["I�", "Is it whole?"]
    assert [each.name for each in saved.summaries(ADA, "whole")] == ["Is it whole?"]
    assert held(saved, saved.summaries(ADA)[0].id)[0].question == "I�"


def refused_everywhere(saved: Conversations, told: str) -> None:
    """Check that each door tells the same, in one line."""
    doors: list[Callable[[], object]] = [
        lambda: saved.save(ADA, None, failed(), library="sample"),
        lambda: saved.save(ADA, "x", failed(), library="sample"),
        lambda: saved.open(ADA, "x"),
        lambda: saved.summaries(ADA),
        lambda: saved.rename(ADA, "x", "y"),
        lambda: saved.delete(ADA, "x"),
        lambda: saved.copy(ADA, "x", 1),
        lambda: saved.rate(ADA, "x", 1, None),
        lambda: saved.feedback(ADA),
    ]
    for door in doors:
        with pytest.raises(StoreError, match=told) as caught:
            door()
        assert str(saved.file) in str(caught.value) and "\n" not in str(caught.value)


def foreign(file: Path) -> None:
    file.write_bytes(b"not a database at all, but a long enough text" * 100)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:6000])


def without_tables(file: Path) -> None:
    execute(file, "DROP TABLE exchanges")
    execute(file, "DROP TABLE conversations")


def of_another_program(file: Path) -> None:
    file.unlink()
    execute(file, "CREATE TABLE bookmarks (address TEXT)")


@pytest.mark.parametrize("damage", [foreign, empty, cut, without_tables, of_another_program])
def test_a_damaged_or_foreign_file_is_refused_in_words_and_left_alone(
    saved: Conversations, file: Path, damage: Callable[[Path], None]
) -> None:
    begin(saved, failed())
    damage(file)
    before = file.read_bytes()
    refused_everywhere(saved, "put a copy in its place, or move it away to begin a new one")
    assert file.read_bytes() == before
    file.unlink()
    begin(saved, failed())


def test_a_file_of_a_newer_program_is_refused(saved: Conversations, file: Path) -> None:
    begin(saved, failed())
    execute(file, "PRAGMA user_version = 2")
    refused_everywhere(saved, "they have format 2, this program reads 1; update the program")


def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Years of work.")
    with pytest.raises(StoreError, match="check that it and its folder may be written to"):
        begin(Conversations(tmp_path / "notes.txt" / "conversations.sqlite"), failed())
    refused_everywhere(Conversations(tmp_path), "check that it and its folder may be written to")
    assert os.listdir(tmp_path) == ["notes.txt"]


SAVE_AS_NOBODY = """
if os.geteuid() == 0:
    os.setuid(65534)
try:
    saved.save(owner, sys.argv[3] or None, exchange(2, "Is it kept?"), library="sample")
except StoreError as error:
    print(error)
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_folder_that_cannot_be_written_to_is_told(public_folder: Path, *, is_new: bool) -> None:
    file, conversation_id = public_folder / "conversations.sqlite", ""
    if not is_new:
        conversation_id = begin(Conversations(file), failed())
        file.chmod(0o444)
    public_folder.chmod(0o555)
    with start(SAVE_AS_NOBODY, ADA, file, conversation_id) as process:
        (told,) = process.communicate(timeout=60)[0].splitlines()
    assert told.startswith(f"cannot write the conversations in {file}: ")
    assert told.endswith("; check that it and its folder may be written to")
    assert os.listdir(public_folder) == [file.name] * (not is_new)


@pytest.mark.parametrize("n_bytes", [0, 3000, 40_000])
def test_a_full_disk_is_told_and_costs_nothing_that_was_saved(
    answers: dict[str, Answer], saved: Conversations, file: Path, n_bytes: int
) -> None:
    exchanges = tuple(done(answers["a model"], i) for i in range(1, 9))
    new = Conversations(file.with_name("new.sqlite"))
    conversation_id = begin(saved, *exchanges)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        for each in (saved, new):
            with pytest.raises(StoreError, match="cannot write the conversations in .*; free some space"):
                begin(each, *(done(answers["a model"], i, text=os.urandom(9000).hex()) for i in range(1, 9)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert held(saved, conversation_id) == exchanges
    begin(new, failed())
    assert sorted(os.listdir(file.parent)) == [file.name, "new.sqlite"]


def test_saving_waits_for_another_program_that_writes(saved: Conversations, file: Path) -> None:
    conversation_id = begin(saved, failed())
    script = 'print("ready", flush=True); saved.save(owner, sys.argv[3], exchange(2, "Now?"), library="sample")'
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with start(script, ADA, file, conversation_id) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            assert len(held(saved, conversation_id)) == 1, "readers do not wait"
            db.execute("COMMIT")
            process.communicate(timeout=60)
    assert process.returncode == 0 and len(held(saved, conversation_id)) == 2


# --- The form ---------------------------------------------------------------------------------------------------------

FORMAT_1 = """
PRAGMA journal_mode=WAL;
CREATE TABLE conversations (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL, library TEXT NOT NULL,
    created_at TEXT NOT NULL, changed_at TEXT NOT NULL, exchanges INTEGER NOT NULL, folded TEXT NOT NULL
);
CREATE INDEX conversations_owner ON conversations (owner);
CREATE TABLE exchanges (
    n INTEGER NOT NULL, number INTEGER NOT NULL, asked_at TEXT NOT NULL, verdict TEXT, word TEXT,
    question TEXT NOT NULL, text TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (n, number)
);
INSERT INTO conversations VALUES (
    1, 'abc', 'fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029', 'What is it?', 'sample',
    '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z', 1, 'what is it? one [1].'
);
PRAGMA user_version=1;
"""
"""The tables as the first version of the program made them."""
PAPER = {"id": "p1", "title": "T", "abstract": "One.", "url": None, "authors": ["A"], "year": 2020}
PLACE = {"number": 1, "paper": PAPER, "start": 0, "end": 4}
BODY = {
    "number": 1, "question": "What is it?", "state": "done", "text": "One [1].", "fault": "",
    "phases": [{"name": "search", "seconds": 1.5}], "evidence": [], "feedback": None, "asked_at": SOON,
    "answer": {
        "question": "What is it?", "searched": "What is it?", "text": "One [1].", "answerer": "llm", "model": "m",
        "abstained": False, "reason": None, "closest": [], "fallback": None, "usage": {}, "seconds": {"total": 2},
        "citations": [{**PLACE, "quote": "One.", "text_start": 4, "text_end": 7, "support": 1.0}],
        "evidence": [{**PLACE, "passage": "One.", "score": 0.5}], "checks": {"names_unsupported": []},
        "digest": {"library": "a", "config": "b", "prompts": "c"}, "library": "sample", "a later field": 1,
    },
}  # fmt: skip


def test_what_the_first_version_saved_is_read_for_good(tmp_path: Path) -> None:
    file = tmp_path / "conversations.sqlite"
    with closing(sqlite3.connect(file)) as db:
        db.executescript(FORMAT_1)
    values = (SOON, "like", "", "What is it?", "One [1].", zlib.compress(json.dumps(BODY).encode()))
    execute(file, "INSERT INTO exchanges VALUES (1, 1, ?, ?, ?, ?, ?, ?)", *values)
    saved = Conversations(file)
    (exchange,) = held(saved, "abc", "ada")
    assert exchange.state == "done" and exchange.feedback == LIKED and exchange.answer
    assert exchange.answer.citations[0].paper.abstract == "One." and exchange.answer.seconds.total == 2
    saved.save("ada", "abc", dataclasses.replace(exchange, number=2), library="sample")
    assert [each.exchanges for each in saved.summaries("ada", "ONE")] == [2]
    fresh = Conversations(tmp_path / "fresh.sqlite")
    begin(fresh, failed())
    tables = "SELECT name, replace(replace(sql, char(10), ''), ' ', '') FROM sqlite_master ORDER BY name"
    assert execute(file, tables) == execute(fresh.file, tables)


@dataclasses.dataclass(frozen=True)
class Older:
    name: str
    seconds: float
    more: int = 7


def test_a_record_is_rebuilt_from_what_an_older_or_newer_program_kept() -> None:
    assert rebuild(Older, {"name": "search", "seconds": 1, "unknown": []}) == Older("search", 1.0)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"name": "search"}, "seconds is missing"),
        ({"name": None, "seconds": 1.0}, "name is null"),
        ({"name": "x", "seconds": True}, "seconds is true"),
        ({"name": "x", "seconds": [1.0]}, "seconds is a list"),
        ({"name": "x", "seconds": "y" * 99}, f"seconds is '{'y' * 60}…'"),
        ([1], "the whole is a list"),
    ],
)
def test_what_does_not_fit_a_record_is_told_with_its_place(value: object, told: str) -> None:
    with pytest.raises(UnfitError) as caught:
        rebuild(Phase, value)
    assert str(caught.value) == told


def test_the_default_file_lies_beside_the_default_library() -> None:
    assert default_file() == default_library().parent / "conversations.sqlite"
