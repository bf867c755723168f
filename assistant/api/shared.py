"""What all routes of the API share: who answers, in which line, and the errors that each may reply with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from assistant.answer import Assistant
from assistant.api.schema import ErrorModel
from assistant.line import Line, quick_line
from assistant.metrics import Metrics

BODY_BYTES = 4_000_000
"""Longest body of a question, with its conversation."""
_WHY = {
    400: "The body is no JSON, or the request names another host.",
    401: "The credentials are missing or wrong.",
    403: "The credentials are not good for this, or the request comes from another site's page.",
    404: "There is no such paper or model.",
    409: "Papers are being added already.",
    413: "The body is too long.",
    415: "The body is of another type than those named here.",
    422: "A field is unknown, missing, of the wrong type or out of range.",
    429: "Too many questions wait already; `Retry-After` says when to ask again.",
    500: "Something unexpected went wrong.",
    503: "The library cannot be read, or the server is starting or being stopped.",
}


@dataclass(frozen=True, slots=True)
class Service:
    """One for each server."""

    assistant: Assistant
    metrics: Metrics
    line: Line
    """Of questions."""
    quick: Line = field(default_factory=quick_line)
    """Of searches and papers."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says on errors; those of the guard and of accidents come with each."""
    always = (400, 401, 403, 429, 500, 503)
    told: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorModel, "description": _WHY[status]} for status in sorted({*always, *statuses})
    }
    told[429]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return told
