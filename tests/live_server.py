"""A server on 127.0.0.1 that replies as arXiv, Crossref, DataCite, NCBI, OpenAlex, S2 and Hugging Face do.

Its papers are made up; the forms are those of the services' documentation, with their paging and their errors.

with LiveServer(450) as server:
    server.fail("arxiv", status(429, {"Retry-After": "1"}), when=lambda asked: asked.params.get("start") == "200")
    Fetcher(hosts=server.hosts)
    ...
    server.asked("arxiv")
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

SERVICES = ("arxiv", "crossref", "datacite", "ncbi", "openalex", "s2", "hf")
S2_PAGE = 1_000
"""Papers of one reply of the bulk search."""


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    service: str
    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    at: float


@dataclass(frozen=True)
class Answer:
    """What goes back; `cut` and `drip_s` spoil it on the way."""

    body: bytes = b""
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """Half of it is sent, and then the connection ends."""
    drip_s: float = 0.0
    """Wait before each byte."""


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
    """Answer with a status."""
    return Answer(body, code, headers or {})


def redirect(url: str) -> Answer:
    """Send elsewhere."""
    return Answer(b"", 301, {"Location": url})


@dataclass(frozen=True)
class Paper:
    """A made-up paper, known to every service."""

    n: int
    begin: datetime

    @property
    def title(self) -> str:
        return f"On invented matter {self.n}"

    @property
    def abstract(self) -> str:
        return f"We invent matter {self.n} & weigh it; it is <b> heavy."

    @property
    def when(self) -> datetime:
        return self.begin + timedelta(hours=self.n)

    @property
    def arxiv(self) -> str:
        return f"{2401 + self.n // 100_000}.{self.n % 100_000:05d}"

    @property
    def doi(self) -> str:
        return f"10.1000/made.{self.n}"

    @property
    def pmid(self) -> str:
        return str(30_000_000 + self.n)

    @property
    def s2(self) -> str:
        return f"{self.n:040x}"


class LiveServer:
    """Replays the services over `n` papers, an hour apart from each other, the first at `begin`."""

    def __init__(self, n: int = 5, begin: str = "2024-01-01") -> None:
        start = datetime.fromisoformat(begin).replace(tzinfo=UTC)
        self.papers = [Paper(each, start) for each in range(n)]
        self.requests: list[Asked] = []
        self._faults: list[tuple[str, Callable[[Asked], bool], Answer]] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.hosts = {name: f"{self.url}/{name}" for name in SERVICES}

    def fail(self, service: str, *answers: Answer, when: Callable[[Asked], bool] = lambda _asked: True) -> None:
        """Answer so instead, one request after the other, to requests for which `when` holds."""
        self._faults += [(service, when, answer) for answer in answers]

    def asked(self, service: str) -> list[Asked]:
        """Return what came for a service, in order."""
        return [each for each in self.requests if each.service == service]

    def answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.requests.append(asked)
            for fault in self._faults:
                if fault[0] == asked.service and fault[1](asked):
                    self._faults.remove(fault)
                    return fault[2]
        return _REPLIES[asked.service](self, asked)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients may go away."""


