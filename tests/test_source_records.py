"""JSON as services and programs write it, in every layout, whole, damaged and hostile."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import Sample

from assistant.errors import CorpusError
from assistant.papers import Raw, Record, Rejected, to_record
from assistant.sources.content import Content
from assistant.sources.jats import element_text, plain_text
from assistant.sources.json_text import RECORD_CHARS, split
from assistant.sources.records import FORMS, form_of, read_json

# --- One record of each service, as it writes them --------------------------------------------------------------------


def arxiv(n: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"2101.{n:05d}", "submitter": "Ada Author", "authors": "Ada Author, Bö Writer Jr. and C. d'Made",
        "title": f"A Made-Up\n  Snapshot {n}", "comments": "12 pages", "journal-ref": "Made Phys.Rev.D1:2021",
        "doi": "10.1000/Made.D.1", "report-no": None, "categories": "hep-ph cs.LG", "license": None,
        "abstract": '  We made up $x^2 \\leq 1$ and\nbroke the line. It is "quoted"\nand has {braces}.\n',
        "versions": [
            {"version": "v1", "created": "Mon, 4 Jan 2021 19:18:42 GMT"},
            {"version": "v2", "created": "Tue, 24 Jul 2023 20:10:27 GMT"},
        ],
        "update_date": "2023-07-24",
        "authors_parsed": [["Author", "Ada", ""], ["Writer", "Bö", "Jr."], ["d'Made", "C.", ""]],
        **other,
    }  # fmt: skip


def openalex(n: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"https://openalex.org/W{n}", "doi": f"https://doi.org/10.1000/open.{n}",
        "title": f"An <i>Open</i> Work {n}", "display_name": f"An <i>Open</i> Work {n}", "publication_year": 2022,
        "publication_date": "2022-05-01",
        "ids": {"openalex": f"https://openalex.org/W{n}", "pmid": f"https://pubmed.ncbi.nlm.nih.gov/{1000 + n}"},
        "primary_location": {
            "is_oa": True, "landing_page_url": f"https://doi.org/10.1000/open.{n}", "pdf_url": None,
            "source": {"id": "https://openalex.org/S1", "display_name": "Journal of Made Works", "issn_l": None},
        },
        "best_oa_location": None, "locations": [{"landing_page_url": f"https://arxiv.org/abs/2201.{n:05d}"}],
        "authorships": [
            {"author_position": "first", "author": {"id": "https://openalex.org/A1", "display_name": "Ada Author"}},
            {"author_position": "last", "author": {"id": "https://openalex.org/A2", "display_name": "Bö Writer"}},
        ],
        "concepts": [{"id": "https://openalex.org/C1", "display_name": "Making"}] * 2,
        "abstract_inverted_index": {"Words": [0], "come": [1, 4], "back": [2], "as": [3], "they": [5], "went.": [6]},
        **other,
    }  # fmt: skip


def s2(n: int, **other: Any) -> dict[str, Any]:
    return {
        "paperId": f"{n:040x}",
        "externalIds": {"ArXiv": f"2301.{n:05d}", "DOI": f"10.1000/s2.{n}", "PubMed": "777", "CorpusId": 9000 + n},
        "url": f"https://www.semanticscholar.org/paper/{n:040x}", "title": f"A Scholarly Paper {n}",
        "abstract": "Semantics are made up here.", "venue": "", "year": 2023, "publicationVenue": None,
        "journal": {"name": "Made Scholar", "pages": "1-9", "volume": "3"},
        "authors": [{"authorId": "1", "name": "Ada Author"}, {"authorId": None, "name": "Bö Writer"}],
        **other,
    }  # fmt: skip


FULL_TEXT = "\nA Full Paper\nAda Author\nThe abstract is here.\n\nIt has two parts.\n\nIntroduction follows."


def span(text: str) -> dict[str, int]:
    return {"end": FULL_TEXT.index(text) + len(text), "start": FULL_TEXT.index(text)}


def s2orc(n: int) -> dict[str, Any]:
    annotations = {
        "title": json.dumps([span("A Full Paper")]), "author": json.dumps([span("Ada Author")]), "venue": None,
        "abstract": json.dumps([span("It has two parts."), span("The abstract is here.")]),
    }  # fmt: skip
    return {
        "corpusid": n,
        "externalids": {"arxiv": None, "pubmed": "888", "doi": "10.1000/full", "mag": None},
        "content": {"source": {"pdfurls": None}, "text": FULL_TEXT, "annotations": annotations},
        "updated": "2023-02-02T02:02:02.002Z",
    }


def crossref(n: int, **other: Any) -> dict[str, Any]:
    return {
        "indexed": {"date-parts": [[2024, 1, 2]], "timestamp": 17041}, "reference-count": 1, "publisher": "Made",
        "DOI": f"10.1000/cr.{n}", "type": "journal-article", "prefix": "10.1000", "member": "1",
        "title": [f"Crossing References {n}"], "subtitle": ["A made-up case"],
        "abstract": "<jats:title>Abstract</jats:title><jats:sec><jats:title>Background</jats:title><jats:p>CO"
        "<jats:sub>2</jats:sub> fell by 10<jats:sup>-5</jats:sup> (p&lt;0.05).</jats:p></jats:sec><jats:sec>"
        "<jats:title>Results:</jats:title><jats:p>It did <jats:italic>not</jats:italic> rise&nbsp;again."
        "</jats:p></jats:sec>",
        "author": [
            {"given": "Ada", "family": "Author", "sequence": "first", "affiliation": [{"name": "Made University"}]},
            {"name": "The Made Group", "sequence": "additional", "affiliation": []},
        ],
        "container-title": ["Journal of Crossings"], "issued": {"date-parts": [[2019, 7]]},
        "reference": [{"key": "r1", "DOI": "10.1000/other", "article-title": "Not this one"}],
        "URL": f"https://doi.org/10.1000/cr.{n}", **other,
    }  # fmt: skip


def csl(n: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"author{n}", "type": "article-journal", "title": f"A <i>Styled</i> Citation {n}",
        "abstract": "Citations are styled.", "container-title": "Made Styles", "DOI": f"10.1000/csl.{n}",
        "URL": f"https://example.org/{n}", "note": "arXiv:2105.00001 [cs]\nPMID: 4242",
        "author": [
            {"family": "Beethoven", "given": "Ada", "non-dropping-particle": "van"},
            {"literal": "The Made Consortium"},
        ],
        "issued": {"date-parts": [["2018", 3, 1]]}, **other,
    }  # fmt: skip


def zotero(n: int, **other: Any) -> dict[str, Any]:
    return {
        "key": f"KEY{n}", "version": 7, "itemType": "preprint", "title": f"A Kept Preprint {n}",
        "creators": [
            {"creatorType": "editor", "firstName": "No", "lastName": "Author"},
            {"creatorType": "author", "firstName": "Ada", "lastName": "Author"},
            {"creatorType": "author", "name": "The Made Lab"},
        ],
        "abstractNote": "Zotero keeps it.", "repository": "arXiv", "archiveID": f"arXiv:2106.{n:05d}",
        "date": "2021-06-12", "DOI": f"10.48550/arXiv.2106.{n:05d}", "url": f"http://arxiv.org/abs/2106.{n:05d}",
        "extra": "PMID: 99", "tags": [{"tag": "made"}], **other,
    }  # fmt: skip


def europepmc(n: int, **other: Any) -> dict[str, Any]:
    return {
        "id": str(3000 + n), "source": "MED", "pmid": str(3000 + n), "doi": f"10.1000/epmc.{n}",
        "title": f"European Findings {n}.", "authorString": "Author A, Writer B.",
        "journalInfo": {"issue": "1", "journal": {"title": "Made Medicine", "medlineAbbreviation": "Made Med"}},
        "pubYear": "2017", "abstractText": "<h4>Background</h4>Why it was made. <h4>Findings</h4>It was made up.",
        "isOpenAccess": "N", **other,
    }  # fmt: skip


def hf(n: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"2401.{n:05d}", "title": f"A Daily Paper {n}", "summary": "It came today.\nIt was made up.",
        "authors": [{"_id": "65", "name": "Ada Author", "hidden": False}, {"_id": "66", "name": "Bö Writer"}],
        "publishedAt": "2024-01-03T18:59:59.000Z", "upvotes": 7, **other,
    }  # fmt: skip


def lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in objects)


def text(value: Any, **options: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **options).encode()


ARXIV = "A Made-Up Snapshot"
SAMPLES = [
    Sample(
        "arxiv", "arxiv-metadata-oai-snapshot.json",
        lines(arxiv(1), arxiv(2, **{"doi": None, "journal-ref": None}))
        + b'{"id":"2101.00003","submitter":"Ada","title":"A Cut {"id":"2101.00004"\n'
        + lines(arxiv(5))
        + b'{"id": "2101.00006", "title": "A wrong \\escape", "abstract": "x", "categories": "cs.CL"}\n'
        + b"\n# a comment\n"
        + lines(arxiv(7, abstract=""))
        + b'{"id":"2101.00008","title":"N\xe4chste","categories":"cs","update_date":"2021",'
        + b'"abstract":"Latin-1: \xe9."}\n' + b"[" * 50_000 + b"\n" + b'{"id":1' + b"0" * 5_000 + b"}\n"
        + lines(arxiv(9))[:-200],
        (f"{ARXIV} 1", f"{ARXIV} 2", f"{ARXIV} 5", "Nächste"),
        (
            ("line 3", "invalid JSON"), ("lines 5-7", "escape"), ("line 8", "no abstract"),
            ("line 10", "nested"), ("line 11", "digits"), ("line 12", "cut off"),
        ),
    ),
    Sample(
        "openalex", "works.json",
        text({"meta": {"count": 5, "page": 1}, "results": [openalex(n) for n in range(4)], "group_by": []})
        .replace(b'"title": "An <i>Open</i> Work 1"', b'"title: "An <i>Open</i> Work 1"'),
        ("An Open Work 0", "An Open Work 2", "An Open Work 3"),
        (("record 2 (line 1)", "delimiter"),),
    ),
    Sample(
        "openalex", "openalex.jsonl",
        lines(
            openalex(1), openalex(2, abstract_inverted_index=None),
            openalex(3, abstract_inverted_index={"x": [10**15]}),
            openalex(4, abstract_inverted_index={"w" * 9_999: list(range(9_999))}),
            openalex(5, abstract_inverted_index={"x": ["1"]}), openalex(6, primary_location=None, authorships=None),
        ),
        ("An Open Work 1", "An Open Work 6"),
        (("line 2", "no abstract"), ("line 3", "'x' at 1000000000000000"), ("line 4", "600,000"),
         ("line 5", "'x' at 1")),
    ),
    Sample(
        "s2", "search.json",
        text({"total": 4, "offset": 0, "data": [s2(1), s2(2, abstract=None), s2(3), {"paperId": None}]}, indent=1),
        ("A Scholarly Paper 1", "A Scholarly Paper 3"),
        (("record 2 (line 35)", "no abstract"), ("record 4 (line 95)", "no abstract")),
    ),
    Sample(
        "s2", "s2orc.jsonl",
        lines(s2orc(1), s2(2)) + text(s2orc(3)).replace(b'"start\\": ', b'"start\\": 9') + b"\n",
        ("A Full Paper", "A Scholarly Paper 2"),
        (("line 3", "is said to be at"),),
    ),
    Sample(
        "s2", "references.json",
        text({"offset": 0, "data": [{"isInfluential": True, "citedPaper": s2(1)}, {"citedPaper": s2(2)}]}),
        ("A Scholarly Paper 1", "A Scholarly Paper 2"),
    ),
    Sample(
        "crossref", "crossref.json",
        text({"status": "ok", "message-type": "work-list", "message-version": "1.0.0",
              "message": {"facets": {}, "total-results": 2, "items": [crossref(1), crossref(2, abstract=None)],
                          "items-per-page": 20}}),
        ("Crossing References 1: A made-up case",),
        (("record 2 (line 1)", "no abstract"),),
    ),
    Sample(
        "crossref", "one-work.json",
        text({"status": "ok", "message-type": "work", "message": crossref(1, subtitle=[])}, indent=2),
        ("Crossing References 1",),
    ),
    Sample(
        "csl", "citations.json",
        text([csl(1), csl(2), {"id": 3, "type": "book", "title": ["x", 5]}, csl(4)], indent="\t")
        .replace(b'"type": "article-journal",\n\t\t"title": "A <i>Styled</i> Citation 2"', b'"type": ,'),
        ("A Styled Citation 1", "A Styled Citation 4"),
        (("record 2 (lines 31-58)", "Expecting value"), ("record 3 (line 59)", "list")),
    ),
    Sample(
        "csl", "zotero-api.json",
        text([{"key": "K1", "version": 7, "library": {"type": "user"}, "meta": {}, "data": zotero(1)},
              {"key": "K2", "data": {"key": "K2", "itemType": "attachment", "title": "PDF"}}], indent=4),
        ("A Kept Preprint 1",),
        (("record 2 (line 44)", "no abstract"),),
    ),
    Sample(
        "csl", "better-bibtex.json",
        text({"config": {"id": "36a3b0b5", "label": "BetterBibTeX JSON"}, "version": {"bbt": "7"}, "collections": {},
              "items": [zotero(1, citationKey="made2021"), zotero(2)]}, indent=2),
        ("A Kept Preprint 1", "A Kept Preprint 2"),
    ),
    Sample(
        "europepmc", "europepmc.json",
        text({"version": "6.9", "hitCount": 2, "request": {"queryString": "made", "resultType": "core"},
              "resultList": {"result": [europepmc(1), europepmc(2, abstractText="")]}}),
        ("European Findings 1.",),
        (("record 2 (line 1)", "no abstract"),),
    ),
    Sample(
        "hf-papers", "daily_papers.json",
        text([{"paper": hf(n), "publishedAt": "2024-01-04T00:00:00.000Z", "title": f"A Daily Paper {n}",
               "numComments": 0, "submittedBy": {"fullname": "Ada"}} for n in (1, 2)])[:-40],
        ("A Daily Paper 1",),
        (("record 2 (line 1)", "cut off"),),
    ),
    Sample(
        "jsonl", "corpus.jsonl",
        lines({"_id": "1", "title": "A BEIR Text", "text": "It is short.", "metadata": {"url": "https://e.org/1"}},
              {"_id": "2", "title": "", "text": "", "metadata": {}}, [1, 2], "text", 5)
        + b'\x1e{"title": "After a Separator", "abstract": "RFC 7464 has it.", "year": NaN}\n'
        + b'{"title": "Twice", "title": "The Last of Two", "abstract": "Keys may come twice."}{"title": "On the Same '
        + b'Line", "abstract": "They do."}\n\0\0\0\n{"title": "A nul \0", "abstract": "b"}\n'
        + b'{"title": "A \\ud800Surrogate", "abstract": "It is alone \\udfff."},\n{"title": 5, "abstract": "x"}\n'
        + lines({"title": "Pretty", "abstract": "On many lines."}).replace(b", ", b",\n   "),
        ("A BEIR Text", "After a Separator", "The Last of Two", "On the Same Line", "A Surrogate", "Pretty"),
        (
            ("line 2", "no abstract"), ("line 3", "list"), ("line 4", "str"), ("line 5", "int"), ("line 8", "invalid"),
            ("line 9", "control character"), ("line 11", "int"),
        ),
    ),
    Sample(
        "jsonl", "one-line.json",
        b'[{"title": "One", "abstract": "a"}, {"title": "Two, "abstract": "b"}, {"title": "Three", "abstract": "c"},'
        b'{"title": "Four", "abstract": "d",}, {"name": "Five", "text": "e", /* no */ }, {"x": {"title": "six", '
        b'{"title": "Seven", "abstract": "g"}}, 8, {"title": "Nine", "abstract": "i"}',
        ("One", "Three", "Seven", "Nine"),
        (
            ("record 2 (line 1)", "delimiter"), ("record 4 (line 1)", "property"), ("record 5 (line 1)", "property"),
            ("record 6 (line 1)", "property"), ("record 8 (line 1)", "Expecting"), ("record 10 (line 1)", "list"),
        ),
    ),
]  # fmt: skip


def content(data: bytes | Iterator[bytes], name: str = "made.json") -> Content:
    return Content(name, io.BytesIO(data) if isinstance(data, bytes) else data)


def read(data: bytes) -> tuple[list[Record], list[Rejected]]:
    """Read JSON of any layout, as the gate of all sources takes it."""
    items = [to_record(item) if isinstance(item, Raw) else item for item in read_json(content(data))]
    return [each for each in items if isinstance(each, Record)], [each for each in items if isinstance(each, Rejected)]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda each: each.name)
def test_each_sample_gives_its_good_records_and_names_its_bad_ones(sample: Sample) -> None:
    assert form_of(content(sample.content)) == sample.form
    assert [name for name, form in FORMS.items() if form.fits(content(sample.content))] == [sample.form]
    records, refused = read(sample.content)
    assert [each.title for each in records] == list(sample.titles)
    assert [each.where for each in refused] == [where for where, _ in sample.bad]
    for each, (_, word) in zip(refused, sample.bad, strict=True):
        assert word in each.reason


# --- The fields of each -----------------------------------------------------------------------------------------------

FIELDS = [
    (arxiv(1), {
        "title": "A Made-Up Snapshot 1", "authors": ("Ada Author", "Bö Writer Jr.", "C. d'Made"), "year": 2021,
        "abstract": 'We made up $x^2 ≤ 1$ and broke the line. It is "quoted" and has {braces}.',
        "venue": "Made Phys.Rev.D1:2021", "doi": "10.1000/made.d.1", "arxiv_id": "2101.00001", "pmid": None,
        "url": "https://arxiv.org/abs/2101.00001", "own_id": "2101.00001",
    }),
    (openalex(5), {
        "title": "An Open Work 5", "abstract": "Words come back as come they went.", "year": 2022,
        "authors": ("Ada Author", "Bö Writer"), "venue": "Journal of Made Works", "doi": "10.1000/open.5",
        "arxiv_id": "2201.00005", "pmid": "1005", "url": "https://doi.org/10.1000/open.5", "own_id": "W5",
    }),
    (s2(6), {
        "authors": ("Ada Author", "Bö Writer"), "year": 2023, "venue": "Made Scholar", "doi": "10.1000/s2.6",
        "arxiv_id": "2301.00006", "pmid": "777", "own_id": f"{6:040x}",
    }),
    ({"contexts": [], "citingPaper": s2(6)}, {"title": "A Scholarly Paper 6", "doi": "10.1000/s2.6"}),
    (s2orc(7), {
        "title": "A Full Paper", "abstract": "The abstract is here. It has two parts.", "doi": "10.1000/full",
        "pmid": "888", "own_id": "7",
    }),
    ({"id": "ab", "title": "Old", "paperAbstract": "It is older.", "authors": [{"name": "Ada Author", "ids": ["1"]}],
      "s2Url": "https://semanticscholar.org/paper/ab", "year": 2016, "journalName": "DSH", "pmid": "12"},
     {"abstract": "It is older.", "authors": ("Ada Author",), "venue": "DSH", "pmid": "12", "own_id": "ab",
      "url": "https://semanticscholar.org/paper/ab"}),
    ({"corpusid": 5, "openaccessinfo": {"externalids": {}}, "abstract": "Bulk.", "updated": "2023"}, {"own_id": "5"}),
    (crossref(8), {
        "title": "Crossing References 8: A made-up case", "authors": ("Ada Author", "The Made Group"), "year": 2019,
        "abstract": "Background: CO2 fell by 10^-5 (p<0.05). Results: It did not rise again.",
        "venue": "Journal of Crossings", "doi": "10.1000/cr.8", "url": "https://doi.org/10.1000/cr.8",
    }),
    (crossref(8, issued={"date-parts": [[None]]}, created={"date-parts": [[2020, 1, 1]]}), {"year": 2020}),
    (csl(9), {
        "title": "A Styled Citation 9", "authors": ("Ada van Beethoven", "The Made Consortium"), "year": 2018,
        "venue": "Made Styles", "doi": "10.1000/csl.9", "arxiv_id": "2105.00001", "pmid": "4242",
        "url": "https://example.org/9", "own_id": "author9",
    }),
    (zotero(10), {
        "abstract": "Zotero keeps it.", "authors": ("Ada Author", "The Made Lab"), "year": 2021, "venue": "arXiv",
        "arxiv_id": "2106.00010", "pmid": "99", "own_id": "KEY10", "url": "http://arxiv.org/abs/2106.00010",
    }),
    ({"key": "TOP", "data": zotero(10, key="IN")}, {"title": "A Kept Preprint 10", "own_id": "IN"}),
    (europepmc(11), {
        "abstract": "Background: Why it was made. Findings: It was made up.", "authors": ("Author A", "Writer B"),
        "year": 2017, "venue": "Made Medicine", "doi": "10.1000/epmc.11", "pmid": "3011", "own_id": "MED/3011",
        "url": "https://europepmc.org/article/MED/3011",
    }),
    (europepmc(1, authorList={"author": [{"fullName": "Author A", "firstName": "Ada", "lastName": "Author"},
                                         {"collectiveName": "Made Trial"}]}),
     {"authors": ("Ada Author", "Made Trial")}),
    ({"paper": hf(12), "numComments": 3}, {
        "abstract": "It came today. It was made up.", "authors": ("Ada Author", "Bö Writer"), "year": 2024,
        "arxiv_id": "2401.00012", "url": "https://huggingface.co/papers/2401.00012",
    }),
    ({"_id": "4983", "title": "B", "text": "Kettles boil.", "metadata": {"pubmed_id": "31", "year": 1999}},
     {"own_id": "4983", "abstract": "Kettles boil.", "pmid": "31", "year": 1999}),
    ({"id": "x-1", "title": "E", "url": None, "authors": ["Ada Author"], "year": 2020, "venue": None,
      "doi": "10.1000/e",
      "arxiv_id": None, "abstract": "Exported.", "aliases": ["pmid:55", "doi:10.1000/e"], "sources": ["a.json"]},
     {"own_id": "x-1", "pmid": "55", "doi": "10.1000/e", "authors": ("Ada Author",)}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "fields"), FIELDS)
def test_each_shape_gives_the_fields_it_has(value: dict[str, Any], fields: dict[str, Any]) -> None:
    (record,), refused = read(lines(value))
    assert not refused
    assert {name: getattr(record, name) for name in fields} == fields


def test_records_of_all_shapes_are_read_from_one_file() -> None:
    records, refused = read(lines(*(value for value, _ in FIELDS)))
    assert len(records) == len(FIELDS) and not refused


def test_an_object_of_no_known_shape_keeps_the_names_of_its_source() -> None:
    value = {"Name of it": "A title", "What it says": "It says so.", "DOI": "10.1000/x", "authors": ["Ada Author"]}
    (item,) = read_json(content(lines(value)))
    assert isinstance(item, Raw) and item.fields == value
    record = to_record(item, {"title": "Name of it", "abstract": "What it says"})
    assert isinstance(record, Record) and (record.title, record.doi) == ("A title", "10.1000/x")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_value_of_a_known_shape_stops_the_reader(data: st.DataObject) -> None:
    value = dict(data.draw(st.sampled_from([value for value, _ in FIELDS])))
    for name in data.draw(st.lists(st.sampled_from(sorted(value)), max_size=4)):
        value[name] = data.draw(JUNK)
        if isinstance(value[name], dict):
            value[name].update(data.draw(st.dictionaries(st.sampled_from(["text", "annotations", "author"]), JUNK)))
    records, refused = read(lines(value) + lines(arxiv(1)))
    assert records[-1].title == "A Made-Up Snapshot 1" and len(records) + len(refused) <= 4


# --- Layouts ----------------------------------------------------------------------------------------------------------

OBJECTS = st.lists(st.dictionaries(st.text(max_size=6), JUNK, max_size=4), max_size=6).map(
    lambda values: [{"title": f"{n}", "id": n, **value} for n, value in enumerate(values)]
)
LAYOUTS = [
    lambda dumped, values: "\n".join(dumped),
    lambda dumped, values: "".join(dumped),
    lambda dumped, values: "\r\n\r\n".join(dumped) + "\r\n",
    lambda dumped, values: "".join(f"\x1e{each}\n" for each in dumped),
    lambda dumped, values: "[" + ",".join(dumped) + "]",
    lambda dumped, values: "[\n" + ",\n".join(dumped) + "\n]\n",
    lambda dumped, values: json.dumps(values, indent=2),
    lambda dumped, values: json.dumps(values, indent=0, ensure_ascii=False),
    lambda dumped, values: "\n".join(json.dumps(each, indent="\t") for each in values),
    lambda dumped, values: '{"meta": {"n": [1]}, "results": [' + ", ".join(dumped) + '], "next": null}',
    lambda dumped, values: '{"status": "ok", "message": {"total": 3, "items": [' + ",".join(dumped) + '], "n": 2}}\n',
    lambda dumped, values: json.dumps({"resultList": {"result": values}, "hitCount": 3}, indent=3),
]


def same(value: Any) -> Any:
    """What JSON says of a value: NaN and the infinite are null."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


