"""`assistant.probe` against a scripted endpoint with real sockets: what is told of each fault, in time, keyless."""

from __future__ import annotations

import dataclasses
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import endpoint as server
import pytest
from endpoint import (  # noqa: F401 - fixtures
    Endpoint,
    Reply,
    Script,
    answer,
    chunk,
    clean_surroundings,
    completion,
    error,
    event,
    imported_client,
    raw,
    status,
    stream,
    wire,
)
from faults import DEEP, GROWTH_MB, HALF, KEY, Memory, cut_after, sse

from assistant.config import Config
from assistant.probe import ANSWER_TOKENS, PROMPT, Probe, probe

MODELS = ("scripted", "llama-3.1-8b-instruct", "qwen3:4b")
LIST = status(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
NO_LIST = status(404, {"detail": "Not Found"})
READY = answer("Ready.")
SLACK_S = 2.0
"""A busy machine may be that late; the code itself allows itself two fifths of a second."""


def serve(chat: Script, models: Reply = LIST) -> Callable[[dict[str, Any]], Reply]:
    """Answer what has no body, the list of models, with one reply, and what has one with another."""
    replies = iter(chat) if isinstance(chat, list) else None

    def script(body: dict[str, Any]) -> Reply:
        if not body:
            return models
        if replies:
            return next(replies)
        return chat if isinstance(chat, Reply) else chat(body)  # type: ignore[operator]

    return script


def check(url: str, deadline_s: float = 30.0, **settings: Any) -> Probe:
    """Test the connection, and hold what is true of every test."""
    config = Config(**{"llm_base_url": url, "llm_model": "scripted", "llm_api_key": KEY, **settings})
    begun = time.monotonic()
    found = probe(config, deadline_s=deadline_s)
    assert time.monotonic() - begun < deadline_s + SLACK_S
    assert found.total_s < deadline_s + SLACK_S
    assert found.requests <= 3
    assert found.ok == (found.kind in {"ok", "no_streaming"})
    assert found.model == config.llm_model
    assert found.message.isprintable() and found.message[0] != " " and found.message[-1] in ".?"
    assert len(found.message) < 800
    assert not config.llm_model or config.endpoint.split("/")[2] in found.message
    assert KEY not in repr(found)
    return found


def check_chat(chat: Script, models: Reply = LIST, **settings: Any) -> Probe:
    """Test the connection to an endpoint that does this with a chat."""
    with Endpoint(serve(chat, models)) as endpoint:
        found = check(endpoint.url, **settings)
        came = len(endpoint.requests)
        assert came <= found.requests and (came == found.requests or found.kind == "timeout")
        assert endpoint.is_idle()
    return found


# --- A connection that works ------------------------------------------------------------------------------------------


def test_a_connection_that_works_is_told_with_its_models_and_its_time() -> None:
    found = check_chat(READY)
    assert (found.ok, found.kind, found.models, found.streams, found.requests) == (True, "ok", MODELS, True, 2)
    assert found.first_token_s is not None and 0 < found.first_token_s <= found.total_s
    assert found.message.startswith("The model 'scripted' at http://127.0.0.1:")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.ok = False  # type: ignore[misc]


def test_two_small_requests_are_sent_as_every_other_is() -> None:
    with Endpoint(serve(READY)) as endpoint:
        check(endpoint.url, max_tokens_field="max_completion_tokens", answer_tokens=5_000)
        listing, chat = endpoint.requests
    assert (listing["path"], chat["path"]) == ("/v1/models", "/v1/chat/completions")
    assert {each["headers"]["authorization"] for each in (listing, chat)} == {f"Bearer {KEY}"}
    assert not {"x-stainless-os", "cookie"} & {*listing["headers"], *chat["headers"]}
    assert chat["body"]["messages"] == [{"role": "user", "content": PROMPT}]
    assert (chat["body"]["max_completion_tokens"], chat["body"]["stream"]) == (ANSWER_TOKENS, True)


NO_FAULT: dict[str, tuple[Script, Reply]] = {
    "no list of models": (READY, NO_LIST),
    "a list that is a web page": (READY, server.html()),
    "a list without end": (READY, server.never_ends(b" " * 10_000, delay_s=0)),
    "a list that is reset": (READY, server.reset()),
    "a list that wants another key": (READY, error(401, "no")),
    "a list without the model": (READY, status(200, {"data": [{"id": "scripted:latest"}]})),
    "cut at the length limit": (answer("Ready. Is there any", finish="length"), LIST),
    "thoughts cut at the length limit": (answer("<think>The user", finish="length"), LIST),
    "thoughts without a beginning, cut": (answer("Okay, the user wants", finish="length"), LIST),
    "reasoning cut at the length limit": (stream(chunk({"reasoning_content": "hm"}), chunk(finish="length")), LIST),
    "thoughts cut, as OpenAI says it": (
        error(400, "Could not finish the message because max_tokens or model output limit was reached."),
        LIST,
    ),
    "busy, once": ([error(429, "slow down"), READY], LIST),
}


@pytest.mark.parametrize(("chat", "models"), NO_FAULT.values(), ids=NO_FAULT)
def test_what_is_no_fault_is_not_called_one(chat: Script, models: Reply) -> None:
    assert check_chat(chat, models).kind == "ok"


def test_a_list_of_models_that_never_comes_leaves_time_for_the_chat() -> None:
    assert check_chat(READY, server.hang(), deadline_s=6.0).kind == "ok"


@pytest.mark.parametrize("field", ["stream_options", "temperature"])
def test_a_field_that_the_endpoint_refuses_is_left_out(field: str) -> None:
    refusal = error(400, f"Unsupported value: '{field}' is not known to this model.")
    found = check_chat(lambda body: refusal if field in body else READY)
    assert (found.kind, found.requests) == ("ok", 3)


def test_an_answer_that_is_no_stream_is_an_answer_and_told() -> None:
    found = check_chat(completion("Ready."))
    assert (found.ok, found.kind, found.streams) == (True, "no_streaming", False)
    assert "all at once" in found.message


# --- No model ---------------------------------------------------------------------------------------------------------


def test_while_nothing_is_configured_nothing_is_sent() -> None:
    found = probe(Config(llm_api_key=KEY))
    assert (found.ok, found.kind, found.model, found.requests) == (False, "no_model", None, 0)
    assert "llm_model" in found.message


def test_without_a_model_those_of_the_endpoint_are_named() -> None:
    found = check_chat(READY, llm_model=None)
    assert (found.kind, found.models, found.requests) == ("no_model", MODELS, 1)
    assert ", ".join(MODELS) in found.message


@pytest.mark.parametrize(
    ("models", "kind"),
    [(NO_LIST, "no_model"), (error(500, "x"), "no_model"), (error(401, "x"), "key"), (server.hang(), "timeout")],
)
def test_without_a_model_and_without_a_list_what_can_be_told_is_told(models: Reply, kind: str) -> None:
    found = check_chat(READY, models, llm_model=None, deadline_s=1.0 if kind == "timeout" else 30.0)
    assert (found.kind, found.models, found.requests) == (kind, (), 1)


# --- An endpoint out of reach -----------------------------------------------------------------------------------------


def test_where_nothing_listens_that_is_said_after_one_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = check(f"http://127.0.0.1:{port}/v1")
    assert (found.kind, found.requests) == ("refused", 1)
    assert f"http://127.0.0.1:{port}/v1: Connection refused. Start the server" in found.message


def test_a_host_that_no_name_server_knows_is_said_to_be_unknown() -> None:
    found = check("http://nowhere.invalid/v1")
    assert (found.kind, found.requests) == ("unknown_host", 1)
    assert "http://nowhere.invalid/v1" in found.message and "spelling" in found.message


@pytest.mark.parametrize("url", ["http://256.256.256.256/v1", "http://exam⒈ple.invalid/v1"])
def test_an_address_that_cannot_be_is_said_to_be_none(url: str) -> None:
    found = check(url)
    assert found.kind == "bad_address"
    assert f"{url} is no address" in found.message


@pytest.mark.parametrize(("tls", "said"), [(True, "self-signed certificate"), (False, "write http://")])
def test_without_a_secure_connection_its_reason_is_said(tls: bool, said: str) -> None:  # noqa: FBT001
    with Endpoint(READY) as endpoint:
        endpoint.become(READY, tls=tls)
        found = check(endpoint.url.replace("http:", "https:"))
    assert (found.kind, found.requests) == ("tls", 1)
    assert said in found.message


SLOW: dict[str, tuple[Reply, Reply, float, str]] = {
    "nothing ever comes": (server.hang(), server.hang(), 1.5, "has not answered within 1.5 s"),
    "a byte now and then": (server.drip(delay_s=0.3), NO_LIST, 1.5, "has not answered within 1.5 s"),
    "comments without end": (server.never_ends(b": ping\n\n", delay_s=0.001), NO_LIST, 1.5, "has not answered"),
    "only the list comes": (server.hang(), LIST, 5.0, "lists its models, but 'scripted' has not answered"),
    "text without end": (server.never_ends(), LIST, 5.0, "began to answer after "),
}


@pytest.mark.parametrize(("chat", "models", "deadline_s", "said"), SLOW.values(), ids=SLOW)
def test_the_deadline_ends_whatever_does_not_end(chat: Reply, models: Reply, deadline_s: float, said: str) -> None:
    found = check_chat(chat, models, deadline_s=deadline_s)
    assert found.kind == "timeout"
    assert said in found.message


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    found = check_chat(READY, deadline_s=0.0)
    assert (found.kind, found.requests) == ("timeout", 0)


# --- The key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 403])
def test_a_key_that_is_missing_is_told_from_one_that_is_not_accepted(code: int) -> None:
    refusal = error(code, "Bad credentials.")
    missing, wrong = check_chat(refusal, llm_api_key=None), check_chat(refusal)
    assert (missing.kind, wrong.kind) == ("key", "key")
    assert f"wants a key, and none is set: status {code}, Bad credentials." in missing.message
    assert f"does not accept the key: status {code}, Bad credentials." in wrong.message


def test_a_key_that_is_refused_with_another_status_is_named() -> None:
    assert check_chat(error(400, "API key not valid. Please pass a valid API key.")).kind == "key"


def test_a_key_that_is_kept_from_an_address_in_a_file_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT_LLM_API_KEY", KEY)
    with Endpoint(serve(error(401, "who?"))) as endpoint:
        (tmp_path / "assistant.toml").write_text(f'llm_base_url = "{endpoint.url}"\nllm_model = "scripted"\n')
        found = probe(Config())
        assert KEY not in str(endpoint.requests)
    assert found.kind == "key"
    assert "from a file" in found.message


def test_a_key_that_no_header_can_carry_is_named_unseen() -> None:
    with Endpoint(serve(READY)) as endpoint:
        found = check(endpoint.url, llm_api_key="sk-schlüssel")
        assert not endpoint.requests
    assert found.kind == "key"
    assert "characters that cannot be sent" in found.message and "sk-schlüssel" not in repr(found)


# --- The model --------------------------------------------------------------------------------------------------------

UNKNOWN = {
    "OpenAI": error(404, "The model `llama3.1` does not exist or you do not have access.", code="model_not_found"),
    "Ollama": error(404, 'model "llama3.1" not found, try pulling it first'),
    "OpenRouter": error(400, "llama3.1 is not a valid model ID"),
    "a proxy": status(400, {"error": {"message": {"error": "Invalid model name passed in model=llama3.1."}}}),
    "a project without access": error(403, "Project `p` does not have access to model `llama3.1`"),
    "a code alone": error(400, "no", code="model_not_found"),
    "404 alone": status(404),
    "in place of an answer": status(200, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}),
}


