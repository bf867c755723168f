"""RIS, nbib, refer and Web of Science text as their producers write them, whole, damaged and hostile."""

# ruff: noqa: E501, W291 - files stand here as their producers write them

from __future__ import annotations

import io
from typing import Any

import pytest
from samples import Sample
from test_bibliography import HOSTILE, SAMPLE, WHOLE, line

from assistant.bibliography import ris as write_ris
from assistant.papers import Raw, Record, Rejected, to_record
from assistant.sources import tagged
from assistant.sources.content import Content
from assistant.sources.markup import given_first
from assistant.types import Paper

RIS = """Scopus
EXPORT DATE: 01 January 2024

TY  - JOUR
TI  - A Tagged Title with
      a second line
AU  - Author, Ada
AU  - Writer, Bo, Jr.
AU  - Made-Up Group
PY  - 2020/05/12/
T2  - Journal of Tags
J2  - J. Tags
AB  - It was wrapped,
as some programs do,
	with a tab.
DO  - https://doi.org/10.1000/RIS.1
UR  - Full text
UR  - https://example.invalid/1
AN  - WOS:000000000000001
KW  - tags
XX  - nobody knows this
ER  - 

TY  - CONF
T1  - First Without an End
A1  - Müller, Jérôme
Y1  - 2019///
N2  - It has no ER line; $x_i$ stays.
JF  - Proc. Tags
ID  - key2
AN  - arXiv:2101.00004
TY  - JOUR
TI  - No Abstract Here
ER  - 
ER  - 
lost lines between
two records
TY  - GEN
ER  - 
TI  - A Record without Its Type
AB  - Its first line was lost.
AN  - 10000041
DB  - PubMed
ER  -
TY  - UNPB
TI  - At the End of the File
AB  - No ER, no line end."""

NBIB = """
PMID- 10000051
OWN - NLM
STAT- MEDLINE
DP  - 2017 Jun 5
TI  - A saved record of PubMed that goes on in
      the next line.
LID - S0000-0000(17)30001-1 [pii]
LID - 10.1000/nbib.1 [doi]
AB  - BACKGROUND: It is labelled. RESULTS: And
      wrapped.
FAU - Author, Ada B
AU  - Author AB
FAU - Müller, Jérôme
AU  - Müller J
CN  - A Group
OAB - Otra cosa.
TA  - J Saved
JT  - Journal of saved records
AID - 10.1000/nbib.1 [doi]
SO  - J Saved. 2017 Jun 5.

PMID- 10000052
TI  - No abstract in this one.

text that nobody tagged
PMID- 10000053
BTI - A Book of Saves
TI  - A chapter
AB  - Of a book.
AID - NBK1 [bookaccession]
"""

REFER = """%0 Journal Article
%A Author, Ada
%A Writer, Bo
%T A Refer Title
%J Journal of Refer
%D 2015
%R 10.1000/refer.1
%U https://example.invalid/r
%X The abstract
is on two lines.
%@ 0000-0000
%F author2015

%0 Conference Proceedings
%T No Abstract
%B Proc. Refer
%D 2014
%0 Generic
%T Right after the Other
%B A Series
%X Without an empty line.
"""

WOS = """FN Clarivate Analytics Web of Science
VR 1.0
PT J
AU Author, A
   Writer, B
AF Author, Ada
   Writer, Bo
TI A Title of the Web
   in two lines
SO JOURNAL OF THE WEB
AB It is wrapped
   as well.
DI 10.1000/wos.1
PD JAN
PY 2018
UT WOS:000000000000002
PM 10000061
ER

PT J
TI No Abstract Either
ER

PT C
TI Lost Its End
AB But not its abstract.
PT J
AU Author, C
TI The Last of Them
AB Read.
PY 2001
ER

EF
"""

