"""Sources -> papers -> chunks -> vectors -> store -> index; returns the ledger, in which every record is accounted for.

A record counts once, in this order: rejected; merged (it resolves to a paper that this run has already touched); new
(it resolves to none); unchanged (it equals what this source said last); else updated. What is unchanged is not encoded.
Papers are committed in batches, each synced to disk: an interrupted ingest loses only the open batch, and run again it
goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np

from assistant import index
from assistant.chunk import CHUNK_TOKENS, TITLE_TOKENS, Span, chunk_abstract, split_sentences
from assistant.embed import Encoder
from assistant.errors import CorpusError
from assistant.identity import contradict, keys_of, merge, new_id, same_abstract, strong_keys, title_key
from assistant.papers import Record, Rejected
from assistant.store import Store, Units
from assistant.types import Chunk
from assistant.write import Writer, digest_of, writing

if TYPE_CHECKING:
    from assistant.sources import Opened, Source
    from assistant.sources.live import Fetcher

BATCH = 64
"""Papers encoded and committed together: some seconds of work that an interruption can cost."""
RECORDS = 3_200
"""Records read between two commits, at most."""
KINDS = ("new", "updated", "unchanged", "merged", "rejected")
MOST_REJECTED = 100_000
"""Refusals of one source that the ledger names; further ones are counted, and stand in the file of refusals."""
GONE = "gone"
"""The format of a source that is not there any more."""
REFUSED = "refused"
"""The folder in a library for what was refused, to be mended."""

_log = logging.getLogger(__name__)

Progress = Callable[[int], None]
"""Called with the number of papers just encoded and stored."""


@dataclass
class SourceLedger:
    """What became of the records of one source."""

    source: str
    format: str
    found: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    refused: int = 0
    """Records rejected, those counted that `rejected` no longer names included."""
    rejected: list[Rejected] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    removed: int = 0
    """Papers that left the library because they left the source (`sync`)."""
    mend: str | None = None
    """The file that holds what was refused, to be mended and ingested."""

    def count(self, kind: str) -> None:
        """Count a record that was let in."""
        setattr(self, kind, getattr(self, kind) + 1)

    def reject(self, item: Rejected) -> None:
        """Count and name a refusal; what was read of it is not kept."""
        self.found += 1
        self.refused += 1
        if len(self.rejected) < MOST_REJECTED:
            self.rejected.append(Rejected(item.where, item.reason))

    @property
    def good(self) -> bool:
        """True when the source gave a good record, was all unchanged, or is gone as was to be expected."""
        return self.found > self.refused or self.format == GONE


@dataclass
class Ledger:
    """What one ingest did."""

    sources: list[SourceLedger]
    papers: int
    chunks: int
    encoded: int
    """Papers encoded in this run."""
    seconds: float
    dry: bool = False
    """True when nothing was kept."""

    @property
    def totals(self) -> dict[str, int]:
        """Counts over all sources; `found` is the sum of the others."""
        counts = {kind: sum(getattr(each, kind) for each in self.sources) for kind in KINDS[:-1]}
        return {
            "found": sum(each.found for each in self.sources),
            **counts,
            "rejected": sum(each.refused for each in self.sources),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "sources": [
                {
                    "source": each.source,
                    "format": each.format,
                    **{kind: getattr(each, kind) for kind in ("found", *KINDS[:-1])},
                    "rejected": [{"where": one.where, "reason": one.reason} for one in each.rejected],
                    "removed": each.removed,
                    "mend": each.mend,
                    "warnings": each.warnings,
                }
                for each in self.sources
            ],
            "totals": self.totals,
            "removed": sum(each.removed for each in self.sources),
            "library": {"papers": self.papers, "chunks": self.chunks},
            "encoded": self.encoded,
            "dry_run": self.dry,
            "seconds": round(self.seconds, 3),
        }


def identity(encoder: Encoder) -> str:
    """Return what vectors must agree in to be comparable: the encoder and how texts are cut for it."""
    return f"{encoder.identity}/chunk{chunk_budget(encoder)}"


def chunk_budget(encoder: Encoder) -> int:
    """Return the token budget of a chunk: at most half of what the encoder can see, for the title comes first."""
    return min(CHUNK_TOKENS, encoder.max_tokens // 2)


@dataclass(frozen=True, slots=True)
class Reading:
    """How sources are read."""

    form: str | None = None
    """Format of all sources; None: told by their content."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """For fields of `papers.FIELDS` the one name under which the sources keep them."""
    sync: bool = False
    """What left a source leaves the library."""
    folders: tuple[str, ...] = ()
    """With `sync`: the folders, as absolute paths, whose files are all among the sources."""
    dry: bool = False
    """Tell what would become of the records, and keep nothing."""
    fetcher: Callable[[], Fetcher] | None = None
    """Makes what asks live sources, when there is one; None: one without settings."""


class _DryRunEndsError(Exception):
    """Rolls back what a dry run did."""


def ingest(  # noqa: PLR0913 - settings by name
    store: Store,
    encoder: Encoder | None,
    sources: Sequence[Source],
    *,
    reading: Reading | None = None,
    progress: Progress | None = None,
    search: str = "auto",
) -> Ledger:
    """Read sources into a library.

    Args:
        store: The library.
        encoder: Makes the vectors; must be the one that made those already there. None: nothing is encoded or indexed,
            and the papers are found only once a later ingest has encoded them.
        sources: Files and live sources, read in this order.
        reading: How they are read.
        progress: Called as papers are encoded and stored.
        search: `Config.search`, for the index.

    Returns:
        The ledger. A source that cannot be read at all has one refusal in it; the others are kept.

    Raises:
        EncoderMismatch: The library's vectors are another encoder's.
        LibraryBusy: Another process is writing.
        StoreError: The library cannot be written.
    """
    begun = time.monotonic()
    reading = reading or Reading()
    if encoder is not None:
        store.check_encoder(identity(encoder))
    with (
        writing(store, "ingest") as writer,
        closing(_Run(store, writer, None if reading.dry else encoder, reading, progress or (lambda _n: None))) as run,
    ):
        ledgers: list[SourceLedger] = []
        if reading.dry:
            with suppress(_DryRunEndsError), writer.transaction():
                run.begin()
                ledgers = [each for source in sources for each in run.read(source)]
                ledgers += run.forget_gone(reading.folders)
                papers, chunks = store.counts()
                raise _DryRunEndsError
            return Ledger(ledgers, papers, chunks, 0, time.monotonic() - begun, dry=True)
        with writer.transaction():
            run.begin()
        run.encode_waiting()
        for source in sources:
            ledgers += run.read(source)
        ledgers += run.forget_gone(reading.folders)
        papers, chunks = store.counts()
        ledger = Ledger(ledgers, papers, chunks, run.encoded, time.monotonic() - begun)
        with writer.transaction():
            writer.end_run(run.number, ledger.as_dict())
        if papers and encoder is not None:
            index.seal(store, search)
        ledger.seconds = time.monotonic() - begun
    return ledger


def remove(store: Store, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Delete papers by id or any key; return the names that were found and those that were not."""
    gone: dict[str, bool] = {}
    with writing(store, "remove") as writer, writer.transaction():
        for name in dict.fromkeys(names):
            paper = store.paper(name, *keys_of(name))
            gone[name] = paper is not None
            if paper:
                writer.remove(paper.id)
    return [each for each, done in gone.items() if done], [each for each, done in gone.items() if not done]


