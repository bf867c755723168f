"""The records of `assistant.types` -> the models of what the API replies, for its OpenAPI document.

Made from the dataclasses themselves, so that the document cannot say anything else than they do.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from assistant.types import Answer, Hit, Hits, Paper

_LEFT_OUT: dict[type, tuple[str, ...]] = {Paper: ("abstract", "aliases", "sources"), Hit: ("cosine",)}
"""Fields that `as_dict` gives on request alone, or never."""
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "description": "JSON."}},
    "required": ["data"],
}
"""The schema of one server-sent event."""


class Base(BaseModel):
    """What all models share."""

    model_config = ConfigDict(protected_namespaces=())


@functools.cache
def model_of(record: type, name: str = "", *, full: bool = False) -> type[Base]:
    """Return the model of a dataclass' JSON form; `full`: with all its fields."""
    hints = get_type_hints(record)
    kept = [each.name for each in fields(record) if full or each.name not in _LEFT_OUT.get(record, ())]
    columns: dict[str, Any] = {each: (_form(hints[each]), ...) for each in kept}
    return create_model(name or record.__name__, __base__=Base, **columns)


def _form(hint: Any) -> Any:
    """Return the type that JSON has for one of ours."""
    origin, inside = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return model_of(hint)  # type: ignore[arg-type]
    if origin in {Union, types.UnionType}:
        return Union[tuple(_form(each) for each in inside)]  # noqa: UP007 - of a list that is only known here
    if origin is tuple:
        return list[_form(inside[0])]  # type: ignore[misc]
    if origin is not None and issubclass(origin if isinstance(origin, type) else object, Mapping):
        return dict[inside[0], _form(inside[1])]  # type: ignore[misc,valid-type]
    return hint


AnswerModel = model_of(Answer)
PaperModel = model_of(Paper)
FullPaper = model_of(Paper, "FullPaper", full=True)
HitsModel = model_of(Hits)


class Found(Base):
    """One page of the papers."""

    papers: list[PaperModel]  # type: ignore[valid-type]
    total: int = Field(description="Of all that were found, on this page or not.")


class Refused(Base):
    """A record that was not taken, and why."""

    where: str
    reason: str


class SourceModel(Base):
    """What became of the records of one source."""

    source: str
    format: str
    found: int
    new: int
    updated: int
    unchanged: int
    merged: int
    rejected: list[Refused]
    removed: int
    mend: str | None
    warnings: list[str]


class LedgerModel(Base):
    """What one ingest did."""

    sources: list[SourceModel]
    totals: dict[str, int]
    removed: int
    library: dict[str, int]
    encoded: int
    dry_run: bool
    seconds: float


class Fault(Base):
    """What failed."""

    type: str = Field(description="What kind of error, such as ConfigError.")
    message: str = Field(description="What failed, the value found, the next step.")
    param: str | None = Field(None, description="In OpenAI's form: the field that is at fault.")
    code: str | None = Field(None, description="In OpenAI's form: a word for it.")


class ErrorModel(Base):
    """The form of every error."""

    error: Fault


class Ready(Base):
    """How the server is."""

    status: Literal["ok", "ready", "starting", "stopping"]
