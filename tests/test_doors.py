"""All doors of one running server: who comes in by which, and that each gives the same answer to the same question."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx2
import openai
import pytest
from doors import JSON, QUESTION, Doors, open_doors, read_events, same
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from assistant import Assistant, Config
from assistant.access import SCOPES
from assistant.accounts import PREFIX, Accounts

RATE = 20
"""Questions of one token in a minute: more than any test but one asks by the same."""
CHAT = {"model": "paper-assistant", "messages": [{"role": "user", "content": QUESTION}]}
HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
}  # fmt: skip


class Door(NamedTuple):
    """A way in, with something that may be asked by it."""

    method: str
    path: str
    scope: str
    """What a token needs; "any" will do, or it opens nothing: "page"."""
    body: Any = None


DOORS = [
    Door("POST", "/api/v1/ask", "ask", {"question": QUESTION}),
    Door("POST", "/api/v1/search", "search", {"query": QUESTION}),
    Door("GET", "/api/v1/papers", "search"),
    Door("GET", "/api/v1/papers/ID", "search"),
    Door("POST", "/api/v1/ingest", "ingest", {"papers": [{"id": "new", "title": "New", "abstract": "It is new."}]}),
    Door("POST", "/v1/chat/completions", "ask", CHAT),
    Door("GET", "/v1/models", "ask"),
    Door("POST", "/mcp", "any", HELLO),
    Door("GET", "/metrics", "any"),
    Door("GET", "/openapi.json", "any"),
    Door("GET", "/", "page"),
    Door("GET", "/page/saved", "page"),
    Door("POST", "/gradio_api/queue/join", "page", {"data": []}),
]
PROGRAMS = [door for door in DOORS if door.scope != "page"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Secrets by name: one for each scope, one for all, one that is revoked, one that is used up, and one made up."""
    accounts = Accounts(tmp_path_factory.getbasetemp() / "all-doors/data/assistant/accounts.sqlite")
    made = {name: accounts.add_token(name, [name])[1] for name in SCOPES}
    made |= {name: accounts.add_token(name, SCOPES)[1] for name in ("all", "gone", "eager")}
    accounts.revoke("gone")
    return made | {"made-up": f"{PREFIX}{'0' * 12}_{'x' * 43}"}


