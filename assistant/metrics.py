"""What became of questions and requests -> counts and times in Prometheus' form.

No question, answer or name is in them. With several workers the counts of all of them are added up through the files of
the folder that `PROMETHEUS_MULTIPROC_DIR` names, which has to be set before this module is imported.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from assistant.types import Answer

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
WORKERS = "PROMETHEUS_MULTIPROC_DIR"
"""The folder through which workers share what they count."""
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """One for each server."""

    def __init__(self) -> None:
        self._registry = mine = CollectorRegistry()
        self._questions = Counter(
            "assistant_questions", "Questions by door and by what became of them.", ("door", "outcome"), registry=mine
        )
        self._seconds = Histogram(
            "assistant_question_seconds", "Wall-clock time of the stages of an answer.", ("stage",),
            buckets=_BUCKETS, registry=mine,
        )  # fmt: skip
        self._abstentions = Counter("assistant_abstentions", "Abstentions by reason.", ("reason",), registry=mine)
        self._faults = Counter("assistant_faults", "Faults of the endpoint by kind.", ("kind",), registry=mine)
        self._tokens = Counter("assistant_tokens", "Tokens that the endpoint read or wrote.", ("kind",), registry=mine)
        self._requests = Counter(
            "assistant_requests", "Requests by method and status.", ("method", "status"), registry=mine
        )
        self.in_flight = Gauge(
            "assistant_requests_in_flight", "Requests under way.", registry=mine, multiprocess_mode="livesum"
        )
        self.answering = Gauge(
            "assistant_line_answering", "Questions being answered.", registry=mine, multiprocess_mode="livesum"
        )
        self.waiting = Gauge(
            "assistant_line_waiting", "Questions that wait for their turn.", registry=mine, multiprocess_mode="livesum"
        )

    def tell(self, door: str, outcome: str, answer: Answer | None) -> None:
        """Count a question that is over; see `assistant.line.Tell`."""
        self._questions.labels(door, outcome).inc()
        if answer is None:
            return
        for stage in ("retrieve", "generate", "total"):
            self._seconds.labels(stage).observe(getattr(answer.seconds, stage))
        self._tokens.labels("prompt").inc(answer.usage.prompt_tokens)
        self._tokens.labels("completion").inc(answer.usage.completion_tokens)
        if answer.reason:
            self._abstentions.labels(answer.reason).inc()
        if answer.fallback:
            self._faults.labels(answer.fallback.error).inc()

    def count(self, method: str, status: int) -> None:
        """Count a request that is over."""
        known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
        self._requests.labels(method if method in known else "other", str(status)).inc()

    def render(self) -> bytes:
        """Return all of it as text."""
        if os.environ.get(WORKERS):
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]
            return generate_latest(together)
        return generate_latest(self._registry)
