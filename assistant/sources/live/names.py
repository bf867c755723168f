"""The name of a live source, or a pasted link -> a `Query`.

Understood are the names in `EXAMPLES` and links to the services' pages. What is no live name gives None; what looks
like one and is not understood is refused, with the nearest right form.
"""

from __future__ import annotations

import calendar
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from assistant.errors import ConfigError
from assistant.papers import arxiv_id, doi, pmid

Service = Literal["arxiv", "doi", "pubmed", "openalex", "s2", "hf-papers"]

EXAMPLES: Mapping[str, str] = {
    "arxiv": 'arxiv:1706.03762, arxiv:cat:cs.CV 2024.. or arxiv:all:"graph neural" 2023..2024',
    "doi": "doi:10.1000/xyz",
    "pmid": "pmid:123,456",
    "pubmed": "pubmed:asthma children 2024..",
    "openalex": "openalex:W123, openalex:search graph learning 2024.. or openalex:authorships.author.id:A123",
    "s2": "s2:CorpusId:123, s2:ARXIV:1706.03762 or s2:query graph learning 2024..",
    "hf-papers": "hf-papers:2010.11929, hf-papers:daily 2024-06-01..2024-06-30 or hf-papers:query graph learning",
}
"""Each prefix and what may follow it."""
_NEAR = {
    "semanticscholar": "s2", "semantic-scholar": "s2", "huggingface": "hf-papers", "hf": "hf-papers",
    "crossref": "doi", "datacite": "doi", "pubmed-id": "pmid", "medline": "pubmed",
}  # fmt: skip
"""Other names that people have for a prefix."""
_NAME_CHARS = 2_000
_DAY = r"\d{4}(?:-\d\d(?:-\d\d)?)?"
_RANGE = re.compile(rf"({_DAY})?\.\.({_DAY})?")
_ARXIV_FIELD = re.compile(r"(?:^|[\s(])(?:all|ti|au|abs|co|jr|cat|rn|id):\S")
_ARXIV_CATEGORY = re.compile(r"(?:cs|econ|eess|math|stat|q-bio|q-fin|physics|astro-ph|cond-mat|nlin)(?:\.[A-Za-z-]+)?")
_S2_ID = re.compile(r"[0-9a-f]{40}|(?:CorpusId|DOI|ARXIV|MAG|ACL|PMID|PMCID|URL):\S+", re.IGNORECASE)
_HOSTS: Mapping[str, str] = {
    "arxiv.org": "arxiv", "alphaxiv.org": "arxiv", "doi.org": "doi", "pubmed.ncbi.nlm.nih.gov": "pubmed",
    "openalex.org": "openalex", "semanticscholar.org": "s2", "huggingface.co": "hf-papers", "hf.co": "hf-papers",
}  # fmt: skip
"""Whose pages' addresses are understood, subdomains included."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to ask which service for."""

    name: str
    """How the ledger calls it: the same for every way to write it."""
    service: Service
    kind: Literal["ids", "query", "daily"]
    ids: tuple[str, ...] = ()
    text: str = ""
    """What is searched for, in the service's own language."""
    filters: str = ""
    """OpenAlex alone: `field:value` pairs."""
    since: date | None = None
    until: date | None = None
    """The last day, included."""


def parse(name: str) -> Query | None:
    """Return what a name asks for; None for what is no name of a live source.

    >>> parse("arxiv:cat:cs.CV 2024..").since
    datetime.date(2024, 1, 1)
    >>> parse("https://arxiv.org/abs/1706.03762v5").name
    'arxiv:1706.03762v5'
    >>> parse("papers.csv") is None
    True

    Raises:
        ConfigError: It looks like one, and is not understood.
    """
    text = name.strip()
    if len(text) > _NAME_CHARS or not text.isprintable():
        return None
    if re.match(r"https?://", text, re.IGNORECASE):
        return _parse_link(text)
    if _service_of(text.partition("/")[0]) and "/" in text:
        return _parse_link(f"https://{text}")
    prefix, colon, rest = text.partition(":")
    known = prefix.casefold()
    if colon and known in EXAMPLES:
        if not rest.strip():
            raise _refusal(text, known, "nothing follows the colon")
        return _PARSERS[known](rest.strip(), text)
    _refuse_near(text, known, rest)
    return None


