"""One JSON object of a known service or program -> the fields of a paper, under the names of `papers.FIELDS`.

The shape is told by the object's keys, object by object, so that files of mixed origin are read. An object of no known
shape is left as it is, with the source's own names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, NamedTuple

from assistant.clean import MAX_CHARS
from assistant.papers import MAX_AUTHORS, arxiv_id
from assistant.sources.jats import plain_text

Object = Mapping[str, Any]

_WRAPPERS = ("paper", "citedPaper", "citingPaper", "message")
"""Names under which replies put the one paper that each of their objects is about."""
_NOTED_ARXIV = re.compile(r"\barxiv(?:\s+id)?\s*:\s*([\w./-]+)", re.IGNORECASE)
_NOTED_PMID = re.compile(r"\bpmid\s*:\s*(\d{1,9})", re.IGNORECASE)


class UnusableError(ValueError):
    """An object of a known shape whose abstract cannot be put together; says why."""


def flatten(value: Object) -> Object:
    """Return what an object says of a paper.

    Raises:
        UnusableError: The abstract is there in parts that do not fit together.
    """
    value = unwrapped(value)
    shape = shape_of(value)
    return shape.fields(value) if shape else value


def unwrapped(value: Object) -> Object:
    """Return the paper that an object wraps, or the object."""
    data = value.get("data")
    if isinstance(data, dict) and "itemType" in data:
        return {"key": value.get("key"), **data}
    for name in _WRAPPERS:
        inner = value.get(name)
        if isinstance(inner, dict) and not {"title", "paperId"}.isdisjoint(inner):
            return inner
    return value


def shape_of(value: Object) -> Shape | None:
    """Return the shape that an object has."""
    keys = value.keys()
    if _TELLING.isdisjoint(keys):
        return None
    return next((shape for shape in SHAPES if shape.fits(keys) and shape.agrees(value)), None)


def _get(value: Any, *path: str | int) -> Any:
    """Return what is at the end of a path of keys and places, or None where it breaks off."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and len(value) > step:
            value = value[step]
        else:
            return None
    return value


def _first(*values: Any) -> Any:
    """Return the first value that says something."""
    return next((value for value in values if value not in (None, "", [], {})), None)


def _objects(value: Any, limit: int = MAX_AUTHORS) -> Iterable[Object]:
    return islice((each for each in value if isinstance(each, dict)), limit) if isinstance(value, list) else ()


def _plain(value: Any) -> Any:
    """Return a text, or the first of a list of texts, without markup."""
    value = _first(*value[:100]) if isinstance(value, list) else value
    return plain_text(value) if isinstance(value, str) else value


def _person(*parts: Any) -> str:
    return " ".join([part for part in parts if part and isinstance(part, str)])


def _people(value: Any) -> list[str]:
    """Return the names of people in any of the ways in which they are taken apart."""
    names = (
        _person(*(each.get(part) for part in _NAME_PARTS))
        or _person(_first(*(each.get(name) for name in _WHOLE_NAMES)))
        for each in _objects(value)
    )
    return [name for name in names if name]


_NAME_PARTS = (
    "given", "firstName", "first", "middle", "dropping-particle", "non-dropping-particle", "family", "lastName", "last",
    "suffix",
)  # fmt: skip
_WHOLE_NAMES = ("name", "literal", "fullName", "collectiveName")


def _date(value: Any) -> Any:
    """Return a date of Crossref or CSL as a text that holds the year."""
    if isinstance(value, dict):
        return _first(_get(value, "date-parts", 0, 0), value.get("raw"), value.get("literal"))
    return value


def _noted(pattern: re.Pattern[str], *notes: Any) -> str | None:
    """Return the id that one of some free texts gives."""
    found = (pattern.search(note[:MAX_CHARS]) for note in notes if isinstance(note, str))
    return next((each[1].rstrip(".") for each in found if each), None)


# --- The shapes -------------------------------------------------------------------------------------------------------


