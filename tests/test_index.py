from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant import index as index_module
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
    whole, chunk, sentence = index.cosines(query, rows)
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
