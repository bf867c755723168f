from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant import journal
from assistant.errors import LibraryDamaged, StoreError
from assistant.index import Index
from assistant.ingest import Reading, encode_waiting, ingest, remove, split
from assistant.recover import open_library, restore
from assistant.retrieve import search
from assistant.store import FILE_NAME, Store
from assistant.write import writing
from eval.damage import BOTH_DAMAGED, INDEX_DAMAGE, STORE_DAMAGE, Damage, make_library

N = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that was killed before it had closed its files, and files that may take the place of its own."""
    home = tmp_path_factory.mktemp("damage")
    make_library(home)
    return home


@pytest.fixture
def library(home: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    for each in home.glob("*.*"):
        (tmp_path / each.name).symlink_to(each)
    return Path(shutil.copytree(home / "library", tmp_path / "library"))


def complete(store: Store) -> None:
    """Encode what waits to be, as a library that is opened does."""
    if store.waiting(limit=1):
        with writing(store, "test") as writer, writer.transaction():
            writer.set_encoder("hashing/chunk32", 32)
        with writing(store, "test") as writer:
            encode_waiting(store, writer, HashingEncoder(), lambda _n: None)


def titles(store: Store, index: Index, query: str, how: str = "exact") -> list[str]:
    return [hit.paper.title for hit in search(store, index, HashingEncoder(), query, k=10, how=how)]


def found(folder: Path) -> tuple[set[str], list[str]]:
    """Return the titles that are found by themselves, and what was told."""
    try:
        store, notes = open_library(folder)
        with store:
            complete(store)
            index = Index.open(store)
            papers = [paper.title for paper in store.papers()]
            return {title for title in papers if titles(store, index, title)[0] == title}, [*notes, *index.warnings]
    except LibraryDamaged:
        return found_after_restoring(folder)


def found_after_restoring(folder: Path) -> tuple[set[str], list[str]]:
    note = restore(folder, "a checksum does not agree")
    titles_found, notes = found(folder)
    return titles_found, [note, *notes]


# --- One of both copies is whole --------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", STORE_DAMAGE.values(), ids=STORE_DAMAGE)
def test_no_paper_is_lost_where_store_or_journal_is_whole(library: Path, damage: Damage) -> None:
    damage(library)
    papers, told = found(library)
    assert len(papers) == N
    assert len([line for line in told if "encoded again" not in line]) <= 1, "one line tells it"
    assert not any("missing" in line for line in told)
    papers, told = found(library)
    assert len(papers) == N and told == []


@pytest.mark.parametrize("damage", STORE_DAMAGE.values(), ids=STORE_DAMAGE)
def test_a_damaged_library_takes_further_papers(
    library: Path, damage: Damage, tmp_path: Path, hashing: HashingEncoder
) -> None:
    damage(library)
    found(library)
    store, _ = open_library(library, create=True)
    with store:
        ledger = ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(3, offset=900))])
    assert ledger.papers == N + 3
    papers, told = found(library)
    assert len(papers) == N + 3 and told == []
    with Store(library) as store:
        store.check(thorough=True)
        assert store.standing == "same" and journal.is_whole(library)


@pytest.mark.parametrize("damage", BOTH_DAMAGED.values(), ids=BOTH_DAMAGED)
def test_what_may_be_missing_is_told_until_the_next_ingest(
    library: Path, damage: Damage, tmp_path: Path, hashing: HashingEncoder
) -> None:
    damage(library)
    for _ in range(2):
        papers, told = found(library)
        assert len(papers) <= N and any("papers may be missing" in line for line in told)
    store, _ = open_library(library, create=True)
    with store:
        ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(3, offset=900))])
    assert found(library)[1] == []


def test_what_was_damaged_is_kept(library: Path) -> None:
    content = (library / FILE_NAME).read_bytes()
    STORE_DAMAGE["header noised"](library)
    noised = (library / FILE_NAME).read_bytes()
    assert noised != content
    _, (note,) = open_library(library)
    (aside,) = library.glob("damaged-*")
    assert str(aside) in note and (aside / FILE_NAME).read_bytes() == noised


def test_what_is_encoded_is_taken_from_the_damaged_file(library: Path) -> None:
    STORE_DAMAGE["1 page noised"](library)
    restore(library, "damaged")
    store, _ = open_library(library)
    with store:
        assert len(store.waiting()) <= N / 4
        assert store.encoder == "hashing/chunk32"


# --- What a journal holds ---------------------------------------------------------------------------------------------


def lose_store(store: Store) -> Store:
    """Delete the store's file and open the library again, from the journal."""
    store.close()
    (store.folder / FILE_NAME).unlink()
    return open_library(store.folder)[0]


