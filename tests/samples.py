"""Files of every format that the tests make, each with good records and bad ones; `tests/README.md` shows the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One made file and what reading it has to give."""

    form: str
    """The format that has to be told by the content."""
    name: str
    """The file's name."""
    content: bytes
    titles: tuple[str, ...]
    """Of the good records, in order."""
    bad: tuple[tuple[str, str], ...] = ()
    """(where, a word of the reason) of each refusal, in order."""
