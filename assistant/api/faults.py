"""Errors -> replies: `{"error": {"type", "message"}}` with the right status, and never a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from assistant.config import nearest
from assistant.errors import (
    AssistantError,
    Busy,
    ConfigError,
    CorpusError,
    LibraryBusy,
    LLMError,
    NotAllowed,
    StoreError,
)
from assistant.line import Stopping

SHOWN_CHARS = 60
"""Of a value that was refused."""
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (Stopping, 503), (Busy, 429), (NotAllowed, 403), (LibraryBusy, 409), (StoreError, 503), (ConfigError, 422),
    (CorpusError, 422), (LLMError, 502), (AssistantError, 500),
)  # fmt: skip
"""The first that fits."""
_HTTP = {
    404: ("NotFound", "there is nothing at {path}; the doors are in /openapi.json"),
    405: ("MethodNotAllowed", "{path} cannot be asked by {method}; see /openapi.json"),
    400: ("BadRequest", "the request cannot be read: {detail}; see /openapi.json for its form"),
    413: ("TooLarge", "{detail}"),
    415: ("UnsupportedMediaType", "{detail}"),
}
_log = logging.getLogger(__name__)


class NotFound(AssistantError):
    """No such paper or model."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.more = {"param": param, "code": code} if code else {}


class Reply(Response):
    """A JSON document; what no encoding takes becomes a question mark."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the document's bytes."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def as_dict(error: BaseException) -> dict[str, Any]:
    """Return the JSON form of an error; one that nobody foresaw tells nothing of itself."""
    if not isinstance(error, AssistantError):
        message = "something unexpected went wrong; the server's log has a line under this request's X-Request-ID"
        return {"error": {"type": "AssistantError", "message": message}}
    more = error.more if isinstance(error, NotFound) else {}
    return {"error": {"type": type(error).__name__, "message": " ".join(str(error).split()), **more}}


def broken_off(error: Exception) -> dict[str, Any]:
    """Return the JSON form of an error that ended an answer in its midst; one that nobody foresaw is logged."""
    if not isinstance(error, AssistantError):
        _log.error("an answer broke off: unexpected %s", type(error).__name__)
    return as_dict(error)


def reply_to(error: BaseException) -> Reply:
    """Return the reply that tells an error."""
    if isinstance(error, NotFound):
        return Reply(as_dict(error), 404)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    waits = {"retry-after": str(error.retry_s)} if isinstance(error, Busy) else {}
    return Reply(as_dict(error), status, waits)


def tell_errors(app: FastAPI) -> None:
    """Let every error of an application be told in this form."""
    app.add_exception_handler(AssistantError, lambda _, error: reply_to(error))
    app.add_exception_handler(RequestValidationError, _tell_invalid)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(Exception, lambda _, error: reply_to(error))


def _tell_http(request: Request, error: Exception) -> Reply:
    assert isinstance(error, HTTPException)
    kind, message = _HTTP.get(error.status_code, ("BadRequest", "{detail}"))
    told = message.format(path=shorten(request.url.path), method=request.method, detail=error.detail)
    return Reply({"error": {"type": kind, "message": told}}, error.status_code, error.headers)


def _tell_invalid(request: Request, error: Exception) -> Reply:
    """Name the first field that is at fault, the value found, and the nearest right name."""
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    place, found = first["loc"], first.get("input")
    if first["type"] == "json_invalid":
        why = f"the body is no JSON: {first['ctx']['error']} at character {place[-1]}; send a JSON object"
        return Reply({"error": {"type": "ConfigError", "message": why}}, 400)
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower().endswith(("/json", "+json"))
    if place == ("body",) and isinstance(found, bytes) and not is_json:
        given = request.headers.get("content-type")
        why = f"the body's type is {shorten(given) if given else 'not told'}; send application/json"
        return Reply({"error": {"type": "UnsupportedMediaType", "message": why}}, 415)
    name = _name(place)
    if first["type"] == "extra_forbidden":
        known = first.get("ctx", {}).get("known") or _known(request, place)
        hint = nearest(str(place[-1]), known) or (f"; the fields are {', '.join(known)}" if known else "")
        why = f"unknown field {shorten(name)}{hint}"
    elif first["type"] == "missing":
        why = "the request has no body; send a JSON object" if place == ("body",) else f"the field {name} is missing"
    else:
        why = f"the field {shorten(name)} is {shorten(found)}: {first['msg']}"
    return Reply({"error": {"type": "ConfigError", "message": why}}, 422)


def _name(place: tuple[Any, ...]) -> str:
    """Return a field as one writes it: `history[3].content`."""
    name = ""
    for part in place[1:] if len(place) > 1 else place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


def _known(request: Request, place: tuple[Any, ...]) -> list[str]:
    """Return the fields that the form has there, as far as its top level goes."""
    form = getattr(request.scope.get("endpoint"), "form", None)
    if form is None:
        return []
    inside = {"history": getattr(form, "turn", None)}.get(str(place[1]) if len(place) > 2 else "", form)
    return list(inside.model_fields) if inside else []


def shorten(value: object) -> str:
    """Return a value as it may be shown in an error."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(each if each.isprintable() else "?" for each in text[: SHOWN_CHARS + 1])
    return repr(text[:SHOWN_CHARS] + "…") if len(text) > SHOWN_CHARS else repr(text) if isinstance(value, str) else text
