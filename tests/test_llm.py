"""`assistant.llm` against a scripted endpoint with real sockets: what is sent, what can be read, nothing left behind.

Every way to fail is in `faults.py`, and goes through the whole product in `test_faults.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from email.utils import formatdate
from pathlib import Path
from typing import Any

import endpoint as server
import pytest
from endpoint import (  # noqa: F401 - fixtures
    Endpoint,
    Reply,
    answer,
    chunk,
    clean_surroundings,
    error,
    event,
    imported_client,
    raw,
    status,
    stream,
    wire,
)
from faults import HALF, KEY, cut_after, sse
from hypothesis import given
from hypothesis import strategies as st

from assistant.completion import Completion, Faults
from assistant.config import Config
from assistant.errors import ConfigError, LLMError, LLMRejected, LLMTimeout, LLMUnavailable
from assistant.llm import LLM, LLMStream
from assistant.types import Usage

ROOT = Path(__file__).parent.parent
TEXT = "Fourier mixing replaces attention [1]; naïve “quotes” and 日本語 stay."
MESSAGES = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "What replaces attention?"}]
DEADLINE_S = 1.6
SLACK_S = 2.0
"""A busy machine may be that late; the code itself allows itself a fifth of a second."""


def make(url: str, **settings: Any) -> LLM:
    return LLM(Config(**{"llm_base_url": url, "llm_model": "scripted", "llm_api_key": KEY, **settings}))


def ask(url: str, deadline_s: float = DEADLINE_S, max_requests: int = 3, **settings: Any) -> LLMStream:
    return make(url, **settings).stream(MESSAGES, deadline=time.monotonic() + deadline_s, max_requests=max_requests)


def fail(url: str, deadline_s: float = DEADLINE_S, max_requests: int = 3, **settings: Any) -> LLMError:
    """Ask, expect a fault in time, and hold what is true of every fault."""
    start = time.monotonic()
    answered = ask(url, deadline_s, max_requests, **settings)
    with pytest.raises(LLMError) as caught:
        list(answered)
    assert time.monotonic() - start < deadline_s + SLACK_S
    assert caught.value.requests == answered.usage.llm_calls <= max_requests
    assert list(answered) == []
    assert not answered.complete
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return caught.value


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_named_and_not_followed(code: int) -> None:
    """Neither prompt nor key goes where an endpoint points."""
    with Endpoint(answer(TEXT)) as other, Endpoint(status(code, headers={"Location": other.url})) as endpoint:
        raised = fail(endpoint.url)
        assert type(raised) is LLMRejected
        assert other.url in str(raised)
        assert not other.requests


def test_connection_refused_is_not_tried_again_and_shows_its_cause() -> None:
    """The system's own words stand in the message, in place of "Connection error."."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    raised = fail(f"http://127.0.0.1:{port}/v1")
    assert (type(raised), raised.requests) == (LLMUnavailable, 1)
    assert "Connection refused" in str(raised)
    assert raised.__cause__ is not None


def test_a_name_server_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline holds while the system's resolver blocks."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20) and [])
    try:
        assert type(fail("http://example.invalid/v1", 0.5)) is LLMTimeout
    finally:
        released.set()


def test_a_name_server_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    """Once the deadline has passed, the program can end, though the resolver still blocks."""
    program = """
import socket, time
from assistant import config, errors, llm
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
answered = llm.LLM(config.Config(llm_base_url="http://example.invalid/v1", llm_model="m")).stream(
    [{"role": "user", "content": "?"}], deadline=time.monotonic() + 2)
try:
    next(answered)
except errors.LLMTimeout:
    print("too late")
"""
    start = time.monotonic()
    run = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    assert (ended.stdout, ended.stderr) == ("too late\n", "")
    assert time.monotonic() - start < 30


