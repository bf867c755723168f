"""Papers and answers as text for other programs, read back by those programs' own readers."""

from __future__ import annotations

import contextlib
import csv as csv_files
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bibtexparser
import pytest
import rispy
from bibtexparser.middlewares import LatexDecodingMiddleware, SeparateCoAuthors
from conftest import HashingEncoder, make_records, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from injections import CASES, acts_in
from markdown_it import MarkdownIt
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db

from assistant import Paper, ask
from assistant.bibliography import (
    FORMATS,
    answer_markdown,
    bibtex,
    conversation_markdown,
    csv,
    jsonl,
    markdown,
    ris,
    select_papers,
    sources_of,
)
from assistant.clean import drop_unseen
from assistant.cli import main
from assistant.errors import AssistantError
from assistant.ingest import ingest
from assistant.papers import Record
from assistant.sample import PAPERS
from assistant.sources import open_source
from assistant.store import Store
from assistant.types import (
    Answer,
    Checks,
    Citation,
    Digest,
    Evidence,
    Fallback,
    Figure,
    Marker,
    Name,
    Seconds,
    Usage,
)
from assistant.write import writing

SAMPLE = [
    Paper(f"sample-{i}", record.title, record.abstract)
    for i, record in enumerate(item for opened in open_source(PAPERS) for item in opened.items)
    if isinstance(record, Record)
]
NASTY = (
    "", "a { b", "} c", "{", "a \\{ b", "a \\} b", "{}}{", "LiTi2({PO}4)3", "x\n@article{evil, title={z}}",
    "x\n\n}\n\n@article{evil,\n title={z}\n}", "@comment{x}", "\\input{/etc/passwd}", "$\\input{/etc/passwd}$ x",
    "$a^^5cinput b$", "$\\{1,2\\}$ sets", "$\\{1$", "$}{$", "$\\frac{a}{b} \\le \\alpha_{i}$ tail 100\\% _x_",
    "costs $5 and 10% of A_B & C #1 ~ x^2", "$x_1$-$y$: a $50 film", "$", "$$", "$$x$$", "\\", "a\\", "%", "#MeToo",
    "<b> | p < 0.05 > q", "a -- b --- c", "``q'' ,,y'' !` ?`", '"quoted", = 5', "\x00nul\x1b[31m\u202ebidi\u2069\x85z",
    "a\x0bb\x0cc\u2028d\u2029e\rf", "TI\nER  - \r\n\r\nTY  - JOUR\nTI  - evil", "ER  - ", "=1+1", "+1", "-1",
    "@SUM(A1)",
    "\t=1+1", "\r=1+1", "＝1+1", '=HYPERLINK("http://evil.invalid","x")', "a,b;c", 'say ""', "naïve Größe 文献",
    "\ud800 lone", "x" * 20_000, "$a" * 3_000, "{" * 3_000, "](" * 3_000, "word " * 5_000,
)  # fmt: skip
HOSTILE = [
    Paper(
        f"nasty-{i}",
        text,
        text,
        authors=(text, "Jane Smith", "Barnes and Noble", "others", "A, B, C, D", ", x"),
        venue=text if i % 3 else None,
        year=2000 + i if i % 2 else None,
        doi=f"10.1000/{text[:50]}" if i % 2 else None,
        arxiv_id=text[:50] if i % 5 else None,
        url=f"https://example.invalid/{text[:50]}" if i % 2 else text[:50],
    )
    for i, text in enumerate(NASTY)
]
WHOLE = Paper(
    "whole", "Attention Is All You Need", "We propose the Transformer.", "https://example.invalid/a_b?c=%20d#e",
    ("Ashish Vaswani", "Łukasz Ó Kaiser"), 2017, "NeurIPS", "10.1000/a_b", "1706.03762",
    ("doi:10.1000/a_b",), ("f.jsonl",),
)  # fmt: skip


def line(text: object) -> str:
    """What any format can show of a text."""
    return " ".join(drop_unseen(str(text)).split())


# --- BibTeX -----------------------------------------------------------------------------------------------------------


