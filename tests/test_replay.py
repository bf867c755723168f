"""A saved answer gives the same answer again, byte for byte, from its file alone; whatever else it gives is told."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, Reply, Script, answer, error, status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cli import document, run

from assistant import Answer, Assistant, AssistantError, Config, ConfigError, CorpusError
from assistant.asking import AnswerStream
from assistant.draft import Asked, Draft, Made, answer_again
from assistant.replay import replay, save
from assistant.types import Digest, Evidence, Fallback, Paper, Prompt, Seconds, Usage

QUESTION = "What does VOLO reach on ImageNet?"
HISTORY = [
    {"role": "user", "content": "Which Transformer composes music?"},
    {"role": "assistant", "content": "Music Transformer composes minute-long pieces [1]."},
]
FOLLOW_UP = {"question": "How did they bring its memory down?", "history": HISTORY}
REWRITTEN = "How does Music Transformer reduce the memory of relative attention?"
TOO_LONG = error(400, "This model's maximum context length is 4096 tokens", code="context_length_exceeded")
BROKEN_OFF = answer("VOLO reaches 87.1% [1]. And it is", 3, finish=None, done=False)

CASES: dict[str, tuple[dict[str, Any], Script | None]] = {
    "extractive": ({}, None),
    "nothing found": ({"question": "How do I fix a dripping kitchen tap?"}, None),
    "all filtered out": ({"where": ["year>=2020"]}, answer("It is so [1].")),
    "a model": (
        {},
        answer("VOLO reaches 87.1 % — “≥ 87” 🙂 [1, 2]; 99.9% [9] (Smithson et al., 2019).\n\nSo [1-3].", 3),
    ),
    "thoughts": ({"k": 3}, answer("<think>[1] is it.</think>VOLO reaches 88.4% and beats FooNet [2].", 5)),
    "cut at its length": ({}, answer("VOLO reaches 87.1% [1]. It is a", finish="length")),
    "the model declines": ({}, answer("NOT_IN_SOURCES")),
    "no valid citation": ({}, answer("From memory it is 99.9% [17].")),
    "fault before text": ({}, status(500)),
    "fault after raw text that was not shown": ({}, answer("VOLO reaches", finish=None, done=False)),
    "fault after text": ({}, BROKEN_OFF),
    "too long": ({}, [TOO_LONG, answer("VOLO reaches 87.1% [1].")]),
    "too long, then a fault": ({}, [TOO_LONG, status(401)]),
    "too long, then a fault after text": ({}, [TOO_LONG, BROKEN_OFF]),
    "follow-up by rules": (FOLLOW_UP, None),
    "follow-up rewritten": (FOLLOW_UP, [answer(REWRITTEN), answer("To linear in the length [1].")]),
    "follow-up not rewritten": (FOLLOW_UP, [status(500), answer("To linear in the length [1].")]),
}
"""What is asked, and what the endpoint does; None: no model is named."""


def ask(assistant: Assistant, **asked: Any) -> AnswerStream:
    return assistant.stream(**{"question": QUESTION, **asked})


def as_bytes(given: Answer) -> bytes:
    """Return what `ask --json` prints."""
    return (json.dumps(given.as_dict(), ensure_ascii=False) + "\n").encode()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, Answer]]]:
    """Each case's file and answer; the endpoint is closed by the time they are used."""
    folder, made = tmp_path_factory.mktemp("saved"), {}
    with (
        Endpoint(status(500)) as endpoint,
        Assistant(Config(llm_base_url=endpoint.url, llm_model="scripted")) as with_llm,
        Assistant(Config()) as without,
    ):
        for name, (asked, script) in CASES.items():
            endpoint.become(script or status(500))
            stream = ask(with_llm if script else without, **asked)
            made[name] = folder / f"{name}.json", stream.answer
            stream.save(made[name][0])
    return made


@pytest.fixture
def file(saved: dict[str, tuple[Path, Answer]], tmp_path: Path) -> Path:
    """A copy of the answer of a model, to be changed."""
    target = tmp_path / "answer.json"
    target.write_bytes(saved["a model"][0].read_bytes())
    return target


@pytest.fixture(scope="module")
def stream() -> AnswerStream:
    with Assistant(Config()) as assistant:
        made = ask(assistant)
        assert made.answer
        return made


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