def _arxiv(value: Object) -> Object:
    parsed, own = value.get("authors_parsed"), value.get("id")
    people = parsed[:MAX_AUTHORS] if isinstance(parsed, list) else []
    names = [_person(*each[1:2], *each[:1], *each[2:3]) for each in people if isinstance(each, list)]
    return {
        "title": value.get("title"),
        "abstract": value.get("abstract"),
        "url": f"https://arxiv.org/abs/{own}" if own else None,
        "authors": [name for name in names if name] or value.get("authors"),
        "year": _first(_get(value, "versions", 0, "created"), value.get("update_date")),
        "venue": value.get("journal-ref"),
        "doi": value.get("doi"),
        "arxiv_id": own,
        "own_id": own,
    }


def _openalex(value: Object) -> Object:
    place = _first(_get(value, "primary_location"), _get(value, "best_oa_location"))
    own = value.get("id")
    links = [_get(each, "landing_page_url") for each in _objects(value.get("locations"), 100)]
    return {
        "title": _plain(_first(value.get("title"), value.get("display_name"))),
        "abstract": _plain(_first(value.get("abstract"), _ordered(value.get("abstract_inverted_index")))),
        "url": _first(_get(place, "landing_page_url"), value.get("doi"), own),
        "authors": [
            name
            for each in _objects(value.get("authorships"))
            if (name := _first(_get(each, "author", "display_name"), each.get("raw_author_name")))
        ],
        "year": _first(value.get("publication_year"), value.get("publication_date")),
        "venue": _first(_get(place, "source", "display_name"), _get(value, "host_venue", "display_name")),
        "doi": _first(value.get("doi"), _get(value, "ids", "doi")),
        "arxiv_id": next((found for link in links if isinstance(link, str) and (found := arxiv_id(link))), None),
        "pmid": _get(value, "ids", "pmid"),
        "own_id": own.rstrip("/").rpartition("/")[2] if isinstance(own, str) else own,
    }


def _ordered(index: Any) -> str | None:
    """Return the text of an inverted abstract: its words, each with its places."""
    if isinstance(index, str):
        try:
            index = json.loads(index)
        except (ValueError, RecursionError):
            raise UnusableError(f"the inverted abstract is no JSON: {index[:40]!r}") from None
    if not isinstance(index, dict):
        return None
    index = index.get("InvertedIndex", index)  # as it was in dumps of Microsoft Academic
    words: list[tuple[int, str]] = []
    length = 0
    for word, places in index.items() if isinstance(index, dict) else ():
        length += (len(word) + 1) * len(places if isinstance(places, list) else ())
        if length > 2 * MAX_CHARS:
            raise UnusableError(f"the inverted abstract has more than {2 * MAX_CHARS:,} characters")
        for place in places if isinstance(places, list) else [places]:
            if type(place) is not int or not 0 <= place < MAX_CHARS:
                raise UnusableError(f"the inverted abstract has the word {word[:40]!r} at {str(place)[:40]}")
            words.append((place, word))
    return " ".join(word for _, word in sorted(words))


def _s2(value: Object) -> Object:
    ids = _first(value.get("externalIds"), value.get("externalids"))
    ids = {name.casefold(): each for name, each in ids.items()} if isinstance(ids, dict) else {}
    venues = (_get(value, name, "name") for name in ("journal", "publicationVenue"))
    own = _first(value.get("paperId"), value.get("corpusid"), value.get("corpusId"), value.get("paper_id"))
    content = _first(value.get("content"), value.get("body"))
    return {
        "title": _first(value.get("title"), _spans(content, "title")),
        "abstract": _first(value.get("abstract"), value.get("paperAbstract"), _spans(content, "abstract")),
        "url": _first(value.get("url"), value.get("s2Url")),
        "authors": _people(value.get("authors")),
        "year": _first(value.get("year"), value.get("publicationDate"), value.get("publicationdate")),
        "venue": _first(value.get("venue"), *venues, value.get("journal"), value.get("journalName")),
        "doi": _first(value.get("doi"), ids.get("doi")),
        "arxiv_id": _first(value.get("arxiv_id"), ids.get("arxiv")),
        "pmid": _first(value.get("pmid"), value.get("pubmed_id"), ids.get("pubmed")),
        "own_id": _first(own, value.get("id")),
    }


