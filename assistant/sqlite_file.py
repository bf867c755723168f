"""A small SQLite file of the user's own, such as the saved conversations: opened for each call, changed wholly or not.

In go statements, out come rows. Refused as `StoreError`: a file that cannot be read or written, is damaged or of a
newer format.

SQLite in WAL mode with `synchronous=FULL`, and a connection for each call: what a transaction has committed survives a
kill and a power cut, threads and processes need no lock but the file's own, and between calls it is whole by itself.
"""

from __future__ import annotations

import errno
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from assistant.errors import StoreError

WAIT_S = 30.0
"""Longest wait for another process that is writing."""

_DAMAGED = "put a copy in its place, or move it away to begin a new one"
_NO_SPACE = "free some space"
_PERMISSIONS = "check that it and its folder may be written to"
_ADVICE = {
    **dict.fromkeys((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR), _DAMAGED),
    **dict.fromkeys((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR), _NO_SPACE),
    sqlite3.SQLITE_BUSY: "another program is writing to it; try again in a moment",
}


class SqliteFile:
    """One file; share it between threads, open the same one in several processes.

    Args:
        path: Where it is; made by the first transaction that is told to.
        what: What is in it, as errors call it, in the plural.
        schema: Version of the tables, kept in `PRAGMA user_version`; a file with a newer one is refused.
        tables: SQL that makes them.
    """

    def __init__(self, path: Path, *, what: str, schema: int, tables: str) -> None:
        self.path, self._what, self._schema, self._tables = path, what, schema, tables

    def all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows that a query finds; none while there is no file."""
        with self._connect("read") as db:
            return db.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """Commit all of it, synced to disk, or nothing: without its commit a connection is closed as if never used."""
        with self._connect("write", create=create) as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _connect(self, doing: str, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the file; one that does not exist is empty and stays away, unless it is to be made."""
        try:
            exists = self.path.exists()
            if create and not exists:
                self._create()
            # SQLite itself shall make none: it would be open to everybody, and half made for a while.
            target = f"{self.path.absolute().as_uri()}?mode=rw" if create or exists else ":memory:"
            with closing(sqlite3.connect(target, uri=True, timeout=WAIT_S, isolation_level=None)) as db:
                if target == ":memory:":
                    self._make_tables(db)
                db.text_factory = _decode  # a byte gone wrong in one name shall not hide all the others
                self._check(db)
                db.execute("PRAGMA synchronous=FULL")
                db.execute("PRAGMA secure_delete=ON")
                yield db
        except OSError as error:
            advice = _NO_SPACE if error.errno in {errno.ENOSPC, errno.EDQUOT} else _PERMISSIONS
            raise self._refusal(doing, error.strerror or error, advice) from error
        except sqlite3.Error as error:
            advice = _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _PERMISSIONS)  # its family of errors
            raise self._refusal(doing, error, advice) from error

    def _create(self) -> None:
        """Make the file, for its owner's eyes alone: elsewhere, and put in place whole, unless another was quicker."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.parent / f".{secrets.token_hex(8)}.part"
        draft.touch(mode=0o600, exist_ok=False)
        try:
            with closing(sqlite3.connect(draft, isolation_level=None)) as db:
                self._make_tables(db)
            self.path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    def _make_tables(self, db: sqlite3.Connection) -> None:
        db.executescript(
            f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN; {self._tables}"
            f" PRAGMA user_version={self._schema}; COMMIT;"
        )

    def _check(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version < self._schema:
            raise self._refusal("read", "there are none in it", _DAMAGED)
        if version > self._schema:
            why = f"they have format {version}, this program reads {self._schema}"
            raise self._refusal("read", why, "update the program")

    def _refusal(self, doing: str, found: object, advice: str) -> StoreError:
        return StoreError(f"cannot {doing} {self._what} in {self.path}: {found}; {advice}")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")