REPLAY_ALL = """
import contextlib, io, json, sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise OSError("no network here")
sys.addaudithook(refuse)
from assistant.cli import main
printed = []
for file in sys.argv[1:]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(["replay", file, "--json"])
    printed.append(out.getvalue())
heavy = {"numpy", "sqlite3", "chromadb", "openai", "httpx2", "onnxruntime", "torch", "assistant.answer"}
print(json.dumps({"printed": printed, "heavy": sorted(heavy & set(sys.modules))}))
"""


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_every_answer_is_given_again_byte_for_byte_offline_whatever_the_hash_seed(
    saved: dict[str, tuple[Path, Answer]], seed: str, tmp_path: Path
) -> None:
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)}
    env |= {"ASSISTANT_LIBRARY": str(tmp_path / "none"), "HOME": str(tmp_path / "nobody")}
    files = [str(file) for file, _ in saved.values()]
    done = subprocess.run(
        [sys.executable, "-c", REPLAY_ALL, *files],
        capture_output=True, env=env, cwd=tmp_path, timeout=120, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    for (name, (_, given_answer)), printed in zip(saved.items(), told["printed"], strict=True):
        assert printed.encode() == as_bytes(given_answer), name
    assert told["heavy"] == []


def test_the_cases_are_what_they_are_called(saved: dict[str, tuple[Path, Answer]]) -> None:
    answers = {name: given_answer for name, (_, given_answer) in saved.items()}
    assert [name for name, each in answers.items() if each.fallback] == [name for name in CASES if "fault" in name]
    assert not answers["fault after text"].complete and answers["fault before text"].complete
    assert {each.reason for each in answers.values()} >= {
        None, "no_match", "filter_excluded_all", "not_in_sources", "all_citations_invalid",
    }  # fmt: skip
    assert answers["follow-up rewritten"].searched == REWRITTEN
    assert answers["thoughts"].checks.figures_unsupported
    shortened = read(saved["too long"][0])
    assert len(shortened["prompts"]) == len(shortened["attempts"]) == 2


def test_a_file_holds_all_that_its_answer_rests_on(saved: dict[str, tuple[Path, Answer]]) -> None:
    held = read(saved["follow-up rewritten"][0])
    assert (held["program"], held["format"]) == ("paper-assistant", 1)
    assert held["asked"]["rewriting"]["text"] == REWRITTEN and held["asked"]["history"] == HISTORY
    (prompt,), (attempt,) = held["prompts"], held["attempts"]
    assert [each["role"] for each in prompt["messages"]] == ["system", "user", "assistant", "user"]
    for each in prompt["evidence"]:
        assert each["paper"]["abstract"][each["start"] : each["end"]] == each["passage"]
    assert attempt["text"] == "To linear in the length [1]." and attempt["complete"]
    assert held["made"]["digest"] == held["answer"]["digest"] and held["made"]["settings"]["k"] == 8
    assert held["made"]["encoder"].startswith("all-MiniLM-L6-v2@") and held["made"]["usage"]["llm_calls"] == 2
    broken, _ = read(saved["fault after text"][0])["attempts"]
    assert broken["text"] == "VOLO reaches 87.1% [1]. And it is" and broken["fault"]["error"] == "llm_unavailable"


def test_the_command_line_saves_and_gives_the_same_output_again(tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    with Endpoint(BROKEN_OFF) as endpoint:
        command = ["ask", QUESTION, "--llm", endpoint.url, "--model", "m", "--save", file]
        told = run(*command)
        first = read(file)
        given = run(*command, "--json")
    assert told.returncode == given.returncode == 0
    assert f"saved to {file}" in told.stderr and f"saved to {file}" in given.stderr
    gone = {"ASSISTANT_LIBRARY": "nowhere", "PYTHONHASHSEED": "7"}
    again = run("replay", file, "--json", **gone)
    assert again.returncode == 0 and again.stdout == given.stdout
    assert run("replay", file, "--library", "nowhere", **gone).stdout == told.stdout
    assert first["attempts"] == read(file)["attempts"]


# --- What is changed is told ------------------------------------------------------------------------------------------


def say_more(held: dict[str, Any]) -> None:
    held["attempts"][0]["text"] += " And it runs on 3 GPUs [2]."


def say_the_same_with_a_blank_more(held: dict[str, Any]) -> None:
    held["attempts"][0]["text"] += " "


def change_an_abstract(held: dict[str, Any]) -> None:
    paper = held["prompts"][0]["evidence"][0]["paper"]
    paper["abstract"] = paper["abstract"].replace("87.1%", "97.1%")


def change_a_passage(held: dict[str, Any]) -> None:
    held["prompts"][0]["evidence"][1]["passage"] += " So it is."


def change_what_was_not_used(held: dict[str, Any]) -> None:
    held["asked"]["closest"][2]["abstract"] = "Something else."


def change_the_answer(held: dict[str, Any]) -> None:
    held["answer"]["text"] = held["answer"]["text"].replace("87.1", "97.1")


def change_a_quote(held: dict[str, Any]) -> None:
    held["answer"]["citations"][0]["quote"] = "VOLO reaches 97.1%."


def change_the_time(held: dict[str, Any]) -> None:
    held["answer"]["seconds"]["total"] += 1


def drop_a_flag(held: dict[str, Any]) -> None:
    del held["answer"]["checks"]["markers_dropped"]


def change_both(held: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(held).replace("87.1", "97.1"))
    held.update(changed)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (say_more, ": text comes out as "),
        (say_the_same_with_a_blank_more, "saved: attempts;"),
        (change_an_abstract, ": citations[0].quote comes out as "),
        (change_a_passage, ": evidence[1].passage comes out as "),
        (change_what_was_not_used, "saved: asked;"),
        (change_the_answer, ": text comes out as "),
        (change_a_quote, ": citations[0].quote comes out as "),
        (change_the_time, ": seconds.total comes out as "),
        (drop_a_flag, ": checks.markers_dropped comes out, the file lacks it"),
        (change_both, "since it was saved: answer, asked, prompts, attempts;"),
    ],
)
def test_an_edited_file_is_told_with_the_first_field_that_differs(
    file: Path, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    held = read(file)
    change(held)
    file.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(AssistantError) as caught:
        replay(file)
    assert not isinstance(caught.value, CorpusError) and caught.value.exit_code == 1
    assert field in str(caught.value) and "edited" in str(caught.value)


def test_an_answer_that_another_program_version_made_is_told(stream: AnswerStream, tmp_path: Path) -> None:
    checks = dataclasses.replace(stream.answer.checks, markers_dropped=7)
    save(tmp_path / "answer.json", dataclasses.replace(stream.answer, checks=checks), stream.record)
    done = run("replay", "answer.json", "--json")
    assert done.returncode == 1 and set(document(done)["error"]) == {"type", "message"}
    assert len(done.stderr.splitlines()) == 1 and "this is version" in done.stderr
    assert "does not give its answer again: checks.markers_dropped comes out as 0, the file has 7;" in done.stderr


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.sampled_from(["drop", None, "", 0, -1, 1e300, [], {}, [[1]], True]))
def test_whatever_is_changed_in_a_file_is_told_in_words(file: Path, chance: random.Random, value: object) -> None:
    held = read(file)
    changed = copy.deepcopy(held)
    place, key = changed, chance.choice(["answer", "asked", "prompts", "attempts", "made", "digests"])
    while isinstance(place[key], dict | list) and place[key] and chance.random() < 0.9:
        place = place[key]
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
    if value == "drop":
        del place[key]
    else:
        place[key] = value
    if json.dumps(changed) == json.dumps(held):
        return
    other = file.with_name("changed.json")
    other.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(AssistantError, match="changed.json"):
        replay(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "damaged: no whole JSON document"),
        (lambda whole: whole[:-3], "damaged"),
        (lambda whole: b"", "damaged"),
        (lambda whole: bytes(range(256)), "damaged"),
        (lambda whole: b"[" * 200_000, "damaged"),
        (lambda whole: b"[1, 2]", "no saved answer"),
        (lambda whole: json.dumps(json.loads(whole)["answer"]).encode(), "no saved answer"),
        (lambda whole: whole.replace(b'"format": 1', b'"format": 2'), "format 2, and this program reads 1; update"),
        (lambda whole: whole.replace(b'"format": 1', b'"format": "1"'), "damaged: its format is '1'"),
        (lambda whole: whole.replace(b'"attempts"', b'"tries"', 1), "damaged: attempts is missing"),
        (lambda whole: whole.replace(b'"digests"', b'"sums"', 1), "damaged: 'digests' is missing"),
        (lambda whole: whole.replace(b'"prompt": 1', b'"prompt": 5', 1), "damaged"),
        (lambda whole: whole.replace(b'"complete": true', b'"complete": "yes"'), "complete is 'yes'"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_damaged_foreign_newer_or_missing_is_refused(
    file: Path, content: Callable[[bytes], bytes] | None, message: str
) -> None:
    whole = file.read_bytes()
    file.unlink()
    if content:
        file.write_bytes(content(whole))
    with pytest.raises(CorpusError, match="answer.json") as caught:
        replay(file)
    assert message in str(caught.value)


def test_a_refusal_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    for name in ("none.json", "."):
        done = run("replay", name, "--json")
        assert done.returncode == 3 and len(done.stderr.splitlines()) == 1 and set(document(done)) == {"error"}


# --- What is never in a file, and where none is written ---------------------------------------------------------------


def test_no_key_and_no_password_is_in_a_file(tmp_path: Path) -> None:
    key, password = "sk-abcdefgh12345678", "hunter2hunter2hunter2"
    scripts: list[Reply] = [answer(f"VOLO reaches 87.1% [1]. The key is {key}, the word {password} [1].", 3)]
    scripts += [error(401, f"wrong key {key} or {password}")]
    for number, reply in enumerate(scripts):
        with Endpoint(reply) as endpoint:
            url = endpoint.url.replace("//", f"//user:{password}@") + f"?token={password}"
            with Assistant(Config(llm_base_url=url, llm_model="m", llm_api_key=key)) as assistant:
                stream = ask(assistant)
                stream.save(tmp_path / f"{number}.json")
        text = (tmp_path / f"{number}.json").read_text()
        assert key not in text and password not in text and "user:" not in text
        assert read(tmp_path / f"{number}.json")["made"]["endpoint"] == endpoint.url
        assert replay(tmp_path / f"{number}.json") == stream.answer


def test_a_saved_answer_an_empty_file_and_a_link_to_one_are_replaced(stream: AnswerStream, tmp_path: Path) -> None:
    file, link = tmp_path / "answer.json", tmp_path / "link.json"
    file.touch(mode=0o600)
    link.symlink_to(file)
    for target in (file, link, file):
        stream.save(target)
        assert replay(target) == stream.answer
    assert link.is_symlink() and file.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["answer.json", "link.json"]


@pytest.mark.parametrize("name", ["notes.txt", "papers.json", "folder", "none/answer.json", "/dev/null", "x" * 300])
def test_nothing_else_is_overwritten_and_no_question_asked_in_vain(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("Years of work.")
    (tmp_path / "papers.json").write_text('{"papers": []}')
    (tmp_path / "folder").mkdir()
    with Endpoint(answer("VOLO reaches 87.1% [1].")) as endpoint:
        done = run("ask", QUESTION, "--llm", endpoint.url, "--model", "m", "--save", name)
        assert endpoint.requests == []
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("assistant: cannot save the answer to ") and len(done.stderr.splitlines()) == 1
    assert (tmp_path / "notes.txt").read_text() == "Years of work."


def test_a_write_that_fails_leaves_what_was_there(stream: AnswerStream, tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    stream.save(file)
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(AssistantError, match="cannot save the answer") as caught:
            stream.save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not isinstance(caught.value, ConfigError)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["answer.json"]


def test_names_that_no_encoding_knows_are_kept(stream: AnswerStream, tmp_path: Path) -> None:
    odd = dataclasses.replace(stream.record, made=dataclasses.replace(stream.record.made, library="half \udcff"))
    save(tmp_path / "answer.json", answer_again(odd), odd)
    assert replay(tmp_path / "answer.json").library == "half \udcff"


# --- Why a text may be kept whole -------------------------------------------------------------------------------------

PAPERS = [Paper(f"p{i}", f"Study {i}", f"Method m{i} reaches {i}7.3 percent. It needs {i} devices.") for i in (1, 2)]
EVIDENCE = tuple(Evidence(i, each, each.abstract, 0, len(each.abstract), 1.0) for i, each in enumerate(PAPERS, 1))
PROMPT = Prompt("What does m1 reach?", "What does m1 reach?", (), EVIDENCE, 0, 0, tokens_estimated=False, digest="")
SAID = st.lists(
    st.sampled_from(
        ["Method m1 reaches 17.3 percent", "It needs", " [1]", " [2]", "[", "1]", ". ", "\n\n", "\n- ", "```\n", "$x$ ",
         "e.g. ", "| a |\n|---|\n", "References\n", "(Smith, 2019)", " (1)", "\u200b", "<sup>", "3", "NOT_IN_SOURCES"]
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(said=SAID, step=st.integers(1, 9), has_fault=st.booleans())
def test_what_was_shown_when_a_fault_came_does_not_depend_on_the_pieces(
    said: list[str], step: int, *, has_fault: bool
) -> None:
    raw = "".join(said)
    asked = Asked(PROMPT.question, (), 8, (), PROMPT.searched, None, closest=())
    made = Made("library", None, None, None, {}, Digest("", "", ""), Usage(), Seconds())
    draft, shown = Draft(asked), []
    draft.begin("llm", PROMPT)
    for start in range(0, len(raw), step):
        shown += draft.hear(raw[start : start + step])
    if has_fault:
        draft.fail(Fallback("llm_unavailable", "gone"))
        shown += draft.begin("extractive", PROMPT)
        shown += draft.hear("- Method m2 reaches 27.3 percent. [2]\n")
    shown += draft.end()
    given_answer = draft.answer(made)
    assert answer_again(draft.record(made)) == given_answer
    assert given_answer.abstained or given_answer.text == "".join(shown)
