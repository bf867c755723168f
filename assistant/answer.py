"""The `Assistant`, through which everything is done, and `ask()` for one question.

`ask` is `stream` read to its end; `asking` has the way of a question to its answer. What most runs do not need is
imported where it is used: a search from a cold process waits for nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from assistant import ingest as _ingest
from assistant import retrieve
from assistant.clean import clean
from assistant.config import Config, cache_folder, nearest
from assistant.errors import ConfigError, LibraryDamaged
from assistant.identity import keys_of
from assistant.library import Library
from assistant.papers import FIELDS
from assistant.types import Answer, Hits, Paper, Stage, Turn

if TYPE_CHECKING:
    from assistant.asking import Answerer, AnswerStream, AsyncAnswerStream
    from assistant.atlas import Atlas
    from assistant.explore import Facets
    from assistant.rerank import Reranker
    from assistant.sources.live import Fetcher
    from assistant.table import Row

QUESTION_CHARS, TURN_CHARS, TURNS = 8_000, 20_000, 200
"""Longest question, longest turn of a history (cut), most turns read (the last ones)."""

P = ParamSpec("P")
T = TypeVar("T")


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
        self._answerer: Answerer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the library and the connection to the endpoint."""
        with self._lock:
            if self._answerer is not None:
                self._answerer.close()
                self._answerer = None
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
            progress: Called with the number of papers just encoded; None: a bar in a notebook, and nothing elsewhere.

        Raises:
            ConfigError: No source, an unknown format, or an unknown field.
            CorpusError: A folder or a glob without any file.
            StoreError: The library cannot be written, or another process is writing to it.
        """
        from assistant import notebook
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
        with notebook.progress("encoding", progress) as tell:
            return self._library.ingest(found, reading, tell)

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
        from assistant import notebook

        with notebook.progress("importing", progress) as tell:
            return self._library.take_in(Path(file), tell)

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
        from assistant import bibliography

        return bibliography.select_papers(self._library.store(), text, ids=ids, where=where, full=full)

    # --- Exploring ----------------------------------------------------------------------------------------------------

    @_restoring
    def browse(
        self, text: str = "", *, where: Sequence[str] = (), order: str = "entry", limit: int = 50, offset: int = 0
    ) -> tuple[list[Paper], int]:
        """Return one page of the papers that hold every word as it is typed, and how many there are; see `explore`."""
        from assistant import explore

        store = self._library.store()
        return explore.browse(store, text, where=where, order=order, limit=limit, offset=offset)

    @_restoring
    def facets(self, papers: Sequence[Paper]) -> Facets:
        """Return counts of some papers, such as those of a search; see `assistant.explore.facets`."""
        from assistant import explore

        return explore.facets(papers, self._library.store())

    @_restoring
    def similar(self, paper_id: str, *, k: int = 10) -> tuple[tuple[Paper, float], ...]:
        """Return the papers most like one, with their likeness; see `assistant.explore.similar`.

        Raises:
            ConfigError: No such paper.
        """
        from assistant import explore

        return explore.similar(self._library.store(), self._library.view().index, paper_id, k)

    def compare(self, ids: Sequence[str]) -> tuple[Row, ...]:
        """Return a table of papers by task, method, data and numbers, each cell verbatim; see `assistant.table`.

        Raises:
            ConfigError: No such paper.
        """
        from assistant import table

        papers = [self.paper(each) for each in ids]
        for paper_id, paper in zip(ids, papers, strict=True):
            if paper is None:
                raise ConfigError(f"no paper {paper_id!r} to compare; see `assistant papers` for the ids")
        return table.compare([paper for paper in papers if paper])

    @_restoring
    def overview(self, text: str = "", *, where: Sequence[str] = ()) -> Facets:
        """Return counts of the papers by year, venue, author and source; see `papers` for the arguments."""
        from assistant import explore

        return explore.overview(self._library.store(), text, where=where)

    @_restoring
    def atlas(self) -> Atlas:
        """Return the map of the library with its topics; made once for each state of it, which takes seconds."""
        from assistant import atlas

        store = self._library.store()
        return atlas.open_atlas(store, self._library.view().index)

    @_restoring
    def suggest(self, n: int = 6) -> tuple[str, ...]:
        """Return questions that this library answers, drawn from its papers."""
        from assistant import suggest

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
            answerer = self._open_answerer()
            answerer.prepare(self.config)
            answerer.library_digest()

    def _open_reranker(self) -> Reranker | None:
        with self._lock:
            if self._reranker is None and self.config.reranker:
                from assistant.rerank import open_reranker

                self._reranker = open_reranker(self.config.reranker)
            return self._reranker

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
        from assistant.followup import searched_text

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
        style: str = "",
    ) -> AnswerStream:
        """Answer in final pieces: iterate, then read `.answer`.

        Args:
            question: See `search`, for the next three too.
            history: Earlier turns.
            k: Papers put before the answerer.
            where: Conditions.
            config: Settings for this question alone, as to the LLM and the answer; the library and its encoder stay.
            watch: Told each stage as it begins, from the thread that iterates: reading, then writing.
            style: What the reader wishes for the manner of an LLM's answer; it cannot change what is answered from.
        """
        from assistant.prompt import STYLE_CHARS

        asked, turns, settings = _question(question), _history(history), config or self.config
        number, conditions = settings.k if k is None else k, (where,) if isinstance(where, str) else tuple(where)
        wish = clean(style, STYLE_CHARS, lines=True) if style else ""
        return self._open_answerer().stream(asked, turns, number, conditions, settings, watch, wish)

    def _open_answerer(self) -> Answerer:
        with self._lock:
            if self._answerer is None:
                from assistant.asking import Answerer

                self._answerer = Answerer(self._library, self._search)
            return self._answerer

    async def aask(
        self, question: str, *, history: Sequence[Turn] = (), k: int | None = None, where: Sequence[str] = ()
    ) -> Answer:
        """`ask` for async code; the event loop stays free, and cancelling it stops the endpoint's call."""
        async with self.astream(question, history=history, k=k, where=where) as stream:
            async for _ in stream:
                pass
            return stream.answer

    def astream(
        self, question: str, *, history: Sequence[Turn] = (), k: int | None = None, where: Sequence[str] = ()
    ) -> AsyncAnswerStream:
        """`stream` for async code."""
        from assistant.asking import AsyncAnswerStream

        return AsyncAnswerStream(self.stream(question, history=history, k=k, where=where))


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
