"""What a request says of itself: its header fields, a cookie, the address it comes from; all of it may be a lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fields_of(scope: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of a header field, in order; its name is given in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]


def field_of(scope: Mapping[str, Any], name: str) -> str:
    """Return the last value of a header field; empty without one."""
    return (fields_of(scope, name) or [""])[-1]


def cookie_of(scope: Mapping[str, Any], name: str) -> str:
    """Return the value of a cookie; empty without one. What is wrong with another program's cookie does not matter."""
    pairs = (each.strip().partition("=") for value in fields_of(scope, "cookie") for each in value.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def address_of(scope: Mapping[str, Any]) -> str:
    """Return the address that a request comes from; behind a trusted proxy, that which the proxy names."""
    client = scope.get("client")
    return str(client[0])[:64] if client else "unknown"