def read_strictly(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Read BibTeX as BibTeX does, which counts every brace, and refuse whatever is not an entry or white space."""
    entries, place = [], 0
    while text[place:].strip():
        head = re.compile(r"\s*@(article|misc)\{([a-z0-9]+),\n").match(text, place)
        assert head, text[place : place + 80]
        place, fields = head.end(), {}
        while name := re.compile(r"  ([a-z]+) = \{").match(text, place):
            start = place = name.end()
            depth = 1
            while depth:
                depth += {"{": 1, "}": -1}.get(text[place], 0)
                place += 1
            assert name[1] not in fields
            fields[name[1]] = text[start : place - 1]
            assert text[place : place + 2] == ",\n"
            place += 2
        assert text[place] == "}"
        place += 1
        entries.append((head[1], head[2], fields))
    return entries


def tex_decoder() -> LatexNodes2Text:
    """A reader of LaTeX that keeps maths, taught the few commands of text that it does not know or takes for others."""
    known = {"textless": "<", "textgreater": ">", "textbar": "|", "textasciicircum": "^"}
    known |= {"textbraceleft": "{", "textbraceright": "}"}
    context = get_default_latex_context_db()
    context.add_context_category("text", prepend=True, macros=[MacroTextSpec(*each) for each in known.items()])
    return LatexNodes2Text(latex_context=context, math_mode="verbatim")


@pytest.mark.parametrize("papers", [SAMPLE, [*HOSTILE, WHOLE]], ids=["sample", "hostile"])
def test_bibtex_is_read_back_with_the_same_titles_authors_and_abstracts(papers: list[Paper]) -> None:
    text, decoder = "".join(bibtex(papers)), tex_decoder()
    library = bibtexparser.parse_string(
        text, append_middleware=[SeparateCoAuthors(), LatexDecodingMiddleware(decoder=decoder)]
    )
    assert not library.failed_blocks and not library.comments and not library.strings
    strict = read_strictly(text)
    assert len(strict) == len(library.entries) == len(papers)
    for paper, entry, (kind, key, fields) in zip(papers, library.entries, strict, strict=True):
        assert (entry.entry_type, entry.key) == (kind, key)
        lax = {each.key: each.value for each in entry.fields}
        assert set(lax) == set(fields)
        for name in ("title", "abstract"):
            assert lax.get(name, "") == decoder.latex_to_text(fields.get(name, "")) == line(getattr(paper, name))
        assert fields.get("year", "") == str(paper.year or "")
        authors = [line(author) for author in paper.authors if line(author)]
        assert [decoder.latex_to_text(each) for each in lax.get("author", [])] == authors


def test_all_451_sample_papers_are_there() -> None:
    assert len(SAMPLE) == 451


def test_bibtex_keys_are_unique_and_plain() -> None:
    keys = [key for _, key, _ in read_strictly("".join(bibtex([*SAMPLE, *HOSTILE, *SAMPLE])))]
    assert len(set(keys)) == len(keys)


def test_a_bibtex_key_is_first_author_year_and_first_telling_word() -> None:
    papers = [
        WHOLE,
        replace(WHOLE, authors=("Kaiser, Łukasz",), title="On the Été of $x$"),
        replace(WHOLE, authors=("John O’Neil Jr.",), title="The Self-Attention"),
        replace(WHOLE, authors=()),
        replace(WHOLE, authors=("王伟",), title="文献", year=None),
        replace(WHOLE, authors=(), title="", year=None),
    ]
    keys = [key for _, key, _ in read_strictly("".join(bibtex(papers)))]
    assert keys == [
        "vaswani2017attention",
        "kaiser2017ete",
        "oneil2017selfattention",
        "attention2017",
        "paper",
        "papera",
    ]


def test_papers_of_one_key_get_letters_in_the_order_they_come() -> None:
    papers = [WHOLE] * 30 + [replace(WHOLE, title="Attentiona"), WHOLE]
    keys = [key.removeprefix("vaswani2017attention") for _, key, _ in read_strictly("".join(bibtex(papers)))]
    assert keys[:4] == ["", "a", "b", "c"] and keys[26:] == ["z", "aa", "ab", "ac", "ad", "ae"]


def test_papers_added_later_change_no_key() -> None:
    before = read_strictly("".join(bibtex(SAMPLE[:200])))
    assert read_strictly("".join(bibtex(SAMPLE)))[:200] == before


def test_the_type_of_an_entry_follows_from_venue_and_arxiv_id() -> None:
    only_arxiv, neither = replace(WHOLE, venue=None), replace(WHOLE, venue=None, arxiv_id=None)
    arxiv_venue = replace(WHOLE, venue="arXiv.org")
    entries = read_strictly("".join(bibtex([WHOLE, only_arxiv, neither, arxiv_venue])))
    assert [kind for kind, _, _ in entries] == ["article", "misc", "misc", "misc"]
    assert entries[0][2]["journal"] == "NeurIPS" and entries[1][2]["eprint"] == "1706.03762"
    assert entries[1][2]["archiveprefix"] == "arXiv" and "eprint" not in entries[2][2]
    assert entries[3] == ("misc", "vaswani2017attentionc", entries[1][2])


def test_doi_and_address_stand_letter_by_letter() -> None:
    [(_, _, fields)] = read_strictly("".join(bibtex([WHOLE])))
    assert fields["doi"] == WHOLE.doi and fields["url"] == WHOLE.url
    [(_, _, fields)] = read_strictly("".join(bibtex([replace(WHOLE, doi="10.1000/a}b{\\ c", url=None)])))
    assert fields["doi"] == "10.1000/a%7Db%7B%5C%20c" and "url" not in fields


def test_capitals_of_a_title_are_protected_even_behind_an_escape() -> None:
    entries = read_strictly("".join(bibtex([WHOLE, replace(WHOLE, title="#MeToo in BERT")])))
    assert entries[0][2]["title"] == "{Attention Is All You Need}"
    assert entries[1][2]["title"] == "{{}\\#MeToo in BERT}", "BibTeX would take {\\#MeToo ...} for one letter"


def test_maths_stays_maths_unless_it_could_do_harm() -> None:
    def title(text: str) -> str:
        return read_strictly("".join(bibtex([replace(WHOLE, title=text)])))[0][2]["title"][1:-1]

    assert title("$\\alpha_{i}^2$ at 5%") == "$\\alpha_{i}^2$ at 5\\%"
    assert title("from $5 to $10_000") == "from \\$5 to \\$10\\_000"
    for harm in (
        "$\\input{/etc/passwd}$",
        "$\\write18{x}$",
        "$^^5cinput{x}$",
        "$\\def\\x{}$",
        "$a % b$",
        "$\\csname x$",
    ):
        assert not re.search(r"(?<!\\)\$|\\(?:input|write|def|csname)|\^\^|(?<!\\)%", title(harm)), harm


def test_names_that_bibtex_would_take_apart_are_kept_together() -> None:
    names = ("Jane Smith", "Smith, Jane", "Barnes and Noble", "Others", "and", "a, b, c, d", "x,")
    [(_, _, fields)] = read_strictly("".join(bibtex([replace(WHOLE, authors=names)])))
    kept = "Jane Smith and Smith, Jane and {Barnes and Noble} and {Others} and {and} and {a, b, c, d} and {x,}"
    assert fields["author"] == kept


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(alphabet=st.sampled_from("{}\\$@%#&_^~<>|-'`\"=, \nab1é")), max_size=4))
def test_no_text_ends_an_entry_of_bibtex(texts: list[str]) -> None:
    papers = [replace(WHOLE, title=text, abstract=text, authors=(text,), doi=text, url=text) for text in texts]
    text = "".join(bibtex(papers))
    decoder = tex_decoder()
    strict = read_strictly(text)
    assert [decoder.latex_to_text(fields.get("title", "")) for _, _, fields in strict] == [line(each) for each in texts]
    library = bibtexparser.parse_string(text)
    assert len(library.entries) == len(texts) and not library.failed_blocks


# --- RIS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("papers", [SAMPLE, [*HOSTILE, WHOLE]], ids=["sample", "hostile"])
def test_ris_is_read_back_with_the_same_fields(papers: list[Paper]) -> None:
    text = "".join(ris(papers))
    found = rispy.loads(text)
    assert len(found) == len(papers)
    for paper, record in zip(papers, found, strict=True):
        for name in ("title", "abstract", "doi"):
            assert record.get(name, "") == line(getattr(paper, name) or "")
        assert record.get("year") == (str(paper.year) if paper.year else None)
        assert record.get("authors", []) == [line(author) for author in paper.authors if line(author)]
        assert record.get("secondary_title", "") == line(paper.venue or "")
        assert "unknown_tag" not in record


def test_every_line_of_ris_is_a_tag_with_its_value() -> None:
    lines = "".join(ris([*HOSTILE, WHOLE])).split("\r\n")
    assert all(not each or re.match(r"[A-Z][A-Z0-9]  - ", each) for each in lines)
    assert "".join(lines).splitlines() == ["".join(lines)]
    assert sum(each.startswith("TY  - ") for each in lines) == lines.count("ER  - ") == len(HOSTILE) + 1


def test_ris_tells_the_kind_of_paper_and_where_it_is() -> None:
    [journal, preprint, other] = rispy.loads(
        "".join(ris([WHOLE, replace(WHOLE, venue=None, url=None), Paper("x", "", "An abstract.")]))
    )
    assert (journal["type_of_reference"], journal["urls"]) == ("JOUR", [WHOLE.url])
    assert (preprint["type_of_reference"], preprint["urls"]) == ("UNPB", ["https://arxiv.org/abs/1706.03762"])
    assert other == {"type_of_reference": "GEN", "id": "x", "abstract": "An abstract."}


# --- CSV and JSON lines -----------------------------------------------------------------------------------------------


def test_csv_is_a_table_that_excel_reads_as_utf_8() -> None:
    text = "".join(csv([WHOLE]))
    assert text.encode().startswith(b"\xef\xbb\xbf")
    [row] = csv_files.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    assert row == {
        "id": "whole", "title": WHOLE.title, "authors": "Ashish Vaswani; Łukasz Ó Kaiser", "year": "2017",
        "venue": "NeurIPS", "doi": WHOLE.doi, "arxiv_id": "1706.03762", "url": WHOLE.url, "abstract": WHOLE.abstract,
    }  # fmt: skip


@pytest.mark.parametrize("papers", [SAMPLE, HOSTILE], ids=["sample", "hostile"])
def test_csv_has_a_row_a_paper_and_no_cell_is_a_formula(papers: list[Paper]) -> None:
    rows = list(csv_files.reader(io.StringIO("".join(csv(papers)).removeprefix("\ufeff"), newline="")))
    assert len(rows) == len(papers) + 1
    for paper, row in zip(papers, rows[1:], strict=True):
        assert len(row) == 9 and not any(cell[:1] in tuple("=+-@\t\r＝＋－＠") for cell in row if cell)
        assert row[1].removeprefix("'") == line(paper.title).removeprefix("'")


def test_json_lines_hold_all_that_is_known() -> None:
    lines = "".join(jsonl([*SAMPLE, *HOSTILE, WHOLE])).splitlines()
    found = [json.loads(each) for each in lines]
    assert found == [paper.as_dict(full=True) for paper in (*SAMPLE, *HOSTILE, WHOLE)]
    assert "\n".join(lines).encode().decode() == "\n".join(lines)


def test_an_exported_library_can_be_ingested_again(tmp_path: Path, hashing: HashingEncoder) -> None:
    known = {
        "authors": ["Ada Öst", "B. Two"], "year": 2020, "venue": "CVPR", "doi": "10.1000/x.1", "arxiv_id": "2001.00001",
        "url": "https://example.invalid/1",
    }  # fmt: skip
    records = [*make_records(1), *({"title": p.title, "abstract": p.abstract} for p in SAMPLE)]
    records[0] |= known
    with Store(tmp_path / "first", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "papers.jsonl", records)])
        papers = list(select_papers(store, full=True)[1])
    file = tmp_path / "export.jsonl"
    file.write_text("".join(jsonl(papers)), encoding="utf-8")
    with Store(tmp_path / "second", create=True) as store:
        ledger = ingest(store, hashing, [file])
        again = list(select_papers(store, full=True)[1])
    assert ledger.as_dict()["totals"]["new"] == len(papers) == 452
    assert [paper.as_dict() for paper in again] == [paper.as_dict() for paper in papers]
    assert [paper.abstract for paper in again] == [paper.abstract for paper in papers]
    assert set(papers[0].aliases) <= set(again[0].aliases)


# --- Every format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_no_papers_are_no_entries(name: str) -> None:
    header = "\ufeffid,title,authors,year,venue,doi,arxiv_id,url,abstract\r\n"
    assert "".join(FORMATS[name].write([])) == (header if name == "csv" else "")


@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_number_of_papers(name: str) -> None:
    papers = (Paper(f"p{i}", f"Title number {i}", "abstract " * 2_000) for i in range(300))
    tracemalloc.start()
    try:
        assert sum(map(len, FORMATS[name].write(papers))) > 5_000_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", FORMATS)
def test_what_nobody_sees_is_not_written(name: str) -> None:
    text = "".join(FORMATS[name].write([*HOSTILE, WHOLE]))
    if name != "jsonl":  # it is a copy, and JSON escapes what is dangerous
        assert drop_unseen(text.removeprefix("\ufeff")) == text.removeprefix("\ufeff")
    text.encode()


# --- Markdown ---------------------------------------------------------------------------------------------------------

OWN_LINKS = re.compile(r"https://doi\.org/10\.\S+|https://arxiv\.org/abs/\S+|https?://(?:example|papers)\.invalid/\S*")


def make_answer(text: str, *papers: Paper, **fields: object) -> Answer:
    """An answer that cites each `[n]` of its text, the first sentence of its paper as the quote."""
    evidence = tuple(Evidence(n, p, p.abstract, 0, len(p.abstract), 1.0) for n, p in enumerate(papers, 1))
    citations = tuple(
        Citation(
            int(found[1]), papers[int(found[1]) - 1], papers[int(found[1]) - 1].abstract.split(". ")[0], 0, 1,
            found.start(), found.end(), 1.0,
        )
        for found in re.finditer(r"\[(\d+)\]", text)
        if 0 < int(found[1]) <= len(papers)
    )  # fmt: skip
    plain = Answer(
        question="What is attention?", searched="What is attention?", text=text, answerer="llm", model="m",
        abstained=False, reason=None, citations=citations, evidence=evidence, closest=(), checks=Checks(),
        fallback=None, usage=Usage(), seconds=Seconds(), digest=Digest("", "", ""), library="library",
    )  # fmt: skip
    return replace(plain, **fields)


def shown(text: str) -> str:
    """What a reader of Markdown sees."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    return " ".join(re.sub(r"&(lt|gt|amp|quot);", lambda m: {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}[m[1]],
                           re.sub(r"<[^>]+>", " ", page)).split())  # fmt: skip