def _refuse_near(text: str, prefix: str, rest: str) -> None:
    """Refuse what is nearly one of the prefixes; a drive's letter or an address of another kind is none."""
    if not re.fullmatch(r"[a-z][\w-]{1,19}", prefix) or not rest or rest.startswith(("\\", "//")):
        return
    near = difflib.get_close_matches(prefix, [*EXAMPLES, *_NEAR], n=1)
    if near:
        right = _NEAR.get(near[0], near[0])
        found = f"no source is called {prefix!r}; did you mean {right!r}?"
        raise ConfigError(f"cannot read the name {text!r}: {found} Write {EXAMPLES[right]}")


def _refusal(text: str, prefix: str, found: str, step: str = "") -> ConfigError:
    return ConfigError(f"cannot read the name {text!r}: {found}; write {step or EXAMPLES[prefix]}")


def _arxiv(rest: str, text: str) -> Query:
    if ids := _arxiv_ids(rest):
        return Query(f"arxiv:{','.join(ids)}", "arxiv", "ids", ids)
    if _ARXIV_CATEGORY.fullmatch(rest.split(maxsplit=1)[0]):
        raise _refusal(text, "arxiv", "a category needs the field `cat:`", f"arxiv:cat:{rest}")
    sought, since, until, shown = _split_range(rest, text, "arxiv")
    if dated := re.fullmatch(rf"(cat:\S+)\s+({_DAY})", sought):
        raise _refusal(
            text, "arxiv", "a range of dates has two dots", f"arxiv:{dated[1]} {dated[2]}.. or {dated[2]}..{dated[2]}"
        )
    if re.match(r"\d", sought):
        raise _refusal(text, "arxiv", "it is no arXiv id")
    if not _ARXIV_FIELD.search(sought):
        quoted = sought.replace('"', "")
        raise _refusal(text, "arxiv", "a query needs a field", f'arxiv:all:"{quoted}"{shown}')
    return Query(f"arxiv:{sought}{shown}", "arxiv", "query", text=sought, since=since, until=until)


def _doi(rest: str, text: str) -> Query:
    bare = re.sub(r"^(?:https?://(?:dx\.)?doi\.org/|doi:)", "", rest, flags=re.IGNORECASE)
    found = doi(bare) if re.fullmatch(r"10\.\S+", bare) else None
    if not found:
        raise _refusal(text, "doi", "it is no DOI")
    return Query(f"doi:{found}", "doi", "ids", (found,))


def _pmid(rest: str, text: str) -> Query:
    ids = tuple(pmid(each) or "" for each in re.split(r"[\s,;]+", rest.strip(" ,;")))
    if not all(ids):
        raise _refusal(text, "pmid", "it is no list of PubMed's numbers", f"{EXAMPLES['pmid']}, or pubmed:{rest}")
    return Query(f"pmid:{','.join(ids)}", "pubmed", "ids", tuple(dict.fromkeys(ids)))


def _pubmed(rest: str, text: str) -> Query:
    if re.fullmatch(r"[\d\s,;]+", rest):
        return _pmid(rest, text)
    sought, since, until, shown = _split_range(rest, text, "pubmed")
    return Query(f"pubmed:{sought}{shown}", "pubmed", "query", text=sought, since=since, until=until)


