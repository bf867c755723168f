r"""BibTeX as reference managers write it, whole, damaged and hostile, and our own export read back."""

# ruff: noqa: E501 - files stand here as their producers write them

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylatexenc.latex2text import get_default_latex_context_db
from samples import Sample
from test_bibliography import HOSTILE, SAMPLE, WHOLE, line

from assistant.bibliography import _address as address
from assistant.bibliography import bibtex as write_bibtex
from assistant.papers import Raw, Record, Rejected, to_record
from assistant.sources import bibtex
from assistant.sources.bibtex import to_text
from assistant.sources.content import Content
from assistant.types import Paper

MANAGER = r"""% Encoding: UTF-8

@string{made = "Journal of " # {Made-Up Things}}
@Preamble{"\newcommand{\x}{y}"}
@comment{@article{hidden, title={Not to be Read}, abstract={Hidden.}}}

@Article{author2020,
  author    = {Author, Ada and M{\"u}ller, J{\'e}r{\^o}me and {The Made-Up Group} and van der Writer, Jr., Bo and others},
  title     = {{BERT} and the {\O}re of $x_{i}^{2}$: 50\% \emph{better}},
  journal   = made # " (Letters)",
  year      = 2020,
  month     = jan,
  doi       = {10.1000/a\_b},
  url       = {https://example.invalid/a_b?c=%20d},
  abstract  = {We show, over
               several lines -- and with a bare 5% sign --
               that \overfeat works. ``Quoted'' \& done~here. See~\cite{other}.},
  keywords  = {a, b},
  comment   = {braces {in {braces}} and "quotes"},
}

Some text between entries is a comment.

@inproceedings(paren2019, title = "A {"}quoted{"} title (with parentheses)", author = "A. Author and B. Writer",
  booktitle = "Proc. of Made-Up", year = "2019", abstract = "In parentheses.")

@misc{vaswani,
  title={Only {in} the Archive},
  author={Ada Author},
  eprint={2101.00001v2}, archivePrefix={arXiv}, primaryClass={cs.CL},
  abstract={Archived.}
}
@article{scholar, title={As Scholars Cite}, journal={arXiv preprint arXiv:2101.00002}, abstract={Cited.}, date = {2021-05-04}}
@article{dblp, title={As DBLP Writes}, journal={CoRR}, volume={abs/2101.00003}, abstract={Listed.}} @misc{second,title={Second in its Line},abstract={Here.}}
@article{noabstract, title={Without}, year={1999}}
@article{unclosed,
  title = {It Never {Ends},
  abstract = {Lost.}
@article{novalue, title = , abstract = {Lost too.}}
@article{nokey title = {x}}
@article{empty,}
@article{escaped, title = {An Escaped \{ Brace Alone}, abstract = {Kept all the same.},
}
@misc{short, title={Short}, abstract={Another.}}
  title = {The Rest of an Entry},
  abstract = {Whose beginning was lost.}
}
@article{last, title={The Last One}, abstract={It has a note.}, note={PMID: 10000031}}
@article{cut, title={Cut in the Mid"""

SAMPLES = [
    Sample("bibtex", "library.bib", MANAGER.encode(), (
        "BERT and the Øre of $x_{i}^{2}$: 50% better", 'A "quoted" title (with parentheses)', "Only in the Archive",
        "As Scholars Cite", "As DBLP Writes", "Second in its Line", "An Escaped { Brace Alone", "Short", "The Last One",
    ), (
        ("line 35", "no abstract"), ("line 36", "not closed"), ("line 39", "no value"), ("line 40", "no key"),
        ("line 41", "no abstract"), ("line 45", "belong to no entry"), ("line 49", "not closed"),
    )),
    Sample("bibtex", "windows.bib", b"\xef\xbb\xbf\r\n\r\n@article{a,\r\n\ttitle = {Tabs and\r\n\t\treturns},\r\n\tabstract"
           b" = {Read.},\r\n}\r\n", ("Tabs and returns",)),
    Sample("bibtex", "export.bib", "".join(write_bibtex(SAMPLE[:20])).encode(), tuple(p.title for p in SAMPLE[:20])),
]  # fmt: skip


