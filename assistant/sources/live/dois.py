"""A DOI -> its record, by Crossref, DataCite or arXiv, whichever registered it.

Documentation: https://api.crossref.org, https://support.datacite.org/reference.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, cast
from urllib.parse import quote

from assistant.errors import CorpusError
from assistant.papers import Raw, Rejected, arxiv_id, named_fields
from assistant.sources.live.arxiv import read_arxiv_ids
from assistant.sources.live.asking import Items, Live, as_object, as_objects, has, read_one


def read_doi(live: Live) -> Items:
    """Read what Crossref says of a DOI, or DataCite, or, for one of arXiv's, arXiv.

    Half of Crossref's records have no abstract; OpenAlex is asked for those.
    """
    doi = live.query.ids[0]
    if found := arxiv_id(doi):
        yield from read_arxiv_ids(live, [found])
        return
    reply = live.ask("crossref", f"/works/{quote(doi, safe='')}", has("message"))
    if reply.status != 404:
        for item in read_one(live, reply, "crossref", f"doi:{doi}", ""):
            is_bare = isinstance(item, Raw) and not named_fields(item.fields, {}).get("abstract")
            yield (_with_abstract(live, doi, item) or item) if is_bare else item
        return
    reply = live.ask("datacite", f"/dois/{quote(doi, safe='')}", has("data"))
    if reply.status == 404:
        yield Rejected(f"doi:{doi}", "neither Crossref nor DataCite has this DOI; check it", {"doi": doi})
        return
    work = as_object(as_object(json.loads(live.sound(reply, "datacite"))["data"]).get("attributes"))
    yield Raw(f"doi:{doi}", _datacite_fields(doi, work))


def _with_abstract(live: Live, doi: str, item: Raw | Rejected) -> Raw | None:
    """Return a record with the abstract that OpenAlex has; None if it has none, or cannot be asked."""
    with contextlib.suppress(CorpusError):
        reply = live.ask("openalex", f"/works/doi:{quote(doi, safe='/')}", has("id"))
        for other in read_one(live, reply, "openalex", f"doi:{doi}, OpenAlex", "OpenAlex does not have it"):
            if isinstance(other, Raw) and (abstract := named_fields(other.fields, {}).get("abstract")):
                known = named_fields(item.fields, {}) | {"abstract": abstract}
                return Raw(item.where, known)
    return None


def _datacite_fields(doi: str, work: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a DOI that DataCite describes (DataCite metadata schema 4)."""
    abstracts = [each for each in as_objects(work.get("descriptions")) if each.get("descriptionType") == "Abstract"]
    titles = as_objects(work.get("titles"))
    plain = [each for each in titles if not each.get("titleType")] or titles
    return {
        "title": plain[0].get("title") if plain else None,
        "abstract": " ".join(text for each in abstracts if isinstance(text := each.get("description"), str)),
        "authors": [name for each in as_objects(work.get("creators")) if (name := _creator(each))],
        "year": work.get("publicationYear"),
        "venue": as_object(work.get("container")).get("title"),
        "doi": doi,
        "url": work.get("url"),
    }


def _creator(creator: dict[str, Any]) -> str:
    parts = [creator.get("givenName"), creator.get("familyName")]
    if all(isinstance(part, str) and part for part in parts):
        return " ".join(cast("list[str]", parts))
    name = creator.get("name")
    if not isinstance(name, str):
        return ""
    last, comma, first = name.partition(",")
    is_person = comma and creator.get("nameType") != "Organizational"
    return f"{first.strip()} {last.strip()}" if is_person else name
