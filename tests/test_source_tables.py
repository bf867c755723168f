"""Tables as the services, spreadsheets and data frames write them: text, Parquet and Excel, whole, damaged, hostile."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from openpyxl import Workbook
from pyarrow import parquet as pq
from samples import Sample

from assistant.errors import CorpusError
from assistant.papers import Record, Rejected, to_record
from assistant.sources import csv_text, excel, parquet
from assistant.sources.content import Content

FORMS = {**parquet.FORMS, **excel.FORMS, **csv_text.FORMS}

# --- Text -------------------------------------------------------------------------------------------------------------

COMMAS = (
    "Title,Abstract,Authors,Year,Journal,DOI,arXiv ID,PMID,URL\r\n"
    'Kettles at work,"We boil, and boil again,\r\nin $O(n^2)$ minutes.","A. Author, B. Écrivain",2021,J. Kettles,'
    "https://doi.org/10.1234/K.1,arXiv:2101.00001v2,,https://example.org/k\r\n"
    "A row too short,Only this\r\n"
    '"The ""quoted"" pot",Steam 5" wide rises.,"Author, A.; Écrivain, B.",2020-05-03,J. Pots,,,12345678,\r\n'
    "No abstract at all,,A. Author,2019,,,,,\r\n"
    'Open quote,"It never ends,,,,,,,\r\n'
    "After the open quote,Reading goes on.,,,,,,,\r\n"
    ",,,,,,,,\r\n"
    "\r\n"
    'Closed badly,"An abstract" and more,,,,,,,\r\n'
    "Too long,One,A,2000,J,,,,,,surplus\r\n"
    "Ends with commas,Some programs do that.,,,,,,,,,\r\n"
    "N\0UL and caf\xe9,An abstract with \0 in it.,,,,,,,\r\n"
).encode()

SEMICOLONS = (
    "sep=;\n"
    "Paper title;Summary;Creators;Publication Year\n"
    '\xc9tude des bouilloires;"Nous faisons bouillir; puis nous attendons.";Author, A. and Writer, B.;2018\n'
    "Two fields;only\n"
    "Second pot;It boils, too.;;\n"
).encode("utf-8-sig")

WEB_OF_SCIENCE = (
    b"PT\tAU\tTI\tSO\tAB\tPY\tDI\n"
    b'J\tAuthor, A; Writer, B\t"Smart" kettles, measured\tJ KETTLES\tWe test the so-called "watched pot".\t2020\t10.1/a'
    b"\t\n"
    b'J\tAuthor, A\t"Unclosed in the title\tJ KETTLES\tPlain "too.\t2021\t\n'
    b"J\tAuthor, A\tToo few\n"
    b'J\tAuthor, A\t"Quoted as a whole, by a spreadsheet"\tJ\t"Two\nlines."\t2022\t10.1/b\n'
)

BARS = b"id|title|text\n1|Kettles|They boil.\n2|Pots\n3|Pans|They fry.\n"

ZOTERO = (
    '\ufeff"Key","Item Type","Publication Year","Author","Title","Publication Title","ISBN","ISSN","DOI","Url",'
    '"Abstract Note","Date","Date Added"\n'
    '"AB12CD34","journalArticle","2019","Author, Ada; Writer, Bö","Kettles and caf\xe9s","Journal of Kettles","",'
    '"0000-0000","10.1234/zot.1","https://example.org/1","We boil.\n\nThen we ""rest"".",'
    '"2019-03","2024-01-01 10:00:00"\n'
    '"EF56GH78","note","","","","","","","","","","","2024-01-01 10:00:00"\n'
    '"IJ90KL12","preprint","2023","Author, Ada","Pots","arXiv","","","","http://arxiv.org/abs/2301.00001",'
    '"They hold water.","2023-01-02","2024-01-01 10:00:00"\n'
).encode()

SCOPUS = (
    '\ufeff"Authors","Author full names","Author(s) ID","Title","Year","Source title","Volume","DOI","Link","Abstract",'
    '"PubMed ID","Document Type","EID"\n'
    '"Author A.; Writer B.","Author, Ada (57000000001); Writer, Bö (57000000002)","57000000001; 57000000002",'
    '"Kettles, revisited","2022","Journal of Kettles","3","10.1234/scopus.1","https://www.scopus.com/record/1",'
    '"We boil 95% of them. © 2022 Elsewhere","36000001","Article","2-s2.0-1"\n'
    '"Author A.","Author, Ada (57000000001)","57000000001","No text","2022","J","3","","","[No abstract available]"\n'
).encode()

DIMENSIONS = (
    "\"About the data: Exported on Mar 01, 2024. Criteria: 'kettle, pot' in title and abstract.\"\n"
    '"Rank","Publication ID","DOI","PMID","PMCID","Title","Abstract","Source title","Publication Date",'
    '"PubYear","Authors"\n'
    '"1","pub.1000000001","10.1234/dim.1","","","Kettles in dimensions","They have three.","J","2020-03-01","2020",'
    '"Author, Ada; Writer, Bö"\n'
).encode()

# --- Parquet and Excel ------------------------------------------------------------------------------------------------


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def inline_bytes(sheets: dict[str, list[list[Any]]]) -> bytes:
    """A workbook with its texts within the cells, as openpyxl writes it."""
    book = Workbook(write_only=True)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def workbook_bytes(sheets: dict[str, list[list[Any]]]) -> bytes:
    """A workbook with texts that its cells share, as Excel writes it."""
    texts: list[bytes] = []

    def share(found: re.Match[bytes]) -> bytes:
        texts.append(found[1])
        return b't="s"><v>%d</v>' % (len(texts) - 1)

    out, shared = io.BytesIO(), "xl/sharedStrings.xml"
    with zipfile.ZipFile(io.BytesIO(inline_bytes(sheets))) as archive, zipfile.ZipFile(out, "w", 8) as copy:
        for name in archive.namelist():
            data = re.sub(rb't="inlineStr"><is>(.*?)</is>', share, archive.read(name), flags=re.DOTALL)
            link = b'<Relationship Id="rId99" Type="x/relationships/sharedStrings" Target="sharedStrings.xml"/>'
            copy.writestr(name, data.replace(b"</Relationships>", link + b"</Relationships>"))
        copy.writestr(shared, b"<sst>" + b"".join(b"<si>%b</si>" % text for text in texts) + b"</sst>")
    return out.getvalue()


PARQUET = parquet_bytes(
    pa.table(
        {
            "title": ["Kettles", "Pots", None, "Pans"],
            "abstract": ["They boil in $x^2$.", None, "An abstract alone, caf\xe9.", "They fry."],
            "authors": [["A. Author", "B. Writer"], ["A. Author"], [], None],
            "date": pa.array([date(2020, 5, 3), None, date(2021, 1, 1), date(2022, 1, 1)]),
            "journal": pa.array(["J", "J", None, "K"]).dictionary_encode(),
            "pmid": pa.array([12345.0, None, None, 77.0]),
            "embedding": [[0.5] * 4] * 4,
        }
    ),
    row_group_size=2,
)

EXCEL_ROWS: list[list[Any]] = [
    ["A list of kettles, made in March"],
    [],
    ["Article Title", "Abstract", "Authors", "Publication Year", "DOI", "Date", None],
    ["Kettles", "They boil.\nTwice, at 100\u00b0.", "Author, A.; Writer, B.", 2021.0, "10.1234/x.1", None, "a note"],
    [],
    ["No abstract here", None, "Author, A.", 2020, None, None],
    ["Pots & pans", "They <fry>.", None, None, None, datetime(2019, 7, 1)],  # noqa: DTZ001 - Excel knows no zones
]
SHEETS: dict[str, list[list[Any]]] = {
    "Notes": [["Made by", "A. Author"]],
    "Papers": EXCEL_ROWS,
    "More": [["title", "text"], ["Lids", "Closed."]],
}

SAMPLES = [
    Sample(
        "csv",
        "commas.csv",
        COMMAS,
        (
            "Kettles at work",
            'The "quoted" pot',
            "After the open quote",
            "Ends with commas",
            "NUL and café",
        ),
        (
            ("line 4", "2 fields where the header names 9"),
            ("line 6", "no abstract"),
            ("line 7", "quote"),
            ("line 11", "closing quote"),
            ("line 12", "11 fields where the header names 9"),
        ),
    ),
    Sample("csv", "semicolons.csv", SEMICOLONS, ("Étude des bouilloires", "Second pot"), (("line 4", "2 fields"),)),
    Sample(
        "tsv",
        "savedrecs.txt",
        WEB_OF_SCIENCE,
        ('"Smart" kettles, measured', '"Unclosed in the title', "Quoted as a whole, by a spreadsheet"),
        (("line 4", "3 fields where the header names 7"),),
    ),
    Sample("csv", "bars.txt", BARS, ("Kettles", "Pans"), (("line 3", "2 fields where the header names 3"),)),
    Sample("csv", "zotero.csv", ZOTERO, ("Kettles and cafés", "Pots"), (("line 5", "no abstract"),)),
    Sample("csv", "scopus.csv", SCOPUS, ("Kettles, revisited",), (("line 3", "10 fields where the header names 13"),)),
    Sample("csv", "dimensions.csv", DIMENSIONS, ("Kettles in dimensions",)),
    Sample("parquet", "papers.parquet", PARQUET, ("Kettles", "", "Pans"), (("row 2", "no abstract"),)),
    Sample(
        "excel",
        "papers.xlsx",
        workbook_bytes(SHEETS),
        ("Kettles", "Pots & pans", "Lids"),
        (("sheet 'Papers' row 6", "no abstract"),),
    ),
]

# --- Reading ----------------------------------------------------------------------------------------------------------


def items(path: Path, form: str | None = None, mapping: dict[str, str] | None = None) -> list[Record | Rejected]:
    """What the reader of the first form that fits, or of the one that is named, says of a file."""
    with path.open("rb") as stream:
        content = Content(path.name, stream, path)
        name = form or next(name for name, each in FORMS.items() if each.fits(content))
        return [
            each if isinstance(each, Rejected) else to_record(each, mapping)
            for each in FORMS[name].read(content, mapping)
        ]


def read(path: Path, content: bytes, form: str | None = None, **mapping: str) -> tuple[list[Record], list[Rejected]]:
    path.write_bytes(content)
    found = items(path, form, mapping)
    return [x for x in found if isinstance(x, Record)], [x for x in found if isinstance(x, Rejected)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table"


def fits(file: Path, content: bytes) -> list[str]:
    file.write_bytes(content)
    with file.open("rb") as stream:
        opened = Content(file.name, stream, file)
        return [name for name, form in FORMS.items() if form.fits(opened)]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_good_row_is_read_and_every_bad_one_is_named(file: Path, sample: Sample) -> None:
    records, rejected = read(file, sample.content)
    assert fits(file, sample.content)[0] == sample.form
    assert tuple(record.title for record in records) == sample.titles
    assert [one.where for one in rejected] == [where for where, _ in sample.bad]
    assert all(word in one.reason for one, (_, word) in zip(rejected, sample.bad, strict=True))


def test_the_columns_of_a_table_give_the_fields_of_a_record(file: Path) -> None:
    first, second = read(file, COMMAS)[0][:2]
    assert first.abstract == "We boil, and boil again, in $O(n^2)$ minutes."
    assert first.authors == ("A. Author", "B. Écrivain")
    assert (first.year, first.venue, first.doi, first.arxiv_id) == (2021, "J. Kettles", "10.1234/k.1", "2101.00001")
    assert first.url == "https://example.org/k"
    assert second.abstract == 'Steam 5" wide rises.'
    assert second.authors == ("Author, A.", "Écrivain, B.")
    assert (second.year, second.pmid) == (2020, "12345678")


def test_a_zotero_export_gives_its_fields(file: Path) -> None:
    first, second = read(file, ZOTERO)[0]
    assert first.abstract == 'We boil. Then we "rest".'
    assert first.authors == ("Author, Ada", "Writer, Bö")
    assert (first.year, first.venue, first.doi) == (2019, "Journal of Kettles", "10.1234/zot.1")
    assert second.arxiv_id == "2301.00001"


def test_scopus_and_dimensions_exports_give_their_fields(file: Path) -> None:
    scopus = read(file, SCOPUS)[0][0]
    assert scopus.authors == ("Author A.", "Writer B.")
    assert (scopus.year, scopus.venue, scopus.doi, scopus.pmid) == (
        2022,
        "Journal of Kettles",
        "10.1234/scopus.1",
        "36000001",
    )
    dimensions = read(file, DIMENSIONS)[0][0]
    assert (dimensions.year, dimensions.venue, dimensions.doi) == (2020, "J", "10.1234/dim.1")


def test_a_tab_separated_file_without_quoting_keeps_its_quotes(file: Path) -> None:
    records, _ = read(file, WEB_OF_SCIENCE)
    assert records[0].abstract == 'We test the so-called "watched pot".'
    assert records[1].abstract == 'Plain "too.'
    assert records[2].abstract == "Two lines."


def test_an_unclosed_quote_costs_one_record_even_in_a_long_file(file: Path) -> None:
    rows = [f"Kettle {n},Abstract number {n}.\n" for n in range(5_000)]
    rows[10] = 'Broken,"never closed\n'
    rows[3_000] = 'Also broken,"never closed either\n'
    records, rejected = read(file, ("title,abstract\n" + "".join(rows)).encode())
    assert len(records) == 4_998
    assert [one.where for one in rejected] == ["line 12", "line 3002"]
    assert all((one.damaged and "Broken" in one.text) or "broken" in one.text for one in rejected)


def test_a_quote_that_swallows_rows_gives_them_back(file: Path) -> None:
    text = 'title,abstract,year\nBroken,"open,2000\n"Kettles","Boil.",2001\nPots,"They hold, too.",2002\n'
    records, rejected = read(file, text.encode())
    assert [record.title for record in records] == ["Kettles", "Pots"]
    assert [one.where for one in rejected] == ["line 2"]


def test_a_quoted_record_with_a_field_too_many_is_one_refusal(file: Path) -> None:
    text = 'title,abstract\nOne,"Line one\nline two\nline three",surplus\nKettles,They boil.\n'
    records, rejected = read(file, text.encode())
    assert [record.title for record in records] == ["Kettles"]
    assert [(one.where, one.reason) for one in rejected] == [("line 2", "3 fields where the header names 2")]


def test_files_of_stray_quotes_are_read_in_a_time_that_grows_with_their_length(file: Path) -> None:
    records, rejected = read(file, b"title,abstract\n" + b'a","b\n' * 50_000 + b"Kettles,They boil.\n")
    assert [record.title for record in records] == ["Kettles"]
    assert len(rejected) == 50_000


def test_a_field_of_megabytes_is_refused_alone(file: Path) -> None:
    text = f'title,abstract\nHuge,"{"word " * 300_000}"\nLine,{"x" * 3_000_000}\nKettles,"{"They boil. " * 20_000}"\n'
    records, rejected = read(file, text.encode())
    assert [record.title for record in records] == ["Kettles"]
    assert [one.where for one in rejected] == ["line 2", "line 3"]
    assert "limit" in rejected[0].reason
    assert "too long" in rejected[1].reason


def test_ten_thousand_columns_are_read(file: Path) -> None:
    names = [f"c{n}" for n in range(9_998)]
    out = io.StringIO()
    csv.writer(out).writerows([[*names, "title", "abstract"], [*names, "Kettles", "They boil."], names])
    records, rejected = read(file, out.getvalue().encode(), "csv")
    assert [record.title for record in records] == ["Kettles"]
    assert [one.reason for one in rejected] == ["9,998 fields where the header names 10,000"]


def test_of_columns_with_one_name_the_first_filled_one_counts(file: Path) -> None:
    text = b"title,abstract,abstract\nKettles,,They boil.\nPots,First.,Second.\n"
    assert [record.abstract for record in read(file, text)[0]] == ["They boil.", "First."]


def test_a_header_alone_gives_nothing(file: Path) -> None:
    assert read(file, b"title,abstract\n") == ([], [])


def test_lone_carriage_returns_within_a_field_are_white_space(file: Path) -> None:
    assert read(file, b'title,abstract\nKettles,"They\rboil."\r\n')[0][0].abstract == "They boil."


@pytest.mark.parametrize(
    "text",
    [
        b"A title of a paper\n\nA line, with commas, of an abstract.\n",
        b"Abstract | PDF\nKettles\n",
        b"title,year\nKettles,2020\n",
        b"abstract\nOne column alone.\n",
        b'{"title": "Kettles", "abstract": "They boil."}\n',
        b"",
    ],
)
def test_what_has_no_header_with_abstracts_is_no_table(file: Path, text: bytes) -> None:
    assert fits(file, text) == []


@pytest.mark.parametrize("make", ["csv", "parquet", "excel"])
def test_a_table_without_abstracts_is_refused_with_its_columns_and_the_way_out(file: Path, make: str) -> None:
    rows = [["Titel", "Inhalt"], ["Kettles", "They boil."]]
    content = {
        "csv": b"Titel,Inhalt\nKettles,They boil.\n",
        "parquet": parquet_bytes(pa.table({"Titel": ["Kettles"], "Inhalt": ["They boil."]})),
        "excel": workbook_bytes({"Blatt": rows}),
    }[make]
    with pytest.raises(CorpusError, match=r"'Titel', 'Inhalt'.*--map abstract=COLUMN"):
        read(file, content, make)
    with pytest.raises(CorpusError, match=r"no column 'Text', which --map abstract=Text asks for.*'Inhalt'"):
        read(file, content, make, abstract="Text")
    records, _ = read(file, content, make, title="Titel", abstract="Inhalt")
    assert [(record.title, record.abstract) for record in records] == [("Kettles", "They boil.")]


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_parquet_columns_of_every_type_give_the_fields_of_a_record(file: Path) -> None:
    first, alone, third = read(file, PARQUET)[0]
    assert first.authors == ("A. Author", "B. Writer")
    assert (first.year, first.venue, first.pmid) == (2020, "J", "12345")
    assert (alone.title, alone.abstract, alone.year) == ("", "An abstract alone, café.", 2021)
    assert (third.authors, third.pmid) == ((), "77")


@pytest.mark.parametrize(
    ("year", "expected"),
    [
        (pa.array([2021]), 2021),
        (pa.array(["2021-04"]), 2021),
        (pa.array([2021.0]), 2021),
        (pa.array([datetime(2021, 4, 1, tzinfo=UTC)], pa.timestamp("ns", "Europe/Vienna")), 2021),
        (pa.array([date(2021, 4, 1)], pa.date64()), 2021),
        (pa.array([b"2021"], pa.binary()), 2021),
        (pa.array([None], pa.null()), None),
        (pa.array([True]), None),
    ],
    ids=str,
)
def test_a_year_is_read_from_any_type_of_column(file: Path, year: pa.Array, expected: int | None) -> None:
    table = pa.table({"title": ["K"], "abstract": pa.array(["They boil."], pa.large_string()), "year": year})
    assert read(file, parquet_bytes(table))[0][0].year == expected


def test_authors_as_records_give_their_names(file: Path) -> None:
    authors = [[{"name": "A. Author", "id": 1}, {"name": "B. Writer", "id": 2}]]
    table = pa.table({"title": ["K"], "abstract": ["They boil."], "authors": authors})
    assert read(file, parquet_bytes(table))[0][0].authors == ("A. Author", "B. Writer")


def test_text_that_is_no_utf8_costs_its_row_alone(file: Path) -> None:
    texts = pa.array([b"They boil.", b"\xff\xfe", b"They fry."], pa.binary())
    table = pa.table({"title": ["K", "L", "M"], "abstract": pa.Array.from_buffers(pa.string(), 3, texts.buffers())})
    records, rejected = read(file, parquet_bytes(table))
    assert [record.title for record in records] == ["K", "M"]
    assert [(one.where, "'abstract' is no text" in one.reason) for one in rejected] == [("row 2", True)]


def test_a_damaged_group_of_rows_is_refused_by_its_rows_and_the_next_is_read(file: Path) -> None:
    texts = [f"Abstract number {n}." for n in range(30)]
    table = pa.table({"title": texts, "abstract": texts})
    options = {"row_group_size": 10, "use_dictionary": False, "compression": "NONE", "write_page_checksum": True}
    content = parquet_bytes(table, **options)
    at = content.index(b"Abstract number 14.")
    records, rejected = read(file, content[:at] + b"XXXX" + content[at + 4 :])
    assert [record.title for record in records] == texts[:10] + texts[20:]
    assert [one.where for one in rejected] == ["rows 11-20"]


def test_damage_that_ends_the_reading_process_costs_its_group_alone(file: Path) -> None:
    """The footer keeps counts for each column; pyarrow 26 ends the process where there are too many or too few."""
    table = pa.table({"title": ["K", "L", "M"], "abstract": ["They boil.", "They hold.", "They fry."]})
    content = parquet_bytes(table, row_group_size=1)
    counts = [found.start() for found in re.finditer(b"\x19\x06\x19\x26\x00\x02\x00", content)]
    at = counts[2]  # the first column of the second group
    records, rejected = read(file, content[:at] + b"\x09" + content[at + 1 :])
    assert [record.title for record in records] == ["K", "M"]
    assert [one.where for one in rejected] == ["rows 2-2"]


@pytest.mark.parametrize("end", [4, 100, -1, -100])
def test_a_cut_parquet_file_is_refused_in_one_line(file: Path, end: int) -> None:
    with pytest.raises(CorpusError, match=r"the Parquet file is damaged"):
        read(file, PARQUET[:end], "parquet")


@pytest.mark.parametrize(
    ("size", "times", "reason"),
    [
        (70_000_000, 20, "bytes of memory"),
        (5_000_000, 5_000, "bytes of memory"),
        (5_000_000, 20, "the row has more"),
        (130_000_000, 1, "unfolds from"),
        (100, 100_000, "rows unfold from"),
    ],
)
def test_columns_that_unfold_beyond_reason_are_refused_by_their_rows(
    file: Path, size: int, times: int, reason: str
) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array(["x" * size]))
    content = parquet_bytes(pa.table({"abstract": texts, "year": [1] * times}), compression="zstd", store_schema=False)
    records, rejected = read(file, content)
    assert records == []
    assert {one.where for one in rejected} <= {f"rows 1-{times}", *(f"row {n}" for n in range(1, times + 1))}
    assert all(reason in one.reason for one in rejected)
    assert rejected


# --- Excel ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [workbook_bytes, inline_bytes], ids=["shared texts", "texts in cells"])
def test_a_sheet_gives_the_fields_of_a_record(file: Path, make: Callable[[dict[str, Any]], bytes]) -> None:
    first, second, third = read(file, make(SHEETS))[0]
    assert first.abstract == "They boil. Twice, at 100°."
    assert first.authors == ("Author, A.", "Writer, B.")
    assert (first.where, first.year, first.doi) == ("sheet 'Papers' row 4", 2021, "10.1234/x.1")
    assert (second.abstract, second.year) == ("They <fry>.", 2019)
    assert third.where == "sheet 'More' row 2"


def test_hidden_sheets_formulas_links_and_merged_cells_are_read_as_they_show(file: Path) -> None:
    book = Workbook()
    sheet = book.active
    sheet.append(["title", "abstract", "url", "year"])
    sheet.append(["Kettles", "They boil.", "https://example.org/k", "=2000+21"])
    sheet.append(["Pots", "They hold.", None, 2000])
    sheet["C2"].hyperlink = "https://example.org/k"
    sheet.merge_cells("D2:D3")
    sheet.sheet_state = "hidden"
    book.create_sheet("Shown")
    out = io.BytesIO()
    book.save(out)
    content = altered(out.getvalue(), "xl/worksheets/sheet1.xml", b"<v></v>", b"<v>2021</v>")
    content = altered(content, "xl/worksheets/sheet1.xml", b"<v />", b"<v>2021</v>")
    records, rejected = read(file, content)
    assert [(record.title, record.url, record.year) for record in records] == [
        ("Kettles", "https://example.org/k", 2021),
        ("Pots", None, None),
    ]
    assert rejected == []


def altered(content: bytes, part: str, old: bytes, new: bytes) -> bytes:
    """A workbook with something replaced in one of its parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            data = archive.read(name)
            copy.writestr(name, data.replace(old, new) if name == part else data)
    return out.getvalue()