def _openalex(rest: str, text: str) -> Query:
    ids = rest.replace(" ", "").upper().split(",")
    if all(re.fullmatch(r"W\d{1,15}", each) for each in ids):
        return Query(f"openalex:{','.join(ids)}", "openalex", "ids", tuple(dict.fromkeys(ids)))
    sought, since, until, shown = _split_range(rest, text, "openalex")
    if found := re.fullmatch(r"search\s+(\S.*)", sought):
        name = f"openalex:search {found[1]}{shown}"
        return Query(name, "openalex", "query", text=found[1], since=since, until=until)
    if not re.fullmatch(r"[a-z][a-z0-9_.-]*:\S.*", sought):
        raise _refusal(text, "openalex", "it is no id, search or filter", f"openalex:search {rest}")
    return Query(f"openalex:{sought}{shown}", "openalex", "query", filters=sought, since=since, until=until)


def _s2(rest: str, text: str) -> Query:
    found = f"CorpusId:{rest}" if re.fullmatch(r"\d{1,12}", rest) else rest
    if _S2_ID.fullmatch(found):
        return Query(f"s2:{found}", "s2", "ids", (found,))
    sought, since, until, shown = _split_range(rest, text, "s2")
    if not (query := re.fullmatch(r"query\s+(\S.*)", sought)):
        raise _refusal(text, "s2", "it is neither an id nor a query", f"s2:query {rest}, or {EXAMPLES['s2']}")
    return Query(f"s2:query {query[1]}{shown}", "s2", "query", text=query[1], since=since, until=until)


def _hf_papers(rest: str, text: str) -> Query:
    if ids := _arxiv_ids(rest, with_version=False):
        return Query(f"hf-papers:{','.join(ids)}", "hf-papers", "ids", ids)
    if query := re.fullmatch(r"query\s+(\S.*)", rest):
        return Query(f"hf-papers:query {query[1]}", "hf-papers", "query", text=query[1])
    if re.fullmatch(rf"daily\s+{_DAY}", rest):
        day = rest.split()[1]
        rest = f"daily {day}..{day}"
    sought, since, until, shown = _split_range(rest, text, "hf-papers", may_be_empty=True)
    if sought != "daily":
        raise _refusal(text, "hf-papers", "it is neither an id, nor `daily`, nor a query", EXAMPLES["hf-papers"])
    if until and not since:
        raise _refusal(text, "hf-papers", "a range of days has to begin somewhere")
    return Query(f"hf-papers:daily{shown}", "hf-papers", "daily", since=since, until=until)


_PARSERS = {
    "arxiv": _arxiv, "doi": _doi, "pmid": _pmid, "pubmed": _pubmed, "openalex": _openalex, "s2": _s2,
    "hf-papers": _hf_papers,
}  # fmt: skip


def _arxiv_ids(text: str, *, with_version: bool = True) -> tuple[str, ...]:
    """Return the arXiv ids in a list; nothing if one of them is none."""
    ids = []
    for each in re.split(r"[\s,;]+", text.strip(" ,;")):
        bare = re.sub(r"^arxiv:", "", each, flags=re.IGNORECASE)
        version = re.search(r"v\d+$", bare)
        ids.append((arxiv_id(bare) or "") + (version[0] if version and with_version else ""))
    return tuple(dict.fromkeys(ids)) if all(re.match(r"\d|[a-z.-]+/", each) for each in ids) else ()


def _split_range(
    rest: str, text: str, prefix: str, *, may_be_empty: bool = False
) -> tuple[str, date | None, date | None, str]:
    """Split a range of dates from the end of a query: the query, its first and last day, and the range as text."""
    sought, _, last = rest.rpartition(" ")
    if not re.match(r"[\d.-]*\.\.", last or rest):
        return rest, None, None, ""
    found = _RANGE.fullmatch(last)
    if not found or not (found[1] or found[2]):
        raise _refusal(text, prefix, f"{last!r} is no range of dates", "one such as 2024.., 2023..2024 or 2024-01-15..")
    try:
        since, until = (_day(each, is_last=i == 1) if each else None for i, each in enumerate(found.groups()))
    except ValueError as error:
        raise _refusal(text, prefix, f"{last!r} holds no such date", "dates such as 2024-01-15") from error
    if since and until and since > until:
        raise _refusal(text, prefix, f"{last!r} ends before it begins", f"{found[2]}..{found[1]}")
    if not sought.strip() and not may_be_empty:
        raise _refusal(text, prefix, "a range of dates alone is no query")
    return sought.strip(), since, until, f" {last}"


