"""A real server process and a real browser that can reach nothing but this machine; what tests of the page share."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
PATIENCE_MS = 60_000


@contextmanager
def serving(folder: Path, *arguments: object, log: list[str] | None = None, **env: str) -> Iterator[str]:
    """Run the server, give its address, stop it by Ctrl-C; it says where it is and ends without complaint.

    What it writes to stderr goes to `log`, line by line.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSISTANT_", "OPENAI_"))}
    root = str(Path(__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "assistant", "serve", "--port", str(port), *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**kept, "PYTHONPATH": root, "XDG_DATA_HOME": str(folder / "data"), **env},
    )
    watch = threading.Timer(120, process.kill)  # the encoder may have to be exported first
    watch.start()
    assert process.stderr
    first = process.stderr.readline()
    watch.cancel()
    said: list[str] = [] if log is None else log
    reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
    reader.start()
    try:
        assert first == f"assistant: the chat page is open at http://127.0.0.1:{port} (Ctrl-C stops it)\n"
        yield f"http://127.0.0.1:{port}"
        left_open = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        left_open.request("GET", "/gradio_api/heartbeat/a-page-left-open")
        assert left_open.getresponse().status in {200, 303}  # 303: a login is asked for
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        left_open.close()
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
    assert not re.search("Traceback|ERROR|Warning", "".join(said)), "".join(said)


# Both live for this module alone: an open sync_playwright keeps an event loop in the main thread.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if not path:
        pytest.skip("no chromium in PATH; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def watched(chromium: Browser, **options: Any) -> Iterator[Page]:
    """Open a page that asks nobody but this machine for anything and writes no complaint to its console."""
    context = chromium.new_context(**({"viewport": {"width": 1366, "height": 900}} | options))
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    seen: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # On a busy machine Gradio's client cancels what has not begun yet, by an event without an id: a 422 of its own.
        is_early = message.location["url"].endswith(("/gradio_api/cancel", "/gradio_api/reset"))
        if message.type in {"error", "warning"} and not (is_early and "422" in message.text):
            seen.append(f"{message.text} {message.location}")

    page.on("console", hear)
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.on("request", lambda request: urlsplit(request.url).hostname == "127.0.0.1" or seen.append(request.url))
    yield page
    context.close()
    assert seen == [], seen


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    with watched(chromium) as page:
        yield page


@pytest.fixture(scope="module")
def sample_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page over the sample library, without an LLM."""
    with serving(tmp_path_factory.mktemp("sample")) as url:
        yield url


def ask(page: Page, question: str) -> Locator:
    """Send a question and return the notes on its answer, not waiting for the end."""
    number = page.locator("#chat .notes").count() + 1
    notes = page.locator(f"#notes-{number}")
    page.get_by_placeholder("Ask a question").fill(question)
    for _ in range(20):  # a page that has only just shown the end of an answer may not listen yet
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        if notes.count():
            break
        page.wait_for_timeout(900)
    notes.last.wait_for()
    return page.locator("#chat .bot-row").filter(has=notes)


def lit(marker: Locator, card: Locator) -> None:
    """Click a marker until its card is lit; cards that come anew just then, as at an answer's end, forget that."""
    from playwright.sync_api import TimeoutError as PatienceEnded

    shown = card.and_(card.page.locator(".lit"))
    for _ in range(5):
        marker.click()
        try:
            shown.wait_for(timeout=PATIENCE_MS / 5)
        except PatienceEnded:
            continue
        return
    raise AssertionError("a marker was clicked, and its card was not lit")


def finished(page: Page, reply: Locator) -> str:
    """Wait for the end of a reply, and for its cards; return its text."""
    reply.locator(".notes.over").wait_for()
    page.get_by_role("button", name="Send").wait_for()
    number = str(reply.locator(".notes.over").get_attribute("id")).rpartition("-")[2]
    page.locator(f"#sources-{number}[data-state=over]").wait_for()
    return reply.inner_text()


def findings(page: Page, inside: str | None = None) -> list[str]:
    """Return what axe-core finds wrong for people with disabilities, serious or critical, on the page as it is."""
    from axe_core_python.sync_playwright import Axe

    found = Axe().run(page, context=inside) if inside else Axe().run(page)
    return [
        f"{each['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]