def read(text: str | bytes) -> list[Raw | Rejected]:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return list(bibtex.FORMS["bibtex"].read(Content("made.bib", io.BytesIO(content))))


def said(text: str) -> dict[str, Any]:
    """The fields of the only entry."""
    [item] = read(text)
    assert isinstance(item, Raw), item
    return dict(item.fields)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda each: each.name)
def test_each_sample_gives_all_its_good_records_and_names_the_bad_ones(sample: Sample) -> None:
    assert bibtex.FORMS["bibtex"].fits(Content("x", io.BytesIO(sample.content)))
    found = [to_record(item) if isinstance(item, Raw) else item for item in read(sample.content)]
    assert tuple(item.title for item in found if isinstance(item, Record)) == sample.titles
    refused = [item for item in found if isinstance(item, Rejected)]
    assert [item.where for item in refused] == [where for where, _ in sample.bad], refused
    assert all(word in item.reason for item, (_, word) in zip(refused, sample.bad, strict=True)), refused


def test_an_entry_has_all_its_fields() -> None:
    found = read(MANAGER)
    assert isinstance(found[0], Raw) and dict(found[0].fields) == {
        "title": "BERT and the Øre of $x_{i}^{2}$: 50% better",
        "abstract": "We show, over several lines – and with a bare 5% sign – that \\overfeat works. “Quoted” & done here."
        " See .",
        "authors": ["Ada Author", "Jérôme Müller", "The Made-Up Group", "Bo van der Writer Jr."],
        "year": "2020", "venue": "Journal of Made-Up Things (Letters)", "doi": "10.1000/a_b",
        "url": "https://example.invalid/a_b?c=%20d", "own_id": "author2020",
    }  # fmt: skip
    assert isinstance(found[1], Raw) and found[1].fields["venue"] == "Proc. of Made-Up"
    assert found[1].fields["authors"] == ["A. Author", "B. Writer"]


def test_the_arxiv_id_is_found_where_each_producer_puts_it() -> None:
    records = [to_record(item) for item in read(MANAGER) if isinstance(item, Raw)]
    found = {item.own_id: item.arxiv_id for item in records if isinstance(item, Record)}
    assert [found[key] for key in ("vaswani", "scholar", "dblp")] == ["2101.00001", "2101.00002", "2101.00003"]
    assert next(item.pmid for item in records if isinstance(item, Record) and item.own_id == "last") == "10000031"
    assert "arxiv_id" not in said("@misc{a, title={x}, eprint={10000001}, eprinttype={pubmed}}")
    assert said("@misc{a, title={x}, eprint={10000001}, eprinttype={pubmed}}")["pmid"] == "10000001"


@pytest.mark.parametrize(("latex", "text"), [
    (r"Caf\'e na\"{\i}ve {\aa} \v{S} \c{c} \H{o} \O re Stra{\ss}e \'{E}", "Café naïve å Š ç ő Øre Straße É"),
    (r"\L{}ukasz {\L}ukasz \L ukasz", "Łukasz Łukasz Łukasz"),
    (r"$a_{b}$ and \(c^{d}\) and {e}", r"$a_{b}$ and \(c^{d}\) and e"),
    (r"100\% of \$5, \#1, a\_b, \{x\}, R\&D", "100% of $5, #1, a_b, {x}, R&D"),
    ("100% of $5", "100% of $5"), ("a bare % sign stays", "a bare % sign stays"),
    (r"\textbf{bold} {\it italic} \emph{em} \texttt{tt}", "bold italic em tt"),
    (r"$\alpha$-helix, \alpha-helix", "$\\alpha$-helix, α-helix"), (r"CO\textsubscript{2}", "CO2"),
    ("1--2 --- ``q''", "1–2 — “q”"), ("-{}- `{}`", "-- ``"), (r"one\\two~three\ four\,five", "one two three four five"),
    (r"\unknown{arg} stays", r"\unknownarg stays"), (r"\begin{itemize}\item one\end{itemize}", "• one"),
    (r"\href{https://x.invalid}{shown} \url{https://y.invalid}", "shown https://y.invalid"),
    ("{" * 100_000, ""), ("\\emph{" * 20_000, ""), ("\\'", "\\'"), ("\\", "\\"), ("$", "$"), ("}{", ""),
    (r"\input{/etc/passwd}", "/etc/passwd"), ("", ""),
])  # fmt: skip
def test_latex_is_read_as_it_prints(latex: str, text: str) -> None:
    assert to_text(latex) == text


