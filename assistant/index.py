"""What is derived from the store and can be thrown away: vectors for the exact scan, postings for BM25, Chroma.

A **generation** is a folder `index/gen-<epoch>-<serial>`: built aside, sealed by a manifest with the size and the
sha256 of each file, then renamed into place. Nothing is ever changed in it. What came or went since it was sealed is a
**tail** of papers, scanned exactly, and a mask of rows that no longer count; when the tail grows large the next ingest
seals a new generation. A generation that is missing, damaged or of another version or encoder is rebuilt from the
store, and `Index.warnings` says so. To build one takes memory for the different terms, not for the papers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import stat
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from assistant.arrays import Growing, Rows, load
from assistant.errors import LibraryBusy, LibraryDamaged, StoreError
from assistant.lexicon import Lexicon, Postings, PostingsBuilder
from assistant.products import SPLIT_BYTES, best, scan
from assistant.seen import differing, note, sha256_of
from assistant.sharing import Shared
from assistant.store import INDEX, Store, StoredPaper
from assistant.text import terms
from assistant.write import writing

FORMAT = 5
"""Version of a generation's layout; any other is rebuilt."""
TITLE_WEIGHT = 2
"""How often a title's terms count in BM25; chosen in `eval/STUDY.md`."""
TAIL_SHARE, TAIL_CHUNKS = 0.1, 5_000
"""A tail is folded in when it passes this share of the chunks, and at least so many."""
TAIL_PARTS = 8
"""A tail is read bit by bit as it grows, and as one when it has come to so many bits."""
EXACT_CHUNKS = 2_000_000
"""Up to so many chunks an index that is searched as it thinks best is scanned exactly; then Chroma serves."""
KEPT_CHUNKS = 200_000
"""Up to so many chunks Chroma is filled although the exact scan serves: it costs minutes at most, and who chooses
Chroma then need not wait."""
SCANNED_BYTES = 1 << 32
"""Up to so many bytes of chunks are read, not mapped: every question scans them, in half the time, for memory that
belongs to no file comes in larger pages."""
WIDENED_BYTES = 16 << 20
"""Up to so many bytes of sentences are made float32 when they are read: a product of float16 takes ten times longer."""
FEW = 4
"""All units are multiplied where there are not so many times those that are wanted."""
MASKS, PAPERS = 64, 2_000
"""So many filters, and papers, are remembered."""
LIKENESSES = 1_000
"""Of up to so many papers all likenesses are kept: 4 MB."""
EF_SEARCH, EF_CONSTRUCTION, NEIGHBOURS = 400, 200, 16
"""HNSW: ef_search 400 finds .998 of the exact top 10 where the default finds .892 (100,000 clustered vectors)."""
MANIFEST = "manifest.json"
GIVEN_UP = "given-up.json"
"""What the manifest of a generation is called whose Chroma has failed: that has been told."""
MANIFEST_BYTES = 1 << 20
"""No manifest is nearly as large."""
PROBE = 1e-3
"""Greatest cosine distance at which Chroma finds a chunk by its own vector."""
CHROMA_BATCH = 5_000
"""Records in one request to Chroma; it takes at most 5,461."""
_NAME = re.compile(r"gen-(\d{10,})-(\d{6,})")

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A run of papers, one row a paper: their vectors, those of one paper together, and their terms."""

    numbers: Ints
    """(papers,) row numbers in the store, ascending."""
    whole: Rows
    """(papers, dim) float32"""
    chunks: Floats
    """(chunks, dim)"""
    chunk_starts: Ints
    """(papers + 1,) the chunks of paper i are rows `chunk_starts[i]` to `chunk_starts[i + 1]`."""
    spans: NDArray[np.int32]
    """(chunks, 2) where each begins and ends in its abstract, in code points."""
    sentences: Rows
    """(sentences, dim); many are kept in half precision, because only those of candidates are read."""
    sentence_starts: Ints
    """(papers + 1,)"""
    postings: Postings
    """A document is a paper, its title counted `TITLE_WEIGHT` times."""

    def best_chunks(self, query: Floats) -> Floats:
        """Return (papers,) the best cosine of `query` with any chunk of each; threads read many chunks together."""
        if self.chunks.nbytes < SPLIT_BYTES:
            return cast("Floats", self._scan([query])[0])
        return cast("Floats", self._shared.encode([query])[0])

    def _scan(self, queries: Sequence[Floats]) -> Floats:
        return best(self.chunks, self.chunk_starts, np.stack(queries))

    @cached_property
    def _shared(self) -> Shared[Floats]:
        return Shared(self._scan)

    @classmethod
    def opened(cls, folder: Path) -> Part:
        """Open what was made in a folder."""
        numbers, chunk_starts, spans, sentence_starts = (
            load(folder / f"{name}.npy") for name in ("numbers", "chunk_starts", "spans", "sentence_starts")
        )
        chunks = load(folder / "chunks.npy", mapped_from=SCANNED_BYTES)
        whole, sentences = (Rows.opened(folder / f"{name}.npy") for name in ("whole", "sentences"))
        if sentences.array.nbytes <= WIDENED_BYTES:
            sentences = Rows(sentences.array.astype(np.float32))
        postings = Postings.opened(folder / POSTINGS)
        return cls(numbers, whole, chunks, chunk_starts, spans, sentences, sentence_starts, postings)

    @classmethod
    def made(cls, store: Store, after_version: int, folder: Path | None = None) -> Part:
        """Make one of the papers with a version after `after_version`; without a folder it is kept in memory."""
        dim = store.dim

        def growing(name: str, dtype: type, width: int | None = None) -> Growing:
            return Growing(folder / f"{name}.npy" if folder else None, dtype, width)

        numbers, whole = growing("numbers", np.int64), growing("whole", np.float32, dim)
        chunks, chunk_starts = growing("chunks", np.float32, dim), growing("chunk_starts", np.int64)
        spans = growing("spans", np.int32, 2)
        sentences, sentence_starts = growing("sentences", np.float16, dim), growing("sentence_starts", np.int64)
        postings = PostingsBuilder(folder / POSTINGS if folder else None)
        for starts in (chunk_starts, sentence_starts):
            starts.add(np.array([0]))
        for stored, units in store.scan(after_version):
            n = 1 + len(units.chunks)
            numbers.add(np.array([stored.n]))
            whole.add(units.vectors[:1])
            chunks.add(units.vectors[1:n])
            spans.add(np.array([(chunk.start, chunk.end) for chunk in units.chunks]))
            sentences.add(units.vectors[n:])
            chunk_starts.add(np.array([len(chunks)]))
            sentence_starts.add(np.array([len(sentences)]))
            postings.add([Counter(terms(stored.paper.title) * TITLE_WEIGHT + terms(stored.paper.abstract))])
        return cls(
            numbers.close(), Rows(whole.close()), chunks.close(), chunk_starts.close(), spans.close(),
            Rows(sentences.close()), sentence_starts.close(), postings.close(),
        )  # fmt: skip


POSTINGS = "postings"
"""The folder of a generation in which they are."""


@dataclass(frozen=True)
class Index:
    """One consistent view of a library: the newest generation, the tail and the mask. Never changes once opened."""

    generation: Generation
    tail: tuple[Part, ...]
    """What came since the generation was sealed."""
    alive: NDArray[np.bool_]
    """(papers,) False for rows that were removed or have changed since."""
    epoch: int
    """The library's epoch that this view shows."""
    encoder: str | None
    """Identity of the encoder of its vectors; None while there are none."""
    warnings: tuple[str, ...]
    """What had to be mended on opening, in words."""
    _masks: dict[Hashable, NDArray[np.bool_]] = field(default_factory=dict, repr=False)
    _papers: dict[int, StoredPaper] = field(default_factory=dict, repr=False)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The generation's papers, then the tail's."""
        return (self.generation.part, *self.tail)

    @cached_property
    def numbers(self) -> Ints:
        """(papers,) the row number in the store of each row of this index, tail last."""
        return np.concatenate([part.numbers for part in self.parts])

    @cached_property
    def _bases(self) -> Ints:
        """(parts + 1,) the rows at which the parts begin, and the end."""
        return np.cumsum([0, *(len(part.numbers) for part in self.parts)], dtype=np.int64)

    @classmethod
    def open(cls, store: Store, earlier: Index | None = None) -> Index:
        """Open the newest sound generation and what came since; build a generation first when there is none.

        Args:
            store: The library.
            earlier: What was opened before; what it has read of the same generation is not read again.

        Raises:
            StoreError: The store cannot be read.
        """
        warnings: list[str] = []
        generation = earlier.generation if earlier and earlier.generation.serves(store) else None
        if generation is None:
            earlier = None
            try:
                generation = Generation.newest(store)
            except _Unsound as fault:
                generation = _rebuild(store, str(fault), warnings)
        if earlier and len(earlier.tail) >= TAIL_PARTS:
            earlier = None
        with store.snapshot() as view:
            epoch, encoder = view.epoch, view.encoder
            if earlier and earlier.epoch > epoch:
                earlier = None
            since = earlier.epoch if earlier else generation.epoch
            fresh = Part.made(view, since)
            removed = view.removed_since(since)
        before = earlier.alive if earlier else np.ones(len(generation.part.numbers), dtype=bool)
        numbers = earlier.numbers if earlier else generation.part.numbers
        still = before & ~np.isin(numbers, np.concatenate([fresh.numbers, np.array(removed, dtype=np.int64)]))
        tail = (*(earlier.tail if earlier else ()), *([fresh] if len(fresh.numbers) else []))
        alive = np.concatenate([still, np.ones(len(fresh.numbers), dtype=bool)])
        return cls(generation, tail, alive, epoch, encoder, tuple(warnings) or (earlier.warnings if earlier else ()))

    def __len__(self) -> int:
        """Return the number of papers that count."""
        return int(self.alive.sum())

    @property
    def n_tail(self) -> int:
        """Papers in the tail, those masked included."""
        return sum(len(part.numbers) for part in self.tail)

    @property
    def n_chunks(self) -> int:
        """Chunks held, those masked included."""
        return sum(len(part.chunks) for part in self.parts)

    @property
    def lexicon(self) -> Lexicon:
        """What is known of terms: that of the generation, or of the tail while there is no other."""
        return self.generation.lexicon

    def mask(self, key: Hashable, find: Callable[[], Ints]) -> NDArray[np.bool_]:
        """Return (papers,) which rows are of the papers that `find` gives by row number in the store; kept by `key`."""
        found = self._masks.get(key)
        if found is None:
            chosen = np.zeros(max(self.numbers.max(initial=0), (numbers := find()).max(initial=0)) + 1, dtype=bool)
            chosen[numbers] = True
            found = chosen[self.numbers]
            while len(self._masks) >= MASKS:
                self._masks.pop(next(iter(self._masks)), None)
            self._masks[key] = found
        return found

    def chunk_scores(self, query: Floats) -> Floats:
        """Return for each row the best cosine of `query` with any chunk of the paper: an exact scan."""
        return np.concatenate([part.best_chunks(query) for part in self.parts])

    def uses_chroma(self, search: str) -> bool:
        """Tell whether Chroma is asked, as `Config.search` has it."""
        return search == "chroma" or (search == "auto" and self.n_chunks > EXACT_CHUNKS and self.generation.has_chroma)

    def nearest_chunks(self, query: Floats, depth: int) -> Ints:
        """Return the rows of the papers with the nearest chunks, from Chroma and, for the tail, an exact scan.

        An index in memory has no Chroma: all rows are candidates.

        Raises:
            StoreError: Chroma fails, or does not hold the chunks.
        """
        part, n = self.generation.part, len(self.generation.part.numbers)
        if self.generation.folder is None:
            return np.arange(len(self.numbers))
        found = self.generation.nearest(query, max(1, min(4 * depth, len(part.chunks)))) if len(part.chunks) else []
        rows = np.searchsorted(part.chunk_starts, np.array(found, dtype=np.int64), side="right") - 1
        return np.unique(np.concatenate([rows, np.arange(n, len(self.numbers))]))

    def lexical_scores(self, query: Sequence[str]) -> Floats:
        """Return the BM25 score of each row for the terms of a query; 0 where no term occurs."""
        own = self.lexicon.scores(query)
        return np.concatenate([own, *(self.lexicon.scores(query, part.postings) for part in self.tail)])

    def holding(self, wanted: Sequence[str]) -> Ints:
        """Return the rows of the papers that hold all of these terms, ascending."""
        found = []
        for part, base in zip(self.parts, self._bases, strict=False):
            rows = np.arange(len(part.numbers)) if not wanted else part.postings.find(wanted[0])[0]
            for term in wanted[1:]:
                rows = np.intersect1d(rows, part.postings.find(term)[0], assume_unique=True)
            found.append(rows + base)
        return np.concatenate(found)

    def respell(self, term: str) -> str:
        """Return the known term that an unknown one probably is, misspelt or spelt as elsewhere, or the term itself."""
        if any(part.postings.frequency(term) for part in self.tail):
            return term
        return self.lexicon.respell(term)

    def whole(self, rows: Ints) -> Floats:
        """Return the (rows, dim) vectors of these papers' whole abstracts."""
        out = np.empty((len(rows), self.generation.part.whole.array.shape[1]), dtype=np.float32)
        for part, mask, own in self._by_part(rows):
            out[mask] = part.whole.take(own)
        return out

    def likeness(self, rows: Ints) -> Floats:
        """Return (rows, rows) cosines of these papers' whole abstracts with each other; a new array."""
        if len(self.numbers) <= LIKENESSES:
            return self._likeness.take(rows, axis=0).take(rows, axis=1)  # twice as quick as both at once
        vectors = self.whole(rows)
        return cast("Floats", vectors @ vectors.T)

    @cached_property
    def _likeness(self) -> Floats:
        vectors = self.whole(np.arange(len(self.numbers)))
        return cast("Floats", vectors @ vectors.T)

    def cosines(self, query: Floats, rows: Ints) -> Floats:
        """Return (rows,) cosines of `query` with the papers' whole abstracts."""
        out = np.empty(len(rows), dtype=np.float32)
        for part, mask, own in self._by_part(rows):
            out[mask] = _cosines(part.whole, own, query)
        return out

    def best_chunks(self, query: Floats, rows: Ints) -> Floats:
        """Return (rows,) the best cosine of `query` with any chunk of each paper."""
        out = np.empty(len(rows), dtype=np.float32)
        for part, mask, own in self._by_part(rows):
            out[mask] = _best_of(Rows(part.chunks), part.chunk_starts, own, query)
        return out

    def best_sentences(self, query: Floats, rows: Ints) -> Floats:
        """Return (rows,) the best cosine of `query` with any sentence of each paper."""
        out = np.empty(len(rows), dtype=np.float32)
        for part, mask, own in self._by_part(rows):
            out[mask] = _best_of(part.sentences, part.sentence_starts, own, query)
        return out

    def passages(self, query: Floats, rows: Ints) -> list[tuple[int, int]]:
        """Return where in the abstract of each paper its chunk nearest to `query` begins and ends, in code points."""
        out = np.empty((len(rows), 2), dtype=np.int64)
        for part, mask, own in self._by_part(rows):
            begins = part.chunk_starts[own]
            lengths = part.chunk_starts[own + 1] - begins
            scores = Rows(part.chunks).runs(begins, lengths) @ query
            firsts = np.cumsum(lengths) - lengths
            places = zip(firsts.tolist(), lengths.tolist(), strict=True)
            best = begins + [int(scores[first : first + n].argmax()) for first, n in places]
            out[mask] = part.spans[best]
        return [(start, end) for start, end in out.tolist()]

    def papers(self, store: Store, numbers: Sequence[int]) -> dict[int, StoredPaper]:
        """Return papers by row number in the store; those that are gone are left out.

        A paper that many questions find is read once, and stays as it was then.
        """
        found = {n: stored for n in numbers if (stored := self._papers.get(n))}
        if missing := [n for n in numbers if n not in found]:
            if len(self._papers) + len(missing) > PAPERS:
                self._papers.clear()
            fresh = store.get(missing)
            self._papers.update(fresh)
            found |= fresh
        return found

    def _by_part(self, rows: Ints) -> Iterator[tuple[Part, NDArray[np.bool_] | slice, Ints]]:
        """Yield each part that has any of the rows, which of them, and what they are called in it."""
        if not self.tail:
            if len(rows):
                yield self.generation.part, slice(None), rows
            return
        of = np.searchsorted(self._bases, rows, side="right") - 1
        for i, part in enumerate(self.parts):
            mask = of == i
            if mask.any():
                yield part, mask, rows[mask] - self._bases[i]


