from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from live_server import ARXIV_ERROR, Answer, LiveServer, feed, redirect, status

from assistant.errors import ConfigError, CorpusError
from assistant.papers import Raw, Record, Rejected, to_record
from assistant.sources import FORMATS
from assistant.sources.content import Content
from assistant.sources.live import EXAMPLES, Fetcher, Patience, open_live, parse

QUICK = Patience(tries=3, backoff_s=0.01, deadline_s=60.0, connect_s=10.0, reply_s=10.0, pace=0.0)
CONTACT = "reader@example.org"


def read(form: str, content: Content) -> Iterator[Raw | Rejected]:
    if form in FORMATS:
        return iter(FORMATS[form].read(content))
    from assistant.sources import markup

    return iter(markup.FORMS[form].read(content))


def records(name: str, fetcher: Fetcher, **how: int) -> list[Record | Rejected]:
    query = parse(name)
    assert query is not None
    return [to_record(item) if isinstance(item, Raw) else item for item in open_live(query, fetcher, read, **how)]


def titles(found: list[Record | Rejected]) -> list[str]:
    return [each.title for each in found if isinstance(each, Record)]


def refused(found: list[Record | Rejected]) -> list[tuple[str, str]]:
    return [(each.where, each.reason) for each in found if isinstance(each, Rejected)]


def made(*numbers: int) -> list[str]:
    return [f"On invented matter {n}" for n in numbers]


@pytest.fixture
def server() -> Iterator[LiveServer]:
    with LiveServer(5) as running:
        yield running


@pytest.fixture
def fetch() -> Iterator[Callable[..., Fetcher]]:
    opened: list[Fetcher] = []

    def make(server: LiveServer, **how: object) -> Fetcher:
        opened.append(Fetcher(**{"hosts": server.hosts, "patience": QUICK, **how}))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for each in opened:
        each.close()


Fetch = Callable[..., Fetcher]


# --- Names ---


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("arxiv:1706.03762", "arxiv:1706.03762"),
        (" arXiv:1706.03762v5 ", "arxiv:1706.03762v5"),
        ("arxiv:hep-th/9901001, 1706.03762", "arxiv:hep-th/9901001,1706.03762"),
        ("arxiv:cat:cs.CV 2024..", "arxiv:cat:cs.CV 2024.."),
        ('arxiv:all:"graph neural" AND cat:cs.LG', 'arxiv:all:"graph neural" AND cat:cs.LG'),
        ("https://arxiv.org/abs/1706.03762v5", "arxiv:1706.03762v5"),
        ("http://www.arxiv.org/pdf/1706.03762.pdf", "arxiv:1706.03762"),
        ("https://arxiv.org/html/1706.03762v7#S3", "arxiv:1706.03762v7"),
        ("arxiv.org/abs/hep-th/9901001", "arxiv:hep-th/9901001"),
        ("https://arxiv.org/list/cs.CL/recent", "arxiv:cat:cs.CL"),
        ("doi:10.1000/X.Y", "doi:10.1000/x.y"),
        ("https://doi.org/10.1000/a%2Fb", "doi:10.1000/a/b"),
        ("https://dx.doi.org/10.1000/x", "doi:10.1000/x"),
        ("pmid:123, 456", "pmid:123,456"),
        ("pubmed:123", "pmid:123"),
        ("pubmed:asthma 2020..2021", "pubmed:asthma 2020..2021"),
        ("https://pubmed.ncbi.nlm.nih.gov/123/", "pmid:123"),
        ("https://pubmed.ncbi.nlm.nih.gov/?term=asthma+children", "pubmed:asthma children"),
        ("openalex:w123", "openalex:W123"),
        ("openalex:search graph learning", "openalex:search graph learning"),
        ("openalex:authorships.author.id:A1,type:article", "openalex:authorships.author.id:A1,type:article"),
        ("https://openalex.org/W123", "openalex:W123"),
        ("https://openalex.org/works/w123", "openalex:W123"),
        ("https://api.openalex.org/works/W123?api_key=k", "openalex:W123"),
        ("https://api.openalex.org/works?filter=type:article&page=2", "openalex:type:article"),
        ("s2:123", "s2:CorpusId:123"),
        ("s2:ARXIV:1706.03762", "s2:ARXIV:1706.03762"),
        ("s2:query graph learning", "s2:query graph learning"),
        (f"https://www.semanticscholar.org/paper/A-Title/{'0a' * 20}", f"s2:{'0a' * 20}"),
        ("https://api.semanticscholar.org/CorpusID:123", "s2:CorpusID:123"),
        ("hf-papers:2010.11929", "hf-papers:2010.11929"),
        ("hf-papers:daily", "hf-papers:daily"),
        ("hf-papers:daily 2024-06-01", "hf-papers:daily 2024-06-01..2024-06-01"),
        ("hf-papers:query graph learning", "hf-papers:query graph learning"),
        ("https://huggingface.co/papers/2010.11929", "hf-papers:2010.11929"),
        ("https://huggingface.co/papers/date/2024-06-01", "hf-papers:daily 2024-06-01..2024-06-01"),
        ("https://huggingface.co/papers", "hf-papers:daily"),
    ],
)
def test_a_name_or_a_link_says_what_to_ask_for(text: str, name: str) -> None:
    found = parse(text)
    assert found is not None
    assert found.name == name
    again = parse(found.name)
    assert again is not None
    assert (again.name, again.ids, again.text, again.filters) == (name, found.ids, found.text, found.filters)


