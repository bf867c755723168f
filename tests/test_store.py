from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import EncoderMismatch, LibraryBusy, LibraryDamaged, StoreError
from assistant.store import FILE_NAME, Store, Units
from assistant.types import Chunk
from assistant.write import writing

FIELDS = {
    "title": "T",
    "abstract": "One. Two.",
    "authors": ("Ada",),
    "url": None,
    "year": 2020,
    "venue": "V",
    "doi": None,
    "arxiv_id": None,
}
UNITS = Units((Chunk("One.", 0, 4, 2), Chunk("Two.", 5, 9, 2)), ((0, 4), (5, 9)), np.eye(5, 8, dtype=np.float16))


def add(store: Store, paper_id: str = "p", **fields: object) -> int:
    with writing(store, "test") as writer, writer.transaction():
        writer.set_encoder("enc", 8)
        n = writer.add_paper(paper_id, {**FIELDS, **fields})
        writer.add_aliases(n, [f"doi:{paper_id}"])
        writer.put_units(n, UNITS)
    return n


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        add(store)
    with Store(tmp_path) as store:
        paper, units = store.paper("doi:p"), store.units("p")
        assert paper is not None and units is not None
        assert (paper.id, paper.authors, paper.year, paper.aliases) == ("p", ("Ada",), 2020, ("doi:p",))
        assert units.chunks == UNITS.chunks and units.sentences == UNITS.sentences
        assert np.array_equal(units.vectors, UNITS.vectors)
        assert store.counts() == (1, 2)


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        with pytest.raises(RuntimeError), writing(store, "test") as writer, writer.transaction():
            writer.add_paper("p", FIELDS)
            raise RuntimeError
        assert store.paper("p") is None
        assert store.epoch == 0


def test_a_row_number_is_never_used_again(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        first = add(store, "a")
        with writing(store, "test") as writer, writer.transaction():
            writer.remove("a")
        assert add(store, "b") > first
        assert store.removed_since(1) == [first]


def _hold(folder: Path, ready: object, done: object) -> None:
    with Store(folder) as store, writing(store, "a long ingest"):
        ready.set()  # type: ignore[attr-defined]
        done.wait(30)  # type: ignore[attr-defined]


def test_a_second_writer_is_refused_naming_the_first(tmp_path: Path) -> None:
    Store(tmp_path, create=True).close()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(30)
        with Store(tmp_path) as store:
            with pytest.raises(LibraryBusy) as caught, writing(store, "mine"):
                pass
            assert str(process.pid) in str(caught.value) and "a long ingest" in str(caught.value)
            assert store.counts() == (0, 0), "readers do not wait"
    finally:
        done.set()
        process.join(30)
    with Store(tmp_path) as store, writing(store, "mine"):
        pass


def test_a_missing_folder_is_refused_and_an_empty_one_is_an_empty_library(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        Store(tmp_path / "none")
    with Store(tmp_path) as store:
        assert store.counts() == (0, 0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", [b"not a database at all, but a long enough text" * 100, b""])
def test_a_damaged_file_is_noticed(tmp_path: Path, damage: bytes) -> None:
    with Store(tmp_path, create=True) as store:
        add(store)
        with writing(store, "test") as writer:
            writer.rewrite_journal()
    (tmp_path / FILE_NAME).write_bytes(damage)
    with pytest.raises(LibraryDamaged):
        Store(tmp_path)


def test_a_text_that_changed_on_the_disk_is_not_given_out(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        add(store)
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE papers SET abstract = replace(abstract, 'One', 'Onf')")
        db.execute("UPDATE units SET vectors = zeroblob(length(vectors))")
    db.close()
    with Store(tmp_path) as store:
        with pytest.raises(LibraryDamaged, match="checksum of paper 'p'"):
            store.paper("p")
        with pytest.raises(LibraryDamaged, match="vectors"):
            store.units("p")


@pytest.mark.parametrize("readable_by", [1, 2, 3])
def test_a_library_of_a_newer_program_is_opened_if_it_allows_that(tmp_path: Path, readable_by: int) -> None:
    with Store(tmp_path, create=True) as store:
        add(store)
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("PRAGMA user_version=99")
        db.execute("ALTER TABLE papers ADD COLUMN colour TEXT")
        db.execute("CREATE TABLE novelties (n INTEGER)")
        db.execute("UPDATE meta SET value = ? WHERE key = 'readable_by'", (str(readable_by),))
    db.close()
    if readable_by > 2:
        with pytest.raises(StoreError, match="format 99.*update the program"):
            Store(tmp_path)
        return
    with Store(tmp_path) as store:
        add(store, "q")
        assert store.counts() == (2, 4)


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        add(store)
        store.check_encoder("enc")
        with pytest.raises(EncoderMismatch, match="encoded by enc"):
            store.check_encoder("other")


def test_equal_libraries_have_equal_digests_whatever_the_order(tmp_path: Path) -> None:
    with Store(tmp_path / "a", create=True) as a, Store(tmp_path / "b", create=True) as b:
        add(a, "x"), add(a, "y", title="U")
        add(b, "y", title="U"), add(b, "x")
        assert a.digest() == b.digest()
        add(b, "z")
        assert a.digest() != b.digest()
