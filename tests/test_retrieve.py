from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from conftest import HashingEncoder, write_jsonl

from assistant.errors import ConfigError
from assistant.index import Index
from assistant.ingest import ingest
from assistant.retrieve import Dense, Fused, Lexical, Query, search
from assistant.store import Store
from assistant.types import Hits

PAPERS = [
    {
        "title": "Boiling kettles",
        "abstract": "We boil kettles of steel. The kettle sings at 97 degrees. Nobody was hurt.",
        "year": 2019,
        "venue": "ICKettle",
        "authors": ["Ada Møller", "Bo Li"],
    },
    {
        "title": "Cold pots",
        "abstract": "Pots stay cold when nobody looks. We looked at forty pots.",
        "year": 2022,
        "venue": "ICPot",
        "authors": ["Bo Li"],
    },
    {
        "title": "A survey of lids",
        "abstract": "Lids close kettles and pots. We list ninety lids of glass.",
        "year": 2023,
    },
    {"title": "Spoons", "abstract": "Spoons stir. Their handles stay cool in soup."},
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Index]]:
    folder = tmp_path_factory.mktemp("retrieve")
    with Store(folder / "library", create=True) as store:
        ingest(store, HashingEncoder(), [write_jsonl(folder / "a.jsonl", PAPERS)])
        yield store, Index.open(store)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Index]]:
    """27 papers on kettles and one that names Zyx."""
    folder = tmp_path_factory.mktemp("many")
    things = [f"{metal} for {use}" for metal in ("steel", "glass", "copper") for use in ("tea", "milk", "oil")]
    papers = [
        {"_id": f"{i}-{n}", "title": f"Kettles of {thing}", "text": f"We heat kettles made of {thing}, number {n}."}
        for i, thing in enumerate(things) for n in range(3)
    ]  # fmt: skip
    papers.append({"_id": "z", "title": "Another vessel", "text": "A vessel of clay. It is compared with Zyx vessels."})
    with Store(folder / "library", create=True) as store:
        ingest(store, HashingEncoder(), [write_jsonl(folder / "b.jsonl", papers)])
        yield store, Index.open(store)


def find(library: tuple[Store, Index], text: str, *where: str, k: int = 10) -> Hits:
    return search(*library, HashingEncoder(), text, k=k, where=where)


def found(hits: Hits) -> set[str]:
    return {hit.paper.title for hit in hits}


def test_hits_are_ranked_from_one_each_paper_once_with_the_passage_in_its_abstract(
    library: tuple[Store, Index],
) -> None:
    hits = find(library, "kettles of steel")
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    assert hits[0].paper.title == "Boiling kettles"
    assert len({hit.paper.id for hit in hits}) == len(hits)
    assert all(hit.paper.abstract[hit.start : hit.end] == hit.passage for hit in hits)
    assert all(a.score >= b.score for a, b in zip(hits, hits[1:], strict=False))


def test_each_hit_tells_which_retrievers_found_it(library: tuple[Store, Index]) -> None:
    by_title = {hit.paper.title: hit.retrievers for hit in find(library, "kettles of steel")}
    assert by_title["Boiling kettles"] == {"dense": 1, "bm25": 1}
    assert "bm25" not in by_title["Spoons"]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        (["year>=2022"], {"Cold pots", "A survey of lids"}),
        (["year=2019..2022"], {"Boiling kettles", "Cold pots"}),
        (["year=2020.."], {"Cold pots", "A survey of lids"}),
        (["year<2022", "venue=ickettle"], {"Boiling kettles"}),
        (["author~møller"], {"Boiling kettles"}),
        (["author=bo li"], {"Boiling kettles", "Cold pots"}),
        (["author!=Ada Møller"], {"Cold pots"}),
        (["title~LIDS"], {"A survey of lids"}),
        (["venue!=ICPot"], {"Boiling kettles"}),
    ],
)
def test_filters_are_exact_and_a_paper_without_the_field_does_not_match(
    library: tuple[Store, Index], where: list[str], wanted: set[str]
) -> None:
    assert found(find(library, "kettles", *where)) == wanted


