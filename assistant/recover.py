"""A library that lost something -> the same library, restored: from its journal, and from what can still be read.

Opening a library is `open_library`: a sound one is simply opened. What was wrong and what was done is told in words; a
damaged file is kept beside the restored one. Where the journal cannot vouch for every paper, that is told at each
opening until the next ingest has ended.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from assistant import journal
from assistant.errors import LibraryBusy, LibraryDamaged, StoreError
from assistant.identity import merge, new_id
from assistant.ingest import read_payload, refresh
from assistant.store import FILE_NAME, INDEX, Store, digest_of, row_sum, translated
from assistant.write import Writer, locked

WAIT_S = 30.0
"""How long another process may take to restore the library, before this one gives up."""
_COMMIT = 500
"""Records taken from a damaged file with one commit."""
_FILES = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm")
_UNFIT = (ValueError, KeyError, TypeError, AttributeError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""What an entry that is none of ours leads to."""

_log = logging.getLogger(__name__)


def open_library(folder: Path, *, create: bool = False) -> tuple[Store, list[str]]:
    """Open the library in a folder, restored first where that is needed.

    Where it cannot be restored in its place, to be read alone, a restored copy is opened.

    Returns:
        The store, and what was done to it or may be missing in it, in words.

    Raises:
        StoreError: There is none, or it can neither be read nor restored.
    """
    is_damaged, fault = False, f"{folder / FILE_NAME} does not agree with its journal"
    try:
        store = Store(folder, create=create)
        if store.standing == "same":
            return store, _standing_notes(store)
        store.close()
    except LibraryDamaged as error:
        is_damaged, fault = True, str(error)
    try:
        note = restore(folder, fault, is_damaged=is_damaged)
    except (LibraryBusy, LibraryDamaged):
        raise
    except StoreError as error:
        if create:
            raise
        return _restored_copy(folder, fault, error)
    store = Store(folder, create=create)
    return store, [note] if note else _standing_notes(store)


def restore(folder: Path, fault: str, *, is_damaged: bool = True) -> str:
    """Restore a library.

    Args:
        folder: Its folder.
        fault: What was found wrong.
        is_damaged: False when it seems only not to agree with its journal.

    Returns:
        What was done; empty when another process has done it or is just writing.

    Raises:
        StoreError: Nothing can be written.
    """
    until = time.monotonic() + WAIT_S
    while True:
        try:
            with locked(folder, "restore"):
                return _restore(folder, fault, is_damaged=is_damaged)
        except LibraryBusy:
            # A writer in the middle of a commit leaves the journal ahead for a moment.
            if not is_damaged and (_agrees(folder) or time.monotonic() > until):
                return ""
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        except sqlite3.Error as error:
            raise translated(error, folder, "restore") from error
        except OSError as error:
            raise StoreError(
                f"{fault}, and it cannot be restored: {error}; free space or check permissions, then start again"
            ) from error


def _agrees(folder: Path) -> bool:
    with suppress(LibraryDamaged), Store(folder) as store:
        return store.standing == "same"
    return False


def _restore(folder: Path, fault: str, *, is_damaged: bool) -> str:
    try:
        with Store(folder) as store:
            if is_damaged:
                store.check(thorough=True)
            standing = store.standing
            note = _catch_up(store) if standing == "ahead" else _settle(store) if standing == "other" else ""
    except LibraryDamaged as error:
        note = _make_anew(folder, fault if is_damaged else str(error))
    if note:
        _log.warning("%s", note)
    return note


def _standing_notes(store: Store) -> list[str]:
    """Return what has to be told at each opening."""
    lost, notes = store.meta("lost"), []
    if lost:
        notes.append(lost)
    if store.meta("waits"):
        if store.waiting(limit=1):
            notes.append("papers that were restored have to be encoded again")
        else:
            with suppress(StoreError), locked(store.folder, "restore"):
                _set(store, waits=None)
    return notes


