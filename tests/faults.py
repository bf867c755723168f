"""Every way in which an endpoint may fail a question, as one list, and what is promised of each.

Each mode is asked a question through the public door, over the built-in sample library, with real sockets on 127.0.0.1.
`python -m tests.faults` (or `make faults`) runs them one by one and prints the table; exit 1 if a promise is broken.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest import mock

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))  # where pytest finds them, too

import endpoint as server
from endpoint import Endpoint, Reply, Script, answer, chunk, completion, error, event, raw, status, stream, wire

from assistant import Answer, Assistant, Config

QUESTION = "What does VOLO reach on ImageNet?"
SAID = "VOLO reaches 87.1% on ImageNet [1]."
"""What an endpoint answers that gets so far."""
REST = "The rest of this sentence never"
"""What may stand behind it, and is shown to nobody."""
KEY = "sk-very-secret-0123456789"
SLACK_S = 2.0
"""How long after its deadline a question may end."""
GROWTH_MB = 100.0
"""How much memory a question may take at most."""
LINGER_S = 1.5
"""How long one waits for requests that should not come: longer than any pause between two requests."""

# --- Replies ----------------------------------------------------------------------------------------------------------


def cut_after(*pieces: bytes, **headers: str) -> Reply:
    return raw(pieces, headers={name.replace("_", "-"): value for name, value in headers.items()})


def reset_after(*pieces: bytes) -> Reply:
    return Reply(raw(pieces).wire, then="reset", delay_s=0.05)


def sse(data: bytes, before: bytes = event(chunk("Some text. "))) -> Reply:
    return raw([before, event(data), event(b"[DONE]")])


def choices(value: object) -> Reply:
    return stream({**chunk(), "choices": value})


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def retry_after(asked: str) -> Reply:
    return status(429, {"error": {"message": "slow down"}}, headers={"Retry-After": asked})


DEEP = b"[" * 100_000 + b"]" * 100_000
HALF = event(chunk("Half an "))
SHOWN = event(chunk(f"{SAID} {REST}"))
OK = answer(SAID)
_MB = b"x" * 1_000_000
_TOO_LONG = error(400, "This model's maximum context length is 4096 tokens.", code="context_length_exceeded")
_NO_OPTIONS = error(400, "Unrecognized request argument supplied: stream_options")
_BUSY = {"error": {"message": "x", "code": 503}}
_PARTS = [{"type": "thinking", "thinking": []}, {"type": "text", "text": SAID[:9]}, {"type": "text", "text": SAID[9:]}]
_TOOL = {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}

# --- The modes --------------------------------------------------------------------------------------------------------


def _refuses_options(body: dict[str, Any]) -> Reply:
    return _NO_OPTIONS if "stream_options" in body else OK


def _refuses_options_and_long_prompts(body: dict[str, Any]) -> Reply:
    """With all of its evidence the prompt has about 6,800 characters."""
    is_long = len(body["messages"][-1]["content"]) > 5_000
    return _NO_OPTIONS if "stream_options" in body else _TOO_LONG if is_long else OK


_SCRIPTS: dict[str, dict[str, Script]] = {
    "llm_timeout": {
        "no answer": server.hang(),
        "half a status line": wire(b"HTTP/1.1 20", then="hang"),
        "headers, a byte a second": server.drip(delay_s=1.0),
        "headers without end": server.never_ends(headers={"X-Pad": "1\r\nX-More: 2"}, piece=b": \n"),
        "interim responses without end": Reply(
            lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), delay_s=0.001
        ),
        "headers, then nothing": raw(hang=True),
        "text, then nothing": raw([HALF], hang=True),
        "half a JSON answer, then nothing": raw(b'{"choices": [', "application/json", hang=True),
        "text, a byte a second": raw(one_by_one(b"".join(answer("slow " * 99).wire())), delay_s=1.0),
        "comments to keep it alive": server.never_ends(b": keep-alive\n\n"),
        "empty lines to keep it alive": server.never_ends(b"\n"),
        "empty lines, as fast as they go": server.never_ends(b"\n" * 1_000, delay_s=0),
        "chunks without text": server.never_ends(event(chunk({"reasoning_content": "hm"}))),
        "tokens without end": server.never_ends(),
    },
    "llm_timeout after text": {
        "shown text, then nothing": raw([SHOWN], hang=True),
        "shown text, then comments": raw([SHOWN, *[b": ping\n\n"] * 9_999], delay_s=0.01),
        "cited sentences without end": server.never_ends(event(chunk(f"{SAID} "))),
    },
    "llm_unavailable": {
        "no answer, connection closed": wire(),
        "connection reset": server.reset(),
        "500": error(500, "boom"),
        "500, an empty body": status(500),
        "500, a body that never comes": raw(code=500, headers={"Content-Length": "9"}, hang=True),
        "500, a body without end": server.never_ends(b"x" * 10_000, delay_s=0, code=500),
        "502, a web page": server.html(502),
        "503": error(503, "loading model"),
        "429": error(429, "slow down"),
        "429, Retry-After 3600": retry_after("3600"),
        "429, Retry-After 1e400": retry_after("1e400"),
        "429, Retry-After in the year 9999": retry_after("Fri, 31 Dec 9999 23:59:59 GMT"),
        "stream ends early": stream(chunk("Half an "), done=False),
        "stream ends in an event": raw([HALF, b'data: {"choices": [{"delta": {"con']),
        "stream cut by its length": cut_after(HALF, Content_Length="99999"),
        "stream cut in its chunks": cut_after(b"4\r\n: a\n", Transfer_Encoding="chunked"),
        "stream reset": reset_after(HALF),
        "JSON answer cut": cut_after(b'{"choices": [', Content_Length="99999"),
        "server error in the stream": stream({"error": {"message": "x", "type": "server_error"}}),
        "overload instead of a stream": status(200, _BUSY),
    },
    "llm_unavailable after text": {
        "shown text, then cut": raw([SHOWN]),
        "shown text, then reset": reset_after(SHOWN),
        "shown text, then an overload": stream(chunk(f"{SAID} {REST}"), _BUSY),
    },
    "llm_rejected": {
        "400": error(400, "no such thing"),
        "400 in words": status(400, {"error": "no such thing"}),
        "400, not JSON": status(400, b"no such thing"),
        "401 with the key": error(401, f"Incorrect API key provided: {KEY}"),
        "403": error(403, "not for you"),
        "404, a web page": server.html(404),
        "408": status(408),
        "422": status(422, {"detail": [{"msg": "field required"}]}),
        "413, always": status(413),
        "context too long, always": _TOO_LONG,
        "redirect on the same host": status(307, headers={"Location": "/v2/chat/completions"}),
        "redirect to another host": status(308, headers={"Location": "http://other.invalid/v1/chat/completions"}),
        "redirect to itself": status(302, headers={"Location": "/v1/chat/completions"}),
        "redirect that shows the key": status(302, headers={"Location": f"/{KEY}", "X-Echo": f"Bearer {KEY}"}),
        "content filter": answer("Half an ", finish="content_filter"),
        "content filter, JSON": completion(None, finish="content_filter"),
        "refusal in the stream": stream({"error": {"message": "x", "type": "invalid_request_error"}}),
        "refusal after text": stream(chunk("Half "), {"error": {"message": "x", "code": 403}}),
    },
    "llm_rejected after text": {
        "shown text, then a content filter": answer(f"{SAID} {REST}", finish="content_filter"),
    },
    "llm_unparsable": {
        "web page": server.html(),
        "web page, said to be a stream": raw(b"<html>\n<body>\n\nhello</body>"),
        "nothing": raw(),
        "nothing, JSON": raw(b"", "application/json", headers={"Content-Length": "0"}),
        "204": raw(code=204),
        "only [DONE]": stream(),
        "only comments": raw(b": ping\n\n: ping\n\n"),
        "other JSON": status(200, {"status": "ok"}),
        "a JSON list": status(200, [1, 2]),
        "an error in words": status(200, {"error": "something odd"}),
        "an error of unknown kind": stream({"error": {"message": "something odd"}}),
        "not HTTP": wire(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        "not HTTP, the key": wire(f"{KEY}\r\n\r\n".encode()),
        "damaged compression": raw(b"no gzip at all", headers={"Content-Encoding": "gzip"}),
        "a bomb": raw(gzip.compress(b"data: " + _MB * 200), headers={"Content-Encoding": "gzip"}),
        "broken JSON": sse(b'{"choices": [{"delta"'),
        "bad UTF-8": sse(b'{"choices": [{"delta": {"content": "\xff\xfe"}}]}'),
        "JSON 100,000 deep": sse(DEEP),
        "choices 100,000 deep": sse(b'{"choices": ' + DEEP + b"}"),
        "a JSON answer 100,000 deep": raw(b'{"choices": ' + DEEP + b"}", "application/json"),
        "a number of 5,000 digits": sse(b'{"choices": [], "usage": ' + b"9" * 5_000 + b"}"),
        "a chunk that is a list": sse(b"[]"),
        "a chunk that is a text": sse(b'"text"'),
        "a line of 50 MB": raw([b"data: ", *[_MB] * 50]),
        "an event of 50 MB": raw([b"data: " + _MB + b"\n"] * 50),
        "a JSON answer of 50 MB": raw([b"{", *[b" " * 1_000_000] * 50], "application/json"),
        "too much text": server.never_ends(event(chunk("word " * 2_000)), delay_s=0),
        "choices []": choices([]),
        "choices null": choices(None),
        "choices a text": choices("text"),
        "choices an object": choices({"0": {}}),
        "a choice that is a text": choices(["text"]),
        "a delta that is a text": choices([{"delta": "text"}]),
        "JSON, choices []": completion("", choices=[]),
        "JSON, choices null": completion("", choices=None),
        "content null": stream(chunk({"content": None}, "stop")),
        "content a number": stream(chunk({"content": 0}, "stop")),
        "content a number that is true": stream(chunk({"content": 871}, "stop")),
        "content an object": stream(chunk({"content": {"text": "x"}}, "stop")),
        "content a list of numbers": stream(chunk({"content": [1]}, "stop")),
        "content a list of odd parts": stream(chunk({"content": [{"type": "text", "text": 1}]}, "stop")),
        "finish_reason a number": stream(chunk("text", 1)),
        "call of a tool": stream(chunk(_TOOL, "tool_calls")),
        "JSON, call of a tool": completion("", choices=[{"message": _TOOL}]),
        "empty answer": answer(""),
        "blank answer": answer(" \n\t\u2003 ", pieces=1),
        "nothing but controls": answer("\x00\x1b\x07"),
        "nothing but thoughts": answer("<think>hm</think>\n", pieces=2),
        "thoughts without end": answer("<think>hm " * 9, finish="length"),
        "nothing but reasoning": stream(chunk({"reasoning": "hm", "content": ""}), chunk(finish="stop")),
    },
    "llm_unparsable after text": {
        "shown text, then broken JSON": sse(b'{"choices": [{"delta"', SHOWN),
        "shown text, then bad UTF-8": sse(b'{"choices": [{"delta": {"content": "\xff\xfe"}}]}', SHOWN),
        "shown text, then a line of 50 MB": raw([SHOWN, b"data: ", *[_MB] * 50]),
        "shown text, then a call of a tool": stream(chunk(f"{SAID} {REST}"), chunk(_TOOL, "tool_calls")),
        "shown text, as fast as it goes": server.never_ends(event(chunk(f"{SAID} {'It goes on. ' * 99}")), delay_s=0),
    },
    "cut": {
        "finish_reason length": answer(SAID, finish="length"),
        "finish_reason length, JSON": completion(SAID, finish="length"),
        "finish_reason length, in a sentence": answer(f"{SAID} It is a", finish="length"),
    },
    "recovered": {
        "no fault": OK,
        "no finish_reason": answer(SAID, finish=None),
        "no [DONE]": answer(SAID, done=False),
        "all over, then nothing": answer(SAID, done=False, hang=True),
        "all over, then reset": reset_after(event(chunk(SAID, "stop"))),
        "JSON in place of a stream": completion(SAID),
        "500, once": [error(500, "boom"), OK],
        "503, once": [error(503, "loading model"), OK],
        "reset, once": [server.reset(), OK],
        "connection closed, once": [wire(), OK],
        "429, once": [error(429, "slow down"), OK],
        "429, Retry-After 0.5": [retry_after("0.5"), OK],
        "429, Retry-After in the past": [retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), OK],
        "429, Retry-After of no sense": [retry_after("Mon, 01 Jan 2020 00:00:00 +99999999999999"), OK],
        "context too long, once": [_TOO_LONG, OK],
        "413, once": [status(413), OK],
        "500 for a context too long, once": [error(500, "Context size has been exceeded.", type="server_error"), OK],
        "context too long in the stream, once": [stream({"error": {"message": "context length", "code": 400}}), OK],
        "content a list of parts": stream(chunk({"content": _PARTS}), chunk(finish="stop")),
        "JSON, content a list of parts": completion(_PARTS),
        "content null in between": stream(chunk({"content": None}), chunk(SAID), chunk({"content": None}, "stop")),
        "choices empty and null in between": stream({"choices": []}, {"choices": None}, {"x": 1}, chunk(SAID, "stop")),
        "reasoning_content beside it": stream(chunk({"reasoning_content": "hm [2]"}), chunk(SAID, "stop")),
        "a <think> block before it": answer(f"\n<think>\nhm [2].\n</think>\n\n{SAID}", pieces=3),
        "lone surrogates": stream(chunk("\ud800"), chunk(f"{SAID[:5]}\udfff{SAID[5:]}", "stop")),
        "control characters": stream(chunk("\x00\r"), chunk(f"{SAID[:5]}\x1b\x85\x07{SAID[5:]}", "stop")),
        "blank space before it": answer(f" \n\n{SAID}", pieces=1),
    },
}


@dataclass(frozen=True)
class Mode:
    """One way to fail, and what becomes of the question."""

    name: str
    expected: str
    """`recovered`, `cut` or the kind of the fallback, `after text` where some was shown; ` or ` between two of them."""
    script: Script
    address: str = "http://127.0.0.1:{}/v1"
    """Where the endpoint is said to be; {} is its port."""
    tls: bool = False
    """The endpoint speaks TLS, with a certificate that nobody trusts."""

    @property
    def deadline_s(self) -> float:
        """Return a short one where nothing but the deadline ends the question."""
        return 2.0 if "llm_timeout" in self.expected else 6.0

    @property
    def is_heavy(self) -> bool:
        """Tell whether it sends so much that its memory is to be looked at alone."""
        return re.search("MB|bomb|deep|as fast|too much", self.name) is not None


MODES = [
    Mode("connection refused", "llm_unavailable", OK, "http://127.0.0.1:1/v1"),
    Mode("an address that cannot be", "llm_unavailable", OK, "http://a b.invalid/v1"),
    Mode("an address of numbers that cannot be", "llm_unavailable", OK, "http://256.256.256.256/v1"),
    Mode("TLS, a server without it", "llm_unavailable", OK, "https://127.0.0.1:{}/v1"),
    Mode("TLS, a certificate that nobody trusts", "llm_unavailable", OK, "https://127.0.0.1:{}/v1", tls=True),
    Mode("DNS, an unknown host", "llm_unavailable or llm_timeout", OK, "http://nowhere.invalid/v1"),
    Mode("DNS, a name that cannot be", "llm_unavailable", OK, f"http://{'a' * 80}.invalid/v1"),
    # Each at an address of its own: what an endpoint refuses is remembered.
    Mode("400 on stream_options", "recovered", _refuses_options, "http://127.0.0.1:{}/a/v1"),
    Mode(
        "400 on stream_options, then context too long",
        "recovered",
        _refuses_options_and_long_prompts,
        "http://127.0.0.1:{}/b/v1",
    ),
    *(Mode(name, expected, script) for expected, scripts in _SCRIPTS.items() for name, script in scripts.items()),
]


def chosen(*names: str) -> list[Mode]:
    """Return the modes of these names."""
    return [next(mode for mode in MODES if mode.name == name) for name in names]


# --- What is promised, and what came of it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A question that met a mode."""

    mode: Mode
    answer: Answer
    plain: Answer
    """The answer to it without an LLM."""
    text: str
    """What was shown: the pieces of a stream, else the answer's text."""
    seconds: float
    grew_mb: float
    """Peak of this process above what it held before; 0 where others ran at the same time."""
    is_idle: bool
    """The endpoint saw all connections closed."""
    shows_key: bool
    """The key stands in the settings or the answer as they are printed, or in a log."""
    requests: int
    """Those that came before the answer."""
    came: list[dict[str, Any]] = field(repr=False)
    """Those that came at all, until the next mode began."""

    @property
    def outcome(self) -> str:
        """Return what became of the question, in the words of `Mode.expected`."""
        if self.answer.fallback:
            return self.answer.fallback.error + ("" if self.answer.complete else " after text")
        if self.answer.abstained or self.answer.answerer != "llm":
            return str(self.answer.reason)
        return "recovered" if self.answer.complete else "cut"

    @property
    def broken(self) -> list[str]:
        """Return the promises that were not kept."""
        calls, spoke = self.answer.usage.llm_calls, self.mode.address.startswith("http://127.0.0.1:{")
        kept = {
            f"ends within {SLACK_S:g} s after its deadline": self.seconds < self.mode.deadline_s + SLACK_S,
            "sends at most 3 requests, and tells how many": calls <= 3 and (not spoke or calls == self.requests),
            "sends none afterwards": len(self.came) == self.requests and self.is_idle,
            f"takes at most {GROWTH_MB:g} MB": self.grew_mb <= GROWTH_MB,
            f"ends as {self.mode.expected}": self.outcome in self.mode.expected.split(" or "),
            "shows what its text is": self.text == self.answer.text,
            "shows the right text": self._is_text_right,
            "cites word for word": is_cited(self.answer),
            "is no abstention": not self.answer.abstained and self.answer.reason is None,
            "names the fault in one plain line": self._is_told,
            "shows no key": not self.shows_key,
        }
        return [promise for promise, is_kept in kept.items() if not is_kept]

    @property
    def _is_text_right(self) -> bool:
        text, fallback = self.answer.text, self.answer.fallback
        if fallback is None:
            return text == SAID or (not self.answer.complete and text.startswith(SAID))
        if self.answer.complete:
            return (text, len(self.answer.evidence)) == (self.plain.text, len(self.plain.evidence))
        said, _, sentences = text.partition(" From the abstracts:\n\n")
        is_named = re.search(r"\n\n.*(breaks off here|could not be read)\.$", said) is not None
        return said.startswith(SAID) and is_named and REST not in said and sentences.strip() == self.plain.text.strip()

    @property
    def _is_told(self) -> bool:
        fallback = self.answer.fallback
        if fallback is None:
            return True
        host = self.mode.address.removeprefix("http://").removeprefix("https://").split("{")[0].split("/")[0]
        return fallback.message.isprintable() and len(fallback.message) < 600 and host in fallback.message