PLAIN = workbook_bytes({"First": [["title", "abstract"], ["Kettles", "They boil."]], "Second": SHEETS["More"]})


def test_parts_with_prefixed_names_rich_text_and_phonetic_guides_are_read(file: Path) -> None:
    rich = b"<si><r><t>They </t></r><r><t>_x0062_oil.</t></r><rPh><t>guide</t></rPh></si>"
    content = altered(PLAIN, "xl/sharedStrings.xml", b"<si><t>They boil.</t></si>", rich)
    content = altered(content, "xl/worksheets/sheet1.xml", b"<row", b"<x:row xmlns:x='urn:x'")
    content = altered(content, "xl/worksheets/sheet1.xml", b"</row", b"</x:row")
    assert [record.abstract for record in read(file, content)[0]] == ["They boil.", "Closed."]


def test_a_damaged_sheet_costs_no_other(file: Path) -> None:
    content = altered(PLAIN, "xl/worksheets/sheet1.xml", b"</sheetData>", b"<row><c>")
    records, rejected = read(file, content)
    assert "Lids" in [record.title for record in records]
    assert [one.where.split(" after")[0] for one in rejected] == ["sheet 'First'"]


@pytest.mark.parametrize(
    ("part", "old", "new", "reason"),
    [
        ("xl/worksheets/sheet1.xml", b"<worksheet", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet', "document type"),
        ("xl/worksheets/sheet1.xml", b"<sheetData>", b"<a>" * 100_000 + b"<sheetData>", "deep"),
        ("xl/worksheets/sheet1.xml", b"<sheetData>", b"<!--" + b"x" * 3_000_000 + b"--><sheetData>", "tag"),
        ("xl/worksheets/sheet1.xml", b"<sheetData>", b" " * 70_000_000 + b"<sheetData>", "unfolds from"),
    ],
    ids=["entities", "depth", "tag", "bomb"],
)
def test_a_hostile_sheet_is_refused_and_the_next_is_read(
    file: Path, part: str, old: bytes, new: bytes, reason: str
) -> None:
    records, rejected = read(file, altered(PLAIN, part, old, new))
    assert [record.title for record in records] == ["Lids"]
    assert [(one.where, reason in one.reason) for one in rejected] == [("sheet 'First'", True)]


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("xl/sharedStrings.xml", b"<sst", b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><sst'),
        ("xl/sharedStrings.xml", b"<si>", b"<si/>" * 5_000_000 + b"<si>"),
        ("xl/workbook.xml", b"<sheets>", b" " * 17_000_000 + b"<sheets>"),
        ("xl/workbook.xml", b"<sheets>", b"<sheets"),
    ],
    ids=["entities", "shared texts", "names", "no XML"],
)
def test_a_hostile_workbook_is_refused_in_one_line(file: Path, part: str, old: bytes, new: bytes) -> None:
    with pytest.raises(CorpusError, match=r"no workbook that can be read \(.+\); open it in a spreadsheet program"):
        read(file, altered(PLAIN, part, old, new))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (b'<c r="A9" t="s"><v>99</v></c>', "shared text"),
        (b'<c r="A9" t="s"><v>-1</v></c>', "shared text"),
        (b'<c r="ZZZ9"><v>1</v></c>', "longer"),
        (b'<c t="str"><v>' + b"word " * 600_000 + b"</v></c>", "longer"),
    ],
)
def test_a_row_that_cannot_be_is_refused_alone(file: Path, cells: bytes, reason: str) -> None:
    row = b'<row r="9">' + cells + b'</row><row r="99999999999"><c t="str"><v>Pots</v></c><c t="str"><v>Boil.</v></c>'
    records, rejected = read(
        file, altered(PLAIN, "xl/worksheets/sheet1.xml", b"</sheetData>", row + b"</row></sheetData>")
    )
    assert [record.title for record in records] == ["Kettles", "Pots", "Lids"]
    assert [(one.where, reason in one.reason) for one in rejected] == [("sheet 'First' row 9", True)]