def _set(store: Store, **values: str | None) -> None:
    """Keep values about the library, in one commit; None forgets one."""
    with store.transaction() as db:
        for key, value in values.items():
            if value is None:
                db.execute("DELETE FROM meta WHERE key = ?", (key,))
            else:
                store.set_meta(key, value)


# --- A sound store and its journal ------------------------------------------------------------------------------------


@dataclass
class _Told:
    """What a journal tells about itself, as far as it was read."""

    library: str | None = None
    epoch: int = -1
    """Of its last commit."""
    commits: int = 0
    stretches: int = 0
    """Of it that could not be read."""

    def read(self, folder: Path) -> Iterator[Sequence[journal.Entry]]:
        """Yield the entries of each commit that can be read."""
        for _, entries in journal.read(folder):
            head = entries[0] if entries else {}
            if entries and isinstance(head.get("commit"), int):
                self.library, self.epoch = str(head.get("library")), max(self.epoch, head["commit"])
                self.commits += 1
                yield entries
            else:
                self.stretches += 1


def _catch_up(store: Store) -> str:
    """Apply the commits that stand in the journal alone."""
    remains = _Remains.of(store.folder)
    folder, whole_to = store.folder, journal.length(store.meta("journal"))
    behind = sum(1 for _ in journal.read(folder, whole_to))
    # The log is lost when more than the last commit is: then nothing else is taken on trust either.
    store.check(thorough=behind > 1)
    writer, changes, skipped = Writer(store), 0, 0
    writer.keeps_journal = False
    for end, entries in journal.read(folder, whole_to):
        try:
            is_next = _apply_later(writer, store, entries or (), None if skipped else journal.mark(folder, end))
        except _UNFIT:
            is_next = None
        if is_next and not skipped:
            whole_to = end
        else:
            skipped += 1
        changes += is_next is not None and len(entries or ()) > 1
    what = f"{changes} change{'s were' if changes > 1 else ' was'} taken from its journal, which {store.file} lacked"
    notes = [what] if changes else []
    if skipped == 1 and behind < 3 and journal.is_torn(folder, whole_to):
        journal.cut(folder, whole_to)  # It was only begun, and so never acknowledged.
    elif skipped:
        aside = _set_aside(folder, [journal.FILE_NAME])
        what = f"the end of the journal of {folder}, kept in {aside}, could not be read"
        notes.append(f"{what}: papers may be missing; ingest the sources again")
        _set(store, lost=notes[-1])
        writer.rewrite_journal()
    if store.waiting(limit=1):
        _set(store, waits="1")
    _drop_index(store, remains)
    return "; ".join(notes)


def _apply_later(writer: Writer, store: Store, entries: Sequence[journal.Entry], mark: str | None) -> bool | None:
    """Make the changes of a commit if it is a later one of this library; True when it is the next one."""
    head = entries[0] if entries else {}
    epoch = head.get("commit")
    if head.get("library") != store.meta("uuid") or not isinstance(epoch, int) or epoch <= store.epoch:
        return None
    is_next = epoch == store.epoch + 1
    _apply(writer, entries, mark if is_next else None)
    return is_next


def _settle(store: Store) -> str:
    """Write the journal anew if it is the one that lost something.

    Raises:
        LibraryDamaged: It is the store: damaged, older than its journal, or another library's.
    """
    told, folder, uuid = _Told(), store.folder, store.meta("uuid")
    for _ in told.read(folder):
        pass
    is_ours = not told.commits or told.library == uuid
    # Where store and journal tell of two libraries, the index bears witness.
    remains = _Remains.of(folder)
    if not is_ours and remains.indexed == told.library:
        raise LibraryDamaged(f"{store.file} is another library's")
    if is_ours and told.epoch > store.epoch:
        raise LibraryDamaged(f"{store.file} is older than its journal")
    store.check(thorough=True)
    if is_ours and told.epoch == store.epoch and not told.stretches:
        what = ""  # It had just been written anew.
    elif is_ours:
        what = "damaged" if told.stretches else "shorter than it was" if told.commits else "gone"
    else:
        what = f"another library's (kept in {_set_aside(folder, [journal.FILE_NAME])})"
    Writer(store).rewrite_journal()
    papers = store.counts()[0]
    note = f"the journal of {folder} was {what}; it was written anew from the library's {papers} papers" if what else ""
    if remains.indexed == uuid and remains.epoch > store.epoch:
        note = (
            f"{note or store.file}; the index tells of later changes: papers may be missing; ingest the sources again"
        )
        _set(store, lost=note)
    _drop_index(store, remains)
    return note


