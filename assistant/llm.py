"""Prompt -> text pieces from any OpenAI-compatible endpoint.

In: messages and one wall-clock deadline. Out: cleaned text while it arrives, then what it cost. Refused: whatever is no
chat completion, as one of the four `LLMError`s; at most `max_requests` requests, no retry once text was given out.

The request runs in a thread with an event loop of its own. Cancelling its task ends every wait for the network, and the
caller waits for a queue only, so it is free at the deadline whatever the thread is stuck in. The `openai` client sends
the request; its answer is read here, because that client's decoder bounds neither a line nor the whole, and takes an
empty, a cut and an HTML response for a complete one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import math
import os
import queue
import re
import socket
import threading
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from assistant.config import Config
from assistant.errors import ConfigError, LLMError, LLMRejected, LLMTimeout, LLMUnavailable, LLMUnparsable
from assistant.tokens import count_tokens
from assistant.types import Usage

if TYPE_CHECKING:
    import ssl

    import httpx2
    import openai

TEXT_LIMIT = 200_000
"""Characters of text read from one answer."""
_EVENT_LIMIT = 4_000_000
"""Bytes held at a time: one event of a stream, or a whole answer that is not streamed."""
_RESPONSE_LIMIT = 64_000_000
"""Bytes read in all; a stream spends about 300 on each token."""
_ERROR_LIMIT = 64_000
"""Bytes read of the body of an error status."""
_BACKOFF_S = (0.3, 1.0)
"""Least waits before the second and the third request."""
_GRACE_S = 0.2
"""How long a caller waits beyond the deadline for the request to end by itself."""
_TAIL_S = 1.0
"""How long may come what is not needed: the usage after the text, the body of an error status."""

_DUMMY_KEY = "none"
"""Sent where no key is set: the client wants one, local servers ignore it."""
_SENT_HEADERS = {
    *("host", "connection", "user-agent", "authorization"),
    *("accept", "accept-encoding", "content-type", "content-length"),
}
"""Nothing else is sent: the client would add its platform, and headers named in OPENAI_* variables."""
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but newline and tab, and lone surrogates."""
_TOO_LONG = re.compile(
    r"context.?(length|window|size|limit)|maximum (number of )?(input )?tokens|too many (input )?tokens"
    r"|(prompt|input|request|message)s?\b.{0,60}\btoo (long|large)|reduce the length",
    re.IGNORECASE | re.DOTALL,
)
_SERVER_FAULT = re.compile(r"\b(429|5\d\d)\b|server|internal|overload|unavailable|rate.?limit|timeout", re.IGNORECASE)
_REFUSAL = re.compile(r"\b4\d\d\b|invalid|filter|polic|not.?found|auth|permission|quota|context|exceed", re.IGNORECASE)
_NEXT_STEPS = {
    401: "check llm_api_key",
    403: "check llm_api_key",
    404: "check llm_base_url (with its /v1) and llm_model",
    413: "give less evidence (evidence_tokens)",
}


class LLM:
    """An endpoint that answers prompts; nothing is opened before the first one.

    Args:
        config: Names the endpoint (`llm_base_url`), the model, the key and the length of an answer.

    Raises:
        ConfigError: If no model is named.
    """

    def __init__(self, config: Config) -> None:
        if not config.llm_model:
            raise ConfigError("no LLM can be asked: llm_model is not set; name a model, or ask without an LLM")
        self._endpoint = _Endpoint(config)

    def stream(self, messages: Sequence[Mapping[str, str]], *, deadline: float, max_requests: int = 3) -> LLMStream:
        """Ask for one answer; the first request is sent when the first piece is asked for.

        Args:
            messages: In OpenAI's form: system, user, assistant.
            deadline: Value of `time.monotonic()` at which everything ends.
            max_requests: Requests that may be sent for it, retries included; 1 or more.
        """
        return LLMStream(_Call(self._endpoint, messages, deadline, max_requests))

    def close(self) -> None:
        """Stop every request that still runs."""
        for call in tuple(self._endpoint.running):
            call.stop()


