"""XML of arXiv, PubMed, EndNote and JATS -> records, cut out of the stream of bytes and parsed one by one.

A record reaches from its start tag to its end tag, or to the next start tag where the end is missing: damage costs the
record that it is in. Each is parsed alone, without the document's DTD: no entity is ever defined, none expands and
none is fetched; expat refuses the record that names one. What a record may hold is bounded before it is parsed.

expat, not libxml2: libxml2 keeps every name it has met for the life of a thread, so that a hostile dump grows the
process, and stops at 256 levels; a tree of expat is freed with its record. Prefixes of namespaces are dropped, for a
record that is cut out has lost their declarations.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from html.entities import html5
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from assistant.papers import RAW_CHARS, Raw, Rejected, damaged
from assistant.sources.content import Content, Form

CHUNK_BYTES = 1 << 20
"""Read at a time."""
RECORD_BYTES = 8 << 20
"""A longer record is refused without being kept; the longest of PubMed, of 5,000 authors, have some 5 MB."""
MARKS = 500_000
"""So many tags and attributes a record may have: each costs some 150 bytes once it is parsed."""

_NO_START = "an end tag without a start tag"
_TOO_LONG = f"longer than {RECORD_BYTES:,} bytes, too long for a record"
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be",
}  # fmt: skip
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([\w.:-]{1,40})")
_PROLOG = re.compile(r"\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[<>]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
_ROOT = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)")
_NAMED_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)([A-Za-z][A-Za-z0-9]{1,30};)")


def wide_encoding(head: bytes) -> str | None:
    """Return the encoding of two or four bytes a character that a text begins in."""
    return next((name for bom, name in _BOMS.items() if head.startswith(bom)), None)


def decode(data: bytes, declared: str = "") -> str:
    """Return a text, in UTF-8 if it can be read so, else as declared, else as Windows writes the West's languages."""
    for name in ("utf-8", declared or "ascii"):
        try:
            return data.decode(name) if codecs.lookup(name).name != "punycode" else data.decode("ascii")
        except (LookupError, UnicodeError, ValueError):
            continue
    return data.decode("cp1252", "replace")


def root(content: Content) -> tuple[str, str]:
    """Return the name of the first element, without prefix, and the text from it on as far as it is known."""
    text = content.head.decode(wide_encoding(content.head) or "utf-8", "replace").removeprefix("\ufeff")
    at = 0
    while found := _PROLOG.match(text, at):
        at = found.end()
    name = _ROOT.match(text, at)
    return (name[1] if name else "", text[at:])


# --- Cutting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """One record as it stands in the file."""

    where: str
    data: bytes
    fault: str = ""
    """Why it cannot be read."""


def _pieces(content: Content, names: str) -> Iterator[_Piece]:
    """Cut a stream into the elements of some names; memory is bounded by `RECORD_BYTES` and a chunk."""
    tag, name = rb"(?:[\w.-]{1,40}:)?", b"(?:%b)" % names.encode()
    mark = re.compile(rb"<" + tag + name + rb"(?=[\s/>])|(</)" + tag + name + rb"\s{0,9}>")
    data, at, start, is_lost = b"", 0, -1, False  # lost: within the rest of a record that was too long
    place = _Place()
    for chunk in _chunks(content):
        data += chunk
        while found := mark.search(data, at):
            is_end = bool(found[1])
            if start >= 0:
                end, fault = (found.end(), "") if is_end else (found.start(), "its end tag is missing")
                yield _Piece(place.of(data, start), data[start:end], fault)
            elif is_end and not is_lost:
                yield _Piece(
                    place.of(data, found.start()), data[max(at, found.start() - RAW_CHARS) : found.end()], _NO_START
                )
            at, start, is_lost = found.end(), -1 if is_end else found.start(), False
        if start >= 0 and len(data) - start > RECORD_BYTES:
            yield _Piece(place.of(data, start), data[start : start + RAW_CHARS], _TOO_LONG)
            start, is_lost = -1, True
        # A tag may be cut in two by the end of a chunk; some of what stands before a stray end tag goes with it.
        at = max(at, len(data) - 128)
        keep = start if start >= 0 else max(at - RAW_CHARS, 0)
        place.drop(data, keep)
        data, at, start = data[keep:], at - keep, 0 if start >= 0 else -1
    if start >= 0:
        yield _Piece(place.of(data, 0), data, "the file ends before its end tag")
    elif not place.number:
        yield _Piece("line 1", content.head, f"no element <{names.replace('|', '> or <')}> in the file")


