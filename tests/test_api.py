"""The API as programs use it: a real server, real sockets, a scripted endpoint."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import make_records
from doors import JSON, QUESTION, SAID, Doors, open_doors, read_events, same
from endpoint import answer, drip, never_ends, raw, reset

from assistant.api.forms import CONDITIONS, OFFSET
from assistant.api.shared import BODY_BYTES

HISTORY = [{"role": "user", "content": "What does method m7 use?"}, {"role": "assistant", "content": "Device d21 [1]."}]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with open_doors(tmp_path_factory.mktemp("doors"), "--log-format", "json") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _as_scripted(doors: Doors) -> None:
    doors.endpoint.become(answer(SAID))


# --- Answers, searches, papers ----------------------------------------------------------------------------------------


def test_an_answer_is_the_one_that_python_gives(doors: Doors) -> None:
    reply = doors.post("/api/v1/ask", question=QUESTION)
    assert reply.status_code == 200
    assert reply.json()["text"] == SAID and reply.json()["citations"][0]["number"] == 1
    assert same(reply.json()) == same(doors.ask_directly())


def test_history_k_and_conditions_go_into_an_answer(doors: Doors) -> None:
    how: dict[str, Any] = {"history": HISTORY, "k": 2, "where": ["year>=2005", "year<=2010"]}
    reply = doors.post("/api/v1/ask", question="And which percentage does it reach?", **how).json()
    assert len(reply["evidence"]) == 2 and all(2005 <= each["paper"]["year"] <= 2010 for each in reply["evidence"])
    assert same(reply) == same(doors.ask_directly("And which percentage does it reach?", **how))


def test_a_streamed_answer_comes_in_pieces_that_are_its_text(doors: Doors) -> None:
    doors.endpoint.become(answer(f"{SAID} It uses device d21 [1]. It needs 9 times less [1].", pieces=5))
    reply = doors.post("/api/v1/ask", question=QUESTION, stream=True)
    events = read_events(reply.text)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert [name for name, _ in events] == ["piece", "piece", "piece", "answer"]
    assert "".join(data["text"] for _, data in events[:-1]) == events[-1][1]["text"]
    doors.endpoint.become(answer(f"{SAID} It uses device d21 [1]. It needs 9 times less [1].", pieces=5))
    assert same(events[-1][1]) == same(doors.ask_directly())


def test_a_fault_of_the_endpoint_is_an_answer_that_tells_it(doors: Doors) -> None:
    doors.endpoint.become(reset())
    reply = doors.post("/api/v1/ask", question=QUESTION)
    assert reply.status_code == 200 and reply.json()["fallback"]["error"] == "llm_unavailable"
    assert "sk-not-told" not in reply.text


def test_not_knowing_is_no_error(doors: Doors) -> None:
    reply = doors.post("/api/v1/ask", question=QUESTION, where=["year>=2400"])
    assert reply.status_code == 200
    assert (reply.json()["abstained"], reply.json()["reason"]) == (True, "filter_excluded_all")


def test_a_search_is_the_one_that_the_command_prints(doors: Doors) -> None:
    from assistant import Assistant

    reply = doors.post("/api/v1/search", query="speech in setting 8", k=3, where=["year>=2001"], history=HISTORY)
    with Assistant(doors.config) as assistant:
        hits = assistant.search("speech in setting 8", k=3, where=["year>=2001"], history=HISTORY)
    assert reply.json() == hits.as_dict() and len(reply.json()["hits"]) == 3


def test_papers_are_listed_page_by_page(doors: Doors) -> None:
    pages = [doors.client.get("/api/v1/papers", params={"limit": 12, "offset": at}).json() for at in (0, 12, 24)]
    ids = [paper["id"] for page in pages for paper in page["papers"]]
    assert len(set(ids)) == len(ids) == pages[0]["total"] >= 30
    chosen = doors.client.get("/api/v1/papers", params={"text": "glaciers", "where": ["year>=2003", "year<=2010"]})
    assert [paper["year"] for paper in chosen.json()["papers"]] == [2003, 2010]


def test_a_paper_is_found_by_its_id_with_its_abstract(doors: Doors) -> None:
    first = doors.client.get("/api/v1/papers", params={"limit": 1}).json()["papers"][0]
    full = doors.client.get(f"/api/v1/papers/{first['id']}").json()
    assert full.items() >= first.items() and "Our method m0" in full["abstract"]
    assert full["aliases"] and full["sources"]
    missing = doors.client.get("/api/v1/papers/10.1000/not/here")
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == "no paper has the id '10.1000/not/here'; /api/v1/papers lists them"


def test_papers_come_in_as_records_or_as_a_file_and_again_cost_nothing(doors: Doors) -> None:
    records = make_records(2, offset=100)
    first = doors.post("/api/v1/ingest", papers=records).json()
    assert (first["totals"]["new"], first["sources"][0]["source"]) == (2, "records.jsonl")
    again = doors.post("/api/v1/ingest", papers=records).json()
    assert (again["totals"]["unchanged"], again["encoded"]) == (2, 0)
    lines = "".join(json.dumps(each) + "\n" for each in [*make_records(1, offset=200), {"title": "No abstract"}])
    upload = doors.client.post("/api/v1/ingest", files={"file": ("../../mine.jsonl", lines.encode())}).json()
    assert (upload["totals"]["new"], upload["totals"]["rejected"]) == (1, 1)
    assert upload["sources"][0]["source"] == "mine.jsonl"
    hits = doors.post("/api/v1/search", query="Study 200").json()["hits"]
    assert hits[0]["paper"]["title"] == make_records(1, offset=200)[0]["title"]


def test_papers_that_come_while_others_are_added_are_told_to_wait(doors: Doors) -> None:
    more = {"papers": make_records(64, offset=1_000)}
    with ThreadPoolExecutor() as threads:
        replies = list(threads.map(lambda _: doors.post("/api/v1/ingest", **more), range(4)))
    refused = [each for each in replies if each.status_code == 409]
    assert {each.status_code for each in replies} == {200, 409}
    assert refused[0].json()["error"]["type"] == "LibraryBusy"


# --- Bad input --------------------------------------------------------------------------------------------------------

DEEP = b'{"question":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
CHAT = {"model": "paper-assistant", "messages": [{"role": "user", "content": QUESTION}]}
MALFORMED: dict[str, tuple[str, object, dict[str, str], int, str]] = {
    "no body": ("/api/v1/ask", b"", JSON, 422, "no body"),
    "no JSON": ("/api/v1/ask", b"question=why", JSON, 400, "no JSON"),
    "half a JSON": ("/api/v1/ask", b'{"question": "wh', JSON, 400, "no JSON"),
    "JSON of 100,000 levels": ("/api/v1/ask", DEEP, JSON, 400, ""),
    "a number of 5,000 digits": ("/api/v1/ask", b'{"question": "x", "k": ' + b"9" * 5_000 + b"}", JSON, 400, ""),
    "bytes that are no UTF-8": ("/api/v1/ask", b'{"question": "\xff\xfe"}', JSON, 400, ""),
    "UTF-16": ("/api/v1/ask", '{"question": 1}'.encode("utf-16"), JSON, 422, "question"),
    "a list": ("/api/v1/ask", [], {}, 422, ""),
    "null": ("/api/v1/ask", b"null", JSON, 422, ""),
    "a text": ("/api/v1/ask", b'"why"', JSON, 422, ""),
    "nothing asked": ("/api/v1/ask", {}, {}, 422, "the field question is missing"),
    "an empty question": ("/api/v1/ask", {"question": ""}, {}, 422, "question"),
    "a question of spaces": ("/api/v1/ask", {"question": " \t\u200b "}, {}, 422, "empty"),
    "a question of NUL": ("/api/v1/ask", {"question": "\0\0"}, {}, 422, "empty"),
    "a question of a lone surrogate": ("/api/v1/ask", b'{"question": "\\ud800"}', JSON, 422, "question"),
    "a question that is a number": ("/api/v1/ask", {"question": 7}, {}, 422, "the field 'question' is 7"),
    "a question that is a list": ("/api/v1/ask", {"question": ["why"]}, {}, 422, "question"),
    "a question of 8,001 characters": ("/api/v1/ask", {"question": "x" * 8_001}, {}, 422, "8000"),
    "an unknown field": ("/api/v1/ask", {"question": "x", "wher": []}, {}, 422, "'wher'; did you mean 'where'?"),
    "a field with half a surrogate pair": ("/api/v1/ask", b'{"question": "x", "\\ud800": 1}', JSON, 422, "field"),
    "k as a text": ("/api/v1/ask", {"question": "x", "k": "8"}, {}, 422, "the field 'k' is '8'"),
    "k as a fraction": ("/api/v1/ask", {"question": "x", "k": 1.5}, {}, 422, "k"),
    "k as true": ("/api/v1/ask", {"question": "x", "k": True}, {}, 422, "k"),
    "k of 0": ("/api/v1/search", {"query": "x", "k": 0}, {}, 422, "k"),
    "k of a million": ("/api/v1/search", {"query": "x", "k": 1_000_000}, {}, 422, "1000"),
    "k that is no number": ("/api/v1/search", b'{"query": "x", "k": NaN}', JSON, 422, "k"),
    "an unknown condition": ("/api/v1/ask", {"question": "x", "where": ["yer>2"]}, {}, 422, "did you mean 'year'?"),
    "a condition that is no list": ("/api/v1/search", {"query": "x", "where": "year>2000"}, {}, 422, "where"),
    "21 conditions": ("/api/v1/search", {"query": "x", "where": ["year>2000"] * (CONDITIONS + 1)}, {}, 422, "where"),
    "a history of 201 turns": ("/api/v1/ask", {"question": "x", "history": HISTORY * 101}, {}, 422, "history"),
    "a turn of a stranger": (
        "/api/v1/ask", {"question": "x", "history": [{"role": "system", "content": "x"}]}, {}, 422, "history[0].role",
    ),
    "a turn with an unknown field": (
        "/api/v1/ask", {"question": "x", "history": [{"role": "user", "content": "x", "contents": ""}]}, {}, 422,
        "did you mean 'content'?",
    ),
    "a body that is too long": ("/api/v1/ask", {"question": "x" * BODY_BYTES}, {}, 413, "longer than 4,000,000"),
    "a form": ("/api/v1/ask", b"question=x", {"content-type": "application/x-www-form-urlencoded"}, 415, "json"),
    "plain text": ("/api/v1/search", b'{"query": "x"}', {"content-type": "text/plain"}, 415, "'text/plain'"),
    "an unknown model": ("/v1/chat/completions", {**CHAT, "model": "gpt-9"}, {}, 404, "'gpt-9'"),
    "no messages": ("/v1/chat/completions", {**CHAT, "messages": []}, {}, 422, "messages"),
    "two answers": ("/v1/chat/completions", {**CHAT, "n": 2}, {}, 422, "the field 'n' is 2"),
    "a picture": (
        "/v1/chat/completions",
        {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, {},
        422, "'image_url'",
    ),
    "papers that are no objects": ("/api/v1/ingest", {"papers": ["x"]}, {}, 422, "papers[0]"),
    "papers in an unknown type": ("/api/v1/ingest", b"x", {"content-type": "text/csv"}, 415, "'text/csv'"),
    "an upload without a file": (
        "/api/v1/ingest", b"--x\r\n\r\n--x--", {"content-type": "multipart/form-data; boundary=x"}, 400, "",
    ),
    "an upload without a boundary": ("/api/v1/ingest", b"x", {"content-type": "multipart/form-data"}, 400, ""),
}  # fmt: skip


@pytest.mark.parametrize(("path", "body", "headers", "status", "told"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_gets_a_plain_error(
    doors: Doors, path: str, body: object, headers: dict[str, str], status: int, told: str
) -> None:
    before = len(doors.log)
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    got, fields, content = doors.raw("POST", path, sent, **(headers or JSON))
    reply = json.loads(content)
    assert (got, reply.keys()) == (status, {"error"})
    assert set(reply["error"]) >= {"type", "message"} and told in reply["error"]["message"]
    assert len(reply["error"]["message"]) < 400 and "Traceback" not in content.decode()
    line = json.loads(_line(doors, fields["x-request-id"], before))
    assert line["status"] == status and "Traceback" not in "".join(doors.log[before:])


def _line(doors: Doors, ident: str, after: int) -> str:
    """Return the line of a request in the log, which may come a moment after the reply."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for line in doors.log[after:]:
            if ident in line:
                return line
        time.sleep(0.01)
    raise AssertionError(doors.log[after:])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/papers?limit=0", 422),
        ("/api/v1/papers?limit=ten", 422),
        (f"/api/v1/papers?offset={OFFSET + 1}", 422),
        ("/api/v1/papers?where=year", 422),
        ("/api/v1/papers?page=2", 422),
        ("/api/v1/papers/%00%ff", 404),
        ("/api/v1/papers/" + "x" * 2_001, 422),
        ("/api/v1/ask", 405),
        ("/api/v2/ask", 404),
        ("/api", 404),
        ("/v1/models/gpt-9", 404),
        ("/v1/completions", 404),
    ],
)
def test_a_path_that_leads_nowhere_gets_a_plain_error(doors: Doors, path: str, status: int) -> None:
    got, _, content = doors.raw("GET", path)
    assert got == status and json.loads(content)["error"]["message"]