def test_a_cell_in_the_last_row_and_column_takes_no_memory(file: Path) -> None:
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    records, rejected = read(file, altered(PLAIN, "xl/worksheets/sheet1.xml", b"</sheetData>", far))
    assert [record.title for record in records] == ["Kettles", "Lids"]
    assert [one.where for one in rejected] == ["sheet 'First' row 1048576"]


@pytest.mark.parametrize("head", [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, PLAIN[:2_000], PLAIN[:-10]])
def test_an_old_a_locked_and_a_cut_workbook_are_refused_with_the_way_out(file: Path, head: bytes) -> None:
    assert fits(file, head) == ["excel"]
    with pytest.raises(CorpusError, match=r"save it as \.xlsx or as CSV"):
        read(file, head)


@pytest.mark.parametrize("content", [PLAIN, PARQUET], ids=["excel", "parquet"])
@pytest.mark.parametrize("sixtieth", range(1, 60, 7))
def test_noise_ends_in_records_refusals_or_one_error(file: Path, content: bytes, sixtieth: int) -> None:
    at = len(content) * sixtieth // 60
    noisy = content[:at] + bytes(255 - byte for byte in content[at : at + 40]) + content[at + 40 :]
    with suppress(CorpusError):
        records, rejected = read(file, noisy, "excel" if content is PLAIN else "parquet")
        assert records or rejected