@pytest.mark.parametrize(
    ("written", "since", "until"),
    [
        ("2024..", date(2024, 1, 1), None),
        ("..2023", None, date(2023, 12, 31)),
        ("2023..2024", date(2023, 1, 1), date(2024, 12, 31)),
        ("2024-02..2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        ("2024-01-15..", date(2024, 1, 15), None),
    ],
)
def test_a_range_of_dates_holds_its_first_and_its_last_day(
    written: str, since: date | None, until: date | None
) -> None:
    found = parse(f"arxiv:cat:cs.CV {written}")
    assert found is not None
    assert (found.text, found.since, found.until) == ("cat:cs.CV", since, until)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "papers.csv",
            "data/*.jsonl",
            "-",
            "",
            r"C:\papers\a.csv",
            "c:papers.csv",
            "library:main",
            "a:b",
            "2401.00001",
        ),
        *("ftp://example.org/a", "file:///tmp/a", "arxiv", "10.1000/x", "arxiv:1\x00", "arxiv:" + "x" * 5_000),
    ],
)
def test_what_names_no_live_source_is_left_to_others(name: str) -> None:
    assert parse(name) is None


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("arxiv:", "arxiv:1706.03762"),
        ("arxiv:cs.CV 2024..", "arxiv:cat:cs.CV 2024.."),
        ("arxiv:cat:cs.CV 2024", "arxiv:cat:cs.CV 2024.. or 2024..2024"),
        ("arxiv:graph networks 2024..", 'arxiv:all:"graph networks" 2024..'),
        ("arxiv:17060.3762", "arxiv:1706.03762"),
        ("arxiv:cat:cs.CV 2024-13..", "2024-01-15"),
        ("arxiv:cat:cs.CV 2024..2023", "2023..2024"),
        ("arxiv:cat:cs.CV ..", "2024.."),
        ("arvix:1706.03762", "'arxiv'"),
        ("semanticscholar:123", "'s2'"),
        ("hf_papers:daily", "'hf-papers'"),
        ("doi:11.1000/x", "doi:10.1000"),
        ("pmid:asthma", "pubmed:asthma"),
        ("openalex:graph learning", "openalex:search graph learning"),
        ("s2:graph learning", "s2:query graph learning"),
        ("hf-papers:weekly", "hf-papers:daily"),
        ("hf-papers:daily ..2024", "hf-papers:daily"),
        ("https://arxiv.org/search/?query=x", "arxiv:1706.03762"),
        ("https://huggingface.co/datasets/made", "hf-papers:2010.11929"),
        ("https://dl.acm.org/doi/10.1145/1.2", "doi:10.1145/1.2"),
        ("https://example.org/paper", "arxiv:..."),
        ("https://[broken/10", "arxiv:..."),
    ],
)
def test_what_looks_like_a_live_source_is_refused_with_the_right_form(name: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(name)
    assert right in str(caught.value) and "\n" not in str(caught.value)


def test_every_form_that_is_offered_is_understood() -> None:
    for text in EXAMPLES.values():
        for example in text.replace(" or ", ", ").split(", "):
            assert parse(example) is not None


# --- What comes from each service ---


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("arxiv:2401.00002,2401.00003v1", (2, 3)),
        ("arxiv:cat:cs.CV", (4, 3, 2, 1, 0)),
        ("doi:10.1000/made.2", (2,)),
        ("doi:10.48550/arXiv.2401.00002", (2,)),
        ("pmid:30000001,30000003", (1, 3)),
        ("pubmed:matter", (0, 1, 2, 3, 4)),
        ("openalex:W3", (2,)),
        ("openalex:search matter", (0, 1, 2, 3, 4)),
        ("openalex:type:article 2024..", (0, 1, 2, 3, 4)),
        ("s2:CorpusId:3", (3,)),
        ("s2:query matter", (0, 1, 2, 3, 4)),
        ("hf-papers:2401.00002", (2,)),
        ("hf-papers:daily", (0, 1, 2, 3, 4)),
        ("hf-papers:daily 2024-01-01", (0, 1, 2, 3, 4)),
        ("hf-papers:query matter", (0, 1, 2, 3, 4)),
    ],
)
def test_each_service_gives_whole_records(
    name: str, numbers: tuple[int, ...], server: LiveServer, fetch: Fetch
) -> None:
    found = records(name, fetch(server))
    assert refused(found) == []
    assert sorted(titles(found)) == made(*sorted(numbers))
    for each in found:
        assert isinstance(each, Record)
        assert "invent matter" in each.abstract and each.authors[0].startswith("A") and each.year == 2024
        assert each.arxiv_id or each.doi or each.pmid or each.own_id
    assert len({each.where for each in found}) == len(found)