def test_an_id_selects_its_paper(library: tuple[Store, Index]) -> None:
    paper = library[0].papers()[3]
    assert found(find(library, "kettles", f"id={paper.id}")) == {"Spoons"}


def test_no_match_gives_the_reason_and_counts_papers_without_the_field(library: tuple[Store, Index]) -> None:
    hits = find(library, "kettles", "year>=2030")
    assert len(hits) == 0
    assert hits.reason == "filter_excluded_all: none of 4 papers match year>=2030; 1 have no year"


@pytest.mark.parametrize("where", ["yaer>=2020", "year~20", "year>=abc", "year", "venue>3", "='x'", "year=..", "title"])
def test_a_condition_that_cannot_be_read_is_refused(library: tuple[Store, Index], where: str) -> None:
    with pytest.raises(ConfigError):
        find(library, "kettles", where)


def test_a_misspelt_field_is_offered_its_right_name(library: tuple[Store, Index]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'year'"):
        find(library, "kettles", "yaer>=2020")


def test_a_pasted_title_finds_its_paper_first(library: tuple[Store, Index]) -> None:
    for paper in library[0].papers():
        assert find(library, paper.title.upper(), k=1)[0].paper.id == paper.id


def own_scores(index: Index, query: Query, rows: np.ndarray) -> np.ndarray:
    by_vectors = index.whole(rows) @ query.vector, index.best_chunks(query.vector, rows)
    whole, chunk, sentence = np.maximum(np.stack([*by_vectors, index.best_sentences(query.vector, rows)]), 0)
    return (whole + 2 * chunk + sentence) / 4 + 1.5 * Lexical(index).scores(query)[rows] ** 1.3


def test_the_fused_score_is_the_stated_formula(library: tuple[Store, Index]) -> None:
    _, index = library
    query = Query.of("cold kettles of glass", HashingEncoder())
    ranking = Fused(Dense(index), Lexical(index)).rank(query, index.alive, 10)
    assert np.allclose(ranking.scores, own_scores(index, query, ranking.rows), atol=1e-6)  # too few for neighbours


def test_a_paper_takes_a_share_of_its_score_from_its_nearest_ones(many: tuple[Store, Index]) -> None:
    _, index = many
    query = Query.of("kettles for tea", HashingEncoder())
    ranking = Fused(Dense(index), Lexical(index)).rank(query, index.alive, 100)
    rows = np.arange(len(index))
    own, whole = own_scores(index, query, rows), index.whole(rows)
    for row, score in zip(ranking.rows, ranking.scores, strict=True):
        likeness = {other: float(whole[row] @ whole[other]) for other in rows if other != row}
        near = sorted(likeness, key=lambda other: -likeness[other])[:5]
        share = 0.36 * np.mean([likeness[other] for other in near])
        assert score == pytest.approx(
            (1 - share) * own[row] + share * np.mean([own[other] for other in near]), abs=1e-5
        )


def test_each_named_side_of_a_comparison_is_found(many: tuple[Store, Index]) -> None:
    question = "How do kettles for tea made of steel or glass or copper differ from Zyx pots?"
    plain, named = (find(many, text, k=3) for text in (question.replace("Zyx", "other"), question))
    assert not any("Zyx" in hit.paper.abstract for hit in plain)
    assert all("tea" in hit.paper.title for hit in named[:2])
    assert "Zyx" in named[2].paper.abstract and named[1].score >= named[2].score


def test_the_lexical_score_is_a_share_of_the_query(library: tuple[Store, Index]) -> None:
    for text in ("kettles", "kettles kettles pots", "unknownword", "the of and"):
        scores = Lexical(library[1]).scores(Query.of(text, HashingEncoder()))
        assert ((scores >= 0) & (scores <= 1)).all()
