"""Tables as text (commas, semicolons, tabs, bars) -> records; the header tells the delimiter and the columns.

A row with too few or too many fields is refused by its line. A quote that is never closed costs its own row alone:
reading goes on at the next line.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from assistant.errors import CorpusError
from assistant.papers import Raw, Rejected, damaged
from assistant.sources.content import LINE_BYTES, Content, Form
from assistant.sources.tables import HEADER_ROWS, named, no_abstracts, rank, row_fields

DELIMITERS = ",;\t|"
QUOTED_LINES = 1_000
"""A record of more lines is taken for one whose quote was never closed."""
FEW_LINES = 10
"""The same, once a file of stray quotes has made us read its lines again `REREAD` times."""
REREAD = 4

_SEPARATOR = re.compile(r'\s*"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Header:
    """What the header says, and where it ends."""

    delimiter: str
    names: list[str]
    n_lines: int
    """Lines to its end, with what stands before it."""


class _Lines:
    """Lines for the csv module: seen ahead, bounded for each record, and given again where a record went wrong."""

    def __init__(self, numbered: Iterator[tuple[int, str | None]]) -> None:
        self._numbered = numbered
        self._ahead: deque[tuple[int, str | None]] = deque()
        self._broken: CorpusError | None = None
        self._n_again = 0
        self._most = QUOTED_LINES
        self._n_chars = 0
        self.taken: list[tuple[int, str]] = []
        """The lines of the record that is being read."""

    def ahead(self, n: int = 1) -> list[tuple[int, str | None]]:
        """Return the next lines, or as many as there are, without taking them."""
        try:
            self._ahead.extend(islice(self._numbered, max(0, n - len(self._ahead))))
        except CorpusError as error:  # told once the whole lines before it have been read
            self._numbered, self._broken = iter(()), error
        if self._broken and not self._ahead:
            raise self._broken
        return list(islice(self._ahead, n))

    def drop(self, n: int = 1) -> None:
        """Pass over lines that were seen ahead."""
        for _ in range(n):
            self._ahead.popleft()

    def begin(self, number: int) -> None:
        """Begin a record at the next line, whose number is given."""
        is_regular = self._n_again <= REREAD * (number + 10 * QUOTED_LINES)
        self._most = QUOTED_LINES if is_regular else FEW_LINES
        self._n_chars = 0
        self.taken = []

    def give_again(self) -> None:
        """Give all lines of the record but its first once more."""
        self._ahead.extendleft(reversed(self.taken[1:]))
        self._n_again += len(self.taken) - 1
        del self.taken[1:]

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(iter(self.ahead()), (0, None)) if self.taken and not self._ahead else self._ahead[0]
        if line[1] is None or len(self.taken) >= self._most or self._n_chars >= LINE_BYTES:
            raise StopIteration
        self._ahead.popleft()
        text = line[1]
        self.taken.append((line[0], text))
        self._n_chars += len(text)
        return text


def read_table(content: Content, mapping: Mapping[str, str] | None = None) -> Iterator[Raw | Rejected]:
    """Read a table, each row with all its columns under their own names.

    Raises:
        CorpusError: No column is known to hold abstracts, or one that `mapping` names is not there.
    """
    csv.field_size_limit(max(csv.field_size_limit(), 2 * LINE_BYTES))  # the module's own is less than an abstract
    lines = _Lines(content.lines())
    header = find_header([text or "" for _, text in lines.ahead(HEADER_ROWS)], mapping or {})
    names = named(header.names)
    if not rank(names, mapping or {})[0]:
        raise no_abstracts(content.name, names, mapping or {})
    lines.drop(header.n_lines)
    rows = csv.reader(lines, delimiter=header.delimiter, skipinitialspace=True, strict=True)
    while following := lines.ahead():
        number, text = following[0]
        where = f"line {number}"
        if text is None:
            lines.drop()
            yield damaged(where, f"the line is longer than {LINE_BYTES:,} bytes, too long for a record")
            continue
        lines.begin(number)
        values = _row(rows, lines, header.delimiter, len(names))
        if isinstance(values, str):
            yield damaged(where, values, "".join(line for _, line in lines.taken))
        elif fields := row_fields(zip(names, values, strict=False)):
            yield Raw(where, fields)


def find_header(texts: Sequence[str], mapping: Mapping[str, str]) -> _Header:
    """Return which of the first lines does best as the header, and with which delimiter."""
    separator = _SEPARATOR.fullmatch(texts[0]) if texts else None
    headers = [
        max(
            (_header(texts, start, delimiter) for delimiter in (separator[1] if separator else DELIMITERS)),
            key=lambda header: (rank(named(header.names), mapping), len(header.names)),
        )
        for start in range(len(texts))
    ]
    by_names = (rank(named(header.names), mapping) for header in headers)
    best = max(zip(by_names, headers, strict=True), key=lambda pair: (pair[0], len(pair[1].names) > 1), default=None)
    return best[1] if best else _Header(",", [], 0)


def _header(texts: Sequence[str], start: int, delimiter: str) -> _Header:
    rows = csv.reader(texts[start:], delimiter=delimiter, skipinitialspace=True)
    try:
        names = next(rows, [])
    except csv.Error:
        names = []
    return _Header(delimiter, names, start + rows.line_num)


def _row(rows: Iterator[list[str]], lines: _Lines, delimiter: str, n_columns: int) -> list[str] | str:
    """Return the fields of the next row, or why there are none; none at all for a blank one."""
    values, reason = [], None
    try:
        values = next(rows)
    except csv.Error as error:
        reason = _reason(str(error), len(lines.taken) - 1)
    values = _trimmed(values, n_columns)
    if not reason and (len(values) == n_columns or not any(values)):
        return values
    plain = _trimmed(lines.taken[0][1].rstrip("\n").split("\t"), n_columns)
    if delimiter == "\t" and len(plain) == n_columns:
        lines.give_again()  # written without quoting, as is usual with tabs: a quote is a character
        return plain
    if reason or any(_is_row(line, delimiter, n_columns) for _, line in lines.taken[1:]):
        lines.give_again()
    return reason or f"{len(values):,} fields where the header names {n_columns:,}"


def _trimmed(values: list[str], n_columns: int) -> list[str]:
    """Return a row without empty fields too many at its end: some services end each row with a delimiter."""
    n = len(values)
    while n > n_columns and not values[n - 1]:
        n -= 1
    return values[:n]


def _is_row(line: str, delimiter: str, n_columns: int) -> bool:
    """Tell whether a line is a row of its own, and no part of a quoted field."""
    return line.count('"') % 2 == 0 and len(next(csv.reader([line], delimiter=delimiter))) == n_columns


def _reason(error: str, n_following: int) -> str:
    if "unexpected end" in error:
        return "a quote is opened and not closed" + (f" in the {n_following:,} lines after it" if n_following else "")
    return "text stands after a closing quote" if "expected after" in error else error


def mapped(content: Content, mapping: Mapping[str, str]) -> str | None:
    """Return the format of a table whose header names the columns that the user gives, None for anything else."""
    header = find_header(content.text_head.split("\n")[:HEADER_ROWS], mapping)
    if not rank(named(header.names), mapping)[0] or len(header.names) < 2:
        return None
    return "tsv" if header.delimiter == "\t" else "csv"


def _fits(content: Content) -> _Header | None:
    """Return the header when it names abstracts and another field, or is followed by a row of the same width."""
    texts = [line + "\n" for line in content.text_head.split("\n")[: 2 * HEADER_ROWS]]
    header = find_header(texts[:HEADER_ROWS], {})
    has_abstracts, n_fields = rank(named(header.names), {})
    if not has_abstracts or len(header.names) < 2:
        return None
    following = csv.reader(texts[header.n_lines :], delimiter=header.delimiter, skipinitialspace=True)
    try:
        is_table = n_fields > 1 or len(next(filter(any, following), [])) == len(header.names)
    except csv.Error:
        is_table = False
    return header if is_table else None


def _is_tsv(content: Content) -> bool:
    header = _fits(content)
    return header is not None and header.delimiter == "\t"


FORMS = {"tsv": Form(_is_tsv, read_table), "csv": Form(lambda content: _fits(content) is not None, read_table)}