@pytest.mark.parametrize(
    ("name", "where", "reason"),
    [
        ("arxiv:2401.00001,2499.00009", "arxiv:2499.00009", "arXiv has no such paper"),
        ("pmid:30000001,77", "pmid:77", "PubMed has no such record"),
        ("doi:10.1000/none", "doi:10.1000/none", "neither Crossref nor DataCite"),
        ("openalex:W3,W99", "openalex:W99", "OpenAlex has no such work"),
        ("s2:CorpusId:99", "s2:CorpusId:99", "Semantic Scholar has no such paper"),
        ("hf-papers:2401.99999", "hf-papers:2401.99999", "try arxiv:2401.99999"),
    ],
)
def test_what_a_service_does_not_have_is_refused_by_name(
    name: str, where: str, reason: str, server: LiveServer, fetch: Fetch
) -> None:
    ((place, said),) = refused(records(name, fetch(server)))
    assert place == where and reason in said


def test_a_doi_that_crossref_does_not_have_is_read_from_datacite(server: LiveServer, fetch: Fetch) -> None:
    (found,) = records("doi:10.5072/data.1", fetch(server))
    assert isinstance(found, Record)
    assert (found.title, found.abstract) == ("Data of invention", "Numbers that were invented.")
    assert found.authors == ("A. Author", "B. Maker", "Society, for Invention")
    assert (found.year, found.venue, found.doi) == (2023, "Archive of Invention", "10.5072/data.1")


