"""Tagged text -> records: RIS, MEDLINE/nbib, EndNote's refer and Web of Science differ in their tags alone.

A line that begins with a tag begins a field, any other continues the field before it. A record ends at its end tag, at
the next record's first tag or, where a format has neither, at an empty line, so that a lost line costs no neighbour.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assistant.papers import Raw, Rejected, damaged
from assistant.sources.content import LINE_BYTES, Content, Form
from assistant.sources.markup import given_first

RECORD_CHARS = LINE_BYTES
"""A longer record is refused without being kept."""


@dataclass(frozen=True, slots=True)
class _Tags:
    """How a tagged format is written, and which of its tags say what."""

    line: re.Pattern[str]
    """Matches a line with a tag: (tag, value)."""
    first: str
    """The tag that begins a record."""
    last: str
    """The tag that ends one; empty: an empty line does, or the next record."""
    fields: Mapping[str, str]
    """For each field its tags, the best first; of these the first that is there counts."""
    header: frozenset[str] = frozenset()
    """Tags of the file, not of a record."""
    is_list: bool = False
    """True when a line that continues a list of authors is the next author."""


_RIS = _Tags(
    re.compile(r"\s?([A-Z][A-Z0-9]) {0,2}-(?: (.*)|\s*)$", re.DOTALL),
    "TY", "ER",
    {"title": "TI T1 CT BT", "abstract": "AB N2", "authors": "AU A1", "year": "PY Y1 DA", "doi": "DO",
     "venue": "T2 JF JO JA J2 BT", "url": "UR L2 LK", "accession": "AN", "database": "DB DP", "own_id": "ID"},
)  # fmt: skip
_NBIB = _Tags(
    re.compile(r"([A-Z]{2,4}) {0,3}- ?(.*)$", re.DOTALL),
    "PMID", "",
    {"title": "TI BTI TT", "abstract": "AB", "authors": "FAU AU CN", "year": "DP DEP", "venue": "JT TA BTI",
     "doi": "LID AID", "pmid": "PMID"},
)  # fmt: skip
_REFER = _Tags(
    re.compile(r"%([0-9A-Z@])(?:[ \t]+(.*)|\s*)$", re.DOTALL),
    "0", "",
    {"title": "T", "abstract": "X", "authors": "A", "year": "D 8", "doi": "R", "url": "U", "venue": "J B S",
     "accession": "M", "database": "W ~", "own_id": "F"},
)  # fmt: skip
_WOS = _Tags(
    re.compile(r"([A-Z][A-Z0-9])(?:[ \t](.*)|\s*)$", re.DOTALL),
    "PT", "ER",
    {"title": "TI", "abstract": "AB", "authors": "AF AU", "year": "PY EY", "venue": "SO", "doi": "DI", "pmid": "PM",
     "own_id": "UT"},
    frozenset({"FN", "VR", "EF"}),
    is_list=True,
)  # fmt: skip


Lines = list[tuple[int, str | None]]
"""Numbered lines; None is one that is too long, or where a record is."""


def _groups(tags: _Tags, content: Content) -> Iterator[Lines]:
    """Yield the lines of each record, and those of text between two records, which has no tags."""
    group: Lines = []
    is_tagged, is_after_gap, size = False, False, 0
    for number, line in content.lines():
        found = tags.line.match(line) if line else None
        tag = found[1] if found else ""
        if tag in tags.header:
            continue
        is_next = tag == tags.first or (tag and not is_tagged)
        # Without an end tag, text behind an empty line is no part of the record.
        is_stray = is_after_gap and not tag and not tags.last and is_tagged and line and line.strip()
        if group and (is_next or is_stray):
            yield group
            group, is_tagged, size = [], False, 0
        is_after_gap = line is not None and not line.strip()
        is_tagged = is_tagged or bool(tag) or line is None
        size += len(line or "")
        if line is None or (not is_after_gap and size <= RECORD_CHARS):
            group.append((number, line))
        elif size > RECORD_CHARS and group and group[-1][1] is not None:
            group.append((number, None))
        if tag and tag == tags.last:
            yield group
            group, is_tagged, size = [], False, 0
    if group:
        yield group


def _read(tags: _Tags, content: Content) -> Iterator[Raw | Rejected]:
    is_begun = False
    for group in _groups(tags, content):
        where = f"line {group[0][0]}"
        text = "\n".join(line.rstrip("\r\n") for _, line in group[:1_000] if line)
        if any(line is None for _, line in group):
            yield damaged(where, f"longer than {LINE_BYTES:,} characters, too long for a record", text)
            is_begun = True
            continue
        values = _values(tags, [line or "" for _, line in group])
        if not values and is_begun:
            yield damaged(where, "text that belongs to no record", text)
        elif values and set(values) != {tags.last}:  # an end tag twice ends nothing
            is_begun = True
            yield _record(where, values, text, tags)
    if not is_begun:
        yield damaged("line 1", f"no line with the tag {tags.first} that begins a record", content.text_head[:2_000])


def _values(tags: _Tags, lines: list[str]) -> dict[str, list[str]]:
    """Return the values of each tag, the lines that continue one joined to it."""
    values: dict[str, list[list[str]]] = {}
    tag = ""
    authors = tags.fields["authors"].split() if tags.is_list else ()
    for line in lines:
        if found := tags.line.match(line):
            tag = found[1]
            values.setdefault(tag, []).append([found[2] or ""])
        elif tag in authors:
            values[tag].append([line])
        elif tag:
            values[tag][-1].append(line)
    return {tag: [" ".join(" ".join(parts).split()) for parts in each] for tag, each in values.items()}


def _record(where: str, values: Mapping[str, list[str]], text: str, tags: _Tags) -> Raw | Rejected:
    known = {
        name: next((found for tag in names.split() if any(found := values.get(tag, []))), [])
        for name, names in tags.fields.items()
    }
    if not any(known.values()):
        return damaged(where, "none of its tags says anything of a paper", text)
    return Raw(where, _fields(known))


def _fields(known: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the fields of a paper; a title or an abstract in several lines is one, of the others the first counts."""
    first = {name: next(filter(None, values), "") for name, values in known.items()}
    accession, database = first.pop("accession", ""), first.pop("database", "")
    kinds = [re.fullmatch(r"(.*?)\s*(?:\[(\w+)\])?", value) for value in known["doi"]]
    fields: dict[str, Any] = {
        **first,
        "title": " ".join(known["title"]),
        "abstract": " ".join(known["abstract"]),
        "authors": [given_first(name) for name in known["authors"] if name],
        "doi": next((kind[1] for kind in kinds if kind and kind[2] in {None, "doi"}), ""),
        "url": next((found[0] for value in known.get("url", []) if (found := re.search(r"https?://\S+", value))), ""),
    }
    if accession.casefold().startswith("arxiv"):
        fields["arxiv_id"] = accession
    elif accession.isdigit() and re.search(r"pubmed|medline|\bnlm\b", database, re.IGNORECASE):
        fields["pmid"] = accession
    else:
        fields["own_id"] = first.get("own_id") or accession
    if first.get("pmid") and "url" not in known:
        fields["url"] = f"https://pubmed.ncbi.nlm.nih.gov/{first['pmid']}/"
    return {name: value for name, value in fields.items() if value}