@pytest.mark.parametrize("reply", UNKNOWN.values(), ids=UNKNOWN)
def test_a_model_that_is_unknown_is_told_with_the_nearest_names(reply: Reply) -> None:
    found = check_chat(reply, llm_model="llama3.1")
    assert (found.kind, found.models, found.requests) == ("unknown_model", MODELS, 2)
    assert "does not have the model 'llama3.1': " in found.message
    assert found.message.endswith(" Did you mean llama-3.1-8b-instruct?")


def test_a_model_that_is_like_no_other_is_told_with_those_there_are() -> None:
    found = check_chat(error(404, "The model `gpt-9` does not exist"), llm_model="gpt-9")
    assert f"It lists {', '.join(MODELS)}: set llm_model." in found.message
    found = check_chat(error(404, "The model `gpt-9` does not exist"), NO_LIST, llm_model="gpt-9")
    assert (found.kind, found.models) == ("unknown_model", ())
    assert "Set llm_model to the name that is used there." in found.message


def test_of_many_models_a_few_are_named() -> None:
    many = status(200, {"data": [{"id": f"m{number}"} for number in range(50)]})
    found = check_chat(status(404), many, llm_model="zzz")
    assert (len(found.models), found.kind) == (50, "unknown_model")
    assert "It lists m0, m1, m2 and 47 more" in found.message


