from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant import index as index_module
from assistant import products as products_module
from assistant.index import Index
from assistant.ingest import ingest, remove
from assistant.retrieve import search
from assistant.store import Store
from assistant.write import writing


@pytest.fixture
def store(tmp_path: Path, hashing: HashingEncoder) -> Iterator[Store]:
    with Store(tmp_path / "library", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(80))])
        yield store


def titles(store: Store, query: str, how: str = "auto") -> list[str]:
    return [hit.paper.title for hit in search(store, Index.open(store), HashingEncoder(), query, k=10, how=how)]


def generation(store: Store) -> Path:
    return sorted((store.folder / "index").glob("gen-*"))[-1]


QUERY = "which method m17 reaches 67 percent on set s17"


def test_chroma_and_the_exact_scan_find_the_same(store: Store) -> None:
    for query in (QUERY, "glaciers under condition 9", "device d30 needs times less"):
        assert titles(store, query, "chroma") == titles(store, query, "exact")


def test_what_came_and_went_since_is_seen_without_a_rebuild(
    store: Store, tmp_path: Path, hashing: HashingEncoder
) -> None:
    before = generation(store)
    ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", make_records(3, offset=500))])
    remove(store, [paper.id for paper in store.papers() if paper.title.startswith("Study 17 ")])
    assert generation(store) == before
    index = Index.open(store)
    assert len(index) == 82 and index.n_tail == 3
    assert titles(store, "method m501 on set s501")[0].startswith("Study 501 ")
    for how in ("exact", "chroma"):
        assert not any(title.startswith("Study 17 ") for title in titles(store, QUERY, how))
        assert titles(store, "method m501 on set s501", how)[0].startswith("Study 501 ")


def test_the_tail_and_a_new_generation_rank_alike(store: Store, tmp_path: Path, hashing: HashingEncoder) -> None:
    ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", make_records(20, offset=500))])
    with_tail = {query: titles(store, query)[:3] for query in ("method m501 on set s501", QUERY)}
    shutil.rmtree(store.folder / "index")
    assert {query: titles(store, query)[:3] for query in with_tail} == with_tail
    assert Index.open(store).n_tail == 0


def test_a_large_tail_is_folded_in(
    store: Store, tmp_path: Path, hashing: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "TAIL_CHUNKS", 5)
    before = generation(store)
    ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", make_records(30, offset=500))])
    assert generation(store) != before
    assert Index.open(store).n_tail == 0


def test_an_index_that_is_opened_again_reads_what_is_new_and_is_the_same_as_a_fresh_one(
    store: Store, tmp_path: Path, hashing: HashingEncoder
) -> None:
    queries = ("method m501 on set s501", QUERY, "device d30 needs times less")
    index = Index.open(store)
    for step in range(index_module.TAIL_PARTS + 3):
        earlier, records = index, make_records(2, offset=500 + step)  # the second is read again by the next step
        records[0]["abstract"] += f" In step {step} it was looked at once more."
        ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", records)])
        remove(store, [store.papers()[step].id])
        index, fresh = Index.open(store, earlier), Index.open(store)
        assert index.generation is earlier.generation and len(index.tail) <= index_module.TAIL_PARTS + 1
        assert len(index) == len(fresh) == store.counts()[0]
        assert sorted(index.numbers[index.alive]) == sorted(fresh.numbers[fresh.alive])
        for query in queries:
            found = [search(store, each, hashing, query, k=10) for each in (index, fresh)]
            assert [hit.paper.id for hit in found[0]] == [hit.paper.id for hit in found[1]]
            assert np.allclose([hit.score for hit in found[0]], [hit.score for hit in found[1]], atol=1e-6)


def test_an_index_is_not_carried_over_to_another_generation(
    store: Store, tmp_path: Path, hashing: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "TAIL_CHUNKS", 5)
    earlier = Index.open(store)
    ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", make_records(30, offset=500))])
    index = Index.open(store, earlier)
    assert index.generation is not earlier.generation and len(index) == 110 and index.n_tail == 0


def test_a_long_ingest_folds_its_papers_in_as_it_goes(
    tmp_path: Path, hashing: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "TAIL_CHUNKS", 150)
    seen = []
    with Store(tmp_path / "other", create=True) as store:

        def look(_n: int) -> None:
            with Store(tmp_path / "other") as reader:
                seen.append((reader.counts()[0], Index.open(reader).n_tail))

        ledger = ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(600))], progress=look)
        assert ledger.papers == 600
        assert max(tail for _, tail in seen) < 300 and seen[-1][0] > 500
        assert titles(store, QUERY, "chroma") == titles(store, QUERY, "exact")  # filled at the end