def test_a_body_without_a_length_is_not_read_beyond_the_limit(doors: Doors) -> None:
    at = urlsplit(doors.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=20) as connection:
        connection.sendall(b"POST /api/v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(BODY_BYTES // 0x10000 + 1):
            connection.sendall(chunk)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")  # and the body has not ended


# --- The document -----------------------------------------------------------------------------------------------------


def test_the_api_replies_what_its_document_says(doors: Doors, tmp_path: Path) -> None:
    """Schemathesis asks what the document allows and what it forbids, and compares the replies with it."""
    run = [sys.executable, "-m", "schemathesis.cli", "run"]
    limits = ["--max-examples", "6", "--seed", "7", "--phases", "coverage,fuzzing", "--request-timeout", "20"]
    # A question or a condition can be refused for what it says, of which the document knows nothing.
    checks = ["--exclude-checks", "positive_data_acceptance"]
    done = subprocess.run(
        [*run, f"{doors.url}/openapi.json", *limits, *checks],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, "PYTHONWARNINGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr
    assert int(re.findall(r"(\d+) generated", done.stdout)[-1]) > 200


def test_the_document_names_every_field_of_an_answer(doors: Doors) -> None:
    shapes = doors.client.get("/openapi.json").json()["components"]["schemas"]
    answered = doors.post("/api/v1/ask", question=QUESTION).json()
    assert shapes["Answer"]["properties"].keys() == answered.keys()
    assert shapes["Citation"]["properties"].keys() == answered["citations"][0].keys()
    assert shapes["Evidence"]["properties"].keys() == answered["evidence"][0].keys()
    assert shapes["Checks"]["properties"].keys() == answered["checks"].keys()


# --- Ids, hanging up, and many at once --------------------------------------------------------------------------------


def test_a_request_keeps_a_sane_id_and_gets_another_for_any_else(doors: Doors) -> None:
    for given, kept in (("job-7.a:1", True), ("x" * 65, False), ("a b", False), ('"}', False)):
        _, fields, _ = doors.raw("GET", "/healthz", x_request_id=given)
        assert (fields["x-request-id"] == given) == kept
        assert re.fullmatch(r"[\w.:-]{1,64}", fields["x-request-id"])


def test_a_line_of_the_log_tells_no_question_no_query_and_no_key(doors: Doors) -> None:
    before = len(doors.log)
    doors.post("/api/v1/ask", question="Where is the hidden zebra?")
    _, fields, _ = doors.raw("GET", "/api/v1/papers?text=zebra", authorization="Bearer zebra-token")
    line = json.loads(_line(doors, fields["x-request-id"], before))
    seconds = line.pop("seconds")
    assert line.items() >= {"method": "GET", "path": "/api/v1/papers", "status": 200, "level": "info"}.items()
    assert seconds >= 0 and not re.search("zebra|sk-not-told", "".join(doors.log[before:]))


@pytest.mark.parametrize("body", [{"question": QUESTION}, {"question": QUESTION, "stream": True}])
@pytest.mark.parametrize("reply", [raw(hang=True), drip(delay_s=0.2), never_ends()])
def test_hanging_up_stops_the_endpoints_call(doors: Doors, body: dict[str, Any], reply: Any) -> None:
    doors.endpoint.become(reply)
    at = urlsplit(doors.url)
    with closing(http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)) as connection:
        connection.request("POST", "/api/v1/ask", json.dumps(body), JSON)
        end = time.monotonic() + 10
        while not doors.endpoint.requests and time.monotonic() < end:
            time.sleep(0.01)
        assert not doors.endpoint.is_idle(0.1)
    assert doors.endpoint.is_idle(5)  # long before the deadline of 60 s


def test_of_forty_questions_at_once_each_is_answered_or_told_when_to_come_again(doors: Doors) -> None:
    doors.endpoint.become(answer(SAID, delay_s=0.02))
    slowest, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            assert doors.raw("GET", "/healthz")[0] == 200
            slowest[0] = max(slowest[0], time.monotonic() - begun)
            stop.wait(0.05)

    with ThreadPoolExecutor(61) as threads:
        health = threads.submit(watch)
        replies = list(threads.map(lambda _: doors.post("/api/v1/ask", question=QUESTION), range(60)))
        stop.set()
        health.result()
    answered = [each for each in replies if each.status_code == 200]
    busy = [each for each in replies if each.status_code == 429]
    assert len(answered) + len(busy) == 60 and len(answered) >= 40
    assert all(each.json()["text"] == SAID for each in answered)
    for each in busy:
        assert each.json()["error"]["type"] == "Busy"
        assert f"retry in {each.headers['retry-after']} s" in each.json()["error"]["message"]
    doors.endpoint.become(answer(SAID))
    assert doors.post("/api/v1/ask", question=QUESTION).json()["text"] == SAID
