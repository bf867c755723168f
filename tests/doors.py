"""A running server with all its doors over a small library and a scripted endpoint, and what its tests share."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from browser import serving
from conftest import make_records, write_jsonl
from endpoint import Endpoint, answer

from assistant import Answer, Assistant, Config

QUESTION = "Which percentage does method m7 reach on set s7?"
SAID = "Method m7 reaches 57.7 percent on set s7 [1]."
JSON = {"content-type": "application/json"}


@dataclass
class Doors:
    """The server, its endpoint and its library."""

    url: str
    endpoint: Endpoint
    config: Config
    client: httpx2.Client
    log: list[str]

    def ask_directly(self, question: str = QUESTION, **how: Any) -> Answer:
        """Answer by the Python door, over the same library and endpoint."""
        with Assistant(self.config) as assistant:
            return assistant.ask(question, **how)

    def post(self, path: str, **body: Any) -> httpx2.Response:
        """Send a JSON object."""
        return self.client.post(path, json=body)

    def raw(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send bytes as they are."""
        at = urlsplit(self.url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        finally:
            connection.close()


@contextmanager
def open_doors(folder: Path, *arguments: object, **env: str) -> Iterator[Doors]:
    """Run a server until the block ends; it is ready when that begins."""
    library = folder / "library"
    if not library.exists():
        with Assistant(Config(library=library)) as assistant:
            assistant.ingest([write_jsonl(folder / "papers.jsonl", make_records(30))])
    log: list[str] = []
    with Endpoint(answer(SAID)) as endpoint:
        settings = ("--library", library, "--llm", endpoint.url, "--model", "scripted", *arguments)
        config = Config(library=library, llm_base_url=endpoint.url, llm_model="scripted", llm_api_key="sk-not-told")
        with (
            serving(folder, *settings, log=log, ASSISTANT_LLM_API_KEY="sk-not-told", **env) as url,
            httpx2.Client(base_url=url, timeout=60) as client,
        ):
            end = time.monotonic() + 60
            while client.get("/readyz").status_code != 200 and time.monotonic() < end:
                time.sleep(0.05)
            yield Doors(url, endpoint, config, client, log)


def same(answered: Any) -> dict[str, Any]:
    """Return what of an Answer in JSON is the same by every door: all but the time it took."""
    found = dict(answered if isinstance(answered, dict) else answered.as_dict())
    found.pop("seconds")
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def read_events(text: str) -> list[tuple[str, Any]]:
    """Return (name, data) of server-sent events, in order."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            data = fields["data"]
            found.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found
