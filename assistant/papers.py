"""A corpus file in; records and refusals out, each with the place it stands at. What is one paper is decided here too.

Formats, told apart by content:

- `page`: the text of a saved paper-search page, titles and abstracts in turn, with or without blank lines between;
- `jsonl`: JSON lines of `{title, abstract, ...}`, BEIR's `_id` and `text` included.

A file is streamed: memory does not grow with its size. Every record is either read or refused with a reason; nothing
is skipped in silence, and one bad record costs no good one.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from assistant.clean import MAX_CHARS, clean, repair_latex
from assistant.errors import CorpusError

TITLE_CHARS = 1_000
"""A longer title is cut here, with a warning."""
MIN_ABSTRACT_CHARS = 200
"""On a saved page a line this long is an abstract; the longest title seen has 176 characters, the shortest abstract
439."""
LINE_BYTES = 8 * MAX_CHARS
"""A longer line is refused without being kept in memory."""


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
    """A record that was refused, with its place and the reason."""

    where: str
    reason: str


# --- What is one paper ------------------------------------------------------------------------------------------------

_NOT_ALNUM = re.compile(r"[\W_]+")
_WORD = re.compile(r"\w+")


def normalised_title(title: str) -> str:
    """Return the letters and digits of a title, case, accents and punctuation folded."""
    decomposed = unicodedata.normalize("NFKD", title.casefold())
    return _NOT_ALNUM.sub("", "".join(c for c in decomposed if not unicodedata.combining(c)))


def strong_keys(record: Record, source: str) -> list[str]:
    """Return the keys that name a paper by themselves, strongest first: DOI, arXiv id, PMID, the source's own id."""
    keys = [
        f"doi:{record.doi.lower()}" if record.doi else None,
        f"arxiv:{record.arxiv_id}" if record.arxiv_id else None,
        f"pmid:{record.pmid}" if record.pmid else None,
        f"own:{source}#{record.own_id}" if record.own_id else None,
    ]
    return [key for key in keys if key]


def title_key(record: Record) -> str:
    """Return the weak key: the normalised title, or for a paper without one a digest of its abstract's words."""
    title = normalised_title(record.title)
    return f"title:{title}" if title else f"abstract:{_digest(normalised_title(record.abstract))[:16]}"


def same_abstract(a: str, b: str) -> bool:
    """Tell whether two abstracts under one title are one paper's: at least half of the word 3-grams are shared.

    Shared is counted against the shorter abstract, so that a truncated copy is recognised.
    """
    grams_a, grams_b = _grams(a), _grams(b)
    return 2 * len(grams_a & grams_b) >= min(len(grams_a), len(grams_b))


def contradicts(record: Record, aliases: Iterable[str]) -> bool:
    """Tell whether a record names another DOI, arXiv id or PMID than the paper's aliases: not the same paper."""
    own = dict(key.split(":", 1) for key in strong_keys(record, "") if not key.startswith("own:"))
    theirs: dict[str, set[str]] = {}
    for alias in aliases:
        kind, _, value = alias.partition(":")
        theirs.setdefault(kind, set()).add(value)
    shared = [kind for kind in own if kind in theirs]
    return bool(shared) and all(own[kind] not in theirs[kind] for kind in shared)


def new_id(record: Record) -> str:
    """Return a readable id for a paper that enters now: some words of its title and 8 hex digits of sha256."""
    words = _WORD.findall(unicodedata.normalize("NFKD", record.title).encode("ascii", "ignore").decode().lower())
    slug = "-".join(words[:6])[:48].strip("-_") or "paper"
    return f"{slug}-{_digest(title_key(record) + ' ' + record.abstract)[:8]}"


def merge(records: Iterable[Record]) -> dict[str, Any]:
    """Return the fields of a paper from all records of it: a pure function of the set, whatever its order.

    The record with the longest abstract is the richest and comes first (ties: by its content); each field is the first
    one that is known.
    """
    ordered = sorted(records, key=lambda record: (-len(record.abstract), record.payload()))
    best = ordered[0]

    def first(name: str) -> Any:
        return next((getattr(record, name) for record in ordered if getattr(record, name)), None)

    fields = {name: first(name) for name in ("url", "year", "venue", "doi", "arxiv_id")}
    return {**fields, "title": first("title") or "", "abstract": best.abstract, "authors": first("authors") or ()}