def is_cited(given: Answer) -> bool:
    """Tell whether every marker is a citation, and every quote stands in its abstract, letter by letter."""
    markers = [(int(found[1]), *found.span()) for found in re.finditer(r"\[(\d+)\]", given.text)]
    quotes = [each.paper.abstract[each.start : each.end] for each in given.citations]
    return (
        markers == [(each.number, each.text_start, each.text_end) for each in given.citations] != []
        and quotes == [each.quote for each in given.citations]
        and "" not in quotes
        and all(given.evidence[each.number - 1].paper.id == each.paper.id for each in given.citations)
    )


# --- Running ----------------------------------------------------------------------------------------------------------


class Bench:
    """An endpoint and assistants that ask it, over the sample library; takes on one mode after another."""

    def __init__(self, plain: Answer, heard: Sequence[str] = ()) -> None:
        self._plain, self._heard = plain, heard
        self._open = contextlib.ExitStack()
        self._assistants: dict[tuple[str, float], Assistant] = {}
        self.endpoint = self._open.enter_context(Endpoint(OK))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def prepare(self, modes: Sequence[Mode]) -> None:
        """Open what these modes need, which is no matter of their deadlines and their memory."""
        for mode in modes:
            self._assistant(mode)

    def run(self, mode: Mode, *, stream: bool = False, alone: bool = True) -> Ran:
        """Ask the question, by `ask` or by `stream`, of an endpoint in this mode; `alone`: nothing else runs."""
        assistant = self._assistant(mode)
        self.endpoint.become(mode.script, tls=mode.tls)
        came, since, memory = self.endpoint.requests, len(self._heard), Memory()
        begun = time.monotonic()
        answers = assistant.stream(QUESTION)
        pieces = list(answers) if stream else []
        given = answers.answer if stream else assistant.ask(QUESTION)
        seconds, requests = time.monotonic() - begun, len(came)
        grew_mb, text = memory.grew_mb if alone else 0.0, "".join(pieces) if stream else given.text
        is_idle = self.endpoint.is_idle()
        shown = (repr(assistant.config), repr(given), json.dumps(given.as_dict()), *self._heard[since:])
        shows_key = any(KEY in each for each in shown)
        return Ran(mode, given, self._plain, text, seconds, grew_mb, is_idle, shows_key, requests, came)

    def _assistant(self, mode: Mode) -> Assistant:
        url = mode.address.format(self.endpoint.port)
        if (url, mode.deadline_s) not in self._assistants:
            config = Config(llm_base_url=url, llm_model="scripted", llm_api_key=KEY, llm_timeout_s=mode.deadline_s)
            assistant = self._assistants[url, mode.deadline_s] = self._open.enter_context(Assistant(config))
            assistant.search(QUESTION)
        return self._assistants[url, mode.deadline_s]


