from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from assistant import line as lines
from assistant.errors import Busy
from assistant.line import Line, Stopping


async def settle(*, until: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(10):
        while not until():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


def test_no_more_run_together_than_may_and_all_have_their_turn() -> None:
    running, most, lock = 0, 0, threading.Lock()
    meet = threading.Barrier(3)

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meet.wait(10)  # three at a time are let on
        with lock:
            running -= 1
        return number

    async def main() -> list[int]:
        line = Line(at_once=3, waiting=9)
        return await asyncio.gather(*(line.run(work, number) for number in range(12)))

    assert asyncio.run(main()) == list(range(12))
    assert most == 3


def test_one_too_many_is_told_when_to_come_again() -> None:
    async def main() -> None:
        line, go = Line(at_once=2, waiting=3), threading.Event()
        inside = [asyncio.create_task(line.run(go.wait, 10)) for _ in range(5)]
        await settle(until=lambda: (line.answering, line.waiting) == (2, 3))
        with pytest.raises(Busy, match="2 are being answered and 3 wait already; retry in 3 s") as told:
            await line.run(go.wait, 10)
        assert told.value.retry_s == 3  # five at two a time, each held to take a second while nothing is known
        go.set()
        assert await asyncio.gather(*inside) == [True] * 5
        assert (line.answering, line.waiting) == (0, 0)

    asyncio.run(main())


def test_whoever_waits_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "WAIT_S", 0.05)

    async def main() -> None:
        line, go = Line(at_once=1, waiting=1), threading.Event()
        inside = asyncio.create_task(line.run(go.wait, 10))
        await settle(until=lambda: line.answering == 1)
        with pytest.raises(Busy, match="this one has waited for 0.05 s"):
            await line.run(go.wait, 10)
        go.set()
        assert await inside
        assert await line.run(lambda: "free again") == "free again"

    asyncio.run(main())


def test_a_turn_is_given_to_the_next_when_whoever_waited_for_it_has_gone() -> None:
    async def main() -> None:
        line, go = Line(at_once=1, waiting=3), threading.Event()
        first = asyncio.create_task(line.run(go.wait, 10))
        await settle(until=lambda: line.answering == 1)
        gone, next_one = (asyncio.create_task(line.run(lambda: "next")) for _ in range(2))
        await settle(until=lambda: line.waiting == 2)
        gone.cancel()
        await settle(until=lambda: line.waiting == 1)
        go.set()
        assert await first
        assert await next_one == "next"
        assert gone.cancelled()
        assert (line.answering, line.waiting) == (0, 0)

    asyncio.run(main())


def test_a_turn_that_comes_in_the_moment_of_leaving_is_not_lost() -> None:
    async def main() -> None:
        line, order = Line(at_once=1, waiting=3), []

        async def take(name: str) -> None:
            async with line.turn():
                order.append(name)

        async with line.turn():
            leaver, stayer = (asyncio.create_task(take(name)) for name in ("leaver", "stayer"))
            await settle(until=lambda: line.waiting == 2)
        leaver.cancel()  # its turn has been given to it, and it has not run since
        await stayer
        assert order == ["stayer"]
        assert (line.answering, line.waiting) == (0, 0)

    asyncio.run(main())


def test_a_line_that_is_shut_lets_those_inside_end_and_nobody_else_begin() -> None:
    async def main() -> None:
        line, go = Line(at_once=1, waiting=3), threading.Event()
        inside = asyncio.create_task(line.run(go.wait, 10))
        await settle(until=lambda: line.answering == 1)
        waiting = asyncio.create_task(line.run(go.wait, 10))
        await settle(until=lambda: line.waiting == 1)
        line.shut()
        for late in (waiting, line.run(go.wait, 10)):
            with pytest.raises(Stopping):
                await late
        assert not await line.drain(0.01)
        assert not await line.drain(60, hurry=lambda: True)
        go.set()
        assert await line.drain(10)
        assert await inside

    asyncio.run(main())


def test_an_error_of_one_turn_leaves_the_line_as_it_was() -> None:
    async def main() -> None:
        line = Line(at_once=1, waiting=1)
        with pytest.raises(ZeroDivisionError):
            await line.run(lambda: 1 // 0)
        assert (line.answering, line.waiting) == (0, 0)
        assert await line.run(lambda: 1) == 1

    asyncio.run(main())