def test_an_answer_in_markdown_has_question_text_sources_and_quotes() -> None:
    other = replace(WHOLE, id="other", title="Linear Attention", doi=None, venue=None, year=None)
    uncited = replace(WHOLE, id="uncited", title="Not Cited")
    text = answer_markdown(make_answer("It is **all** you need [1].\n\n- So [3][1]", WHOLE, uncited, other))
    assert text.startswith("**Question:** What is attention?\n\nIt is **all** you need [1].\n\n- So [3][1]\n\n")
    assert "Written by the language model m" in text
    about = "Ashish Vaswani, Łukasz Ó Kaiser"
    assert text.partition("**Sources**")[2] == (
        f"\n\n- [1] **Attention Is All You Need** · {about} · NeurIPS, 2017 · <https://doi.org/10.1000/a_b>\n\n"
        "    > “We propose the Transformer.”\n"
        f"- [3] **Linear Attention** · {about} · <https://arxiv.org/abs/1706.03762>\n\n"
        "    > “We propose the Transformer.”\n"
    )
    assert "Not Cited" not in text


def test_what_is_to_be_known_about_an_answer_is_told_in_plain_words() -> None:
    checks = Checks(
        markers_dropped=2,
        figures_unsupported=(Figure("97.3 %", 0, 1), Figure("97.3 %", 5, 6)),
        names_unsupported=(Name("GPT-9", 0, 1),),
        citations_unsupported=(Marker(1, 0, 1),),
    )
    told = answer_markdown(make_answer("x [1]", WHOLE, checks=checks, library="sample", warnings=("*Mind* this.",)))
    assert "97.3 %." in told and "GPT-9" in told and "may not say so: [1]." in told and "left out: 2." in told
    assert "built-in sample library" in told and "*Mind* this." in shown(told)
    fallback = Fallback("llm_timeout", "no answer within 60 s")
    told = answer_markdown(make_answer("- x [1]", WHOLE, answerer="extractive", fallback=fallback))
    assert "The language model did not answer: no answer within 60 s." in told and "word for word" in told
    told = answer_markdown(make_answer("x [1]", WHOLE, complete=False))
    assert "cut at its length limit" in told