def _day(text: str, *, is_last: bool) -> date:
    """Return the first or last day that a year, a month or a day stands for."""
    parts = [int(part) for part in text.split("-")]
    month = parts[1] if len(parts) > 1 else 12 if is_last else 1
    if not 1 <= month <= 12 or not 1 <= parts[0] <= 9999:
        raise ValueError(text)
    last = calendar.monthrange(parts[0], month)[1]
    return date(parts[0], month, parts[2] if len(parts) > 2 else last if is_last else 1)


def _service_of(host: str) -> str | None:
    """Return the service whose pages a host has."""
    parts = host.casefold().split(".")
    return next((_HOSTS[name] for i in range(len(parts)) if (name := ".".join(parts[i:])) in _HOSTS), None)


def _parse_link(text: str) -> Query:
    try:
        url = urlsplit(text)
        service = _service_of(url.hostname or "")
    except ValueError:
        service = None
    if service is None:
        found = doi(unquote(text).partition("?")[0])
        step = f"perhaps doi:{found}" if found else f"one of {', '.join(f'{prefix}:...' for prefix in EXAMPLES)}"
        raise ConfigError(f"cannot read the link {text!r}: pages of this host are not read; write {step}")
    path, asked = unquote(url.path).strip("/"), {name: found[0] for name, found in parse_qs(url.query).items()}
    name = _name_of(service, path, asked)
    if name is None:
        raise _refusal(text, service, "it leads to no paper")
    if service == "openalex" and isinstance(name, Query):
        return name
    assert isinstance(name, str)
    prefix, _, rest = name.partition(":")
    return _PARSERS[prefix](rest, text)


def _name_of(service: str, path: str, asked: Mapping[str, str]) -> str | Query | None:
    """Return the name that says the same as the address of a page."""
    if service == "doi":
        return f"doi:{path}"
    if service == "openalex":
        return _openalex_of(path, asked)
    if service == "pubmed" and not path and asked.get("term"):
        return f"pubmed:{asked['term']}"
    if service == "hf-papers" and path == "papers":
        return f"hf-papers:query {asked['q']}" if asked.get("q") else "hf-papers:daily"
    patterns = {
        "arxiv": (r"(?:abs|pdf|html|overview)/(.+?)(?:\.pdf)?", r"list/([\w.-]+)(?:/.*)?"),
        "pubmed": (r"(\d{1,9})(?:/.*)?",),
        "s2": (r"(?:paper|reader)/(?:.*/)?([0-9a-fA-F]{40})(?:/.*)?", r"((?:CorpusID|arXiv|DOI):.+)"),
        "hf-papers": (r"papers/(?!date/)([^/]+)", r"papers/date/([\d-]+)"),
    }[service]
    forms = {
        "arxiv": ("arxiv:{}", "arxiv:cat:{}"), "pubmed": ("pmid:{}",), "s2": ("s2:{}", "s2:{}"),
        "hf-papers": ("hf-papers:{}", "hf-papers:daily {}"),
    }[service]  # fmt: skip
    found = ((re.fullmatch(pattern, path), form) for pattern, form in zip(patterns, forms, strict=True))
    return next((form.format(match[1]) for match, form in found if match), None)


def _openalex_of(path: str, asked: Mapping[str, str]) -> str | Query | None:
    if found := re.fullmatch(r"(?:works/)?(W\d+)", path, re.IGNORECASE):
        return f"openalex:{found[1]}"
    if path != "works" or not (asked.get("filter") or asked.get("search")):
        return None
    search, filters = asked.get("search", ""), asked.get("filter", "")
    name = f"openalex:{filters}{f' search {search}' if search and filters else f'search {search}' if search else ''}"
    return Query(name, "openalex", "query", text=search, filters=filters)
