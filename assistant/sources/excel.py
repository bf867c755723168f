"""Excel workbooks (.xlsx) -> records: each sheet that has a header with known columns, row by row.

A workbook is read in one pass, cell by cell, and the texts that its cells share lie in a temporary file: memory does
not grow with it. (Readers that lay a sheet out in memory end the process on a single cell in the last row and column;
those that build a tree grow with the longest row.)
"""

from __future__ import annotations

import errno
import re
import tempfile
import zipfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import IO

from assistant.errors import CorpusError
from assistant.papers import Raw, Rejected, damaged
from assistant.sources.content import LINE_BYTES, Content, Form
from assistant.sources.ooxml import SMALL_BYTES, UNREADABLE, Elements, Part, Refused, check_sizes, relations
from assistant.sources.tables import HEADER_ROWS, MAX_COLUMNS, named, no_abstracts, one_line, rank, row_fields

MAX_SHARED = 20_000_000
"""Of so many shared texts the places are kept in memory, 8 bytes each."""

_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ODS = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
_PARTS = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/")
_CELL = re.compile(r"([A-Z]{1,3})\d{1,7}")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_DATE_CODES = {str(code) for code in (14, 15, 16, 17, 22, *range(27, 37), *range(50, 59))}
"""The built-in formats of dates (ECMA-376 part 1, 18.8.30)."""
_QUOTED_CODE = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    cells: dict[int, str]
    """Texts by column from 0; empty ones are left out."""
    reason: str | None = None
    """Why it cannot be taken."""

    def names(self) -> list[str]:
        """Return the row as the names of columns."""
        return named([self.cells.get(at, "") for at in range(max(self.cells, default=-1) + 1)])


