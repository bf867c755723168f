"""One question's way to its answer.

Search, abstain when nothing fits, build the prompt, let an answerer speak (an LLM when a model is named, verbatim
sentences otherwise or when the endpoint fails), and let its text out through the gate.

In: a question, checked. Out: pieces of text, each final, then the `Answer` and all that it rests on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Self, cast

from assistant import abstain, replay
from assistant.config import Config
from assistant.draft import Asked, Draft, Made, Record, Rewriting
from assistant.errors import AssistantError, LLMError
from assistant.extract import Extractive
from assistant.followup import leans, rewrite_messages, searched_text
from assistant.library import Library
from assistant.llm import LLM, LLMStream
from assistant.prompt import Templates, build_prompt, load_templates
from assistant.types import (
    Answer,
    Citation,
    Digest,
    Evidence,
    Fallback,
    Hits,
    Prompt,
    Reason,
    Seconds,
    Stage,
    Turn,
    Usage,
)

REQUESTS = 3
"""Most requests to the endpoint for one question."""
ENDPOINTS = 16
"""Most settings for which the connection to their endpoint is kept."""
REWRITE_SHARE = 0.25
"""Of the time left, what rewriting a follow-up may take: the answer needs the rest."""
REWRITTEN_CHARS = 8_000
"""Longest follow-up that is rewritten."""
CLOSEST = 3
"""Papers offered with an abstention."""

Search = Callable[[str, str, int, Sequence[str]], Hits]
"""Question, text that is searched, number of hits and conditions -> hits."""

_log = logging.getLogger(__name__)


class Call:
    """What one question asks of the endpoint, by one deadline; whoever wants to stop it can reach it here."""

    def __init__(self, config: Config, watch: Callable[[Stage], None] | None, style: str = "") -> None:
        self.config = config
        self.style = style
        self.deadline = math.inf
        self.usage = Usage()
        self.draft: Draft | None = None
        self._stage: Stage = "searching"
        self._watch = watch
        self._stream: LLMStream | None = None
        self._closed = False

    def enter(self, stage: Stage) -> None:
        """Begin a stage; whoever watches is told once."""
        if stage != self._stage:
            self._stage = stage
            if self._watch:
                self._watch(stage)

    @property
    def requests_left(self) -> int:
        """Requests that may still be sent."""
        return REQUESTS - self.usage.llm_calls

    @property
    def complete(self) -> bool:
        """True once the endpoint has ended its last answer, and not at a length limit."""
        return self._stream is not None and self._stream.complete

    def ask(
        self, llm: LLM, messages: Sequence[Turn], *, deadline: float = math.inf, requests: int = REQUESTS
    ) -> Generator[str]:
        """Yield the pieces of one answer as they come, count what it costs, and raise what `LLMStream` raises."""
        deadline, requests = min(deadline, self.deadline), min(requests, self.requests_left)
        stream = self._stream = llm.stream(messages, deadline=deadline, max_requests=requests)
        if self._closed:  # while papers were still looked for
            stream.close()
        try:
            yield from stream
        finally:
            self.usage = _add(self.usage, stream.usage)
            stream.close()

    def close(self) -> None:
        """Stop, from any thread: nothing more is sent."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()


class AnswerStream(Iterator[str]):
    """Pieces of an answer's text, each final; then `answer`. `"".join(pieces) == answer.text`."""

    def __init__(self, answer: Callable[[Call], Generator[str, None, tuple[Answer, Record]]], call: Call) -> None:
        self._call = call
        self._pieces = answer(call)
        self._made: tuple[Answer, Record] | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as stop:
            if stop.value is not None:
                self._made = stop.value
            raise StopIteration from None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What the answer may cite, as far as it is known by now."""
        return self._call.draft.evidence if self._call.draft else ()

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The markers of the pieces that were given out by now, resolved."""
        return self._call.draft.citations if self._call.draft else ()

    @property
    def answer(self) -> Answer:
        """The whole answer; reads what is left of the stream."""
        return self._finish()[0]

    @property
    def record(self) -> Record:
        """All that the answer rests on; reads what is left of the stream."""
        return self._finish()[1]

    def save(self, file: str | Path) -> None:
        """Save the answer with all that it rests on; see `assistant.replay.save`."""
        replay.save(file, *self._finish())

    def _finish(self) -> tuple[Answer, Record]:
        for _ in self:
            pass
        if self._made is None:
            raise AssistantError("the answer was stopped before its end; ask again")
        return self._made

    def close(self) -> None:
        """Stop, from any thread: the endpoint's call ends too."""
        self._call.close()
        with contextlib.suppress(ValueError):  # Another thread waits for a piece; closing the call lets it go on.
            self._pieces.close()


