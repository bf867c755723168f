"""A `Query` -> the service's replies, page by page -> records and refusals, read as the same forms in files are.

What the modules of the services know is their paging, and of their forms only what paging needs: how many records a
reply has to hold, and where the next one is. A record that was asked for and did not come is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable

from assistant.papers import Rejected
from assistant.sources.live.arxiv import read_arxiv
from assistant.sources.live.asking import Items, Live, Reader
from assistant.sources.live.dois import read_doi
from assistant.sources.live.fetch import Fetcher
from assistant.sources.live.indexes import read_hf_papers, read_openalex, read_s2
from assistant.sources.live.names import Query
from assistant.sources.live.pubmed import read_pubmed

MOST = 100_000
"""Records read from one source; a snapshot of the service serves better beyond that."""


def open_live(query: Query, fetcher: Fetcher, read: Reader, most: int = MOST) -> Items:
    """Read what a query asks for, reply by reply; nothing is sent before the first item is asked for.

    Args:
        query: From `parse`.
        fetcher: Sends the requests.
        read: Reads a reply by the name of its format: atom, pubmed, crossref, openalex, s2 or hf-papers.
        most: Records after which it ends, and says so.

    Raises:
        CorpusError: The service cannot be reached, refuses, or replies with something else; what was read is good.
    """
    sources: dict[str, Callable[[Live], Items]] = {
        "arxiv": read_arxiv, "doi": read_doi, "pubmed": read_pubmed, "openalex": read_openalex, "s2": read_s2,
        "hf-papers": read_hf_papers,
    }  # fmt: skip
    for n_read, item in enumerate(sources[query.service](Live(query, fetcher, read))):
        if n_read == most:
            reason = f"reading ends at {most:,} records; narrow the query, by a range of dates, to read what follows"
            yield Rejected(f"after record {most:,}", reason)
            return
        yield item
