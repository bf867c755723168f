"""A scripted OpenAI-compatible endpoint on 127.0.0.1, with real sockets and every fault a real one may have.

with Endpoint(answer("Fourier mixing [1].")) as endpoint:
    Config(llm_base_url=endpoint.url, llm_model="scripted")
    ...
    endpoint.requests[0]["body"]["messages"]
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Self

import pytest

LONGEST_S = 60.0
"""No loop of a reply runs longer."""
CERTIFICATE = Path(__file__).parent / "data" / "untrusted.pem"
"""Made for these tests, for 127.0.0.1, signed by nobody that anybody trusts; with its key."""
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@dataclass(frozen=True)
class Reply:
    """What is done with one request: bytes are sent, each after a wait, and then the connection ends."""

    wire: Callable[[], Iterable[bytes]]
    """Makes the bytes, status line and headers included; made anew for each request."""
    then: Literal["close", "hang", "reset"] = "close"
    delay_s: float = 0.0
    """Wait before each piece of `wire`, the first too."""


Script = Callable[[dict[str, Any]], Reply] | Reply | list[Reply]


def raw(
    body: bytes | Iterable[bytes] = b"",
    content_type: str = "text/event-stream",
    *,
    code: int = 200,
    headers: Mapping[str, str] | None = None,
    hang: bool = False,
    delay_s: float = 0.0,
) -> Reply:
    """Send this body, piece by piece (a list of them can be sent again); it ends with the connection."""
    fields = {"Content-Type": content_type, "Connection": "close", **(headers or {})}
    lines = [f"HTTP/1.1 {code} {HTTPStatus(code).phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    pieces = [body] if isinstance(body, bytes) else body
    return Reply(lambda: _chain(head, pieces), then="hang" if hang else "close", delay_s=delay_s)


def event(data: object) -> bytes:
    """Return one server-sent event; anything but bytes is sent as JSON."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def chunk(delta: object = None, finish: object = None, **fields: object) -> dict[str, Any]:
    """Return one chunk of a streamed answer; a text as `delta` is its content."""
    delta = {"content": delta} if isinstance(delta, str) else (delta or {})
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "scripted", "choices": [choice], **fields}


def stream(*chunks: object, done: bool = True, **how: Any) -> Reply:
    """Send these as a stream of events, ended by [DONE] or not."""
    return raw([event(each) for each in chunks] + [event(b"[DONE]")] * done, **how)


def answer(
    text: str, pieces: int | None = None, *, finish: str | None = "stop", usage: Any = USAGE, **how: Any
) -> Reply:
    """Stream a well-formed answer, cut into pieces of that many characters."""
    step = pieces or max(1, len(text))
    texts = [chunk(text[start : start + step]) for start in range(0, len(text), step)]
    tail = [chunk(finish=finish)] if finish else []
    counts = [{**chunk(), "choices": [], "usage": usage}] if usage is not None else []
    return stream(chunk({"role": "assistant", "content": ""}), *texts, *tail, *counts, **how)


def completion(content: object, finish: str = "stop", **fields: object) -> Reply:
    """Answer with one JSON document, as a server does that knows no streams."""
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    document = {"object": "chat.completion", "model": "scripted", "choices": choices, "usage": USAGE, **fields}
    return raw(json.dumps(document).encode(), "application/json")