def test_no_command_that_pylatexenc_knows_is_an_error() -> None:
    table = get_default_latex_context_db()
    names = {spec for each in table.categories() for spec in table.d[each]["macros"] if spec.isalpha()}
    assert len(names) > 900
    assert all(isinstance(to_text(f"\\{name} x"), str) for name in names)


@pytest.mark.parametrize(
    "text", ["\\(", "\\[a", "$", "{\\em ", "\\'", "a and ", "\\href{", "\\" + "x" * 300_000, "\\a", "``"]
)
def test_hostile_latex_is_read_in_one_pass(text: str) -> None:
    long = (text * (300_000 // len(text)))[:299_000]
    assert isinstance(to_text(long), str)
    [item] = read("@misc{a, author={" + long.translate({ord("{"): None, ord("}"): None}) + "}}")
    assert isinstance(item, Raw)


def test_an_entry_of_very_many_fields_and_a_line_of_very_many_entries_are_read_in_one_pass() -> None:
    [item] = read("@misc{a, " + "a={b}," * 300_000 + "}")
    assert isinstance(item, Raw)
    assert len(read("@misc{a,b={c}}" * 100_000)) == 100_000


# --- There and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("papers", [SAMPLE, [*HOSTILE, WHOLE]], ids=["sample", "hostile"])
def test_what_the_export_writes_comes_back_the_same(papers: list[Paper]) -> None:
    found = read("".join(write_bibtex(papers)))
    assert len(found) == len(papers)
    for paper, item in zip(papers, found, strict=True):
        if not any((paper.title, paper.abstract, paper.venue, paper.authors)):
            continue
        assert isinstance(item, Raw)
        got = item.fields
        assert (got.get("title", ""), got.get("abstract", "")) == (line(paper.title), line(paper.abstract))
        assert got.get("year", "") == str(paper.year or "")
        assert got.get("authors", []) == [first_last(line(each)) for each in paper.authors if line(each)]
        is_journal = paper.venue and not (paper.arxiv_id and paper.venue.casefold().startswith("arxiv"))
        assert got.get("venue", "") == (line(paper.venue) if is_journal else "")
        for name in ("doi", "url"):
            assert got.get(name, "") == address(getattr(paper, name))
        if paper.arxiv_id and address(paper.arxiv_id):
            assert got["arxiv_id"] == address(paper.arxiv_id)


def first_last(name: str) -> str:
    """A name as BibTeX understands it, first name first; a comma within braces parts nothing."""
    depths = list(accumulate({"{": 1, "}": -1}.get(character, 0) for character in name))
    is_balanced = not depths or (min(depths) >= 0 and depths[-1] == 0)
    commas = [i for i, character in enumerate(name) if character == "," and not (is_balanced and depths[i])]
    parts = [name[i:j].strip(" ,") for i, j in pairwise([0, *commas, len(name)])]
    if not 2 <= len(parts) <= 3 or not all(name.split(",")) or re.search(r"\band\b", name, re.IGNORECASE):
        return name
    return " ".join([*parts[-1:], *parts[:-1]])


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet=st.sampled_from("{}\\$@%#&_^~<>|-'`\"=, \nab1é()"), max_size=60))
def test_any_text_comes_back_the_same(text: str) -> None:
    papers = [replace(WHOLE, title=text, abstract=text, venue=None), WHOLE]
    first, second = read("".join(write_bibtex(papers)))
    assert isinstance(first, Raw) and isinstance(second, Raw)
    assert first.fields.get("title", "") == first.fields.get("abstract", "") == line(text)
    assert second.fields["title"] == WHOLE.title


