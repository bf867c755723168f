"""Prompt -> text pieces from any OpenAI-compatible endpoint.

In: messages and one wall-clock deadline. Out: cleaned text while it arrives, then what it cost. Refused: whatever is no
chat completion, as one of the four `LLMError`s; at most `max_requests` requests, no retry once text was given out.
`list_models` asks for the names of an endpoint's models in the same way.

The request runs in a thread with an event loop of its own. Cancelling its task ends every wait for the network, and the
caller waits for a queue only, so it is free at the deadline whatever the thread is stuck in. The `openai` client sends
the request; `completion` reads its answer, because that client's decoder bounds neither a line nor the whole, and takes
an empty, a cut and an HTML response for a complete one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import math
import queue
import re
import socket
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from assistant.completion import (
    ERROR_LIMIT,
    LIST_LIMIT,
    Completion,
    Fault,
    Faults,
    RetryError,
    drop_controls,
    mask,
    read_models,
)
from assistant.config import Config
from assistant.errors import ConfigError, LLMError, LLMRejected, LLMUnavailable, LLMUnparsable
from assistant.tokens import count_tokens
from assistant.types import Usage

if TYPE_CHECKING:
    import ssl

    import httpx2
    import openai

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
_LIBRARIES = {"openai", "httpx2", "httpcore2"}
"""They log what an endpoint sends them, its headers at DEBUG: it may be the key."""


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

    def prepare(self) -> None:
        """Do beforehand, from a thread of its own, what the first request would wait for; nothing is sent."""
        self._endpoint.prepare()

    def stream(self, messages: Sequence[Mapping[str, str]], *, deadline: float, max_requests: int = 3) -> LLMStream:
        """Ask for one answer; the first request is sent when the first piece is asked for.

        Args:
            messages: In OpenAI's form: system, user, assistant.
            deadline: Value of `time.monotonic()` at which everything ends.
            max_requests: Requests that may be sent for it, retries included; 1 or more.
        """
        return LLMStream(_Chat(self._endpoint, messages, deadline, max_requests))

    def close(self) -> None:
        """Stop every request that still runs."""
        for call in tuple(self._endpoint.running):
            call.stop()


def list_models(config: Config, *, deadline: float) -> Reply:
    """Ask an endpoint, once, for the names of its models; the request is sent when the first one is asked for.

    Args:
        config: Names the endpoint and the key; no model need be named.
        deadline: Value of `time.monotonic()` at which everything ends.
    """
    return Reply(_Listing(_Endpoint(config), deadline))


class Reply(Iterator[str]):
    """What an endpoint replies, piece by piece; dropping it stops the request.

    Iterating raises `LLMTimeout` at the deadline, or `LLMUnavailable`, `LLMRejected` or `LLMUnparsable`; each one tells
    the number of `requests` sent.
    """

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._is_over = False
        weakref.finalize(self, call.stop)
        self.complete = False
        """True once the endpoint has ended its reply; False before that, and when its length limit cut an answer."""

    def __next__(self) -> str:
        if self._is_over:
            raise StopIteration
        piece = None
        try:
            piece = self._call.wait()
        finally:
            if piece is None:
                self.close()
        if piece is None:
            self.complete = self._call.complete
            raise StopIteration
        return piece

    @property
    def requests(self) -> int:
        """Those sent so far."""
        return self._call.requests

    @property
    def fault(self) -> Fault | None:
        """What is behind the error that ended it."""
        return self._call.fault

    def close(self) -> None:
        """Stop the request at once; iterating ends here."""
        self._is_over = True
        self._call.stop()


class LLMStream(Reply):
    """The text of one answer."""

    _call: _Chat

    def __init__(self, call: _Chat) -> None:
        super().__init__(call)
        self.model = call.model
        """The model that was asked."""

    @property
    def usage(self) -> Usage:
        """Requests so far, and tokens: as the endpoint reports them, else estimated."""
        call, reported = self._call, self._call.completion.usage
        if reported or not call.requests:
            return Usage(*(reported or (0, 0)), llm_calls=call.requests)
        n_prompt = sum(count_tokens(each.get("content", ""), self.model).n for each in call.messages)
        answer = "".join(call.completion.shown)
        n_answer = count_tokens(answer, self.model).n if answer else 0
        return Usage(n_prompt, n_answer, llm_calls=call.requests, tokens_estimated=True)

    @property
    def completion(self) -> Completion:
        """What was read of the response so far."""
        return self._call.completion


class _Endpoint:
    """The address and its key, and what the calls share: makes clients that send what we want and nothing else."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.running: set[_Call] = set()
        self.refused: set[str] = set()
        """Fields of a request that it said it does not know."""
        url = urlsplit(config.llm_base_url)
        self._is_loopback = re.fullmatch(r"localhost|127\..*|::1", url.hostname or "") is not None
        self._key = (config.api_key or "").strip() or _DUMMY_KEY
        secrets = frozenset({self._key, url.password or ""}) - {_DUMMY_KEY, ""}
        self.faults = Faults(f"{url.scheme}://{url.netloc.rpartition('@')[2]}", secrets)

    def prepare(self) -> None:
        """Import the client and read the certificates."""
        import openai  # noqa: F401 - takes .6 s

        _ = self._tls

    def client(self) -> openai.AsyncOpenAI:
        """Make a client that takes proxies and certificates from the environment, and nothing else."""
        import httpx2
        import openai

        if not re.fullmatch(r"[\x21-\x7e]+", self._key):
            found = "the key holds characters that no header can carry"
            raise self.faults.error(LLMRejected, found, "check llm_api_key")
        http_client = httpx2.AsyncClient(
            timeout=None,
            follow_redirects=False,
            verify=self._tls,
            trust_env=not self._is_loopback,
            event_hooks={"request": [_strip_headers], "response": [self._check_status]},
        )
        _MASK.watch(self.faults.secrets)
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
                    if len(body) > ERROR_LIMIT:
                        break
        raise self.faults.from_status(response.status_code, response.headers, body)