def test_an_abstention_names_the_closest_papers_and_no_sources() -> None:
    told = answer_markdown(
        make_answer("The library holds nothing on this question.", abstained=True, reason="no_match",
                    answerer="extractive", closest=(WHOLE,))
    )  # fmt: skip
    assert "not answered from the library" in told and "**Closest papers**" in told and WHOLE.title in told
    assert "**Sources**" not in told


def test_a_real_answer_is_exported_with_the_quotes_it_rests_on() -> None:
    answer = ask("How many layers does the Routing Transformer have?")
    told = shown(answer_markdown(answer))
    assert answer.citations and all(line(citation.quote) in told for citation in answer.citations)
    assert all(line(each.removeprefix("- ")) in told for each in answer.text.splitlines())
    assert [paper.id for paper in sources_of([answer])] == list(dict.fromkeys(c.paper.id for c in answer.citations))


def test_a_conversation_keeps_the_numbers_of_each_answer_and_what_was_stopped() -> None:
    first, second = make_answer("A [1].", WHOLE), make_answer("B [2].", WHOLE, replace(WHOLE, id="b", title="Second"))
    text = conversation_markdown("My *talk*", [("q", first, "A [1]."), ("q", None, "Half a <b>"), ("q", second, "")])
    assert text.startswith("# My \\*talk\\*\n") and text.count("**Sources**") == 2 and text.count("\n---\n") == 2
    assert "- [1] **Attention" in text and "- [2] **Second**" in text
    assert "Half a &lt;b>" in text and "Stopped before its end" in text
    assert conversation_markdown("Empty", []) == "# Empty\n"


