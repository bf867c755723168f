"""The truth on disk: one SQLite file with every source's records, the papers, their vectors and the ledger.

SQLite in WAL mode with `synchronous=FULL`: what a commit has acknowledged survives a kill and a power cut. Readers
never wait for the one writer (`write`). Each row of a paper carries a checksum that is compared whenever it is read,
and each change is in the library's `journal` before it is committed: what a damaged file no longer gives, or gives
wrongly, is noticed (`LibraryDamaged`) and restored from there. Everything else in a library's folder (the index) is
derived from this file and can be thrown away.

A library's **epoch** grows with each committed change; a paper's `version` is the epoch at which its text last changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
import threading
import uuid
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from assistant import journal
from assistant.errors import EncoderMismatch, LibraryDamaged, StoreError
from assistant.types import Chunk, Paper

FILE_NAME = "library.sqlite"
SCHEMA = 2
"""Version of the tables below, kept in `PRAGMA user_version`."""
READABLE_BY = 2
"""Oldest version whose program may open these tables. A newer file says so itself: it is refused, or read, by that."""
WAIT_S = 30
"""How long SQLite waits for another process that holds the file for a moment."""

_UNITS = """(
    n INTEGER PRIMARY KEY, n_chunks INTEGER NOT NULL, chunks BLOB NOT NULL, sentences BLOB NOT NULL,
    vectors BLOB NOT NULL, sum INTEGER NOT NULL
)"""
_LOOKUPS = """
CREATE INDEX papers_about ON papers (year, venue, authors);
CREATE INDEX units_chunks ON units (n_chunks)
"""
"""Filters and counts read these, not the rows, which hold the abstracts and vectors."""
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE papers (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, abstract TEXT NOT NULL,
    url TEXT, authors TEXT NOT NULL, year INTEGER, venue TEXT, doi TEXT, arxiv_id TEXT, version INTEGER NOT NULL,
    sum INTEGER NOT NULL
);
CREATE INDEX papers_version ON papers (version);
CREATE TABLE aliases (alias TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (alias, n)) WITHOUT ROWID;
CREATE INDEX aliases_n ON aliases (n);
CREATE TABLE records (
    source TEXT NOT NULL, n INTEGER NOT NULL, digest TEXT NOT NULL, payload TEXT NOT NULL, run INTEGER NOT NULL,
    UNIQUE (source, n, digest)
);
CREATE INDEX records_n ON records (n);
CREATE TABLE apart (digest TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (digest, n)) WITHOUT ROWID;
CREATE TABLE units {_UNITS};
CREATE TABLE next_units {_UNITS};
CREATE TABLE removed (n INTEGER NOT NULL, version INTEGER NOT NULL);
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, ledger TEXT);
CREATE TABLE events (
    source TEXT NOT NULL, run INTEGER NOT NULL, seq INTEGER NOT NULL, place TEXT NOT NULL, kind TEXT NOT NULL,
    paper TEXT, reason TEXT, PRIMARY KEY (source, run, seq)
) WITHOUT ROWID;
{_LOOKUPS}
"""
_FROM_1 = f"""
ALTER TABLE papers ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE units ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
UPDATE papers SET sum = row_sum(id, title, abstract, url, authors, year, venue, doi, arxiv_id);
UPDATE units SET sum = row_sum(chunks, sentences, vectors);
CREATE TABLE apart (digest TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (digest, n)) WITHOUT ROWID;
CREATE TABLE next_units {_UNITS};
CREATE TABLE events (
    source TEXT NOT NULL, run INTEGER NOT NULL, seq INTEGER NOT NULL, place TEXT NOT NULL, kind TEXT NOT NULL,
    paper TEXT, reason TEXT, PRIMARY KEY (source, run, seq)
) WITHOUT ROWID;
{_LOOKUPS}
"""
"""What makes tables of version 1 ones of today."""

INDEX = "index"
"""The folder of what is derived from the file."""