def read_excel(content: Content, mapping: Mapping[str, str] | None = None) -> Iterator[Raw | Rejected]:
    """Read the sheets whose header names abstracts; the others are passed over, unless there is no such sheet.

    Raises:
        CorpusError: It is no .xlsx workbook, a part of it is hostile, or no sheet has abstracts.
    """
    advice = "open it in a spreadsheet program and save it as .xlsx or as CSV"
    if content.head.startswith(_OLD_OFFICE) or _ODS in content.head[:120]:
        raise CorpusError(f"cannot read {content.name}: it is an old, locked or OpenDocument spreadsheet; {advice}")
    with content.file() as path:
        try:
            with zipfile.ZipFile(path) as archive, tempfile.SpooledTemporaryFile(SMALL_BYTES) as shared:
                yield from _read(_Workbook(archive, shared), content.name, mapping or {})
        except (*UNREADABLE, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which an impossible place in a zip gives
                raise
            found = f"it is no workbook that can be read ({one_line(error)})"
            raise CorpusError(f"cannot read {content.name}: {found}; {advice}") from error


def _read(book: _Workbook, source: str, mapping: Mapping[str, str]) -> Iterator[Raw | Rejected]:
    unused: list[tuple[str, list[str]]] = []
    n_used = 0
    for part, title in reversed(book.sheets.items()):
        where, row = f"sheet {title!r}", None
        try:
            rows = book.rows(part)
            first = list(islice(rows, HEADER_ROWS))
            at = max(range(len(first)), key=lambda index: rank(first[index].names(), mapping), default=0)
            names = first[at].names() if first else []
            if not rank(names, mapping)[0]:
                unused.append((where, names))
                continue
            n_used += 1
            for row in chain(first[at + 1 :], rows):
                yield _record(f"{where} row {row.number}", row, names)
        except UNREADABLE as error:
            n_used += 1
            place = f"{where} after row {row.number}" if row else where
            yield damaged(place, f"the sheet cannot be read on: {one_line(error)}")
    if not n_used:
        where, names = max(unused, key=lambda one: rank(one[1], mapping), default=("no sheet", []))
        raise no_abstracts(f"{source}, {where}", names, mapping)


def _record(where: str, row: _Row, names: list[str]) -> Raw | Rejected:
    if row.reason:
        return damaged(where, row.reason, "\t".join(row.cells.values()))
    cells = sorted(row.cells.items())
    return Raw(where, row_fields((names[at] if at < len(names) else f"column {at + 1}", text) for at, text in cells))


class _Shared(Part):
    """The texts that cells share, in a temporary file."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._ends = array("Q", [0])
        self._is_phonetic = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        del attributes
        if tag == "si":
            self._parts: list[str] = []
            self.n_chars = 0
        elif tag == "rPh":
            self._is_phonetic = True
        elif tag == "t" and not self._is_phonetic:
            self.texts = self._parts

    def end(self, tag: str) -> None:
        if tag == "t":
            self.texts = None
        elif tag == "rPh":
            self._is_phonetic = False
        elif tag == "si":
            if len(self._ends) > MAX_SHARED:
                raise Refused(f"it has more than {MAX_SHARED:,} shared texts")
            text = _unescaped("".join(self._parts)).encode("utf-8", "surrogatepass")
            self._file.write(text)
            self._ends.append(self._ends[-1] + len(text))

    def get(self, index: str) -> str | None:
        """Return the text with this number."""
        at = int(index) if index.isdecimal() and len(index) < 10 else -1
        if not 0 <= at < len(self._ends) - 1:
            return None
        self._file.seek(self._ends[at])
        return self._file.read(self._ends[at + 1] - self._ends[at]).decode("utf-8", "surrogatepass")


class _Sheet(Part):
    """The rows of a sheet, as they are read."""

    def __init__(self, book: _Workbook) -> None:
        super().__init__()
        self.rows: list[_Row] = []
        self._book = book
        self._number = 0
        self._cells: dict[int, str] | None = None
        self._reason: str | None = None
        self._column = -1
        self._parts: list[str] = []
        self._kind: str | None = None
        self._style = ""
        self._is_phonetic = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "c" and self._cells is not None:
            column = _column(attributes.get("r", ""))
            self._column = self._column + 1 if column is None else column
            self._kind, self._style, self._parts = attributes.get("t"), attributes.get("s", ""), []
        elif tag in {"v", "t"} and not self._is_phonetic:
            self.texts = self._parts
        elif tag == "row":
            number = attributes.get("r", "")
            self._number = int(number) if number.isdecimal() and len(number) < 10 else self._number + 1
            self._cells, self._reason, self._column, self.n_chars = {}, None, -1, 0
        elif tag == "rPh":
            self._is_phonetic = True

    def end(self, tag: str) -> None:
        if tag in {"v", "t"}:
            self.texts = None
        elif tag == "c":
            self._end_cell()
        elif tag == "rPh":
            self._is_phonetic = False
        elif tag == "row" and self._cells is not None:
            if self._cells or self._reason:
                self.rows.append(_Row(self._number, self._cells, self._reason))
            self._cells = None

    def _end_cell(self) -> None:
        if not self._parts or self._cells is None or self._reason:
            return
        text = self._book.text("".join(self._parts), self._kind, self._style)
        self._parts = []
        if text is None:
            self._reason = "a cell refers to a shared text that is not there"
            return
        if self._kind == "s":
            self.n_chars += len(text)
        if self.n_chars > LINE_BYTES or self._column >= MAX_COLUMNS:
            self._reason = f"the row is longer than {LINE_BYTES:,} characters or {MAX_COLUMNS:,} cells"
        elif text.strip():
            self._cells[self._column] = text


class _Workbook:
    """What the parts of a workbook need of each other."""

    def __init__(self, archive: zipfile.ZipFile, shared: IO[bytes]) -> None:
        """Read what the sheets need; `shared` is an empty file for the texts that cells share."""
        check_sizes(archive)
        self._archive = archive
        main = next((part for _, kind, part in relations(archive, "") if kind == "officeDocument"), "xl/workbook.xml")
        related = relations(archive, main)
        elements = Elements(archive, main).found
        parts = {key: part for key, kind, part in related if kind == "worksheet"}
        keys = [(one.get("name", ""), _relation(one)) for tag, one in elements if tag == "sheet"]
        self.sheets = {parts[key]: title for title, key in reversed(keys) if key in parts}
        """Titles by part, so that a part counts once however often it is named."""
        is_1904 = any(tag == "workbookPr" and one.get("date1904") in {"1", "true"} for tag, one in elements)
        self._epoch = datetime(1904, 1, 1) if is_1904 else datetime(1899, 12, 30)  # noqa: DTZ001 - days, nowhere
        kinds = {kind: part for _, kind, part in related}
        self._dates = _date_styles(Elements(archive, kinds["styles"]).found) if "styles" in kinds else set()
        self._shared = _Shared(shared)
        if "sharedStrings" in kinds:
            for _ in self._shared.feed(archive, kinds["sharedStrings"]):
                pass

    def rows(self, part: str) -> Iterator[_Row]:
        """Yield the rows of a sheet that have cells with text."""
        sheet = _Sheet(self)
        for _ in sheet.feed(self._archive, part):
            yield from sheet.rows
            sheet.rows.clear()

    def text(self, text: str, kind: str | None, style: str) -> str | None:
        """Return what a cell says; None where it refers to nothing, an empty text for an error such as #N/A."""
        if kind == "s":
            return self._shared.get(text.strip())
        if kind == "e":
            return ""
        if kind not in {None, "n"}:
            return _unescaped(text)
        try:
            number = float(text)
            if style in self._dates:
                return (self._epoch + timedelta(days=number)).date().isoformat()
        except (ValueError, OverflowError):
            return text
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else text


def _relation(attributes: dict[str, str]) -> str:
    return next((value for name, value in attributes.items() if name.endswith(":id")), "")


def _date_styles(elements: list[tuple[str, dict[str, str]]]) -> set[str]:
    """Return the numbers of the cell styles that show a number as a date."""
    codes = {
        one.get("numFmtId"): _QUOTED_CODE.sub("", one.get("formatCode", "")) for tag, one in elements if tag == "numFmt"
    }
    found, number, is_cell = set(), 0, False
    for tag, one in elements:
        if tag in {"cellXfs", "cellStyleXfs", "cellStyles"}:
            is_cell = tag == "cellXfs"
        elif tag == "xf" and is_cell:
            key = one.get("numFmtId", "")
            if key in _DATE_CODES or re.search("[yd]", codes.get(key, ""), re.IGNORECASE):
                found.add(str(number))
            number += 1
    return found


def _column(reference: str) -> int | None:
    """Return the column, from 0, of a reference such as `AB12`; None where it is none."""
    found = _CELL.fullmatch(reference)
    if not found:
        return None
    column = 0
    for letter in found[1]:
        column = 26 * column + ord(letter) - 64
    return column - 1


def _unescaped(text: str) -> str:
    """Return a text with the characters that Excel writes as `_x000D_`."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _fits(content: Content) -> bool:
    head = content.head
    is_workbook = head.startswith(b"PK\x03\x04") and head[30:].startswith(_PARTS) and b"word/" not in head
    return is_workbook or head.startswith(_OLD_OFFICE) or _ODS in head[:120]


FORMS = {"excel": Form(_fits, read_excel)}