SAMPLES = [
    Sample("ris", "scopus.ris", RIS.encode(), (
        "A Tagged Title with a second line", "First Without an End", "A Record without Its Type", "At the End of the File",
    ), (("line 32", "no abstract"), ("line 36", "belongs to no record"), ("line 38", "none of its tags"))),
    Sample("ris", "windows.ris", b"\xef\xbb\xbf" + RIS.replace("\n", "\r\n").encode(), (
        "A Tagged Title with a second line", "First Without an End", "A Record without Its Type", "At the End of the File",
    ), (("line 32", "no abstract"), ("line 36", "belongs to no record"), ("line 38", "none of its tags"))),
    Sample("ris", "export.ris", "".join(write_ris(SAMPLE[:20])).encode(), tuple(p.title for p in SAMPLE[:20])),
    Sample("nbib", "pubmed.nbib", NBIB.encode(),
           ("A saved record of PubMed that goes on in the next line.", "A chapter"),
           (("line 23", "no abstract"), ("line 26", "belongs to no record"))),
    Sample("refer", "endnote.enw", REFER.encode(), ("A Refer Title", "Right after the Other"), (("line 14", "no abstract"),)),
    Sample("wos", "savedrecs.txt", WOS.encode(), ("A Title of the Web in two lines", "Lost Its End", "The Last of Them"),
           (("line 20", "no abstract"),)),
]  # fmt: skip


def read(form: str, text: str | bytes) -> list[Raw | Rejected]:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return list(tagged.FORMS[form].read(Content("made", io.BytesIO(content))))


def fields(item: Raw | Rejected) -> dict[str, Any]:
    """What a record says of the paper, without title, abstract and what is not known."""
    assert isinstance(item, Raw), item
    kept = to_record(item)
    assert isinstance(kept, Record), kept
    names = ("authors", "year", "venue", "doi", "arxiv_id", "pmid", "url", "own_id")
    return {name: getattr(kept, name) for name in names if getattr(kept, name)}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda each: each.name)
def test_each_sample_gives_all_its_good_records_and_names_the_bad_ones(sample: Sample) -> None:
    fitting = [name for name, form in tagged.FORMS.items() if form.fits(Content("x", io.BytesIO(sample.content)))]
    assert fitting == [sample.form]
    found = [to_record(item) if isinstance(item, Raw) else item for item in read(sample.form, sample.content)]
    assert tuple(item.title for item in found if isinstance(item, Record)) == sample.titles
    refused = [item for item in found if isinstance(item, Rejected)]
    assert [item.where for item in refused] == [where for where, _ in sample.bad], refused
    assert all(word in item.reason for item, (_, word) in zip(refused, sample.bad, strict=True)), refused


def test_a_record_of_ris_has_all_its_fields() -> None:
    found = read("ris", RIS)
    assert fields(found[0]) == {
        "authors": ("Ada Author", "Bo Writer Jr.", "Made-Up Group"), "year": 2020, "venue": "Journal of Tags",
        "doi": "10.1000/ris.1", "url": "https://example.invalid/1", "own_id": "WOS:000000000000001",
    }  # fmt: skip
    assert (
        isinstance(found[0], Raw) and found[0].fields["abstract"] == "It was wrapped, as some programs do, with a tab."
    )
    assert fields(found[1]) == {
        "authors": ("Jérôme Müller",), "year": 2019, "venue": "Proc. Tags", "arxiv_id": "2101.00004", "own_id": "key2",
    }  # fmt: skip
    assert fields(found[5]) == {"pmid": "10000041"}


def test_the_other_formats_have_their_fields() -> None:
    first, *_, chapter = read("nbib", NBIB)
    assert fields(first) == {
        "authors": ("Ada B Author", "Jérôme Müller"), "year": 2017, "venue": "Journal of saved records",
        "doi": "10.1000/nbib.1", "pmid": "10000051", "url": "https://pubmed.ncbi.nlm.nih.gov/10000051/",
    }  # fmt: skip
    assert isinstance(first, Raw) and first.fields["abstract"] == "BACKGROUND: It is labelled. RESULTS: And wrapped."
    assert fields(chapter)["venue"] == "A Book of Saves" and "doi" not in fields(chapter)
    assert fields(read("refer", REFER)[0]) == {
        "authors": ("Ada Author", "Bo Writer"), "year": 2015, "venue": "Journal of Refer", "doi": "10.1000/refer.1",
        "url": "https://example.invalid/r", "own_id": "author2015",
    }  # fmt: skip
    assert fields(read("wos", WOS)[0]) == {
        "authors": ("Ada Author", "Bo Writer"), "year": 2018, "venue": "JOURNAL OF THE WEB", "doi": "10.1000/wos.1",
        "pmid": "10000061", "url": "https://pubmed.ncbi.nlm.nih.gov/10000061/", "own_id": "WOS:000000000000002",
    }  # fmt: skip