_COLUMNS = "n, id, title, abstract, url, authors, year, venue, doi, arxiv_id, version, papers.sum"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR
}  # fmt: skip
"""What SQLite says where it can write nothing beside the file, not even what readers share."""


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
            LibraryDamaged: The file is there and cannot be read, or is gone though the journal is there.
            StoreError: The folder does not exist (and `create` is False), or the file is newer than this program can
                read, or cannot be opened.
        """
        self.folder = folder
        self._lock = threading.RLock()
        self.file = folder / FILE_NAME
        if not create and not folder.is_dir():
            raise StoreError(
                f"no library in {folder}: there is no such folder; run `assistant ingest` first or check the name"
            )
        is_there = self.file.exists()
        if not is_there and _was_used(folder):
            raise LibraryDamaged(f"{self.file} is gone")
        self.is_checked = False
        """True once `check` has found nothing."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A folder without the file is an empty library; reading it leaves nothing behind.
            self._db = _connect(str(self.file) if create or is_there else ":memory:")
            try:
                self._prepare(folder)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise translated(error, folder, "open") from error
        except OSError as error:
            raise StoreError(
                f"cannot open the library in {folder}: {error}; check the folder and its permissions"
            ) from error
        except ValueError as error:
            raise LibraryDamaged(f"{self.file} is damaged: {error}") from error
        self._stamp = _stamp(self.file, is_shared=self.is_shared)

    def _prepare(self, folder: Path) -> None:
        self.is_shared = True
        """False for a file that is read without the locks that others hold: nothing can be written beside it."""
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            version = self._version()
        except sqlite3.OperationalError as error:
            if not self.file.exists() or error.sqlite_errorcode & 0xFF not in _NO_ROOM:
                raise
            self._db.close()
            self._db, self.is_shared = _connect_read_only(self, self.file)
            version = self._version()
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.create_function("fold", 1, _fold, deterministic=True)
        self._db.create_function("row_sum", -1, row_sum, deterministic=True)
        if version < SCHEMA:
            with self.transaction():
                self._update(self._version(), folder)
        elif self.meta("uuid") is None:
            raise LibraryDamaged(f"{self.file} is damaged: it does not say which library it is")
        if version > SCHEMA and self._number("readable_by", version) > SCHEMA:
            raise StoreError(
                f"the library in {folder} has format {version}, this program reads {SCHEMA}; update the program"
            )

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _update(self, version: int, folder: Path) -> None:
        """Make the tables of today of an empty file, or of an older program's."""
        if version == SCHEMA:  # Another process was quicker.
            return
        if version == 0 and not self.is_in_memory and (_was_used(folder) or self.select("SELECT 1 FROM sqlite_master")):
            raise LibraryDamaged(f"{self.file} holds no library")
        for statement in (_FROM_1 if version else _TABLES).split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version={SCHEMA}")
        self.set_meta("readable_by", str(READABLE_BY))
        self.set_meta("numbering", uuid.uuid4().hex)
        if not version:
            self.set_meta("uuid", uuid.uuid4().hex)
            self.set_meta("epoch", "0")

    @property
    def is_in_memory(self) -> bool:
        """True for the empty library that a folder without a file is."""
        return str(self._db.execute("PRAGMA database_list").fetchone()[2]) == ""

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all that is done with the connection, or nothing; for `write`, whose lock is held."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has ended it itself when the disk is full.
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[Store]:
        """Give the library as it is now, through a connection of its own: commits that come meanwhile do not show."""
        if self.is_in_memory:
            yield self
            return
        with Store(self.folder) as view, view._lock:
            view._db.execute("BEGIN")
            yield view

    def set_meta(self, key: str, value: str) -> None:
        """Keep a value about the library itself, within the open transaction."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # --- Soundness ----------------------------------------------------------------------------------------------------

    @property
    def is_current(self) -> bool:
        """False once another file stands in the place of the one that was opened."""
        return self._stamp == _stamp(self.file, is_shared=self.is_shared)

    def check(self, *, thorough: bool = False) -> None:
        """Compare the file's structure with itself; thorough: its indexes and all checksums too.

        Raises:
            LibraryDamaged: They do not agree.
        """
        # What decides which paper a record is of has no checksum: its table and its index vouch for each other.
        checks = ("integrity_check(1)",) if thorough else ("quick_check(1)", "integrity_check(aliases)")
        for each in checks:
            found = self.select(f"PRAGMA {each}")
            if found != [("ok",)]:
                raise LibraryDamaged(f"{self.file} is damaged: {' '.join(str(found[0][0]).split())[:200]}")
        if thorough:
            for _ in self.papers_in_turn():
                pass
            for _ in self.scan():
                pass
            for _ in self.records_in_turn():
                pass
            for table in ("records", "aliases", "units"):
                if self.select(f"SELECT 1 FROM {table} WHERE n NOT IN (SELECT n FROM papers) LIMIT 1"):
                    raise LibraryDamaged(f"{self.file} is damaged: {table} of a paper that is not there")
        self.is_checked = True

    @property
    def standing(self) -> journal.Standing:
        """How the journal stands to the last commit of this file; `ahead`: this file lacks commits, or is in one."""
        if self.is_in_memory:
            return "same"
        mark = self.meta("journal")
        if mark is None and self.epoch and journal.size(self.folder):
            return "other"
        return journal.compare(self.folder, mark)

    # --- Reading ------------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The number of the last committed change."""
        return self._number("epoch")

    def meta(self, key: str) -> str | None:
        """Return a value kept about the library itself, or None."""
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return str(row[0]) if row else None

    def _number(self, key: str, default: int = 0) -> int:
        value = self.meta(key)
        if value is not None and not (value.isascii() and value.isdigit()):
            raise LibraryDamaged(f"{self.file} is damaged: its {key} is {value[:20]!r}")
        return default if value is None else int(value)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of papers and of chunks."""
        papers = self._one("SELECT count(*) FROM papers", ()) or (0,)
        chunks = self._one("SELECT coalesce(sum(n_chunks), 0) FROM units", ()) or (0,)
        return int(papers[0]), int(chunks[0])

    @property
    def is_empty(self) -> bool:
        """True while there is no paper."""
        return self._one("SELECT 1 FROM papers LIMIT 1", ()) is None

    def digest(self) -> str:
        """Return the first 16 hex digits of sha256 over ids and texts of all papers: equal libraries, equal digests."""
        total = hashlib.sha256()
        for row in self.select("SELECT id, title, abstract FROM papers ORDER BY id"):
            total.update("\0".join(row).encode("utf-8", "replace") + b"\0")
        return total.hexdigest()[:16]

    def paper(self, *keys: str) -> Paper | None:
        """Return the paper with the first of these ids or aliases that is known, aliases and sources included, or None.

        An alias that several papers share (a title) gives the one that entered first.
        """
        for key in keys:
            found = self._one(f"SELECT {_COLUMNS} FROM papers WHERE id = ?", (key,)) or self._one(
                f"SELECT {_COLUMNS} FROM papers WHERE n = (SELECT min(n) FROM aliases WHERE alias = ?)", (key,)
            )
            if found:
                n = (found[0],)
                aliases = self.select("SELECT alias FROM aliases WHERE n = ? ORDER BY alias", n)
                sources = self.select("SELECT DISTINCT source FROM records WHERE n = ? ORDER BY source", n)
                return _paper(found, tuple(row[0] for row in aliases), tuple(row[0] for row in sources))
        return None

    def get(self, numbers: Sequence[int]) -> dict[int, StoredPaper]:
        """Return papers by row number; those that are gone are left out."""
        marks = ",".join("?" * len(numbers))
        rows = self.select(f"SELECT {_COLUMNS} FROM papers WHERE n IN ({marks})", numbers)
        return {row[0]: StoredPaper(row[0], row[10], _paper(row)) for row in rows}

    def units(self, paper_id: str) -> Units | None:
        """Return what is encoded of a paper, or None when it is gone or waits to be encoded."""
        sql = "SELECT chunks, sentences, vectors, units.sum, abstract FROM units JOIN papers USING (n) WHERE id = ?"
        row = self._one(sql, (paper_id,))
        return _units(row, row[4], dim=self.dim) if row else None

    def scan(self, after_version: int = -1) -> Iterator[tuple[StoredPaper, Units]]:
        """Iterate papers with their units by row number; only those whose text changed after `after_version`."""
        dim = self.dim
        for row in self._in_turn(
            f"SELECT {_COLUMNS}, chunks, sentences, vectors, units.sum FROM papers JOIN units USING (n)"
            " WHERE version > ? AND n > ? ORDER BY n LIMIT 500",
            after_version,
        ):
            yield StoredPaper(row[0], row[10], _paper(row[:12])), _units(row[12:], row[3], dim=dim)

    def papers_in_turn(self) -> Iterator[StoredPaper]:
        """Iterate all papers by row number, those that wait to be encoded too."""
        sql = f"SELECT {_COLUMNS} FROM papers WHERE version > ? AND n > ? ORDER BY n LIMIT 500"
        for row in self._in_turn(sql, -1):
            yield StoredPaper(row[0], row[10], _paper(row))

    def waiting(self, table: str = "units", limit: int = 500) -> list[StoredPaper]:
        """Return some papers of which nothing is encoded yet, in the order they entered."""
        rows = self.select(
            f"SELECT {_COLUMNS} FROM papers WHERE n NOT IN (SELECT n FROM {table}) ORDER BY n LIMIT ?", (limit,)
        )
        return [StoredPaper(row[0], row[10], _paper(row)) for row in rows]

    def records(self, paper_id: str) -> list[tuple[str, str, str]]:
        """Return (source, digest, payload) of all that is said of a paper, in an order that depends on nothing else."""
        sql = "SELECT source, digest, payload FROM records WHERE n = (SELECT n FROM papers WHERE id = ?)"
        found = self.select(f"{sql} ORDER BY source, digest", (paper_id,))
        return [(row[0], row[1], checked_payload(row[2], row[1])) for row in found]

    def records_in_turn(self) -> Iterator[list[tuple[str, str, str]]]:
        """Iterate (paper's id, source, payload) of all records by row number of the paper, some papers at a time."""
        last = -1
        sql = (
            "SELECT papers.n, id, source, payload, digest FROM papers JOIN records USING (n)"
            " WHERE papers.n > ? AND papers.n <="
            " (SELECT max(n) FROM (SELECT n FROM papers WHERE n > ? ORDER BY n LIMIT 500))"
            " ORDER BY papers.n, source, digest"
        )
        while rows := self.select(sql, (last, last)):
            yield [(row[1], row[2], checked_payload(row[3], row[4])) for row in rows]
            last = rows[-1][0]

    def events(self, kinds: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
        """Iterate (source, place, kind, paper's id, reason) of the records of each source's last run, in order."""
        chosen = f"kind IN ({','.join('?' * len(kinds))})" if kinds else "1"
        last: tuple[object, ...] = ("", -1, -1)
        sql = (
            "SELECT source, run, seq, place, kind, paper, reason FROM events WHERE (source, run, seq) > (?, ?, ?)"
            f" AND {chosen} ORDER BY source, run, seq LIMIT 5000"
        )
        while rows := self.select(sql, (*last, *kinds)):
            yield from ((row[0], *row[3:]) for row in rows)
            last = rows[-1][:3]

    def papers(self, condition: str = "1", values: Sequence[object] = ()) -> list[Paper]:
        """Return the papers that match an SQL condition, in the order they entered."""
        return [
            _paper(row) for row in self.select(f"SELECT {_COLUMNS} FROM papers WHERE {condition} ORDER BY n", values)
        ]

    def numbers(self, condition: str, values: Sequence[object] = ()) -> NDArray[np.int64]:
        """Return the row numbers of the papers that match an SQL condition, ascending."""
        rows = self.select(f"SELECT n FROM papers WHERE {condition}", values)
        return np.sort(np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows)))

    def select(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT over the tables above: for what is counted, not read paper by paper."""
        try:
            with self._lock:
                return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self.folder, "read") from error

    def removed_since(self, version: int) -> list[int]:
        """Return the row numbers of papers removed after `version`."""
        return [row[0] for row in self.select("SELECT n FROM removed WHERE version > ?", (version,))]

    @property
    def encoder(self) -> str | None:
        """Identity of the encoder and chunking that made the vectors; None while there are none."""
        return self.meta("encoder")

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._number("dim")

    def check_encoder(self, identity: str) -> None:
        """Refuse an encoder whose vectors cannot be compared with those stored.

        Raises:
            EncoderMismatch: The stored vectors come from another encoder.
        """
        if self.encoder not in {None, identity}:
            raise EncoderMismatch(
                f"the library in {self.folder} was encoded by {self.encoder}, the settings name {identity};"
                " set the encoder back, or run `assistant ingest` on its sources to have it encoded anew"
            )

    def _one(self, sql: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        rows = self.select(sql, values)
        return rows[0] if rows else None

    def _in_turn(self, sql: str, after_version: int) -> Iterator[tuple[Any, ...]]:
        last = -1
        while rows := self.select(sql, (after_version, last)):
            yield from rows
            last = rows[-1][0]


def digest_of(payload: str) -> str:
    """Return the digest by which what a source says is known again."""
    return hashlib.sha256(payload.encode("utf-8", "replace")).hexdigest()[:32]


def checked_payload(payload: str, digest: str) -> str:
    """Return what a source says of a paper, as it was kept.

    Raises:
        LibraryDamaged: It has changed on the disk.
    """
    if digest_of(payload) != digest:
        raise LibraryDamaged(f"the digest of the record {payload[:60]!r} does not agree with it")
    return payload


def row_sum(*values: object) -> int:
    """Return the checksum (CRC-32) of a row's values."""
    total = 0
    for value in values:
        piece = value if isinstance(value, bytes) else repr(value).encode("utf-8", "replace")
        total = zlib.crc32(piece, zlib.crc32(b"%d," % len(piece), total))
    return total


def _connect(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=WAIT_S, isolation_level=None, check_same_thread=False, uri=name[:5] == "file:")
    db.execute("PRAGMA cell_size_check=ON")  # A damaged page is noticed before its rows are read.
    return db


def _connect_read_only(store: Store, file: Path) -> tuple[sqlite3.Connection, bool]:
    """Open a file where nothing may be written; True when a writer, who may, is heeded.

    Commits that still stand in its log, and what readers share with nobody, are read from a copy.
    """
    db = _connect(f"{file.resolve().as_uri()}?mode=ro")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.OperationalError:
        db.close()
    else:
        return db, True
    log = _log_of(file)
    if _size(log):
        copy = Path(tempfile.mkdtemp(prefix="assistant-library-"))
        weakref.finalize(store, shutil.rmtree, copy, ignore_errors=True)
        for each in (file, log):
            shutil.copyfile(each, copy / each.name)
        return _connect(str(copy / file.name)), False
    return _connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1"), False


def _was_used(folder: Path) -> bool:
    """Tell whether a folder has held a library: its journal is there, or what was derived from it."""
    return journal.size(folder) > 0 or any((folder / INDEX).glob("gen-*"))


def _log_of(file: Path) -> Path:
    return file.with_name(file.name + "-wal")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _stamp(file: Path, *, is_shared: bool) -> tuple[int, ...]:
    """Return what tells a file from another one in its place; for one that is read without locks, from its next state.

    The log is part of such a state, but not one that is empty: readers make that.
    """
    try:
        found = file.stat()
    except OSError:
        return ()
    one = (found.st_dev, found.st_ino)
    return one if is_shared else (*one, found.st_size, found.st_mtime_ns, _size(_log_of(file)))


def translated(error: sqlite3.Error, folder: Path, deed: str) -> StoreError:
    """Return a fault of SQLite as one of ours."""
    code = getattr(error, "sqlite_errorcode", None)
    is_damage = code is not None and (
        code & 0xFF in _DAMAGE or (code == sqlite3.SQLITE_ERROR and str(error).startswith(("no such", "malformed")))
    )
    if is_damage or isinstance(error, sqlite3.DataError) or "Could not decode" in str(error):
        return LibraryDamaged(f"{folder / FILE_NAME} is damaged: {error}")
    return StoreError(f"cannot {deed} the library in {folder}: {error}; check the folder, its permissions and its disk")


def _fold(text: object) -> str | None:
    return text.casefold() if isinstance(text, str) else None


def _paper(row: Sequence[Any], aliases: tuple[str, ...] = (), sources: tuple[str, ...] = ()) -> Paper:
    _, paper_id, title, abstract, url, authors, year, venue, doi, arxiv_id, _, total = row
    if row_sum(paper_id, title, abstract, url, authors, year, venue, doi, arxiv_id) != total:
        raise LibraryDamaged(f"the checksum of paper {str(paper_id)[:80]!r} does not agree with its text")
    return Paper(
        paper_id, title, abstract, url, tuple(json.loads(authors)), year, venue, doi, arxiv_id, aliases, sources
    )


def _units(row: Sequence[Any], abstract: str, *, dim: int) -> Units:
    chunks, sentences, vectors, total = row[:4]
    if row_sum(chunks, sentences, vectors) != total:
        raise LibraryDamaged(f"the checksum of the vectors of the abstract {abstract[:60]!r} does not agree with them")
    spans = np.frombuffer(chunks, dtype=np.int32).reshape(-1, 3).tolist()
    return Units(
        tuple(Chunk(abstract[start:end], start, end, n) for start, end, n in spans),
        tuple((a, b) for a, b in np.frombuffer(sentences, dtype=np.int32).reshape(-1, 2).tolist()),
        np.frombuffer(vectors, dtype=np.float16).reshape(-1, dim),
    )
