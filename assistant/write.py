"""Changes of a library: one writer, by a lock held only while an ingest, a removal or a switch runs.

Each transaction is appended to the journal, synced, and then committed: all of it or nothing. A commit that the store
has lost is found in the journal again (`recover`). The journal vouches for the store and the store for the journal:
both are looked through before the first change, and what is damaged of the one is never copied over the other.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from assistant import journal
from assistant.errors import LibraryBusy, LibraryDamaged, StoreError
from assistant.store import Store, Units, checked_payload, digest_of, row_sum, translated

__all__ = ["Writer", "digest_of", "locked", "writing"]

GROWTH = 4
"""The journal is written anew when it has grown to so many times the size it was last written with."""
LEAST_BYTES = 16 << 20
"""A smaller one is left as it is."""

TELL_S = 0.5
"""How long the one who holds the lock may take to say who it is."""

_log = logging.getLogger(__name__)


@contextmanager
def writing(store: Store, command: str) -> Iterator[Writer]:
    """Hold a library's only write lock.

    Raises:
        LibraryBusy: Another process or thread holds it; the message names the holder.
        LibraryDamaged: The library has to be restored first.
        StoreError: It cannot be written.
    """
    with locked(store.folder, command):
        try:
            if not store.is_current:
                raise LibraryDamaged(f"{store.file} is another file than the one that was opened")
            writer = Writer(store)
            writer.check()
            yield writer
            writer.compact()
        except sqlite3.Error as error:
            raise translated(error, store.folder, "write to") from error
        except OSError as error:
            raise _unwritten(store.folder, error) from error


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Hold the write lock of the library in a folder; nothing in it is read or changed.

    Raises:
        LibraryBusy: Another process or thread holds it.
        StoreError: The lock cannot be taken.
    """
    lock, holder = FileLock(folder / "write.lock"), folder / "write.holder"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LibraryBusy(
            f"the library in {folder} is being written by {_read_holder(holder)}; wait until it ends"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise _unwritten(folder, error) from error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # It only helps whoever has to wait.
            holder.write_text(json.dumps({"pid": os.getpid(), "command": command, "since": since}), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


class Writer:
    """The one who may change a library; from `writing`. All changes happen inside `transaction`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._db: sqlite3.Connection
        self._entries: list[journal.Entry] = []
        self.version = 0
        """The epoch that the open transaction will commit."""
        self.keeps_journal = not store.is_in_memory
        """False while a library is made from a journal, too."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all of it, synced to disk, or nothing."""
        folder, before, mark = self._store.folder, 0, None
        try:
            with self._store.transaction() as self._db:
                self._entries = []
                self.version = self._store.epoch + 1
                yield
                self._store.set_meta("epoch", str(self.version))
                if self.keeps_journal:
                    before, head = journal.size(folder), self._head(self.version)
                    mark = journal.append(folder, [head, *self._entries])
                    self._store.set_meta("journal", mark)
        except BaseException:
            if mark:
                with suppress(OSError, StoreError):  # What is left there is taken back at the next opening.
                    if self._store.meta("journal") != mark:
                        journal.cut(folder, before)
            raise

    def follow_journal(self, mark: str) -> None:
        """Note within the open transaction that it does what stands in the journal up to this mark."""
        self._store.set_meta("journal", mark)

    def check(self) -> None:
        """Look through the store and the journal, once while it is open; write the journal anew if it is not whole.

        Raises:
            LibraryDamaged: The store is damaged, or does not agree with its journal.
        """
        store, folder = self._store, self._store.folder
        is_lost = store.epoch > 0 and not journal.size(folder) and self.keeps_journal
        if not is_lost and store.standing != "same":
            raise LibraryDamaged(f"{store.file} does not agree with its journal")
        if store.is_checked and not is_lost:
            return
        is_damaged = not journal.is_whole(folder)
        store.check(thorough=is_lost or is_damaged)
        if is_lost or is_damaged:
            what = "damaged" if is_damaged else "gone" if store.meta("journal") else ""
            self.rewrite_journal()
            if what:
                _log.warning("the journal of %s was %s; it was written anew from the library", folder, what)

    def compact(self) -> None:
        """Write the journal anew when most of what it holds may be out of date."""
        n_bytes = journal.size(self._store.folder) if self.keeps_journal else 0
        if n_bytes > max(LEAST_BYTES, GROWTH * int(self._store.meta("journal_whole") or 0)):
            self.rewrite_journal()

    def rewrite_journal(self) -> None:
        """Write the journal from the store, whole or not at all.

        Raises:
            LibraryDamaged: The store holds a record that is damaged; the journal stays as it was.
        """
        head = self._head(self._store.epoch)
        mark = journal.rewrite(self._store.folder, ([head, *each] for each in _all_entries(self._store)))
        with self._store.transaction():
            self._store.set_meta("journal", mark)
            self._store.set_meta("journal_whole", str(journal.length(mark)))

    def _head(self, epoch: int) -> journal.Entry:
        return {"commit": epoch, "library": self._store.meta("uuid")}

    # --- Runs ---------------------------------------------------------------------------------------------------------

    def begin_run(self) -> int:
        """Return the number of a new run."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        cursor = self._db.execute("INSERT INTO runs (at) VALUES (?)", (now,))
        return int(cursor.lastrowid or 0)

    def end_run(self, run: int, ledger: Mapping[str, Any]) -> None:
        """Keep the ledger of a run; what was told of a loss before it has been told."""
        self._db.execute("DELETE FROM meta WHERE key = 'lost'")
        self._db.execute("UPDATE runs SET ledger = ? WHERE run = ?", (json.dumps(ledger, ensure_ascii=False), run))

    def add_events(self, source: str, run: int, events: Iterable[Sequence[object]]) -> None:
        """Keep what became of records, given as (seq, place, kind, paper's id, reason)."""
        self._db.executemany(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", ((source, run, *event) for event in events)
        )

    def drop_older_events(self, source: str, run: int) -> None:
        """Forget what became of a source's records in the runs before."""
        self._db.execute("DELETE FROM events WHERE source = ? AND run < ?", (source, run))

    def set_encoder(self, identity: str, dim: int) -> None:
        """Stamp the library with the encoder of its vectors."""
        self._store.set_meta("encoder", identity)
        self._store.set_meta("dim", str(dim))

    # --- Which paper --------------------------------------------------------------------------------------------------

    def candidates(self, alias: str, digest: str = "") -> list[int]:
        """Return the papers that have this alias, in the order they entered; none that this record is kept apart of."""
        sql = "SELECT n FROM aliases WHERE alias = ? AND n NOT IN (SELECT n FROM apart WHERE digest = ?) ORDER BY n"
        return [row[0] for row in self._db.execute(sql, (alias, digest))]

    def aliases(self, n: int) -> list[str]:
        """Return the aliases of paper `n`."""
        return [row[0] for row in self._db.execute("SELECT alias FROM aliases WHERE n = ?", (n,))]

    def abstract(self, n: int) -> str:
        """Return the abstract of paper `n`."""
        return str(self._db.execute("SELECT abstract FROM papers WHERE n = ?", (n,)).fetchone()[0])

    def text(self, n: int) -> tuple[str, str] | None:
        """Return title and abstract of paper `n`; None when it is gone."""
        row = self._db.execute("SELECT title, abstract FROM papers WHERE n = ?", (n,)).fetchone()
        return (row[0], row[1]) if row else None

    def id_of(self, n: int) -> str:
        """Return the id of paper `n`."""
        return str(self._db.execute("SELECT id FROM papers WHERE n = ?", (n,)).fetchone()[0])

    def number_of(self, paper_id: str) -> int | None:
        """Return the row number of the paper with this id."""
        row = self._db.execute("SELECT n FROM papers WHERE id = ?", (paper_id,)).fetchone()
        return int(row[0]) if row else None

    # --- Papers -------------------------------------------------------------------------------------------------------

    def add_paper(self, paper_id: str, fields: Mapping[str, Any]) -> int:
        """Insert a paper; return its row number."""
        while self._db.execute("SELECT 1 FROM papers WHERE id = ?", (paper_id,)).fetchone():
            paper_id += "x"
        self._db.execute("DELETE FROM aliases WHERE alias = ?", (paper_id,))
        values = _values(fields)
        cursor = self._db.execute(
            "INSERT INTO papers (id, title, abstract, url, authors, year, venue, doi, arxiv_id, version, sum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (paper_id, *values, self.version, row_sum(paper_id, *values)),
        )
        return int(cursor.lastrowid or 0)

    def update_paper(self, n: int, fields: Mapping[str, Any]) -> bool:
        """Set the merged fields of a paper; return True when its text changed and must be encoded anew."""
        before = self._db.execute("SELECT title, abstract, version, id FROM papers WHERE n = ?", (n,)).fetchone()
        changed = before[:2] != (fields["title"], fields["abstract"])
        values = _values(fields)
        self._db.execute(
            "UPDATE papers SET title=?, abstract=?, url=?, authors=?, year=?, venue=?, doi=?, arxiv_id=?, version=?,"
            " sum=? WHERE n=?",
            (*values, self.version if changed else before[2], row_sum(before[3], *values), n),
        )
        if changed:
            self._db.execute("DELETE FROM units WHERE n = ?", (n,))
            self._db.execute("DELETE FROM next_units WHERE n = ?", (n,))
        return bool(changed)

    def add_aliases(self, n: int, aliases: Iterable[str]) -> None:
        """Let these keys resolve to paper `n`."""
        self._db.executemany("INSERT OR IGNORE INTO aliases VALUES (?, ?)", ((alias, n) for alias in aliases))

    def set_aliases(self, n: int, aliases: Iterable[str]) -> None:
        """Let these keys, and no others, resolve to paper `n`."""
        self._db.execute("DELETE FROM aliases WHERE n = ?", (n,))
        self.add_aliases(n, aliases)

    def unite(self, n: int, other: int) -> None:
        """Make `other` one paper with `n`: its records, keys and id go there; the fields are merged by the caller."""
        old, young = self.id_of(n), self.id_of(other)
        self._db.execute("UPDATE OR REPLACE records SET n = ? WHERE n = ?", (n, other))
        self._db.execute("UPDATE OR REPLACE aliases SET n = ? WHERE n = ?", (n, other))
        self._db.execute("UPDATE OR REPLACE apart SET n = ? WHERE n = ?", (n, other))
        self._delete(other)
        self.add_aliases(n, [young])
        self._entries.append({"unite": old, "with": young})

    def keep_apart(self, n: int, digest: str) -> None:
        """Let no record with this digest resolve to paper `n` again."""
        self._db.execute("INSERT OR IGNORE INTO apart VALUES (?, ?)", (digest, n))
        self._entries.append({"apart": self.id_of(n), "digest": digest})

    def are_apart(self, n: int, other: int) -> bool:
        """Tell whether a record of one of two papers is kept apart of the other."""
        sql = "SELECT 1 FROM apart JOIN records USING (digest) WHERE apart.n = ? AND records.n = ? LIMIT 1"
        return any(self._db.execute(sql, pair).fetchone() for pair in ((n, other), (other, n)))

    def remove(self, paper_id: str) -> None:
        """Delete the paper of this id with all that belongs to it."""
        n = self.number_of(paper_id)
        if n is not None:
            self._db.execute("DELETE FROM records WHERE n = ?", (n,))
            self._db.execute("DELETE FROM apart WHERE n = ?", (n,))
            self._delete(n)
            self._entries.append({"remove": paper_id})

    def _delete(self, n: int) -> None:
        for table in ("papers", "aliases", "units", "next_units"):
            self._db.execute(f"DELETE FROM {table} WHERE n = ?", (n,))
        self._db.execute("INSERT INTO removed VALUES (?, ?)", (n, self.version))

    # --- Records ------------------------------------------------------------------------------------------------------

    def has_record(self, source: str, n: int, digest: str) -> bool:
        """Tell whether `source` has said exactly this of paper `n` before."""
        row = self._db.execute("SELECT 1 FROM records WHERE source=? AND n=? AND digest=?", (source, n, digest))
        return row.fetchone() is not None

    def put_record(self, source: str, n: int, payload: str, run: int) -> None:
        """Keep what a source says of a paper."""
        values = (source, n, digest_of(payload), payload, run)
        self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", values)
        self._entries.append({"put": self.id_of(n), "source": source, "record": payload})

    def was_named(self, n: int, run: int) -> bool:
        """Tell whether a record of paper `n` was read in this run."""
        return self._db.execute("SELECT 1 FROM records WHERE n=? AND run=? LIMIT 1", (n, run)).fetchone() is not None

    def touch_record(self, source: str, n: int, digest: str, run: int) -> None:
        """Note that a source still says this."""
        self._db.execute("UPDATE records SET run=? WHERE source=? AND n=? AND digest=?", (run, source, n, digest))

    def records(self, n: int) -> list[tuple[str, str]]:
        """Return (source, payload) of all that is said of paper `n`."""
        found = self._db.execute("SELECT source, payload, digest FROM records WHERE n = ?", (n,))
        return [(row[0], checked_payload(row[1], row[2])) for row in found]

    def drop_record(self, source: str, n: int, digest: str) -> None:
        """Forget that a source says this of a paper."""
        self._db.execute("DELETE FROM records WHERE source=? AND n=? AND digest=?", (source, n, digest))
        self._entries.append({"drop": self.id_of(n), "source": source, "digest": digest})

    def sources_below(self, root: str) -> list[str]:
        """Return the sources in a folder or an archive that have said anything."""
        sql = "SELECT DISTINCT source FROM records WHERE source > ? AND source < ?"
        return [row[0] for row in self._store.select(sql, (f"{root}/", f"{root}0"))]  # 0 follows / in ASCII

    def drop_stale_records(self, source: str, run: int, *, everything: bool) -> list[int]:
        """Forget what `source` no longer says of the papers it named in this run; return those papers.

        Args:
            source: The source's key.
            run: The run that has just read it to its end.
            everything: Also forget what it said of papers that it no longer names.
        """
        named = "" if everything else " AND n IN (SELECT n FROM records WHERE source = :source AND run = :run)"
        sql = f"SELECT n, digest FROM records WHERE source = :source AND run < :run{named} ORDER BY n"
        stale = self._db.execute(sql, {"source": source, "run": run}).fetchall()
        for n, digest in stale:
            self.drop_record(source, n, digest)
        return list(dict.fromkeys(n for n, _ in stale))

    # --- Units --------------------------------------------------------------------------------------------------------

    def put_units(self, n: int, units: Units, table: str = "units") -> None:
        """Keep what is encoded of a paper."""
        chunks = np.array([(c.start, c.end, c.n_tokens) for c in units.chunks], dtype=np.int32).tobytes()
        sentences = np.array(units.sentences, dtype=np.int32).tobytes()
        vectors = units.vectors.astype(np.float16).tobytes()
        self._db.execute(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)",
            (n, len(units.chunks), chunks, sentences, vectors, row_sum(chunks, sentences, vectors)),
        )

    def put_salvaged(self, paper: Sequence[str], units: Sequence[object]) -> None:
        """Keep rows of what is encoded, given as they were stored, of the paper with this id, title and abstract."""
        self._db.execute(
            "INSERT OR REPLACE INTO units SELECT n, ?, ?, ?, ?, ? FROM papers"
            " WHERE id = ? AND title = ? AND abstract = ?",
            (*units, *paper),
        )

    def mark_changed(self, n: int) -> None:
        """Let every index take paper `n` anew: what is encoded of it has come."""
        self._db.execute("UPDATE papers SET version = ? WHERE n = ?", (self.version, n))

    def drop_next_units(self) -> None:
        """Forget what was prepared for another encoder."""
        self._db.execute("DELETE FROM next_units")

    def switch_units(self, identity: str, dim: int) -> None:
        """Put what was prepared for another encoder in the place of what there is."""
        self._db.execute("DELETE FROM units")
        self._db.execute("INSERT INTO units SELECT * FROM next_units")
        self._db.execute("DELETE FROM next_units")
        self.set_encoder(identity, dim)


def _all_entries(store: Store) -> Iterator[list[journal.Entry]]:
    """Yield the entries of a journal that makes this library, some papers at a time."""
    for some in store.records_in_turn():
        yield [{"put": paper, "source": source, "record": payload} for paper, source, payload in some]
    retired = store.select("SELECT id, alias FROM aliases JOIN papers USING (n) WHERE alias NOT LIKE '%:%' ORDER BY n")
    yield [{"unite": row[0], "with": row[1]} for row in retired]
    apart = store.select("SELECT id, digest FROM apart JOIN papers USING (n) ORDER BY n, digest")
    yield [{"apart": row[0], "digest": row[1]} for row in apart]


def _values(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    authors = json.dumps(list(fields["authors"]), ensure_ascii=False)
    names = ("title", "abstract", "url", "year", "venue", "doi", "arxiv_id")
    title, abstract, url, *rest = (fields[name] for name in names)
    return (title, abstract, url, authors, *rest)


def _unwritten(folder: Path, error: Exception) -> StoreError:
    return StoreError(
        f"cannot write to the library in {folder}: {error}; free space or check permissions, then run it again"
    )


def _read_holder(file: Path) -> str:
    """Return who holds the lock, in words; who has only just taken it is given a moment to say so."""
    until = time.monotonic() + TELL_S
    while True:
        try:
            holder = json.loads(file.read_text(encoding="utf-8"))
            return f"process {holder['pid']} ({holder['command']}, since {holder['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            if time.monotonic() > until:
                return "another process"
        time.sleep(TELL_S / 20)
