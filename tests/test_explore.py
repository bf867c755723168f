from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HashingEncoder, make_records, write_jsonl

from assistant.embed import Encoder
from assistant.errors import ConfigError
from assistant.explore import Facets, browse, facets, overview, similar
from assistant.index import Index
from assistant.ingest import ingest
from assistant.sample import open_sample
from assistant.store import Store


@pytest.fixture
def store(tmp_path: Path, hashing: HashingEncoder) -> Iterator[Store]:
    """Sixty papers of two files, with authors and venues, a few without."""
    records = [
        record
        | ({"authors": [f"Ada {i % 3}", "Björn Öst"], "venue": "CVPR" if i % 4 else "100%_sure"} if i % 5 else {})
        | ({} if i % 7 else {"year": None})
        for i, record in enumerate(make_records(60))
    ]
    with Store(tmp_path / "library", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", records[:40])])
        ingest(store, hashing, [write_jsonl(tmp_path / "b.jsonl", records[30:])])
        yield store


def test_papers_like_a_paper_come_best_first_and_without_itself(store: Store) -> None:
    paper = store.papers()[3]
    found = similar(store, Index.open(store), paper.id, k=7)
    scores = [score for _, score in found]
    assert len(found) == 7 and scores == sorted(scores, reverse=True) and all(-1 <= score <= 1.001 for score in scores)
    assert paper.id not in {other.id for other, _ in found}


def test_papers_of_the_tail_are_like_others_too(store: Store, tmp_path: Path, hashing: HashingEncoder) -> None:
    first = store.papers()[0]
    twin = {"title": first.title + " again", "abstract": first.abstract + " It is so."}
    ingest(store, hashing, [write_jsonl(tmp_path / "c.jsonl", [twin])])
    index = Index.open(store)
    assert index.n_tail > 0
    [(found, _)] = similar(store, index, first.id, k=1)
    assert found.title == twin["title"]
    [(back, _)] = similar(store, index, found.id, k=1)
    assert back.id == first.id


def test_of_the_sample_papers_on_click_through_rates_are_like_each_other(encoder: Encoder) -> None:
    with open_sample(encoder) as store:
        [paper] = store.papers("title LIKE 'AutoInt:%'")
        found = similar(store, Index.open(store), paper.id, k=5)
    assert sum("CTR" in other.title or "Click-" in other.title for other, _ in found) >= 3


def test_a_paper_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="there is no paper 'nobody'"):
        similar(store, Index.open(store), "nobody")


def test_a_library_and_its_papers_are_counted_alike(store: Store) -> None:
    whole = overview(store)
    assert whole == facets(store.papers(), store)
    assert whole.papers == 60 == sum(n for _, n in whole.years) + whole.without["year"]
    assert [n for _, n in whole.sources] == [40, 30]
    assert whole.authors[0] == ("Björn Öst", 48) and "Björn Öst" not in dict(whole.first_authors)
    assert whole.without["venue"] == whole.without["author"] == 12


def test_counts_follow_the_text_and_the_conditions(store: Store) -> None:
    left = overview(store, "GLACIERS", where=["venue=cvpr"])
    wanted = [paper for paper in store.papers() if "glaciers" in paper.title and paper.venue == "CVPR"]
    assert left == facets(wanted, store) and left.papers == len(wanted) > 0


def test_facets_show_the_most_frequent_values_first(store: Store) -> None:
    most = facets(store.papers(), store, top=2)
    assert len(most.authors) == len(most.first_authors) == 2 and len(most.years) > 2
    assert [n for _, n in most.venues] == sorted((n for _, n in most.venues), reverse=True)


def test_an_empty_library_counts_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "none", create=True) as store:
        nothing = Facets(0, (), (), (), (), (), {"year": 0, "venue": 0, "author": 0})
        assert overview(store) == facets([], store) == nothing
        assert browse(store) == ([], 0)


def test_pages_show_what_holds_every_word_as_it_is_typed(store: Store) -> None:
    page, total = browse(store, "glac stud", limit=3, offset=3)
    wanted = [paper for paper in store.papers() if "glaciers" in paper.title]
    assert page == wanted[3:6] and total == len(wanted)


def test_signs_of_patterns_are_signs_like_others(store: Store) -> None:
    assert browse(store, "100%_S")[1] == 12
    assert browse(store, "1%0")[1] == browse(store, "'; DROP")[1] == 0


def test_case_does_not_matter_beyond_ascii(store: Store) -> None:
    assert browse(store, "BJÖRN öst")[1] == 48


def test_pages_are_ordered_as_asked_papers_without_a_year_last(store: Store) -> None:
    years = [paper.year for paper in browse(store, order="newest", limit=60)[0]]
    known = [year for year in years if year is not None]
    assert known == sorted(known, reverse=True) and years[: len(known)] == known
    titles = [paper.title.casefold() for paper in browse(store, order="title", limit=60)[0]]
    assert titles == sorted(titles)
    with pytest.raises(ConfigError, match="unknown order 'size'"):
        browse(store, order="size")