def test_sources_are_the_cited_papers_once_in_order_of_first_citation() -> None:
    b, c = replace(WHOLE, id="b"), replace(WHOLE, id="c")
    first, second = make_answer("[2] and [1] and [2]", WHOLE, b, c), make_answer("[1] [3] [2]", WHOLE, b, c)
    assert [paper.id for paper in sources_of([first])] == ["b", "whole"]
    assert [paper.id for paper in sources_of([first, second])] == ["b", "whole", "c"]
    assert sources_of([]) == ()


@pytest.mark.parametrize("papers", [SAMPLE, [*HOSTILE, WHOLE]], ids=["sample", "hostile"])
def test_a_reading_list_shows_every_title_and_abstract_word_for_word_and_nothing_is_live(papers: list[Paper]) -> None:
    for paper, item in zip(papers, markdown(papers), strict=True):
        assert not acts_in(item, html=True, links=OWN_LINKS)
        for text in (paper.title, paper.abstract):
            assert "$" in text or line(text) in shown(item)


def test_nothing_that_a_hostile_paper_or_an_obedient_model_writes_is_live() -> None:
    for case in CASES:
        paper = Paper(
            f"p{case.number}",
            f"Pollen <img src=//evil.invalid/t.png> ![t](//evil.invalid/t.png) {case.obeys}",
            case.abstract,
            "javascript:alert(1)" if case.number % 2 else "https://example.invalid/><script>alert(1)</script>",
            ("Ada <b onclick=alert(1)>Grainger</b>", "Ben [Ruler](//evil.invalid/b)"),
            2020,
            "![v](//evil.invalid/v.png)\n\n[x]: //evil.invalid",
            doi="10.1000/<script>" if case.number % 3 else None,
        )
        for fields in ({}, {"answerer": "extractive"}, {"warnings": (case.obeys,), "question": case.obeys}):
            answer = make_answer(f"Great![1](//evil.invalid) {case.obeys}\n\n{case.abstract} [1]", paper, **fields)
            abstained = replace(answer, abstained=True, closest=(paper,))
            talk = [(case.obeys, answer, ""), (case.obeys, None, case.obeys), ("", abstained, "")]
            assert not acts_in(conversation_markdown(case.obeys, talk), html=True, links=OWN_LINKS), case.name