def status(code: int, body: object = b"", headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with a status; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return raw(data, "application/json", code=code, headers={"Content-Length": str(len(data)), **(headers or {})})


def error(code: int, message: str, /, **fields: object) -> Reply:
    """Answer with a status and an error object in OpenAI's form."""
    return status(code, {"error": {"message": message, **fields}})


def html(code: int = 200) -> Reply:
    """Answer with a web page, as a captive portal or a wrong path does."""
    return raw(b"<!doctype html>\n<html><title>Welcome</title>data: sign in</html>\n", "text/html", code=code)


def hang() -> Reply:
    """Take the request and never answer."""
    return Reply(list, then="hang")


def reset() -> Reply:
    """Reset the connection without an answer."""
    return Reply(list, then="reset")


def wire(*pieces: bytes, then: Literal["close", "hang", "reset"] = "close", delay_s: float = 0.0) -> Reply:
    """Send these bytes as they are, which need not be HTTP."""
    return Reply(lambda: pieces, then=then, delay_s=delay_s)


def drip(data: bytes | None = None, delay_s: float = 0.05) -> Reply:
    """Send a well-formed answer one byte at a time."""
    data = data or b"".join(answer("A slow answer. " * 100).wire())
    return Reply(lambda: (data[i : i + 1] for i in range(len(data))), delay_s=delay_s)


def never_ends(piece: bytes | None = None, *, delay_s: float = 0.01, **how: Any) -> Reply:
    """Send the same again and again, a chunk with a word unless told otherwise, until somebody gives up."""
    return raw(_Endless(event(chunk("word ")) if piece is None else piece), delay_s=delay_s, **how)


class Endpoint:
    """The server; it listens inside the `with` block, and all its threads end with that.

    Args:
        reply: What is done with every request, or with each in turn (the last repeats), or a function of its body.
    """

    def __init__(self, reply: Script) -> None:
        self.become(reply)
        self._closing = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._acceptor = threading.Thread(target=self._accept, name="endpoint", daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._socket.close()
        for connection, thread in list(self._open.items()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def become(self, reply: Script, *, tls: bool = False) -> None:
        """Do this from now on, as if newly begun; `tls`: behind a certificate that nobody trusts."""
        self.requests: list[dict[str, Any]] = []
        """Those that came: path, headers (lower-case names), body."""
        self._reply, self._is_tls = reply, tls

    def is_idle(self, timeout_s: float = 2.0) -> bool:
        """Wait until every caller has hung up; False if one is still there after that time."""
        end = time.monotonic() + timeout_s
        while self._open and time.monotonic() < end:
            time.sleep(0.01)
        return not self._open

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closing.is_set():
                connection, _ = self._socket.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), name="endpoint", daemon=True)
                self._open[connection] = thread
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            try:
                connection.settimeout(LONGEST_S)
                if self._is_tls:
                    with _untrusted().wrap_socket(connection.dup(), server_side=True):
                        return  # nobody goes on with it
                request = _read_request(connection)
                if request is None:  # no HTTP, such as the first bytes of TLS
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    return
                self.requests.append(request)
                self._send(connection, self._next_reply(request["body"]))
            finally:
                self._open.pop(connection, None)

    def _next_reply(self, body: dict[str, Any]) -> Reply:
        if isinstance(self._reply, list):
            return self._reply[min(len(self.requests), len(self._reply)) - 1]
        return self._reply if isinstance(self._reply, Reply) else self._reply(body)

    def _send(self, connection: socket.socket, reply: Reply) -> None:
        end = time.monotonic() + LONGEST_S
        for piece in reply.wire():
            if (reply.delay_s and self._closing.wait(reply.delay_s)) or time.monotonic() > end:
                return
            connection.sendall(piece)
        if reply.then == "hang":
            connection.recv(1)  # until the caller hangs up, or this server closes
        elif reply.then == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _untrusted() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


class _Endless:
    def __init__(self, piece: bytes) -> None:
        self._piece = piece

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self._piece


def _chain(head: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _read_request(connection: socket.socket) -> dict[str, Any] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65_536)
        data += received
        if not received or not data[:1].isalpha():
            return None
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(fields.get("content-length", 0)):
        body += connection.recv(65_536)
    return {"path": first.split()[1], "headers": fields, "body": json.loads(body or b"{}")}


# --- Fixtures of those who ask it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def imported_client() -> None:
    """The client takes most of a second to import, once; that is no matter of the deadlines below."""
    import openai  # noqa: F401


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy stands in between, and no thread outlives a test."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 3
    while (left := set(threading.enumerate()) - before) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left