def _drop_index(store: Store, remains: _Remains) -> None:
    """Remove an index of changes that the library has lost: it is made anew, and the loss has been told."""
    if remains.epoch > store.epoch:
        shutil.rmtree(store.folder / INDEX, ignore_errors=True)


def _apply(writer: Writer, entries: Iterable[journal.Entry], mark: str | None = None) -> None:
    """Make the changes of one commit."""
    with writer.transaction():
        touched, dropped = dict[int, None](), set[str]()
        for entry in entries:
            n = _apply_one(writer, entry)
            if n is not None:
                touched[n] = None
            if "drop" in entry:
                dropped.add(entry["digest"])
            elif n is not None and "apart" in entry and entry["digest"] in dropped:
                writer.set_aliases(n, ())  # A record was split off: the keys are those of the others.
        for n in touched:
            if writer.text(n) is not None:
                refresh(writer, n)
                writer.mark_changed(n)
        if mark:
            writer.follow_journal(mark)


def _apply_one(writer: Writer, entry: journal.Entry) -> int | None:
    """Make one change; return the paper that has to be made from its records again."""
    (deed,) = entry.keys() & {"commit", "put", "drop", "unite", "apart", "remove"}
    if deed == "commit":
        return None
    paper_id = entry[deed]
    n = writer.number_of(paper_id)
    if deed == "put":
        record = read_payload(entry["record"])
        n = writer.add_paper(paper_id, merge([record])) if n is None else n
        writer.put_record(entry["source"], n, entry["record"], 0)
    elif n is None:
        return None
    elif deed == "drop":
        writer.drop_record(entry["source"], n, entry["digest"])
    elif deed == "apart":
        writer.keep_apart(n, entry["digest"])
    elif deed == "unite":
        other = writer.number_of(entry["with"])
        if other is None:
            writer.add_aliases(n, [entry["with"]])
        else:
            writer.unite(n, other)
    else:
        writer.remove(paper_id)
        return None
    return n


# --- A damaged store --------------------------------------------------------------------------------------------------


@dataclass
class _Remains:
    """What is known of a library whose file is damaged."""

    folder: Path
    meta: dict[str, str] = field(default_factory=dict)
    epoch: int = -1
    """The last commit that anything but the journal tells of."""
    papers: int = 0
    """How many there were when the index was made."""
    indexed: str | None = None
    """The library that the index is of."""

    @classmethod
    def of(cls, folder: Path) -> _Remains:
        """Look at the damaged file and at the index."""
        found = cls(folder)
        with suppress(sqlite3.Error, OSError), closing(_open_damaged(folder / FILE_NAME)) as db:
            for key, value in db.execute("SELECT key, value FROM meta"):
                found.meta[str(key)] = str(value)
        epoch = found.meta.get("epoch", "")
        found.epoch = int(epoch) if epoch.isascii() and epoch.isdigit() and len(epoch) < 10 else -1
        for generation in sorted((folder / INDEX).glob("gen-*")):
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                with (generation / "manifest.json").open(encoding="utf-8") as file:
                    manifest = json.loads(file.read(1 << 20))
                found.epoch, found.papers = max(found.epoch, int(manifest["epoch"])), int(manifest["papers"])
                found.indexed = str(manifest["uuid"])
        return found

    @property
    def file(self) -> Path:
        """The damaged file."""
        return self.folder / FILE_NAME