class _Place:
    """Counts the records and lines of a stream of which a window is known."""

    def __init__(self) -> None:
        self.number, self._line, self._counted = 0, 1, 0

    def of(self, data: bytes, at: int) -> str:
        """Return the place of the next record, which begins at an offset into the window."""
        self.number += 1
        self._move(data, at)
        return f"record {self.number} (line {self._line})"

    def drop(self, data: bytes, n: int) -> None:
        """Tell that the first bytes of the window will be dropped."""
        self._move(data, n)
        self._counted -= n

    def _move(self, data: bytes, at: int) -> None:
        if at > self._counted:
            self._line += data.count(b"\n", self._counted, at)
            self._counted = at


def _chunks(content: Content) -> Iterator[bytes]:
    wide = wide_encoding(content.head)
    decoder = codecs.getincrementaldecoder(wide)("replace") if wide else None
    while chunk := content.stream.read(CHUNK_BYTES):
        yield decoder.decode(chunk).encode("utf-8", "replace") if decoder else chunk


def _parse(text: str) -> Element:
    """Parse one element.

    Raises:
        expat.ExpatError: It is not well-formed, or names an entity that neither XML nor HTML has.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = lambda name, values: builder.start(name.rpartition(":")[2], values)
    parser.EndElementHandler = lambda name: builder.end(name.rpartition(":")[2])
    parser.CharacterDataHandler = builder.data
    parser.Parse(_NAMED_ENTITY.sub(_html_entity, text).encode(), True)
    return builder.close()


def _html_entity(found: re.Match[str]) -> str:
    """Return the character of HTML's name for it, which XML knows from its DTD alone; any other name as it is."""
    return escape(html5[found[1]]) if found[1] in html5 else found[0]


_Read = Callable[[str, Element], Raw | Rejected]


def _reader(names: str, read: _Read) -> Callable[[Content], Iterator[Raw | Rejected]]:
    def records(content: Content) -> Iterator[Raw | Rejected]:
        found = _DECLARED.search(content.head[:400])
        declared = found[1].decode() if found else ""
        for piece in _pieces(content, names):
            yield _record(piece, decode(piece.data, declared), read)

    return records


def _record(piece: _Piece, text: str, read: _Read) -> Raw | Rejected:
    if piece.fault or len(piece.data) > RECORD_BYTES:
        return damaged(piece.where, piece.fault or _TOO_LONG, text)
    n_marks = text.count("<") + text.count("=")
    if n_marks > MARKS:
        return damaged(piece.where, f"{n_marks:,} tags and attributes, too many for a record", text)
    try:
        return read(piece.where, _parse(text))
    except expat.ExpatError as error:
        return damaged(piece.where, f"invalid XML: {error}", text)


# --- The kinds of records ---------------------------------------------------------------------------------------------


def _text(element: Element | None) -> str:
    """Return all text of an element in one line; super- and subscripts are joined to what they stand at."""
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _first(element: Element, *paths: str) -> str:
    """Return the text of the first of some paths that has any."""
    return next((text for path in paths for each in element.iterfind(path) if (text := _text(each))), "")


def _name(last: str, first: str, suffix: str = "") -> str:
    return " ".join(part for part in (first, last, suffix) if part)


def given_first(name: str) -> str:
    """Return `Last, First` or `Last, First, Jr.` as `First Last Jr.`, any other name as it is."""
    parts = [part.strip() for part in name.split(",")]
    return _name(*parts) if 2 <= len(parts) <= 3 and all(parts) else name.strip()