def split(store: Store, paper_id: str, digests: Sequence[str]) -> list[str]:
    """Undo merges: take records out of a paper, each to be a paper of its own that is never merged with it again.

    Args:
        store: The library.
        paper_id: The paper.
        digests: Of the records that are taken out, as `Store.records` gives them; at least one record has to stay.

    Returns:
        The ids of the papers they are now. They are encoded by the next ingest.
    """
    made = []
    with writing(store, "split") as writer, writer.transaction():
        n = writer.number_of(paper_id)
        assert n is not None
        for source, digest, payload in store.records(paper_id):
            if digest in digests:
                record = read_payload(payload)
                writer.drop_record(source, n, digest)
                writer.keep_apart(n, digest)
                other = writer.add_paper(new_id(record), merge([record]))
                writer.put_record(source, other, payload, 0)
                refresh(writer, other)
                made.append(writer.id_of(other))
        writer.set_aliases(n, ())
        refresh(writer, n)
    return made


def read_payload(payload: str) -> Record:
    """Return the record that a source's words were kept as."""
    values = json.loads(payload)
    return Record("", **{**values, "authors": tuple(values["authors"])})


def refresh(writer: Writer, n: int) -> bool:
    """Make a paper's fields and keys from all its records; True when its text changed. Without any it is removed."""
    records = [(source, read_payload(payload)) for source, payload in writer.records(n)]
    if not records:
        writer.remove(writer.id_of(n))
        return False
    for source, record in records:
        writer.add_aliases(n, _keys(record, source))
    return writer.update_paper(n, merge([record for _, record in records]))