def _spans(content: Any, name: str) -> str | None:
    """Return the parts of a full text of S2ORC that are annotated with a name; the annotation is a text of JSON."""
    text, spans = _get(content, "text"), _get(content, "annotations", name)
    if not isinstance(text, str) or not spans:
        return None
    try:
        spans = json.loads(spans) if isinstance(spans, str) else spans
        places = [(int(each["start"]), int(each["end"])) for each in islice(spans, 1_000)]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UnusableError(f"the places of the {name} cannot be read: {str(spans)[:60]!r}") from None
    at, parts = 0, []
    for start, end in sorted(places):
        if not 0 <= start <= end <= len(text):
            raise UnusableError(f"the {name} is said to be at {start}-{end} of {len(text):,} characters")
        parts.append(text[max(at, start) : end])
        at = max(at, end)
    return "\n".join(parts)


def _crossref(value: Object) -> Object:
    title, subtitle = _plain(value.get("title")), _plain(value.get("subtitle"))
    both = [title, subtitle] if subtitle and isinstance(title, str) and str(subtitle) not in title else [title]
    own = value.get("DOI")
    return {
        "title": ": ".join(both) if all(isinstance(each, str) for each in both) else title,
        "abstract": _plain(value.get("abstract")),
        "url": _first(value.get("URL"), f"https://doi.org/{own}" if isinstance(own, str) else None),
        "authors": _people(value.get("author")),
        "year": next(
            (
                year
                for name in ("issued", "published", "published-print", "published-online", "posted", "created")
                if (year := _date(value.get(name)))
            ),
            None,
        ),
        "venue": _plain(_first(value.get("container-title"), _get(value, "institution", 0, "name"))),
        "doi": own,
        "own_id": own,
    }


def _csl(value: Object) -> Object:
    notes = [value.get(name) for name in ("note", "number", "archive_location", "container-title", "genre")]
    return {
        "title": _plain(value.get("title")),
        "abstract": _plain(value.get("abstract")),
        "url": value.get("URL"),
        "authors": _people(value.get("author")) or _people(value.get("editor")),
        "year": _date(_first(value.get("issued"), value.get("submitted"), value.get("original-date"))),
        "venue": _plain(_first(value.get("container-title"), value.get("event-title"))),
        "doi": value.get("DOI"),
        "arxiv_id": _noted(_NOTED_ARXIV, *notes),
        "pmid": _first(value.get("PMID"), _noted(_NOTED_PMID, *notes)),
        "own_id": value.get("id"),
    }


def _zotero(value: Object) -> Object:
    makers = [each for each in _objects(value.get("creators")) if each.get("creatorType") == "author"]
    notes = [value.get(name) for name in ("archiveID", "extra", "number", "publicationTitle", "archiveLocation")]
    venues = ("publicationTitle", "proceedingsTitle", "bookTitle", "conferenceName", "repository", "university")
    return {
        "title": _plain(value.get("title")),
        "abstract": _plain(value.get("abstractNote")),
        "url": value.get("url"),
        "authors": _people(makers or value.get("creators")),
        "year": value.get("date"),
        "venue": _first(*(value.get(name) for name in venues)),
        "doi": _first(value.get("DOI"), value.get("doi")),
        "arxiv_id": _noted(_NOTED_ARXIV, *notes),
        "pmid": _first(value.get("PMID"), _noted(_NOTED_PMID, *notes)),
        "own_id": _first(value.get("citationKey"), value.get("key"), value.get("itemKey"), value.get("itemID")),
    }


def _europepmc(value: Object) -> Object:
    listed, own, source = value.get("authorString"), value.get("id"), value.get("source")
    names = listed.rstrip(". ").split(", ", MAX_AUTHORS)[:MAX_AUTHORS] if isinstance(listed, str) else []
    return {
        "title": _plain(value.get("title")),
        "abstract": _plain(value.get("abstractText")),
        "url": f"https://europepmc.org/article/{source}/{own}" if source and own else None,
        "authors": _people(_get(value, "authorList", "author")) or names,
        "year": _first(value.get("pubYear"), value.get("firstPublicationDate")),
        "venue": _first(
            _get(value, "journalInfo", "journal", "title"),
            value.get("journalTitle"),
            _get(value, "bookOrReportDetails", "publisher"),
        ),
        "doi": value.get("doi"),
        "pmid": value.get("pmid"),
        "own_id": f"{source}/{own}" if source and own else own,
    }