@settings(max_examples=300, deadline=None)
@given(OBJECTS, st.sampled_from(LAYOUTS), st.data())
def test_objects_come_back_from_every_layout_however_the_text_is_cut(
    values: list[Any], layout: Any, data: st.DataObject
) -> None:
    whole = layout([json.dumps(each) for each in values], values)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    size = data.draw(st.sampled_from([1, 3, 50, 10_000]))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    items = list(split(piece[i : i + size] for piece in pieces for i in range(0, len(piece), size)))
    assert [item.fields for item in items if isinstance(item, Raw)] == same(values)
    assert all(isinstance(item, Raw) for item in items)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(LAYOUTS), st.integers(0, 4), st.integers(1, 9), st.sampled_from(["", '"', "{", "}", "[", "]", ","])
)
def test_a_damaged_record_costs_no_other(layout: Any, at: int, cut: int, junk: str) -> None:
    values = [{"id": n, "title": f"Title {n}", "authors": [{"id": n, "name": "Ada"}], "text": "x"} for n in range(5)]
    whole = layout([json.dumps(each) for each in values], values)
    place = whole.index(f"Title {at}") + cut
    items = list(split([whole[:place] + junk + whole[place + 9 :]]))
    kept = [item.fields for item in items if isinstance(item, Raw)]
    assert [each for each in values if each["id"] != at] == [each for each in kept if each.get("id") != at]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_was_cut_off_keeps_what_is_whole_and_says_so(layout: Any) -> None:
    values = [{"id": n, "title": f"Title {n}", "text": "x"} for n in range(4)]
    whole = layout([json.dumps(each) for each in values], values)
    items = list(split([whole[: whole.index("Title 3")]]))
    assert [item.fields for item in items if isinstance(item, Raw)] == values[:3]
    (refused,) = (item for item in items if isinstance(item, Rejected))
    assert "cut off" in refused.reason and refused.damaged and refused.text.startswith("{")