class _Call(ABC):
    """The requests for one reply, in a daemon thread with an event loop of its own."""

    def __init__(self, endpoint: _Endpoint, deadline: float) -> None:
        self.requests = 0
        self.fault: Fault | None = None
        self._endpoint = endpoint
        self._faults = endpoint.faults
        self._deadline = deadline
        self._items: queue.SimpleQueue[str | LLMError | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    @abstractmethod
    def complete(self) -> bool:
        """The endpoint has ended its reply otherwise than at a limit."""

    @property
    @abstractmethod
    def _is_enough(self) -> bool:
        """Nothing that is needed is still to come."""

    @abstractmethod
    def _send(self, client: openai.AsyncOpenAI) -> Awaitable[openai.AsyncStream[Any]]:
        """Send a request; of its response only the headers are read."""

    @abstractmethod
    async def _read(self, response: httpx2.Response) -> None:
        """Read the body of a response, within limits."""

    @abstractmethod
    def _end(self) -> Iterator[str]:
        """Iterate what is left to give when all has been read."""

    def wait(self) -> str | None:
        """Return the next piece, None after the last one, or raise the error; the first call starts the request."""
        remaining_s = self._deadline - time.monotonic()
        item: str | LLMError | None = self._faults.too_late()
        if self._thread is None and remaining_s > 0:
            self._endpoint.running.add(self)
            self._thread = threading.Thread(target=self._run, name="assistant-llm", daemon=True)
            self._thread.start()
        if self._thread is not None:
            with contextlib.suppress(queue.Empty):
                item = self._items.get(timeout=max(0.0, remaining_s) + _GRACE_S)
        if isinstance(item, LLMError):
            item.requests = self.requests
            self.fault = self._faults.diagnose(item)
            item.__cause__ = self._faults.without_key(item.__cause__)
            item.__context__ = None
            raise item
        return item

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
            self._endpoint.running.discard(self)
            self._items.put(self._faults.error(LLMUnavailable, "the request broke off", "report it as a bug"))

    async def _answer(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._ask_in_time()
            self._give(self._end())
            self._items.put(None)
        except LLMError as error:
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
            if not self._is_enough:
                raise self._faults.too_late() from error

    async def _ask(self) -> None:
        """Send requests until one is answered or no other may follow: here, one."""
        try:
            await self._request()
        except RetryError as failed:
            raise failed.error from failed.__cause__ or failed.error.__cause__

    async def _request(self) -> None:
        from httpx2 import HTTPError, InvalidURL
        from openai import OpenAIError

        foreign = (OpenAIError, HTTPError, InvalidURL, ExceptionGroup, OSError, ImportError, ValueError)
        self.requests += 1
        try:
            async with self._endpoint.client() as client, await self._send(client) as stream:
                await self._read(stream.response)
        except foreign as error:
            raise self._faults.from_connection(error) from error

    def _give(self, pieces: Iterator[str]) -> None:
        for piece in pieces:
            self._items.put(piece)


class _Chat(_Call):
    """The requests for one answer."""

    def __init__(
        self, endpoint: _Endpoint, messages: Sequence[Mapping[str, str]], deadline: float, max_requests: int
    ) -> None:
        super().__init__(endpoint, deadline)
        self.model = endpoint.config.llm_model or ""
        self.messages = [{name: drop_controls(text) for name, text in each.items()} for each in messages]
        self.completion = Completion(endpoint.faults)
        self._max_requests = max_requests

    @property
    def complete(self) -> bool:
        return self.completion.complete

    @property
    def _is_enough(self) -> bool:
        return bool(self.completion.finish)

    async def _ask(self) -> None:
        waits_s = iter(_BACKOFF_S)
        while True:
            try:
                return await self._request()
            except RetryError as failed:
                wait_s = 0.0 if failed.drop else max(next(waits_s, math.inf), failed.wait_s)
                is_in_time = wait_s <= (self._deadline - time.monotonic()) / 2
                if self.requests >= self._max_requests or not is_in_time:
                    raise failed.error from failed.__cause__ or failed.error.__cause__
                self._endpoint.refused.update({failed.drop} - {""})
            await asyncio.sleep(wait_s)

    def _send(self, client: openai.AsyncOpenAI) -> Awaitable[openai.AsyncStream[Any]]:
        config = self._endpoint.config
        body: dict[str, Any] = {
            "model": self.model,
            "messages": self.messages,
            "temperature": 0,
            config.max_tokens_field: config.answer_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        known = {name: value for name, value in body.items() if name not in self._endpoint.refused}
        return client.chat.completions.create(**known)

    async def _read(self, response: httpx2.Response) -> None:
        import httpx2

        try:
            async with contextlib.aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    self._give(self.completion.feed(chunk))
                    if self.completion.done:
                        return
                    if self.completion.finish:
                        latest = asyncio.get_running_loop().time() + _TAIL_S
                        self._limit.reschedule(min(self._limit.when() or latest, latest))
        except (httpx2.HTTPError, OSError) as error:
            if not self.completion.finish or isinstance(error, httpx2.DecodingError):
                raise self.completion.broken(error) from error

    def _end(self) -> Iterator[str]:
        return self.completion.end()


class _Listing(_Call):
    """The one request for the names of the models."""

    complete = _is_enough = False
    _body = b""

    def _send(self, client: openai.AsyncOpenAI) -> Awaitable[openai.AsyncStream[Any]]:
        from openai import AsyncStream

        return client.get("/models", cast_to=dict, stream=True, stream_cls=AsyncStream[Any])

    async def _read(self, response: httpx2.Response) -> None:
        async with contextlib.aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                self._body += chunk
                if len(self._body) > LIST_LIMIT:
                    found, step = f"a list of models of more than {LIST_LIMIT:,} bytes", "check llm_base_url"
                    raise self._faults.error(LLMUnparsable, found, step)

    def _end(self) -> Iterator[str]:
        yield from read_models(self._body, self._faults)
        self.complete = True


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


class _Mask(logging.Filter):
    """Puts stars in place of the keys in use wherever one of the libraries underneath logs it."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets: set[str] = set()

    def watch(self, secrets: Iterable[str]) -> None:
        """Watch every logger that the libraries have by now, for these secrets too."""
        self._secrets.update(secrets)
        for name in tuple(logging.root.manager.loggerDict):
            if name.partition(".")[0] in _LIBRARIES:
                logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        said = record.getMessage()
        masked = mask(said, tuple(self._secrets))
        if masked != said:
            record.msg, record.args = masked, ()
        return True


_MASK = _Mask()


async def _strip_headers(request: httpx2.Request) -> None:
    for name in set(request.headers) - _SENT_HEADERS:
        del request.headers[name]