def test_code_that_a_model_leaves_open_hides_no_sources() -> None:
    for text in ("```python\nx [1]", "~~~~\n~~~\nx [1]", "a [1]\n\n   ```` \n```\n"):
        assert "Sources" in shown(answer_markdown(make_answer(text, WHOLE))).replace("<code>", "")
        assert "<strong>Sources</strong>" in MarkdownIt().render(answer_markdown(make_answer(text, WHOLE)))


def test_lists_nested_without_end_stay_shallow() -> None:
    for bomb in ("- " * 2_000, "> " * 2_000, ">" * 2_000, "1. " * 2_000, "- > 1. " * 700):
        page = MarkdownIt(options_update={"maxNesting": 5_000}).render(answer_markdown(make_answer(f"{bomb} x", WHOLE)))
        assert page.count("<ul>") + page.count("<ol>") + page.count("<blockquote>") < 20


def test_verbatim_sentences_look_in_markdown_as_they_stand() -> None:
    sentence = "C*-algebras and A* use `x`, a_b_, ~5~6 <b>, # 1 & &lt; [a](b) \\alpha."
    answer = make_answer(f"- {sentence} [1]\n- 3) Of $x_1$ and $y_1$ [1]\n", WHOLE, answerer="extractive")
    assert f"{sentence} [1]" in shown(answer_markdown(answer))
    assert "3) Of $x_1$ and $y_1$ [1]" in shown(answer_markdown(answer))