def test_an_abstract_that_crossref_lacks_is_taken_from_openalex(server: LiveServer, fetch: Fetch) -> None:
    bare = {"DOI": "10.1000/made.2", "title": ["On invented matter 2"], "issued": {"date-parts": [[2021]]},
            "author": [{"given": "B.", "family": "Maker"}], "type": "journal-article"}  # fmt: skip
    body = Answer(json.dumps({"status": "ok", "message-type": "work", "message": bare}).encode())
    server.fail("crossref", body, body, body)
    (found,) = records("doi:10.1000/made.2", fetch(server))
    assert isinstance(found, Record)
    assert "invent matter 2" in found.abstract and (found.authors, found.year) == (("B. Maker",), 2021)
    server.fail("openalex", status(404), *[status(500)] * 3)
    for _ in range(2):
        ((_, reason),) = refused(records("doi:10.1000/made.2", fetch(server)))
        assert "no abstract for the title 'On invented matter 2'" in reason


def test_a_query_that_finds_nothing_gives_nothing(fetch: Fetch) -> None:
    with LiveServer(0) as server:
        for name in ("arxiv:cat:cs.CV", "pubmed:matter", "openalex:search matter", "s2:query matter"):
            assert records(name, fetch(server)) == []
        for name in ("hf-papers:query matter", "hf-papers:daily", "hf-papers:daily 2024-01-01..2024-01-02"):
            assert records(name, fetch(server)) == []


def test_the_range_of_dates_reaches_each_service(fetch: Fetch) -> None:
    with LiveServer(72) as server:
        fetcher = fetch(server)
        for name in ("arxiv:cat:cs.CV", "pubmed:matter", "openalex:search matter", "hf-papers:daily"):
            found = records(f"{name} 2024-01-02..2024-01-02", fetcher)
            assert sorted(titles(found)) == sorted(made(*range(24, 48))), name
        records("s2:query matter 2024-01-02..", fetcher)
        assert server.asked("s2")[0].params["publicationDateOrYear"] == "2024-01-02:"


# --- Pages ---


@pytest.mark.parametrize(
    ("name", "n", "n_requests"),
    [("arxiv:cat:cs.CV", 450, 3), ("pubmed:matter", 450, 4), ("openalex:search matter", 250, 4),
     ("s2:query matter", 2_300, 3), ("hf-papers:daily 2024-01-01..2024-01-03", 72, 3)],
)  # fmt: skip
def test_all_pages_are_read_and_no_record_twice(name: str, n: int, n_requests: int, fetch: Fetch) -> None:
    with LiveServer(n) as server:
        found = records(name, fetch(server))
        assert refused(found) == [] and sorted(titles(found)) == sorted(made(*range(n)))
        assert len(server.requests) <= n_requests


@pytest.mark.parametrize("name", ["arxiv:cat:cs.CV", "pubmed:matter"])
def test_a_query_beyond_the_limit_of_its_service_is_read_in_parts(name: str, fetch: Fetch) -> None:
    with LiveServer(10_040, "2023-06-01") as server:
        query = parse(name)
        assert query is not None
        found = [str(item.fields["title"]) for item in open_live(query, fetch(server), read)]
        assert sorted(found) == sorted(made(*range(10_040)))
        assert len(server.requests) < 100
        assert all(int(each.params.get("start", 0)) < 10_000 for each in server.requests)


def test_reading_ends_at_the_most_records_and_says_so(fetch: Fetch) -> None:
    with LiveServer(450) as server:
        *found, last = records("arxiv:cat:cs.CV", fetch(server), most=300)
        assert len(titles(found)) == 300 and len(server.requests) == 2
        assert isinstance(last, Rejected)
        assert last.where == "after record 300" and "narrow the query" in last.reason


def is_page(start: int) -> Callable[[object], bool]:
    return lambda asked: asked.params.get("start") == str(start)  # type: ignore[attr-defined]


def test_an_empty_page_in_the_middle_is_asked_for_again(fetch: Fetch) -> None:
    with LiveServer(450) as server:
        server.fail("arxiv", Answer(feed([], 450, 200)), Answer(feed(server.papers[:3], 450, 200)), when=is_page(200))
        found = records("arxiv:cat:cs.CV", fetch(server))
        assert refused(found) == [] and len(titles(found)) == 450