def _handler(server: LiveServer) -> type[socketserver.BaseRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _reply(self, query: str) -> None:
            service, _, path = urlsplit(self.path).path.lstrip("/").partition("/")
            params = {name: values[0] for name, values in parse_qs(query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = server.answer(Asked(service, self.command, f"/{path}", params, headers, time.monotonic()))
            self.send_response(answer.code)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if answer.cut:
                self.wfile.write(answer.body[: len(answer.body) // 2])
                self.close_connection = True
            elif answer.drip_s:
                for byte in answer.body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(answer.drip_s)
            else:
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


def _json(value: object) -> Answer:
    return Answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"})


# --- arXiv: https://info.arxiv.org/help/api/user-manual.html ---


def _arxiv(server: LiveServer, asked: Asked) -> Answer:
    if asked.params.get("id_list"):
        wanted = [each.partition("v")[0] for each in asked.params["id_list"].split(",")]
        found = [paper for paper in server.papers if paper.arxiv in wanted]
        return Answer(feed(found, len(found)))
    found = sorted(server.papers, key=lambda paper: paper.when, reverse=True)
    if window := re.search(r"submittedDate:\[(\d+) TO (\d+)\]", asked.params["search_query"]):
        found = [paper for paper in found if window[1] <= f"{paper.when:%Y%m%d%H%M}" <= window[2]]
    start, most = int(asked.params["start"]), int(asked.params["max_results"])
    return Answer(feed(found[start : start + most], len(found), start))


def feed(papers: list[Paper], total: int, start: int = 0) -> bytes:
    """Return an Atom feed of the arXiv API."""
    entries = "".join(
        f"""
  <entry>
    <id>http://arxiv.org/abs/{paper.arxiv}v1</id>
    <title>{paper.title}</title>
    <updated>{paper.when:%Y-%m-%dT%H:%M:%SZ}</updated>
    <link href="https://arxiv.org/abs/{paper.arxiv}v1" rel="alternate" type="text/html"/>
    <link href="https://arxiv.org/pdf/{paper.arxiv}v1" rel="related" type="application/pdf" title="pdf"/>
    <summary>{escape(paper.abstract)}</summary>
    <category term="cs.CV" scheme="http://arxiv.org/schemas/atom"/>
    <published>{paper.when:%Y-%m-%dT%H:%M:%SZ}</published>
    <arxiv:primary_category term="cs.CV"/>
    <author>
      <name>A. Author</name>
    </author>
  </entry>"""
        for paper in papers
    )
    return f"""<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom"\
 xmlns="http://www.w3.org/2005/Atom">
  <id>https://arxiv.org/api/made</id>
  <title>arXiv Query</title>
  <updated>2024-06-01T00:00:00Z</updated>
  <link href="https://arxiv.org/api/query" type="application/atom+xml"/>
  <opensearch:itemsPerPage>{len(papers)}</opensearch:itemsPerPage>
  <opensearch:totalResults>{total}</opensearch:totalResults>
  <opensearch:startIndex>{start}</opensearch:startIndex>{entries}
</feed>
""".encode()


ARXIV_ERROR = b"""<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <opensearch:totalResults xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">1</opensearch:totalResults>
  <entry>
    <id>http://arxiv.org/api/errors#incorrect_id_format_for_1234</id>
    <title>Error</title>
    <summary>incorrect id format for 1234</summary>
    <author><name>arXiv api core</name></author>
  </entry>
</feed>
"""
"""How the API tells of an error."""


# --- Crossref (api.crossref.org) and DataCite (support.datacite.org/reference) ---


def _crossref(server: LiveServer, asked: Asked) -> Answer:
    doi = unquote(asked.path.removeprefix("/works/"))
    for paper in server.papers:
        if paper.doi == doi:
            return _json({
                "status": "ok", "message-type": "work", "message-version": "1.0.0",
                "message": {
                    "DOI": doi, "title": [paper.title], "abstract": f"<jats:p>{escape(paper.abstract)}</jats:p>",
                    "author": [{"given": "A.", "family": "Author", "sequence": "first"}],
                    "container-title": ["Journal of Invention"], "issued": {"date-parts": [[2024, 1]]},
                    "URL": f"https://doi.org/{doi}", "type": "journal-article",
                },
            })  # fmt: skip
    return status(404, {"Content-Type": "text/plain"}, b"Resource not found.")


def _datacite(_server: LiveServer, asked: Asked) -> Answer:
    doi = unquote(asked.path.removeprefix("/dois/"))
    if doi != "10.5072/data.1":
        return status(
            404, body=b'{"errors":[{"status":"404","title":"The resource you are looking for does not exist."}]}'
        )
    attributes = {
        "doi": doi, "titles": [{"title": "Ein Titel", "titleType": "TranslatedTitle"}, {"title": "Data of invention"}],
        "creators": [
            {"name": "Author, A.", "nameType": "Personal", "givenName": "A.", "familyName": "Author"},
            {"name": "Maker, B.", "nameType": "Personal"},
            {"name": "Society, for Invention", "nameType": "Organizational"},
        ],
        "publicationYear": 2023, "container": {"title": "Archive of Invention"},
        "descriptions": [
            {"description": "How it was made.", "descriptionType": "Methods"},
            {"description": "Numbers that were invented.", "descriptionType": "Abstract"},
        ],
        "url": "https://example.org/data/1",
    }  # fmt: skip
    return _json({"data": {"id": doi, "type": "dois", "attributes": attributes}})


# --- NCBI E-utilities: https://www.ncbi.nlm.nih.gov/books/NBK25499/ ---


def _ncbi(server: LiveServer, asked: Asked) -> Answer:
    return (_esearch if asked.path.endswith("esearch.fcgi") else _efetch)(server, asked)


def _esearch(server: LiveServer, asked: Asked) -> Answer:
    low, high = 0, 99_999_999
    if numbers := re.search(r"(\d+):(\d+)\[UID\]", asked.params["term"]):
        low, high = int(numbers[1]), int(numbers[2])
    found = [paper for paper in server.papers if low <= int(paper.pmid) <= high]
    if asked.params.get("mindate"):
        since, until = asked.params["mindate"], asked.params["maxdate"]
        found = [paper for paper in found if since <= f"{paper.when:%Y/%m/%d}" <= until]
    ids = [paper.pmid for paper in reversed(found)][: min(9_999, int(asked.params["retmax"]))]
    result = {"count": str(len(found)), "retmax": str(len(ids)), "retstart": "0", "idlist": ids}
    return _json({"header": {"type": "esearch", "version": "0.3"}, "esearchresult": result})


def _efetch(server: LiveServer, asked: Asked) -> Answer:
    wanted = set(asked.params["id"].split(","))
    records = "".join(
        f"""
<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">{paper.pmid}</PMID>
<Article PubModel="Print"><Journal><JournalIssue CitedMedium="Internet"><PubDate><Year>2024</Year></PubDate>
</JournalIssue><Title>Journal of Invention</Title></Journal><ArticleTitle>{paper.title}</ArticleTitle>
<Abstract><AbstractText>{escape(paper.abstract)}</AbstractText></Abstract>
<AuthorList CompleteYN="Y"><Author ValidYN="Y"><LastName>Author</LastName><ForeName>A</ForeName></Author></AuthorList>
</Article></MedlineCitation><PubmedData><ArticleIdList><ArticleId IdType="pubmed">{paper.pmid}</ArticleId>
</ArticleIdList></PubmedData></PubmedArticle>"""
        for paper in server.papers
        if paper.pmid in wanted
    )
    head = '<?xml version="1.0" ?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN"\
 "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">\n'
    return Answer(f"{head}<PubmedArticleSet>{records}</PubmedArticleSet>\n".encode())


# --- OpenAlex: https://developers.openalex.org ---


def _openalex(server: LiveServer, asked: Asked) -> Answer:
    if asked.path != "/works":
        by_doi = [paper.n for paper in server.papers if asked.path == f"/works/doi:{paper.doi}"]
        n = by_doi[0] if by_doi else int(asked.path.removeprefix("/works/W")) - 1
        known = 0 <= n < len(server.papers)
        return _json(_work(server.papers[n])) if known else status(404, body=b'{"error":"Not found"}')
    start = 0 if asked.params["cursor"] == "*" else int(asked.params["cursor"])
    end = start + int(asked.params["per_page"])
    found = server.papers
    for name, wanted in (("from", lambda day, day2: day >= day2), ("to", lambda day, day2: day <= day2)):
        if day := re.search(rf"{name}_publication_date:([\d-]+)", asked.params.get("filter", "")):
            found = [paper for paper in found if wanted(f"{paper.when:%Y-%m-%d}", day[1])]
    meta = {"count": len(found), "per_page": end - start, "next_cursor": str(end) if found[start:end] else None}
    return _json({"meta": meta, "results": [_work(paper) for paper in found[start:end]], "group_by": []})


def _work(paper: Paper) -> dict[str, Any]:
    words: dict[str, list[int]] = {}
    for place, word in enumerate(paper.abstract.split()):
        words.setdefault(word, []).append(place)
    return {
        "id": f"https://openalex.org/W{paper.n + 1}", "doi": f"https://doi.org/{paper.doi}", "title": paper.title,
        "display_name": paper.title, "publication_year": 2024, "publication_date": f"{paper.when:%Y-%m-%d}",
        "ids": {"openalex": f"https://openalex.org/W{paper.n + 1}", "doi": f"https://doi.org/{paper.doi}"},
        "primary_location": {"landing_page_url": f"https://doi.org/{paper.doi}",
                             "source": {"display_name": "Journal of Invention"}},
        "type": "article", "authorships": [{"author": {"display_name": "A. Author"}, "author_position": "first"}],
        "abstract_inverted_index": words,
    }  # fmt: skip


# --- Semantic Scholar: https://api.semanticscholar.org/api-docs/graph ---


def _s2(server: LiveServer, asked: Asked) -> Answer:
    if asked.path != "/graph/v1/paper/search/bulk":
        sought = unquote(asked.path.rpartition("/")[2])
        for paper in server.papers:
            if sought in {paper.s2, f"CorpusId:{paper.n}", f"ARXIV:{paper.arxiv}"}:
                return _json(_s2_paper(paper))
        return status(404, body=b'{"error":"Paper with id made not found"}')
    start = int(asked.params.get("token", "0"))
    found = server.papers[start : start + S2_PAGE]
    more = start + S2_PAGE < len(server.papers)
    token = {"token": str(start + S2_PAGE)} if more else {"token": None}
    return _json({"total": len(server.papers), **token, "data": [_s2_paper(paper) for paper in found]})


def _s2_paper(paper: Paper) -> dict[str, Any]:
    return {
        "paperId": paper.s2, "corpusId": paper.n, "externalIds": {"ArXiv": paper.arxiv, "CorpusId": paper.n},
        "url": f"https://www.semanticscholar.org/paper/{paper.s2}", "title": paper.title, "abstract": paper.abstract,
        "venue": "Journal of Invention", "year": 2024, "publicationDate": f"{paper.when:%Y-%m-%d}",
        "journal": {"name": "Journal of Invention"}, "authors": [{"authorId": "1", "name": "A. Author"}],
    }  # fmt: skip


# --- Hugging Face: https://huggingface.co/api/daily_papers, /api/papers ---


def _hf(server: LiveServer, asked: Asked) -> Answer:
    if asked.path == "/api/papers/search":
        return _json([{"paper": _hf_paper(paper), "title": paper.title} for paper in server.papers[:120]])
    if asked.path == "/api/daily_papers":
        day = asked.params.get("date")
        found = [paper for paper in server.papers if day in {None, f"{paper.when:%Y-%m-%d}"}]
        start = int(asked.params["p"]) * int(asked.params["limit"])
        found = found[start : start + int(asked.params["limit"])]
        return _json([
            {"paper": _hf_paper(paper), "publishedAt": f"{paper.when:%Y-%m-%dT%H:%M:%S.000Z}", "title": paper.title,
             "summary": paper.abstract, "numComments": 1}
            for paper in found
        ])  # fmt: skip
    for paper in server.papers:
        if asked.path == f"/api/papers/{paper.arxiv}":
            return _json(_hf_paper(paper))
    return status(404, body=b'{"error":"Paper not found"}')


def _hf_paper(paper: Paper) -> dict[str, Any]:
    return {
        "id": paper.arxiv, "authors": [{"_id": "1", "name": "A. Author", "hidden": False}],
        "publishedAt": f"{paper.when:%Y-%m-%dT%H:%M:%S.000Z}", "title": paper.title, "summary": paper.abstract,
        "upvotes": 3,
    }  # fmt: skip


_REPLIES: Mapping[str, Callable[[LiveServer, Asked], Answer]] = {
    "arxiv": _arxiv, "crossref": _crossref, "datacite": _datacite, "ncbi": _ncbi, "openalex": _openalex, "s2": _s2,
    "hf": _hf,
}  # fmt: skip