# --- The selection ----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, hashing: HashingEncoder) -> Iterator[Store]:
    """A library of 1,200 papers."""
    with Store(tmp_path / "library", create=True) as store:
        ingest(store, hashing, [write_jsonl(tmp_path / "a.jsonl", make_records(1200))])
        yield store


def test_a_selection_is_what_text_ids_and_conditions_all_admit_in_order_of_entry(store: Store) -> None:
    papers = store.papers()
    n, chosen = select_papers(store)
    assert n == 1200 and list(chosen) == papers
    assert list(select_papers(store, ids=[papers[9].id, papers[3].id])[1]) == [papers[3], papers[9]]
    [alias] = [each for each in (store.paper(papers[4].id) or papers[4]).aliases if each.startswith("title:")]
    assert [paper.id for paper in select_papers(store, ids=[alias])[1]] == [papers[4].id]
    found = list(select_papers(store, "of GRAPHS", where=["year=2000"], ids=[p.id for p in papers[:400]])[1])
    assert found == [p for p in papers[:400] if "of graphs" in p.title and p.year == 2000] and found
    assert next(select_papers(store, where=["year>=2000"], full=True)[1]).sources


def test_unknown_ids_are_named_and_a_paper_removed_meanwhile_is_left_out(store: Store) -> None:
    with pytest.raises(AssistantError, match="'nope', 'neither'"):
        select_papers(store, ids=[store.papers()[0].id, "nope", "neither"])
    with pytest.raises(AssistantError, match="no paper has the id"):
        select_papers(store, ids=["\udcff\x00"])
    chosen = select_papers(store)[1]
    first = next(chosen)
    with writing(store, "remove") as writer, writer.transaction():
        writer.remove(store.papers()[1199].id)
    assert [first, *chosen] == store.papers()


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of 30 papers and one with all fields, to be read only."""
    folder = tmp_path_factory.mktemp("export")
    with Store(folder / "library", create=True) as store:
        whole = {**WHOLE.as_dict(full=True), "id": None}
        ingest(store, HashingEncoder(), [write_jsonl(folder / "a.jsonl", [whole, *make_records(30)])])
    return folder / "library"


def run(*arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as done:
        main([str(each) for each in arguments])
    assert "Traceback" not in err.getvalue()
    return int(done.value.code or 0), out.getvalue(), err.getvalue()


def test_export_writes_bibtex_to_stdout_and_the_count_to_stderr(library: Path) -> None:
    code, out, err = run("export", "--library", library)
    assert code == 0 and len(read_strictly(out)) == 31 and err.startswith("31 papers of ")
    assert "10.1000/a_b" in out


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_goes_to_a_file_by_its_name_or_its_ending(name: str, library: Path, tmp_path: Path) -> None:
    file = tmp_path / f"papers{FORMATS[name].suffix}"
    code, out, err = run("export", "--where", "venue=NeurIPS", "--library", library, "--output", file)
    assert code == 0 and out == "" and f"1 papers of {library} written to {file}" in err
    by_name = run("export", "--where", "venue=NeurIPS", "--library", library, "--format", name)[1]
    assert file.read_bytes().decode() == by_name and "Transformer" in by_name


def test_while_there_is_no_library_the_sample_is_exported() -> None:
    code, out, err = run("export")
    assert code == 0 and len(read_strictly(out)) == 451 and "451 papers of the built-in sample library" in err


def test_export_takes_text_ids_and_aliases(library: Path) -> None:
    assert len(read_strictly(run("export", "of graphs", "--library", library)[1])) == 5
    code, out, _ = run("export", "--id", "doi:10.1000/a_b", "--id", "arxiv:1706.03762", "--library", library)
    assert code == 0 and [key for _, key, _ in read_strictly(out)] == ["vaswani2017attention"]


def test_unknown_ids_are_named_and_nothing_is_written(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.bib"
    code, out, err = run("export", "--id", "nope", "--id", "doi:10.1000/a_b", "--id", "neither", "--library", library,
                         "--output", file)  # fmt: skip
    assert code == 1 and out == "" and "'nope', 'neither'" in err and not list(tmp_path.glob("*.bib"))


def test_a_file_that_is_there_is_replaced_only_by_force(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.bib"
    file.write_text("mine")
    file.chmod(0o640)
    code, _, err = run("export", "--library", library, "--output", file)
    assert code == 2 and "--force" in err and file.read_text() == "mine"
    assert run("export", "--library", library, "--output", file, "--force")[0] == 0
    assert len(read_strictly(file.read_text())) == 31 and file.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["out.bib"]


def test_a_place_that_cannot_hold_a_file_is_refused_in_one_line(library: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for place in (tmp_path, tmp_path / "no" / "x.bib", "/dev/null", tmp_path / ("x" * 300), tmp_path / "loop" / "x"):
        code, out, err = run("export", "--library", library, "--output", place, "--force")
        assert code == 2 and out == "" and err.startswith("assistant: cannot write ") and len(err.splitlines()) == 1


def write_big(folder: Path, papers: int, n_chars: int) -> None:
    """Make a library of papers that were never encoded."""
    with Store(folder, create=True) as store, writing(store, "test") as writer, writer.transaction():
        for i in range(papers):
            fields = dict.fromkeys(("url", "year", "venue", "doi", "arxiv_id"))
            text = {"title": f"Paper number {i}", "abstract": "word " * (n_chars // 5), "authors": ()}
            writer.add_paper(f"p{i}", fields | text)


def test_a_file_that_cannot_be_finished_leaves_nothing_behind(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from assistant.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
main(sys.argv[1:])
"""
    write_big(tmp_path / "big", 10, 100_000)
    file = tmp_path / "out.bib"
    command = [sys.executable, "-c", script, "export", "--library", tmp_path / "big", "--output", file]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    )
    assert done.returncode == 1 and f"cannot write {file}" in done.stderr and "Traceback" not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["big"]


