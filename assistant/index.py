"""What is derived from the store and can be thrown away: vectors for the exact scan, Chroma, BM25.

A **generation** is a folder `index/gen-<epoch>`: built aside, sealed by a manifest with the sha256 of each file, then
renamed into place. Nothing is ever changed in it. What came or went since it was sealed is a **tail** of papers,
scanned exactly, and a mask of rows that no longer count; when the tail grows large the next ingest seals a new
generation. A generation that is missing, damaged or of another version or encoder is rebuilt from the store, and
`Index.warnings` says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from assistant.errors import LibraryBusy, StoreError
from assistant.store import Store
from assistant.text import terms

FORMAT = 1
"""Version of a generation's layout; any other is rebuilt."""
K1, B = 1.5, 0.75
"""BM25's saturation and length normalisation (Robertson and Zaragoza, FnTIR 2009, section 3.5)."""
TITLE_WEIGHT = 2
"""How often a title's terms count in BM25; chosen in `eval/STUDY.md`."""
TYPOS = {5: 1, 8: 2}
"""So many slips are forgiven in an unknown term of at least so many letters."""
TAIL_SHARE, TAIL_CHUNKS = 0.1, 5_000
"""A tail is folded in when it passes this share of the chunks, and at least so many."""
EF_SEARCH, EF_CONSTRUCTION, NEIGHBOURS = 400, 200, 16
"""HNSW: ef_search 400 finds .998 of the exact top 10 where the default finds .892 (100,000 clustered vectors)."""
CHROMA_BATCH = 5_000
"""Records in one request to Chroma; it takes at most 5,461."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """The vectors of a run of papers, one row a paper; units of one paper lie together."""

    numbers: Ints
    """(papers,) row numbers in the store, ascending."""
    whole: Floats
    """(papers, dim)"""
    chunks: Floats
    """(chunks, dim)"""
    chunk_starts: Ints
    """(papers + 1,) the chunks of paper i are rows `chunk_starts[i]` to `chunk_starts[i + 1]`."""
    sentences: NDArray[np.float16]
    """(sentences, dim); half precision, because only those of candidates are read."""
    sentence_starts: Ints
    """(papers + 1,)"""


@dataclass(frozen=True)
class Index:
    """One consistent view of a library: the newest generation, the tail and the mask. Never changes once opened."""

    generation: Generation
    tail: Part
    """What came since the generation was sealed."""
    tail_terms: list[Counter[str]]
    """The terms of each paper of the tail."""
    alive: NDArray[np.bool_]
    """(papers,) False for rows of the generation that were removed or have changed since."""
    epoch: int
    """The library's epoch that this view shows."""
    warnings: tuple[str, ...]
    """What had to be mended on opening, in words."""

    @cached_property
    def numbers(self) -> Ints:
        """(papers,) the row number in the store of each row of this index, tail last."""
        return np.concatenate([self.generation.part.numbers, self.tail.numbers])

    @classmethod
    def open(cls, store: Store) -> Index:
        """Open the newest sound generation and what came since; build a generation first when there is none.

        Raises:
            StoreError: The store cannot be read.
        """
        warnings: list[str] = []
        try:
            generation = Generation.newest(store)
        except _Unsound as fault:
            generation = _rebuild(store, str(fault), warnings)
        epoch = store.epoch
        tail, tail_terms = _read_part(store, generation.epoch)
        gone = np.concatenate([tail.numbers, np.array(store.removed_since(generation.epoch), dtype=np.int64)])
        alive = np.ones(len(generation.part.numbers) + len(tail.numbers), dtype=bool)
        alive[: len(generation.part.numbers)] = ~np.isin(generation.part.numbers, gone)
        return cls(generation, tail, tail_terms, alive, epoch, tuple(warnings))

    def __len__(self) -> int:
        """Return the number of papers that count."""
        return int(self.alive.sum())

    @property
    def n_chunks(self) -> int:
        """Chunks held, those masked included."""
        return len(self.generation.part.chunks) + len(self.tail.chunks)

    def chunk_scores(self, query: Floats) -> Floats:
        """Return for each row the best cosine of `query` with any chunk of the paper: an exact scan."""
        return np.concatenate(
            [_best(part.chunks @ query, part.chunk_starts) for part in (self.generation.part, self.tail)]
        )

    def nearest_chunks(self, query: Floats, depth: int) -> Ints:
        """Return the rows of the papers with the nearest chunks, from Chroma and, for the tail, an exact scan."""
        part, tail = self.generation.part, self.tail
        found = (
            self.generation.chroma.query(
                query_embeddings=[query], n_results=max(1, min(4 * depth, len(part.chunks))), include=[]
            )["ids"][0]
            if len(part.chunks)
            else []
        )
        rows = (
            np.searchsorted(part.chunk_starts, np.array([int(each) for each in found], dtype=np.int64), side="right")
            - 1
        )
        return np.unique(np.concatenate([rows, len(part.numbers) + np.arange(len(tail.numbers))]))

    def lexical_scores(self, query: Sequence[str]) -> Floats:
        """Return the BM25 score of each row for the terms of a query; 0 where no term occurs."""
        lexicon = self.generation.lexicon
        scores = lexicon.scores(query)
        return np.concatenate(
            [scores, np.array([lexicon.score(query, each) for each in self.tail_terms], dtype=np.float32)]
        )

    def respell(self, term: str) -> str:
        """Return the known term that an unknown one probably is, misspelt or spelt as elsewhere, or the term itself."""
        return term if term in self._tail_vocabulary else self.generation.lexicon.respell(term)

    @cached_property
    def _tail_vocabulary(self) -> frozenset[str]:
        return frozenset().union(*self.tail_terms)

    def cosines(self, query: Floats, rows: Ints) -> tuple[Floats, Floats, Floats]:
        """Return (rows,) cosines of `query` with each paper's whole abstract, best chunk and best sentence."""
        part, tail = self.generation.part, self.tail
        split = len(part.numbers)
        low = rows < split
        out = tuple(np.empty(len(rows), dtype=np.float32) for _ in range(3))
        for side, own, mask in ((part, rows[low], low), (tail, rows[~low] - split, ~low)):
            if len(own):
                out[0][mask] = side.whole[own] @ query
                out[1][mask] = _best_of(side.chunks, side.chunk_starts, own, query)
                out[2][mask] = _best_of(side.sentences, side.sentence_starts, own, query)
        return out[0], out[1], out[2]

    def whole(self, rows: Ints) -> Floats:
        """Return the (rows, dim) vectors of these papers' whole abstracts."""
        split = len(self.generation.part.numbers)
        out = np.empty((len(rows), self.generation.part.whole.shape[1]), dtype=np.float32)
        low = rows < split
        out[low], out[~low] = self.generation.part.whole[rows[low]], self.tail.whole[rows[~low] - split]
        return out

    def best_chunk(self, query: Floats, row: int) -> int:
        """Return which chunk of a paper, from 0, lies nearest to `query`."""
        split = len(self.generation.part.numbers)
        part, i = (self.generation.part, row) if row < split else (self.tail, row - split)
        return int(np.argmax(part.chunks[part.chunk_starts[i] : part.chunk_starts[i + 1]] @ query))