def encode_waiting(store: Store, writer: Writer, encoder: Encoder, progress: Progress) -> int:
    """Encode the papers of which nothing is encoded yet, in committed batches; return how many."""
    total = 0
    while n := encode_some(store, writer, encoder, progress):
        total += n
    return total


def encode_some(
    store: Store, writer: Writer, encoder: Encoder, progress: Progress, table: Literal["units", "next_units"] = "units"
) -> int:
    """Encode and commit one batch of the papers of which nothing stands in a table yet; return how many."""
    waiting = store.waiting(table, BATCH)
    units = encode_papers([(each.paper.title, each.paper.abstract) for each in waiting], encoder, progress)
    with writer.transaction():
        for each, unit in zip(waiting, units, strict=True):
            writer.put_units(each.n, unit, table)
            if table == "units":
                writer.mark_changed(each.n)
    return len(waiting)


def _keys(record: Record, source: str) -> list[str]:
    return [*strong_keys(record, source), title_key(record)]


class _Run:
    """One ingest: knows which papers wait to be encoded."""

    def __init__(
        self, store: Store, writer: Writer, encoder: Encoder | None, reading: Reading, progress: Progress
    ) -> None:
        self._store, self._writer, self._encoder, self._progress = store, writer, encoder, progress
        self._reading = reading
        self._fetcher: Fetcher | None = None
        self._read_keys: set[str] = set()
        self._pending: dict[int, tuple[str, str]] = {}
        self._events: list[tuple[object, ...]] = []
        self.encoded = 0
        self.number = 0
        self._chunks = self._unsealed = 0
        """Chunks that the index held when it was last sealed, and that came since."""

    def begin(self) -> None:
        """Number the run, and stamp the library with its encoder."""
        if self._encoder is not None:
            self._writer.set_encoder(identity(self._encoder), self._encoder.dim)
        self.number = self._writer.begin_run()

    def encode_waiting(self) -> None:
        """Encode what an interrupted run, or one without an encoder, left behind."""
        if self._encoder is not None:
            self.encoded += encode_waiting(self._store, self._writer, self._encoder, self._progress)

    def read(self, source: Source) -> list[SourceLedger]:
        """Read a source to its end, in committed batches; return a ledger for each thing in it that holds records."""
        from assistant.sources import open_live_source, open_source  # who only asks reads no files
        from assistant.sources.live import Fetcher, Query

        if isinstance(source, Query):
            if self._fetcher is None:
                self._fetcher = (self._reading.fetcher or Fetcher)()
            return list(map(self._read, open_live_source(source, self._fetcher)))
        ledgers = list(map(self._read, open_source(source, self._reading.form, self._reading.mapping)))
        # A member of an archive may be gone, as a file of a folder may.
        return ledgers + (self.forget_gone([str(source.resolve())]) if all(each.good for each in ledgers) else [])

    def forget_gone(self, roots: Sequence[str]) -> list[SourceLedger]:
        """With `sync`, forget the sources below these that were not read in this run, for they are there no more."""
        if not self._reading.sync:
            return []
        gone = []
        for key in sorted({key for root in roots for key in self._writer.sources_below(root)} - self._read_keys):
            ledger = SourceLedger(key, GONE)
            with self._writing():
                self._forget_all(key, ledger, everything=True)
                self._encode()
            gone.append(ledger)
        return gone

    def close(self) -> None:
        """Close the connections to live sources."""
        if self._fetcher is not None:
            self._fetcher.close()

    def _read(self, opened: Opened) -> SourceLedger:
        ledger = SourceLedger(opened.name, opened.form)
        self._read_keys.add(opened.key)
        refusals = _Refusals(None if self._reading.dry else self._store.folder, opened)
        items, is_whole, done = iter(opened.items), True, False
        while not done:
            with self._writing():
                try:
                    done = self._batch(items, opened.key, ledger, refusals)
                except CorpusError as error:
                    place = "the rest of the source" if ledger.found else "the whole source"
                    self._refuse(Rejected(place, str(error), damaged=True), ledger, refusals)
                    is_whole, done = False, True
                if done:
                    self._forget_stale(opened, ledger, is_whole=is_whole and not refusals.has_damage)
                self._keep_events(opened.key, is_last=done)
                self._encode()
            self._seal()
        ledger.mend = refusals.close()
        return ledger

    def _writing(self) -> AbstractContextManager[None]:
        """Return a transaction for a batch; a dry run is one as a whole."""
        return nullcontext() if self._reading.dry else self._writer.transaction()

    def _batch(self, items: Iterable[Record | Rejected], key: str, ledger: SourceLedger, refusals: _Refusals) -> bool:
        """Take records until a batch waits to be encoded; True when the source is at its end."""
        for seen, item in enumerate(items, 1):
            if isinstance(item, Rejected):
                self._refuse(item, ledger, refusals)
            else:
                ledger.found += 1
                kind, n, why = self._take(item, key)
                ledger.count(kind)
                self._note(ledger, item.where, kind, self._writer.id_of(n), why)
                if item.warning and len(ledger.warnings) < MOST_REJECTED:
                    ledger.warnings.append(f"{item.where}: {item.warning}")
            if (self._encoder and len(self._pending) >= BATCH) or seen >= RECORDS:
                return False
        return True

    def _refuse(self, item: Rejected, ledger: SourceLedger, refusals: _Refusals) -> None:
        ledger.reject(item)
        refusals.add(item)
        self._note(ledger, item.where, "rejected", None, item.reason)

    def _note(self, ledger: SourceLedger, place: str, kind: str, paper: str | None, reason: str | None = None) -> None:
        self._events.append((ledger.found, place, kind, paper, reason))

    def _keep_events(self, key: str, *, is_last: bool) -> None:
        self._writer.add_events(key, self.number, self._events)
        self._events.clear()
        if is_last:
            self._writer.drop_older_events(key, self.number)

    def _take(self, record: Record, source: str) -> tuple[str, int, str | None]:
        """Let a record in; return how it counts, the paper it is of, and why it was merged into that, if it was."""
        payload = record.payload()
        digest = digest_of(payload)
        found, why = self._resolve(record, source, digest)
        if not found:
            n, kind = self._writer.add_paper(new_id(record), merge([record])), "new"
            self._writer.add_aliases(n, _keys(record, source))
        else:
            n = found[0]
            is_known = self._writer.has_record(source, n, digest)
            is_touched = any(self._writer.was_named(each, self.number) for each in found)
            kind = "merged" if is_touched else "unchanged" if is_known else "updated"
            why = None if is_known else f"by {why}"
            for other in found[1:]:
                why = f"{why}, which makes {self._writer.id_of(other)} the same paper"
                self._writer.unite(n, other)
                self._pending.pop(other, None)
            if is_known:
                self._writer.touch_record(source, n, digest, self.number)
        if not found or not is_known:
            self._writer.put_record(source, n, payload, self.number)
        if not found:
            self._pending[n] = (record.title, record.abstract)
        elif not is_known or len(found) > 1:
            self._refresh(n)
        return kind, n, why

    def _resolve(self, record: Record, source: str, digest: str) -> tuple[list[int], str | None]:
        """Find the papers that a record is about, in the order they entered, and the keys that name them.

        By its strong keys in turn, then by title and abstract. More than one are one paper by this record, unless
        their keys say that they are two.
        """
        keys = strong_keys(record, source)
        found: dict[int, str] = {}
        for key in keys:
            for n in self._writer.candidates(key, digest)[:1]:  # more have one key only where they were split
                if n not in found and (not found or not self._are_two(next(iter(found)), n, keys)):
                    found[n] = key
        if found:
            return sorted(found), " and ".join(dict.fromkeys(found.values()))
        for n in self._writer.candidates(title_key(record), digest):
            if same_abstract(record.abstract, self._writer.abstract(n)) and not contradict(
                keys, self._writer.aliases(n)
            ):
                return [n], "title and abstract"
        return [], None

    def _are_two(self, n: int, other: int, keys: Sequence[str]) -> bool:
        mine, theirs = self._writer.aliases(n), self._writer.aliases(other)
        return contradict(mine, theirs) or contradict(keys, theirs) or self._writer.are_apart(n, other)

    def _refresh(self, n: int) -> None:
        if refresh(self._writer, n):
            paper = self._writer.text(n)
            if paper:
                self._pending[n] = paper

    def _forget_stale(self, opened: Opened, ledger: SourceLedger, *, is_whole: bool) -> None:
        """Forget what a source no longer says; with `sync`, the papers that nobody names any more too."""
        sync = self._reading.sync and is_whole
        if self._reading.sync and not is_whole:
            ledger.warnings.append("nothing was removed: what could not be read may be what seems to be missing")
        self._forget_all(opened.key, ledger, everything=sync)

    def _forget_all(self, key: str, ledger: SourceLedger, *, everything: bool) -> None:
        for n in self._writer.drop_stale_records(key, self.number, everything=everything):
            self._refresh(n)
            if self._writer.text(n) is None:
                ledger.removed += 1
                self._pending.pop(n, None)

    def _encode(self) -> None:
        """Encode what waits and keep it; the open transaction commits it together with the papers."""
        if self._encoder is not None:
            waiting = list(self._pending.values())
            for n, units in zip(self._pending, encode_papers(waiting, self._encoder, self._progress), strict=True):
                self._writer.put_units(n, units)
                self._unsealed += len(units.chunks)
            self.encoded += len(self._pending)
        elif not self._reading.dry:
            self._progress(len(self._pending))
        self._pending.clear()

    def _seal(self) -> None:
        """Keep what has to be scanned beside the index small while a long ingest runs; Chroma waits for its end."""
        if self._unsealed > max(index.TAIL_CHUNKS, index.TAIL_SHARE * self._chunks):
            index.seal(self._store, "exact")
            self._chunks, self._unsealed = self._store.counts()[1], 0


