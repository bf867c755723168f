"""Requests to the services that know papers -> sound reply bodies: politely, within limits, kept on disk.

One `Fetcher` serves a run. It keeps each service's interval, tries again where that can help and no longer than its
`Patience`, follows redirects within a service alone, and keeps sound replies in a cache folder, so that a run that was
interrupted asks only for what it has not read. What cannot be read is a `CorpusError` of one line. A key goes into a
header or the body of a request: never into an address, the cache, a log or an error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from assistant.errors import ConfigError, CorpusError
from assistant.sources.live.hosts import SERVICES, Service
from assistant.sources.live.kept import Kept
from assistant.sources.live.wire import REPLY_BYTES, Fault, Fields, Patience, Wire

_SAID_CHARS = 200
"""Shown of what a service says about an error."""
_REDIRECTS = 5
_UNREACHABLE_TRIES = 2
"""Of a host to which no connection comes about: one more try tells a dead network from a short fault."""

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask a service for."""

    service: str
    path: str
    params: tuple[tuple[str, str], ...]
    name: str
    """The source that it is sent for; shown in errors."""
    lasting_s: float
    """How long a kept reply is good."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service said at last."""

    status: int
    """200, or 404 for what it does not have."""
    body: bytes
    fault: str = ""
    """What is still wrong with the body after all tries; empty for a sound one."""


