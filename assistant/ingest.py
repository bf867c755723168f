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
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np

from assistant import index
from assistant.chunk import CHUNK_TOKENS, TITLE_TOKENS, Span, chunk_abstract, split_sentences
from assistant.embed import Encoder
from assistant.errors import CorpusError
from assistant.papers import (
    Record,
    Rejected,
    contradicts,
    merge,
    new_id,
    read_records,
    same_abstract,
    strong_keys,
    title_key,
)
from assistant.store import Store, Units, Writer
from assistant.types import Chunk

BATCH = 64
"""Papers encoded and committed together: some seconds of work that an interruption can cost."""
KINDS = ("new", "updated", "unchanged", "merged", "rejected")

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
    rejected: list[Rejected] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def count(self, kind: str) -> None:
        """Count a record that was let in."""
        setattr(self, kind, getattr(self, kind) + 1)

    @property
    def good(self) -> bool:
        """True when the source gave a good record, or was all unchanged."""
        return self.found > len(self.rejected)


@dataclass
class Ledger:
    """What one ingest did."""

    sources: list[SourceLedger]
    papers: int
    chunks: int
    encoded: int
    """Papers encoded in this run."""
    seconds: float

    @property
    def totals(self) -> dict[str, int]:
        """Counts over all sources; `found` is the sum of the others."""
        counts = {kind: sum(getattr(each, kind) for each in self.sources) for kind in KINDS[:-1]}
        return {
            "found": sum(each.found for each in self.sources),
            **counts,
            "rejected": sum(len(each.rejected) for each in self.sources),
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
                    "warnings": each.warnings,
                }
                for each in self.sources
            ],
            "totals": self.totals,
            "library": {"papers": self.papers, "chunks": self.chunks},
            "encoded": self.encoded,
            "seconds": round(self.seconds, 3),
        }


def identity(encoder: Encoder) -> str:
    """Return what vectors must agree in to be comparable: the encoder and how texts are cut for it."""
    return f"{encoder.identity}/chunk{chunk_budget(encoder)}"


