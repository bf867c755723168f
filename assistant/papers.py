"""What a source says of one paper, as it stands there -> a cleaned record, or a refusal with its reason.

`to_record` is the only way in for any format: what it lets through is clean, bounded and has an abstract.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from assistant.clean import MAX_CHARS, clean, drop_unseen, repair_latex

TITLE_CHARS = 1_000
"""A longer title is cut here, with a warning."""
RAW_CHARS = 20_000
"""What is kept of a record that could not be read, for whoever mends it."""
MAX_AUTHORS = 5_000
"""Of a longer list of authors, the first so many."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One record as it stands in its source, not yet cleaned."""

    where: str
    """Place in its source, such as `line 12`."""
    fields: Mapping[str, Any]
    """What it says, under the names of `FIELDS` or under the source's own names."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one source says of one paper, cleaned."""

    where: str
    """Place in its source, such as `line 12`."""
    title: str
    abstract: str
    url: str | None = None
    authors: tuple[str, ...] = ()
    year: int | None = None
    venue: str | None = None
    doi: str | None = None
    arxiv_id: str | None = None
    pmid: str | None = None
    own_id: str | None = None
    """The source's own id, such as BEIR's `_id`; it means something within its source alone."""
    warning: str | None = None
    """What was changed on the way in, in words."""

    def payload(self) -> str:
        """Return what is said of the paper, without the place, as canonical JSON."""
        names = [name for name in self.__slots__ if name not in {"where", "warning"}]
        return json.dumps({name: getattr(self, name) for name in names}, ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record or a range of bytes that was refused, with its place and the reason."""

    where: str
    reason: str
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What could be read of it."""
    text: str = ""
    """How it stands in the source, where it could not be read; the first `RAW_CHARS` characters."""
    damaged: bool = False
    """True when it could not be read, so that nobody knows which paper it was about."""


def damaged(where: str, reason: str, text: str = "") -> Rejected:
    """Return the refusal of what could not be read, with the beginning of its text."""
    return Rejected(where, reason, text=drop_unseen(text[:RAW_CHARS]), damaged=True)


FIELDS: Mapping[str, tuple[str, ...]] = {
    "title": ("title", "articletitle", "documenttitle", "primarytitle", "papertitle", "ti"),
    "abstract": ("abstract", "text", "summary", "abstractnote", "abstracttext", "ab"),
    "url": ("url", "link", "uri", "articleurl"),
    "authors": (
        "authors", "author", "creators", "authorfullnames", "authornames", "authorshipsauthordisplayname", "af", "au",
    ),
    "year": ("year", "publicationyear", "pubyear", "date", "published", "publicationdate", "issued", "py"),
    "venue": (
        "venue", "journal", "publicationtitle", "sourcetitle", "journaltitle", "containertitle", "booktitle",
        "journalref", "publicationvenue", "so",
    ),
    "doi": ("doi", "di"),
    "arxiv_id": ("arxivid", "arxiv"),
    "pmid": ("pmid", "pubmedid", "medlinepmid", "pm"),
    "own_id": ("ownid", "ut", "eid", "lensid", "publicationid", "paperid", "corpusid", "key", "id"),
}  # fmt: skip
"""The names under which sources keep each field, letters and digits alone; the first that is there counts."""

_ARXIV_ID = r"(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?"
_ARXIV = re.compile(rf"(?:arxiv:\s*)?{_ARXIV_ID}(?:\.pdf)?(?:\s*\[[\w.-]+\])?", re.IGNORECASE)
_ARXIV_URL = re.compile(
    rf"https?://(?:[\w.-]+\.)?(?:arxiv\.org/(?:abs|pdf|html)|huggingface\.co/papers|alphaxiv\.org/abs)/{_ARXIV_ID}"
    r"(?:\.pdf)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
_ARXIV_DOI = re.compile(rf"10\.48550/arxiv\.{_ARXIV_ID}", re.IGNORECASE)
_DOI = re.compile(r"(10\.\d{4,9}/\S+)", re.IGNORECASE)
_DOI_URL = re.compile(r"https?://(?:dx\.)?doi\.org/(10\.\d{4,9}/\S+)", re.IGNORECASE)
_PMID = re.compile(r"(?:pmid:?\s*|https?://(?:www\.)?pubmed\.ncbi\.nlm\.nih\.gov/)?(\d{1,9})/?", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")
_ET_AL = re.compile(r"^et al\.?$|,? et al\.?$", re.IGNORECASE)
_AUTHOR_ID = re.compile(r"\s*\(\d{6,}\)")
"""What Scopus writes behind each name."""
_NONE = re.compile(
    r"\W*(?:no abstract(?: is)?(?: available| provided)?|abstract not available|n/?a|none|null)\W*", re.IGNORECASE
)
"""What stands in the place of an abstract where there is none."""
_URL = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)


def to_record(raw: Raw, mapping: Mapping[str, str] | None = None) -> Record | Rejected:
    """Clean one record; the only way in for any format.

    Args:
        raw: As it stands in its source.
        mapping: For fields of `FIELDS` the one name under which this source keeps them.
    """
    fields = named_fields(raw.fields, mapping or {})
    title, abstract = (_joined(fields.get(name)) for name in ("title", "abstract"))
    for name, value in (("title", title), ("abstract", abstract)):
        if value is not None and not isinstance(value, str):
            return Rejected(raw.where, f"the {name} is a {type(value).__name__}, not a text", raw.fields)
    if abstract and len(abstract) > MAX_CHARS:
        reason = f"the abstract has {len(abstract):,} characters; the limit is {MAX_CHARS:,}"
        return Rejected(raw.where, reason, {"title": title})
    name = repair_latex(clean(title or "", TITLE_CHARS))
    text = repair_latex(clean(abstract or ""), name)
    if not any(character.isalnum() for character in text) or _NONE.fullmatch(text):
        return Rejected(raw.where, f"no abstract for the title {name[:80]!r}", raw.fields)
    cut = None
    if title and len(title) > TITLE_CHARS:
        cut = f"the title has {len(title):,} characters and was cut at {TITLE_CHARS:,}"
    return Record(raw.where, name, text, warning=cut, **_metadata(fields))


def named_fields(fields: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """Return a record's values under the names of `FIELDS`; what is empty or has another name is left out."""
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            plain.setdefault(_plain(name), value)
    found = {each: next((plain[name] for name in names if name in plain), None) for each, names in FIELDS.items()}
    found |= {each: fields.get(name) for each, name in mapping.items()}
    return {name: value for name, value in found.items() if value is not None}


def arxiv_id(text: str) -> str | None:
    """Return the arXiv id, without version, that a text is: an id, a link to it, or its DOI."""
    found = _ARXIV.fullmatch(text) or _ARXIV_URL.fullmatch(text) or _ARXIV_DOI.search(text)
    return found[1].lower() if found else None


def doi(text: str) -> str | None:
    """Return the DOI in a text, in lower case as it is compared."""
    found = _DOI.search(text)
    return found[1].rstrip(".,;").lower() if found else None


def pmid(text: str) -> str | None:
    """Return the PubMed id that a text is: a number or a link to it."""
    found = _PMID.fullmatch(text)
    return str(int(found[1])) if found else None


def _metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    url = _text(fields, "url") or ""
    year = _YEAR.search(_text(fields, "year") or "")
    linked = _DOI_URL.fullmatch(url)
    own_doi = doi(_text(fields, "doi") or "") or (doi(linked[1]) if linked else None)
    own_arxiv = arxiv_id(_text(fields, "arxiv_id") or "") or (arxiv_id(url) if _ARXIV_URL.fullmatch(url) else None)
    return {
        "url": url if _URL.fullmatch(url) else None,
        "authors": _authors(fields.get("authors")),
        "year": int(year[1]) if year else None,
        "venue": _text(fields, "venue"),
        "doi": own_doi,
        "arxiv_id": own_arxiv or arxiv_id(own_doi or ""),
        "pmid": pmid(_text(fields, "pmid") or ""),
        "own_id": _text(fields, "own_id"),
    }


def _authors(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _names(value)
    if not isinstance(value, (list, tuple)):
        return ()
    names = [each.get("name", "") if isinstance(each, dict) else each for each in value[:MAX_AUTHORS]]
    cleaned = (_ET_AL.sub("", clean(each, 200)) for each in names if isinstance(each, str))
    return tuple(name for name in cleaned if name)


def _names(text: str) -> list[Any]:
    """Return the names in a text: a JSON list, or names between semicolons, bars, `and`, or else commas."""
    if text.startswith("["):
        with suppress(ValueError, RecursionError):
            found = json.loads(text)
            return found if isinstance(found, list) else []
    text = _AUTHOR_ID.sub("", text)
    for between in (r";", r"\|", r"\s+and\s+"):
        if re.search(between, text):
            return re.split(between, text)
    parts = text.split(",")
    is_one = len(parts) == 2 and " " not in parts[0].strip()  # "Last, First"
    return [text] if is_one else parts


def _joined(value: Any) -> Any:
    """Return the parts of a text as one."""
    is_parts = isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value)
    return " ".join(value) if is_parts else value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():  # as spreadsheets keep years
        value = int(value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return clean(str(value)[:TITLE_CHARS], TITLE_CHARS) or None
    return None


@lru_cache(maxsize=4_096)
def _plain(name: str) -> str:
    """Return the letters and digits of a column's name, case folded."""
    return re.sub(r"[\W_]+", "", name.casefold())