def seal(store: Store) -> bool:
    """Build a new generation when there is none that serves, or the tail has grown too large; True when one was built.

    The caller holds the write lock.
    """
    try:
        generation = Generation.newest(store)
    except _Unsound:
        _build(store)
        return True
    _, total = store.counts()
    fresh = sum(len(units.chunks) for _, units in store.scan(generation.epoch)) if store.epoch > generation.epoch else 0
    if fresh <= max(TAIL_CHUNKS, TAIL_SHARE * total):
        return False
    _build(store)
    return True


class _Unsound(Exception):
    """No generation can be used; the text says why, empty when there has never been one."""


class Lexicon:
    """BM25 over titles and abstracts (bm25s, Lucene's idf), and the same formula for papers that came later.

    score = sum over query terms of ln(1 + (N - df + .5) / (df + .5)) * tf / (tf + k1 (1 - b + b * length / average)).
    """

    def __init__(self, bm25: Any, n: int, average: float) -> None:
        self._bm25, self.n, self._average = bm25, n, average

    @classmethod
    def build(cls, documents: list[list[str]]) -> Lexicon:
        """Index documents given as lists of terms."""
        bm25 = _bm25s().BM25(k1=K1, b=B, method="lucene")
        if any(documents):
            bm25.index(documents, show_progress=False)
        lengths = [len(document) for document in documents]
        return cls(bm25, len(documents), sum(lengths) / max(1, len(lengths)))

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return cast("dict[str, int]", getattr(self._bm25, "vocab_dict", {}))

    def scores(self, query: Sequence[str]) -> Floats:
        """Return (documents,) scores."""
        known = [term for term in query if term in self._vocabulary]
        return cast("Floats", self._bm25.get_scores(known)) if known else np.zeros(self.n, dtype=np.float32)

    def score(self, query: Sequence[str], document: Counter[str]) -> float:
        """Return the score of a document outside the index, by the index's own statistics."""
        norm = K1 * (1 - B + B * document.total() / max(1.0, self._average))
        return sum(self.idf(term) * document[term] / (document[term] + norm) for term in query if document[term])

    def idf(self, term: str) -> float:
        """Return the weight of a term; an unknown one has the greatest."""
        known = self._vocabulary.get(term)
        df = 0 if known is None else int(self._bm25.scores["indptr"][known + 1] - self._bm25.scores["indptr"][known])
        return float(np.log1p((self.n - df + 0.5) / (df + 0.5)))

    def respell(self, term: str) -> str:
        """Return the known term with the same first letter that is nearest to an unknown one, if one is near enough.

        Distance = insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
        """
        if self.knows(term) or len(term) < min(TYPOS):
            return term
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        near = max(most for length, most in TYPOS.items() if len(term) >= length)
        found = process.extractOne(term, self._by_first_letter.get(term[0], ()), scorer=OSA.distance, score_cutoff=near)
        return found[0] if found else term

    @cached_property
    def _by_first_letter(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for term in self._vocabulary:
            if isinstance(term, str) and term:  # bm25s keeps an empty one.
                found.setdefault(term[0], []).append(term)
        return found

    def knows(self, term: str) -> bool:
        """Tell whether any indexed document holds the term."""
        return term in self._vocabulary


class Generation:
    """A sealed generation, memory-mapped; its Chroma is opened when first asked for."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest, self.epoch = folder, manifest, int(manifest["epoch"])
        load = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in Part.__slots__}
        self.part = Part(**load)
        self._lock = threading.Lock()
        self._chroma: Any = None

    @classmethod
    def newest(cls, store: Store) -> Generation:
        """Return the newest generation of this library, all its files checked.

        Raises:
            _Unsound: There is none, or it is damaged or of another version or encoder.
        """
        folders = sorted((store.folder / "index").glob("gen-*"))
        if not folders:
            raise _Unsound("")
        folder = folders[-1]
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            wanted = {"format": FORMAT, "encoder": store.encoder, "uuid": store.meta("uuid"), "versions": _versions()}
            for key, value in wanted.items():
                if manifest.get(key) != value:
                    raise _Unsound(f"its {key} is {manifest.get(key)!r} where {value!r} is needed")
            if int(manifest["epoch"]) > store.epoch:
                raise _Unsound("it is newer than the library")
            for name, digest in manifest["files"].items():
                if _sha256(folder / name) != digest:
                    raise _Unsound(f"{name} is damaged")
            return cls(folder, manifest)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _Unsound(f"it cannot be read ({error})") from error

    @cached_property
    def lexicon(self) -> Lexicon:
        """BM25 over the papers of this generation."""
        bm25 = _bm25s().BM25(k1=K1, b=B, method="lucene")
        if self.manifest["lexical"]:
            bm25 = _bm25s().BM25.load(self.folder / "bm25", mmap=True, show_progress=False)
        return Lexicon(bm25, len(self.part.numbers), self.manifest["average_length"])

    @property
    def chroma(self) -> Any:
        """The Chroma collection of this generation's chunks; record i is row i of `part.chunks`.

        Raises:
            StoreError: Chroma cannot open it, or it does not hold every chunk.
        """
        with self._lock:
            if self._chroma is None:
                try:
                    collection = _client(self.folder / "chroma").get_collection("chunks", embedding_function=None)
                    count = collection.count()
                except Exception as error:
                    raise StoreError(f"Chroma cannot open {self.folder}: {error}; set search to exact") from error
                if count != len(self.part.chunks):
                    raise StoreError(
                        f"Chroma holds {count} of {len(self.part.chunks)} chunks in {self.folder}; set search to exact"
                    )
                self._chroma = collection
            return self._chroma


def _bm25s() -> Any:
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # It turns its own debugging on.
    return bm25s


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
        with store.writing("index"):
            return _build(store)
    except LibraryBusy:
        _log.info("another process is writing; a temporary index serves until it ends")
    except StoreError as error:
        warnings.append(f"the index cannot be kept ({error}); it lives in a temporary folder")
    home = Path(tempfile.mkdtemp(prefix="assistant-index-"))
    generation = _build(store, home)
    # It goes with its last reader: a long ingest may call for many of them.
    weakref.finalize(generation, shutil.rmtree, home, ignore_errors=True)
    return generation


def _build(store: Store, home: Path | None = None) -> Generation:
    home = home or store.folder / "index"
    home.mkdir(parents=True, exist_ok=True)
    epoch = store.epoch
    part, counters = _read_part(store, -1)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=home))
    for name in Part.__slots__:
        np.save(draft / f"{name}.npy", getattr(part, name))
    documents = [list(counter.elements()) for counter in counters]
    lexicon = Lexicon.build(documents)
    if any(documents):
        lexicon._bm25.save(draft / "bm25", show_progress=False)  # noqa: SLF001 - its own module
    _fill_chroma(draft / "chroma", part.chunks)
    files = [path for path in draft.rglob("*") if path.is_file() and path.name != "chroma.sqlite3"]
    manifest = {
        "format": FORMAT, "uuid": store.meta("uuid"), "encoder": store.encoder, "versions": _versions(), "epoch": epoch,
        "papers": len(part.numbers), "chunks": len(part.chunks), "lexical": any(documents),
        "average_length": sum(map(len, documents)) / max(1, len(documents)),
        "files": {str(path.relative_to(draft)): _sha256(path) for path in sorted(files)},
    }  # fmt: skip
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    older = sorted(home.glob("gen-*"))
    folder = home / f"gen-{epoch:010d}-{int(older[-1].name.rsplit('-', 1)[1]) + 1 if older else 0:06d}"
    draft.rename(folder)
    # The last one stays for readers that still have it open.
    for path in [*older[:-1], *home.glob("draft-*")]:
        shutil.rmtree(path, ignore_errors=True)
    return Generation(folder, manifest)


def _fill_chroma(folder: Path, chunks: Floats) -> None:
    client = _client(folder)
    # One flush, after the last record: Chroma's files are never half written while anybody could read them.
    hnsw = {
        "space": "cosine", "ef_search": EF_SEARCH, "ef_construction": EF_CONSTRUCTION, "max_neighbors": NEIGHBOURS,
        "sync_threshold": max(2, len(chunks)), "batch_size": max(2, min(100, len(chunks))),
    }  # fmt: skip
    collection = client.create_collection("chunks", embedding_function=None, configuration={"hnsw": hnsw})
    for start in range(0, len(chunks), CHROMA_BATCH):
        rows = range(start, min(start + CHROMA_BATCH, len(chunks)))
        collection.add(ids=[str(row) for row in rows], embeddings=np.asarray(chunks[rows.start : rows.stop]))
    client.close()


def _read_part(store: Store, after_version: int) -> tuple[Part, list[Counter[str]]]:
    """Read papers with a version after `after_version` from the store, with their terms."""
    dim = store.dim
    numbers, whole, chunks, sentences, counters = [], [], [], [], []
    for stored, units in store.scan(after_version):
        n_chunks = len(units.chunks)
        numbers.append(stored.n)
        whole.append(units.vectors[:1])
        chunks.append(units.vectors[1 : 1 + n_chunks])
        sentences.append(units.vectors[1 + n_chunks :])
        counters.append(Counter(terms(stored.paper.title) * TITLE_WEIGHT + terms(stored.paper.abstract)))

    def stack(rows: list[NDArray[np.float16]]) -> NDArray[np.float16]:
        return np.concatenate(rows) if rows else np.zeros((0, dim), dtype=np.float16)

    def starts(rows: list[NDArray[np.float16]]) -> Ints:
        return np.concatenate([[0], np.cumsum([len(each) for each in rows], dtype=np.int64)]).astype(np.int64)

    part = Part(
        np.array(numbers, dtype=np.int64), stack(whole).astype(np.float32), stack(chunks).astype(np.float32),
        starts(chunks), stack(sentences), starts(sentences),
    )  # fmt: skip
    return part, counters


def _best(scores: Floats, starts: Ints) -> Floats:
    """Return the greatest score of each run of rows; every run has at least one."""
    return cast("Floats", np.maximum.reduceat(scores, starts[:-1])) if len(scores) else np.zeros(0, dtype=np.float32)


def _best_of(vectors: NDArray[Any], starts: Ints, rows: Ints, query: Floats) -> Floats:
    """Return for each of `rows` the best cosine of `query` with any of its units; only those units are read."""
    lengths = starts[rows + 1] - starts[rows]
    ends = np.cumsum(lengths)
    flat = np.arange(ends[-1]) + np.repeat(starts[rows] - (ends - lengths), lengths)
    return _best(vectors[flat].astype(np.float32) @ query, np.concatenate([[0], ends]))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    """Return the versions of the packages whose files a generation holds."""
    from importlib.metadata import version

    return {name: version(name) for name in ("bm25s", "chromadb")}
