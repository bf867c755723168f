from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator

import pytest
from doors import QUESTION, SAID, Doors, open_doors
from endpoint import answer, reset
from prometheus_client.parser import text_string_to_metric_families

from assistant import Assistant
from assistant.metrics import Metrics
from assistant.ui import Desk

Counts = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with open_doors(tmp_path_factory.mktemp("counted")) as opened:
        yield opened


def counts(text: str) -> Counts:
    """Every number of a page of metrics by its name and labels."""
    families = text_string_to_metric_families(text)
    return {(each.name, tuple(each.labels.values())): each.value for family in families for each in family.samples}


def grown(before: Counts, after: Counts) -> Counts:
    """What has grown in between, but for sums of seconds and what belongs to the asking itself."""
    apart = ("_bucket", "_sum", "_created")
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if value > before.get(name, 0) and not name[0].endswith(apart) and "requests" not in name[0]
    }


def test_each_question_is_counted_by_its_door_and_its_end(doors: Doors) -> None:
    before = counts(doors.client.get("/metrics").text)
    doors.post("/api/v1/ask", question=QUESTION)
    doors.post("/api/v1/ask", question=QUESTION, where=["year>=2400"])
    doors.endpoint.become(reset())
    doors.post("/v1/chat/completions", model="paper-assistant", messages=[{"role": "user", "content": QUESTION}])
    doors.endpoint.become(answer(SAID))
    reply = doors.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert grown(before, counts(reply.text)) == {
        ("assistant_questions_total", ("api", "answered")): 1,
        ("assistant_questions_total", ("api", "abstained")): 1,
        ("assistant_questions_total", ("openai", "answered")): 1,
        ("assistant_question_seconds_count", ("retrieve",)): 3,
        ("assistant_question_seconds_count", ("generate",)): 3,
        ("assistant_question_seconds_count", ("total",)): 3,
        ("assistant_abstentions_total", ("filter_excluded_all",)): 1,
        ("assistant_faults_total", ("llm_unavailable",)): 1,
        ("assistant_tokens_total", ("prompt",)): counts(reply.text)["assistant_tokens_total", ("prompt",)],
        ("assistant_tokens_total", ("completion",)): 7,
    }


def test_requests_are_counted_by_method_and_status(doors: Doors) -> None:
    before = counts(doors.client.get("/metrics").text)
    doors.raw("GET", "/healthz")
    doors.raw("TRACE", "/healthz")
    doors.post("/api/v1/ask")
    after = counts(doors.client.get("/metrics").text)
    for labels in (("other", "405"), ("POST", "422")):
        name = ("assistant_requests_total", labels)
        assert after[name] - before.get(name, 0) == 1
    assert after["assistant_requests_in_flight", ()] == 1  # that which asks for it
    assert (after["assistant_line_answering", ()], after["assistant_line_waiting", ()]) == (0, 0)


def test_no_question_stands_in_what_is_counted(doors: Doors) -> None:
    doors.post("/api/v1/ask", question="Where is the hidden zebra?", model="zebra")
    doors.raw("GET", "/zebra?zebra=1")
    assert "zebra" not in doors.client.get("/metrics").text


def test_questions_of_the_page_are_counted_too(doors: Doors) -> None:
    async def asked(desk: Desk) -> None:
        async for _ in desk.ask("", "", QUESTION).follow():
            pass

    metrics = Metrics()
    with Assistant(doors.config) as assistant:
        desk = Desk(assistant)
        desk.answered = functools.partial(metrics.tell, "page")
        asyncio.run(asked(desk))
        desk.close()
    assert counts(metrics.render().decode())["assistant_questions_total", ("page", "answered")] == 1