class _Refusals:
    """The file of what a source's refused records were, as JSON lines that can be mended and ingested again."""

    def __init__(self, folder: Path | None, opened: Opened) -> None:
        """Name the file; without a folder nothing is written."""
        stem = re.sub(r"[^\w.-]+", "-", Path(opened.name).name)[:60].strip("-.") or "source"
        digest = hashlib.sha256(opened.key.encode("utf-8", "replace")).hexdigest()[:8]
        self._file = folder / REFUSED / f"{stem}-{digest}.jsonl" if folder else None
        self._out: TextIO | None = None
        self.has_damage = False

    def add(self, item: Rejected) -> None:
        """Write a refusal: the fields of a paper, those that were read filled in, and why it was refused."""
        self.has_damage = self.has_damage or item.damaged
        if self._file is None or not (item.fields or item.text):  # there is nothing to mend in a file that is not there
            return
        if self._out is None:
            self._file.parent.mkdir(exist_ok=True)
            self._out = self._file.with_suffix(".part").open("w", encoding="utf-8", errors="replace")
        line = {"title": "", "abstract": "", **item.fields, "_where": item.where, "_reason": item.reason}
        if item.text:
            line["_text"] = item.text
        self._out.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def close(self) -> str | None:
        """Put the file in its place, and return its name; when nothing was refused there is none."""
        if self._file is None:
            return None
        if self._out is None:
            self._file.unlink(missing_ok=True)
            return None
        self._out.close()
        Path(self._out.name).replace(self._file)
        return str(self._file)


