from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TEST_DATA, HashingEncoder, make_records, write_jsonl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.ingest import Ledger, Reading, ingest, remove, split
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
    (row,) = store.select("SELECT ledger FROM runs")
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


# --- Identity ---------------------------------------------------------------------------------------------------------

SURVEY = (
    "This survey reviews how kettles are built, sorts the designs into four families and lists what is still open. "
)


def ingest_lists(store: Store, folder: Path, *lists: list[dict], **reading: object) -> list[dict[str, int]]:
    """Ingest lists of records, each as a file of its own in a run of its own; the counts of each run."""
    runs = []
    for i, records in enumerate(lists):
        file = write_jsonl(folder / f"list{i}.jsonl", records)
        runs.append(counts(ingest(store, HashingEncoder(), [file], reading=Reading(**reading))))
    return runs


def test_a_record_that_names_two_papers_makes_them_one(store: Store, tmp_path: Path) -> None:
    a, b = make_records(2)
    by_doi = {**a, "doi": "10.1000/x"}
    by_arxiv = {**b, "title": "A preprint", "arxiv_id": "1706.03762"}
    both = {**a, "doi": "10.1000/x", "arxiv_id": "1706.03762v2"}
    runs = ingest_lists(store, tmp_path, [by_doi], [by_arxiv], [both])
    assert runs == [{"new": 1}, {"new": 1}, {"updated": 1}]
    (paper,) = store.papers()
    assert store.paper("arxiv:1706.03762") == store.paper("doi:10.1000/x")
    known = store.paper(paper.id)
    assert known is not None and any(alias.startswith("a-preprint-") for alias in known.aliases), "the old id is known"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"title": "Kettles, Part I"}, {"title": "Kettles, Part II"}),
        ({"title": "Kettles: A Survey", "doi": "10.1000/1"}, {"title": "Kettles: A Survey", "doi": "10.1000/2"}),
        ({"title": "Kettles: A Survey", "pmid": 11}, {"title": "Kettles: A Survey", "pmid": 12}),
    ],
)
def test_two_papers_with_like_words_stay_two(store: Store, tmp_path: Path, one: dict, other: dict) -> None:
    ingest_lists(store, tmp_path, [{**one, "abstract": SURVEY}], [{**other, "abstract": SURVEY + "It is new."}])
    assert store.counts()[0] == 2


def test_the_doi_that_arxiv_gives_is_no_other_paper_than_the_published_one(store: Store, tmp_path: Path) -> None:
    preprint = {"title": "Kettles", "abstract": SURVEY, "doi": "10.48550/arXiv.1706.03762"}
    published = {"title": "Kettles", "abstract": SURVEY, "doi": "10.1000/XY"}
    ingest_lists(store, tmp_path, [preprint], [published])
    (paper,) = store.papers()
    assert (paper.doi, paper.arxiv_id) == ("10.1000/xy", "1706.03762")


def test_a_merge_can_be_undone_for_good(store: Store, tmp_path: Path) -> None:
    a, b = make_records(2)
    lists = [{**a, "doi": "10.1000/x"}], [{**b, "title": "Unlike", "doi": "10.1000/x", "year": 1999}]
    assert ingest_lists(store, tmp_path, *lists) == [{"new": 1}, {"updated": 1}]
    (paper,) = store.papers()
    records = store.records(paper.id)
    wrong = next(digest for _, digest, payload in records if json.loads(payload)["title"] == "Unlike")
    (other,) = split(store, paper.id, [wrong])
    assert {each.title: each.year for each in store.papers()} == {str(a["title"]): a["year"], "Unlike": 1999}
    assert ingest_lists(store, tmp_path, *lists) == [{"unchanged": 1}, {"unchanged": 1}]
    assert store.counts()[0] == 2 and not store.waiting()
    found = store.paper(other)
    assert found is not None and found.title == "Unlike"


# --- Updates ----------------------------------------------------------------------------------------------------------


def test_with_sync_what_left_the_source_leaves_the_library(store: Store, tmp_path: Path) -> None:
    records = make_records(5)
    ingest_lists(store, tmp_path, records, records[:1])
    assert ingest_lists(store, tmp_path, records[2:], sync=True) == [{"unchanged": 3}]
    assert {paper.title for paper in store.papers()} == {str(each["title"]) for each in (records[0], *records[2:])}
    ledger = ingest(
        store, HashingEncoder(), [write_jsonl(tmp_path / "list1.jsonl", records[3:4])], reading=Reading(sync=True)
    )
    assert ledger.sources[0].removed == 1 and ledger.as_dict()["removed"] == 1


def test_a_sync_of_a_damaged_source_removes_nothing(store: Store, tmp_path: Path) -> None:
    records = make_records(3)
    ingest_lists(store, tmp_path, records)
    file = tmp_path / "list0.jsonl"
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([lines[0], lines[1][:40], lines[2]]), encoding="utf-8")
    ledger = ingest(store, HashingEncoder(), [file], reading=Reading(sync=True))
    assert store.counts()[0] == 3
    assert "nothing was removed" in ledger.sources[0].warnings[0]


def test_a_dry_run_counts_as_the_run_would_and_keeps_nothing(store: Store, tmp_path: Path) -> None:
    records = make_records(6)
    ingest_lists(store, tmp_path, records[:2])
    before, epoch = store.digest(), store.epoch
    file = write_jsonl(tmp_path / "more.jsonl", [*records, records[5], {"title": "bare"}])
    dry = ingest(store, HashingEncoder(), [file], reading=Reading(dry=True))
    assert (store.digest(), store.epoch, dry.papers) == (before, epoch, 6)
    assert list((tmp_path / "library").glob("refused/*")) == []
    assert counts(dry) == counts(ingest(store, HashingEncoder(), [file])) == {
        "new": 4, "updated": 2, "merged": 1, "rejected": 1,
    }  # fmt: skip


