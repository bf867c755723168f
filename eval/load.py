"""Many questions at once for a server with a slow endpoint: does each come to an end, and does all stay well?

A server over the sample library and a scripted endpoint run here. First so many questions are sent in one moment; each
has to end in an answer or in "busy, retry in N s", while `/healthz` answers promptly. Then, if asked for, so many more
one after the other, eight at a time, while the server's memory is watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2

from eval.endpoint import Endpoint, listening

QUESTIONS = (
    "How can vision transformers be trained on small datasets?",
    "Which papers replace attention by Fourier mixing?",
    "How do vision transformers compare with convolutional networks?",
    "What makes self-attention cheaper on long sequences?",
)
END_S, HEALTH_S, GROWTH = 30.0, 1.0, 1.2
"""What may not be missed: the last end, the slowest healthz, and memory after a long run, as a multiple of that after a
tenth of it."""
AT_ONCE = 8
"""Of the long run, as many as the server answers at once."""


async def load(n: int, delay_s: float, long: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Put a load on a server; return what was seen, of which `failed` lists what may not be.

    Args:
        n: Questions sent in one moment.
        delay_s: How long the endpoint takes for an answer.
        long: Questions of the long run; 0 for none.
        say: Called with a line as the long run goes on.
    """
    async with listening(Endpoint(delay_s)) as endpoint, _server(endpoint.url) as (client, pid):
        for question in QUESTIONS:
            await _ask(client, question)
        resting = _megabytes(pid)
        watch = await _watch(client.base_url.port or 0)
        begun = time.monotonic()
        ends = await asyncio.gather(*(_ask(client, QUESTIONS[i % len(QUESTIONS)]) for i in range(n)))
        whole_s = time.monotonic() - begun
        watch.terminate()
        slowest = float((await watch.communicate())[0].split()[-1])
        after = await _ask(client, QUESTIONS[0])
        kinds = Counter(kind for kind, _ in ends)
        answered = [seconds for kind, seconds in ends if kind == "answered"]
        result: dict[str, Any] = {
            "what": "load", "questions": n, "endpoint s": delay_s, "ends": dict(kinds),
            "all ended s": round(whole_s, 2),
            "median answer s": round(statistics.median(answered), 2) if answered else None,
            "slowest healthz s": round(slowest, 3), "one asked afterwards": after[0],
            "megabytes": [resting, _megabytes(pid)],
        }  # fmt: skip
        endpoint.delay_s = 0.0
        memory = await _go_on(client, pid, long, say) if long else []
    failed = [f"{kinds[kind]} questions ended in {kind}" for kind in kinds if kind not in {"answered", "busy"}]
    if whole_s > END_S:
        failed.append(f"the last question ended after {whole_s:.1f} s")
    if slowest > HEALTH_S:
        failed.append(f"healthz took {slowest:.2f} s")
    if after[0] != "answered":
        failed.append(f"a question afterwards ended in {after[0]}")
    if memory and memory[-1] > GROWTH * memory[0]:
        failed.append(f"memory grew from {memory[0]} to {memory[-1]} MB")
    more = {"long run": long, "megabytes by tenths": memory} if memory else {}
    return {**result, **more, "failed": failed}


async def _ask(client: httpx2.AsyncClient, question: str) -> tuple[str, float]:
    """Return how a question ended, and after how long."""
    begun = time.monotonic()
    try:
        reply = await client.post("/api/v1/ask", json={"question": question})
    except httpx2.HTTPError as error:
        return type(error).__name__, time.monotonic() - begun
    told = reply.json()
    kind = f"status {reply.status_code}"
    if reply.status_code == 200:
        kind = "answered" if told["answerer"] == "llm" and not told["abstained"] else "another answer"
    elif reply.status_code == 429 and f"retry in {reply.headers['retry-after']} s" in told["error"]["message"]:
        kind = "busy"
    return kind, time.monotonic() - begun


_LOOK = """
import http.client, sys, time
slowest = 0.0
while True:
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
    slowest = max(slowest, time.monotonic() - begun)
    print(slowest, flush=True)
    time.sleep(0.05)
"""


async def _watch(port: int) -> asyncio.subprocess.Process:
    """Return a process that asks whether the server is alive and prints the longest that it took so far.

    One of its own: this one is busy with what it asks.
    """
    look = await asyncio.create_subprocess_exec(sys.executable, "-c", _LOOK, str(port), stdout=subprocess.PIPE)
    assert look.stdout
    await look.stdout.readline()
    return look


async def _go_on(client: httpx2.AsyncClient, pid: int, n: int, say: Callable[[str], None]) -> list[int]:
    """Ask so many questions, some at a time; return the server's memory after each tenth of them."""
    memory = []
    for tenth in range(10):
        for _ in range(max(1, n // 10 // AT_ONCE)):
            await asyncio.gather(*(_ask(client, QUESTIONS[i % len(QUESTIONS)]) for i in range(AT_ONCE)))
        memory.append(_megabytes(pid))
        say(f"{(tenth + 1) * 10} %: {memory[-1]} MB")
    return memory


@contextlib.asynccontextmanager
async def _server(endpoint: str) -> AsyncIterator[tuple[httpx2.AsyncClient, int]]:
    """Run the server until the block ends; it is ready when that begins."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["serve", "--port", str(port), "--llm", endpoint, "--model", "scripted"]
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSISTANT_", "OPENAI_"))}
        env = {**kept, "XDG_DATA_HOME": folder, "PYTHONPATH": str(Path(__file__).parent.parent)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "assistant", *arguments, env=env, cwd=folder, stderr=subprocess.DEVNULL
        )
        limits = httpx2.Limits(max_connections=None)
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as client:
                end = time.monotonic() + 120
                while time.monotonic() < end:
                    with contextlib.suppress(httpx2.HTTPError):
                        if (await client.get("/readyz")).status_code == 200:
                            break
                    await asyncio.sleep(0.1)
                yield client, process.pid
        finally:
            process.terminate()
            await process.wait()


def _megabytes(pid: int) -> int:
    """Return the memory that a process holds now; Linux tells."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000
