"""The bytes of one response -> text pieces, and the errors that say what an endpoint did wrong.

In: the body of a chat completion, cut anywhere: server-sent events, or one JSON object. Out: the text it completes,
without control characters and without a model's thoughts; at the end, why it ended and what it cost. Refused, as an
`LLMError`: what is no chat completion, has no text, was cut, or exceeds the limits below.

`Faults` makes these errors, and those for a status, a broken connection and a deadline; none shows a key. `read_models`
reads the other response that an endpoint gives. No I/O here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import ssl
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

from assistant.errors import LLMError, LLMRejected, LLMTimeout, LLMUnavailable, LLMUnparsable

TEXT_LIMIT = 200_000
"""Characters of text read from one answer."""
ERROR_LIMIT = 64_000
"""Bytes worth reading of the body of an error status."""
LIST_LIMIT = 2_000_000
"""Bytes read of a list of models; the longest known ones have half of that."""
_EVENT_LIMIT = 4_000_000
"""Bytes held at a time: one event of a stream, or a whole answer that is not streamed."""
_RESPONSE_LIMIT = 64_000_000
"""Bytes read in all; a stream spends about 300 on each token."""
_FOUND_LIMIT = 300
"""Characters of what was found that an error shows."""
_SECRET_CHARS = 16
"""Least length of a key that is looked for in answers: a shorter one is a stand-in, such as `test`, and a word."""
_NAMES, _NAME_CHARS = 2_000, 200
"""Most models that are listed, and the longest name of one."""
_OPEN, _CLOSE = "<think>", "</think>"
"""Between them stand a model's thoughts. Where a server puts the first into the prompt, the text begins within them."""
_ALOUD = (
    *("okay", "ok,", "ok so", "alright", "hmm", "got it,", "let me ", "let's ", "let’s ", "thinking process"),
    *("the user ask", "the user is ask", "the user want", "the user's ", "so the user", "so, the user"),
    *("the question ask", "the question is", "we are asked", "we are given", "we need to ", "we have to "),
    *("first, i ", "first, let", "i need to ", "i have to ", "i should ", "i'll ", "好的", "嗯", "首先，"),
)
"""So begin thoughts, and hardly an answer about papers: nothing of it is shown before its end or `_CLOSE` is there."""
_LENGTH = {"length", "max_tokens"}
"""Reasons for an end that cut an answer."""

_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TOO_LONG = re.compile(
    r"context.?(length|window|size|limit)|maximum (number of )?(input )?tokens|too many (input )?tokens"
    r"|(prompt|input|request|message)s?\b.{0,60}\btoo (long|large)|reduce the length"
    r"|max_new_tokens\W+must be <=|must have less than \d+ tokens",
    re.IGNORECASE | re.DOTALL,
)
_SERVER_FAULT = re.compile(r"\b(429|5\d\d)\b|server|internal|overload|unavailable|rate.?limit|timeout", re.IGNORECASE)
_REFUSAL = re.compile(r"\b4\d\d\b|invalid|filter|polic|not.?found|auth|permission|quota|context|exceed", re.IGNORECASE)
_OPTIONAL = ("stream_options", "temperature")
"""Fields that a request can do without, where an endpoint refuses them: reasoning models have one temperature."""
_NEXT_STEPS = {
    401: "check llm_api_key",
    403: "check llm_api_key",
    404: "check llm_base_url (with its /v1) and llm_model",
    413: "give less evidence (evidence_tokens)",
}