def test_what_a_model_cannot_do_does_not_make_it_unknown() -> None:
    found = check_chat(error(400, "Unsupported parameter: 'max_tokens' is not supported with this model."))
    assert found.kind == "rejected"
    assert "'max_tokens' is not supported" in found.message and "max_tokens_field" in found.message


# --- What is no OpenAI endpoint ---------------------------------------------------------------------------------------

FOREIGN = {
    "a web page": (server.html(), "a web page"),
    "a web page that is not there": (server.html(404), "status 404"),
    "other JSON": (status(200, {"status": "up"}), 'no chat completion, but {"status": "up"}'),
    "nothing": (raw(code=204), "nothing"),
    "a method that is not allowed": (status(405), "has no chat completions: status 405"),
    "a method that is not known": (status(501), "has no chat completions: status 501"),
    "no HTTP": (wire(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "does not speak HTTP"),
}


@pytest.mark.parametrize(("reply", "said"), FOREIGN.values(), ids=FOREIGN)
def test_what_speaks_no_protocol_of_openai_is_told_with_what_it_sent(reply: Reply, said: str) -> None:
    found = check_chat(reply, NO_LIST)
    assert (found.kind, found.streams) == ("not_openai", None)
    assert said in found.message and "llm_base_url" in found.message


def test_a_redirect_is_told_and_not_followed() -> None:
    with Endpoint(READY) as other:
        found = check_chat(status(307, headers={"Location": other.url}))
        assert not other.requests
    assert found.kind == "not_openai"
    assert f"a redirect to {other.url}, which is not followed" in found.message


@pytest.mark.parametrize("model", ["scripted", None])
@pytest.mark.parametrize("path", ["", "/", "/v1/chat/completions", "/v1/models/", "/chat/completions"])
@pytest.mark.parametrize("models", [LIST, error(401, "who?")], ids=["listed", "key wanted"])
def test_an_address_that_was_meant_is_found_and_named(path: str, model: str | None, models: Reply) -> None:
    def script(_: object) -> Reply:
        return models if endpoint.requests[-1]["path"] == "/v1/models" else server.html(404)

    with Endpoint(script) as endpoint:
        found = check(endpoint.url.removesuffix("/v1") + path, llm_model=model)
        assert found.requests == len(endpoint.requests) == (3 if model else 2)
    assert (found.kind, found.models) == ("not_openai", MODELS if models is LIST else ())
    assert f"Did you mean {endpoint.url}?" in found.message


def test_an_endpoint_that_lists_the_model_but_has_no_chat_keeps_its_list() -> None:
    with Endpoint(lambda _: LIST if endpoint.requests[-1]["path"] == "/models" else status(404)) as endpoint:
        found = check(endpoint.url.removesuffix("/v1"))
    assert (found.kind, found.models, found.requests) == ("not_openai", MODELS, 3)
    assert "has no chat completions: status 404" in found.message


def test_an_address_that_is_no_better_is_not_named() -> None:
    with Endpoint(server.html()) as endpoint:
        found = check(endpoint.url.removesuffix("/v1"))
    assert (found.kind, found.requests) == ("not_openai", 3)
    assert "a web page" in found.message and "Did you mean" not in found.message


# --- Other faults -----------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[Script, str, str, int]] = {
    "400": (error(400, "no such thing"), "rejected", "status 400, no such thing", 2),
    "402": (error(402, "Insufficient balance"), "rejected", "status 402, Insufficient balance", 2),
    "a content filter": (answer("Half ", finish="content_filter"), "rejected", "content_filter", 2),
    "429": (error(429, "slow down"), "busy", "status 429, slow down; try again later", 3),
    "429 for an hour": (status(429, headers={"Retry-After": "3600"}), "busy", "Retry-After 3600", 2),
    "500": (error(500, "boom"), "broken", "status 500, boom", 3),
    "503, a web page": (server.html(503), "broken", "status 503", 3),
    "a cut": (cut_after(HALF, Content_Length="9999"), "broken", "cut after 8 characters", 2),
    "an early end": (stream(chunk("Half an "), done=False), "broken", "it ended early", 2),
    "a reset": (server.reset(), "broken", "Connection reset", 3),
    "an overload": (status(200, {"error": {"message": "x", "code": 503}}), "broken", "503 x", 2),
    "broken JSON": (sse(b'{"choices": [{"delta"'), "unparsable", "broken JSON", 2),
    "deep JSON": (sse(DEEP), "unparsable", "broken JSON", 2),
    "choices of another type": (stream({**chunk(), "choices": 7}), "unparsable", "choices of type int", 2),
    "an error of no kind": (status(200, {"error": "something odd"}), "unparsable", "something odd", 2),
    "no text": (answer(""), "empty", "without text", 2),
    "nothing but thoughts": (answer("<think>hm</think>"), "empty", "without text", 2),
    "nothing but reasoning": (stream(chunk({"reasoning": "hm"}), chunk(finish="stop")), "empty", "without text", 2),
    "one document, no text": (completion(""), "empty", "without text", 2),
}


