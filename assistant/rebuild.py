"""A JSON value -> the record it was made from, by the annotations of its type.

Back come records, tuples, mappings, unions with None, literals and plain values; refused as `UnfitError`: a field that
is missing, and a value of another type than its annotation says. A field with a default may be missing, and one that
the type does not know is passed over: so records of older and newer versions of a type are read too.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import json
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")

SHOWN_CHARS = 60
"""Of a value that is told of, what is shown."""


class UnfitError(Exception):
    """A value is not what stands at its place in a record; the message names both."""


def rebuild(kind: type[Kind], value: Any) -> Kind:
    """Return the record whose `dataclasses.asdict`, as JSON, this is.

    Args:
        kind: A dataclass whose fields are annotated by types that JSON can hold.
        value: What `json.loads` gave.

    Raises:
        UnfitError: It is no such record.
    """
    return _build(kind, value, "")  # type: ignore[no-any-return]


def shorten(value: Any, start: int = 0) -> str:
    """Return a JSON value as one short piece of a message; of a text, what begins at `start`."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = value[start:] if isinstance(value, str) else json.dumps(value)
    text = f"{'…' * bool(start)}{text[:SHOWN_CHARS]}{'…' * (len(text) > SHOWN_CHARS)}"
    return repr(text) if isinstance(value, str) else text


def _build(kind: Any, value: Any, place: str) -> Any:
    """Return a JSON value as a value of an annotated type."""
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _build_record(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if NoneType in arguments:
        (wanted,) = (each for each in arguments if each is not NoneType)
        return None if value is None else _build(wanted, value, place)
    if origin is tuple and isinstance(value, list):
        return tuple(_build(arguments[0], each, f"{place}[{i}]") for i, each in enumerate(value))
    if origin is collections.abc.Mapping and isinstance(value, dict):
        return {name: _build(arguments[1], each, f"{place}.{name}") for name, each in value.items()}
    if kind is not Any and not _fits(kind, value):
        raise UnfitError(f"{place or 'the whole'} is {shorten(value)}")
    return value


def _fits(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    return type(value) is kind or (kind is float and type(value) is int)  # as in Python, a whole number will do


def _build_record(kind: Any, value: Mapping[str, Any], place: str) -> Any:
    hints, fields = _hints(kind), {}
    for each in dataclasses.fields(kind):
        path = f"{place}.{each.name}".removeprefix(".")
        if each.name in value:
            fields[each.name] = _build(hints[each.name], value[each.name], path)
        elif each.default is each.default_factory is dataclasses.MISSING:
            raise UnfitError(f"{path} is missing")
    return kind(**fields)


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    """Return the types of a record's fields; working them out takes longer than building the record."""
    return get_type_hints(kind)
