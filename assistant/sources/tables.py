"""What a header says: which columns hold the fields of a paper. The same for text tables, Parquet and Excel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assistant.errors import CorpusError
from assistant.papers import named_fields

HEADER_ROWS = 10
"""A header is looked for in so many rows: some services write a line or two about the export before it."""
MAX_COLUMNS = 16_384
"""A row of more is no header; a sheet of Excel has no more."""
SHOWN_COLUMNS = 20
"""So many names of columns are told in an error."""


def columns(names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return for each field of `papers.FIELDS` the column that holds it, where the header names one."""
    return named_fields({name: name for name in names}, mapping) if len(names) <= MAX_COLUMNS else {}


def rank(names: Sequence[str], mapping: Mapping[str, str]) -> tuple[bool, int]:
    """Return how well a row does as the header: whether it names all that is needed, and how many fields."""
    found = columns(names, mapping)
    return "abstract" in found and set(mapping.values()) <= set(names), len(found)


def no_abstracts(source: str, names: Sequence[str], mapping: Mapping[str, str]) -> CorpusError:
    """Return the error for a table whose best header lacks the abstracts, or a column that was asked for."""
    missing = [f"{name!r}, which --map {field}={name} asks for" for field, name in mapping.items() if name not in names]
    shown = ", ".join(repr(name[:80]) for name in names[:SHOWN_COLUMNS] if name)
    more = f" and {len(names) - SHOWN_COLUMNS:,} more" if len(names) > SHOWN_COLUMNS else ""
    lacks = f"no column {' or '.join(missing)}" if missing else "no column that is known to hold abstracts"
    return CorpusError(
        f"cannot read {source}: it has {lacks}; its columns are {shown or 'without names'}{more};"
        " give the right one with --map abstract=COLUMN"
    )


def named(names: Sequence[str]) -> list[str]:
    """Return the names of a header's columns, `column 3` for one without a name."""
    return [name.strip() or f"column {number}" for number, name in enumerate(names, 1)]


def row_fields(cells: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a row by its columns, empty cells left out; of columns with one name the first filled one counts."""
    fields: dict[str, Any] = {}
    for name, value in cells:
        if value not in (None, "", [], {}) and not (isinstance(value, str) and value.isspace()):
            fields.setdefault(name, value)
    return fields


def one_line(error: Exception) -> str:
    """Return the beginning of what a foreign error says, on one line."""
    return " ".join(str(error).split())[:160]
