from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import CorpusError
from assistant.identity import contradict, keys_of, merge, normalised_title, same_abstract
from assistant.papers import Record, Rejected
from assistant.sources import open_source

ABSTRACT = "We measure how long a kettle takes to boil and report the time for each of its sizes in a table. " * 4


def read(path: Path) -> tuple[list[Record], list[Rejected]]:
    items = [item for opened in open_source(path) for item in opened.items]
    return [x for x in items if isinstance(x, Record)], [x for x in items if isinstance(x, Rejected)]


def page(path: Path, *lines: str, gap: str = "\n") -> Path:
    path.write_text(gap.join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_a_page_with_and_without_blank_lines_gives_its_papers_alone(tmp_path: Path, gap: str) -> None:
    header = [
        "new",
        "Get trending papers in your email inbox!",
        "Subscribe",
        "byAK and the research community",
        "Mar 14",
    ]
    file = page(tmp_path / "page.txt", *header, "Kettles", ABSTRACT, "Pots: A Survey", ABSTRACT + "More.", gap=gap)
    records, rejected = read(file)
    assert [record.title for record in records] == ["Kettles", "Pots: A Survey"]
    assert records[0].abstract == ABSTRACT.strip()
    assert rejected == []


def test_a_title_glued_to_the_subscribe_line_is_freed(tmp_path: Path) -> None:
    records, _ = read(page(tmp_path / "page.txt", "SubscribeKettles at Work", ABSTRACT))
    assert records[0].title == "Kettles at Work"


def test_a_title_without_an_abstract_is_refused_by_line_and_costs_no_neighbour(tmp_path: Path) -> None:
    records, rejected = read(page(tmp_path / "page.txt", "First", ABSTRACT, "Orphan", "Second", ABSTRACT, "Last one"))
    assert [record.title for record in records] == ["First", "Second"]
    assert [one.where for one in rejected] == ["line 3", "line 6"]
    assert "Orphan" in rejected[0].reason


def test_an_abstract_without_a_title_is_refused(tmp_path: Path) -> None:
    _, rejected = read(page(tmp_path / "page.txt", "T", ABSTRACT, ABSTRACT))
    assert [(one.where, one.reason) for one in rejected] == [("line 3", "an abstract with no title before it")]


def test_json_lines_name_each_bad_line_and_keep_the_good_ones(tmp_path: Path) -> None:
    good = [json.dumps({"title": f"T{i}", "abstract": f"Abstract number {i}."}) for i in range(5)]
    lines = [
        good[0],
        good[1],
        '{"title": broken',
        good[3],
        "[1, 2]",
        '"text"',
        '{"title": "x"}',
        '{"abstract": 5}',
        "[" * 100_000,
    ]
    lines.append('{"title": "n", "abstract": "a", "year": ' + "9" * 5000 + "}")
    file = tmp_path / "five.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    records, rejected = read(file)
    assert [record.title for record in records] == ["T0", "T1", "T3"]
    assert [one.where for one in rejected] == [f"line {n}" for n in (3, 5, 6, 7, 8, 9, 10)]


def test_beir_names_are_understood(tmp_path: Path) -> None:
    file = write_jsonl(
        tmp_path / "corpus.jsonl", [{"_id": "4983", "title": "", "text": "Kettles boil.", "metadata": {}}]
    )
    (record,), _ = read(file)
    assert (record.own_id, record.title, record.abstract) == ("4983", "", "Kettles boil.")


def test_metadata_is_read_and_checked(tmp_path: Path) -> None:
    raw = {
        "title": "T", "abstract": "A b c.", "authors": [{"name": "Ada Lovelace"}, "Alan Turing"], "year": "2021-05-01",
        "venue": "CVPR", "doi": "https://doi.org/10.1000/XYZ.", "arxiv_id": "1706.03762v5",
        "url": "javascript:alert(1)",
    }  # fmt: skip
    (record,), _ = read(write_jsonl(tmp_path / "x.jsonl", [raw]))
    assert record.authors == ("Ada Lovelace", "Alan Turing")
    assert (record.year, record.venue, record.doi, record.arxiv_id) == (2021, "CVPR", "10.1000/xyz", "1706.03762")
    assert record.url is None


def test_an_abstract_of_ten_megabytes_is_refused_and_the_next_line_read(tmp_path: Path) -> None:
    file = write_jsonl(
        tmp_path / "big.jsonl", [{"title": "big", "abstract": "x " * 5_000_000}, {"title": "ok", "abstract": "Fine."}]
    )
    records, rejected = read(file)
    assert [record.title for record in records] == ["ok"]
    assert rejected[0].where == "line 1"
    assert "10,000,000 characters" in rejected[0].reason


def test_a_long_title_is_cut_with_a_warning(tmp_path: Path) -> None:
    (record,), _ = read(write_jsonl(tmp_path / "x.jsonl", [{"title": "t" * 1500, "abstract": "Fine."}]))
    assert len(record.title) == 1000
    assert "1,500" in (record.warning or "")


def test_a_lone_surrogate_is_dropped_and_the_record_kept(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"title": "a\\ud800b", "abstract": "c\\udfffd is fine."}\n', encoding="utf-8")
    (record,), _ = read(file)
    assert (record.title, record.abstract) == ("ab", "cd is fine.")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\n \n", "empty"), (bytes(range(256)) * 40, "no text"), (None, "No such file")],
)
def test_what_is_no_corpus_is_refused_by_name(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "odd.bin"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CorpusError, match=reason) as caught:
        read(file)
    assert "odd.bin" in str(caught.value)