@pytest.mark.parametrize(("how", "is_filled"), [("auto", True), ("chroma", True), ("exact", False)])
def test_chroma_is_filled_where_it_may_be_asked(
    tmp_path: Path, hashing: HashingEncoder, *, how: str, is_filled: bool
) -> None:
    with Store(tmp_path / "other", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(9))], search=how)
        assert (generation(store) / "chroma").exists() == is_filled
        hits = search(store, Index.open(store), hashing, QUERY, k=3, how="chroma")
        assert len(hits) == 3
        assert any("Chroma does not hold the chunks" in each for each in hits.warnings) != is_filled
        ingest(store, hashing, [tmp_path / "a.jsonl"], search="chroma")
        assert search(store, Index.open(store), hashing, QUERY, k=3, how="chroma").warnings == ()


def test_a_filter_is_remembered_until_the_library_changes(
    store: Store, tmp_path: Path, hashing: HashingEncoder
) -> None:
    index, where = Index.open(store), ["title~study 7"]
    first, again = (search(store, index, hashing, QUERY, k=50, where=where) for _ in range(2))
    assert [hit.paper.id for hit in first] == [hit.paper.id for hit in again]
    assert len(first) == sum("study 7" in paper.title.casefold() for paper in store.papers()) > 1
    ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", make_records(5, offset=700))])
    assert len(search(store, Index.open(store, index), hashing, QUERY, k=50, where=where)) == len(first) + 5


def test_questions_that_scan_together_find_what_each_finds_alone(
    store: Store, hashing: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [f"which method m{i} reaches {i} percent on set s{i}" for i in range(40)]
    wanted = [titles(store, query) for query in queries]
    for module in (index_module, products_module):
        monkeypatch.setattr(module, "SPLIT_BYTES", 1)
    index = Index.open(store)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda query: search(store, index, hashing, query, k=10), queries))
    assert [[hit.paper.title for hit in each] for each in found] == wanted


FILES = [
    "manifest.json",
    "whole.npy",
    "chunks.npy",
    "numbers.npy",
    "chunk_starts.npy",
    "sentences.npy",
    "postings/counts.npy",
    "chroma/*/data_level0.bin",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "noised"])
def test_a_damaged_index_is_rebuilt_and_says_so(store: Store, name: str, damage: str) -> None:
    wanted = titles(store, QUERY)
    (file,) = generation(store).glob(name)
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    index = Index.open(store)
    assert any("rebuilt" in warning for warning in index.warnings)
    assert titles(store, QUERY) == wanted
    assert Index.open(store).warnings == ()


def test_a_missing_index_folder_is_rebuilt(store: Store) -> None:
    wanted = titles(store, QUERY)
    shutil.rmtree(store.folder / "index")
    assert titles(store, QUERY) == wanted


def test_a_damaged_chroma_database_falls_back_to_the_exact_scan(store: Store) -> None:
    wanted = titles(store, QUERY, "exact")
    (generation(store) / "chroma" / "chroma.sqlite3").write_bytes(b"noise" * 100)
    hits = search(store, Index.open(store), HashingEncoder(), QUERY, k=10, how="chroma")
    assert [hit.paper.title for hit in hits] == wanted
    assert any("exact scan" in warning for warning in hits.warnings)


def test_an_index_of_another_encoder_is_not_used(store: Store) -> None:
    with writing(store, "test") as writer, writer.transaction():
        writer.set_encoder("another/chunk32", store.dim)
    assert any("encoder" in warning for warning in Index.open(store).warnings)


def test_cosines_of_rows_equal_those_of_a_plain_product(store: Store) -> None:
    index, query = Index.open(store), HashingEncoder().encode_queries([QUERY])[0]
    rows = np.array([5, 0, 79])
    whole, chunk, sentence = (
        index.whole(rows) @ query,
        index.best_chunks(query, rows),
        index.best_sentences(query, rows),
    )
    for i, row in enumerate(rows):
        (paper,) = store.get([int(index.numbers[row])]).values()
        units = store.units(paper.paper.id)
        assert units is not None
        scores = units.vectors.astype(np.float32) @ query
        n = len(units.chunks)
        assert np.allclose(
            [whole[i], chunk[i], sentence[i]], [scores[0], scores[1 : 1 + n].max(), scores[1 + n :].max()], atol=1e-6
        )


def test_an_index_made_beside_a_writer_lives_in_memory(store: Store) -> None:
    wanted = titles(store, QUERY)
    shutil.rmtree(store.folder / "index")
    with writing(store, "a long ingest"), Store(store.folder) as reader:
        index = Index.open(reader)
        assert [hit.paper.title for hit in search(reader, index, HashingEncoder(), QUERY, k=10)] == wanted
    assert not (store.folder / "index").exists()