def test_formats_that_do_not_exist_are_refused_with_the_next_step(library: Path) -> None:
    code, out, err = run("export", "--format", "library", "--library", library)
    assert code == 2 and out == "" and "a whole library goes to a file" in err and "--output" in err
    code, _, err = run("export", "--format", "bibtx", "--library", library)
    assert code == 2 and "did you mean 'bibtex'" in err
    code, _, err = run("export", "--format", "zzz", "--library", library)
    assert code == 2 and "the formats are bibtex, ris" in err


def test_with_json_the_document_is_about_the_file(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.ris"
    code, out, _ = run("export", "--library", library, "--output", file, "--json")
    assert code == 0 and json.loads(out) == {"file": str(file), "format": "ris", "papers": 31}
    code, out, _ = run("export", "--library", library, "--json")
    assert code == 2 and "--output" in json.loads(out)["error"]["message"]
    code, out, _ = run("export", "--library", library, "--id", "nope", "--output", tmp_path / "x", "--json")
    assert code == 1 and "nope" in json.loads(out)["error"]["message"]


def test_an_empty_library_gives_an_empty_file_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = run("export", "--library", tmp_path / "empty")
    assert (code, out) == (0, "") and err.startswith("0 papers of ")
    assert run("export", "--library", tmp_path / "empty", "--output", tmp_path / "x.csv")[0] == 0
    assert (tmp_path / "x.csv").read_text(encoding="utf-8-sig").startswith("id,title")
    code, out, err = run("export", "--library", tmp_path / "missing")
    assert code == 3 and out == "" and "no library in" in err


@pytest.mark.parametrize("form", FORMATS)
def test_in_a_locale_without_utf_8_the_bytes_are_the_same(form: str, library: Path) -> None:
    command = [sys.executable, "-m", "assistant", "export", "--library", str(library), "--format", form]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    plain = {**env, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, env=plain)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    expected = run("export", "--library", library, "--format", form)[1].encode()
    assert done.stdout == expected and "Łukasz".encode() in expected


def test_memory_of_an_export_does_not_grow_with_the_library(tmp_path: Path) -> None:
    write_big(tmp_path / "big", 3_000, 5_000)
    with Store(tmp_path / "big") as store:
        tracemalloc.start()
        try:
            n, chosen = select_papers(store)
            assert n == 3_000 and sum(map(len, jsonl(chosen))) > 15_000_000
            assert tracemalloc.get_traced_memory()[1] < 7_500_000
        finally:
            tracemalloc.stop()