class LLMStream(Iterator[str]):
    """The text of one answer, piece by piece; dropping it stops the request.

    Iterating raises `LLMTimeout` at the deadline, or `LLMUnavailable`, `LLMRejected` or `LLMUnparsable`; each one tells
    the number of `requests` sent.
    """

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._is_over = False
        weakref.finalize(self, call.stop)
        self.model = call.endpoint.model
        """The model that was asked."""
        self.complete = False
        """True once the endpoint has ended its answer; False before that, and when its length limit cut it."""

    def __next__(self) -> str:
        if self._is_over:
            raise StopIteration
        try:
            item = self._call.wait()
        except BaseException:
            self.close()
            raise
        if isinstance(item, str):
            return item
        self.close()
        if item is None:
            self.complete = self._call.complete
            raise StopIteration
        item.requests = self._call.requests
        raise item

    @property
    def usage(self) -> Usage:
        """Requests so far, and tokens: as the endpoint reports them, else estimated."""
        call = self._call
        if call.reply.usage is not None:
            return Usage(*call.reply.usage, llm_calls=call.requests)
        if not call.requests:
            return Usage()
        prompt, answer = (each.get("content", "") for each in call.messages), "".join(call.reply.shown)
        n_prompt = sum(count_tokens(text, self.model).n for text in prompt)
        n_answer = count_tokens(answer, self.model).n if answer else 0
        return Usage(n_prompt, n_answer, llm_calls=call.requests, tokens_estimated=True)

    def close(self) -> None:
        """Stop the request at once; iterating ends here."""
        self._is_over = True
        self._call.stop()