class Fetcher:
    """Asks services on behalf of one run; one request at a time.

    Args:
        hosts: Other addresses for services of `SERVICES`, by name.
        contact: E-mail address that is told to the services, so that they can write instead of blocking.
        keys: API keys by service.
        cache: Folder for replies; None keeps nothing.
        refresh: Ask anew for what the folder holds.
        patience: Limits of time.

    Raises:
        ConfigError: An unknown service, or an address, a contact or a key that cannot be sent.
    """

    def __init__(  # noqa: PLR0913 - settings by name
        self,
        *,
        hosts: Mapping[str, str] | None = None,
        contact: str = "",
        keys: Mapping[str, str] | None = None,
        cache: Path | None = None,
        refresh: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._services = _placed(hosts or {})
        self._keys = {name: key for name, key in (keys or {}).items() if key}
        self._contact = contact
        self._kept = Kept(cache, REPLY_BYTES)
        self._refresh = refresh
        self._patience = patience or Patience()
        self._last: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._lock = threading.Lock()
        _check_known(self._keys)
        if not all(re.fullmatch(r"[\x21-\x7e]+", key) for key in self._keys.values()):
            raise ConfigError("cannot send an API key: it holds characters that no header can carry; check the keys")
        if contact and not re.fullmatch(r"[\w.+-]{1,64}@[\w.-]{1,190}", contact, re.ASCII):
            raise ConfigError(f"cannot send contact {contact!r}: it is no e-mail address; give one, or none")
        self._wires = {
            name: Wire(service, self._keys.get(name, ""), contact, self._patience)
            for name, service in self._services.items()
        }

    def host(self, service: str) -> str:
        """Return the name of the host that stands for a service."""
        return urlsplit(self._services[service].url).netloc.rpartition("@")[2]

    def get(self, request: Request, check: Callable[[bytes], str]) -> Reply:
        """Return a sound reply, from the cache or from the service; or the last one, with its fault.

        Args:
            request: What to ask for.
            check: Tells what is wrong with a body, an empty text for a sound one; the rest is asked for again.

        Raises:
            CorpusError: The service cannot be reached, refuses, or fails again and again.
        """
        with self._lock:
            address = self._address(request)
            kept = None if self._refresh else self._kept.get(address, request.lasting_s)
            if kept is not None and not check(kept):
                return Reply(200, kept)
            reply = self._ask(request, check)
            if reply.status == 200 and not reply.fault:
                self._kept.put(address, reply.body)
            return reply

    def close(self) -> None:
        """Close all connections."""
        for wire in self._wires.values():
            wire.close()

    def _ask(self, request: Request, check: Callable[[bytes], str]) -> Reply:
        if found := self._failed.get(request.service):
            raise self._error(request, found, "it failed before in this run")
        patience, end, n_tried = self._patience, time.monotonic() + self._patience.deadline_s, 0
        while True:
            n_tried += 1
            try:
                reply = self._send(request)
                if reply.status != 200 or not (fault := check(reply.body)):
                    return reply
                reply, failed = replace(reply, fault=fault), None
            except Fault as error:
                reply, failed = None, error
            wait_s = max(
                patience.backoff_s * 2 ** (n_tried - 1) * _random.uniform(0.5, 1.5), failed.wait_s if failed else 0
            )
            limit = _UNREACHABLE_TRIES if failed and failed.unreachable else patience.tries
            if n_tried >= limit or time.monotonic() + wait_s > end:
                if reply:
                    return reply
                assert failed is not None
                self._failed[request.service] = failed.kind
                raise self._error(request, failed.kind, failed.reason, n_tried) from failed
            _log.info("asking %s again in %.1f s", self.host(request.service), wait_s)
            time.sleep(wait_s)

    def _error(self, request: Request, kind: str, reason: str, n_tried: int = 0) -> CorpusError:
        host = self.host(request.service)
        reason = self._masked(reason)
        if kind == "reach":
            step = "check the network, or give a downloaded file"
            return CorpusError(f"cannot reach {host} for {request.name}: {reason}; {step}")
        tried = f" ({n_tried} tries)" if n_tried > 1 else ""
        step = "run it again later, it goes on where it was"
        return CorpusError(f"cannot read {request.name} from {host}: {reason}{tried}; {step}")

    def _send(self, request: Request) -> Reply:
        """Send a request once, following redirects within the service.

        Raises:
            Fault: Another try may help.
            CorpusError: None will.
        """
        service = self._services[request.service]
        url = service.url.rstrip("/") + request.path
        fields: Fields = [*request.params]
        if service.contact_field and self._contact:
            fields.append((service.contact_field, self._contact))

        def begun() -> None:
            self._last[request.service] = time.monotonic()
            self._kept.mark_asked(request.service)

        for _ in range(_REDIRECTS):
            self._pace(request.service)
            status, headers, body = self._wires[request.service].send(url, fields, begun)
            if status not in {301, 302, 303, 307, 308}:
                return self._judge(request, status, headers, body)
            url = urljoin(url, headers.get("location", ""))
            fields = [] if not service.key_field else fields
            _check_redirect(request, service, url)
        raise CorpusError(f"cannot read {request.name}: {self.host(request.service)} redirects in a circle; try later")

    def _judge(self, request: Request, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
        if status in {200, 404}:
            return Reply(status, body)
        if status in {408, 425, 429} or status >= 500:
            wait_s = _read_wait(headers.get("retry-after", ""))
            asked = f" and asks to wait {wait_s:.0f} s" if wait_s > self._patience.deadline_s else ""
            raise Fault(f"it answers {status}{asked}", wait_s=wait_s)
        said = self._masked(_said(body))
        step = "check the API key" if status in {401, 403} and request.service in self._keys else "check the name"
        found = f"{self.host(request.service)} refuses it with {status}{said and f' ({said})'}"
        raise CorpusError(f"cannot read {request.name}: {found}; {step}")

    def _pace(self, name: str) -> None:
        """Wait until the service may be asked again, by this process or another one with the same cache."""
        service = self._services[name]
        keyed = service.keyed_interval_s if name in self._keys else None
        interval_s = self._patience.pace * (service.interval_s if keyed is None else keyed)
        since_s = min(time.monotonic() - self._last.get(name, -interval_s), self._kept.since_asked(name))
        if since_s < interval_s:
            time.sleep(min(interval_s - since_s, interval_s))

    def _masked(self, text: str) -> str:
        for key in self._keys.values():
            text = text.replace(key, "***")
        return text

    def _address(self, request: Request) -> str:
        """Return what a reply is kept under: the address that is asked, without key and contact."""
        return f"{self._services[request.service].url}{request.path}?{urlencode(request.params)}"


def _check_known(names: Mapping[str, str]) -> None:
    for name in names:
        if name not in SERVICES:
            raise ConfigError(f"unknown service {name!r}; the names are {', '.join(SERVICES)}")


def _placed(hosts: Mapping[str, str]) -> dict[str, Service]:
    """Return the services with these addresses in place of their own."""
    _check_known(hosts)
    for name, url in hosts.items():
        if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", url):
            shown = re.sub(r"//[^/@\s]+@", "//***@", url)
            raise ConfigError(f"the address of {name} is {shown!r}; give an http or https address")
    return {name: replace(each, url=hosts.get(name, each.url)) for name, each in SERVICES.items()}


def _check_redirect(request: Request, service: Service, url: str) -> None:
    here, there = urlsplit(service.url), urlsplit(url)
    if there.netloc != here.netloc or there.scheme not in {here.scheme, "https"}:
        found = f"{here.netloc.rpartition('@')[2]} redirects to {there.netloc[:100] or 'nowhere'}"
        raise CorpusError(f"cannot read {request.name}: {found}, which is not followed; check the name or the network")


def _read_wait(asked: str) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3), 0 if it cannot be read."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(asked))
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return 0.0


def _said(body: bytes) -> str:
    """Return what an error body says, in one short line: JSON, an Atom entry's summary, or nothing of a web page."""
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        entry = re.search(r"<summary[^>]{0,200}>([^<]{1,1000})</summary>", text)
        said = entry[1] if entry else "" if text.lstrip().startswith("<") else text
    else:
        named = found if isinstance(found, dict) else {}
        parts = [named.get(name) for name in ("message", "error", "detail")]
        said = next((part for part in parts if isinstance(part, str)), "")
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return said[:_SAID_CHARS]