@pytest.mark.parametrize("papers", [SAMPLE, [*HOSTILE, WHOLE]], ids=["sample", "hostile"])
def test_what_the_export_writes_as_ris_comes_back_the_same(papers: list[Paper]) -> None:
    found = read("ris", "".join(write_ris(papers)))
    assert len(found) == len(papers)
    for paper, item in zip(papers, found, strict=True):
        assert isinstance(item, Raw)
        for name in ("title", "abstract", "venue", "doi"):
            assert item.fields.get(name, "") == line(getattr(paper, name) or "")
        assert item.fields.get("year", "") == str(paper.year or "")
        assert item.fields.get("authors", []) == [given_first(line(each)) for each in paper.authors if line(each)]
        assert item.fields.get("arxiv_id", "") == (line(f"arXiv:{paper.arxiv_id}") if paper.arxiv_id else "")
        if (paper.url or "").startswith("http"):
            assert item.fields["url"] == line(paper.url).split(" ")[0]
        assert item.fields["own_id"] == paper.id


GOOD = "TY  - JOUR\nTI  - One\nAB  - First.\nER  - \n", "TY  - JOUR\nTI  - Two\nAB  - Second.\nER  - \n"


@pytest.mark.parametrize(("text", "reason"), [
    ("TY  - JOUR\nTI  - " + "a" * 3_000_000 + "\nER  - \n", "too long"),
    ("TY  - JOUR\nAB  - x\n" + "a b c\n" * 500_000 + "ER  - \n", "too long"),
    ("TY  - JOUR\n" + "AU  - A, B\n" * 400_000, "too long"),
    ("a" * 3_000_000 + "\n", "too long"), ("TY  - JOUR\nZZ  - x\nER  -\n", "none of its tags"), ("\0\0\0\n", "no record"),
    ("TY  - JOUR\n", "none of its tags"),
])  # fmt: skip
def test_a_damaged_record_is_named_and_costs_no_neighbour(text: str, reason: str) -> None:
    found = read("ris", f"{GOOD[0]}{text}{GOOD[1]}")
    assert [item.fields["title"] for item in found if isinstance(item, Raw)] == ["One", "Two"]
    [refused] = [item for item in found if isinstance(item, Rejected)]
    assert (refused.where, refused.damaged) == ("line 5", True) and reason in refused.reason
    assert len(refused.text) <= 20_000


@pytest.mark.parametrize("form", tagged.FORMS)
@pytest.mark.parametrize("text", ["", "\n\n", "nothing here\n", "\0" * 1_000, "\ud800"])
def test_a_file_without_records_says_so(form: str, text: str) -> None:
    [item] = read(form, text)
    assert isinstance(item, Rejected) and "that begins a record" in item.reason


def test_of_each_file_any_part_can_be_missing_and_no_other_record_is_lost() -> None:
    for form, text in (("ris", RIS), ("nbib", NBIB), ("refer", REFER), ("wos", WOS)):
        lines = text.splitlines(keepends=True)
        whole = {item.fields.get("abstract") for item in read(form, text) if isinstance(item, Raw)} - {None}
        for i in range(len(lines)):
            kept = {
                item.fields.get("abstract")
                for item in read(form, "".join(lines[:i] + lines[i + 1 :]))
                if isinstance(item, Raw)
            }
            assert len(whole - kept) <= 2 - (not lines[i].startswith(("TY", "ER", "PT", "%0", "PMID", "EF"))), (
                form,
                lines[i],
            )
