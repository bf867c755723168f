from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HashingEncoder, make_records, write_jsonl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import CorpusError
from assistant.ingest import Ledger, find_sources, ingest, remove
from assistant.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store(tmp_path / "library", create=True) as store:
        yield store


def counts(ledger: Ledger) -> dict[str, int]:
    assert ledger.totals["found"] == sum(value for name, value in ledger.totals.items() if name != "found")
    return {name: value for name, value in ledger.totals.items() if value and name != "found"}


def test_each_record_counts_once_and_again_is_unchanged(store: Store, hashing: HashingEncoder, tmp_path: Path) -> None:
    records = make_records(100)
    file = write_jsonl(tmp_path / "a.jsonl", [*records, records[3], {"title": "none"}])
    first = ingest(store, hashing, [file])
    assert counts(first) == {"new": 100, "merged": 1, "rejected": 1}
    assert (first.papers, first.encoded) == (100, 100)
    encoded = hashing.encoded
    again = ingest(store, hashing, [file])
    assert counts(again) == {"unchanged": 100, "merged": 1, "rejected": 1}
    assert again.encoded == 0 and hashing.encoded == encoded


def test_a_changed_abstract_alone_is_encoded_anew_and_the_id_stays(
    store: Store, hashing: HashingEncoder, tmp_path: Path
) -> None:
    records = make_records(20)
    file = write_jsonl(tmp_path / "a.jsonl", records)
    ingest(store, hashing, [file])
    before = {paper.title: paper.id for paper in store.papers()}
    records[5]["abstract"] = str(records[5]["abstract"]) + " A late addition was made here."
    ledger = ingest(store, hashing, [write_jsonl(file, records)])
    assert counts(ledger) == {"unchanged": 19, "updated": 1}
    assert ledger.encoded == 1
    assert {paper.title: paper.id for paper in store.papers()} == before
    changed = store.paper(before[str(records[5]["title"])])
    assert changed is not None and changed.abstract.endswith("A late addition was made here.")


def test_what_a_source_no_longer_says_is_forgotten(store: Store, hashing: HashingEncoder, tmp_path: Path) -> None:
    (record,) = make_records(1)
    file = write_jsonl(
        tmp_path / "a.jsonl", [{**record, "doi": "10.1000/x", "abstract": f"{record['abstract']} Much longer."}]
    )
    ingest(store, hashing, [file])
    ingest(store, hashing, [write_jsonl(file, [{**record, "doi": "10.1000/x"}])])
    paper = store.paper("doi:10.1000/x")
    assert paper is not None and paper.abstract == record["abstract"]


def test_records_resolve_by_strong_keys_across_sources(store: Store, hashing: HashingEncoder, tmp_path: Path) -> None:
    a, b = make_records(2)
    one = write_jsonl(tmp_path / "1.jsonl", [{**a, "arxiv_id": "1706.03762v1", "venue": "ArXiv"}])
    two = write_jsonl(tmp_path / "2.jsonl", [{**b, "title": "Renamed", "arxiv_id": "1706.03762v7", "doi": "10.1000/x"}])
    ledger = ingest(store, hashing, [one, two])
    assert counts(ledger) == {"new": 1, "merged": 1}
    paper = store.paper("arxiv:1706.03762")
    assert paper is not None and store.paper("doi:10.1000/x") == paper
    assert len(paper.sources) == 2 and paper.venue == "ArXiv"


def test_one_title_with_two_abstracts_is_two_papers(store: Store, hashing: HashingEncoder, tmp_path: Path) -> None:
    a, b = make_records(2)
    file = write_jsonl(tmp_path / "a.jsonl", [a, {**b, "title": a["title"]}])
    assert counts(ingest(store, hashing, [file])) == {"new": 2}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), cuts=st.lists(st.integers(0, 6), max_size=3))
def test_the_library_does_not_depend_on_order_or_on_how_it_was_split(
    tmp_path_factory: Callable, order: list[int], cuts: list[int]
) -> None:
    base = make_records(4)
    records = [
        *base,
        {**base[1], "year": 1999, "venue": "Late"},
        {**base[2], "abstract": str(base[2]["abstract"])[:80]},
    ]
    folder = tmp_path_factory.mktemp("order")  # type: ignore[attr-defined]
    shuffled = [records[i] for i in order]
    edges = [0, *sorted(cuts), 6]
    with Store(folder / "split", create=True) as split, Store(folder / "whole", create=True) as whole:
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            if low < high:
                ingest(split, HashingEncoder(), [write_jsonl(folder / f"{i}.jsonl", shuffled[low:high])])
        ingest(whole, HashingEncoder(), [write_jsonl(folder / "all.jsonl", records)])
        strip = lambda store: sorted((p.title, p.abstract, p.year, p.venue) for p in store.papers())
        assert strip(split) == strip(whole)
        assert len(strip(whole)) == 4


def test_a_source_that_cannot_be_read_costs_no_other(store: Store, hashing: HashingEncoder, tmp_path: Path) -> None:
    noise = tmp_path / "noise.bin"
    noise.write_bytes(bytes(range(256)) * 50)
    good = write_jsonl(tmp_path / "good.jsonl", make_records(3))
    ledger = ingest(store, hashing, [tmp_path / "missing.txt", noise, good])
    assert counts(ledger) == {"new": 3, "rejected": 2}
    assert [source.good for source in ledger.sources] == [False, False, True]
    assert "missing.txt" in ledger.sources[0].rejected[0].reason


def test_the_ledger_is_kept_with_the_library(store: Store, hashing: HashingEncoder, tmp_path: Path) -> None:
    ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(3))])
    (row,) = store._all("SELECT ledger FROM runs")
    assert json.loads(row[0])["totals"]["new"] == 3


def test_an_interrupted_ingest_goes_on_where_it_was(store: Store, tmp_path: Path) -> None:
    class Dying(HashingEncoder):
        def encode_documents(self, texts: list[str], progress: object = None) -> object:
            if self.encoded > 300:
                raise KeyboardInterrupt
            return super().encode_documents(texts, progress)

    file = write_jsonl(tmp_path / "a.jsonl", make_records(200))
    with pytest.raises(KeyboardInterrupt):
        ingest(store, Dying(), [file])
    kept = store.counts()[0]
    assert 0 < kept < 200
    ledger = ingest(store, HashingEncoder(), [file])
    assert counts(ledger) == {"new": 200 - kept, "unchanged": kept}
    assert store.counts()[0] == 200


def test_a_removed_paper_is_gone_and_may_come_back(store: Store, hashing: HashingEncoder, tmp_path: Path) -> None:
    file = write_jsonl(
        tmp_path / "a.jsonl", [{**record, "doi": f"10.1000/{i}"} for i, record in enumerate(make_records(3))]
    )
    ingest(store, hashing, [file])
    assert remove(store, ["doi:10.1000/1", "nobody"]) == (["doi:10.1000/1"], ["nobody"])
    assert store.paper("doi:10.1000/1") is None
    assert counts(ingest(store, hashing, [file])) == {"new": 1, "unchanged": 2}


def test_folders_and_globs_are_expanded_and_an_empty_one_refused(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", ".hidden", "README.md"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in find_sources([str(tmp_path)])] == ["a.txt", "b.txt"]
    assert [path.name for path in find_sources([str(tmp_path / "*.txt"), str(tmp_path / "a.txt")])] == [
        "a.txt",
        "b.txt",
    ]
    with pytest.raises(CorpusError, match="no file is there"):
        find_sources([str(tmp_path / "*.bib")])