# --- The formats ------------------------------------------------------------------------------------------------------


def _head(content: Content) -> list[str]:
    """Return the lines of the beginning that are not empty."""
    return [line.rstrip() for line in content.text_head[:20_000].split("\n")[:100] if line.strip()]


def _fits(tags: _Tags, start: str) -> Callable[[Content], bool]:
    """Tell a format by the line that begins a record, near the file's beginning, with a tag on the line after."""
    pattern = re.compile(start)

    def fits(content: Content) -> bool:
        lines = _head(content)
        at = next((i for i, line in enumerate(lines[:40]) if pattern.fullmatch(line)), -1)
        return 0 <= at < len(lines) - 1 and bool(tags.line.match(lines[at + 1]))

    return fits


def _reader(tags: _Tags) -> Callable[[Content], Iterator[Raw | Rejected]]:
    return lambda content: _read(tags, content)


FORMS = {
    "ris": Form(_fits(_RIS, r"\s?TY {0,2}- ?[A-Z]{2,8}"), _reader(_RIS)),
    "nbib": Form(_fits(_NBIB, r"PMID ?- ?\d{1,9}"), _reader(_NBIB)),
    "refer": Form(_fits(_REFER, r"%0[ \t]+[A-Z][\w-]+(?: [\w/-]+){0,4}"), _reader(_REFER)),
    "wos": Form(_fits(_WOS, r"(?:FN (?:Clarivate|Thomson|ISI).*|PT [JBSP])"), _reader(_WOS)),
}