def _hf(value: Object) -> Object:
    own = value.get("id")
    return {
        "title": value.get("title"),
        "abstract": value.get("summary"),
        "url": f"https://huggingface.co/papers/{own}",
        "authors": _people(value.get("authors")),
        "year": value.get("publishedAt"),
        "arxiv_id": own,
        "own_id": own,
    }


def _exported(value: Object) -> Object:
    """A line of our own export: the PMID is among the aliases."""
    aliases = [each for each in value["aliases"] if isinstance(each, str)]
    return {"pmid": next((each[5:] for each in aliases if each.startswith("pmid:")), None), **value}


def _beir(value: Object) -> Object:
    """A line of a BEIR corpus: what else is known is in its metadata."""
    metadata = value["metadata"]
    known = {name: metadata[name] for name in _METADATA & metadata.keys()} if isinstance(metadata, dict) else {}
    return {**known, "pmid": known.get("pubmed_id"), **value} if known else value


_METADATA = frozenset({"url", "authors", "author", "year", "date", "doi", "venue", "journal", "pubmed_id", "pmid"})


def _is_crossref(value: Object) -> bool:
    return isinstance(value.get("title"), list) or not {"indexed", "member"}.isdisjoint(value)


def _is_csl(value: Object) -> bool:
    parts = _get(value, "author", 0)
    return isinstance(value.get("issued"), dict) or (
        isinstance(parts, dict) and not {"family", "given", "literal"}.isdisjoint(parts)
    )


class Shape(NamedTuple):
    """A shape of objects."""

    form: str
    """The format's name."""
    all_of: frozenset[str]
    any_of: frozenset[str]
    """An object has all of the first keys and, if there are any, one of the second."""
    fields: Callable[[Object], Object]
    agrees: Callable[[Object], bool] = lambda _value: True
    """What the values have to be like."""

    def fits(self, keys: AbstractSet[str]) -> bool:
        """Tell whether an object with these keys, and perhaps further ones, may have this shape."""
        return self.all_of <= keys and not (self.any_of and self.any_of.isdisjoint(keys))


def _shape(
    form: str, all_of: str, any_of: str, fields: Callable[[Object], Object], agrees: Callable[[Object], bool] = bool
) -> Shape:
    return Shape(form, frozenset(all_of.split()), frozenset(any_of.split()), fields, agrees)


SHAPES = (
    _shape("arxiv", "id categories", "authors_parsed update_date submitter journal-ref", _arxiv),
    _shape("openalex", "", "abstract_inverted_index authorships", _openalex),
    _shape("hf-papers", "id title summary", "publishedAt upvotes submittedOnDailyAt", _hf),
    _shape("europepmc", "source", "abstractText authorString", _europepmc),
    _shape("csl", "itemType", "", _zotero),
    _shape("crossref", "DOI", "title container-title indexed member", _crossref, _is_crossref),
    _shape("csl", "type", "author issued container-title editor", _csl, _is_csl),
    _shape("s2", "", "paperId corpusid corpusId externalIds externalids paperAbstract", _s2),
    _shape("s2", "paper_id authors", "pdf_parse mag_id has_pdf_parse arxiv_id", _s2),
    _shape("jsonl", "aliases sources abstract", "", _exported, lambda value: isinstance(value["aliases"], list)),
    _shape("jsonl", "_id metadata", "", _beir),
)  # fmt: skip
"""The most particular first."""
_COMMON = frozenset({"id", "_id", "title", "abstract", "authors"})
_TELLING = frozenset[str]().union(*(shape.all_of - _COMMON or shape.any_of for shape in SHAPES))
"""An object with none of these keys has no shape, which is told at once."""
