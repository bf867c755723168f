"""The server as a process: how it stops, and how several workers serve on one port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from browser import ask
from endpoint import Endpoint, Reply, answer, chunk, event, raw

from assistant.accounts import Accounts
from assistant.conversations import Conversations
from assistant.ui.guard import COOKIE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUESTION = "How can vision transformers be trained on small datasets?"
BODY = {"question": QUESTION}


@contextmanager
def process(folder: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """Run a server over the sample library; whoever opened it stops it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "XDG_DATA_HOME": str(folder / "data")}
    run = [sys.executable, "-m", "assistant", "serve", "--port", str(port), *map(str, arguments)]
    server = subprocess.Popen(run, stderr=subprocess.PIPE, text=True, cwd=folder, env=env)
    watch = threading.Timer(120, server.kill)
    watch.start()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert server.stderr and f"http://127.0.0.1:{port}" in server.stderr.readline()
            until(lambda: client.get("/readyz").status_code == 200)
            yield server, client
    finally:
        watch.cancel()
        server.kill()
        server.wait()
        assert server.stderr
        said = server.stderr.read()
        server.stderr.close()
    assert "Traceback" not in said, said


def until(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def held_back(go: threading.Event) -> Reply:
    """An answer whose second half comes once it may."""

    def pieces() -> Iterator[bytes]:
        yield event(chunk("Vision transformers learn from small datasets [1]."))
        go.wait(30)
        yield event(chunk(" That is all [1]."))
        yield event(chunk(finish="stop")) + event(b"[DONE]")

    return raw(pieces())


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_an_answer_under_way_ends_before_the_server_does(tmp_path: Path, by: signal.Signals) -> None:
    go = threading.Event()
    with (
        Endpoint(lambda _body: held_back(go)) as endpoint,
        process(tmp_path, "--llm", endpoint.url, "--model", "scripted") as (server, client),
        ThreadPoolExecutor() as threads,
    ):
        asked = threads.submit(client.post, "/api/v1/ask", json=BODY)
        until(lambda: bool(endpoint.requests))
        server.send_signal(by)
        until(lambda: client.get("/readyz").json() == {"status": "stopping"})
        late = client.post("/api/v1/ask", json=BODY)
        assert (late.status_code, late.json()["error"]["type"]) == (503, "Stopping")
        assert int(late.headers["retry-after"]) > 0
        go.set()
        assert asked.result().json()["text"] == "Vision transformers learn from small datasets [1]. That is all [1]."
        assert server.wait(20) == 0


def test_a_question_of_the_page_is_answered_to_its_end_before_the_server_stops(
    tmp_path: Path, chromium: Browser
) -> None:
    go = threading.Event()
    with (
        Endpoint(lambda _body: held_back(go)) as endpoint,
        process(tmp_path, "--llm", endpoint.url, "--model", "scripted") as (server, client),
        chromium.new_page(base_url=str(client.base_url)) as page,
    ):
        page.goto("/")
        ask(page, QUESTION)
        until(lambda: bool(endpoint.requests))
        (owner,) = (each["value"] for each in page.context.cookies() if each["name"] == COOKIE)
        server.send_signal(signal.SIGTERM)
        until(lambda: client.get("/readyz").json() == {"status": "stopping"})
        go.set()
        assert server.wait(20) == 0
    saved = Conversations(tmp_path / "data/assistant/conversations.sqlite")
    (summary,) = saved.summaries(owner)
    conversation = saved.open(owner, summary.id)
    assert conversation
    (exchange,) = conversation.exchanges
    assert (exchange.state, exchange.text) == (
        "done", "Vision transformers learn from small datasets [1]. That is all [1].",
    )  # fmt: skip


def test_a_second_ctrl_c_waits_for_nothing(tmp_path: Path) -> None:
    go = threading.Event()
    with (
        Endpoint(lambda _body: held_back(go)) as endpoint,
        process(tmp_path, "--llm", endpoint.url, "--model", "scripted") as (server, client),
        ThreadPoolExecutor() as threads,
    ):
        asked = threads.submit(client.post, "/api/v1/ask", json=BODY)
        until(lambda: bool(endpoint.requests))
        server.send_signal(signal.SIGINT)
        until(lambda: client.get("/readyz").json() == {"status": "stopping"})
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
        go.set()
        cut_off = asked.result()
        assert (cut_off.status_code, cut_off.json()["error"]["type"]) == (503, "Stopping")


def test_workers_serve_on_one_port_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    with Endpoint(answer("Small datasets suffice [1].")) as endpoint:
        arguments = ("--workers", 2, "--log-format", "json", "--llm", endpoint.url, "--model", "scripted")
        with process(tmp_path, *arguments) as (server, client), ThreadPoolExecutor() as threads:
            replies = list(threads.map(lambda _: client.post("/api/v1/ask", json=BODY), range(6)))
            assert {reply.json()["text"] for reply in replies} == {"Small datasets suffice [1]."}
            counted = 'assistant_questions_total{door="api",outcome="answered"} 6.0'
            assert counted in client.get("/metrics").text  # whichever worker tells it
            assert client.get("/").status_code == 404  # no page
            first = workers(server.pid)
            assert len(first) == 2
            os.kill(first[0], signal.SIGKILL)
            until(lambda: len(workers(server.pid)) == 2 and first[0] not in workers(server.pid))
            with httpx2.Client(base_url=client.base_url, timeout=60) as anew:
                assert anew.post("/api/v1/ask", json=BODY).json()["text"] == "Small datasets suffice [1]."
            every = workers(server.pid)
            server.send_signal(signal.SIGTERM)
            assert server.wait(40) == 0
            assert not [each for each in every if Path(f"/proc/{each}").exists()]


def test_no_worker_outlives_the_server_that_is_killed(tmp_path: Path) -> None:
    with process(tmp_path, "--workers", 2) as (server, _):
        every = workers(server.pid)
        assert len(every) == 2
        server.kill()
        until(lambda: not [each for each in every if Path(f"/proc/{each}").exists()])


def test_without_a_page_nobody_is_sent_to_a_login(tmp_path: Path) -> None:
    _, token = Accounts(tmp_path / "data/assistant/accounts.sqlite").add_token("bot", ["search"])
    with process(tmp_path, "--workers", 2) as (_, client):
        shown = {"authorization": f"Bearer {token}"}
        assert [client.get("/", headers=each).status_code for each in ({}, shown)] == [401, 404]
        assert client.get("/api/v1/papers", headers=shown).status_code == 200


def workers(pid: int) -> list[int]:
    """The worker processes of a server."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    lines = {int(each): Path(f"/proc/{each}/cmdline").read_bytes() for each in children}
    return [each for each, line in lines.items() if b"spawn_main" in line]