def encode_papers(papers: Sequence[tuple[str, str]], encoder: Encoder, progress: Progress | None = None) -> list[Units]:
    """Cut papers, given as (title, abstract), and encode the whole, the chunks and the sentences of each.

    The title is joined to the whole and to each chunk, for embedding only; sentences stand alone. A text that occurs
    twice (a short abstract is its own only chunk) is encoded once.
    """
    if not papers:
        return []
    tokens = encoder.token_spans([text for paper in papers for text in paper])
    cuts = [
        _cut(title, abstract, tokens[2 * i], tokens[2 * i + 1], chunk_budget(encoder))
        for i, (title, abstract) in enumerate(papers)
    ]
    row_of: dict[str, int] = {}
    for _, _, texts in cuts:
        for text in texts:
            row_of.setdefault(text, len(row_of))
    vectors = encoder.encode_documents(list(row_of))
    if progress:
        progress(len(papers))
    return [
        Units(tuple(chunks), tuple(sentences), vectors[[row_of[text] for text in texts]].astype(np.float16))
        for chunks, sentences, texts in cuts
    ]


def _cut(
    title: str, abstract: str, title_tokens: Sequence[Span], tokens: Sequence[Span], budget: int
) -> tuple[list[Chunk], list[Span], list[str]]:
    sentences = split_sentences(abstract) or [(0, len(abstract))]
    chunks = chunk_abstract(abstract, sentences, tokens, budget) or [Chunk(abstract, 0, len(abstract), 0)]
    limit = min(TITLE_TOKENS, 3 * budget // 4)
    shown = title[: title_tokens[limit - 1][1]] if len(title_tokens) > limit else title
    head = f"{shown}. " if shown else ""
    texts = [head + abstract, *(head + chunk.text for chunk in chunks), *(abstract[a:b] for a, b in sentences)]
    return chunks, sentences, texts