class _Endpoint:
    """The address and its key: makes clients, and errors whose messages never show the key."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model = config.llm_model or ""
        self.running: set[_Call] = set()
        url = urlsplit(config.llm_base_url)
        self._name = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        self._is_loopback = re.fullmatch(r"localhost|127\..*|::1", url.hostname or "") is not None
        self._key = (config.api_key or "").strip() or _DUMMY_KEY
        self._secrets = {self._key, url.password or ""} - {_DUMMY_KEY, ""}

    def client(self) -> openai.AsyncOpenAI:
        """Make a client that takes proxies and certificates from the environment, and nothing else."""
        import httpx2
        import openai

        if not re.fullmatch(r"[\x21-\x7e]+", self._key):
            raise self.error(LLMRejected, "the key holds characters that no header can carry", "check llm_api_key")
        http_client = httpx2.AsyncClient(
            timeout=None,
            follow_redirects=False,
            verify=self._tls,
            trust_env=not self._is_loopback,
            event_hooks={"request": [_strip_headers], "response": [self._check_status]},
        )
        return openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self.config.llm_base_url,
            default_headers={"Authorization": f"Bearer {self._key}"},  # else OPENAI_CUSTOM_HEADERS may name another
            max_retries=0,
            timeout=None,
            http_client=http_client,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made once: reading the certificates takes 25 ms."""
        import httpx2

        return httpx2.create_ssl_context()

    async def _check_status(self, response: httpx2.Response) -> None:
        """Raise for every status but success; here, because the client would read an endless body to its end."""
        import httpx2

        if response.is_success:
            return
        body = b""
        with contextlib.suppress(httpx2.HTTPError, OSError):  # TimeoutError is an OSError; the status is enough
            async with asyncio.timeout(_TAIL_S), contextlib.aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > _ERROR_LIMIT:
                        break
        raise self._status_error(response.status_code, response.headers, body)

    def _status_error(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError | _RetryError:
        message, words = _read_error(body)
        found = f"status {status}, {message}" if message else f"status {status}"
        if status == 429 or status >= 500:
            asked = headers.get("retry-after", "")
            error = self.error(LLMUnavailable, f"Retry-After {asked}, {found}" if asked else found, "try again later")
            return _RetryError(error, wait_s=_read_wait(asked))
        if status < 400:
            found = f"status {status}, a redirect to {headers.get('location')}, which is not followed"
            return self.error(LLMRejected, found, "set llm_base_url to the address that answers")
        error = self.error(LLMRejected, found, _NEXT_STEPS.get(status, "check llm_model and max_tokens_field"))
        is_malformed = status in {400, 422}
        if is_malformed and "stream_options" in message:
            return _RetryError(error, drop="stream_options")
        error.too_long = status == 413 or (is_malformed and _TOO_LONG.search(f"{message} {words}") is not None)
        return error

    def reported_error(self, raw: bytes) -> LLMError:
        """Make the error for an error object that came with status 200."""
        message, words = _read_error(raw)
        is_too_long = _TOO_LONG.search(f"{message} {words}") is not None
        kind: type[LLMError] = LLMRejected if is_too_long or _REFUSAL.search(words) else LLMUnparsable
        if _SERVER_FAULT.search(words):
            kind = LLMUnavailable
        error = self.error(kind, f"an error instead of an answer: {words} {message}", "see the endpoint's log")
        error.too_long = is_too_long and kind is LLMRejected
        return error

    def connection_error(self, error: Exception) -> LLMError | _RetryError:
        """Translate what ended a request before its answer; only a broken connection is worth another try."""
        import httpx2

        *_, root = _causes(error)
        if isinstance(error.__cause__, httpx2.RemoteProtocolError) and type(root).__module__.startswith("h11"):
            return self.error(LLMUnparsable, f"it does not speak HTTP: {root}", "check llm_base_url")
        made = self.error(LLMUnavailable, _say(root), "check that it runs, and llm_base_url")
        broken = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
        return _RetryError(made) if isinstance(error.__cause__, broken) else made

    def too_late(self) -> LLMError:
        """Make the error for a deadline that has passed."""
        return self.error(LLMTimeout, "the deadline has passed", "raise llm_timeout_s, or take a faster model")

    def error(self, kind: type[LLMError], found: str, step: str) -> LLMError:
        """Make an error that names the endpoint, what was found (at most 300 characters) and what to do."""
        found = " ".join("".join(each for each in found if each.isprintable() or each.isspace()).split())
        for secret in self._secrets:
            found = found.replace(secret, "***")
        found = found if len(found) <= 300 else f"{found[:299]}…"
        return kind(f"no answer from the LLM at {self._name}: {found}; {step}")

    def without_key(self, error: BaseException | None) -> BaseException | None:
        """Return an error that is fit to be shown as a cause, None in place of one that shows the key."""
        if error is None:
            return None
        shown = "".join([*traceback.format_exception(error), *map(repr, _causes(error))])
        return None if any(secret in shown for secret in self._secrets) else error


class _RetryError(Exception):
    """A request failed before its answer began, in a way that another one may mend."""

    def __init__(self, error: LLMError, *, wait_s: float = 0.0, drop: str = "") -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s
        """Wait that the endpoint asks for."""
        self.drop = drop
        """Field to leave out of the next request, which then need not wait."""


class _Call:
    """The requests for one answer, in a daemon thread with an event loop of its own."""

    def __init__(
        self, endpoint: _Endpoint, messages: Sequence[Mapping[str, str]], deadline: float, max_requests: int
    ) -> None:
        self.endpoint = endpoint
        self.messages = [{name: _UNWANTED.sub("", text) for name, text in each.items()} for each in messages]
        self.requests = 0
        self.reply = _Reply(endpoint)
        self.complete = False
        self._deadline = deadline
        self._max_requests = max_requests
        self._items: queue.SimpleQueue[str | LLMError | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    def wait(self) -> str | LLMError | None:
        """Return the next piece, None after the last one, or the error; the first call starts the request."""
        remaining_s = self._deadline - time.monotonic()
        if self._thread is None:
            if remaining_s <= 0:
                return self.endpoint.too_late()
            self.endpoint.running.add(self)
            self._thread = threading.Thread(target=self._run, name="assistant-llm", daemon=True)
            self._thread.start()
        try:
            return self._items.get(timeout=max(0.0, remaining_s) + _GRACE_S)
        except queue.Empty:
            return self.endpoint.too_late()

    def stop(self) -> None:
        """End the request from any thread, and whoever waits for it."""
        self._is_stopped = True
        self._items.put(None)
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nothing is left to end
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_Loop) as runner:
                runner.run(self._answer())
        finally:
            self.endpoint.running.discard(self)
            self._items.put(self.endpoint.error(LLMUnavailable, "the request broke off", "report it as a bug"))

    async def _answer(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._ask_in_time()
            self._give(self.reply.end())
            self.complete = self.reply.finish not in {"length", "max_tokens"}
            self._items.put(None)
        except LLMError as error:
            error.__cause__ = self.endpoint.without_key(error.__cause__)
            error.__context__ = None
            self._items.put(error)
        except asyncio.CancelledError:
            pass  # by stop(): nobody listens
        finally:
            cast("_Loop", asyncio.get_running_loop()).break_off()

    async def _ask_in_time(self) -> None:
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()) as self._limit:
                if not self._is_stopped:
                    await self._ask()
        except TimeoutError as error:
            if not self.reply.finish:
                raise self.endpoint.too_late() from error

    async def _ask(self) -> None:
        """Send requests until one is answered or no other may follow."""
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": self.messages,
            "temperature": 0,
            self.endpoint.config.max_tokens_field: self.endpoint.config.answer_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        waits_s = iter(_BACKOFF_S)
        while True:
            self.requests += 1
            try:
                return await self._request(body)
            except _RetryError as failed:
                wait_s = 0.0 if failed.drop else max(next(waits_s, math.inf), failed.wait_s)
                is_in_time = wait_s <= (self._deadline - time.monotonic()) / 2
                if self.requests >= self._max_requests or not is_in_time:
                    raise failed.error from failed.__cause__
                body.pop(failed.drop, None)
            await asyncio.sleep(wait_s)

    async def _request(self, body: dict[str, Any]) -> None:
        from httpx2 import HTTPError, InvalidURL
        from openai import OpenAIError

        foreign = (OpenAIError, HTTPError, InvalidURL, ExceptionGroup, OSError, ImportError, ValueError)
        try:
            async with self.endpoint.client() as client, await client.chat.completions.create(**body) as stream:
                await self._read(stream.response)
        except foreign as error:
            raise self.endpoint.connection_error(error) from error

    async def _read(self, response: httpx2.Response) -> None:
        import httpx2

        try:
            async with contextlib.aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    self._give(self.reply.feed(chunk))
                    if self.reply.done:
                        return
                    if self.reply.finish:
                        latest = asyncio.get_running_loop().time() + _TAIL_S
                        self._limit.reschedule(min(self._limit.when() or latest, latest))
        except httpx2.DecodingError as error:
            raise self.reply.unreadable(f"damaged compression ({error})") from error
        except (httpx2.HTTPError, OSError) as error:
            if not self.reply.finish:
                *_, root = _causes(error)
                raise self.reply.cut(_say(root)) from error

    def _give(self, pieces: Iterator[str]) -> None:
        for piece in pieces:
            self._items.put(piece)


class _Reply:
    """One response, bytes in and text pieces out, without I/O; refuses what is no chat completion."""

    def __init__(self, endpoint: _Endpoint) -> None:
        self.finish = ""
        """The reason that the endpoint gives for its end."""
        self.done = False
        """True after `[DONE]`: nothing more is read."""
        self.usage: tuple[int, int] | None = None
        """Tokens of prompt and answer, if reported."""
        self.shown: list[str] = []
        self._endpoint = endpoint
        self._n_bytes = self._n_chars = self._n_chunks = 0
        self._buffer = b""
        self._data = bytearray()
        self._is_json = False
        self._held = ""
        self._stage = "start"

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Read the next bytes; yield the text that they complete."""
        if not self._n_bytes:
            chunk = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
            self._is_json = chunk.startswith(b"{")
        self._n_bytes += len(chunk)
        self._buffer += chunk
        if not self._is_json:
            lines = self._buffer.splitlines(keepends=True)
            self._buffer = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            for line in lines:
                yield from self._read_line(line.rstrip(b"\r\n"))
        if max(len(self._buffer), len(self._data)) > _EVENT_LIMIT or self._n_bytes > _RESPONSE_LIMIT:
            raise self.unreadable(f"more than {_EVENT_LIMIT:,} bytes at once or {_RESPONSE_LIMIT:,} in all")

    def end(self) -> Iterator[str]:
        """Read what is left when nothing more comes; refuse a cut or empty answer."""
        if self._is_json:
            yield from self._read_chunk(self._parse(self._buffer))
            self.done = True
        with contextlib.suppress(LLMUnparsable):  # half an event is a cut
            yield from self._read_line(self._buffer)
            yield from self._read_line(b"")
        if not self._n_chunks:
            raise self.unreadable("not one piece of a chat completion")
        if not self.done and not self.finish:
            raise self.cut("it ended early")
        if self._stage == "start" and self._held:
            self.shown.append(self._held)
            yield self._held
        if not self.shown:
            found = f"an answer without text (finish_reason {self.finish or None!r})"
            raise self._endpoint.error(LLMUnparsable, found, "raise answer_tokens, or try another model")

    def cut(self, how: str) -> LLMError:
        """Make the error for a response that broke off."""
        found = f"the response was cut after {self._n_chars} characters: {how}"
        return self._endpoint.error(LLMUnavailable, found, "try again, and see the endpoint's log")

    def unreadable(self, found: str) -> LLMError:
        """Make the error for a response that is no chat completion."""
        step = "check llm_base_url (with its /v1), and that OpenAI's chat completions are spoken there"
        return self._endpoint.error(LLMUnparsable, f"unreadable: {found}", step)

    def _read_line(self, line: bytes) -> Iterator[str]:
        """Read one line of a stream of server-sent events; an empty one ends an event."""
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data += value + b"\n"
        elif not line and self._data:
            data, self._data = bytes(self._data).strip(), bytearray()
            if data == b"[DONE]":
                self.done = True
            elif not self.done:
                yield from self._read_chunk(self._parse(data))

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            found = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise self.unreadable(f"broken JSON ({error})") from error
        if not isinstance(found, dict):
            raise self.unreadable(f"JSON of type {type(found).__name__}")
        if found.get("error") or "error" in (found.get("object"), found.get("type")):
            raise self._endpoint.reported_error(data)
        return found

    def _read_chunk(self, found: dict[str, Any]) -> Iterator[str]:
        """Read a chunk of a stream, whose text is in `delta`, or a whole answer, whose text is in `message`."""
        self._read_usage(found.get("usage"))
        self._n_chunks += "choices" in found
        choices = self._expect(found.get("choices"), list, "choices")
        choice = self._expect(choices[0] if choices else None, dict, "choices[0]")
        message = self._expect(choice.get("delta") or choice.get("message"), dict, "delta or message")
        if message.get("tool_calls") or message.get("function_call"):
            raise self.unreadable("a call of a tool, though none was offered")
        yield from self._show(self._join(message.get("content")))
        reason = self._expect(choice.get("finish_reason"), str, "finish_reason")
        if reason == "content_filter":
            raise self._endpoint.error(LLMRejected, "finish_reason content_filter", "put the question in other words")
        self.finish = reason or self.finish

    def _expect(self, value: Any, kind: type[Any], name: str) -> Any:
        """Return `value` if it is of that type, and an empty one for null."""
        if value is not None and not isinstance(value, kind):
            raise self.unreadable(f"{name} of type {type(value).__name__}")
        return value or kind()

    def _read_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
            if all(type(n) is int and 0 <= n < 1_000_000_000 for n in counts):
                self.usage = cast("tuple[int, int]", counts)

    def _join(self, content: Any) -> str:
        """Return content as text: a string, null, or a list of parts, of which those of type text count."""
        if not isinstance(content, list):
            return cast("str", self._expect(content, str, "content"))
        parts = [self._expect(part, dict, "a part of content") for part in content]
        return "".join(self._expect(part.get("text"), str, "text") for part in parts if part.get("type") == "text")

    def _show(self, text: str) -> Iterator[str]:
        self._n_chars += len(text)
        if self._n_chars > TEXT_LIMIT:
            raise self.unreadable(f"more than {TEXT_LIMIT:,} characters")
        text = self._drop_thoughts(_UNWANTED.sub("", text))
        if text:
            self.shown.append(text)
            yield text

    def _drop_thoughts(self, text: str) -> str:
        """Return what may be shown of the next text: no blank space and no <think> block at the beginning."""
        self._held += text
        while self._stage != "text":
            if self._stage == "think":
                _, closed, rest = self._held.partition("</think>")
                self._held = rest if closed else self._held[-len("</think>") :]
                if not closed:
                    return ""
            self._stage, self._held = "start", self._held.lstrip()
            if "<think>".startswith(self._held):
                return ""
            self._stage = "think" if self._held.startswith("<think>") else "text"
        shown, self._held = self._held, ""
        return shown


class _Loop(asyncio.SelectorEventLoop):
    """Leaves nothing behind: connections can be broken off, and names are resolved in daemon threads.

    A silent name server would hold up the end of the process otherwise; and the transport forgets to close a connection
    whose TLS handshake is cancelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self._connections: list[asyncio.BaseTransport] = []

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        """See `asyncio.loop.create_connection`."""
        transport, protocol = await super().create_connection(*args, **options)
        self._connections.append(transport)
        return transport, protocol

    def break_off(self) -> None:
        """Close all connections at once, without a farewell."""
        for connection in self._connections:
            cast("asyncio.WriteTransport", connection).abort()

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """See `socket.getaddrinfo`."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def resolve() -> None:
            try:
                future.set_result(socket.getaddrinfo(host, port, **options))
            except (OSError, ValueError, OverflowError) as error:
                future.set_exception(error)

        threading.Thread(target=resolve, name="assistant-llm-name", daemon=True).start()
        return await asyncio.wrap_future(future)


async def _strip_headers(request: httpx2.Request) -> None:
    for name in set(request.headers) - _SENT_HEADERS:
        del request.headers[name]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Iterate an error and what led to it, the deepest last; of several at once, the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        # The transport raises "from None" on its way, so the context counts as well.
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__


def _say(error: BaseException) -> str:
    """Return what an error says; the system's words where asyncio names only the call that failed."""
    if (type(error) is OSError or isinstance(error, ConnectionError | TimeoutError)) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _read_error(raw: bytes) -> tuple[str, str]:
    """Return the message and the machine's words (code, type) of an error body of any shape; no message from HTML."""
    text = raw.decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ("" if text.startswith("<") else text), ""
    error = (found.get("error") or found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else text), ""
    words = " ".join(str(error[name]) for name in ("code", "type") if isinstance(error.get(name), str | int))
    message = error.get("message")
    return (message if isinstance(message, str) else text), words


def _read_wait(asked: str) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3), 0 if it cannot be read."""
    with contextlib.suppress(ValueError):
        return float(asked)
    with contextlib.suppress(ValueError):
        return parsedate_to_datetime(asked).timestamp() - time.time()
    return 0.0
