"""One request over the wire -> status, headers and body, within limits of time and size, whatever the other side does.

The library underneath bounds each read, but neither the whole nor the resolution of a name: a request runs in a thread
that is left behind when its time is up. What goes wrong is a `Fault`. What the library logs shows no key.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.metadata
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.errors import CorpusError
from assistant.sources.live.hosts import Service

if TYPE_CHECKING:
    import httpx2

REPLY_BYTES = 64_000_000
"""A longer reply is refused; the longest known ones, a thousand records, have a tenth of that."""
_ERROR_BYTES = 64_000
"""Read of the body of an error status."""
_LIBRARIES = {"httpx2", "httpcore2"}
"""They log what a service sends, its headers at DEBUG: it may be a key."""

Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, with its repetitions."""

    tries: int = 4
    backoff_s: float = 2.0
    """Least wait before the second try; it doubles, and varies by half."""
    deadline_s: float = 180.0
    """No try begins later than this after the first."""
    connect_s: float = 5.0
    """For a connection to come about, the name's resolution included."""
    reply_s: float = 60.0
    """For one whole reply."""
    pace: float = 1.0
    """How much of the services' intervals is kept: 0 is for a mirror of one's own."""


class Fault(Exception):
    """A request failed in a way that another try may mend."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.unreachable = unreachable
        self.kind = "reach" if unreachable else "read"


class Wire:
    """The connections to one service.

    Args:
        service: Where it is, and how it takes a key.
        key: The key, or nothing.
        contact: E-mail address for the User-Agent, or nothing.
        patience: Limits of time.
    """

    def __init__(self, service: Service, key: str, contact: str, patience: Patience) -> None:
        self._service, self._key, self._contact, self._patience = service, key, contact, patience
        self._client: httpx2.Client | None = None

    def close(self) -> None:
        """Close all connections."""
        if self._client:
            self._client.close()
        self._client = None

    def send(self, url: str, fields: Fields, begun: Callable[[], None]) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request, follow nothing, and read the reply.

        Args:
            url: Where to.
            fields: Parameters; the key is added where a form carries it.
            begun: Called when the service hears of it, or does not.

        Raises:
            Fault: Another try may help.
            CorpusError: The reply is longer than `REPLY_BYTES`.
        """
        import httpx2

        client, is_form = self._open(), bool(self._service.key_field)
        if is_form and self._key:
            fields = [*fields, (self._service.key_field, self._key)]
        connected = threading.Event()
        outcome: concurrent.futures.Future[tuple[int, Mapping[str, str], bytes]] = concurrent.futures.Future()

        def trace(event: str, info: Mapping[str, object]) -> None:  # noqa: ARG001 - so it is called
            if event.endswith("send_request_headers.started"):
                connected.set()

        def run() -> None:
            try:
                made = client.build_request(
                    "POST" if is_form else "GET",
                    url,
                    params=None if is_form or not fields else tuple(fields),
                    data=dict(fields) if is_form else None,
                    extensions={"trace": trace},
                )
                outcome.set_result(_read(client, made))
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                outcome.set_exception(error)
            finally:
                connected.set()

        threading.Thread(target=run, name="assistant-fetch", daemon=True).start()
        is_connected = connected.wait(self._patience.connect_s + 0.5)
        begun()
        if not is_connected:
            self._drop()
            raise Fault(f"no connection within {self._patience.connect_s:g} s", unreachable=True)
        try:
            return outcome.result(timeout=self._patience.reply_s)
        except (concurrent.futures.TimeoutError, httpx2.ReadTimeout) as error:
            self._drop()
            raise Fault(f"no whole reply within {self._patience.reply_s:g} s") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise Fault(_reason(error), unreachable=True) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise Fault(f"the reply broke off ({_reason(error)})") from error

    def _open(self) -> httpx2.Client:
        """Return the client; proxies and certificates are those of the environment."""
        if self._client is None:
            import httpx2

            contact = f" (mailto:{self._contact})" if self._contact else ""
            headers = {"User-Agent": f"paper-assistant/{_version()}{contact}"}
            if self._service.key_header and self._key:
                field, _, form = self._service.key_header.partition(": ")
                headers[field] = form.format(self._key)
            if self._key:
                _MASK.watch({self._key})
            self._client = httpx2.Client(
                headers=headers,
                timeout=httpx2.Timeout(self._patience.reply_s, connect=self._patience.connect_s),
                follow_redirects=False,
                trust_env=not re.match(r"https?://(localhost|127\.|\[::1\])", self._service.url),
            )
        return self._client

    def _drop(self) -> None:
        """Close the connections of a thread that is stuck: its read ends with an error."""
        if self._client:
            threading.Thread(target=self._client.close, daemon=True).start()
        self._client = None


class _Mask(logging.Filter):
    """Puts stars in place of the keys in use wherever one of the libraries underneath logs it."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: set[str] = set()

    def watch(self, keys: Iterable[str]) -> None:
        """Watch every logger that the libraries have by now, for these keys too."""
        self._keys.update(keys)
        for name in tuple(logging.root.manager.loggerDict):
            if name.partition(".")[0] in _LIBRARIES:
                logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        said = masked = record.getMessage()
        for key in self._keys:
            masked = masked.replace(key, "***")
        if masked != said:
            record.msg, record.args = masked, ()
        return True


_MASK = _Mask()


def _read(client: httpx2.Client, request: httpx2.Request) -> tuple[int, Mapping[str, str], bytes]:
    """Send a request and read its reply up to the limit."""
    response = client.send(request, stream=True)
    with contextlib.closing(response):
        body, limit = bytearray(), REPLY_BYTES if response.status_code == 200 else _ERROR_BYTES
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > limit:
                if response.status_code != 200:
                    break
                raise CorpusError(
                    f"cannot read a reply of {request.url.host}: it has more than {limit:,} bytes; ask for less"
                )
        return response.status_code, response.headers, bytes(body)


def _reason(error: BaseException) -> str:
    """Return what the deepest cause says."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _version() -> str:
    try:
        return importlib.metadata.version("paper-assistant")
    except importlib.metadata.PackageNotFoundError:
        return "0"