def test_a_page_that_stays_empty_is_refused_by_name_and_the_others_are_read(fetch: Fetch, tmp_path: Path) -> None:
    with LiveServer(450) as server:
        server.fail("arxiv", *[Answer(feed([], 450, 200))] * 3, when=is_page(200))
        found = records("arxiv:cat:cs.CV", fetch(server, cache=tmp_path))
        assert len(titles(found)) == 250
        ((where, reason),) = refused(found)
        assert where == "records 201-400 of 450" and "0 of 200 records" in reason
        again = records("arxiv:cat:cs.CV", fetch(server, cache=tmp_path))
        assert refused(again) == [] and len(titles(again)) == 450


def test_two_broken_pages_in_a_row_end_the_reading(fetch: Fetch) -> None:
    with LiveServer(850) as server:
        server.fail("arxiv", *[Answer(feed([], 850))] * 9, when=lambda asked: asked.params["start"] != "0")
        with pytest.raises(CorpusError, match=r"cannot read arxiv:cat:cs\.CV beyond records 401-600"):
            records("arxiv:cat:cs.CV", fetch(server))


@pytest.mark.parametrize("cursor", ["100", "*"], ids=["the same page again", "the first page again"])
def test_a_cursor_that_leads_nowhere_ends_in_time_and_is_told(cursor: str, fetch: Fetch) -> None:
    with LiveServer(250) as server:
        body = json.dumps({"meta": {"count": 250, "next_cursor": cursor}, "results": [{"id": "W1", "title": "A"}]})
        server.fail("openalex", *[Answer(body.encode())] * 300, when=lambda asked: asked.params["cursor"] != "*")
        found = records("openalex:search matter", fetch(server), most=400)
        assert any("of 250 records" in reason or "reading ends" in reason for _, reason in refused(found))


# --- Faults ---

NAMES = {
    "arxiv": "arxiv:2401.00002", "crossref": "doi:10.1000/made.2", "datacite": "doi:10.5072/data.1",
    "ncbi": "pmid:30000002", "openalex": "openalex:W3", "s2": "s2:CorpusId:2", "hf": "hf-papers:2401.00002",
}  # fmt: skip
GOOD = Answer(b'{"id": "W1", "message": {}, "data": {}, "paperId": "1"}' + b" " * 500)


@pytest.mark.parametrize("service", NAMES)
@pytest.mark.parametrize(
    "fault",
    [status(500), status(503, {"Retry-After": "0"}), status(429, {"Retry-After": "0.05"}), Answer(b"<html>Sign in"),
     status(429, {"Retry-After": "Sat, 01 Jan 2022 00:00:00 GMT"}), status(429, {"Retry-After": "soon"}),
     Answer(b""), Answer(b"[" * 100_000), Answer(GOOD.body, cut=True)],
    ids=["500", "503", "429", "a web page", "429 until then", "429 until soon", "nothing", "nested JSON", "cut"],
)  # fmt: skip
def test_a_passing_fault_costs_another_request_and_no_record(
    service: str, fault: Answer, server: LiveServer, fetch: Fetch
) -> None:
    server.fail(service, fault)
    (found,) = records(NAMES[service], fetch(server))
    assert isinstance(found, Record)
    assert len(server.asked(service)) == 2


@pytest.mark.parametrize(
    "fault", [status(500), Answer(b"<html>Sign in"), Answer(GOOD.body, cut=True), Answer(GOOD.body, drip_s=0.1)],
    ids=["500", "a web page", "cut", "a drip"],
)  # fmt: skip
@pytest.mark.parametrize("service", ["arxiv", "ncbi", "openalex"])
def test_a_lasting_fault_ends_in_one_plain_line(service: str, fault: Answer, server: LiveServer, fetch: Fetch) -> None:
    server.fail(service, *[fault] * 9)
    fetcher = fetch(server, patience=Patience(tries=3, backoff_s=0.01, deadline_s=5.0, reply_s=0.5, pace=0.0))
    begin = time.monotonic()
    with pytest.raises(CorpusError) as caught:
        records(NAMES[service], fetcher)
    assert time.monotonic() - begin < 10
    said = str(caught.value)
    assert said.startswith(f"cannot read {NAMES[service]} from 127.0.0.1") and "\n" not in said
    assert len(server.asked(service)) <= 3


