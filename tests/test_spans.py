from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import assistant
from assistant.spans import COLLECTOR, Spans, open_spans


def test_a_question_is_a_span_with_its_stages_inside() -> None:
    seen, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    answer = assistant.ask("How can vision transformers be trained on small datasets?")
    Spans(provider).tell("api", "answered", answer)
    retrieve, generate, question = seen.get_finished_spans()
    assert [each.name for each in (retrieve, generate, question)] == ["retrieve", "generate", "question"]
    assert dict(question.attributes or {}) == {
        "door": "api",
        "outcome": "answered",
        "reason": "",
        "fault": "",
        "tokens": 0,
    }
    for inside in (retrieve, generate):
        assert inside.parent and inside.parent.span_id == question.context.span_id
    assert question.start_time == retrieve.start_time and retrieve.end_time == generate.start_time
    assert "transformers" not in "".join(each.to_json() for each in seen.get_finished_spans())


def test_no_spans_are_made_unless_a_collector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COLLECTOR, raising=False)
    assert open_spans() is None