def state(store: Store) -> list[tuple[object, ...]]:
    return [(p.id, p.title, p.abstract, p.year, p.doi, p.aliases, p.sources) for p in map(store.paper, ids(store)) if p]


def ids(store: Store) -> list[str]:
    return sorted(paper.id for paper in store.papers())


def ingest_records(store: Store, tmp_path: Path, name: str, records: Sequence[object], *, sync: bool = False) -> None:
    file = write_jsonl(tmp_path / f"{name}.jsonl", records)
    ingest(store, HashingEncoder(), [file], reading=Reading(sync=sync))


def test_every_change_of_a_library_is_in_its_journal(tmp_path: Path) -> None:
    records = make_records(12)
    store = Store(tmp_path / "library", create=True)
    ingest_records(store, tmp_path, "a", records)
    # A preprint, and its published form under another title: one paper by the key that the third record brings.
    ingest_records(store, tmp_path, "b", [{**records[0], "title": "An early form", "arxiv_id": "2401.00001"}])
    ingest_records(store, tmp_path, "c", [{**records[1], "doi": "10.1000/x"}, {**records[2], "year": 1999}])
    ingest_records(store, tmp_path, "d", [{**records[1], "doi": "10.1000/x", "arxiv_id": "2401.00001"}])
    remove(store, [store.papers()[5].id])
    ingest_records(store, tmp_path, "a", records[:9], sync=True)
    many = next(paper.id for paper in store.papers() if len(store.records(paper.id)) > 1)
    split(store, many, [store.records(many)[0][1]])
    before = state(store)
    store.close()
    shutil.copytree(store.folder, tmp_path / "undisturbed")
    store = lose_store(store)
    assert state(store) == before
    with writing(store, "test") as writer:
        writer.rewrite_journal()
    store = lose_store(store)
    assert state(store) == before
    with Store(tmp_path / "undisturbed") as undisturbed:
        for each in (store, undisturbed):
            ingest_records(each, tmp_path, "a", records[:9])
        assert state(store) == state(undisturbed), "what is split stays split, what is united stays united"
    store.close()


def test_a_commit_that_stands_in_the_journal_alone_is_made(tmp_path: Path, hashing: HashingEncoder) -> None:
    folder = tmp_path / "library"
    with Store(folder, create=True) as store:
        ingest_records(store, tmp_path, "a", make_records(3))
        (line,) = store.records(store.papers()[0].id)
        head = {"commit": store.epoch + 1, "library": store.meta("uuid")}
        record = line[2].replace("Study 0", "Study 77")
        journal.append(folder, [head, {"put": "a-new-paper", "source": "s", "record": record}])
    store, notes = open_library(folder)
    with store:
        assert ["1 change was taken" in note for note in notes] == [True]
        assert (paper := store.paper("a-new-paper")) and paper.title.startswith("Study 77")
        assert [each.paper.id for each in store.waiting()] == ["a-new-paper"]
    store, notes = open_library(folder)
    with store:
        assert notes == ["papers that were restored have to be encoded again"], "whoever was to encode it has not"
        complete(store)
    for expected in ([], []):
        store, notes = open_library(folder)
        store.close()
        assert notes == expected


def test_a_commit_of_another_library_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    with Store(folder, create=True) as store, Store(tmp_path / "other", create=True) as other:
        ingest_records(store, tmp_path, "a", make_records(3))
        ingest_records(other, tmp_path, "b", make_records(3, offset=20))
    with (folder / journal.FILE_NAME).open("ab") as file:
        file.write((tmp_path / "other" / journal.FILE_NAME).read_bytes())
    papers, (line,) = found(folder)
    assert len(papers) == 3 and "papers may be missing" in line