def _make_anew(folder: Path, fault: str) -> str:
    """Make the store again from the journal and from what the damaged file still gives."""
    for draft in folder.glob("restored-*"):  # A restoration that was interrupted.
        shutil.rmtree(draft, ignore_errors=True)
    remains = _Remains.of(folder)
    with tempfile.TemporaryDirectory(prefix="restored-", dir=folder) as name:
        draft = Path(name)
        with Store(draft, create=True) as store:
            done, lost = _fill(store, remains)
            aside = _set_aside(folder, [*_FILES, journal.FILE_NAME])
            note = f"{fault}; {done}{lost}" + (f"; what was there is kept in {aside}" if aside else "")
            _set(store, lost=note if lost else None, waits="1" if store.waiting(limit=1) else None)
            Writer(store).rewrite_journal()
        for log in _FILES[1:]:
            (folder / log).unlink(missing_ok=True)
        (draft / FILE_NAME).replace(folder / FILE_NAME)
        (draft / journal.FILE_NAME).replace(folder / journal.FILE_NAME)
    shutil.rmtree(folder / INDEX, ignore_errors=True)  # Its rows are those of the damaged file.
    return note


def _fill(store: Store, remains: _Remains) -> tuple[str, str]:
    """Fill an empty store; return what was done, and what may be lost, in words."""
    writer, told = Writer(store), _Told()
    writer.keeps_journal = False
    for entries in told.read(remains.folder):
        try:
            _apply(writer, entries)
        except _UNFIT:
            told.stretches += 1
    is_ours = not told.commits or remains.meta.get("uuid") in {None, told.library}
    end = max(remains.epoch, told.epoch) if is_ours else told.epoch
    is_whole = bool(told.commits) and not told.stretches and told.epoch == end
    from_journal = store.counts()[0]
    if is_ours and not is_whole:
        _apply_salvaged(writer, store, remains.file)
    _salvage_units(remains, store, writer)
    papers = store.counts()[0]
    uuid = told.library or remains.meta.get("uuid")
    _set(store, epoch=str(max(end, store.epoch) + 1), **({"uuid": uuid} if uuid else {}))
    done = f"{papers} papers were restored" if papers else "no paper could be restored"
    sources = [*(["its journal"] if told.commits else []), *(["what it still held"] if papers > from_journal else [])]
    done += f" from {' and '.join(sources)}" if papers else ""
    if is_whole:
        return done, ""
    stretches = f"{told.stretches} stretches of the journal could not be read"
    what = stretches if told.stretches else "the journal lacks its end" if told.commits else "the journal is gone"
    before = f", there were {remains.papers} when the index was made" if remains.papers > papers else ""
    return done, f"; {what}: papers may be missing{before}; ingest the sources again"


def _set_aside(folder: Path, names: Sequence[str]) -> Path | None:
    """Give files a second name in a folder of their own; return it, None when there are no such files."""
    files = [folder / name for name in names if (folder / name).exists()]
    if not files:
        return None
    home = Path(tempfile.mkdtemp(prefix=time.strftime("damaged-%Y%m%d-%H%M%S-"), dir=folder))
    for file in files:
        try:
            os.link(file, home / file.name)
        except OSError:
            shutil.copyfile(file, home / file.name)
    return home


def _restored_copy(folder: Path, fault: str, error: StoreError) -> tuple[Store, list[str]]:
    """Restore a copy of a library whose own folder cannot be written; it lives as long as it is open."""
    home = Path(tempfile.mkdtemp(prefix="assistant-library-"))
    try:
        for name in (*_FILES[:2], journal.FILE_NAME):
            with suppress(FileNotFoundError):
                shutil.copyfile(folder / name, home / name)
        restore(home, fault)
        store = Store(home)
    except (OSError, StoreError):
        shutil.rmtree(home, ignore_errors=True)
        raise error from None
    weakref.finalize(store, shutil.rmtree, home, ignore_errors=True)
    lost = store.meta("lost") or fault
    return store, [f"{lost}; a restored copy serves, because {folder} cannot be written"]