def chunk_budget(encoder: Encoder) -> int:
    """Return the token budget of a chunk: at most half of what the encoder can see, for the title comes first."""
    return min(CHUNK_TOKENS, encoder.max_tokens // 2)


def find_sources(names: Sequence[str]) -> list[Path]:
    """Expand files, folders and globs into files, in order, each once.

    Raises:
        CorpusError: A folder or a glob without any file.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            files = sorted(
                each for each in path.iterdir() if each.is_file() and not each.name.startswith((".", "README"))
            )
        elif has_magic(name) and not path.exists():
            files = sorted(Path(each) for each in glob(str(path), recursive=True) if Path(each).is_file())  # noqa: PTH207 - may be absolute
        else:
            files = [path]
        if not files:
            raise CorpusError(f"cannot read {name}: no file is there; check the name")
        found.update(dict.fromkeys(files))
    return list(found)


def ingest(
    store: Store,
    encoder: Encoder,
    sources: Sequence[Path],
    *,
    form: str | None = None,
    progress: Progress | None = None,
) -> Ledger:
    """Read sources into a library.

    Args:
        store: The library.
        encoder: Makes the vectors; must be the one that made those already there.
        sources: Files, read in this order.
        form: Format of all sources; None: told by their content.
        progress: Called as papers are encoded and stored.

    Returns:
        The ledger. A source that cannot be read at all has one refusal in it; the others are kept.

    Raises:
        EncoderMismatch: The library's vectors are another encoder's.
        LibraryBusy: Another process is writing.
        StoreError: The library cannot be written.
    """
    begun = time.monotonic()
    store.check_encoder(identity(encoder))
    with store.writing("ingest") as writer:
        run = _Run(store, writer, encoder, progress or (lambda _n: None))
        ledgers = [run.read(source, form) for source in sources]
        papers, chunks = store.counts()
        ledger = Ledger(ledgers, papers, chunks, run.encoded, time.monotonic() - begun)
        with writer.transaction():
            writer.end_run(run.number, ledger.as_dict())
        if papers:
            index.seal(store)
        ledger.seconds = time.monotonic() - begun
    return ledger


def remove(store: Store, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Delete papers by id or alias; return the ids that were removed and those that were not found."""
    with store.writing("remove") as writer, writer.transaction():
        gone = {each: writer.remove(each) for each in dict.fromkeys(ids)}
    return [each for each, done in gone.items() if done], [each for each, done in gone.items() if not done]


class _Run:
    """One ingest: knows which papers it has touched and which wait to be encoded."""

    def __init__(self, store: Store, writer: Writer, encoder: Encoder, progress: Progress) -> None:
        self._store, self._writer, self._encoder, self._progress = store, writer, encoder, progress
        self._touched: set[int] = set()
        self._pending: dict[int, tuple[str, str]] = {}
        self.encoded = 0
        with writer.transaction():
            writer.set_encoder(identity(encoder), encoder.dim)
            self.number = writer.begin_run()

    def read(self, source: Path, form: str | None) -> SourceLedger:
        """Read one source to its end, in committed batches."""
        ledger = SourceLedger(str(source), form or "unknown")
        key = str(source.resolve())
        try:
            ledger.format, items = read_records(source, form)
            done = False
            while not done:
                with self._writer.transaction():
                    done = self._batch(items, key, ledger)
                    if done:
                        for n in self._writer.drop_stale_records(key, self.number):
                            self._merge(n)
                    self._encode()
        except CorpusError as error:
            ledger.found += 1
            ledger.rejected.append(Rejected("the whole source", str(error)))
        return ledger

    def _batch(self, items: Iterable[Record | Rejected], key: str, ledger: SourceLedger) -> bool:
        """Take records until a batch waits to be encoded; True when the source is at its end."""
        for seen, item in enumerate(items, 1):
            ledger.found += 1
            if isinstance(item, Rejected):
                ledger.rejected.append(item)
            else:
                ledger.count(self._take(item, key))
                if item.warning:
                    ledger.warnings.append(f"{item.where}: {item.warning}")
            if len(self._pending) >= BATCH or seen >= 50 * BATCH:
                return False
        return True

    def _take(self, record: Record, source: str) -> str:
        """Let a record in; return how it counts."""
        payload = record.payload()
        digest = hashlib.sha256(payload.encode("utf-8", "replace")).hexdigest()[:32]
        keys = [*strong_keys(record, source), title_key(record)]
        n = self._resolve(record, keys)
        if n is None:
            fields = merge([record])
            n = self._writer.add_paper(new_id(record), fields)
            self._pending[n] = (fields["title"], fields["abstract"])
            kind = "new"
        elif n in self._touched:
            kind = "merged"
        else:
            kind = "unchanged" if self._writer.has_record(source, n, digest) else "updated"
        self._touched.add(n)
        self._writer.put_record(source, n, digest, payload, self.number)
        if kind in {"merged", "updated"}:
            self._merge(n)
        if kind != "unchanged":
            self._writer.add_aliases(n, keys)
        return kind

    def _resolve(self, record: Record, keys: list[str]) -> int | None:
        """Find the paper that a record is about: by its strong keys in turn, then by title and abstract."""
        for key in keys[:-1]:
            for n in self._writer.candidates(key):
                return n
        for n in self._writer.candidates(keys[-1]):
            if same_abstract(record.abstract, self._writer.abstract(n)) and not contradicts(
                record, self._writer.aliases(n)
            ):
                return n
        return None

    def _merge(self, n: int) -> None:
        records = []
        for payload in self._writer.payloads(n):
            values = json.loads(payload)
            records.append(Record("", **{**values, "authors": tuple(values["authors"])}))
        fields = merge(records)
        if self._writer.update_paper(n, fields):
            self._pending[n] = (fields["title"], fields["abstract"])

    def _encode(self) -> None:
        """Encode what waits and keep it; the open transaction commits it together with the papers."""
        for n, units in zip(
            self._pending, encode_papers(list(self._pending.values()), self._encoder, self._progress), strict=True
        ):
            self._writer.put_units(n, units)
        self.encoded += len(self._pending)
        self._pending.clear()


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
