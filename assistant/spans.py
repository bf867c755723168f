"""What became of questions -> OpenTelemetry spans, where a collector is named and the extra `otel` is installed.

A span for each question, with one for each of its stages inside; no question, answer or name is in them. The SDK's own
environment variables say where they go.
"""

from __future__ import annotations

import logging
import os
import time

from assistant.types import Answer

COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Spans are made when this names a collector."""
_log = logging.getLogger(__name__)


class Spans:
    """Makes spans of questions that are over.

    Args:
        provider: An OpenTelemetry `TracerProvider`; None: one that sends to the collector.

    Raises:
        ImportError: The extra is not installed.
    """

    def __init__(self, provider: object = None) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if not isinstance(provider, TracerProvider):
            provider = TracerProvider(resource=Resource.create({"service.name": "paper-assistant"}))
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer, self._within = provider.get_tracer("assistant"), trace.set_span_in_context

    def tell(self, door: str, outcome: str, answer: Answer | None) -> None:
        """Make the spans of a question that is over; see `assistant.line.Tell`."""
        end = time.time_ns()
        about: dict[str, str | int] = {"door": door, "outcome": outcome}
        stages: list[tuple[str, float]] = []
        if answer is not None:
            about |= {"reason": answer.reason or "", "fault": answer.fallback.error if answer.fallback else ""}
            about |= {"tokens": answer.usage.prompt_tokens + answer.usage.completion_tokens}
            stages = [("retrieve", answer.seconds.retrieve), ("generate", answer.seconds.generate)]
        at = end - round(sum(seconds for _, seconds in stages) * 1e9)
        span = self._tracer.start_span("question", start_time=at, attributes=about)
        for name, seconds in stages:
            inside = self._tracer.start_span(name, self._within(span), start_time=at)
            at += round(seconds * 1e9)
            inside.end(at)
        span.end(end)


def open_spans() -> Spans | None:
    """Return what makes spans; None where no collector is named, or the extra is not installed, which is told."""
    try:
        return Spans() if os.environ.get(COLLECTOR) else None
    except ImportError as error:
        _log.warning("no spans are sent to %s: %s; pip install 'paper-assistant[otel]'", COLLECTOR, error)
        return None
