"""The page in a real browser, on this machine -> how long people wait for it, each wait in milliseconds beside its bar.

A server over the sample library, a scripted endpoint and Chromium all run here and read the same clock. A wait ends
when the frame that shows it has been painted, which the page stamps by itself. Refused: a machine without Chromium or
playwright.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

from assistant.errors import AssistantError, ConfigError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "assistant" / "data" / "sample.jsonl"
BARS_MS = {
    "first paint": 2000,
    "question box usable": 2000,
    "“writing” shown": 150,
    "first sentence shown": 150,
    "search result per key": 100,
}
"""What is promised of each wait; 95 of 100 have to keep it."""
STARTS, ASKED, KEYS = 5, 20, 30
TYPED = "vision transformers for segmen"
"""Typed into the search, key by key."""
FIRST_TOKEN_S, TOKEN_S, PAUSE_S = 0.3, 0.02, 1.0
"""The endpoint's waits: before its first token, before each later one, and behind its first sentence."""
PATIENCE_S = 30
FLAGS = [
    "--no-sandbox",  # there is none for root, as in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing outside can be reached
]
STAMPS = r"""(() => {
  const stamps = (window.stamps = { keys: [] });
  const painted = (tell) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => tell(Date.now());
    port2.postMessage(0);
  });
  const once = (name) => {
    if (name in stamps) return;
    stamps[name] = 0;
    painted((now) => (stamps[name] = now));
  };
  const look = () => {
    const box = document.querySelector("#question textarea");
    if (box && !box.disabled && box.checkVisibility()) once("box");
    for (const each of document.querySelectorAll("#chat .notes .stage"))
      if (each.textContent.startsWith("Writing")) once(`writing ${each.closest(".notes").id}`);
    const said = document.getElementById("chat")?.textContent ?? "";
    for (const [, number] of said.matchAll(/Finding (\d+) holds/g)) once(`sentence ${number}`);
  };
  const all = { childList: true, subtree: true, characterData: true, attributes: true };
  new MutationObserver(look).observe(document, all);
  let pressed = 0;
  document.addEventListener("keydown", ({ timeStamp }) => (pressed = performance.timeOrigin + timeStamp), true);
  document.addEventListener("placed", ({ target }) => {
    if (target.id !== "library-papers" || !pressed) return;
    const since = pressed;
    pressed = 0;
    painted((now) => stamps.keys.push(now - since));
  });
})()"""
"""Runs in the page from its start: writes down when what is waited for has been painted, in milliseconds."""

Tell = Callable[[str], None]


def measure(repeats: int | None, tell: Tell) -> dict[str, Any]:
    """Measure each wait and return the result.

    Args:
        repeats: How often each wait is measured; None: a start of the server 5 times, a question 20, a key 30.
        tell: Given a line about each part as it begins.

    Raises:
        ConfigError: Chromium or playwright is missing.
        AssistantError: The server does not start, or the page does not come to what is waited for.
    """
    waits: dict[str, list[float]] = {name: [] for name in BARS_MS}
    machine = _machine()
    with _chromium() as browser, Endpoint() as endpoint, tempfile.TemporaryDirectory() as folder:
        starts, version = repeats or STARTS, browser.version
        for start in range(1, starts + 1):
            tell(f"start {start} of {starts}")
            page = browser.new_context(viewport={"width": 1366, "height": 900}).new_page()
            page.set_default_timeout(PATIENCE_S * 1000)
            page.add_init_script(STAMPS)
            with _serving(Path(folder), endpoint.url) as (url, listens_at):
                _open(page, url, listens_at, waits)
                if start == starts:
                    _ask(page, endpoint, repeats or ASKED, waits, tell)
                    _type(page, url, repeats or KEYS, waits, tell)
                page.context.close()
    figures = {name: _summary(values, BARS_MS[name]) for name, values in waits.items()}
    return {"what": "page", "machine": machine | {"browser": f"Chromium {version}"}, "figures": figures}


def _summary(values: Sequence[float], bar: float) -> dict[str, Any]:
    p95 = sorted(values)[math.ceil(0.95 * len(values)) - 1]
    rounded = [round(each, 1) for each in values]
    middle = round(statistics.median(values), 1)
    return {"n": len(values), "median": middle, "p95": round(p95, 1), "bar": bar, "met": p95 <= bar, "values": rounded}


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"cpus": os.cpu_count(), "model": model, "load": load}


# --- What is waited for -----------------------------------------------------------------------------------------------


def _open(page: Page, url: str, listens_at: float, waits: dict[str, list[float]]) -> None:
    """Open the page of a server that has only just said that it listens."""
    page.goto(url, wait_until="commit")
    box = _stamp(page, "box")
    entry = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    painted = page.evaluate("performance.timeOrigin") + page.wait_for_function(entry).json_value()
    waits["first paint"].append(painted - 1000 * listens_at)
    waits["question box usable"].append(box - 1000 * listens_at)
    page.get_by_text("answers by scripted").wait_for()


