"""What is one paper: the keys that name it, when two records are one paper, its id, its fields from all its records."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from assistant.papers import Record, arxiv_id, doi, pmid

_NOT_ALNUM = re.compile(r"[\W_]+")
_WORD = re.compile(r"\w+")


def normalised_title(title: str) -> str:
    """Return the letters and digits of a title, case, accents and punctuation folded."""
    if title.isascii():
        return _NOT_ALNUM.sub("", title.lower())
    decomposed = unicodedata.normalize("NFKD", title.casefold())
    return _NOT_ALNUM.sub("", "".join(c for c in decomposed if not unicodedata.combining(c)))


def strong_keys(record: Record, source: str) -> list[str]:
    """Return the keys that name a paper by themselves, strongest first: DOI, arXiv id, PMID, the source's own id.

    The DOI that arXiv gives a preprint names the preprint: it counts as its arXiv id, not against the DOI of the
    published paper.
    """
    keys = [
        f"doi:{record.doi}" if record.doi and not arxiv_id(record.doi) else None,
        f"arxiv:{record.arxiv_id}" if record.arxiv_id else None,
        f"pmid:{record.pmid}" if record.pmid else None,
        f"own:{source}#{record.own_id}" if record.own_id else None,
    ]
    return [key for key in keys if key]


def keys_of(text: str) -> list[str]:
    """Return the keys that a text may be, as people write them: a DOI, an arXiv id, a PMID, bare, prefixed or a link.

    >>> keys_of("https://doi.org/10.1000/XYZ")
    ['doi:10.1000/xyz']
    >>> keys_of("1706.03762v5")
    ['arxiv:1706.03762']
    """
    kind, _, value = text.strip().partition(":")
    kind, value = (kind.lower(), value.strip()) if kind.lower() in {"doi", "arxiv", "pmid"} else ("", text.strip())
    found = {"arxiv": arxiv_id(value), "doi": doi(value), "pmid": pmid(value)}
    if found["arxiv"]:
        found["doi"] = None
    return [f"{name}:{key}" for name, key in found.items() if key and (not kind or name in {kind, "arxiv"})]


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


def contradict(keys: Iterable[str], others: Iterable[str]) -> bool:
    """Tell whether two sets of keys name other papers: they share kinds (DOI, arXiv id, PMID) but no key of them."""
    mine, theirs = _by_kind(keys), _by_kind(others)
    shared = mine.keys() & theirs.keys()
    return bool(shared) and all(not mine[kind] & theirs[kind] for kind in shared)


def new_id(record: Record) -> str:
    """Return a readable id for a paper that enters now: some words of its title and 8 hex digits of sha256."""
    words = _WORD.findall(unicodedata.normalize("NFKD", record.title).encode("ascii", "ignore").decode().lower())
    slug = "-".join(words[:6])[:48].strip("-_") or "paper"
    return f"{slug}-{_digest(title_key(record) + ' ' + record.abstract)[:8]}"


def merge(records: Iterable[Record]) -> dict[str, Any]:
    """Return the fields of a paper from all records of it: a pure function of the set, whatever its order.

    The record with the longest abstract is the richest and comes first (ties: by its content); each field is the first
    one that is known. The DOI of the published paper goes before the one that arXiv gives its preprint.
    """
    ordered = sorted(records, key=lambda record: (-len(record.abstract), record.payload()))
    best = ordered[0]

    def first(name: str) -> Any:
        return next((getattr(record, name) for record in ordered if getattr(record, name)), None)

    fields = {name: first(name) for name in ("url", "year", "venue", "doi", "arxiv_id")}
    fields["doi"] = next((each.doi for each in ordered if each.doi and not arxiv_id(each.doi)), fields["doi"])
    return {**fields, "title": first("title") or "", "abstract": best.abstract, "authors": first("authors") or ()}


def _by_kind(keys: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key in keys:
        kind, _, value = key.partition(":")
        if kind in {"doi", "arxiv", "pmid"}:
            found.setdefault(kind, set()).add(value)
    return found


def _grams(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    n = min(3, len(words)) or 1
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
