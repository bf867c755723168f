"""A scripted endpoint in OpenAI's form, where all but a model is measured: `python -m eval.endpoint` -> its address.

In a request, `max_tokens` says how many pieces come back, a word each; all of them at once, after a while if so told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

SENTENCE = "Transformers are compared with other networks in this paper [1]."


class Endpoint:
    """Answers every request with the same sentence, again and again.

    Args:
        delay_s: How long it takes for an answer.
        tokens: Pieces of an answer; None: as many as a request asks for. A sentence that is begun is ended.
    """

    def __init__(self, delay_s: float = 0.0, tokens: int | None = 1) -> None:
        self.delay_s, self.tokens, self.url = delay_s, tokens, ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            body = await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
            tokens = self.tokens or int(json.loads(body)["max_tokens"])
            await asyncio.sleep(self.delay_s)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            writer.write(b"".join(map(_event, _words(tokens))) + _event("", "stop") + b"data: [DONE]\n\n")
            await writer.drain()
        writer.close()


def _words(tokens: int) -> Iterator[str]:
    """Yield at least so many words of whole sentences."""
    words = [f"{word} " for word in SENTENCE.split()]
    for _ in range(-(-tokens // len(words))):
        yield from words


def _event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    chunk = {"object": "chat.completion.chunk", "model": "scripted", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


@contextlib.asynccontextmanager
async def listening(endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    """Let it answer on a port of its own until the block ends."""
    async with await asyncio.start_server(endpoint.serve, "127.0.0.1", 0) as server:
        endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield endpoint


@contextlib.contextmanager
def apart() -> Iterator[str]:
    """Run one in a process of its own until the block ends; give its address."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "eval.endpoint"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:  # noqa: S603 - ours
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def _main() -> None:
    async with listening(Endpoint(tokens=None)) as endpoint:
        print(endpoint.url, flush=True)  # noqa: T201 - whom to ask
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
