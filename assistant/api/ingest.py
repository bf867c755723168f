"""Papers over HTTP into the library: records as JSON, or a file; one addition at a time."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import Response

from assistant import access
from assistant.added import keep, rename, safe_name
from assistant.api.faults import Reply
from assistant.api.forms import IngestForm
from assistant.api.schema import LedgerModel
from assistant.api.shared import Service, errors
from assistant.audit import audit
from assistant.errors import AssistantError, ConfigError, LibraryBusy

FILE_BYTES = 100_000_000
"""Longest file that is taken in at once."""
RECORDS_BYTES = 16_000_000
"""Longest list of records that comes as JSON."""
RECORDS = "records.jsonl"
PATH = "/api/v1/ingest"


def routes(service: Service) -> APIRouter:
    """Return the route of a service."""
    router = APIRouter(tags=["papers"])
    running: set[asyncio.Future[dict[str, Any]]] = set()

    @router.post(
        PATH,
        summary="Add papers to the library",
        description="Takes records as JSON, or one file of any known format. What has not changed costs nothing.",
        responses={
            200: {"model": LedgerModel, "description": "What became of each record."}, **errors(409, 413, 415, 422),
        },
        openapi_extra={"requestBody": _BODY},
    )  # fmt: skip
    async def ingest(request: Request) -> Response:
        who = access.require(request.scope, "ingest")
        _refuse(running)
        name, content = await _read(request)
        _refuse(running)
        audit(who, "ingest", name)
        work = asyncio.ensure_future(asyncio.to_thread(_ingest, service, name, content))
        running.add(work)
        work.add_done_callback(running.discard)
        return Reply(await asyncio.shield(work))  # it goes on to its end, whether or not the caller waits for it

    ingest.form = IngestForm  # type: ignore[attr-defined]
    return router


def _refuse(running: set[asyncio.Future[dict[str, Any]]]) -> None:
    if running:
        raise LibraryBusy("papers are being added already; send these once that has ended")


def _ingest(service: Service, name: str, content: BinaryIO) -> dict[str, Any]:
    def count(_papers: int) -> None:
        if service.line.closed:
            raise AssistantError("the server is being stopped before all papers are in; send them again to go on")

    with content:
        kept = keep(service.assistant.folder, name, content)
    ledger = service.assistant.ingest([kept], progress=count)
    for source in ledger.sources:
        if Path(source.source) == kept:
            rename(source)
    return ledger.as_dict()


async def _read(request: Request) -> tuple[str, BinaryIO]:
    """Return the name and the content of what is to be taken in."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = await request.form(max_files=1, max_fields=0)
        file = form.get("file")
        if not isinstance(file, UploadFile) or len(form) != 1:
            raise ConfigError(
                f"the form has the fields {', '.join(form) or 'none'}; send one file under the name 'file'"
            )
        return safe_name(file.filename or "file"), file.file
    body = await request.body()
    if kind != "application/json":
        raise RequestValidationError([{"type": "bytes", "loc": ("body",), "msg": "", "input": body}])
    try:
        given = json.loads(body)
        papers = IngestForm.model_validate(given).papers
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error
    except (ValueError, RecursionError) as error:
        why = {"error": getattr(error, "msg", type(error).__name__)}
        place = ("body", getattr(error, "pos", 0))
        raise RequestValidationError([{"type": "json_invalid", "loc": place, "msg": "", "ctx": why}]) from error
    return RECORDS, io.BytesIO("".join(json.dumps(paper) + "\n" for paper in papers).encode())


_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": IngestForm.model_json_schema()},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
                "additionalProperties": False,
            }
        },
    },
}