def test_the_place_of_a_record_is_the_line_it_begins_in() -> None:
    values = [{"title": f"{n}", "text": ["a"] * n} for n in range(5)]
    whole = json.dumps({"results": values}, indent=2)
    begins = [n for n, line in enumerate(whole.split("\n"), 1) if line == "    {"]
    assert [item.where for item in split([whole])] == [f"record {n} (line {at})" for n, at in enumerate(begins, 1)]


def test_pages_of_replies_may_follow_each_other_or_stand_in_a_list() -> None:
    pages = [{"meta": {}, "results": [openalex(1), openalex(2)]}, {"data": [s2(3)]}, crossref(4), {"results": []}]
    for whole in (lines(*pages), text(pages), text(pages, indent=2)):
        records, refused = read(whole)
        assert [each.doi for each in records] == ["10.1000/open.1", "10.1000/open.2", "10.1000/s2.3", "10.1000/cr.4"]
        assert not refused


def test_utf_16_is_read_as_utf_8_is() -> None:
    whole = text([csl(1), csl(2)], indent=1).decode()
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        assert [each.title for each in read(whole.encode(encoding))[0]] == [
            "A Styled Citation 1",
            "A Styled Citation 2",
        ]


def test_what_keeps_the_text_from_being_read_on_is_told_after_what_came_before() -> None:
    def blocks() -> Iterator[str]:
        yield '{"title": "A"}\n{"title'
        raise CorpusError("the disk is gone")

    items = split(blocks())
    assert next(items).where == "line 1"
    assert "cut off" in next(items).reason
    with pytest.raises(CorpusError, match="the disk is gone"):
        next(items)