def seal(store: Store, search: str = "auto") -> bool:
    """Build a new generation when there is none that serves, or the tail has grown too large; True when one was built.

    The caller holds the write lock.

    Args:
        store: The library.
        search: How it will be searched (`Config.search`), which decides whether Chroma gets the chunks.
    """
    _sweep(store)
    n_chunks = store.counts()[1]
    try:
        generation = Generation.newest(store)
    except _Unsound as fault:
        if str(fault):
            _log.warning("rebuilding the index of %s: %s", store.folder, fault)
        _build(store, search)
        return True
    sql = "SELECT coalesce(sum(n_chunks), 0) FROM units JOIN papers USING (n) WHERE version > ?"
    ((fresh,),) = store.select(sql, (generation.epoch,))
    is_filled = generation.is_of_this_chroma and (generation.has_chroma or not _fills(n_chunks, search))
    if fresh <= max(TAIL_CHUNKS, TAIL_SHARE * n_chunks) and is_filled:
        return False
    _build(store, search)
    return True


def _fills(n_chunks: int, search: str) -> bool:
    """Tell whether Chroma gets so many chunks."""
    return search == "chroma" or (search == "auto" and not KEPT_CHUNKS < n_chunks <= EXACT_CHUNKS)


class _Unsound(Exception):
    """No generation can be used; the text says why, empty when there is nothing to tell."""