# --- The ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_names_what_became_of_every_record(store: Store, tmp_path: Path) -> None:
    records = make_records(2)
    (run,) = ingest_lists(store, tmp_path, [*records, records[0], {"title": "bare"}])
    assert run == {"new": 2, "merged": 1, "rejected": 1}
    events = [(where, kind, paper is not None, reason) for _, where, kind, paper, reason in store.events()]
    assert events == [
        ("line 1", "new", True, None),
        ("line 2", "new", True, None),
        ("line 3", "merged", True, None),  # it says what line 1 says
        ("line 4", "rejected", False, "no abstract for the title 'bare'"),
    ]
    ingest_lists(store, tmp_path, records)
    assert [kind for _, _, kind, _, _ in store.events()] == ["unchanged", "unchanged"]


def test_what_was_refused_can_be_mended_and_ingested(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"title": "Bare", "year": 2001}\n{"title": "Cut", "abstr\n', encoding="utf-8")
    ledger = ingest(store, HashingEncoder(), [file])
    assert ledger.sources[0].mend is not None
    mend = Path(ledger.sources[0].mend)
    refused = [json.loads(line) for line in mend.read_text("utf-8").splitlines()]
    assert [each["_where"] for each in refused] == ["line 1", "line 2"]
    assert "Cut" in refused[1]["_text"]
    refused[0]["abstract"] = SURVEY
    refused[1] |= {"title": "Cut", "abstract": SURVEY}
    write_jsonl(mend, refused)
    assert counts(ingest(store, HashingEncoder(), [mend])) == {"new": 2}
    assert {paper.title: paper.year for paper in store.papers()} == {"Bare": 2001, "Cut": None}
    ingest(store, HashingEncoder(), [write_jsonl(file, refused)])
    assert not mend.exists(), "nothing is refused any more"


def test_fields_are_found_where_the_user_says(store: Store, tmp_path: Path) -> None:
    record = {"headline": "Kettles", "blurb": SURVEY, "when": "spring 2019", "title": "no"}
    (run,) = ingest_lists(store, tmp_path, [record], mapping={"title": "headline", "abstract": "blurb", "year": "when"})
    assert run == {"new": 1}
    (paper,) = store.papers()
    assert (paper.title, paper.year) == ("Kettles", 2019)


def test_what_was_stored_without_an_encoder_is_encoded_by_the_next_ingest(store: Store, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", make_records(70))
    ingest(store, None, [file])
    assert store.counts() == (70, 0) and len(store.waiting()) == 70
    ledger = ingest(store, HashingEncoder(), [file])
    assert (counts(ledger), ledger.encoded) == ({"unchanged": 70}, 70)
    assert not store.waiting()


@pytest.mark.parametrize("packed", [False, True])
def test_with_sync_a_file_that_is_gone_from_its_folder_takes_its_papers_along(
    store: Store, tmp_path: Path, *, packed: bool
) -> None:
    records, home = make_records(4), tmp_path / "lists"
    home.mkdir()

    def run(*names: str, sync: bool) -> Ledger:
        for file in home.iterdir():
            file.unlink()
        for name in names:
            write_jsonl(home / f"{name}.jsonl", records[:2] if name == "a" else records[2:])
        sources = sorted(home.iterdir())
        if packed:
            with zipfile.ZipFile(tmp_path / "lists.zip", "w") as archive:
                for file in sources:
                    archive.write(file, file.name)
            sources = [tmp_path / "lists.zip"]
        folders = () if packed else (str(home.resolve()),)
        return ingest(store, HashingEncoder(), sources, reading=Reading(sync=sync, folders=folders))

    run("a", "b", sync=False)
    assert run("a", sync=False).as_dict()["removed"] == 0 and store.counts()[0] == 4
    ledger = run("a", sync=True)
    assert ledger.as_dict()["removed"] == 2 and store.counts()[0] == 2
    assert [source.good for source in ledger.sources] == [True, True] and ledger.sources[1].source.endswith("b.jsonl")


# --- The saved pages --------------------------------------------------------------------------------------------------

PAGES = sorted((TEST_DATA / "corpus").glob("*.txt"))


@pytest.mark.skipif(not PAGES, reason=f"no saved pages in {TEST_DATA / 'corpus'}; see ASSISTANT_TEST_DATA")
@pytest.mark.parametrize("cut", [1, 2, 7])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("runs", [1, 5])
def test_the_saved_pages_give_451_papers_however_they_come(
    store: Store, tmp_path: Path, cut: int, *, backwards: bool, runs: int
) -> None:
    parts = []
    for page in PAGES:
        lines = page.read_text("utf-8").splitlines(keepends=True)
        abstracts = [i for i, line in enumerate(lines, 1) if len(line.strip()) >= 200]
        edges = [0, *(abstracts[len(abstracts) * i // cut - 1] for i in range(1, cut)), len(lines)]
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            parts.append(tmp_path / f"{page.stem}-{i}.txt")
            parts[-1].write_text("".join(lines[low:high]), encoding="utf-8")
    parts = parts[::-1] if backwards else parts
    batches = [parts[len(parts) * i // runs : len(parts) * (i + 1) // runs] for i in range(runs)]
    totals = [ingest(store, None, batch).totals for batch in batches]
    assert sum(each["found"] for each in totals) == 527 and not any(each["rejected"] for each in totals)
    assert sum(each["new"] for each in totals) == store.counts()[0] == 451