@pytest.mark.parametrize(("chat", "kind", "said", "requests"), OTHERS.values(), ids=OTHERS)
def test_every_other_fault_has_its_kind_and_shows_what_was_found(
    chat: Script, kind: str, said: str, requests: int
) -> None:
    found = check_chat(chat)
    assert (found.kind, found.requests, found.ok) == (kind, requests, False)
    assert said in found.message


ENDLESS = {
    "a line": raw([b"data: ", *[b"x" * 1_000_000] * 50]),
    "an error": server.never_ends(b"x" * 10_000, delay_s=0, code=400),
    "a document": raw([b"{", *[b" " * 1_000_000] * 50], "application/json"),
    "text": server.never_ends(event(chunk("word " * 2_000)), delay_s=0),
}


@pytest.mark.parametrize("reply", ENDLESS.values(), ids=ENDLESS)
def test_no_body_takes_more_than_a_bounded_part_of_memory(reply: Reply) -> None:
    memory = Memory()
    check_chat(reply, reply)
    assert memory.grew_mb < GROWTH_MB


# --- Secrets ----------------------------------------------------------------------------------------------------------

ECHOES = {
    "401": error(401, f"Incorrect API key provided: {KEY}."),
    "400, veiled by controls": error(400, "who is " + "\x00\u200b".join(KEY)),
    "500": error(500, KEY, code=KEY),
    "404": error(404, f"The model {KEY} does not exist"),
    "a redirect": status(302, headers={"Location": f"http://127.0.0.1/{KEY}", "X-Echo": f"Bearer {KEY}"}),
    "other JSON": status(200, {"key": KEY}),
    "other JSON, cut in the key": status(200, b'{"key": ' + b" " * 63_980 + b'"' + KEY.encode() + b'"}'),
    "an error in the stream": stream({"error": {"message": KEY, "type": KEY}}),
    "no HTTP": wire(f"{KEY}\r\n\r\n".encode()),
    "the answer": answer(KEY),
}


@pytest.mark.parametrize("reply", ECHOES.values(), ids=ECHOES)
def test_an_endpoint_cannot_make_the_test_show_the_key(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    models = status(200, {"data": [{"id": f"my-{KEY}"}, {"id": KEY}]})
    found = check_chat(reply, models)
    assert found.models == ("my-***", "***")
    assert KEY[:8] not in found.message
    check_chat(reply, reply)
    check_chat(reply, models, llm_model=None)
    assert KEY not in caplog.text


def test_user_and_password_of_an_address_are_not_shown() -> None:
    with Endpoint(serve(error(401, "who is pa55word?"))) as endpoint:
        for url in (endpoint.url, "http://127.0.0.1:1/v1"):
            found = check(url.replace("://", "://ada:pa55word@") + "?token=t0ken")
            assert not {"ada", "pa55word", "t0ken"} & set(found.message.replace("?", " ").replace("@", " ").split())
            assert "pa55word" not in repr(found) and "t0ken" not in repr(found)
