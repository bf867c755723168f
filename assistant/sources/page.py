"""The text of a saved paper-search page -> records: titles and abstracts in turn, blank lines or none between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from assistant.clean import clean
from assistant.papers import Raw, Rejected, damaged
from assistant.sources.content import LINE_BYTES, Content, Form

MIN_ABSTRACT_CHARS = 200
"""On a saved page a line this long is an abstract; the longest title seen has 176 characters, the shortest abstract
439."""

_PAGE_FURNITURE = re.compile(
    r"new|trending papers?|get trending papers in your email inbox.*|subscribe|by ?\w{1,40} and the research community"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{1,2}(?:, \d{4})?|papers|search|submitted by.*",
    re.IGNORECASE,
)
_GLUED_SUBSCRIBE = re.compile(r"^Subscribe(?=[A-Z0-9])")


def read_page(content: Content) -> Iterator[Raw | Rejected]:
    """Read a saved search page: each line of `MIN_ABSTRACT_CHARS` or more is the abstract of the title before it.

    Header lines (sign-up line, byline, date) are no records. A title without an abstract, an abstract without a title
    and a line too long to be one are refused by line.
    """
    return read_lines(content.lines())


def read_lines(lines: Iterable[tuple[int, str | None]]) -> Iterator[Raw | Rejected]:
    """Read the numbered lines of a page; None is a line too long to be kept."""
    title: tuple[int, str] | None = None
    for number, line in lines:
        text = None if line is None else line.strip()
        if text == "":
            continue
        if text is None or len(text) >= MIN_ABSTRACT_CHARS:
            if text is None:
                yield damaged(f"line {number}", f"the line is longer than {LINE_BYTES:,} bytes, too long for a record")
            elif title is None:
                yield Rejected(f"line {number}", "an abstract with no title before it", {"abstract": text})
            else:
                yield Raw(f"line {title[0]}", {"title": title[1], "abstract": text})
            title = None
            continue
        text = _GLUED_SUBSCRIBE.sub("", text)
        if title is None and _PAGE_FURNITURE.fullmatch(text):
            continue
        if title is not None:
            yield _no_abstract(title)
        title = (number, text)
    if title is not None:
        yield _no_abstract(title)


def _no_abstract(title: tuple[int, str]) -> Rejected:
    return Rejected(f"line {title[0]}", f"no abstract after the title {clean(title[1], 80)!r}", {"title": title[1]})


FORMS = {"page": Form(lambda _content: True, read_page)}
