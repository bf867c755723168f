"""Question -> Answer: the `Assistant`, and `ask()` for one question.

One way for every answer: search, abstain when nothing fits, build the prompt, let an answerer speak (an LLM when a
model is named, verbatim sentences otherwise or when the endpoint fails), and let its text out through the gate. `ask`
is `stream` read to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from assistant import abstain, atlas, bibliography, explore, replay, retrieve, suggest, table
from assistant import ingest as _ingest
from assistant.clean import clean
from assistant.config import Config, cache_folder, nearest
from assistant.draft import Asked, Draft, Made, Record, Rewriting
from assistant.errors import AssistantError, ConfigError, LibraryDamaged, LLMError
from assistant.extract import Extractive
from assistant.followup import leans, rewrite_messages, searched_text
from assistant.identity import keys_of
from assistant.library import Library
from assistant.llm import LLM, LLMStream
from assistant.papers import FIELDS
from assistant.prompt import Templates, build_prompt, load_templates
from assistant.rerank import Reranker
from assistant.store import Store
from assistant.types import (
    Answer,
    Citation,
    Digest,
    Evidence,
    Fallback,
    Hits,
    Paper,
    Prompt,
    Reason,
    Seconds,
    Stage,
    Turn,
    Usage,
)

if TYPE_CHECKING:
    from assistant.sources.live import Fetcher

REQUESTS = 3
"""Most requests to the endpoint for one question."""
ENDPOINTS = 16
"""Most settings for which the connection to their endpoint is kept."""
REWRITE_SHARE = 0.25
"""Of the time left, what rewriting a follow-up may take: the answer needs the rest."""
QUESTION_CHARS, TURN_CHARS, TURNS = 8_000, 20_000, 200
"""Longest question, longest turn of a history (cut), most turns read (the last ones)."""
CLOSEST = 3
"""Papers offered with an abstention."""

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Call:
    """What one question asks of the endpoint, by one deadline; whoever wants to stop it can reach it here."""

    def __init__(self, config: Config, watch: Callable[[Stage], None] | None) -> None:
        self.config = config
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

    def __init__(self, answer: Callable[[_Call], Generator[str, None, tuple[Answer, Record]]], call: _Call) -> None:
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
    """An `AnswerStream` for async code; after the last piece, `answer`."""

    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream

    async def __anext__(self) -> str:
        piece = await asyncio.to_thread(next, self._stream, None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    @property
    def answer(self) -> Answer:
        """The whole answer."""
        return self._stream.answer

    def save(self, file: str | Path) -> None:
        """Save the answer with all that it rests on; see `assistant.replay.save`."""
        self._stream.save(file)


def _restoring(method: Callable[Concatenate[Assistant, P], T]) -> Callable[Concatenate[Assistant, P], T]:
    """Let a method restore a library that turns out to be damaged, and begin once more."""

    @functools.wraps(method)
    def run(self: Assistant, *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return method(self, *arguments, **named)
        except LibraryDamaged as error:
            self._library.restore(error)
            return method(self, *arguments, **named)

    return cast("Callable[Concatenate[Assistant, P], T]", run)


class Assistant:
    """A library with all that answers from it; a context manager, safe to share between threads.

    Args:
        config: The settings; None: from the environment, `assistant.toml` and the defaults.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._lock = threading.RLock()
        self._library = Library(self.config)
        self._reranker: Reranker | None = None
        self._llms: dict[tuple[Config, str | None], LLM] = {}
        self._digest: tuple[int, str] = (-1, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the library and the connection to the endpoint."""
        with self._lock:
            for llm in self._llms.values():
                llm.close()
            self._llms = {}
        self._library.close()

    # --- The library --------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where papers are ingested to."""
        return self._library.folder

    @property
    def library(self) -> str:
        """What answers: the folder of the library, or "sample" while the default library is empty."""
        return self._library.name

    @property
    def epoch(self) -> tuple[str, int]:
        """Which state of which library answers: it changes with each change of the library."""
        return self.library, self._library.store().epoch

    @_restoring
    def ingest(  # noqa: PLR0913 - settings by name
        self,
        sources: Sequence[str | Path],
        *,
        form: str | None = None,
        mapping: Mapping[str, str] | None = None,
        sync: bool = False,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> _ingest.Ledger:
        """Read files, folders, globs and live sources into the library; see `assistant.ingest.ingest`.

        Args:
            sources: What is read.
            form: Format of all of them; None: told by their content.
            mapping: For fields of a paper the column or name under which the sources keep them.
            sync: What left a source leaves the library.
            dry_run: Tell what would become of the records, and keep nothing.
            progress: Called with the number of papers just encoded.

        Raises:
            ConfigError: No source, an unknown format, or an unknown field.
            CorpusError: A folder or a glob without any file.
            StoreError: The library cannot be written, or another process is writing to it.
        """
        from assistant.sources import FORMATS, find  # who only asks reads no files

        if isinstance(sources, (str, Path)) or not sources:
            raise ConfigError(f"sources is {sources!r}; give a list with at least one file, folder or glob")
        if form is not None and form not in FORMATS:
            hint = nearest(form, FORMATS) or f"; the formats are {', '.join(FORMATS)}"
            raise ConfigError(f"unknown format {form!r}{hint}")
        for name in mapping or {}:
            if name not in FIELDS:
                hint = nearest(name, FIELDS) or f"; the fields are {', '.join(FIELDS)}"
                raise ConfigError(f"unknown field {name!r}{hint}")
        found = find([str(source) for source in sources])
        folders = tuple(str(Path(each).expanduser().resolve()) for each in sources if sync and Path(each).is_dir())
        reading = _ingest.Reading(
            form, mapping or {}, sync=sync, folders=folders, dry=dry_run, fetcher=self._open_fetcher
        )  # fmt: skip
        return self._library.ingest(found, reading, progress)

    def _open_fetcher(self) -> Fetcher:
        """Return what asks live sources, as the settings say."""
        from assistant.sources.live import Fetcher

        config = self.config
        hosts, keys = config.source_addresses, config.source_keys
        return Fetcher(hosts=hosts, contact=config.contact or "", keys=keys, cache=cache_folder() / "replies")

    def pack(self) -> Iterator[bytes]:
        """Yield the file of the whole library, vectors included, piece by piece; `import_library` takes it in."""
        from assistant.pack import pack

        return pack(self._library.store())

    @_restoring
    def import_library(self, file: str | Path, *, progress: Callable[[int], None] | None = None) -> _ingest.Ledger:
        """Take in what `pack` wrote, into an empty library or into this one; again, it changes nothing.

        Raises:
            CorpusError: The file is damaged, or no such file; nothing was changed.
            StoreError: The library cannot be written, or another process is writing to it.
        """
        return self._library.take_in(Path(file), progress)

    @_restoring
    def remove(self, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """Delete papers by id, DOI, arXiv id, PMID or link; return the names that were found and those not."""
        return self._library.remove(ids)

    @_restoring
    def records(self, paper_id: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return (source, digest, what it says) of all records of a paper."""
        paper = self.paper(paper_id)
        return [
            (source, digest, json.loads(payload))
            for source, digest, payload in (self._library.store().records(paper.id) if paper else ())
        ]

    @_restoring
    def split(self, paper_id: str, digests: Sequence[str]) -> list[str]:
        """Undo merges: make papers of their own of some records of a paper, for good; return the papers' ids.

        Args:
            paper_id: The paper, by any of its names.
            digests: Of the records, as `records` gives them.

        Raises:
            ConfigError: No such paper or record, or no record would stay.
        """
        paper, known = self.paper(paper_id), [digest for _, digest, _ in self.records(paper_id)]
        if paper is None:
            raise ConfigError(f"no paper {paper_id!r} to split; see `assistant papers` for the ids")
        for digest in digests:
            if digest not in known:
                raise ConfigError(f"paper {paper.id!r} has no record {digest!r}; see `assistant split {paper.id}`")
        if not digests or not set(known) - set(digests):
            raise ConfigError(f"{len(set(digests))} of {len(known)} records to take out; take out some and leave some")
        return self._library.split(paper.id, digests)

    def ledger(self, *, kinds: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Yield what became of each record when its source was last ingested; of some kinds alone, if any are given."""
        store = self._library.store()
        for row in store.events(kinds):
            yield dict(zip(("source", "where", "kind", "paper", "reason"), row, strict=True))

    def reencode(self, progress: Callable[[int], None] | None = None) -> int:
        """Encode the library anew if its vectors are not of the encoder that the settings name; return how many papers.

        It can be searched meanwhile, with its own encoder; the switch comes at the end.
        """
        return self._library.reencode(progress)

    @_restoring
    def paper(self, paper_id: str) -> Paper | None:
        """Return a paper with its abstract, aliases and sources; None when there is none.

        Args:
            paper_id: Its id or any alias; a DOI, an arXiv id, a PMID, bare or prefixed, or a link to one.
        """
        return self._library.store().paper(paper_id, *keys_of(paper_id))

    @_restoring
    def papers(self, text: str = "", *, where: Sequence[str] = ()) -> list[Paper]:
        """Return the papers whose title, authors or venue contain `text`, or that it names, by `where`, in order."""
        condition, values, _ = retrieve.parse_where(where) if where else ("1", [], [])
        if text:
            named = [text, *keys_of(text)]
            condition += (
                " AND (instr(fold(title), ?) OR instr(fold(authors), ?) OR instr(fold(venue), ?) OR id = ?"
                f" OR n IN (SELECT n FROM aliases WHERE alias IN ({','.join('?' * len(named))})))"
            )
            values = [*values, *[clean(text).casefold()] * 3, text, *named]
        return self._library.store().papers(condition, values)

    def select(
        self, text: str = "", *, ids: Sequence[str] = (), where: Sequence[str] = (), full: bool = False
    ) -> tuple[int, Iterator[Paper]]:
        """Return how many papers were chosen and the papers, read as they are iterated; see `select_papers`."""
        return bibliography.select_papers(self._library.store(), text, ids=ids, where=where, full=full)

    # --- Exploring ----------------------------------------------------------------------------------------------------

    @_restoring
    def browse(
        self, text: str = "", *, where: Sequence[str] = (), order: str = "entry", limit: int = 50, offset: int = 0
    ) -> tuple[list[Paper], int]:
        """Return one page of the papers that hold every word as it is typed, and how many there are; see `explore`."""
        store = self._library.store()
        return explore.browse(store, text, where=where, order=order, limit=limit, offset=offset)

    @_restoring
    def facets(self, papers: Sequence[Paper]) -> explore.Facets:
        """Return counts of some papers, such as those of a search; see `assistant.explore.facets`."""
        return explore.facets(papers, self._library.store())

    @_restoring
    def similar(self, paper_id: str, *, k: int = 10) -> tuple[tuple[Paper, float], ...]:
        """Return the papers most like one, with their likeness; see `assistant.explore.similar`.

        Raises:
            ConfigError: No such paper.
        """
        return explore.similar(self._library.store(), self._library.view().index, paper_id, k)

    def compare(self, ids: Sequence[str]) -> tuple[table.Row, ...]:
        """Return a table of papers by task, method, data and numbers, each cell verbatim; see `assistant.table`.

        Raises:
            ConfigError: No such paper.
        """
        papers = [self.paper(each) for each in ids]
        for paper_id, paper in zip(ids, papers, strict=True):
            if paper is None:
                raise ConfigError(f"no paper {paper_id!r} to compare; see `assistant papers` for the ids")
        return table.compare([paper for paper in papers if paper])

    @_restoring
    def overview(self, text: str = "", *, where: Sequence[str] = ()) -> explore.Facets:
        """Return counts of the papers by year, venue, author and source; see `papers` for the arguments."""
        return explore.overview(self._library.store(), text, where=where)

    @_restoring
    def atlas(self) -> atlas.Atlas:
        """Return the map of the library with its topics; made once for each state of it, which takes seconds."""
        store = self._library.store()
        return atlas.open_atlas(store, self._library.view().index)

    @_restoring
    def suggest(self, n: int = 6) -> tuple[str, ...]:
        """Return questions that this library answers, drawn from its papers."""
        if self._library.store().is_empty:
            return ()
        view = self._library.view()
        return suggest.first_questions(view.store, view.index, view.encoder, n)

    @_restoring
    def status(self) -> dict[str, Any]:
        """Return library, counts, encoder and the health of the index."""
        store = self._library.store()
        papers, chunks = store.counts()
        health = "empty"
        if papers:
            index = self._library.view().index
            tail = index.n_tail
            health = "; ".join([*index.warnings, f"sound, {tail} papers in the tail" if tail else "sound"])
        return {"library": self.library, "papers": papers, "chunks": chunks, "encoder": store.encoder, "index": health}

    def warm_up(self) -> None:
        """Open all that a first question would otherwise wait for."""
        if not self._library.store().is_empty:
            self._library.view().encoder.encode_queries(["warm up"])

    def _open_reranker(self) -> Reranker | None:
        with self._lock:
            if self._reranker is None and self.config.reranker:
                from assistant.rerank import open_reranker

                self._reranker = open_reranker(self.config.reranker)
            return self._reranker

    def _library_digest(self, store: Store) -> str:
        epoch = store.epoch
        if self._digest[0] != epoch:
            self._digest = (epoch, store.digest())
        return self._digest[1]

    # --- Questions ----------------------------------------------------------------------------------------------------

    def search(self, query: str, *, k: int = 10, where: Sequence[str] = (), history: Sequence[Turn] = ()) -> Hits:
        """Return the best papers for a query, best first.

        Args:
            query: Plain words, a title, or a question.
            k: Most hits, 1 to 1,000.
            where: Conditions that all must hold, such as `year>=2022`; see `assistant.retrieve.parse_where`.
            history: Earlier turns; a follow-up is searched together with what it leans on.

        Raises:
            ConfigError: An argument that cannot be used.
            StoreError: The library cannot be read.
        """
        question, turns = _question(query), _history(history)
        return self._search(question, searched_text(question, turns), k, where)

    @_restoring
    def _search(self, question: str, searched: str, k: int, where: Sequence[str]) -> Hits:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= 1_000:
            raise ConfigError(f"k is {k!r}; give a whole number from 1 to 1000")
        if isinstance(where, str):
            where = [where]
        store = self._library.store()
        if store.is_empty:
            return Hits(
                question,
                searched,
                reason="empty_library: the library holds no papers; add some with `assistant ingest`",
            )
        view = self._library.view()
        hits = retrieve.search(
            store, view.index, view.encoder, searched,
            k=k, where=where, how=self.config.search, reranker=self._open_reranker(),
        )  # fmt: skip
        return dataclasses.replace(hits, query=question, warnings=(*view.warnings, *hits.warnings))

    def ask(
        self, question: str, *, history: Sequence[Turn] = (), k: int | None = None, where: Sequence[str] = ()
    ) -> Answer:
        """Answer a question from the library, each claim with its citation; see `search` for the arguments.

        An endpoint's fault is no error: the answer is extractive and `fallback` names the fault. Not knowing is no
        error either: `abstained` with its `reason`.
        """
        return self.stream(question, history=history, k=k, where=where).answer

    def stream(  # noqa: PLR0913 - settings by name
        self,
        question: str,
        *,
        history: Sequence[Turn] = (),
        k: int | None = None,
        where: Sequence[str] = (),
        config: Config | None = None,
        watch: Callable[[Stage], None] | None = None,
    ) -> AnswerStream:
        """Answer in final pieces: iterate, then read `.answer`.

        Args:
            question: See `search`, for the next three too.
            history: Earlier turns.
            k: Papers put before the answerer.
            where: Conditions.
            config: Settings for this question alone, as to the LLM and the answer; the library and its encoder stay.
            watch: Told each stage as it begins, from the thread that iterates: reading, then writing.
        """
        asked, turns, settings = _question(question), _history(history), config or self.config
        number, conditions = settings.k if k is None else k, (where,) if isinstance(where, str) else tuple(where)
        call = _Call(settings, watch)
        return AnswerStream(lambda call: self._answer(asked, turns, number, conditions, call), call)

    async def aask(
        self, question: str, *, history: Sequence[Turn] = (), k: int | None = None, where: Sequence[str] = ()
    ) -> Answer:
        """`ask` for async code; the event loop stays free."""
        return await asyncio.to_thread(self.ask, question, history=history, k=k, where=where)

    def astream(
        self, question: str, *, history: Sequence[Turn] = (), k: int | None = None, where: Sequence[str] = ()
    ) -> AsyncAnswerStream:
        """`stream` for async code."""
        return AsyncAnswerStream(self.stream(question, history=history, k=k, where=where))

    def _answer(
        self, question: str, history: Sequence[Turn], k: int, where: tuple[str, ...], call: _Call
    ) -> Generator[str, None, tuple[Answer, Record]]:
        begun = time.monotonic()
        call.deadline = begun + call.config.llm_timeout_s
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
                language=call.config.answer_language, model=call.config.llm_model,
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
        digest = Digest(self._library_digest(store), call.config.digest, templates.digest)
        now = time.monotonic()
        seconds = Seconds(round(retrieved - begun, 4), round(now - retrieved, 4), round(now - begun, 4))
        endpoint = call.config.endpoint if call.config.llm_model else None
        made = Made(
            self.library, store.encoder, call.config.llm_model, endpoint, call.config.shaping, digest,
            usage=call.usage, seconds=seconds,
        )  # fmt: skip
        return draft.answer(made), draft.record(made)

    def _rewrite(self, question: str, history: Sequence[Turn], templates: Templates, call: _Call) -> Rewriting:
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
                    if len(text) > QUESTION_CHARS:
                        break
        except LLMError as error:
            _log.warning("the endpoint did not rewrite a follow-up: %s", error)
            fault = Fallback(error.kind, str(error))
        return Rewriting(tuple(messages), text, fault)

    def _why_not(self, question: str, hits: Hits, call: _Call) -> Reason | None:
        """Return why nothing can be answered from these hits, or None.

        Whether a detail is in the abstracts is left to the model where there is one; it declines in the agreed form.
        """
        if not hits:
            return cast("Reason", (hits.reason or "no_match").split(":")[0])
        signals = abstain.read_signals(question, hits, self._library.view().index.lexicon.idf)
        reason = abstain.load_refusal().reason(signals)
        return None if reason == "not_in_sources" and call.config.llm_model else reason

    def _speak(
        self, draft: Draft, whole: Prompt, shorter: Callable[[], Prompt], call: _Call
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

    def _ask_llm(self, draft: Draft, prompt: Prompt, call: _Call) -> Generator[str, None, LLMError | None]:
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


def ask(
    question: str,
    *,
    config: Config | None = None,
    history: Sequence[Turn] = (),
    k: int | None = None,
    where: Sequence[str] = (),
) -> Answer:
    """Answer one question from the default library; for several, keep an `Assistant` open."""
    with Assistant(config) as assistant:
        return assistant.ask(question, history=history, k=k, where=where)


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


def _question(question: object) -> str:
    if not isinstance(question, str):
        raise ConfigError(f"the question is a {type(question).__name__}; give a text")
    if len(question) > QUESTION_CHARS:
        raise ConfigError(f"the question has {len(question):,} characters; give at most {QUESTION_CHARS:,}")
    text = clean(question)
    if not any(character.isalnum() for character in text):
        raise ConfigError("the question is empty; give some words")
    return text


def _history(history: object) -> list[dict[str, str]]:
    if not isinstance(history, (list, tuple)):
        raise ConfigError(f"history is a {type(history).__name__}; give a list of turns with role and content")
    turns = []
    for number, turn in enumerate(history, 1):
        role = turn.get("role") if hasattr(turn, "get") else None
        content = turn.get("content") if hasattr(turn, "get") else None
        if role not in {"user", "assistant"} or not isinstance(content, str):
            raise ConfigError(f'turn {number} of the history is not {{"role": "user" or "assistant", "content": text}}')
        turns.append({"role": str(role), "content": clean(content[:TURN_CHARS], TURN_CHARS, lines=True)})
    return turns[-TURNS:]
