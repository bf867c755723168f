"""Who asks, and what they may: the `Who` of a request, set by the guard in front of every door.

In: what the guard found out about a request. Out: whether it may do what it asks for. Where no credentials are set up
and nobody but this machine can reach the server, everybody may do everything.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from assistant.errors import NotAllowed

SCOPES = ("ask", "search", "ingest")
"""What a token may be good for; a user who has logged in may do all of it."""
_KEY = "assistant.who"


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who has come through the guard."""

    name: str | None
    """Of the user or the token; None where no credentials are set up."""
    owner: str = field(repr=False)
    """Whose conversations and feedback are seen: an opaque secret; empty: nobody's."""
    scopes: frozenset[str] = frozenset(SCOPES)
    address: str = ""
    """Where the request comes from."""


def set_who(scope: MutableMapping[str, Any], who: Who) -> None:
    """Note in an ASGI scope who asks."""
    scope[_KEY] = who


def who_of(scope: MutableMapping[str, Any]) -> Who:
    """Return who asks; where no guard stands in front: anybody."""
    found = scope.get(_KEY)
    return found if isinstance(found, Who) else Who(None, "")


def require(scope: MutableMapping[str, Any], wanted: str) -> Who:
    """Return who asks, if they may.

    Raises:
        NotAllowed: Their token is not good for this.
    """
    who = who_of(scope)
    if wanted not in who.scopes:
        raise NotAllowed(
            f"the token {who.name!r} is good for {', '.join(sorted(who.scopes)) or 'nothing'}, not for {wanted}"
        )
    return who