class Completion:
    """One response, bytes in and text pieces out; refuses what is no chat completion."""

    def __init__(self, faults: Faults) -> None:
        self.finish = ""
        """The reason that the endpoint gives for its end."""
        self.done = False
        """True after `[DONE]`: nothing more is read."""
        self.complete = False
        """True once the answer has ended otherwise than at its length limit or within its thoughts."""
        self.is_empty = False
        """True once it has ended without a text."""
        self.usage: tuple[int, int] | None = None
        """Tokens of prompt and answer, if reported."""
        self.shown: list[str] = []
        """All pieces so far."""
        self.is_json = False
        """The response is one JSON object: the endpoint does not stream."""
        self.n_chunks = 0
        """Those that are of a chat completion."""
        self._faults = faults
        self._secrets = faults.lasting
        self._n_bytes = self._n_chars = 0
        self._buffer = b""
        self._data = bytearray()
        self._is_page = False
        self._tail = self._held = self._last = ""
        self._stage: Literal["start", "aloud", "think", "text"] = "start"

    @property
    def is_cut(self) -> bool:
        """It ended at its length limit."""
        return self.finish in _LENGTH

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Read the next bytes; yield the text that they complete."""
        if not self._n_bytes:
            chunk = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
            self.is_json, self._is_page = chunk.startswith(b"{"), chunk.startswith(b"<")
        self._n_bytes += len(chunk)
        self._buffer += chunk
        if not self.is_json:
            lines = self._buffer.splitlines(keepends=True)
            self._buffer = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            for line in lines:
                yield from self._read_line(line.rstrip(b"\r\n"))
        if max(len(self._buffer), len(self._data)) > _EVENT_LIMIT or self._n_bytes > _RESPONSE_LIMIT:
            raise self._unreadable(f"more than {_EVENT_LIMIT:,} bytes at once or {_RESPONSE_LIMIT:,} in all")

    def end(self) -> Iterator[str]:
        """Read what is left when nothing more comes; refuse a cut or empty answer."""
        if self.is_json:
            yield from self._read_chunk(self._parse(self._buffer))
            self.done = True
        with contextlib.suppress(LLMUnparsable):  # half an event is a cut
            yield from self._read_line(self._buffer)
            yield from self._read_line(b"")
        if not self.n_chunks:
            raise self._unreadable(self._what())
        if not self.done and not self.finish:
            raise self._cut("it ended early")
        yield from self._show("", final=True)
        self.is_empty = not self.shown
        if self.is_empty:
            found = f"an answer without text (finish_reason {self.finish or None!r})"
            raise self._faults.error(LLMUnparsable, found, "raise answer_tokens, or try another model")
        self.complete = not self.is_cut and self._stage != "think"

    def broken(self, error: Exception) -> LLMError:
        """Make the error for a connection that failed within the response."""
        import httpx2

        if isinstance(error, httpx2.DecodingError):
            return self._unreadable(f"damaged compression ({error})")
        return self._cut(_reason(error))

    def _cut(self, how: str) -> LLMError:
        found = f"the response was cut after {self._n_chars} characters: {how}"
        return self._faults.error(LLMUnavailable, found, "try again, and see the endpoint's log")

    def _unreadable(self, found: str) -> LLMError:
        step = "check llm_base_url (with its /v1), and that OpenAI's chat completions are spoken there"
        return self._faults.error(LLMUnparsable, f"unreadable: {found}", step)

    def _what(self) -> str:
        """Tell what came, if it is nothing of a chat completion."""
        if self.is_json:
            text = self._faults.clean(self._buffer[:ERROR_LIMIT].decode(errors="replace"))
            return f"no chat completion, but {text[: _safe_end(text, self._faults.secrets)]}"
        found = "a web page" if self._is_page else "not one piece of a chat completion"
        return found if self._n_bytes else "nothing"

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
            raise self._unreadable(f"broken JSON ({error})") from error
        if not isinstance(found, dict):
            raise self._unreadable(f"JSON of type {type(found).__name__}")
        if found.get("error") or "error" in (found.get("object"), found.get("type")):
            raise self._faults.from_object(data)
        return found

    def _read_chunk(self, found: dict[str, Any]) -> Iterator[str]:
        """Read a chunk of a stream, whose text is in `delta`, or a whole answer, whose text is in `message`."""
        self._read_usage(found.get("usage"))
        self.n_chunks += "choices" in found
        choices = self._expect(found.get("choices"), list, "choices")
        choice = self._expect(choices[0] if choices else None, dict, "choices[0]")
        message = self._expect(choice.get("delta") or choice.get("message"), dict, "delta or message")
        if message.get("tool_calls") or message.get("function_call"):
            raise self._unreadable("a call of a tool, though none was offered")
        yield from self._show(self._join(message.get("content")))
        reason = self._expect(choice.get("finish_reason"), str, "finish_reason")
        if reason == "content_filter":
            raise self._faults.error(LLMRejected, "finish_reason content_filter", "put the question in other words")
        self.finish = reason or self.finish

    def _expect(self, value: Any, kind: type[Any], name: str) -> Any:
        """Return `value` if it is of that type, and an empty one for null."""
        if value is not None and not isinstance(value, kind):
            raise self._unreadable(f"{name} of type {type(value).__name__}")
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

    def _show(self, text: str, *, final: bool = False) -> Iterator[str]:
        self._n_chars += len(text)
        if self._n_chars > TEXT_LIMIT:
            raise self._unreadable(f"more than {TEXT_LIMIT:,} characters")
        text = self._drop_thoughts(self._drop_keys(drop_controls(text), final=final), final=final)
        if text:
            self.shown.append(text)
            yield text

    def _drop_keys(self, text: str, *, final: bool) -> str:
        """Return the text up to where a key may begin, which only the next text can tell."""
        text = mask(self._tail + text, self._secrets)
        cut = len(text) if final else _safe_end(text, self._secrets)
        self._tail = text[cut:]
        return text[:cut]

    def _drop_thoughts(self, text: str, *, final: bool) -> str:
        """Return what may be shown of the next text: no blank space at the beginning, and no thoughts.

        Thoughts stand between two tags, where a sentence may begin, or before the second tag alone. The latter are
        known by how they begin, so what begins like them is held back until that tag comes, or the end.
        """
        self._held += text
        shown = ""
        if self._stage == "start":
            self._held = self._held.lstrip()
            begun = self._held.casefold()
            if begun.startswith(_ALOUD):
                self._stage = "aloud"
            elif final or not any(each.startswith(begun) for each in _ALOUD):
                self._stage = "text"
        if final and self._stage == "aloud" and not self.is_cut and _CLOSE not in self._held:
            self._stage = "text"
        while self._stage in {"aloud", "think", "text"}:
            tag = _OPEN if self._stage == "text" else _CLOSE
            before, found, rest = self._held.partition(tag)
            if not found:
                cut = len(before) if final else _safe_end(before, [tag])
                shown += self._pass(before[:cut]) if self._stage == "text" else ""
                self._held = before if self._stage == "aloud" else before[cut:]
                break
            if self._stage != "text":
                self._stage = "text"
            elif self._may_think(before):
                shown += self._pass(before)
                self._stage = "think"
            else:
                shown += self._pass(before + tag)
            self._held = rest
        return shown

    def _pass(self, text: str) -> str:
        """Let text through, but no blank space at the beginning; note what it ends in, blank space on a line aside."""
        text = text if self._last else text.lstrip()
        self._last = text.rstrip(" \t")[-1:] or self._last
        return text

    def _may_think(self, before: str) -> bool:
        """Tell whether a tag behind this text opens thoughts: it stands at the beginning, or a sentence ends there."""
        return (before.rstrip(" \t")[-1:] or self._last) in {"", *"\n.!?…。！？]"}


def read_models(raw: bytes, faults: Faults) -> Iterator[str]:
    """Iterate the names of the models in a list of them; names that nobody could type are left out.

    Raises:
        LLMUnparsable: It is no list of models.
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    listed = found.get("data", found.get("models")) if isinstance(found, dict) else found
    if not isinstance(listed, list):
        raise faults.error(LLMUnparsable, "no list of models", "check llm_base_url (with its /v1)")
    names = (each.get("id") or each.get("name") for each in listed if isinstance(each, dict))
    plain = (name for name in names if isinstance(name, str) and name.isprintable() and len(name) <= _NAME_CHARS)
    yield from dict.fromkeys(mask(name, faults.lasting) for name in itertools.islice(plain, _NAMES))