def _atom(where: str, entry: Element) -> Raw | Rejected:
    own_id = _first(entry, "id")
    fields = {
        "title": _first(entry, "title"),
        "abstract": _first(entry, "summary", "content"),
        "authors": [_first(each, "name") for each in entry.iterfind("author")],
        "year": _first(entry, "published", "updated"),
        "url": next((link for each in entry.iterfind("link") if (link := each.get("href"))), own_id),
        "arxiv_id": own_id,
        "doi": _first(entry, "doi"),
        "venue": _first(entry, "journal_ref"),
        "own_id": own_id,
    }  # fmt: skip
    if "arxiv.org/api/errors" in own_id:
        return Rejected(where, f"the arXiv API refused the query: {fields['abstract'][:200]}", fields)
    if "arxiv.org/abs/" in own_id:
        fields["url"] = own_id
    return Raw(where, fields)


def _names(text: str) -> list[str]:
    """Return the names of a list as arXiv writes it: `A. One (1), B. Two and C. Three ((1) Somewhere)`."""
    for _ in range(3):
        text = re.sub(r"\([^()]*\)", "", text)
    return [name.strip() for name in re.split(r",|\sand\s", text) if name.strip()]


def _oai(where: str, record: Element) -> Raw | Rejected:
    header, metadata = record.find("header"), record.find("metadata")
    own_id = _first(record, "header/identifier")
    if header is not None and header.get("status") == "deleted":
        return Rejected(where, f"a deleted record: {own_id}", {"own_id": own_id})
    body = metadata[0] if metadata is not None and len(metadata) else record
    links = [_text(each) for each in body.iterfind("identifier")]
    written = _first(body, "authors") if body.find("authors/author") is None else ""
    return Raw(where, {
        "title": _first(body, "title"),
        "abstract": _first(body, "abstract") or next(
            (text for each in body.iterfind("description") if not (text := _text(each)).startswith("Comment")), ""),
        "authors": [
            *(_name(_first(each, "keyname"), _first(each, "forenames"), _first(each, "suffix"))
              for each in body.iterfind("authors/author")),
            *_names(written),
            *(given_first(_text(each)) for each in body.iterfind("creator")),
        ],
        "year": _first(body, "created", "version/date", "date"),
        "venue": _first(body, "journal-ref"),
        "doi": _first(body, "doi") or next((link for link in links if re.match(r"(?:doi:)?10\.", link)), ""),
        "arxiv_id": _first(body, "id") or own_id.removeprefix("oai:arXiv.org:"),
        "url": next((link for link in links if link.startswith("http")), "")
        or (f"https://arxiv.org/abs/{_first(body, 'id')}" if _first(body, "id") else ""),
        "own_id": own_id,
    })  # fmt: skip


def _pubmed(where: str, record: Element) -> Raw | Rejected:
    body = next(
        (each for path in ("MedlineCitation", "BookDocument") if (each := record.find(path)) is not None), record
    )
    article = body if (found := body.find("Article")) is None else found
    ids = [*record.iterfind("PubmedData/ArticleIdList/ArticleId"), *body.iterfind("ArticleIdList/ArticleId"),
           *record.iterfind("PubmedBookData/ArticleIdList/ArticleId")]  # fmt: skip
    dois = [_text(each) for each in ids if each.get("IdType") == "doi"]
    dois += [_text(each) for each in article.iterfind("ELocationID") if each.get("EIdType") == "doi"]
    parts = [(each.get("Label"), _text(each)) for each in article.iterfind("Abstract/AbstractText")]
    authors = [each for each in article.iterfind("AuthorList") if each.get("Type") != "editors"]
    pmid = _first(body, "PMID")
    return Raw(where, {
        "title": _first(article, "ArticleTitle", "VernacularTitle", "Book/BookTitle"),
        "abstract": " ".join(f"{label}: {text}" if label else text for label, text in parts if text),
        "authors": [
            _first(each, "CollectiveName")
            or _name(_first(each, "LastName"), _first(each, "ForeName", "Initials"), _first(each, "Suffix"))
            for each in (authors[0].iterfind("Author") if authors else ())
        ],
        "year": _first(article, "Journal/JournalIssue/PubDate/Year", "Journal/JournalIssue/PubDate/MedlineDate",
                       "ArticleDate/Year", "Book/PubDate/Year", "Book/PubDate/MedlineDate"),
        "venue": _first(article, "Journal/Title", "Journal/ISOAbbreviation", "Book/BookTitle"),
        "doi": next(iter(dois), ""),
        "pmid": pmid,
        "url": f"https://pubmed.ncbi.nlm.nih.gov/{pmid}/" if pmid else "",
    })  # fmt: skip