def test_a_service_that_failed_is_not_asked_again_in_the_same_run(server: LiveServer, fetch: Fetch) -> None:
    server.fail("arxiv", *[status(500)] * 9)
    fetcher = fetch(server)
    for _ in range(3):
        with pytest.raises(CorpusError):
            records("arxiv:2401.00002", fetcher)
    assert len(server.asked("arxiv")) == 3
    assert titles(records("s2:CorpusId:2", fetcher)) == made(2)


@pytest.mark.parametrize("code", [400, 401, 403, 410, 418])
def test_a_refusal_is_not_repeated_and_tells_what_the_service_said(code: int, server: LiveServer, fetch: Fetch) -> None:
    server.fail("openalex", status(code, body=b'{"error": "Invalid", "message": "Unknown\\u0000 field: made"}'))
    with pytest.raises(CorpusError, match=f"refuses it with {code} .Unknown field: made.; check the name"):
        records("openalex:made:1", fetch(server))
    assert len(server.requests) == 1


def test_arxivs_own_errors_are_told_and_no_paper(server: LiveServer, fetch: Fetch) -> None:
    server.fail("arxiv", status(400, body=ARXIV_ERROR), Answer(ARXIV_ERROR))
    for _ in range(2):
        with pytest.raises(CorpusError, match="incorrect id format for 1234"):
            records("arxiv:cat:cs.CV", fetch(server))


def test_a_wait_beyond_all_patience_is_told_at_once(server: LiveServer, fetch: Fetch) -> None:
    server.fail("s2", status(429, {"Retry-After": "3600"}))
    with pytest.raises(CorpusError, match="answers 429 and asks to wait 3600 s"):
        records("s2:CorpusId:2", fetch(server))
    assert len(server.requests) == 1


def test_a_redirect_is_followed_within_the_service_alone(server: LiveServer, fetch: Fetch) -> None:
    server.fail("openalex", redirect("/openalex/works/W3"))
    assert titles(records("openalex:W1", fetch(server))) == made(2)
    with LiveServer() as elsewhere:
        server.fail("openalex", redirect(f"{elsewhere.url}/openalex/works/W2"))
        with pytest.raises(CorpusError, match="redirects to 127.0.0.1"):
            records("openalex:W4", fetch(server, keys={"openalex": "a-secret-key"}))
        assert elsewhere.requests == []
    server.fail("openalex", *[redirect("/openalex/works/W3")] * 9)
    with pytest.raises(CorpusError, match="redirects in a circle"):
        records("openalex:W5", fetch(server))


def test_an_endless_reply_is_refused(server: LiveServer, fetch: Fetch) -> None:
    server.fail("openalex", Answer(b" " * 64_000_001))
    with pytest.raises(CorpusError, match="more than 64,000,000 bytes"):
        records("openalex:W1", fetch(server, patience=Patience(pace=0.0)))


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", None], ids=["no such name", "refused"])
def test_a_host_that_cannot_be_reached_is_told_in_one_line_within_seconds(url: str | None) -> None:
    fetcher = Fetcher(hosts={"arxiv": url or closed_port()}, patience=Patience(backoff_s=0.1))
    for n in range(40):
        begin = time.monotonic()
        with pytest.raises(CorpusError) as caught:
            records(f"arxiv:2401.{n:05d}", fetcher)
        said = str(caught.value)
        assert said.startswith("cannot reach ") and f" for arxiv:2401.{n:05d}: " in said
        assert said.endswith("; check the network, or give a downloaded file") and "\n" not in said
        assert time.monotonic() - begin < (15 if n == 0 else 1)
    fetcher.close()


def test_a_host_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for each in others:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        address = f"http://127.0.0.1:{full.getsockname()[1]}"
        fetcher = Fetcher(hosts={"s2": address}, patience=Patience(backoff_s=0.01, connect_s=0.3))
        begin = time.monotonic()
        with pytest.raises(CorpusError, match="cannot reach 127.0.0.1"):
            records("s2:1", fetcher)
        assert time.monotonic() - begin < 10
        for each in others:
            each.close()
        fetcher.close()


