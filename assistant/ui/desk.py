"""What all parts of the page share: the assistant, the saved conversations, the questions that are being answered.

A question that was asked is answered to its end, whether or not a page still looks on: whoever opens its conversation
again finds it there. Conversations belong to the owner whom the guard finds: the user who has logged in, or where
nobody does whoever holds a cookie; a request without either owns nothing. Settings that a person chose on the page, a
key among them, live in the memory of this process alone.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from assistant import suggest
from assistant.access import Who, who_of
from assistant.config import Config
from assistant.conversations import Conversation, Conversations, Exchange, Phase, default_file
from assistant.errors import AssistantError, ConfigError, StoreError
from assistant.line import ended, stopping

if TYPE_CHECKING:
    from assistant.answer import Assistant
    from assistant.asking import AnswerStream
    from assistant.types import Answer, Stage

AT_ONCE, WAITING = 8, 20
"""Questions answered at the same time, and those that may wait for their turn."""
LOOK_S = 0.5
"""How often one that waits for its turn looks for its place in line."""
OWNERS = 10_000
"""Owners whose settings are kept; those of the longest absent are forgotten first."""
UNSAVED = 100
"""Conversations that could not be saved and are kept in memory; the oldest are forgotten first."""
_log = logging.getLogger(__name__)


class Desk:
    """One for each server.

    Args:
        assistant: Answers.
        conversations: Where they are saved; None: in the user's data folder.
    """

    def __init__(self, assistant: Assistant, conversations: Conversations | None = None) -> None:
        self.assistant = assistant
        self.conversations = conversations or Conversations(default_file())
        self.answered: Callable[[str, Answer | None], None] = lambda _outcome, _answer: None
        """Told what became of each question: answered, abstained, stopped or failed."""
        self.seen = threading.Event()
        """Set once a page has been shown."""
        self._threads = ThreadPoolExecutor(AT_ONCE, "question")
        self._is_shut = False
        self._lock, self._asking, self._keeping = threading.Lock(), threading.Lock(), threading.Lock()
        self._unsaved: dict[tuple[str, str], tuple[Conversation, str]] = {}
        self._runs: dict[tuple[str, str], Run] = {}
        self._configs: dict[str, Config] = {}
        self._questions: tuple[tuple[str, int], tuple[str, ...]] = (("", -1), ())

    @property
    def answering(self) -> int:
        """How many questions are being answered, or wait."""
        return len(self._runs)

    def shut(self) -> None:
        """Take no question any more."""
        self._is_shut = True

    async def drain(self, limit_s: float, *, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Wait until nothing is being answered; return whether that came within the limit, or before a hurry."""
        return await ended(lambda: not self._runs, limit_s, hurry)

    def close(self) -> None:
        """Stop what is being answered; what was shown of it is kept."""
        with self._lock:
            runs = [*self._runs.values()]
        for run in runs:
            run.stop()
        self._threads.shutdown(cancel_futures=True)

    def config(self, owner: str) -> Config:
        """Return the settings of an owner."""
        return self._configs.get(owner, self.assistant.config)

    def configure(self, owner: str, config: Config) -> None:
        """Keep the settings of an owner until the server ends."""
        with self._lock:
            self._configs.pop(owner, None)
            while len(self._configs) >= OWNERS:
                del self._configs[next(iter(self._configs))]
            self._configs[owner] = config

    def first_questions(self) -> tuple[str, ...]:
        """Return questions that the library answers, found once for each state of it."""
        with self._asking:
            epoch = self.assistant.epoch
            if self._questions[0] != epoch:
                self._questions = (epoch, self.assistant.suggest(4))
            return self._questions[1]

    def open(self, owner: str, conversation: str) -> Conversation | None:
        """Return a conversation with what is being answered in it; None when the owner has none of that id."""
        run = self._runs.get((owner, conversation))  # before the file: it is saved before its run is over
        found = self._known(owner, conversation)
        if found and run:
            now = run.exchange
            return replace(found, exchanges=(*found.exchanges[: now.number - 1], now))
        return found

    def run(self, owner: str, conversation: str) -> Run | None:
        """Return what is being answered in a conversation."""
        return self._runs.get((owner, conversation))

    def ask(self, owner: str, conversation: str, question: str, *, number: int | None = None) -> Run:
        """Begin to answer a question.

        Args:
            owner: Whose conversation.
            conversation: Its id; empty or unknown: a new one.
            question: As it was typed.
            number: Of the exchange that it replaces. What came after that stays behind, in the conversation as it was:
                the new question goes on in a copy.

        Raises:
            ConfigError: The conversation is still being answered, or too many questions wait.
            Stopping: The server is being stopped.
        """
        with self._lock:
            if self._is_shut:
                raise stopping()
            if (owner, conversation) in self._runs:
                raise ConfigError("the last question is still being answered; wait for its end, or stop it")
            if sum(run.exchange.state == "waiting" for run in self._runs.values()) >= WAITING:
                raise ConfigError(f"{WAITING} questions wait for their turn already; ask again in a minute")
            known = self._known(owner, conversation)
            before = known.exchanges[: number - 1 if number else None] if known else ()
            if known and number and number < len(known.exchanges):
                conversation = self._branch(owner, known, number - 1)
            exchange = Exchange(len(before) + 1, question.strip(), "waiting", asked_at=_now())
            run = Run(self, owner, conversation if known else "", before, exchange)
            self._runs[owner, run.conversation] = run
        run.line = next(_tickets)
        self._threads.submit(run.work)
        return run

    def keep(self, owner: str, conversation: str, before: Sequence[Exchange], now: Exchange) -> tuple[str, str]:
        """Save an exchange, in memory alone where it cannot be saved; return its conversation, and why it was not."""
        _, why = self._unsaved.get((owner, conversation), (None, ""))
        if not owner:
            why = "this browser keeps no cookies"
        if not why:
            try:
                library = self.assistant.library
                return self.conversations.save(owner, conversation or None, now, library=library), ""
            except (StoreError, ConfigError) as error:
                _log.warning("a conversation could not be saved: %s", error)
                why = str(error)
        ident, at = conversation or f"unsaved-{secrets.token_urlsafe(16)}", now.asked_at
        with self._keeping:
            self._unsaved[owner, ident] = (Conversation(ident, "", "", (*before, now), at, at), why)
            while len(self._unsaved) > UNSAVED:
                del self._unsaved[next(iter(self._unsaved))]
        return ident, why

    def _known(self, owner: str, conversation: str) -> Conversation | None:
        found, _ = self._unsaved.get((owner, conversation), (None, ""))
        return found or (self.conversations.open(owner, conversation) if owner and conversation else None)

    def _branch(self, owner: str, known: Conversation, upto: int) -> str:
        """Return the id of a conversation that begins as a known one; empty where nothing of it is left."""
        if not upto:
            return ""
        if (owner, known.id) not in self._unsaved:
            return self.conversations.copy(owner, known.id, upto)
        ident, (_, why) = f"unsaved-{secrets.token_urlsafe(16)}", self._unsaved[owner, known.id]
        self._unsaved[owner, ident] = (replace(known, id=ident, exchanges=known.exchanges[:upto]), why)
        return ident

    def delete(self, owner: str, conversation: str) -> None:
        """Forget a conversation, and erase it from the file.

        Raises:
            ConfigError: A question of it is being answered.
            StoreError: The file cannot be written to.
        """
        if self.run(owner, conversation):
            raise ConfigError("a question of this conversation is being answered; stop it first")
        self._unsaved.pop((owner, conversation), None)
        if owner:
            self.conversations.delete(owner, conversation)

    def place(self, run: Run) -> int:
        """Return how many questions are before one in line, itself included."""
        return 1 + sum(each.exchange.state == "waiting" and each.line < run.line for each in [*self._runs.values()])

    def over(self, run: Run) -> None:
        """Forget what is answered."""
        with self._lock:
            self._runs.pop((run.owner, run.conversation), None)


