"""The truth on disk: one SQLite file with every source's records, the papers, their vectors and the ledger.

SQLite in WAL mode with `synchronous=FULL`: what a commit has acknowledged survives a kill and a power cut. There is one
writer, by a lock held only while an ingest or a removal runs; readers never wait for it. Everything else in a library's
folder (the index) is derived from this file and can be thrown away.

A library's **epoch** grows with each committed change; a paper's `version` is the epoch at which its text last changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from assistant.errors import EncoderMismatch, LibraryBusy, StoreError
from assistant.types import Chunk, Paper

FILE_NAME = "library.sqlite"
SCHEMA = 1
"""Version of the tables below, kept in `PRAGMA user_version`; a newer file is refused, not guessed at."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE papers (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, abstract TEXT NOT NULL,
    url TEXT, authors TEXT NOT NULL, year INTEGER, venue TEXT, doi TEXT, arxiv_id TEXT, version INTEGER NOT NULL
);
CREATE INDEX papers_version ON papers (version);
CREATE TABLE aliases (alias TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (alias, n)) WITHOUT ROWID;
CREATE INDEX aliases_n ON aliases (n);
CREATE TABLE records (
    source TEXT NOT NULL, n INTEGER NOT NULL, digest TEXT NOT NULL, payload TEXT NOT NULL, run INTEGER NOT NULL,
    PRIMARY KEY (source, n, digest)
) WITHOUT ROWID;
CREATE INDEX records_n ON records (n);
CREATE TABLE units (
    n INTEGER PRIMARY KEY, n_chunks INTEGER NOT NULL, chunks BLOB NOT NULL, sentences BLOB NOT NULL, vectors BLOB NOT
    NULL
);
CREATE TABLE removed (n INTEGER NOT NULL, version INTEGER NOT NULL);
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, ledger TEXT);
"""

_COLUMNS = "n, id, title, abstract, url, authors, year, venue, doi, arxiv_id, version"


@dataclass(frozen=True, slots=True)
class Units:
    """What is encoded of one paper: the whole, its chunks and its sentences, with their vectors."""

    chunks: tuple[Chunk, ...]
    sentences: tuple[tuple[int, int], ...]
    vectors: NDArray[np.float16]
    """(1 + chunks + sentences, dim), rows of length 1: the whole abstract, then the chunks, then the sentences."""


@dataclass(frozen=True, slots=True)
class StoredPaper:
    """A paper with its row number and the version of its text."""

    n: int
    version: int
    paper: Paper


class Store:
    """A library's SQLite file, opened. Safe to share between threads; use as a context manager or `close` it."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Open the library in `folder`.

        Raises:
            StoreError: The folder does not exist (and `create` is False), or the file is damaged, newer than this
                program, or cannot be opened.
        """
        self.folder = folder
        self._lock = threading.RLock()
        file = folder / FILE_NAME
        if not create and not folder.is_dir():
            raise StoreError(
                f"no library in {folder}: there is no such folder; run `assistant ingest` first or check the name"
            )
        # A folder without the file is an empty library; reading it leaves nothing behind.
        target = file if create or file.exists() else ":memory:"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(target, timeout=30, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"cannot open the library in {folder}: {error}; check the folder and its permissions"
            ) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(
                f"cannot read {file}: {error}; restore it from a copy, or ingest into another folder"
            ) from error
        except StoreError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.create_function(
            "fold", 1, lambda text: text.casefold() if isinstance(text, str) else None, deterministic=True
        )
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _TABLES.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA}")
                self._set_meta("uuid", uuid.uuid4().hex)
                self._set_meta("epoch", "0")
            elif version > SCHEMA:
                raise StoreError(
                    f"the library in {self.folder} has format {version}, this program reads {SCHEMA};"
                    " update the program"
                )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        with self._lock:
            self._db.execute(f"BEGIN {kind}")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # --- Reading ------------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The number of the last committed change."""
        return int(self.meta("epoch") or 0)

    def meta(self, key: str) -> str | None:
        """Return a value kept about the library itself, or None."""
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return str(row[0]) if row else None

    def counts(self) -> tuple[int, int]:
        """Return the numbers of papers and of chunks."""
        papers, chunks = self._one("SELECT count(*), coalesce(sum(n_chunks), 0) FROM units", ()) or (0, 0)
        return int(papers), int(chunks)

    def digest(self) -> str:
        """Return the first 16 hex digits of sha256 over ids and texts of all papers: equal libraries, equal digests."""
        total = hashlib.sha256()
        for row in self._all("SELECT id, title, abstract FROM papers ORDER BY id"):
            total.update("\0".join(row).encode("utf-8", "replace") + b"\0")
        return total.hexdigest()[:16]

    def paper(self, key: str) -> Paper | None:
        """Return the paper with this id or alias, aliases and sources included; None when there is none.

        An alias that several papers share (a title) gives the one that entered first.
        """
        found = self._one(f"SELECT {_COLUMNS} FROM papers WHERE id = ?", (key,)) or self._one(
            f"SELECT {_COLUMNS} FROM papers WHERE n = (SELECT min(n) FROM aliases WHERE alias = ?)", (key,)
        )
        if not found:
            return None
        aliases = [row[0] for row in self._all("SELECT alias FROM aliases WHERE n = ? ORDER BY alias", (found[0],))]
        sources = [
            row[0] for row in self._all("SELECT DISTINCT source FROM records WHERE n = ? ORDER BY source", (found[0],))
        ]
        return _paper(found, tuple(aliases), tuple(sources))

    def get(self, numbers: Sequence[int]) -> dict[int, StoredPaper]:
        """Return papers by row number; those that are gone are left out."""
        marks = ",".join("?" * len(numbers))
        rows = self._all(f"SELECT {_COLUMNS} FROM papers WHERE n IN ({marks})", numbers)
        return {row[0]: StoredPaper(row[0], row[10], _paper(row)) for row in rows}

    def units(self, paper_id: str) -> Units | None:
        """Return what is encoded of a paper, or None when it is gone."""
        sql = "SELECT chunks, sentences, vectors, abstract FROM units JOIN papers USING (n) WHERE id = ?"
        row = self._one(sql, (paper_id,))
        return _units(row[0], row[1], row[2], row[3], dim=self.dim) if row else None

    def scan(self, after_version: int = -1) -> Iterator[tuple[StoredPaper, Units]]:
        """Iterate papers with their units by row number; only those whose text changed after `after_version`."""
        last, dim = -1, self.dim
        while True:
            rows = self._all(
                f"SELECT {_COLUMNS}, chunks, sentences, vectors FROM papers JOIN units USING (n)"
                " WHERE version > ? AND n > ? ORDER BY n LIMIT 500",
                (after_version, last),
            )
            for row in rows:
                yield StoredPaper(row[0], row[10], _paper(row[:11])), _units(row[11], row[12], row[13], row[3], dim=dim)
            if not rows:
                return
            last = rows[-1][0]

    def papers(self, condition: str = "1", values: Sequence[object] = ()) -> list[Paper]:
        """Return the papers that match an SQL condition, in the order they entered."""
        return [_paper(row) for row in self._all(f"SELECT {_COLUMNS} FROM papers WHERE {condition} ORDER BY n", values)]

    def numbers(self, condition: str, values: Sequence[object] = ()) -> NDArray[np.int64]:
        """Return the row numbers of the papers that match an SQL condition, ascending."""
        rows = self._all(f"SELECT n FROM papers WHERE {condition} ORDER BY n", values)
        return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))

    def select(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT over the tables above: for what is counted, not read paper by paper."""
        return self._all(sql, values)

    def removed_since(self, version: int) -> list[int]:
        """Return the row numbers of papers removed after `version`."""
        return [row[0] for row in self._all("SELECT n FROM removed WHERE version > ?", (version,))]

    @property
    def encoder(self) -> str | None:
        """Identity of the encoder and chunking that made the vectors; None while there are none."""
        return self.meta("encoder")

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.meta("dim") or 0)

    def check_encoder(self, identity: str) -> None:
        """Refuse an encoder whose vectors cannot be compared with those stored.

        Raises:
            EncoderMismatch: The stored vectors come from another encoder.
        """
        if self.encoder not in {None, identity}:
            raise EncoderMismatch(
                f"the library in {self.folder} was encoded by {self.encoder}, the settings name {identity};"
                " set the encoder back, or ingest the sources into a new library"
            )

    def _one(self, sql: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        rows = self._all(sql, values)
        return rows[0] if rows else None

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot read the library in {self.folder}: {error};"
                " restore it from a copy, or ingest into another folder"
            ) from error

    # --- Writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, command: str) -> Iterator[Writer]:
        """Hold the library's only write lock.

        Raises:
            LibraryBusy: Another process or thread holds it; the message names the holder.
        """
        lock, holder = FileLock(self.folder / "write.lock"), self.folder / "write.holder"
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LibraryBusy(
                f"the library in {self.folder} is being written by {_read_holder(holder)}; wait until it ends"
            ) from error
        except OSError as error:
            raise StoreError(
                f"cannot write to the library in {self.folder}: {error}; check the folder's permissions"
            ) from error
        try:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder.write_text(json.dumps({"pid": os.getpid(), "command": command, "since": since}), encoding="utf-8")
            yield Writer(self)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot write to the library in {self.folder}: {error};"
                " free space or check permissions, then run it again"
            ) from error
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


class Writer:
    """The one who may change a library; from `Store.writing`. All changes happen inside `transaction`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._db = store._db  # noqa: SLF001 - the two halves of one class
        self.version = 0
        """The epoch that the open transaction will commit."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all of it, synced to disk, or nothing."""
        with self._store._transaction():  # noqa: SLF001
            self.version = self._store.epoch + 1
            yield
            self._store._set_meta("epoch", str(self.version))  # noqa: SLF001

    def begin_run(self) -> int:
        """Return the number of a new run."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        cursor = self._db.execute("INSERT INTO runs (at) VALUES (?)", (now,))
        return int(cursor.lastrowid or 0)

    def end_run(self, run: int, ledger: Mapping[str, Any]) -> None:
        """Keep the ledger of a run."""
        self._db.execute("UPDATE runs SET ledger = ? WHERE run = ?", (json.dumps(ledger, ensure_ascii=False), run))

    def set_encoder(self, identity: str, dim: int) -> None:
        """Stamp the library with the encoder of its vectors."""
        self._store._set_meta("encoder", identity)  # noqa: SLF001
        self._store._set_meta("dim", str(dim))  # noqa: SLF001

    def candidates(self, alias: str) -> list[int]:
        """Return the row numbers of the papers that have this alias, in the order they entered."""
        return [row[0] for row in self._db.execute("SELECT n FROM aliases WHERE alias = ? ORDER BY n", (alias,))]

    def aliases(self, n: int) -> list[str]:
        """Return the aliases of paper `n`."""
        return [row[0] for row in self._db.execute("SELECT alias FROM aliases WHERE n = ?", (n,))]

    def abstract(self, n: int) -> str:
        """Return the abstract of paper `n`."""
        return str(self._db.execute("SELECT abstract FROM papers WHERE n = ?", (n,)).fetchone()[0])

    def add_paper(self, paper_id: str, fields: Mapping[str, Any]) -> int:
        """Insert a paper whose units follow before the transaction ends; return its row number."""
        while self._db.execute("SELECT 1 FROM papers WHERE id = ?", (paper_id,)).fetchone():
            paper_id += "x"
        cursor = self._db.execute(
            "INSERT INTO papers (id, title, abstract, url, authors, year, venue, doi, arxiv_id, version)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (paper_id, *_values(fields), self.version),
        )
        return int(cursor.lastrowid or 0)

    def update_paper(self, n: int, fields: Mapping[str, Any]) -> bool:
        """Set the merged fields of a paper; return True when its text changed and must be encoded anew."""
        before = self._db.execute("SELECT title, abstract, version FROM papers WHERE n = ?", (n,)).fetchone()
        changed = before[:2] != (fields["title"], fields["abstract"])
        self._db.execute(
            "UPDATE papers SET title=?, abstract=?, url=?, authors=?, year=?, venue=?, doi=?, arxiv_id=?, version=?"
            " WHERE n=?",
            (*_values(fields), self.version if changed else before[2], n),
        )
        return bool(changed)

    def add_aliases(self, n: int, aliases: Iterable[str]) -> None:
        """Let these keys resolve to paper `n`."""
        self._db.executemany("INSERT OR IGNORE INTO aliases VALUES (?, ?)", ((alias, n) for alias in aliases))

    def has_record(self, source: str, n: int, digest: str) -> bool:
        """Tell whether `source` has said exactly this of paper `n` before."""
        row = self._db.execute("SELECT 1 FROM records WHERE source=? AND n=? AND digest=?", (source, n, digest))
        return row.fetchone() is not None

    def put_record(self, source: str, n: int, digest: str, payload: str, run: int) -> None:
        """Keep what a source says of a paper."""
        self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", (source, n, digest, payload, run))

    def payloads(self, n: int) -> list[str]:
        """Return all that is said of paper `n`."""
        return [row[0] for row in self._db.execute("SELECT payload FROM records WHERE n = ?", (n,))]

    def drop_stale_records(self, source: str, run: int) -> list[int]:
        """Forget what `source` no longer says of the papers it named in this run; return those papers."""
        stale = "source = ? AND run < ? AND n IN (SELECT n FROM records WHERE source = ? AND run = ?)"
        values = (source, run, source, run)
        numbers = [row[0] for row in self._db.execute(f"SELECT DISTINCT n FROM records WHERE {stale}", values)]
        self._db.execute(f"DELETE FROM records WHERE {stale}", values)
        return numbers

    def put_units(self, n: int, units: Units) -> None:
        """Keep what is encoded of a paper."""
        chunks = np.array([(c.start, c.end, c.n_tokens) for c in units.chunks], dtype=np.int32)
        sentences = np.array(units.sentences, dtype=np.int32)
        self._db.execute(
            "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?)",
            (n, len(units.chunks), chunks.tobytes(), sentences.tobytes(), units.vectors.astype(np.float16).tobytes()),
        )

    def remove(self, paper_id: str) -> bool:
        """Delete a paper with all that belongs to it; False when there is none of this id or alias."""
        paper = self._store.paper(paper_id)
        if paper is None:
            return False
        n = self._db.execute("SELECT n FROM papers WHERE id = ?", (paper.id,)).fetchone()[0]
        for table in ("papers", "aliases", "records", "units"):
            self._db.execute(f"DELETE FROM {table} WHERE n = ?", (n,))
        self._db.execute("INSERT INTO removed VALUES (?, ?)", (n, self.version))
        return True


def _values(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    authors = json.dumps(list(fields["authors"]), ensure_ascii=False)
    names = ("title", "abstract", "url", "year", "venue", "doi", "arxiv_id")
    title, abstract, url, *rest = (fields[name] for name in names)
    return (title, abstract, url, authors, *rest)


def _paper(row: Sequence[Any], aliases: tuple[str, ...] = (), sources: tuple[str, ...] = ()) -> Paper:
    _, paper_id, title, abstract, url, authors, year, venue, doi, arxiv_id, _ = row
    return Paper(
        paper_id, title, abstract, url, tuple(json.loads(authors)), year, venue, doi, arxiv_id, aliases, sources
    )


def _units(chunks: bytes, sentences: bytes, vectors: bytes, abstract: str, *, dim: int) -> Units:
    spans = np.frombuffer(chunks, dtype=np.int32).reshape(-1, 3).tolist()
    return Units(
        tuple(Chunk(abstract[start:end], start, end, n) for start, end, n in spans),
        tuple((a, b) for a, b in np.frombuffer(sentences, dtype=np.int32).reshape(-1, 2).tolist()),
        np.frombuffer(vectors, dtype=np.float16).reshape(-1, dim),
    )


def _read_holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text(encoding="utf-8"))
        return f"process {holder['pid']} ({holder['command']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
