"""`Assistant` in async code: several at once, and what is stopped stops the endpoint's call."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from endpoint import Endpoint, answer, clean_surroundings, hang, imported_client, never_ends  # noqa: F401 - fixtures

from assistant.answer import Assistant
from assistant.config import Config
from assistant.errors import ConfigError

QUESTION = "Which papers replace attention by Fourier mixing?"
ANSWER = "Fourier mixing replaces attention [1]. It is quick [2]."


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(answer(ANSWER)) as running:
        yield running


@pytest.fixture(scope="module")
def assistant(endpoint: Endpoint) -> Iterator[Assistant]:
    with Assistant(Config(llm_base_url=endpoint.url, llm_model="scripted")) as opened:
        opened.warm_up()
        yield opened


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def until_asked(endpoint: Endpoint, n: int = 1) -> None:
    end = time.monotonic() + 20
    while len(endpoint.requests) < n:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_pieces_make_up_the_answer_that_others_get_too(assistant: Assistant, endpoint: Endpoint) -> None:
    async def work() -> None:
        endpoint.become(answer(ANSWER, 5))
        stream = assistant.astream(QUESTION)
        pieces = [piece async for piece in stream]
        assert len(pieces) > 1 and "".join(pieces) == stream.answer.text
        assert stream.answer.text == (await assistant.aask(QUESTION)).text == assistant.ask(QUESTION).text

    run(work())


def test_many_questions_are_answered_at_once_while_the_loop_is_free(assistant: Assistant, endpoint: Endpoint) -> None:
    n = 12
    together = threading.Barrier(n)

    def all_at_once(_body: dict[str, Any]) -> Any:
        together.wait(30)  # none is answered before all have asked
        return answer(ANSWER)

    async def work() -> None:
        endpoint.become(all_at_once)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(assistant.aask(QUESTION) for _ in range(n)))
        ticking.cancel()
        assert {each.text for each in answers} == {answers[0].text} and answers[0].citations
        assert ticks > 3

    run(work())


def test_a_cancelled_task_stops_the_endpoints_call(assistant: Assistant, endpoint: Endpoint) -> None:
    async def read() -> None:
        async for _ in assistant.astream(QUESTION):
            pass

    async def work() -> None:
        for ask in (read, lambda: assistant.aask(QUESTION)):
            endpoint.become(hang())
            task = asyncio.ensure_future(ask())
            await until_asked(endpoint)
            assert not endpoint.is_idle(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(endpoint.is_idle, 10)

    run(work())


def test_one_that_is_cancelled_leaves_the_others_alone(assistant: Assistant, endpoint: Endpoint) -> None:
    async def work() -> None:
        free = threading.Event()

        def later(_body: dict[str, Any]) -> Any:
            assert free.wait(30)
            return answer(ANSWER)

        endpoint.become(later)
        kept, dropped = (asyncio.create_task(assistant.aask(QUESTION)) for _ in range(2))
        await until_asked(endpoint, 2)
        dropped.cancel()
        await asyncio.wait([dropped])
        free.set()
        assert (await kept).answerer == "llm"

    run(work())


@pytest.mark.parametrize("how", ["aclose", "with", "timeout"])
def test_a_stream_that_is_left_stops_the_endpoints_call(assistant: Assistant, endpoint: Endpoint, how: str) -> None:
    async def work() -> None:
        endpoint.become(never_ends(delay_s=0.02) if how == "timeout" else hang())
        stream = assistant.astream(QUESTION)
        if how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    async for _ in stream:
                        pass
        else:
            context = stream if how == "with" else contextlib.aclosing(stream)
            async with context:
                reading = asyncio.create_task(anext(stream))
                await until_asked(endpoint)
            assert await asyncio.gather(reading, return_exceptions=True)  # it ends, whatever it has come to
        assert await asyncio.to_thread(endpoint.is_idle, 10)

    run(work())


def test_what_cannot_be_asked_is_told_at_once(assistant: Assistant) -> None:
    async def work() -> None:
        with pytest.raises(ConfigError, match="is empty"):
            await assistant.aask("  ")
        with pytest.raises(ConfigError, match="from 1 to 1000"):
            await assistant.aask(QUESTION, k=0)

    run(work())
