"""The doors for programs: questions, searches and papers over HTTP, and the form of OpenAI's protocol.

In: an `Assistant`. Out: one application, whose OpenAPI document is at /openapi.json. It asks nobody for credentials: a
guard in front of it does, and notes in the scope who came through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from assistant.api import chat, ingest, routes
from assistant.api.caller import Caller
from assistant.api.faults import Reply, tell_errors
from assistant.api.schema import Ready
from assistant.api.shared import BODY_BYTES, Service, errors
from assistant.metrics import CONTENT_TYPE
from assistant.replay import version

__all__ = ["PREFIXES", "Service", "build_api"]

PREFIXES = ("api", "v1", "healthz", "readyz", "metrics", "openapi.json")
"""First parts of the paths that belong to the API."""
State = Literal["ready", "starting", "stopping"]


def build_api(service: Service, state: Callable[[], State] = lambda: "ready") -> ASGIApp:
    """Return the API as an application.

    Args:
        service: Who answers.
        state: How the server is.
    """
    app = FastAPI(
        title="Paper Assistant",
        version=version(),
        description="Questions of research-paper abstracts, answered with citations, each checked word for word.",
        docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    tell_errors(app)
    for part in (routes, ingest, chat):
        app.include_router(part.routes(service))

    @app.get("/healthz", summary="Whether the server is alive", tags=["server"], responses=_small(Ready))
    async def healthz() -> Response:
        return Reply({"status": "ok"})

    @app.get("/readyz", summary="Whether questions are answered at once", tags=["server"], responses=_ready())
    async def readyz() -> Response:
        now = state()
        return Reply({"status": now}, 200 if now == "ready" else 503)

    @app.get("/metrics", summary="Counts and times, for Prometheus", tags=["server"], responses=_metrics())
    async def metrics() -> Response:
        service.metrics.answering.set(service.line.answering)
        service.metrics.waiting.set(service.line.waiting)
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    make = app.openapi

    def document() -> dict[str, Any]:
        """Add how callers say who they are: by a bearer token, where tokens are set up."""
        made = make()
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{}, {"token": []}]
        return made

    app.openapi = document  # type: ignore[method-assign]
    return Caller(app, _limit)


def _limit(scope: Scope) -> int:
    if scope["path"] != ingest.PATH:
        return BODY_BYTES
    is_file = any(n == b"content-type" and v.startswith(b"multipart/") for n, v in scope["headers"])
    return ingest.FILE_BYTES if is_file else ingest.RECORDS_BYTES


def _guarded() -> dict[int | str, dict[str, Any]]:
    return {status: each for status, each in errors().items() if status in {400, 401, 403, 500, 503}}


def _small(model: type) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, **_guarded()}


def _ready() -> dict[int | str, dict[str, Any]]:
    return {**_small(Ready), 503: {"model": Ready, "description": "Not yet, or not any more."}}


def _metrics() -> dict[int | str, dict[str, Any]]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {200: {"content": text, "description": "In Prometheus' text form."}, **_guarded()}
