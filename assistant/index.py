"""What is derived from the store and can be thrown away: vectors for the exact scan, Chroma, BM25.

A **generation** is a folder `index/gen-<epoch>-<serial>`: built aside, sealed by a manifest with the size and the
sha256 of each file, then renamed into place. Nothing is ever changed in it. What came or went since it was sealed is a
**tail** of papers, scanned exactly, and a mask of rows that no longer count; when the tail grows large the next ingest
seals a new generation. A generation that is missing, damaged or of another version or encoder is rebuilt from the
store, and `Index.warnings` says so.
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from assistant.errors import LibraryBusy, LibraryDamaged, StoreError
from assistant.store import INDEX, Store
from assistant.text import terms
from assistant.write import writing

FORMAT = 3
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
MANIFEST = "manifest.json"
GIVEN_UP = "given-up.json"
"""What the manifest of a generation is called whose Chroma has failed: that has been told."""
MANIFEST_BYTES = 1 << 20
"""No manifest is nearly as large."""
MAPPED_BYTES = 1 << 29
"""Files from this size on are mapped, not read: whoever cuts one then stops all that have it open."""
PROBE = 1e-3
"""Greatest cosine distance at which Chroma finds a chunk by its own vector."""
CHROMA_BATCH = 5_000
"""Records in one request to Chroma; it takes at most 5,461."""
_NAME = re.compile(r"gen-(\d{10,})-(\d{6,})")

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
    encoder: str | None
    """Identity of the encoder of its vectors; None while there are none."""
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
        with store.snapshot() as view:
            epoch, encoder = view.epoch, view.encoder
            tail, tail_terms = _read_part(view, generation.epoch)
            removed = view.removed_since(generation.epoch)
        gone = np.concatenate([tail.numbers, np.array(removed, dtype=np.int64)])
        alive = np.ones(len(generation.part.numbers) + len(tail.numbers), dtype=bool)
        alive[: len(generation.part.numbers)] = ~np.isin(generation.part.numbers, gone)
        return cls(generation, tail, tail_terms, alive, epoch, encoder, tuple(warnings))

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
        """Return the rows of the papers with the nearest chunks, from Chroma and, for the tail, an exact scan.

        An index in memory has no Chroma: all rows are candidates.
        """
        part, tail = self.generation.part, self.tail
        if self.generation.folder is None:
            return np.arange(len(self.numbers))
        found = self.generation.nearest(query, max(1, min(4 * depth, len(part.chunks)))) if len(part.chunks) else []
        rows = np.searchsorted(part.chunk_starts, np.array(found, dtype=np.int64), side="right") - 1
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
    _sweep(store)
    try:
        generation = Generation.newest(store)
    except _Unsound as fault:
        if str(fault):
            _log.warning("rebuilding the index of %s: %s", store.folder, fault)
        _build(store)
        return True
    _, total = store.counts()
    sql = "SELECT coalesce(sum(n_chunks), 0) FROM units JOIN papers USING (n) WHERE version > ?"
    ((fresh,),) = store.select(sql, (generation.epoch,))
    if fresh <= max(TAIL_CHUNKS, TAIL_SHARE * total):
        return False
    _build(store)
    return True


class _Unsound(Exception):
    """No generation can be used; the text says why, empty when there is nothing to tell."""


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

    @classmethod
    def opened(cls, folder: Path, n: int, manifest: Mapping[str, Any]) -> Lexicon:
        """Open what `save` wrote."""
        bm25 = _bm25s().BM25(k1=K1, b=B, method="lucene")
        if manifest["lexical"]:
            is_large = sum(file.stat().st_size for file in folder.iterdir()) >= MAPPED_BYTES
            bm25 = _bm25s().BM25.load(folder, mmap=is_large, show_progress=False)
        return cls(bm25, n, manifest["average_length"])

    def save(self, folder: Path) -> None:
        """Write the index; nothing when no document has any term."""
        if self._vocabulary:
            self._bm25.save(folder, show_progress=False)

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
    """A sealed generation, or one that lives in memory and has no Chroma; Chroma is opened when first asked for."""

    def __init__(self, folder: Path | None, manifest: Mapping[str, Any], part: Part, lexicon: Lexicon) -> None:
        self.folder, self.manifest, self.part = folder, manifest, part
        self.epoch = int(manifest["epoch"])
        self.lexicon = lexicon
        """BM25 over the papers of this generation."""
        self._lock = threading.Lock()
        self._chroma: Any = None
        self._fault: str | None = None

    @classmethod
    def opened(cls, folder: Path, manifest: Mapping[str, Any]) -> Generation:
        """Read the generation in a folder."""
        part = Part(**{name: _load(folder / f"{name}.npy") for name in Part.__slots__})
        return cls(folder, manifest, part, Lexicon.opened(folder / "bm25", len(part.numbers), manifest))

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
            wanted = {"format": FORMAT, "encoder": store.encoder, "versions": _versions(), **_library(store)}
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
        # Damaged files of its graph can stop the process: they are looked at again, just before they are read.
        _check_files(folder, {name: each for name, each in self.manifest["files"].items() if name.startswith("chroma")})
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
        with writing(store, "index"):
            _sweep(store)
            with suppress(_Unsound):  # Another process may have been quicker.
                return Generation.newest(store)
            return _build(store)
    except LibraryBusy:
        _log.info("another process is writing; an index in memory serves until it ends")
    except LibraryDamaged:
        raise
    except StoreError as error:
        warnings.append(f"the index cannot be kept ({error}); it lives in memory")
    with store.snapshot() as view:
        part, counters = _read_part(view, -1)
        return Generation(
            None, {"epoch": view.epoch}, part, Lexicon.build([list(each.elements()) for each in counters])
        )


def _build(store: Store) -> Generation:
    """Build a generation, put it in its place and remove what it replaces.

    Raises:
        StoreError: It cannot be written; nothing is left of it.
    """
    home = store.folder / INDEX
    with store.snapshot() as view:
        part, counters = _read_part(view, -1)
        view_epoch = view.epoch
        about = {**_library(view), "encoder": view.encoder, "epoch": view_epoch}
    draft = None
    try:
        if home.exists() and not home.is_dir():
            home.unlink()
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=home))
        manifest = _fill(draft, about, part, [list(counter.elements()) for counter in counters])
        older = [path for path in _generations(store) if _order(path) < (view_epoch + 1, 0)]
        serial = _order(older[-1])[1] + 1 if older and _order(older[-1])[0] == view_epoch else 0
        folder = home / f"gen-{view_epoch:010d}-{serial:06d}"
        draft.rename(folder)
        # The last one stays for readers that still have it open.
        for path in {*home.glob("gen-*")} - {folder, *older[-1:]}:
            _discard(path)
        return Generation.opened(folder, manifest)
    except Exception as error:
        if draft is not None:
            _discard(draft)
        raise StoreError(f"cannot write the index in {home}: {error}; free space or check permissions") from error


def _fill(draft: Path, about: Mapping[str, Any], part: Part, documents: list[list[str]]) -> Mapping[str, Any]:
    """Write the files of a generation into a folder; return its manifest."""
    for name in Part.__slots__:
        np.save(draft / f"{name}.npy", getattr(part, name))
    Lexicon.build(documents).save(draft / "bm25")
    _fill_chroma(draft / "chroma", part.chunks)
    files = [path for path in draft.rglob("*") if path.is_file() and path.name != "chroma.sqlite3"]
    manifest = {
        "format": FORMAT, "versions": _versions(), **about,
        "papers": len(part.numbers), "chunks": len(part.chunks), "lexical": any(documents),
        "average_length": sum(map(len, documents)) / max(1, len(documents)),
        "files": {str(path.relative_to(draft)): [path.stat().st_size, _sha256(path)] for path in sorted(files)},
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
    for name, (_, digest) in files.items():
        if _sha256(folder / name) != digest:
            raise _Unsound(f"{name} is damaged")


def _check_regular(file: Path) -> int:
    """Return the size of a file; a pipe in its place would be waited on for ever."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise _Unsound(f"{file.name} is no file")
    return found.st_size


def _load(file: Path) -> NDArray[Any]:
    is_large = file.stat().st_size >= MAPPED_BYTES
    return cast("NDArray[Any]", np.load(file, mmap_mode="r" if is_large else None, allow_pickle=False))


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
