"""Every format: the files that the tests make of it are told by their content, read to the last good record, and each
bad one is named; the table of it stands in `tests/README.md`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_source_bibtex
import test_source_markup
import test_source_records
import test_source_tables
import test_source_tagged
from samples import Sample

from assistant.papers import Record, Rejected
from assistant.sources import FORMATS, open_source

_MODULES = (test_source_markup, test_source_tagged, test_source_bibtex, test_source_records, test_source_tables)
_ABSTRACT = "We measure how long a kettle takes to boil and report the time for each of its sizes in a table. " * 4
_PAGE = "\n".join(["new", "Kettles", _ABSTRACT, "Orphan", "Pots: A Survey", _ABSTRACT + "More."])
SAMPLES = [
    *(sample for module in _MODULES for sample in module.SAMPLES),
    Sample("page", "page.txt", _PAGE.encode(), ("Kettles", "Pots: A Survey"), (("line 4", "no abstract"),)),
]
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- formats: made by test_formats.py -->", "<!-- formats end -->"


def read(file: Path) -> Iterator[tuple[str, Record | Rejected]]:
    for opened in open_source(file):
        for item in opened.items:
            yield opened.form, item


@pytest.mark.parametrize("sample", SAMPLES, ids=[f"{sample.form}-{sample.name}" for sample in SAMPLES])
def test_every_good_record_is_read_and_every_bad_one_named(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / sample.name).write_bytes(sample.content)
    read_in = list(read(tmp_path / sample.name))
    assert {form for form, _ in read_in} == {sample.form}
    assert tuple(item.title for _, item in read_in if isinstance(item, Record)) == sample.titles
    refused = [(item.where, item.reason) for _, item in read_in if isinstance(item, Rejected)]
    assert [where for where, _ in refused] == [where for where, _ in sample.bad]
    for (_, reason), (_, word) in zip(refused, sample.bad, strict=True):
        assert word in reason


def test_every_format_has_a_sample() -> None:
    assert {sample.form for sample in SAMPLES} == set(FORMATS)


def table() -> str:
    rows = [f"| {each.form} | `{each.name}` | {len(each.titles)} | {len(each.bad)} |" for each in SAMPLES]
    return "\n".join(
        [BEGIN, "| format | file | good records, all read | bad ones, all named |", "|---|---|---|---|", *rows, END]
    )


def test_the_table_of_formats_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = before + table() + after
    if os.environ.get("UPDATE_TABLES"):
        README.write_text(wanted, encoding="utf-8")
    assert text == wanted, "run UPDATE_TABLES=1 pytest tests/test_formats.py"