class Memory:
    """How far this process grows from here on; 0 where the system does not tell."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted anew
        self._before_mb = self._read("VmRSS")

    @property
    def grew_mb(self) -> float:
        """The peak since then, in megabytes."""
        return max(0.0, self._read("VmHWM") - self._before_mb)

    @staticmethod
    def _read(name: str) -> float:
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii")
        except OSError:
            return 0.0
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name))


class Ear(logging.Handler):
    """Hears whatever any logger says, DEBUG included."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Give what all loggers say meanwhile."""
    ear, root = Ear(), logging.getLogger()
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        yield ear.heard
    finally:
        root.removeHandler(ear)
        root.setLevel(level)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Be without settings, proxies and libraries from outside."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ), contextlib.chdir(folder):
        for name in list(os.environ):
            if name.startswith(("ASSISTANT_", "OPENAI_")) or name.lower().endswith("_proxy"):
                del os.environ[name]
        os.environ["XDG_DATA_HOME"] = folder
        yield


def run(
    modes: Sequence[Mode] = MODES, *, at_once: int = 1, stream: bool = False, tell: Callable[[Ran], None] | None = None
) -> list[Ran]:
    """Run modes, one by one or, of those that take little memory, several at once; `tell` gets each result."""
    import openai  # noqa: F401 - most of a second, once; no matter of a deadline

    ordered = sorted(modes, key=lambda mode: "llm_timeout" not in mode.expected)
    single = [mode for mode in ordered if at_once == 1 or mode.is_heavy]
    others = [mode for mode in ordered if mode not in single]
    with alone(), listening() as heard, contextlib.ExitStack() as opened:
        plain = opened.enter_context(Assistant(Config())).ask(QUESTION)
        benches = [opened.enter_context(Bench(plain, heard)) for _ in range(at_once)]

        def run_part(bench: Bench, part: Sequence[Mode], *, is_alone: bool = False) -> list[Ran]:
            rans = []
            bench.prepare(part)
            for mode in part:
                rans.append(bench.run(mode, stream=stream, alone=is_alone))
                if tell:
                    tell(rans[-1])
            return rans

        rans = run_part(benches[0], single, is_alone=True)
        with ThreadPoolExecutor(at_once) as threads:
            parts = [others[first::at_once] for first in range(at_once)]
            rans += [ran for part in threads.map(run_part, benches, parts) for ran in part]
        time.sleep(LINGER_S)
    return rans


def main() -> int:
    """Print the table; return 1 if a promise was broken."""
    width = max(len(mode.name) for mode in MODES)

    def tell(ran: Ran) -> None:
        calls, promised = ran.answer.usage.llm_calls, "; ".join(f"not: {each}" for each in ran.broken) or "ok"
        numbers = f"{ran.seconds:7.2f}  {calls:8}  {ran.grew_mb:4.0f}"
        print(f"{ran.mode.name:{width}}  {numbers}  {ran.outcome:26}  {promised}", flush=True)

    print(f"{'endpoint':{width}}  seconds  requests    MB  {'outcome':26}  as promised")
    rans = run(tell=tell)
    broken = [ran.mode.name for ran in rans if ran.broken]
    late = sum(len(ran.came) - ran.requests for ran in rans)
    print(
        f"\n{len(rans)} modes, {len(rans) - len(broken)} as promised; at most"
        f" {max(ran.seconds - ran.mode.deadline_s for ran in rans):.2f} s after the deadline,"
        f" {max(ran.answer.usage.llm_calls for ran in rans)} requests, {max(ran.grew_mb for ran in rans):.0f} MB;"
        f" {late} requests afterwards; the key was shown {sum(ran.shows_key for ran in rans)} times."
    )
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
