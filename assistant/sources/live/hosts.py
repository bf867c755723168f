"""The services that are asked, and how each wants to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """A public service and its manners."""

    title: str
    """What people call it."""
    url: str
    """Where it answers."""
    interval_s: float
    """Least time between two requests."""
    keyed_interval_s: float | None = None
    """The same for who has a key, where that differs."""
    key_header: str = ""
    """The header that carries a key, `name: form`; empty where there is none."""
    key_field: str = ""
    """The form field that carries a key; its requests are sent as a form, by POST."""
    contact_field: str = ""
    """The parameter in which it wants an e-mail address."""


SERVICES: Mapping[str, Service] = {
    "arxiv": Service("arXiv", "https://export.arxiv.org", 3.0),  # terms of use: one request each three seconds
    "crossref": Service("Crossref", "https://api.crossref.org", 0.2, contact_field="mailto"),  # 5 a second since 2025
    "datacite": Service("DataCite", "https://api.datacite.org", 0.6, contact_field="mailto"),  # 500 in five minutes
    "ncbi": Service(
        "PubMed", "https://eutils.ncbi.nlm.nih.gov", 0.34, 0.11, key_field="api_key", contact_field="email"
    ),  # 3 a second, 10 with a key
    "openalex": Service(
        "OpenAlex", "https://api.openalex.org", 0.1, key_header="Authorization: Bearer {}", contact_field="mailto"
    ),
    "s2": Service("Semantic Scholar", "https://api.semanticscholar.org", 1.0, key_header="x-api-key: {}"),
    "hf": Service("Hugging Face", "https://huggingface.co", 0.6),  # 500 in five minutes
}
"""By name; the intervals are those that each one's documentation asks for."""
