"""What the services have in common: a `Live` query asks, checks what comes, and gives it to the reader of its form."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, BinaryIO, cast

from assistant.errors import CorpusError
from assistant.papers import Raw, Rejected
from assistant.sources.content import Content
from assistant.sources.live.fetch import Fetcher, Reply, Request
from assistant.sources.live.kept import DAY_S, HOUR_S
from assistant.sources.live.names import Query

Items = Iterator[Raw | Rejected]
Reader = Callable[[str, Content], Items]
"""(name of a format, content) -> its records and refusals."""

PARTS = 500
"""A query that is split into more parts does not end; a hundred thousand records have come in some twenty."""


@dataclass(frozen=True, slots=True)
class Live:
    """One query, and what it is read with."""

    query: Query
    fetcher: Fetcher
    read: Reader

    def ask(self, service: str, path: str, check: Callable[[bytes], str], **params: str | int) -> Reply:
        """Send a request with these parameters, the empty ones left out; see `Fetcher.get`."""
        fields = tuple((name, str(value)) for name, value in params.items() if value != "")
        lasting_s = DAY_S if self.query.kind == "ids" else HOUR_S
        return self.fetcher.get(Request(service, path, fields, self.query.name, lasting_s), check)

    def items(self, form: str, body: bytes, place: str) -> Items:
        """Read a body that holds records; `place` is put before the places within it."""
        content = Content(self.query.name, cast("BinaryIO", io.BytesIO(body)))
        for item in self.read(form, content):
            yield dataclasses.replace(item, where=f"{place}, {item.where}")

    def fault(self, reply: Reply) -> str:
        """Return what is wrong with a reply that the service should have; empty for a sound one."""
        return reply.fault or ("it has no such page (404)" if reply.status == 404 else "")

    def sound(self, reply: Reply, service: str) -> bytes:
        """Return the body of a reply that the rest depends on.

        Raises:
            CorpusError: It is not sound, or not there.
        """
        if found := self.fault(reply):
            host = self.fetcher.host(service)
            raise CorpusError(f"cannot read {self.query.name} from {host}: {found}; run it again later")
        return reply.body


def read_one(live: Live, reply: Reply, form: str, place: str, missing: str) -> Items:
    """Read a reply about one record; refuse it where the service has none."""
    if reply.status == 404:
        yield Rejected(place, missing)
        return
    yield from live.items(form, live.sound(reply, {"hf-papers": "hf"}.get(form, form)), place)


def has(*names: str) -> Callable[[bytes], str]:
    """Return a check for a JSON object with these fields."""

    def check(body: bytes) -> str:
        found = as_object(parse_json(body))
        return "" if all(found.get(name) is not None for name in names) else f"its reply has no {' or '.join(names)}"

    return check


def is_list(body: bytes) -> str:
    """Check for a JSON list."""
    return "" if isinstance(parse_json(body), list) else "its reply is no list"


def parse_json(body: bytes) -> Any:
    """Return what a JSON text says; None for what is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def as_object(value: Any) -> dict[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def next_place(found: Any, before: str) -> str:
    """Return where the next page is; nothing if the service gives none, or the same one again."""
    return found if isinstance(found, str) and found != before else ""


def batches(ids: Iterable[str], n: int) -> Iterator[list[str]]:
    """Iterate the ids, so many at a time."""
    batch: list[str] = []
    for each in ids:
        batch.append(each)
        if len(batch) == n:
            yield batch
            batch = []
    if batch:
        yield batch


def today() -> date:
    """Return the date in Greenwich."""
    return datetime.now(UTC).date()