def _endnote(where: str, record: Element) -> Raw | Rejected:
    accession, database = (
        _first(record, "accession-num"),
        _first(record, "remote-database-name", "remote-database-provider"),
    )
    is_pubmed = accession.isdigit() and database.casefold() in {"pubmed", "medline", "nlm"}
    return Raw(where, {
        "title": _first(record, "titles/title"),
        "abstract": _first(record, "abstract"),
        "authors": [given_first(_text(each)) for each in record.iterfind("contributors/authors/author")],
        "year": _first(record, "dates/year", "dates/pub-dates/date"),
        "venue": _first(record, "titles/secondary-title", "periodical/full-title", "periodical/abbr-1"),
        "doi": _first(record, "electronic-resource-num"),
        "url": _first(record, "urls/related-urls/url", "urls/web-urls/url"),
        "pmid": accession if is_pubmed else "",
        "arxiv_id": accession,
        "own_id": _first(record, "rec-number"),
    })  # fmt: skip


_JATS_BLOCKS = {"p", "title", "sec", "break", "list-item", "disp-formula"}


def _jats(where: str, article: Element) -> Raw | Rejected:
    front = article.find("front")
    meta = None if front is None else front.find("article-meta")
    if front is None or meta is None:
        return Rejected(where, "no front matter with the article's title and abstract")
    for each in list(meta.iter()):
        if each.tag == "alternatives" and len(each) > 1:  # one formula twice, in TeX and in MathML
            for tex in each.findall("tex-math"):
                each.remove(tex)
        if each.tag in _JATS_BLOCKS:
            each.tail = f" {each.tail or ''}"
    ids = {each.get("pub-id-type", ""): _text(each) for each in meta.iterfind("article-id")}
    abstracts = sorted(meta.iterfind("abstract"), key=lambda each: each.get("abstract-type") is not None)
    people = [each for each in meta.iterfind("contrib-group/contrib") if each.get("contrib-type", "author") == "author"]
    return Raw(where, {
        "title": _first(meta, "title-group/article-title"),
        "abstract": re.sub(r"^abstract\b[:.]?\s*", "", _text(abstracts[0]), flags=re.IGNORECASE) if abstracts else "",
        "authors": [
            _name(_first(each, "name/surname", "name-alternatives/name/surname"),
                  _first(each, "name/given-names", "name-alternatives/name/given-names"), _first(each, "name/suffix"))
            or _first(each, "collab", "string-name")
            for each in people
        ],
        "year": min((year for each in meta.iterfind("pub-date") if (year := _first(each, "year"))), default=""),
        "venue": _first(front, "journal-meta/journal-title-group/journal-title", "journal-meta/journal-title"),
        "doi": ids.get("doi", ""),
        "pmid": ids.get("pmid", ""),
        "arxiv_id": ids.get("arxiv", ""),
    })  # fmt: skip


# --- The formats ------------------------------------------------------------------------------------------------------


def _fits(roots: str, *hints: str) -> Callable[[Content], bool]:
    def fits(content: Content) -> bool:
        name, head = root(content)
        return name in roots.split() and (not hints or any(hint in head for hint in hints))

    return fits


FORMS = {
    "atom": Form(_fits("feed entry", "http://www.w3.org/2005/Atom"), _reader("entry", _atom)),
    "arxiv-oai": Form(_fits("OAI-PMH ListRecords GetRecord"), _reader("record", _oai)),
    "pubmed": Form(
        _fits("PubmedArticleSet PubmedBookArticleSet PubmedArticle PubmedBookArticle"),
        _reader("PubmedArticle|PubmedBookArticle", _pubmed),
    ),
    "endnote": Form(
        _fits("xml records", "<ref-type", "<rec-number", "<contributors", "<titles"), _reader("record", _endnote)
    ),
    "jats": Form(_fits("article articles pmc-articleset", "<article-meta", "<front"), _reader("article", _jats)),
}