@pytest.fixture(scope="module")
def doors(tokens: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.getbasetemp() / "all-doors"
    assert tokens
    with open_doors(folder, "--log-format", "json", ASSISTANT_RATE=str(RATE)) as opened:
        yield opened


@cache
def paper_id(library: Path) -> str:
    """Return the id of a paper."""
    with Assistant(Config(library=library)) as assistant:
        return assistant.papers()[7].id


def knock(doors: Doors, door: Door, token: str = "", **headers: str) -> tuple[int, dict[str, str], str]:
    """Try a door; return status, headers and text."""
    assert doors.config.library
    path = door.path.replace("ID", quote(paper_id(doors.config.library), safe=""))
    fields = {"accept": "application/json, text/event-stream", **headers}
    fields |= {"authorization": f"Bearer {token}"} if token else {}
    body = b"" if door.body is None else json.dumps(door.body).encode()
    status, got, text = doors.raw(door.method, path, body, **(fields | (JSON if body else {})))
    return status, got, text.decode()


def name(door: Door) -> str:
    return f"{door.method} {door.path}"


@pytest.mark.parametrize("door", PROGRAMS, ids=name)
def test_a_programs_door_opens_to_a_token_that_is_good_for_it_and_to_nothing_else(
    doors: Doors, tokens: dict[str, str], door: Door
) -> None:
    shut: list[tuple[int, tuple[int, dict[str, str], str]]] = [
        (401, knock(doors, door)),
        (401, knock(doors, door, tokens["made-up"])),
        (401, knock(doors, door, tokens["gone"])),
        (401, knock(doors, door, cookie="assistant_login=" + "0" * 12 + "_" + "x" * 43)),
        (400, knock(doors, door, tokens["all"], host="evil.example")),
        (403, knock(doors, door, tokens["all"], origin="https://evil.example")),
        *((403, knock(doors, door, tokens[scope])) for scope in SCOPES if door.scope not in {"any", scope}),
    ]
    for expected, (status, headers, text) in shut:
        assert status == expected
        assert set(json.loads(text)) == {"error"}
        assert "m7" not in text
        assert "access-control-allow-origin" not in headers
    status, _, _ = knock(doors, door, tokens["all" if door.scope == "any" else door.scope])
    assert status == 200


@pytest.mark.parametrize("door", [door for door in DOORS if door.scope == "page"], ids=name)
def test_the_page_opens_to_no_token(doors: Doors, tokens: dict[str, str], door: Door) -> None:
    for token in ("", tokens["made-up"], tokens["all"]):
        status, headers, text = knock(doors, door, token)
        assert status in {303, 401}
        assert status == 401 or headers["location"].startswith("/login")
        assert "m7" not in text


def test_no_tool_answers_a_token_that_is_not_good_for_it(doors: Doors, tokens: dict[str, str]) -> None:
    async def call(token: str, tool: str, **arguments: Any) -> Any:
        async with (
            httpx2.AsyncClient(headers={"authorization": f"Bearer {tokens[token]}"}, timeout=30) as http,
            Client(streamable_http_client(f"{doors.url}/mcp", http_client=http)) as client,
        ):
            return await client.call_tool(tool, arguments)

    refused = asyncio.run(call("search", "ask_papers", question=QUESTION))
    assert refused.is_error and "not for ask" in refused.content[0].text
    refused = asyncio.run(call("ask", "search_papers", query=QUESTION))
    assert refused.is_error and "not for search" in refused.content[0].text
    assert not asyncio.run(call("ask", "ask_papers", question=QUESTION)).is_error


def test_every_door_gives_the_same_answer(doors: Doors, tokens: dict[str, str]) -> None:
    expected = same(doors.ask_directly())
    assert expected["answerer"] == "llm" and expected["citations"]
    found: dict[str, Any] = {}

    whole = knock(doors, DOORS[0], tokens["all"])[2]
    found["api"] = json.loads(whole)
    events = knock(doors, DOORS[0]._replace(body={"question": QUESTION, "stream": True}), tokens["all"])[2]
    *pieces, (_, found["api, stream"]) = read_events(events)
    assert "".join(each["text"] for _, each in pieces) == expected["text"]

    client = openai.OpenAI(base_url=f"{doors.url}/v1", api_key=tokens["all"], max_retries=0)
    completion = client.chat.completions.create(**CHAT)
    found["openai"] = completion.model_extra["answer"]
    assert completion.choices[0].message.content.startswith(expected["text"])
    *_, last = client.chat.completions.create(**CHAT, stream=True)
    found["openai, stream"] = last.model_extra["answer"]

    async def call() -> None:
        async with (
            httpx2.AsyncClient(headers={"authorization": f"Bearer {tokens['all']}"}, timeout=30) as http,
            Client(streamable_http_client(f"{doors.url}/mcp", http_client=http)) as session,
        ):
            found["mcp"] = (await session.call_tool("ask_papers", {"question": QUESTION})).structured_content

    asyncio.run(call())
    run = [sys.executable, "-m", "assistant", "ask", QUESTION, "--json", "--library", str(doors.config.library)]
    llm = ["--llm", doors.endpoint.url, "--model", "scripted"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "ASSISTANT_LLM_API_KEY": "sk-not-told"}
    done = subprocess.run([*run, *llm], capture_output=True, text=True, env=env, check=True)
    found["command"] = json.loads(done.stdout)
    for way, answered in found.items():
        assert same(answered) == expected, way


def test_one_token_asks_so_often_a_minute_by_all_doors_together(doors: Doors, tokens: dict[str, str]) -> None:
    api, chat = DOORS[0], DOORS[5]
    statuses = [knock(doors, door, tokens["eager"])[0] for door in (api, chat) * (RATE // 2)]
    assert statuses == [200] * RATE
    for door in (api, chat):
        status, headers, text = knock(doors, door, tokens["eager"])
        assert status == 429
        assert 1 <= int(headers["retry-after"]) <= 60
        assert f"'eager' has asked {RATE} within 60 s" in text
    assert knock(doors, api, tokens["all"])[0] == 200  # nobody else is kept waiting
    assert knock(doors, DOORS[1], tokens["eager"])[0] == 200  # a search is no question


def test_no_secret_is_logged(doors: Doors, tokens: dict[str, str]) -> None:
    knock(doors, DOORS[0], tokens["all"])
    said = "".join(doors.log)
    assert '"path": "/api/v1/ask"' in said
    for secret in (*tokens.values(), "sk-not-told", QUESTION):
        assert secret not in said