# --- Manners ---


def test_requests_keep_the_interval_of_the_service_also_between_runs(
    server: LiveServer, fetch: Fetch, tmp_path: Path
) -> None:
    fetcher = fetch(server, cache=tmp_path, patience=Patience())
    for n in range(3):
        records(f"pmid:{30_000_000 + n}", fetcher)
    records("pmid:30000003", fetch(server, cache=tmp_path, patience=Patience()))
    times = [each.at for each in server.asked("ncbi")]
    assert len(times) == 4
    assert all(later - earlier > 0.3 for earlier, later in itertools.pairwise(times))


def test_a_wait_that_is_asked_for_is_kept(server: LiveServer, fetch: Fetch) -> None:
    server.fail("s2", status(429, {"Retry-After": "0.6"}))
    records("s2:CorpusId:2", fetch(server))
    first, second = (each.at for each in server.asked("s2"))
    assert second - first >= 0.55


def test_services_learn_who_asks_and_how_to_write_to_them(server: LiveServer, fetch: Fetch) -> None:
    fetcher = fetch(server, contact=CONTACT)
    for service, name in NAMES.items():
        records(name, fetcher)
        (asked,) = server.asked(service)[:1]
        assert asked.headers["user-agent"].startswith("paper-assistant/")
        assert f"mailto:{CONTACT}" in asked.headers["user-agent"]
        field = {"crossref": "mailto", "datacite": "mailto", "openalex": "mailto", "ncbi": "email"}.get(service)
        assert field is None or asked.params[field] == CONTACT
    records("s2:CorpusId:2", fetch(server))
    assert "mailto" not in server.requests[-1].headers["user-agent"]


KEYS = {"s2": "key-of-s2-0123456789", "ncbi": "key-of-ncbi-0123456789", "openalex": "key-of-openalex-0123456789"}


def test_keys_reach_their_service_and_nothing_else(
    server: LiveServer, fetch: Fetch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fetcher = fetch(server, keys=KEYS, cache=tmp_path)
    for service in KEYS:
        server.fail(service, status(500))
        records(NAMES[service], fetcher)
    assert server.asked("s2")[0].headers["x-api-key"] == KEYS["s2"]
    assert server.asked("openalex")[0].headers["authorization"] == f"Bearer {KEYS['openalex']}"
    assert server.asked("ncbi")[0].params["api_key"] == KEYS["ncbi"]
    assert all(each.method == ("POST" if each.service == "ncbi" else "GET") for each in server.requests)
    said = ""
    for service, key in KEYS.items():
        spoiled = [status(403, body=f'{{"error": "the key {key} is unknown"}}'.encode())]
        for answers in (spoiled, [redirect(f"http://127.0.0.1:9/{key}")], [status(500)] * 3):
            server.fail(service, *answers)
            with pytest.raises(CorpusError) as caught:
                records(NAMES[service], fetch(server, keys=KEYS, cache=tmp_path, refresh=True))
            said += "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    kept = b"".join(each.name.encode() + each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    for service, key in KEYS.items():
        assert key not in said + caplog.text + repr(fetcher) and key.encode() not in kept
        assert all(key not in str(asked) for asked in server.requests if asked.service != service)


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ({"contact": "me\r\nX-Made: 1"}, "no e-mail address"),
        ({"contact": "nobody"}, "no e-mail address"),
        ({"keys": {"s2": "a\nb-secret"}}, "no header can carry"),
        ({"keys": {"made": "x"}}, "unknown service 'made'"),
        ({"hosts": {"made": "http://127.0.0.1"}}, "unknown service 'made'"),
        ({"hosts": {"s2": "ftp://user:secret@127.0.0.1"}}, "give an http or https address"),
    ],
)
def test_settings_that_cannot_be_sent_are_refused(setting: dict[str, object], found: str) -> None:
    with pytest.raises(ConfigError, match=found) as caught:
        Fetcher(**setting)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


