"""The line in front of every door that answers: so many questions at once, so many that wait, the others are told when.

In: what begins an answer. Out: its pieces as they come, then the `Answer`, for async code; the answers themselves are
made in threads. Refused as `Busy`: one too many, or one that has waited too long. Whoever stops reading stops the
question, and the endpoint's call with it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from assistant.errors import AssistantError, Busy
from assistant.types import Answer

if TYPE_CHECKING:
    from assistant.asking import AnswerStream

AT_ONCE, WAITING = 8, 32
"""Questions answered at the same time, and those that may wait: four rounds, 2 s with a quick endpoint, 20 s with one
that takes 5 s for an answer."""
WAIT_S = 20.0
"""So long a question waits at most."""
RETRY_S = 120
"""The longest that anybody is told to wait."""
RATE_S = 60.0
"""Within so long one caller may ask so many questions, and no more."""
_REMEMBERED = 32
_LOOK_S = 0.05

P = ParamSpec("P")
T = TypeVar("T")

Tell = Callable[[str, str, Answer | None], None]
"""Told of each question that is over: the door it came by, what became of it (answered, abstained, busy, refused,
failed or stopped), and its answer if there is one."""


class Stopping(Busy):
    """The server is being stopped: what is under way ends, nothing new begins."""


class Line:
    """One for each server; belongs to its event loop.

    Args:
        at_once: Turns that may be under way together.
        waiting: Most that wait for their turn.
        rate: Most questions of one caller within `RATE_S`; 0: any number.
        tell: Told of each question that is over.
    """

    def __init__(
        self, *, at_once: int = AT_ONCE, waiting: int = WAITING, rate: int = 0, tell: Tell | None = None
    ) -> None:
        self.answering = 0
        self.tell: Tell = tell or (lambda _door, _outcome, _answer: None)
        self._at_once, self._most, self._rate = at_once, waiting, rate
        self._asked: dict[str, deque[float]] = {}
        self._turns: deque[asyncio.Future[None]] = deque()
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._threads = ThreadPoolExecutor(at_once, "answer")
        self.closed = False

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(not turn.done() for turn in self._turns)

    @property
    def retry_s(self) -> int:
        """When it is worth asking again: as soon as those who are there now will have been answered."""
        each = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        rounds = (self.answering + self.waiting) / self._at_once
        return max(1, min(RETRY_S, math.ceil(each * rounds)))

    # --- Turns --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it until the block ends.

        Raises:
            Busy: Too many wait already, or it took too long.
            Stopping: The server is being stopped.
        """
        if self.closed:
            raise stopping()
        if self.answering < self._at_once:
            self.answering += 1
        else:
            await self._wait()
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds.append(time.monotonic() - begun)
            self._pass_on()

    async def _wait(self) -> None:
        if self.waiting >= self._most:
            raise self._busy(f"{self.waiting} wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            async with asyncio.timeout(WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and not turn.exception():  # it came, and nobody takes it
                self._pass_on()
            if isinstance(error, TimeoutError):
                raise self._busy(f"this one has waited for {WAIT_S:g} s") from error
            raise
        finally:
            with suppress(ValueError):
                self._turns.remove(turn)

    def _pass_on(self) -> None:
        """Give a turn that is over to whoever has waited longest."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.answering -= 1

    def _count(self, caller: str | None) -> None:
        """Count a question of a caller, unless it is one too many."""
        if not caller or not self._rate:
            return
        now, asked = time.monotonic(), self._asked.setdefault(caller, deque())
        while asked and asked[0] <= now - RATE_S:
            asked.popleft()
        if len(asked) >= self._rate:
            wait_s = max(1, math.ceil(asked[0] + RATE_S - now))
            raise _busy(f"too many questions: {caller!r} has asked {self._rate} within {RATE_S:g} s", wait_s)
        asked.append(now)

    def _busy(self, why: str) -> Busy:
        return _busy(f"too many questions at once: {self.answering} are being answered and {why}", self.retry_s)

    # --- Work ---------------------------------------------------------------------------------------------------------

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call something in a thread, in turn."""
        async with self.turn():
            return await self._do(lambda: function(*arguments, **named))

    async def stream(
        self, door: str, start: Callable[[], AnswerStream], caller: str | None = None
    ) -> AsyncGenerator[str | Answer, None]:
        """Yield the pieces of an answer as they come, then the `Answer`.

        Use it within `contextlib.aclosing`: leaving early stops the question at once.

        Args:
            door: By which the question came.
            start: Begins the answer, in a thread: `lambda: assistant.stream(question)`.
            caller: The user or token who asks; None where nobody has to say.
        """
        outcome, answer = "stopped", None
        try:
            self._count(caller)
            async with self.turn():
                stream = await self._do(start)
                try:
                    while (piece := await self._do(lambda: next(stream, None))) is not None:
                        yield piece
                    answer = stream.answer
                finally:
                    stream.close()
            outcome = "abstained" if answer.abstained else "answered"
            yield answer
        except Exception as error:
            is_told = isinstance(error, AssistantError)
            outcome = "busy" if isinstance(error, Busy) else "refused" if is_told else "failed"
            raise
        finally:
            self.tell(door, outcome, answer)

    async def ask(self, door: str, start: Callable[[], AnswerStream], caller: str | None = None) -> Answer:
        """Return the whole answer; being cancelled stops it."""
        last: Any = None
        async with aclosing(self.stream(door, start, caller)) as parts:
            async for part in parts:
                last = part
        return cast("Answer", last)

    async def _do(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    # --- The end ------------------------------------------------------------------------------------------------------

    def shut(self) -> None:
        """Let nobody in any more; who waits is told."""
        self.closed = True
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_exception(stopping())

    async def drain(self, limit_s: float, *, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Wait until nothing is under way any more; return whether that came within the limit, or before a hurry."""
        return await ended(lambda: not self.answering, limit_s, hurry)


async def ended(is_over: Callable[[], bool], limit_s: float, hurry: Callable[[], bool]) -> bool:
    """Wait until something is over; return whether that came within the limit, or before a hurry."""
    end = time.monotonic() + limit_s
    while not is_over() and time.monotonic() < end and not hurry():  # noqa: ASYNC110 - a limit and a hurry end it too
        await asyncio.sleep(_LOOK_S)
    return is_over()


def stopping() -> Stopping:
    """Return what those are told who come while the server is being stopped."""
    return Stopping("the server is being stopped; ask again in some seconds, when it may be back")


def quick_line() -> Line:
    """Return one for what takes milliseconds: searches and papers."""
    return Line(at_once=4, waiting=200)


def _busy(why: str, retry_s: int) -> Busy:
    error = Busy(f"{why}; retry in {retry_s} s")
    error.retry_s = retry_s
    return error