# --- What a damaged file still gives ----------------------------------------------------------------------------------


def _apply_salvaged(writer: Writer, store: Store, file: Path) -> None:
    """Take the records of a damaged file, those of papers that it no longer gives too."""
    for salvaged in (_salvaged_records(file), _salvaged_orphans(file, store)):
        while some := list(islice(salvaged, _COMMIT)):
            with suppress(*_UNFIT):
                _apply(writer, some)


def _salvaged_records(file: Path) -> Iterator[journal.Entry]:
    """Yield the records of a damaged file whose digest agrees with them."""
    for row in _rows(file, "SELECT n, id, source, payload, digest FROM papers JOIN records USING (n) WHERE n = ?"):
        if digest_of(str(row[3])) == row[4]:
            yield {"put": row[1], "source": row[2], "record": row[3]}


def _salvaged_orphans(file: Path, store: Store) -> Iterator[journal.Entry]:
    """Yield records that are in the way of no index and of no paper's row: from both ends of their table."""
    for order in ("", " DESC"):
        sql = f"SELECT source, payload, digest FROM records ORDER BY source{order}, n{order}, digest{order}"
        with suppress(sqlite3.Error, OSError), closing(_open_damaged(file)) as db:
            for source, payload, digest in islice(db.execute(sql), file.stat().st_size // 8):
                known = "SELECT 1 FROM records WHERE source = ? AND digest = ?"
                if digest_of(str(payload)) == digest and not store.select(known, (source, digest)):
                    with suppress(*_UNFIT):
                        yield {"put": new_id(read_payload(payload)), "source": source, "record": payload}


def _salvage_units(remains: _Remains, store: Store, writer: Writer) -> None:
    """Take what is encoded of papers from a damaged file, where text and checksum agree."""
    about = {key: remains.meta[key] for key in ("encoder", "dim", "encoder_name") if key in remains.meta}
    if not {"encoder", "dim"} <= about.keys() or not about["dim"].isdigit():
        return
    sql = "SELECT units.n, id, title, abstract, chunks, sentences, vectors, units.sum, n_chunks FROM papers JOIN units"
    width = 2 * int(about["dim"])
    with writer.transaction():
        for key, value in about.items():
            store.set_meta(key, value)
        for row in _rows(remains.file, f"{sql} USING (n) WHERE n = ?"):
            if all(isinstance(each, bytes) for each in row[4:7]) and row_sum(*row[4:7]) == row[7]:
                units = 1 + len(row[4]) // 12 + len(row[5]) // 8
                if len(row[6]) == units * width and row[8] == len(row[4]) // 12:
                    writer.put_salvaged(row[1:4], (row[8], *row[4:8]))


def _rows(file: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that a damaged file gives for one paper after the other; what it does not give is passed over."""
    with suppress(sqlite3.Error, OSError), closing(_open_damaged(file)) as db:
        # A number that is itself damaged is not counted up to: each paper takes more than eight bytes.
        most = min(_last_number(db), file.stat().st_size // 8)
        for n in range(1, most + 1):
            with suppress(sqlite3.Error):
                yield from db.execute(sql, (n,)).fetchall()


def _last_number(db: sqlite3.Connection) -> int:
    for sql in ("SELECT seq FROM sqlite_sequence WHERE name = 'papers'", "SELECT max(n) FROM papers"):
        with suppress(sqlite3.Error, TypeError, ValueError):
            return int(db.execute(sql).fetchone()[0])
    return 0


def _open_damaged(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    db.text_factory = lambda text: text.decode("utf-8", "replace")
    return db
