"""The desk behind the page: who waits, who owns what, and what becomes of a question when nobody looks on."""

from __future__ import annotations

import asyncio
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint import Endpoint, Reply, answer, hang

from assistant import Assistant, Config, ConfigError
from assistant.conversations import Conversations, Exchange
from assistant.ui.desk import AT_ONCE, WAITING, Desk, Run

QUESTION = "What does VOLO reach on ImageNet?"
SAID = "VOLO reaches 87.1% top-1 accuracy on ImageNet [1]."
PATIENCE_S = 20.0


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[tuple[Desk, list[Reply], Endpoint]]:
    replies = [hang()]
    with Endpoint(lambda _body: replies[0]) as endpoint:
        config = Config(llm_base_url=endpoint.url, llm_model="scripted", llm_timeout_s=60)
        with Assistant(config) as assistant:
            desk = Desk(assistant, Conversations(tmp_path / "conversations.sqlite"))
            yield desk, replies, endpoint
            desk.close()


def wait(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(run: Run) -> Exchange:
    async def read() -> Exchange:
        *_, last = [now async for now in run.follow()]
        return last

    return asyncio.run(asyncio.wait_for(read(), PATIENCE_S))


def test_whoever_waits_has_a_place_in_line_and_beyond_the_line_one_is_refused(
    scripted: tuple[Desk, list[Reply], Endpoint],
) -> None:
    desk, _, _ = scripted
    runs = [desk.ask(f"owner {i}", "", QUESTION) for i in range(AT_ONCE + WAITING)]
    wait(lambda: sum(run.exchange.state == "waiting" for run in runs) == WAITING)
    waiting = [run for run in runs if run.exchange.state == "waiting"]
    assert [desk.place(run) for run in waiting] == list(range(1, WAITING + 1))
    with pytest.raises(ConfigError, match=f"{WAITING} questions wait .* ask again in a minute"):
        desk.ask("one more", "", QUESTION)
    next(run for run in runs if run.exchange.state != "waiting").stop()
    wait(lambda: waiting[0].exchange.state != "waiting")
    assert desk.place(waiting[1]) == 1
    waiting[-1].stop()
    for run in runs:
        run.stop()
    assert {ended(run).state for run in runs} == {"stopped"}


def test_a_question_is_answered_to_its_end_though_nobody_looks_on(
    scripted: tuple[Desk, list[Reply], Endpoint],
) -> None:
    desk, replies, _ = scripted
    replies[0] = answer(SAID, 6, delay_s=0.05)
    run = desk.ask("somebody", "", QUESTION)
    wait(lambda: desk.run("somebody", run.conversation) is None)
    found = desk.open("somebody", run.conversation)
    assert found and found.exchanges[0].answer and found.exchanges[0].text == SAID
    assert found.exchanges[0].citations and [each.name for each in found.exchanges[0].phases] == [
        "searching",
        "reading",
        "writing",
    ]
    assert desk.open("somebody else", run.conversation) is None


def test_two_who_follow_see_the_same_stages_to_the_end(scripted: tuple[Desk, list[Reply], Endpoint]) -> None:
    desk, replies, _ = scripted
    replies[0] = answer(SAID, 6, delay_s=0.05)
    run = desk.ask("somebody", "", QUESTION)

    async def both() -> list[Exchange]:
        return list(await asyncio.gather(*(read() for _ in range(2))))

    async def read() -> Exchange:
        *_, last = [now async for now in run.follow()]
        return last

    first, second = asyncio.run(asyncio.wait_for(both(), PATIENCE_S))
    assert first == second and first.state == "done" and first.text == SAID


def test_the_history_of_a_conversation_is_searched_with_the_next_question(
    scripted: tuple[Desk, list[Reply], Endpoint],
) -> None:
    desk, _, _ = scripted
    desk.configure("somebody", desk.config("somebody").changed(llm_model=None))
    run = desk.ask("somebody", "", QUESTION)
    ended(run)
    again = desk.ask("somebody", run.conversation, "How many parameters does it have?")
    assert again.conversation == run.conversation
    last = ended(again)
    assert last.number == 2 and last.answer and "volo" in last.answer.searched.casefold()


def test_a_conversation_is_asked_one_question_at_a_time(scripted: tuple[Desk, list[Reply], Endpoint]) -> None:
    desk, _, _ = scripted
    run = desk.ask("somebody", "", QUESTION)
    with pytest.raises(ConfigError, match="still being answered"):
        desk.ask("somebody", run.conversation, "And another one?")
    run.stop()
    assert ended(run).state == "stopped"


def test_the_question_is_kept_before_it_is_answered(scripted: tuple[Desk, list[Reply], Endpoint]) -> None:
    desk, _, _ = scripted
    run = desk.ask("somebody", "", QUESTION)
    kept = desk.conversations.open("somebody", run.conversation)
    assert kept and kept.exchanges[0].question == QUESTION and kept.exchanges[0].state == "stopped"


def test_an_answer_that_cannot_be_kept_is_given_and_the_reason_told(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.write_text("a file where a folder should be")
    with Assistant(Config()) as assistant:
        desk = Desk(assistant, Conversations(folder / "conversations.sqlite"))
        run = desk.ask("somebody", "", QUESTION)
        assert ended(run).answer
        assert "conversations.sqlite" in run.unsaved
        more = desk.ask("somebody", run.conversation, "How many parameters does it have?")
        assert ended(more).number == 2 and more.conversation == run.conversation
        assert [each.number for each in desk.open("somebody", run.conversation).exchanges] == [1, 2]  # type: ignore[union-attr]
        edited = desk.ask("somebody", run.conversation, "And how fast is it?", number=2)
        assert edited.conversation == run.conversation and ended(edited).number == 2
        third = desk.ask("somebody", run.conversation, "And on ADE20K?")
        ended(third)
        branch = desk.ask("somebody", run.conversation, "And on Cityscapes?", number=2)
        assert branch.conversation != run.conversation and ended(branch).number == 2
        assert len(desk.open("somebody", run.conversation).exchanges) == 3  # type: ignore[union-attr]
        desk.delete("somebody", run.conversation)
        assert desk.open("somebody", run.conversation) is None
        nobody = desk.ask("", "", QUESTION)
        assert ended(nobody).answer and "cookies" in nobody.unsaved
        assert desk.open("", nobody.conversation) and not desk.open("somebody", nobody.conversation)
        desk.close()


def test_a_question_that_cannot_be_asked_is_a_plain_sentence(scripted: tuple[Desk, list[Reply], Endpoint]) -> None:
    desk, _, _ = scripted
    assert "the question is empty" in ended(desk.ask("somebody", "", "?!")).fault
    config = desk.config("somebody")
    desk.configure("somebody", config.changed(k=1))
    desk.configure("else", config.changed(k=2))
    assert desk.config("somebody").k == 1 and desk.config("else").k == 2 and desk.config("third").k == config.k


def test_closing_ends_everything_at_once(scripted: tuple[Desk, list[Reply], Endpoint]) -> None:
    desk, _, endpoint = scripted
    runs = [desk.ask("somebody", "", QUESTION) for _ in range(3)]
    wait(lambda: len(endpoint.requests) == 3)
    closing = threading.Thread(target=desk.close)
    closing.start()
    closing.join(PATIENCE_S)
    assert not closing.is_alive() and {run.exchange.state for run in runs} == {"stopped"}
    assert endpoint.is_idle()


def test_the_file_of_conversations_is_for_its_owner_alone(scripted: tuple[Desk, list[Reply], Endpoint]) -> None:
    desk, replies, _ = scripted
    replies[0] = answer(SAID)
    run = desk.ask("a secret of somebody", "", QUESTION)
    ended(run)
    file = desk.conversations.file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"a secret of somebody" not in b"".join(each.read_bytes() for each in file.parent.glob(f"{file.name}*"))