def test_tls_to_a_server_without_it_is_unavailable() -> None:
    """A failing handshake shows its cause and is not tried again."""
    with Endpoint(answer(TEXT)) as endpoint:
        raised = fail(endpoint.url.replace("http:", "https:"))
    assert (type(raised), raised.requests) == (LLMUnavailable, 1)
    assert "SSL" in str(raised)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_listener_that_never_accepts_is_a_timeout(scheme: str) -> None:
    """The deadline holds during TCP and TLS handshakes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as full:
        for _ in range(3 if scheme == "http" else 0):  # fills the queue: the next handshake gets no reply
            client = full.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        assert type(fail(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/v1", 0.5)) is LLMTimeout


def test_a_deadline_in_the_past_sends_nothing() -> None:
    """No request is sent for a question that is too late."""
    with Endpoint(answer(TEXT)) as endpoint:
        raised = fail(endpoint.url, deadline_s=-1.0)
        assert (type(raised), raised.requests, endpoint.requests) == (LLMTimeout, 0, [])


# Recovery.

WHOLE = event(chunk(TEXT, "stop"))
RECOVERED: dict[str, Reply] = {
    "a character at a time": answer(TEXT, pieces=1),
    "a byte at a time": server.drip(b"".join(answer(TEXT, usage=None).wire()), delay_s=1e-4),
    "JSON over many lines": raw(b"\n\n" + json.dumps(chunk(), indent=2).replace("{}", "null").encode()[:-1]
        + b',"choices":[{"message":{"content":' + json.dumps(TEXT).encode() + b"}}]}", "application/json"),
    "a whole answer in the stream": stream({"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}),
    "null delta": stream(chunk(TEXT), {"choices": [{"delta": None, "finish_reason": "stop"}]}),
    "thoughts, a character at a time": answer(f" <think>hm < /think></think>\n <think></think>{TEXT}", pieces=1),
    "an empty finish_reason on the way": stream(chunk(TEXT[:4], ""), chunk(TEXT[4:], ""), chunk(finish="stop")),
    "an unknown finish_reason": stream(chunk(TEXT, "eos")),
    "all over but cut": cut_after(WHOLE, Content_Length="9999"),
    "more after [DONE]": raw([WHOLE, event(b"[DONE]"), b"data: nonsense\n\n"]),
    "CRLF": raw(WHOLE.replace(b"\n", b"\r\n")),
    "CR": raw(WHOLE.replace(b"\n", b"\r") + b"data: [DONE]\r\r"),
    "no space after the colon": raw(WHOLE.replace(b"data: ", b"data:")),
    "an event over two lines": raw(WHOLE.replace(b'"choices"', b'\ndata: "choices"')),
    "a last line without an end": raw(WHOLE.rstrip()),
    "a byte order mark": raw(b"\xef\xbb\xbf" + WHOLE),
    "comments and other fields": raw(b": hi\nid: 1\nretry: 5\n\nevent: message\n" + WHOLE),
    "another content type": raw(WHOLE, "text/plain"),
    "compressed": raw(gzip.compress(WHOLE), headers={"Content-Encoding": "gzip"}),
}  # fmt: skip


@pytest.mark.parametrize("reply", RECOVERED.values(), ids=RECOVERED)
def test_what_can_be_read_is_read(reply: Reply) -> None:
    """Whole answers in forms that servers really send give the same text, in one request."""
    with Endpoint(reply) as endpoint:
        answered = ask(endpoint.url, 5.0)
        pieces = list(answered)
        assert "".join(pieces) == TEXT
        assert all(pieces)
        assert (answered.complete, answered.usage.llm_calls, answered.model) == (True, 1, "scripted")
        assert endpoint.is_idle()


def test_pieces_come_while_the_endpoint_still_writes() -> None:
    """The first piece is out before the second was sent."""
    with Endpoint(raw([HALF], hang=True)) as endpoint:
        answered = ask(endpoint.url, 5.0)
        start = time.monotonic()
        assert next(answered) == "Half an "
        assert time.monotonic() - start < SLACK_S
        answered.close()


def test_text_before_a_fault_is_given_first() -> None:
    """What came before a cut reaches the caller, then the error; nothing is asked again."""
    with Endpoint(stream(chunk("Half an "), done=False)) as endpoint:
        answered = ask(endpoint.url)
        assert next(answered) == "Half an "
        with pytest.raises(LLMUnavailable, match="cut after 8 characters"):
            next(answered)
        assert len(endpoint.requests) == 1


# Requests.


def test_at_most_three_requests_are_sent() -> None:
    """A fault that stays is reported after the third request, with time left."""
    with Endpoint(error(500, "x")) as endpoint:
        assert fail(endpoint.url, 6.0).requests == len(endpoint.requests) == 3


def test_the_caller_may_allow_fewer() -> None:
    """`max_requests` counts every kind of request."""
    with Endpoint(error(500, "x")) as endpoint:
        assert fail(endpoint.url, max_requests=1).requests == len(endpoint.requests) == 1
    with Endpoint(error(400, "unknown field stream_options")) as endpoint:
        assert fail(endpoint.url, max_requests=1).requests == len(endpoint.requests) == 1


@pytest.mark.parametrize("asked", ["60", "1e400", "a date"])
def test_a_long_retry_after_is_not_waited_for(asked: str) -> None:
    """Where the wait does not fit, the fault is reported at once."""
    if asked == "a date":
        asked = formatdate(time.time() + 90, usegmt=True)
    start = time.monotonic()
    with Endpoint(status(429, headers={"Retry-After": asked})) as endpoint:
        assert fail(endpoint.url, 5.0).requests == 1
    assert time.monotonic() - start < SLACK_S


@pytest.mark.parametrize(("asked", "least_s"), [("0", 0.3), ("0.6", 0.6), ("-9", 0.3), ("nan", 0.3), ("soon", 0.3)])
def test_a_short_retry_after_is_honoured(asked: str, least_s: float) -> None:
    """The wait is the longer of what is asked for and our own."""
    times: list[float] = []

    def script(_: object) -> Reply:
        times.append(time.monotonic())
        return answer(TEXT) if len(times) == 2 else status(503, headers={"Retry-After": asked})

    with Endpoint(script) as endpoint:
        assert "".join(ask(endpoint.url, 5.0)) == TEXT
    assert times[1] - times[0] >= least_s


def test_a_server_that_knows_no_stream_options_is_asked_without_them() -> None:
    """One more request, only once, and usage is estimated."""
    refusal = error(400, "Unrecognized request argument supplied: stream_options")
    with Endpoint(lambda body: refusal if "stream_options" in body else answer(TEXT, usage=None)) as endpoint:
        llm = make(endpoint.url)
        for calls in (2, 1):
            answered = llm.stream(MESSAGES, deadline=time.monotonic() + DEADLINE_S)
            assert "".join(answered) == TEXT
            assert (answered.usage.llm_calls, answered.usage.tokens_estimated) == (calls, True)
        assert len(endpoint.requests) == 3


TOO_LONG = {
    "openai": error(400, "This model's maximum context length is 8192 tokens.", code="context_length_exceeded"),
    "code alone": error(400, "no", code="context_length_exceeded"),
    "llama.cpp": error(400, "the request exceeds the available context size", type="exceed_context_size_error"),
    "prompt too long": error(400, "prompt is too long: 9000 tokens > 8192 maximum"),
    "tgi": error(422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"),
    "413": status(413),
    "500": error(500, "Context size has been exceeded.", type="server_error"),
    "in the stream": stream({"error": {"message": "maximum context length is 8192 tokens", "code": 400}}),
}


@pytest.mark.parametrize("reply", TOO_LONG.values(), ids=TOO_LONG)
def test_a_prompt_that_is_too_long_is_marked(reply: Reply) -> None:
    """The caller can tell it from other refusals and ask with less."""
    with Endpoint(reply) as endpoint:
        raised = fail(endpoint.url)
        assert (raised.too_long, raised.requests) == (True, 1)
    with Endpoint(error(400, "max_tokens is too large")) as endpoint:
        assert not fail(endpoint.url).too_long


def test_the_request_holds_what_every_server_knows_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Body and headers are ours alone, whatever OPENAI_* and proxy variables say."""
    with Endpoint(answer(TEXT)) as other, Endpoint(answer(TEXT)) as endpoint:
        for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
            monkeypatch.setenv(f"OPENAI_{name}", "stolen")
        monkeypatch.setenv(
            "OPENAI_CUSTOM_HEADERS", "Authorization: Bearer stolen\nX-Key: stolen\nOpenAI-Project: stolen"
        )
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url if name == "http_proxy" else "socks5://127.0.0.1:1")
        assert "".join(ask(endpoint.url, max_tokens_field="max_completion_tokens", answer_tokens=77)) == TEXT
        (request,) = endpoint.requests
        assert not other.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["body"] == {
        "model": "scripted",
        "messages": MESSAGES,
        "temperature": 0,
        "max_completion_tokens": 77,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent = "accept accept-encoding authorization connection content-length content-type host user-agent"
    assert sorted(request["headers"]) == sent.split()
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert "stolen" not in str(request)


def test_without_a_key_a_dummy_is_sent() -> None:
    """Local servers want none, the client wants one."""
    with Endpoint(answer(TEXT)) as endpoint:
        list(ask(endpoint.url, llm_api_key=None))
        assert endpoint.requests[0]["headers"]["authorization"] == "Bearer none"


def test_lone_surrogates_in_a_message_do_not_reach_the_wire() -> None:
    """A message that no JSON encoder takes is cleaned, not refused."""
    with Endpoint(answer(TEXT)) as endpoint:
        messages = [{"role": "user", "content": "a\ud800b"}]
        list(make(endpoint.url).stream(messages, deadline=time.monotonic() + 5))
        assert endpoint.requests[0]["body"]["messages"] == [{"role": "user", "content": "ab"}]


# Usage.

ODD_USAGE = [
    *(None, {}, [], "5", {"prompt_tokens": 1}),
    {"prompt_tokens": True, "completion_tokens": 2},
    {"prompt_tokens": -1, "completion_tokens": 2},
    {"prompt_tokens": 1.5, "completion_tokens": 10**30},
]


@pytest.mark.parametrize("reported", ODD_USAGE, ids=str)
def test_usage_is_estimated_where_it_is_not_reported(reported: object) -> None:
    """Counts that are no counts are not believed."""
    with Endpoint(answer(TEXT, usage=reported)) as endpoint:
        answered = ask(endpoint.url)
        assert answered.usage == Usage()
        list(answered)
        assert answered.usage.tokens_estimated
        assert answered.usage.llm_calls == 1
        assert 4 <= answered.usage.prompt_tokens <= 20
        assert 8 <= answered.usage.completion_tokens <= 60


# The key.

ECHOES = {
    "401": error(401, f"Incorrect API key provided: {KEY}."),
    "401 in words": status(401, f"who is {KEY}?".encode()),
    "401, veiled by controls": error(401, "who is " + "\x00\u200b".join(KEY)),
    "401, across the cut": error(401, "x" * 270 + KEY),
    "500": error(500, KEY),
    "redirect": status(302, headers={"Location": f"http://127.0.0.1/{KEY}", "X-Echo": f"Bearer {KEY}"}),
    "in the stream": stream({"error": {"message": KEY, "type": KEY}}),
    "not HTTP": wire(f"{KEY}\r\n\r\n".encode()),
    "bad UTF-8": sse(KEY.encode() + b"\xff"),
    "finish_reason": stream(chunk(finish=KEY)),
}


@pytest.mark.parametrize("reply", ECHOES.values(), ids=ECHOES)
def test_an_endpoint_cannot_make_us_show_the_key(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is echoed appears in no message, no chain of causes and no log."""
    caplog.set_level(logging.DEBUG)
    with Endpoint(reply) as endpoint:
        raised: BaseException | None = fail(endpoint.url)
    while raised is not None:
        assert KEY not in f"{raised} {raised!r}"
        raised = raised.__cause__ or raised.__context__
    assert {"httpcore2.http11", "openai._base_client"} <= {record.name for record in caplog.records}
    assert KEY not in caplog.text


@pytest.mark.parametrize("pieces", [1, 3, 99])
def test_an_answer_never_holds_the_key_though_it_may_hold_a_word_that_serves_as_one(pieces: int) -> None:
    """A key stands as stars in the text, wherever it is cut; a stand-in for a key is a word like others."""
    said = f"{KEY[:5]} {KEY}! sk-ver{KEY} {KEY[:-1]}"
    with Endpoint(answer(said, pieces)) as endpoint:
        assert "".join(ask(endpoint.url)) == f"{KEY[:5]} ***! sk-ver*** {KEY[:-1]}"
        assert "".join(ask(endpoint.url, llm_api_key="very")) == said


@pytest.mark.parametrize("key", ["sk-schlüssel", "sk-two words", "sk-line\nbreak", "sk-\udc80"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    """The message names the setting; the key stays out of it and nothing is sent."""
    with Endpoint(answer(TEXT)) as endpoint:
        raised = fail(endpoint.url, llm_api_key=key)
        assert type(raised) is LLMRejected
        assert not endpoint.requests
    assert "llm_api_key" in str(raised)
    assert key not in f"{raised} {raised!r}"
    assert raised.__cause__ is raised.__context__ is None


def test_a_password_in_the_address_is_not_shown() -> None:
    """Only host and port stand in a message."""
    raised = fail("http://user:pa55word@127.0.0.1:1/v1?token=t0ken")
    assert "127.0.0.1:1" in str(raised)
    assert not {"pa55word", "t0ken"} & set(str(raised).replace(":", " ").replace("=", " ").split())


# Hanging up.


def test_closing_a_stream_ends_its_request_at_once() -> None:
    """The endpoint sees the caller hang up, nothing more is asked, iterating ends."""
    with Endpoint(server.never_ends()) as endpoint:
        answered = ask(endpoint.url, 30.0)
        next(answered)
        answered.close()
        assert endpoint.is_idle(1.0)
        assert list(answered) == []
        assert not answered.complete
        assert len(endpoint.requests) == 1


def test_dropping_a_stream_ends_its_request() -> None:
    """A caller who only stops iterating leaves nothing running."""
    with Endpoint(server.never_ends()) as endpoint:
        for _ in ask(endpoint.url, 30.0):
            break
        assert endpoint.is_idle(1.0)


def test_closing_wakes_the_thread_that_waits() -> None:
    """A stream, or the whole LLM, can be closed from another thread; even between two requests."""
    for reply in (server.hang(), error(500, "x")):
        with Endpoint(reply) as endpoint:
            llm = make(endpoint.url)
            streams = [llm.stream(MESSAGES, deadline=time.monotonic() + 30) for _ in range(2)]
            threads = [threading.Thread(target=list, args=(each,)) for each in streams]
            for thread in threads:
                thread.start()
            while len(endpoint.requests) < 2:
                time.sleep(0.01)
            llm.close()
            for thread in threads:
                thread.join(1.0)
                assert not thread.is_alive()
            assert endpoint.is_idle(1.0)
            time.sleep(0.5)
            assert len(endpoint.requests) == 2


def test_many_ask_at_once() -> None:
    """One LLM serves many threads, each with its own answer."""

    def script(body: dict[str, Any]) -> Reply:
        return answer(body["messages"][0]["content"] * 50, pieces=3)

    with Endpoint(script) as endpoint:
        llm, found = make(endpoint.url), {}

        def run(n: int) -> None:
            messages = [{"role": "user", "content": f"number {n}, "}]
            found[n] = "".join(llm.stream(messages, deadline=time.monotonic() + 10))

        threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {n: f"number {n}, " * 50 for n in range(8)}


def test_a_model_must_be_named() -> None:
    """Without one there is no LLM to ask."""
    with pytest.raises(ConfigError, match="llm_model"):
        LLM(Config())


# The reader alone, without a network.


def read(*pieces: bytes) -> str:
    reply = Completion(Faults("http://127.0.0.1"))
    return "".join([text for piece in pieces for text in reply.feed(piece)] + list(reply.end()))


@given(st.data())
def test_no_cut_of_the_bytes_changes_the_text(data: st.DataObject) -> None:
    """TCP may cut a response anywhere, in a character, a line end or a <think> tag."""
    text = "<think>no</think>" + TEXT
    whole = b"".join(answer(text, pieces=data.draw(st.integers(1, 40))).wire()).partition(b"\r\n\r\n")[2]
    whole = whole.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n"])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    assert read(*(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True))) == TEXT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "message", "content", "type", "text", "error", "usage", "finish_reason"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON.map(event) | st.binary(max_size=40), max_size=5))
def test_whatever_comes_gives_text_or_one_of_our_errors(pieces: list[bytes]) -> None:
    """No response makes the reader raise anything else."""
    with contextlib.suppress(LLMError):
        assert read(*pieces).strip()