def test_titles_are_compared_without_case_accents_and_punctuation() -> None:
    assert normalised_title("Memorize, Factorize, or be Naïve: X") == normalised_title(
        "memorize factorize or be naive — x"
    )


def test_the_same_title_with_another_abstract_is_another_paper() -> None:
    assert same_abstract(ABSTRACT, ABSTRACT[:200])
    assert not same_abstract(
        ABSTRACT, "An entirely different study of the boiling of water in high mountains and at sea."
    )


def test_two_dois_are_two_papers() -> None:
    assert contradict(["doi:10.1/a"], ["doi:10.1/b", "title:t"])
    assert not contradict(["doi:10.1/a"], ["doi:10.1/a", "title:t"])
    assert not contradict(["doi:10.1/a"], ["title:t", "arxiv:1706.03762"])


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("10.1000/XYZ", ["doi:10.1000/xyz"]),
        ("doi:10.1000/xyz", ["doi:10.1000/xyz"]),
        ("https://doi.org/10.1000/xyz", ["doi:10.1000/xyz"]),
        ("1706.03762v5", ["arxiv:1706.03762"]),
        ("arXiv:1706.03762", ["arxiv:1706.03762"]),
        ("https://arxiv.org/pdf/1706.03762v5.pdf", ["arxiv:1706.03762"]),
        ("10.48550/arXiv.1706.03762", ["arxiv:1706.03762"]),
        ("https://huggingface.co/papers/1706.03762", ["arxiv:1706.03762"]),
        ("hep-th/9901001", ["arxiv:hep-th/9901001"]),
        ("PMID: 123456", ["pmid:123456"]),
        ("https://pubmed.ncbi.nlm.nih.gov/123456/", ["pmid:123456"]),
        ("some-paper-1a2b3c4d", []),
    ],
)
def test_a_paper_is_named_as_people_write_it(name: str, keys: list[str]) -> None:
    assert keys_of(name) == keys


RECORDS = st.lists(
    st.builds(
        Record,
        where=st.just(""),
        title=st.sampled_from(["Kettles", "kettles", "KETTLES!"]),
        abstract=st.sampled_from(["a b c", "a b c d e", "x y z w v"]),
        year=st.one_of(st.none(), st.integers(1990, 2025)),
        venue=st.one_of(st.none(), st.sampled_from(["A", "B"])),
        authors=st.sampled_from([(), ("Ada",), ("Ada", "Bob")]),
    ),
    min_size=1,
    max_size=5,
)


@given(records=RECORDS, data=st.data())
def test_merged_fields_do_not_depend_on_the_order_of_records(records: list[Record], data: st.DataObject) -> None:
    assert merge(data.draw(st.permutations(records))) == merge(records)