@dataclass(eq=False)
class RetryError(Exception):
    """A request failed before its answer began, in a way that another one may mend."""

    error: LLMError
    wait_s: float = 0.0
    """Wait that the endpoint asks for."""
    drop: str = ""
    """Field to leave out of the next request, which then need not wait."""


@dataclass(eq=False)
class StatusError(Exception):
    """The endpoint's own word against a request: the cause of the error that tells it."""

    code: int
    """The status; 200 for an error that came in place of an answer."""
    said: str
    """Its message and its words for machines, fit to be shown."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is behind an error, as far as it can be told."""

    kind: Literal["bad_address", "unknown_host", "refused", "tls", "timeout", "status", "other"]
    said: str = ""
    """The system's words, or the endpoint's, fit to be shown."""
    code: int = 0
    """Of a status."""


@dataclass(frozen=True)
class Faults:
    """Makes the errors of one endpoint; whatever it echoes, no message shows its key."""

    name: str
    """The endpoint's address, as a message may show it."""
    secrets: frozenset[str] = frozenset()
    """What no message may show; none is empty."""

    @property
    def lasting(self) -> list[str]:
        """The secrets that are no mere stand-ins, so that text from an endpoint may be searched for them."""
        return [each for each in self.secrets if len(each) >= _SECRET_CHARS]

    def clean(self, text: str) -> str:
        """Return a text as a message may show it: on one line, without secrets, shortened."""
        text = " ".join("".join(each for each in text if each.isprintable() or each.isspace()).split())
        text = mask(text, self.secrets)
        return text if len(text) <= _FOUND_LIMIT else f"{text[: _FOUND_LIMIT - 1]}…"

    def error(self, kind: type[LLMError], found: str, step: str, cause: Exception | None = None) -> LLMError:
        """Make an error that names the endpoint, what was found and what to do."""
        error = kind(f"no answer from the LLM at {self.name}: {self.clean(found)}; {step}")
        error.__cause__ = cause
        return error

    def too_late(self) -> LLMError:
        """Make the error for a deadline that has passed."""
        return self.error(LLMTimeout, "the deadline has passed", "raise llm_timeout_s, or take a faster model")

    def from_status(self, status: int, headers: Mapping[str, str], body: bytes) -> LLMError | RetryError:
        """Make the error for a response of any status but success."""
        message, words = _read_error(body)
        found = f"status {status}, {message}" if message else f"status {status}"
        cause = StatusError(status, self.clean(f"{words} {message}"))
        is_too_long = _TOO_LONG.search(f"{message} {words}") is not None
        if status >= 500 and is_too_long:  # the same again would not mend it
            error = self.error(LLMUnavailable, found, _NEXT_STEPS[413], cause)
            error.too_long = True
            return error
        if status == 429 or status >= 500:
            asked = headers.get("retry-after", "")
            found = f"Retry-After {asked}, {found}" if asked else found
            return RetryError(self.error(LLMUnavailable, found, "try again later", cause), wait_s=_read_wait(asked))
        if status < 400:
            found = f"status {status}, a redirect to {headers.get('location')}, which is not followed"
            return self.error(LLMRejected, found, "set llm_base_url to the address that answers", cause)
        error = self.error(LLMRejected, found, _NEXT_STEPS.get(status, "check llm_model and max_tokens_field"), cause)
        is_malformed = status in {400, 422}
        if is_malformed and (refused := [field for field in _OPTIONAL if field in message]):
            return RetryError(error, drop=refused[0])
        error.too_long = status == 413 or (is_malformed and is_too_long)
        return error

    def from_object(self, raw: bytes) -> LLMError:
        """Make the error for an error object that came with status 200."""
        message, words = _read_error(raw)
        is_too_long = _TOO_LONG.search(f"{message} {words}") is not None
        kind: type[LLMError] = LLMRejected if is_too_long or _REFUSAL.search(words) else LLMUnparsable
        if _SERVER_FAULT.search(words):
            kind = LLMUnavailable
        said = f"{words} {message}"
        cause = StatusError(200, self.clean(said))
        error = self.error(kind, f"an error instead of an answer: {said}", "see the endpoint's log", cause)
        error.too_long = is_too_long
        return error

    def from_connection(self, error: Exception) -> LLMError | RetryError:
        """Translate what ended a request before its answer; only a broken connection is worth another try."""
        import httpx2

        *_, root = _causes(error)
        if isinstance(error.__cause__, httpx2.RemoteProtocolError) and type(root).__module__.startswith("h11"):
            return self.error(LLMUnparsable, f"it does not speak HTTP: {root}", "check llm_base_url")
        made = self.error(LLMUnavailable, _reason(error), "check that it runs, and llm_base_url")
        broken = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
        return RetryError(made) if isinstance(error.__cause__, broken) else made

    def diagnose(self, error: LLMError) -> Fault:
        """Tell what is behind an error by the causes it is raised from."""
        if isinstance(error, LLMTimeout):  # before an import, which another thread may be stuck in
            return Fault("timeout")
        import httpx2

        *_, root = causes = list(_causes(error))
        said = root.verify_message if isinstance(root, ssl.SSLCertVerificationError) else _reason(root)
        for cause in causes:
            if isinstance(cause, StatusError):
                return Fault("status", cause.said, cause.code)
            if isinstance(cause, ssl.SSLError):
                return Fault("tls", self.clean(said))
            if isinstance(cause, socket.gaierror):
                return Fault("unknown_host", self.clean(str(cause.strerror)))
        is_unsent = isinstance(error, LLMUnavailable)
        if is_unsent and isinstance(root, httpx2.InvalidURL | httpx2.UnsupportedProtocol | ValueError | OverflowError):
            return Fault("bad_address", self.clean(said))
        is_refused = any(isinstance(cause, httpx2.ConnectError) for cause in causes)
        return Fault("refused" if is_refused else "other", self.clean(said))

    def without_key(self, error: BaseException | None) -> BaseException | None:
        """Return an error that is fit to be shown as a cause, None in place of one that shows the key."""
        if error is None:
            return None
        shown = "".join([*traceback.format_exception(error), *map(repr, _causes(error))])
        return None if any(secret in shown for secret in self.secrets) else error


def mask(text: str, secrets: Iterable[str]) -> str:
    """Put stars in place of each secret."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _safe_end(text: str, words: Iterable[str]) -> int:
    """Return up to where a text holds no beginning of one of the words that only the next text can complete."""
    starts = (len(text) - n for word in words for n in range(1, len(word)) if text.endswith(word[:n]))
    return min(starts, default=len(text))


def drop_controls(text: str) -> str:
    """Drop control characters but newline and tab, and lone surrogates, which no JSON encoder takes."""
    return _UNWANTED.sub("", text)


def _reason(error: BaseException) -> str:
    """Return what the deepest cause says; the system's words where asyncio names only the call that failed."""
    *_, root = _causes(error)
    if (type(root) is OSError or isinstance(root, ConnectionError | TimeoutError)) and root.errno:
        return os.strerror(root.errno)
    return str(root) or type(root).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Iterate an error and what led to it, the deepest last; of several at once, the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        # The transport raises "from None" on its way, so the context counts as well.
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__


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
    with contextlib.suppress(ValueError, OverflowError):
        return parsedate_to_datetime(asked).timestamp() - time.time()
    return 0.0
