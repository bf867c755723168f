"""Parquet -> records: the columns whose names are known, read a few rows at a time by a process of its own.

A group of rows that cannot be read, that would unfold to more than is reasonable, or that ends the process, is refused
by its rows; the groups after it are read.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.errors import CorpusError
from assistant.papers import Raw, Rejected, damaged
from assistant.sources.content import Content, Form
from assistant.sources.tables import columns, no_abstracts, rank, row_fields

MAX_STARTS = 20
"""A file that ends so many processes is read no further."""

_PROGRAM = Path(__file__).with_name("parquet_rows.py")


@dataclass(slots=True)
class _Place:
    """How far a file has been read."""

    group: int = -1
    row: int = 1
    """The next one."""
    last: int = 0
    """Of the group."""
    is_end: bool = False

    def refused(self, reason: str) -> Iterator[Rejected]:
        """Refuse what is left of the group."""
        if self.row <= self.last:
            yield damaged(f"rows {self.row}-{self.last}", f"cannot be read: {reason}")
            self.row = self.last + 1

    def entered(self, group: int, n_rows: int) -> None:
        """Go on to a group."""
        self.group, self.last = group, self.last + max(0, n_rows)


def read_parquet(content: Content, mapping: Mapping[str, str] | None = None) -> Iterator[Raw | Rejected]:
    """Read the rows of a Parquet file, with the columns that hold a field under their own names.

    Raises:
        CorpusError: The file's own description cannot be read, or no column is known to hold abstracts.
    """
    place = _Place()
    with content.file() as path:
        for _ in range(MAX_STARTS):
            for kind, value in _messages(path, place, content.name, mapping or {}):
                if kind == "row":
                    yield Raw(f"row {place.row}", row_fields(value.items()))
                    place.row += 1
                elif kind == "bad":
                    yield damaged(f"row {place.row}", value)
                    place.row += 1
                else:
                    yield from place.refused(value)
            if place.is_end:
                return
            if place.row > place.last:
                break
            yield from place.refused("it ends the process that reads it")
    raise _broken(content.name, f"it ends the process that reads it, after row {place.row - 1:,}")


def _messages(path: Path, place: _Place, name: str, mapping: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yield what the program says of each row, and why what is left of a group is not read; see there."""
    command = [sys.executable, "-P", str(_PROGRAM), str(path), str(place.group + 1)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as program:  # noqa: S603 - ours
        assert program.stdin
        assert program.stdout
        try:
            while (line := program.stdout.readline()).endswith(b"\n"):
                kind, *values = json.loads(line)
                if kind == "columns":
                    names = values[0]
                    if not rank(names, mapping)[0]:
                        raise no_abstracts(name, names, mapping)
                    with suppress(OSError):  # it has ended already, which is seen next
                        program.stdin.write(json.dumps(list(columns(names, mapping).values())).encode() + b"\n")
                        program.stdin.close()
                elif kind == "broken":
                    raise _broken(name, values[0])
                elif kind in {"group", "end"}:
                    yield "rest", "the group has fewer rows than it says"
                    place.is_end = kind == "end"
                    place.entered(*(values or (place.group, 0)))
                else:
                    yield kind, values[0]
        finally:
            program.kill()


def _broken(name: str, reason: str) -> CorpusError:
    reason = " ".join(reason.split())[:160]
    return CorpusError(f"cannot read {name}: the Parquet file is damaged ({reason}); give an undamaged copy")


FORMS = {"parquet": Form(lambda content: content.head.startswith(b"PAR1"), read_parquet)}