# --- Memory -----------------------------------------------------------------------------------------------------------

PEAK = """
import re, sys
from pathlib import Path
import pyarrow.parquet
from assistant.sources import csv_text, excel, parquet
from assistant.sources.content import Content

def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

path, form, before = Path(sys.argv[1]), sys.argv[2], peak_mb()
with path.open("rb") as stream:
    forms = {**csv_text.FORMS, **excel.FORMS, **parquet.FORMS}
    print(sum(1 for _ in forms[form].read(Content(path.name, stream, path))), peak_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
@pytest.mark.parametrize(
    ("form", "n_rows", "most_mb"), [("csv", 20_000, 30), ("parquet", 50_000, 80), ("excel", 20_000, 45)]
)
def test_memory_does_not_grow_with_the_table(file: Path, form: str, n_rows: int, most_mb: int) -> None:
    rows = [[f"Kettle {n}", f"{n:06}" + " abstract" * 300] for n in range(n_rows)]
    if form == "csv":
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([["title", "abstract"], *rows])
    elif form == "parquet":
        titles, abstracts = zip(*rows, strict=True)
        pq.write_table(pa.table({"title": titles, "abstract": abstracts}), file)
    else:
        file.write_bytes(workbook_bytes({"Papers": [["title", "abstract"], *rows]}))
    command = [sys.executable, "-c", PEAK, str(file), form]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    n, grown_mb = map(int, done.stdout.split())
    assert n == n_rows
    assert grown_mb < most_mb