# --- Hostile files ----------------------------------------------------------------------------------------------------

GOOD = b'{"title": "Good", "abstract": "It is read."}'
LONG = b"x" * 1_000_000
HOSTILE = {
    "a long line": [b'{"title": "', *[LONG] * 40, b'"}\n', GOOD],
    "a long record in a list": [b'[{"title": "', *[LONG] * 40, b'"},', GOOD, b"]"],
    "a long number": [b'{"title": ', *[b"9" * 1_000_000] * 20, b"}\n", GOOD],
    "a deep record": [b'[{"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, b",", GOOD, b"]"],
    "deep lists": [b"[" * 5_000_000, b"\n", GOOD],
    "braces": [b"{" * 2_000_000, b"\n", GOOD],
    "quotes": [b'"' * 2_000_001, b"\n", GOOD],
    "keys": [b'{"a" ' * 200_000, b"\n", GOOD],
    "nothing": [b"\0" * 5_000_000, b"\n", GOOD],
    "commas": [b"," * 5_000_000, GOOD],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_bounded_in_memory_and_costs_no_good_neighbour(name: str) -> None:
    tracemalloc.start()
    try:
        items = list(read_json(content(iter(HOSTILE[name]))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [item.fields["title"] for item in items if isinstance(item, Raw)] == ["Good"]
    assert len([item for item in items if isinstance(item, Rejected)]) <= 40
    assert peak < 8 * RECORD_CHARS


def test_replies_within_replies_are_bounded() -> None:
    records, refused = read(b'{"data": [' * 400 + GOOD + b"]}" * 400 + b"\n" + GOOD)
    assert [each.title for each in records] == ["Good"]
    assert len(refused) == 1


@pytest.mark.parametrize(
    "other",
    [
        b"[1] A. Author. A title that begins like a list.\n\nAn abstract follows." + b" It is long." * 40,
        b"{A Title in Braces}\nAn abstract." + b" It is long." * 40,
        b'@article{author2021,\n  title = {A {"x": 1} Title},\n  abstract = {Words.}\n}\n',
        b'title,abstract\n"A","{""x"": 1}"\n',
        b"<feed><entry/></feed>",
        b'TY  - JOUR\nTI  - {"x": 1}\nER  - \n',
    ],
)
def test_what_is_no_json_is_not_taken_for_it(other: bytes) -> None:
    assert form_of(content(other)) is None
    assert not any(form.fits(content(other)) for form in FORMS.values())


def test_json_is_known_when_its_beginning_is_damaged_or_longer_than_what_is_looked_at() -> None:
    assert form_of(content(b'# exported\n"x": 1}\n' + lines(*(arxiv(n) for n in range(9))))) == "arxiv"
    assert form_of(content(text([openalex(1, referenced_works=["https://openalex.org/W1"] * 9_999)]))) == "openalex"


# --- Markup -----------------------------------------------------------------------------------------------------------

MARKUP = [
    ("no markup, a < b & c", "no markup, a < b & c"),
    ("<jats:title>ABSTRACT</jats:title><jats:p>Plain.</jats:p>", "Plain."),
    ("<p>Abstract</p><p>Plain.</p>", "Plain."),
    ("<jats:sec><jats:title>Aim:</jats:title><jats:p>To see.</jats:p></jats:sec>", "Aim: To see."),
    ("<jats:title>Why now?</jats:title><jats:p>Because.</jats:p>", "Why now? Because."),
    ("<jats:list><jats:list-item>One;</jats:list-item><jats:list-item>two.</jats:list-item></jats:list>", "One; two."),
    ("H<sub>2</sub>O, Ca<sup>2+</sup>, 10<sup>-5</sup> m<sup>2</sup>, e<sup>-x/2</sup>, 4<sup>th</sup>, <sup>18</sup>F",
     "H2O, Ca2+, 10^-5 m^2, e^(-x/2), 4th, 18F"),
    ("p<0.05, a<b and c>d, x <y> z, R&D, AT&amp;T, &nbsp;&alpha;&#946;&unknown; &#xD800;",
     "p<0.05, a<b and c>d, x <y> z, R&D, AT&T, αβ&unknown;"),
    ("&lt;p&gt;Escaped &lt;i&gt;twice&lt;/i&gt;.&lt;/p&gt;", "Escaped twice."),
    ("It explains the tag &lt;b&gt; <i>well</i>.", "It explains the tag <b> well."),
    ("One<br>two<BR/>three<p>four<p>five", "One two three four five"),
    ("<![CDATA[a < b]]> <!-- not this --> c <?php no ?>", "a < b c <?php no ?>"),
    (('<mml:math xmlns:mml="http://www.w3.org/1998/Math/MathML"><mml:msubsup> <mml:mi>x</mml:mi> <mml:mi>i</mml:mi>'
     "<mml:mn>2</mml:mn></mml:msubsup><mml:mo>≤</mml:mo><mml:mfrac><mml:mn>1</mml:mn><mml:mrow><mml:mi>n</mml:mi>"
     "<mml:mo>+</mml:mo><mml:mn>1</mml:mn></mml:mrow></mml:mfrac></mml:math>"), "x_i^2≤1/(n+1)"),
    (("of <jats:inline-formula><jats:alternatives><jats:tex-math>$$k_{\\bot }$$</jats:tex-math><mml:math><mml:mi>k"
     "</mml:mi></mml:math></jats:alternatives></jats:inline-formula>."), "of $k_{\\bot }$."),
    ("<tex-math>\\documentclass{minimal} \\begin{document}$$x^2$$\\end{document}</tex-math>", "$x^2$"),
    ("<math><semantics><mi>x</mi><annotation>\\tex</annotation></semantics></math>", "x"),
    ('<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><p>&a;</p>',
     '<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]> &a;'),
    ("<p>" * 1_000 + "deep" + "</p>" * 1_000, "deep"),
    ("a\0b <i>\ud800c</i>\u200b", "ab c"),
    ("<jats:p>never ended", "never ended"),
    ("</p></i>ended twice", "ended twice"),
    ("", ""),
]  # fmt: skip


@pytest.mark.parametrize(("markup", "plain"), MARKUP)
def test_markup_becomes_the_text_that_it_shows(markup: str, plain: str) -> None:
    assert plain_text(markup) == plain


PIECES = [
    "<p>", "</p>", "<", ">", "&", ";", "<!--", "-->", "<![CDATA[", "]]>", "<sup>", "x", "\0", "<mml:mfrac>", "</", "'",
    '"', "&#x110000;", "<jats:title>", " a='", "\ud800",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
def test_no_markup_stops_the_reader(markup: str) -> None:
    assert isinstance(plain_text(markup), str)


@pytest.mark.parametrize("piece", ["<", "&", "<!--", "<![CDATA[", "<p a='", "<p a=1 ", "<p>", "<sup>", "&#"])
def test_markup_without_end_is_read_in_linear_time(piece: str) -> None:
    assert isinstance(plain_text(piece * 100_000), str)


def test_an_element_read_already_gives_the_same_text() -> None:
    from lxml import etree

    abstract = etree.fromstring(
        '<Abstract><AbstractText Label="AIM">To see CO<sub>2</sub>.</AbstractText><AbstractText>So.</AbstractText>'
        "</Abstract>"
    )
    assert element_text(abstract) == "AIM: To see CO2. So."