_tickets = itertools.count()


class Run:
    """One question while it is answered, in a thread of its own; anybody may follow it, or stop it."""

    def __init__(
        self, desk: Desk, owner: str, conversation: str, before: Sequence[Exchange], exchange: Exchange
    ) -> None:
        self._desk, self.owner, self.before, self.exchange = desk, owner, before, exchange
        self.line = 0
        self.unsaved = ""
        """Why the conversation cannot be saved."""
        self.conversation = conversation
        self._stream: AnswerStream | None = None
        self._stopped = False
        self._begun = time.monotonic()
        self._followers: set[Callable[[], None]] = set()
        self._save(exchange)  # so that a server that ends at once still knows the question

    def stop(self) -> None:
        """End it; what was shown stays."""
        self._stopped = True
        if self._stream:
            self._stream.close()

    async def follow(self) -> AsyncIterator[Exchange]:
        """Yield it as it is, again whenever that changes, until its end."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def call() -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever followed
                loop.call_soon_threadsafe(changed.set)

        self._followers.add(call)
        try:
            while True:
                changed.clear()
                now = self.exchange
                yield now
                if now.over:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), LOOK_S if now.state == "waiting" else None)
        finally:
            self._followers.discard(call)

    def work(self) -> None:
        """Answer, from the first search to the last piece; a fault is part of the conversation."""
        self._begun = time.monotonic()
        try:
            if not self._stopped:
                self._answer()
            else:
                self._become(state="stopped")
        except AssistantError as error:
            self._become(state="stopped" if self._stopped else "failed", fault="" if self._stopped else str(error))
        except Exception as error:  # noqa: BLE001 - a border: nothing may leave a question without an end
            _log.exception("a question could not be answered")
            why = f"an unexpected {type(error).__name__}; the terminal shows more"
            self._become(state="failed", fault=why)

    def _answer(self) -> None:
        config = self._desk.config(self.owner)
        said = [(("user", each.question), ("assistant", each.text)) for each in self.before if each.text]
        history = [{"role": role, "content": text} for pair in said for role, text in pair]
        self._become(state="searching")
        question = self.exchange.question
        stream = self._stream = self._desk.assistant.stream(question, history=history, config=config, watch=self._enter)
        if self._stopped:  # between the two lines above
            stream.close()
        for piece in stream:
            if self._stopped:
                break
            self._become(text=self.exchange.text + piece, citations=stream.citations, evidence=stream.evidence)
        if self._stopped:
            self._become(state="stopped")
        else:
            answer = stream.answer
            self._become(state="done", answer=answer, citations=answer.citations, evidence=answer.evidence)

    def _enter(self, stage: Stage) -> None:
        self._become(state=stage, evidence=self._stream.evidence if self._stream else ())

    def _become(self, **changes: Any) -> None:
        """Change the exchange and tell the followers; the phase that it leaves is kept with its seconds."""
        now, state = self.exchange, changes.get("state")
        if state and now.state in {"searching", "reading", "writing"}:
            phase = Phase(now.state, round(time.monotonic() - self._begun, 3))
            changes["phases"] = (*now.phases, phase)
        if state:
            self._begun = time.monotonic()
        now = replace(now, **changes)
        if now.over:  # whoever sees it so finds it saved, and may ask the next question
            self._save(now)
            self._desk.over(self)
            ended = {"stopped": "stopped", "failed": "failed"}.get(now.state, "answered")
            self._desk.answered("abstained" if now.answer and now.answer.abstained else ended, now.answer)
        self.exchange = now
        for call in tuple(self._followers):
            call()

    def _save(self, now: Exchange) -> None:
        kept = now if now.over else replace(now, state="stopped")
        self.conversation, self.unsaved = self._desk.keep(self.owner, self.conversation, self.before, kept)


def follow_ups(exchange: Exchange) -> tuple[str, ...]:
    """Return questions that go on from an answer."""
    return suggest.follow_ups(exchange.answer) if exchange.answer else ()


def who(request: Any) -> Who:
    """Return who sends a request, be it one of Gradio's or one of FastAPI's."""
    return who_of(getattr(request, "request", request).scope)


def owner(request: Any) -> str:
    """Return whose request it is; empty where nobody logs in and it brings no cookie."""
    return who(request).owner


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