# --- The cache ---


def test_an_interrupted_run_goes_on_where_it_was(fetch: Fetch, tmp_path: Path) -> None:
    with LiveServer(950) as server:
        query = parse("arxiv:cat:cs.CV")
        assert query is not None
        items = open_live(query, fetch(server, cache=tmp_path), read)
        list(itertools.islice(items, 450))
        items.close()  # type: ignore[attr-defined]
        before = [each.params["start"] for each in server.requests]
        assert before == ["0", "200", "400"]
        found = records("arxiv:cat:cs.CV", fetch(server, cache=tmp_path))
        assert [each.params["start"] for each in server.requests[3:]] == ["600", "800"]
        assert sorted(titles(found)) == sorted(made(*range(950)))


@pytest.mark.parametrize(
    ("name", "service", "last"),
    [("pubmed:matter", "ncbi", "30000000"), ("openalex:search matter", "openalex", "2200"),
     ("s2:query matter", "s2", "2000")],
)  # fmt: skip
def test_a_run_that_broke_off_asks_only_for_what_is_missing(
    name: str, service: str, last: str, fetch: Fetch, tmp_path: Path
) -> None:
    with LiveServer(2_300) as server:
        server.fail(service, *[status(500)] * 3, when=lambda asked: last in str(asked.params))
        with pytest.raises(CorpusError):
            records(name, fetch(server, cache=tmp_path))
        n_asked = len(server.requests)
        found = records(name, fetch(server, cache=tmp_path))
        assert sorted(titles(found)) == sorted(made(*range(2_300)))
        assert len(server.requests) - n_asked <= 2


def test_a_record_is_asked_for_once_a_day_and_a_query_once_an_hour(
    server: LiveServer, fetch: Fetch, tmp_path: Path
) -> None:
    def asked_after(hours: float) -> list[str]:
        for each in tmp_path.glob("*.gz"):
            then = time.time() - hours * 3_600
            os.utime(each, (then, then))
        before = len(server.requests)
        records("openalex:W1", fetch(server, cache=tmp_path))
        records("openalex:search matter", fetch(server, cache=tmp_path))
        return sorted({each.path for each in server.requests[before:]})

    assert asked_after(0) == ["/works", "/works/W1"]
    assert asked_after(0.5) == []
    assert asked_after(2) == ["/works"]
    assert asked_after(25) == ["/works", "/works/W1"]
    assert asked_after(-3) == ["/works", "/works/W1"]


def test_refresh_asks_anew(server: LiveServer, fetch: Fetch, tmp_path: Path) -> None:
    for refresh in (False, False, True):
        records("openalex:W1", fetch(server, cache=tmp_path, refresh=refresh))
    assert len(server.requests) == 2


def test_a_kept_reply_that_was_damaged_is_asked_for_anew(server: LiveServer, fetch: Fetch, tmp_path: Path) -> None:
    for noise in (b"", b"noise", b"\x1f\x8b\x08\x00" + b"\x00" * 50):
        records("openalex:W1", fetch(server, cache=tmp_path))
        (kept,) = tmp_path.glob("*.gz")
        kept.write_bytes(noise)
        assert titles(records("openalex:W1", fetch(server, cache=tmp_path))) == made(0)
    assert len(server.requests) == 4


def test_a_cache_that_cannot_be_written_costs_no_record(server: LiveServer, fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    fetcher = fetch(server, cache=tmp_path / "file" / "cache")
    assert titles(records("openalex:W1", fetcher)) == made(0)
    assert titles(records("openalex:W2", fetcher)) == made(1)


def test_replies_that_nobody_takes_any_more_are_removed(server: LiveServer, fetch: Fetch, tmp_path: Path) -> None:
    old = tmp_path / f"{'0' * 64}.gz"
    old.write_bytes(b"old")
    os.utime(old, (1, 1))
    records("openalex:W1", fetch(server, cache=tmp_path))
    assert not old.exists() and len(list(tmp_path.glob("*.gz"))) == 1