class Generation:
    """A sealed generation, or one that lives in memory and has no Chroma; Chroma is opened when first asked for."""

    def __init__(self, folder: Path | None, manifest: Mapping[str, Any], part: Part) -> None:
        self.folder, self.manifest, self.part = folder, manifest, part
        self.epoch = int(manifest["epoch"])
        self.has_chroma = bool(manifest.get("chroma"))
        self.lexicon = Lexicon(part.postings)
        """BM25 over the papers of this generation."""
        self._lock = threading.Lock()
        self._chroma: Any = None
        self._fault: str | None = None

    @classmethod
    def opened(cls, folder: Path, manifest: Mapping[str, Any]) -> Generation:
        """Read the generation in a folder."""
        return cls(folder, manifest, Part.opened(folder))

    @property
    def is_of_this_chroma(self) -> bool:
        """False when another version of Chroma made its files; looked up when they matter, for it takes a while."""
        return not self.has_chroma or self.manifest["versions"] == _versions()

    def serves(self, store: Store) -> bool:
        """Tell whether this is still the newest generation of a library."""
        wanted = {"encoder": store.encoder, **_library(store)}
        return (
            self.folder is not None and self._fault is None and _generations(store)[-1:] == [self.folder]
            and all(self.manifest[key] == value for key, value in wanted.items())
        )  # fmt: skip

    @classmethod
    def newest(cls, store: Store) -> Generation:
        """Return the newest generation of this library, all its files checked.

        Raises:
            _Unsound: There is none, or it is damaged or of another version or encoder.
        """
        while True:
            folders = _generations(store)
            if not folders:
                raise _Unsound("")
            try:
                return cls._checked(folders[-1], store)
            except _Unsound:
                # A writer may just have put another one in its place.
                if folders[-1].exists() or folders[-1] in _generations(store)[-1:]:
                    raise

    @classmethod
    def _checked(cls, folder: Path, store: Store) -> Generation:
        try:
            if (folder / GIVEN_UP).exists():
                raise _Unsound("")
            manifest = json.loads(_read_manifest(folder / MANIFEST))
            if manifest.pop("seal") != _seal(manifest):
                raise _Unsound("its manifest is damaged")
            wanted = {"format": FORMAT, "encoder": store.encoder, **_library(store)}
            for key, value in wanted.items():
                if manifest.get(key) != value:
                    raise _Unsound(f"its {key} is {str(manifest.get(key))[:80]} where {value} is needed")
            if int(manifest["epoch"]) > store.epoch:
                raise _Unsound("it is newer than the library")
            _check_files(folder, manifest["files"])
            return cls.opened(folder, manifest)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _Unsound(f"it cannot be read ({error})") from error

    def nearest(self, query: Floats, n: int) -> list[int]:
        """Return the rows of the `n` chunks nearest to `query`, by Chroma.

        Raises:
            StoreError: Chroma fails, or knows other chunks than those that are here; the next opening builds it anew.
        """
        collection = self._opened_chroma()
        try:
            ids = collection.query(query_embeddings=[query], n_results=n, include=[])["ids"][0]
            rows = [int(each) for each in ids]
            if not all(0 <= row < len(self.part.chunks) for row in rows):
                raise ValueError("it gives chunks that are not there")
        except Exception as error:
            with self._lock:
                raise self._give_up(error) from error
        return rows

    def _opened_chroma(self) -> Any:
        """Return the Chroma collection of the chunks; record i is row i of `part.chunks`."""
        with self._lock:
            if not self.has_chroma:
                raise StoreError("Chroma does not hold the chunks of this library; the next ingest fills it")
            if self._fault is None and self._chroma is None:
                try:
                    assert self.folder
                    self._chroma = self._open_chroma(self.folder)
                except Exception as error:
                    raise self._give_up(error) from error
            if self._fault is not None:
                raise StoreError(self._fault)
            return self._chroma

    def _give_up(self, error: Exception) -> StoreError:
        """Use Chroma no more, and let the next opening build it anew."""
        self._chroma, self._fault = None, f"Chroma cannot be used ({error}); the next start builds it anew"
        assert self.folder
        with suppress(OSError):
            (self.folder / MANIFEST).rename(self.folder / GIVEN_UP)
        return StoreError(self._fault)

    def _open_chroma(self, folder: Path) -> Any:
        if not self.is_of_this_chroma:
            raise ValueError("another version of it made its files")
        # Damaged files of its graph can stop the process: they are looked at again, just before they are read.
        files = {name: each for name, each in self.manifest["files"].items() if name.startswith("chroma")}
        _check_files(folder, files)
        home = folder / "chroma"
        # Chroma writes a line when it opens its database.
        if not os.access(home, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            home = Path(tempfile.mkdtemp(prefix="assistant-chroma-"))
            weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
            for file in filter(Path.is_file, (folder / "chroma").rglob("*")):
                copy = home / file.relative_to(folder / "chroma")
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy)
        collection = _client(home).get_collection("chunks", embedding_function=None)
        n = len(self.part.chunks)
        # Its database changes whenever it is opened, so it has no checksum: every chunk has to be in it.
        ids = sorted(
            int(each)
            for start in range(0, collection.count(), CHROMA_BATCH)
            for each in collection.get(include=[], limit=CHROMA_BATCH, offset=start)["ids"]
        )
        if ids != list(range(n)):
            raise ValueError(f"it holds {len(ids)} of {n} chunks")
        probes = [self.part.chunks[row] for row in (0, n // 2, n - 1)]
        found = collection.query(query_embeddings=probes, n_results=1, include=["distances"])["distances"]
        if all(distances[0] > PROBE for distances in found):
            raise ValueError("no chunk is found by its own vector")
        return collection


def _client(folder: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(path=str(folder), settings=Settings(anonymized_telemetry=False))


def _rebuild(store: Store, fault: str, warnings: list[str]) -> Generation:
    """Build a generation because none serves, and say so when there was one."""
    if fault:
        warnings.append(f"the index was rebuilt: {fault}")
        _log.warning("rebuilding the index of %s: %s", store.folder, fault)
    try:
        with writing(store, "index"):
            _sweep(store)
            with suppress(_Unsound):  # Another process may have been quicker.
                return Generation.newest(store)
            return Generation.opened(*_build(store, "auto"))
    except LibraryBusy:
        _log.info("another process is writing; an index in memory serves until it ends")
    except LibraryDamaged:
        raise
    except StoreError as error:
        warnings.append(f"the index cannot be kept ({error}); it lives in memory")
    with store.snapshot() as view:
        return Generation(None, {"epoch": view.epoch}, Part.made(view, -1))


def _build(store: Store, search: str) -> tuple[Path, Mapping[str, Any]]:
    """Build a generation, put it in its place and remove what it replaces; return its folder and manifest.

    Raises:
        StoreError: It cannot be written; nothing is left of it.
    """
    home = store.folder / INDEX
    draft = None
    try:
        if home.exists() and not home.is_dir():
            home.unlink()
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=home))
        with store.snapshot() as view:
            epoch = view.epoch
            about = {**_library(view), "encoder": view.encoder, "epoch": epoch}
            part = Part.made(view, -1, draft)
        manifest = _sealed(draft, about, part, fills=_fills(len(part.chunks), search))
        del part
        older = [path for path in _generations(store) if _order(path) < (epoch + 1, 0)]
        serial = _order(older[-1])[1] + 1 if older and _order(older[-1])[0] == epoch else 0
        folder = home / f"gen-{epoch:010d}-{serial:06d}"
        draft.rename(folder)
        note(folder, manifest["files"])
        # The last one stays for readers that still have it open.
        for path in {*home.glob("gen-*")} - {folder, *older[-1:]}:
            _discard(path)
    except Exception as error:
        if draft is not None:
            _discard(draft)
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the index in {home}: {error}; free space or check permissions") from error
    return folder, manifest


def _sealed(draft: Path, about: Mapping[str, Any], part: Part, *, fills: bool) -> Mapping[str, Any]:
    """Fill Chroma, and write the manifest of a generation; return it."""
    if fills:
        _fill_chroma(draft / "chroma", part.chunks)
    files = [path for path in draft.rglob("*") if path.is_file() and path.name != "chroma.sqlite3"]
    manifest = {
        "format": FORMAT, "versions": _versions() if fills else {}, **about, "chroma": fills,
        "papers": len(part.numbers), "chunks": len(part.chunks),
        "files": {str(path.relative_to(draft)): [path.stat().st_size, sha256_of(path)] for path in sorted(files)},
    }  # fmt: skip
    text = json.dumps({**manifest, "seal": _seal(manifest)}, indent=1)
    (draft / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _generations(store: Store) -> list[Path]:
    """Return the generations' folders, oldest first."""
    return sorted((path for path in (store.folder / INDEX).glob("gen-*") if _NAME.fullmatch(path.name)), key=_order)


def _order(folder: Path) -> tuple[int, int]:
    """Return epoch and serial number of a generation."""
    found = _NAME.fullmatch(folder.name)
    assert found
    return int(found[1]), int(found[2])


def _library(store: Store) -> dict[str, str | None]:
    """Return what tells which library's rows, numbered how, a generation holds."""
    return {"uuid": store.meta("uuid"), "numbering": store.meta("numbering")}


def _sweep(store: Store) -> None:
    """Remove what interrupted builders left; the caller holds the write lock, so nobody is building."""
    for path in (store.folder / INDEX).glob("draft-*"):
        _discard(path)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _read_manifest(file: Path) -> str:
    _check_regular(file)
    with file.open(encoding="utf-8") as stream:
        return stream.read(MANIFEST_BYTES)


def _check_files(folder: Path, files: Mapping[str, Sequence[Any]]) -> None:
    """Compare files with their sizes and checksums: sizes first, for a file can be said to hold more than any disk.

    Raises:
        _Unsound: One is not what it was.
        OSError: One is missing.
    """
    for name, (size, _) in files.items():
        if _check_regular(folder / name) != size:
            raise _Unsound(f"{name} has another size")
    if damaged := differing(folder, {name: digest for name, (_, digest) in files.items()}):
        raise _Unsound(f"{damaged} is damaged")


def _check_regular(file: Path) -> int:
    """Return the size of a file; a pipe in its place would be waited on for ever."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise _Unsound(f"{file.name} is no file")
    return found.st_size


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _fill_chroma(folder: Path, chunks: Floats) -> None:
    client = _client(folder)
    try:
        _add_chunks(client, chunks)
    finally:
        client.close()


def _add_chunks(client: Any, chunks: Floats) -> None:
    # One flush, after the last record: Chroma's files are never half written while anybody could read them.
    hnsw = {
        "space": "cosine", "ef_search": EF_SEARCH, "ef_construction": EF_CONSTRUCTION, "max_neighbors": NEIGHBOURS,
        "sync_threshold": max(2, len(chunks)), "batch_size": max(2, min(100, len(chunks))),
    }  # fmt: skip
    collection = client.create_collection("chunks", embedding_function=None, configuration={"hnsw": hnsw})
    for start in range(0, len(chunks), CHROMA_BATCH):
        rows = range(start, min(start + CHROMA_BATCH, len(chunks)))
        collection.add(ids=[str(row) for row in rows], embeddings=np.asarray(chunks[rows.start : rows.stop]))


def _cosines(vectors: Rows, rows: Ints, query: Floats) -> Floats:
    """Return (rows,) products with `query`; to gather most of all that there are takes longer than to multiply all."""
    if vectors.array.dtype == np.float32 and len(vectors.array) < FEW * len(rows):
        return cast("Floats", scan(vectors.array, query[None])[0][rows])
    return cast("Floats", vectors.take(rows).astype(np.float32, copy=False) @ query)


def _best_of(units: Rows, starts: Ints, rows: Ints, query: Floats) -> Floats:
    """Return for each of `rows` the best cosine of `query` with any of its units; see `_cosines`."""
    lengths = starts[rows + 1] - starts[rows]
    if units.array.dtype == np.float32 and len(units.array) < FEW * lengths.sum():
        return cast("Floats", best(units.array, starts, query[None])[0][rows])
    vectors = units.runs(starts[rows], lengths).astype(np.float32, copy=False)
    return cast("Floats", best(vectors, np.concatenate([[0], np.cumsum(lengths)]), query[None])[0])


def _versions() -> dict[str, str]:
    """Return the versions of the packages whose files a generation holds."""
    from importlib.metadata import version

    return {"chromadb": version("chromadb")}