# --- Hostile files ----------------------------------------------------------------------------------------------------

GOOD = "@article{one, title={One}, abstract={First.}}\n", "@article{two, title={Two}, abstract={Second.}}\n"


@pytest.mark.parametrize(("text", "reason"), [
    ("@article{x, title = {a", "not closed"), ('@article{x, title = "a', "not closed"), ("@article{x, title = }", "no value"),
    ("@article(x, title = {a}", "not closed"), ("@article{x, " + "{" * 200_000, "not closed"),
    ("@article{x, title = {" + "a" * 3_000_000, "too long"), ("@article{x, title = {" + "a b c\n" * 500_000, "too long"),
    ("@article{x, title = a # # b}", "no value"), ("@article{x, title {a}}", "name = value"),
    ("@article{x, " + "a = {b} c " * 10_000, "not closed"), ("@article{{x}, title = {a}}", "no key"),
    ("title = {left over},\n}", "belong to no entry"), ("@string{a = {b", "not closed"), ("@string{a}", "name = value"),
])  # fmt: skip
def test_a_broken_entry_is_named_and_costs_no_neighbour(text: str, reason: str) -> None:
    found = read(f"{GOOD[0]}{text}\n{GOOD[1]}")
    assert [item.fields["title"] for item in found if isinstance(item, Raw)] == ["One", "Two"]
    [refused] = [item for item in found if isinstance(item, Rejected)]
    assert (refused.where, refused.damaged) == ("line 2", True) and reason in refused.reason
    assert len(refused.text) <= 20_000


def test_abbreviations_that_double_each_other_are_bounded() -> None:
    strings = '@string{a0 = "ha"}\n' + "".join(f"@string{{a{i + 1} = a{i} # a{i}}}\n" for i in range(60))
    many = "".join(f'@string{{s{i} = "{"x" * 1_990}"}}\n' for i in range(50))
    entry = "@article{x, title = " + " # ".join(["s1"] * 5_000) + ", abstract = a60}\n"
    found = read(strings + many + entry + GOOD[0])
    assert isinstance(found[0], Rejected) and "longer than" in found[0].reason
    assert isinstance(found[1], Raw) and found[1].fields["title"] == "One"


def test_a_line_that_begins_an_entry_always_begins_one() -> None:
    found = read(f"@article{{x, title = {{Never closed,\n{GOOD[0]}{GOOD[1]}")
    assert [type(item) for item in found] == [Rejected, Raw, Raw]


@pytest.mark.parametrize("lead", [
    "% Encoding: UTF-8\n\n", "\ufeff\n\n\n", "%% This is BibTeX\n%% http://example.invalid\n\n", "@comment{x}\n",
    "@string{a = {b}}\n", '@preamble{"x"}\n', "Exported by a program\n\n",
])  # fmt: skip
def test_what_leads_a_file_hides_no_entry(lead: str) -> None:
    content = Content("x", io.BytesIO((lead + GOOD[0]).encode()))
    assert bibtex.FORMS["bibtex"].fits(content)
    assert [item.fields["title"] for item in read(lead + GOOD[0]) if isinstance(item, Raw)] == ["One"]


@pytest.mark.parametrize("text", [
    "", "A title\n" + "An abstract that mentions @article{x, title={y}} in its text. " * 8, "@everyone (hello) there\n",
    "@article of mine\n", "a@b.invalid{x}\n", '{"title": "@article{x,"}\n', "title,abstract\n@x(a),b\n",
    "On Decorators\n@decorator(argument)\ndef f(): ...\n",
])  # fmt: skip
def test_other_text_is_not_taken_for_bibtex(text: str) -> None:
    assert not bibtex.FORMS["bibtex"].fits(Content("x", io.BytesIO(text.encode())))


def test_a_file_without_entries_says_so() -> None:
    [item] = read("Nothing here.\n")
    assert isinstance(item, Rejected) and "no entry" in item.reason