class AsyncAnswerStream(AsyncIterator[str]):
    """An `AnswerStream` for async code; after the last piece, `answer`.

    Whoever stops before that closes it, best by `async with`; a task that is cancelled while it waits for a piece does.
    """

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def __anext__(self) -> str:
        from anyio import to_thread  # 40 threads; asyncio's own are six on a machine with two cores

        try:
            piece = await to_thread.run_sync(next, self._stream, None, abandon_on_cancel=True)
        except asyncio.CancelledError:
            self._stream.close()
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Stop: the endpoint's call ends too."""
        self._stream.close()

    @property
    def answer(self) -> Answer:
        """The whole answer."""
        return self._stream.answer

    def save(self, file: str | Path) -> None:
        """Save the answer with all that it rests on; see `assistant.replay.save`."""
        self._stream.save(file)


class Answerer:
    """Answers questions from a library; safe to share between threads."""

    def __init__(self, library: Library, search: Search) -> None:
        self._library, self._search = library, search
        self._lock = threading.RLock()
        self._llms: dict[tuple[Config, str | None], LLM] = {}
        self._digest: tuple[int, str] = (-1, "")

    def stream(  # noqa: PLR0913, PLR0917 - what a question consists of
        self,
        question: str,
        history: Sequence[Turn],
        k: int,
        where: tuple[str, ...],
        config: Config,
        watch: Callable[[Stage], None] | None,
        style: str = "",
    ) -> AnswerStream:
        """Answer in final pieces; see `Assistant.stream`."""
        return AnswerStream(lambda call: self._answer(question, history, k, where, call), Call(config, watch, style))

    def prepare(self, config: Config) -> None:
        """Begin to do what the first request to an endpoint would wait for, if one is named."""
        name = (config, config.api_key)
        if config.llm_model and name not in self._llms:
            threading.Thread(target=self._open_llm(config).prepare, name="prepare", daemon=True).start()

    def close(self) -> None:
        """Close the connections to endpoints."""
        with self._lock:
            for llm in self._llms.values():
                llm.close()
            self._llms = {}

    def library_digest(self) -> str:
        """Return the digest of the library as it is now; made once for each state of it."""
        store = self._library.store()
        epoch = store.epoch
        if self._digest[0] != epoch:
            self._digest = (epoch, store.digest())
        return self._digest[1]

    def _answer(
        self, question: str, history: Sequence[Turn], k: int, where: tuple[str, ...], call: Call
    ) -> Generator[str, None, tuple[Answer, Record]]:
        begun = time.monotonic()
        call.deadline = begun + call.config.llm_timeout_s
        self.prepare(call.config)  # while papers are looked for
        templates = load_templates(call.config.prompts)
        hits = self._search(question, searched_text(question, history), k, where)
        rewriting = None
        if hits and call.config.llm_model and leans(question, history):
            rewriting = self._rewrite(question, history, templates, call)
            hits = self._search(question, rewriting.question, k, where) if rewriting.question else hits
            hits = dataclasses.replace(hits, warnings=(*hits.warnings, *_warnings(rewriting)))
        store, retrieved = self._library.store(), time.monotonic()
        draft = call.draft = Draft(
            Asked(
                question, tuple(history), k, where, hits.searched, rewriting,
                closest=tuple(hit.paper for hit in hits[:CLOSEST]), declined=self._why_not(question, hits, call),
                nothing=hits.reason, warnings=hits.warnings,
            )
        )  # fmt: skip
        if draft.asked.declined is None:
            build = functools.partial(
                build_prompt, question, hits, templates, searched=hits.searched, history=history,
                language=call.config.answer_language, model=call.config.llm_model, style=call.style,
            )  # fmt: skip
            prompt, answered = build(budget=call.config.evidence_tokens), False
            draft.read(prompt)
            call.enter("reading")
            if call.config.llm_model:
                shorter = functools.partial(build, budget=prompt.evidence_tokens // 2)
                answered = yield from self._speak(draft, prompt, shorter, call)
            if not answered:  # A fault costs no evidence.
                call.enter("writing")
                yield from draft.begin("extractive", prompt)
                for piece in Extractive(store, self._library.view().encoder).stream(draft.prompt):
                    yield from draft.hear(piece)
                yield from draft.end()
        if draft.reason:
            yield draft.text
        digest = Digest(self.library_digest(), call.config.digest, templates.digest)
        now = time.monotonic()
        seconds = Seconds(round(retrieved - begun, 4), round(now - retrieved, 4), round(now - begun, 4))
        endpoint = call.config.endpoint if call.config.llm_model else None
        made = Made(
            self._library.name, store.encoder, call.config.llm_model, endpoint, call.config.shaping, digest,
            usage=call.usage, seconds=seconds,
        )  # fmt: skip
        return draft.answer(made), draft.record(made)

    def _rewrite(self, question: str, history: Sequence[Turn], templates: Templates, call: Call) -> Rewriting:
        """Let the LLM write a follow-up so that it stands by itself, in one request that is never sent again."""
        now = time.monotonic()
        messages = rewrite_messages(question, history, templates.rewrite)
        limit = now + REWRITE_SHARE * (call.deadline - now)
        text, fault = "", None
        try:
            with contextlib.closing(
                call.ask(self._open_llm(call.config), messages, deadline=limit, requests=1)
            ) as pieces:
                for piece in pieces:
                    text += piece
                    if len(text) > REWRITTEN_CHARS:
                        break
        except LLMError as error:
            _log.warning("the endpoint did not rewrite a follow-up: %s", error)
            fault = Fallback(error.kind, str(error))
        return Rewriting(tuple(messages), text, fault)

    def _why_not(self, question: str, hits: Hits, call: Call) -> Reason | None:
        """Return why nothing can be answered from these hits, or None.

        Whether a detail is in the abstracts is left to the model where there is one; it declines in the agreed form.
        """
        if not hits:
            return cast("Reason", (hits.reason or "no_match").split(":")[0])
        signals = abstain.read_signals(question, hits, self._library.view().index.lexicon.idf)
        reason = abstain.load_refusal().reason(signals)
        return None if reason == "not_in_sources" and call.config.llm_model else reason

    def _speak(
        self, draft: Draft, whole: Prompt, shorter: Callable[[], Prompt], call: Call
    ) -> Generator[str, None, bool]:
        """Let the LLM answer; a prompt too long for it is cut to what `shorter` makes of it, once.

        Returns:
            Whether it came to its end.
        """
        fault = yield from self._ask_llm(draft, whole, call)
        if fault and fault.too_long and not draft.started and call.requests_left:
            fault = yield from self._ask_llm(draft, shorter(), call)
        if fault:
            _log.warning("the endpoint gave no answer: %s", fault)
        return fault is None

    def _ask_llm(self, draft: Draft, prompt: Prompt, call: Call) -> Generator[str, None, LLMError | None]:
        """Let the LLM answer one prompt; return the fault that ended it."""
        yield from draft.begin("llm", prompt)
        try:
            with contextlib.closing(call.ask(self._open_llm(call.config), prompt.messages)) as pieces:
                for piece in pieces:
                    call.enter("writing")
                    yield from draft.hear(piece)
        except LLMError as error:
            draft.fail(Fallback(error.kind, str(error)))
            return error
        yield from draft.end(complete=call.complete)
        return None

    def _open_llm(self, config: Config) -> LLM:
        name = (config, config.api_key)  # equal settings of another origin may have no key
        with self._lock:
            if name not in self._llms:
                if len(self._llms) >= ENDPOINTS:  # not closed: it may still be answering
                    del self._llms[next(iter(self._llms))]
                self._llms[name] = LLM(config)
            return self._llms[name]


def _warnings(rewriting: Rewriting) -> tuple[str, ...]:
    if not rewriting.fault:
        return ()
    said = rewriting.fault.message
    return (f"the follow-up was searched by rules, since the endpoint did not rewrite it: {said}",)


def _add(before: Usage, now: Usage) -> Usage:
    return Usage(
        before.prompt_tokens + now.prompt_tokens,
        before.completion_tokens + now.completion_tokens,
        before.llm_calls + now.llm_calls,
        before.tokens_estimated or now.tokens_estimated,
    )