def test_a_commit_that_was_only_begun_is_taken_back_in_silence(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    with Store(folder, create=True) as store:
        ingest_records(store, tmp_path, "a", make_records(3))
        whole = journal.size(folder)
        journal.append(folder, [{"commit": store.epoch + 1, "library": store.meta("uuid")}, {"remove": "x"}])
    journal.cut(folder, journal.size(folder) - 6)
    store, notes = open_library(folder)
    with store:
        assert notes == [] and journal.size(folder) == whole and store.counts()[0] == 3


def test_a_journal_that_was_written_anew_but_not_yet_noted_is_taken_in_silence(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    with Store(folder, create=True) as store:
        ingest_records(store, tmp_path, "a", make_records(3))
        mark = store.meta("journal")
        with writing(store, "test") as writer:
            writer.rewrite_journal()
        with store.transaction():
            store.set_meta("journal", str(mark))
        assert store.standing == "other"
    store, notes = open_library(folder)
    with store:
        assert notes == [] and store.standing == "same" and store.counts()[0] == 3


def test_a_damaged_record_is_never_copied_into_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    with Store(folder, create=True) as store:
        ingest_records(store, tmp_path, "a", make_records(3))
    before = (folder / journal.FILE_NAME).read_bytes()
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("UPDATE records SET payload = replace(payload, 'Study', 'Stupy')")
    db.close()
    with Store(folder) as store, pytest.raises(LibraryDamaged, match="digest"), writing(store, "test") as writer:
        writer.rewrite_journal()
    assert (folder / journal.FILE_NAME).read_bytes() == before


def test_a_damaged_journal_is_written_anew_by_the_next_writer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "library"
    with Store(folder, create=True) as store:
        ingest_records(store, tmp_path, "a", make_records(30))
    content = bytearray((folder / journal.FILE_NAME).read_bytes())
    content[300:340] = bytes(40)
    (folder / journal.FILE_NAME).write_bytes(content)
    assert not journal.is_whole(folder)
    with Store(folder) as store:
        ingest_records(store, tmp_path, "b", make_records(1, offset=50))
        assert "was damaged; it was written anew" in caplog.text and journal.is_whole(folder)
        assert lose_store(store).counts()[0] == 31


def test_a_library_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    with Store(folder, create=True) as store:
        ingest_records(store, tmp_path, "a", make_records(3))
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("PRAGMA user_version=99")
        db.execute("DROP TABLE records")
        db.execute("UPDATE meta SET value = 99 WHERE key = 'readable_by'")
    db.close()
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(StoreError, match="update the program"):
        open_library(folder)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_interrupted_restoration_is_begun_anew(library: Path) -> None:
    STORE_DAMAGE["header noised"](library)
    draft = library / "restored-left"
    draft.mkdir()
    (draft / FILE_NAME).write_bytes(b"half")
    papers, _ = found(library)
    assert len(papers) == N and not draft.exists()


# --- The index --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wanted(home: Path) -> dict[str, list[str]]:
    with Store(home / "library") as store:
        index = Index.open(store)
        return {paper.title: titles(store, index, paper.title) for paper in store.papers()[::7]}


@pytest.mark.parametrize("how", ["exact", "chroma"])
@pytest.mark.parametrize("damage", INDEX_DAMAGE.values(), ids=INDEX_DAMAGE)
def test_an_index_however_damaged_finds_the_same(
    library: Path, wanted: dict[str, list[str]], damage: Damage, how: str
) -> None:
    damage(library)
    for start in range(2):
        with Store(library) as store:
            index = Index.open(store)
            hits = [search(store, index, HashingEncoder(), title, k=10, how=how) for title in wanted]
        assert [[hit.paper.title for hit in each] for each in hits] == list(wanted.values())
        told = {line for each in hits for line in each.warnings}
        assert len(told) <= 1 - start, "one line, once"
    assert not [path for path in (library / "index").iterdir() if start and not path.name.startswith(("gen-", "draft"))]