def _grams(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    n = min(3, len(words)) or 1
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


# --- Reading files ----------------------------------------------------------------------------------------------------


def read_records(path: Path, form: str | None = None) -> tuple[str, Iterator[Record | Rejected]]:
    """Open a corpus file.

    Args:
        path: The file.
        form: One of `FORMATS`; None: told by the content.

    Returns:
        The format's name and an iterator over the file's records and refusals, in order. The iterator reads as it goes.

    Raises:
        CorpusError: The file is missing, unreadable, empty, or of no known format.
    """
    try:
        if not path.is_file():
            found = "it is not a regular file" if path.exists() else "no such file"
            raise CorpusError(f"cannot read {path}: {found}; check the name")
        with path.open("rb") as stream:
            head = stream.read(65_536)
    except OSError as error:
        raise CorpusError(
            f"cannot read {path}: {error.strerror or error}; check the name and its permissions"
        ) from error
    name = form or _detect(path, head)
    return name, _read_all(path, FORMATS[name])


def _read_all(
    path: Path, read: Callable[[Iterable[tuple[int, str | None]]], Iterator[Record | Rejected]]
) -> Iterator[Record | Rejected]:
    try:
        with path.open("rb") as stream:
            yield from read(_lines(stream))
    except OSError as error:
        raise CorpusError(f"cannot read {path} to its end: {error.strerror or error}; run the ingest again") from error


def _detect(path: Path, head: bytes) -> str:
    if not head.strip():
        raise CorpusError(f"cannot read {path}: the file is empty; give a file with records")
    text = head.decode("utf-8-sig", "replace")
    odd = sum(c == "\ufffd" or unicodedata.category(c) == "Cc" for c in text if c not in "\n\r\t\f")
    if odd > max(4, len(text) // 50):
        raise CorpusError(
            f"cannot read {path}: it is no text ({odd} undecodable characters in the first {len(head)} bytes);"
            " give UTF-8 text or JSON lines"
        )
    return "jsonl" if text.lstrip()[0] in "{[" else "page"


def _lines(stream: BinaryIO) -> Iterator[tuple[int, str | None]]:
    """Yield (line number, text) for each line; None for a line too long to be kept."""
    number = 0
    while line := stream.readline(LINE_BYTES):
        number += 1
        if line.endswith(b"\n") or len(line) < LINE_BYTES:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LINE_BYTES)
        yield number, None


_PAGE_FURNITURE = re.compile(
    r"new|trending papers?|get trending papers in your email inbox.*|subscribe|by ?\w{1,40} and the research community"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{1,2}(?:, \d{4})?|papers|search|submitted by.*",
    re.IGNORECASE,
)
_GLUED_SUBSCRIBE = re.compile(r"^Subscribe(?=[A-Z0-9])")


def read_page(lines: Iterable[tuple[int, str | None]]) -> Iterator[Record | Rejected]:
    """Read a saved search page: each line of `MIN_ABSTRACT_CHARS` or more is the abstract of the title before it.

    Header lines (sign-up line, byline, date) are no records. A title without an abstract, an abstract without a title
    and a line too long to be one are refused by line.
    """
    title: tuple[int, str] | None = None
    for number, line in lines:
        text = None if line is None else line.strip()
        if text == "":
            continue
        if text is None or len(text) >= MIN_ABSTRACT_CHARS:
            if text is None:
                yield _too_long(number)
            elif title is None:
                yield Rejected(f"line {number}", "an abstract with no title before it")
            else:
                yield _record({"title": title[1], "abstract": text}, f"line {title[0]}")
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
    return Rejected(f"line {title[0]}", f"no abstract after the title {clean(title[1], 80)!r}")


def _too_long(number: int) -> Rejected:
    return Rejected(f"line {number}", f"the line is longer than {LINE_BYTES:,} bytes, too long for an abstract")


def read_jsonl(lines: Iterable[tuple[int, str | None]]) -> Iterator[Record | Rejected]:
    """Read JSON lines; a line that is no JSON object, or has no abstract, is refused by its number."""
    for number, line in lines:
        where = f"line {number}"
        if line is None:
            yield _too_long(number)
        elif line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Rejected(where, f"invalid JSON: {str(error)[:120]}")
                continue
            if isinstance(value, dict):
                yield _record(value, where)
            else:
                yield Rejected(where, f"a JSON {type(value).__name__} where an object is needed")


FORMATS: Mapping[str, Callable[[Iterable[tuple[int, str | None]]], Iterator[Record | Rejected]]] = {
    "page": read_page,
    "jsonl": read_jsonl,
}
"""The readers by name; each takes (line number, text) pairs."""

_ARXIV = re.compile(
    r"(?:arxiv:|arxiv\.org/(?:abs|pdf)/)?(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?(?:\.pdf)?$",
    re.IGNORECASE,
)
_DOI = re.compile(r"(10\.\d{4,9}/\S+)", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")

_NAMES: Mapping[str, tuple[str, ...]] = {
    "abstract": ("abstract", "text", "summary"),
    "url": ("url", "link"),
    "year": ("year", "date", "published", "publication_date", "publication_year"),
    "venue": ("venue", "journal", "booktitle", "container-title"),
    "doi": ("doi", "DOI"),
    "arxiv_id": ("arxiv_id", "arxiv", "arxivId"),
    "pmid": ("pmid", "PMID"),
    "own_id": ("_id", "id", "paper_id", "corpusid"),
}
"""The names under which sources keep each field, the first that is there counts."""


def _record(raw: Mapping[str, Any], where: str) -> Record | Rejected:
    """Clean one raw record; the only way in for any format."""
    abstract = _raw(raw, "abstract")
    if isinstance(abstract, list) and all(isinstance(part, str) for part in abstract):
        abstract = " ".join(abstract)
    title = raw.get("title", "")
    if title is not None and not isinstance(title, str):
        return Rejected(where, f"the title is a {type(title).__name__}, not a text")
    if abstract is not None and not isinstance(abstract, str):
        return Rejected(where, f"the abstract is a {type(abstract).__name__}, not a text")
    if abstract and len(abstract) > MAX_CHARS:
        return Rejected(where, f"the abstract has {len(abstract):,} characters; the limit is {MAX_CHARS:,}")
    name = repair_latex(clean(title or "", TITLE_CHARS))
    text = repair_latex(clean(abstract or ""), name)
    if not any(character.isalnum() for character in text):
        return Rejected(where, f"no abstract for the title {name[:80]!r}")
    cut = (
        f"the title has {len(title):,} characters and was cut at {TITLE_CHARS:,}"
        if title and len(title) > TITLE_CHARS
        else None
    )
    return Record(where, name, text, warning=cut, **_metadata(raw))


def _metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    doi = _DOI.search(_text(raw, "doi") or "")
    arxiv = _ARXIV.search(_text(raw, "arxiv_id") or _text(raw, "url") or "")
    year = _YEAR.search(_text(raw, "year") or "")
    url = _text(raw, "url")
    return {
        "url": url if url and re.match(r"https?://[^\s<>\"]+$", url) else None,
        "authors": _authors(raw.get("authors", raw.get("author"))),
        "year": int(year[1]) if year else None,
        "venue": _text(raw, "venue"),
        "doi": doi[1].rstrip(".,;") if doi else None,
        "arxiv_id": arxiv[1] if arxiv else None,
        "pmid": _text(raw, "pmid"),
        "own_id": _text(raw, "own_id"),
    }


def _authors(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = re.split(r"\s+and\s+|;", value) if re.search(r"\s+and\s+|;", value) else value.split(",")
    if not isinstance(value, list):
        return ()
    names = [each.get("name", "") if isinstance(each, dict) else each for each in value[:5_000]]
    return tuple(name for name in (clean(each, 200) for each in names if isinstance(each, str)) if name)


def _raw(raw: Mapping[str, Any], field: str) -> Any:
    return next((raw[name] for name in _NAMES[field] if raw.get(name) is not None), None)


def _text(raw: Mapping[str, Any], field: str) -> str | None:
    value = _raw(raw, field)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return clean(str(value)[:TITLE_CHARS], TITLE_CHARS) or None
    return None