def _ask(page: Page, endpoint: Endpoint, n: int, waits: dict[str, list[float]], tell: Tell) -> None:
    """Ask questions in one conversation, which grows."""
    titles = [json.loads(line)["title"] for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    for number in range(1, n + 1):
        tell(f"question {number} of {n}")
        question = f"What does “{titles[number % len(titles)]}” report?"  # that stands by itself, so is not rewritten
        page.get_by_placeholder("Ask a question").fill(question)
        page.keyboard.press("Enter")
        page.locator(f"#notes-{number}.over").wait_for()
        page.get_by_role("button", name="Send").wait_for()
        reply = endpoint.replies[-1]
        waits["“writing” shown"].append(_stamp(page, f"writing notes-{number}") - 1000 * reply.first_token_at)
        shown = _stamp(page, f"sentence {reply.number}")
        waits["first sentence shown"].append(shown - 1000 * reply.sentence_at)
        page.wait_for_timeout(500)  # until Gradio takes the next question


def _type(page: Page, url: str, n: int, waits: dict[str, list[float]], tell: Tell) -> None:
    """Type a search in the library's tab; each key waits for the result of the one before."""
    name = "search result per key"
    while len(waits[name]) < n:
        tell(f"search as you type, {n} keys")
        page.goto(url)
        page.get_by_role("tab", name="Library").click()
        box = page.locator("#library-form [name=text]")
        box.focus()
        for number, key in enumerate(TYPED[: n - len(waits[name])], 1):
            box.press("Space" if key == " " else key)
            page.wait_for_function("n => stamps.keys.length >= n", arg=number)
        waits[name] += page.evaluate("stamps.keys")


def _stamp(page: Page, name: str) -> float:
    """Return when something was painted, in milliseconds since 1970; wait for it."""
    return float(page.wait_for_function("name => stamps[name]", arg=name).json_value())


# --- The browser, the server, the endpoint ----------------------------------------------------------------------------


@contextmanager
def _chromium() -> Iterator[Browser]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError as error:
        raise ConfigError("cannot measure the page: playwright is missing; pip install -e '.[test]'") from error
    path = shutil.which("chromium")
    if not path:
        raise ConfigError("cannot measure the page: no chromium in PATH; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            yield browser
            browser.close()
        except Error as error:
            why = error.message.splitlines()[0]
            raise AssistantError(f"the page could not be measured: {why}; open it by `make run` and look") from error


@contextmanager
def _serving(folder: Path, endpoint: str) -> Iterator[tuple[str, float]]:
    """Run the server; give its address and the moment at which it said that it listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ASSISTANT_", "OPENAI_"))}
    env |= {"PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(folder)}
    command = [
        sys.executable,
        "-m",
        "assistant",
        "serve",
        "--port",
        str(port),
        "--llm",
        endpoint,
        "--model",
        "scripted",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder, env=env)  # noqa: S603 - our own
    said = cast("IO[str]", process.stderr)
    watch = threading.Timer(4 * PATIENCE_S, process.kill)
    reader = threading.Thread(target=said.read)  # so that the server never waits for one
    watch.start()
    try:
        first = said.readline()
        listens_at = time.time()
        if "is open at" not in first:
            raise AssistantError(f"the server did not start: it said {first.strip()!r}; try `assistant serve`")
        watch.cancel()
        reader.start()
        yield f"http://127.0.0.1:{port}", listens_at
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    finally:
        watch.cancel()
        process.kill()
        process.wait()
        if reader.ident:
            reader.join()
        said.close()


class Reply:
    """One answer of the endpoint, and when its parts were sent, in seconds since 1970."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.first_token_at = self.sentence_at = 0.0

    def tokens(self) -> Iterator[str]:
        """Say a sentence that cites, the first word of the next, and, after a pause, the rest."""
        time.sleep(FIRST_TOKEN_S)
        self.first_token_at = time.time()
        yield f"Finding {self.number}"
        for word in (" holds", " for", " the", " paper", " that", " was", " asked", " about", " [1]", "."):
            time.sleep(TOKEN_S)
            self.sentence_at = time.time()
            yield word
        time.sleep(TOKEN_S)
        yield " It"  # by which the sentence before is known to have ended
        time.sleep(PAUSE_S)
        yield " is stated there [1]."


class Endpoint(ThreadingHTTPServer):
    """An endpoint on this machine that streams an answer of two sentences, token by token."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Model)
        self.replies: list[Reply] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Model(BaseHTTPRequestHandler):
    server: Endpoint
    disable_nagle_algorithm = True  # a token goes out as it comes, as with any server of models

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = Reply(len(self.server.replies) + 1)
        self.server.replies.append(reply)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for token in reply.tokens():
            self._send({"delta": {"content": token}, "finish_reason": None})
        self._send({"delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, choice: dict[str, Any]) -> None:
        chunk = {"object": "chat.completion.chunk", "model": "scripted", "choices": [{"index": 0, **choice}]}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""
