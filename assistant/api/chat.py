"""OpenAI's form: chat completions and the list of models, so that any client of that protocol can ask.

The last user message is the question, those before it are its history. A system message is told to the model as the
reader's wish for style, beside the question: it cannot change the rules, and no answer leaves without valid citations
whatever it says. Tools are never called: offered ones are ignored, demanded ones refused.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from assistant import access
from assistant.answer import TURN_CHARS
from assistant.api.events import Parts, begin, event
from assistant.api.faults import NotFound, Reply, broken_off, shorten
from assistant.api.forms import ASK_K, Where
from assistant.api.schema import EVENT, AnswerModel, Base
from assistant.api.shared import Service, errors
from assistant.bibliography import sources_markdown, without_sources
from assistant.config import Config
from assistant.errors import ConfigError
from assistant.retrieve import parse_where
from assistant.types import Answer

MODEL = "paper-assistant"
MESSAGES = 2_000
"""Most messages of a request; of a long history the last turns count."""
PARTS = 1_000
"""Most parts of one message."""
LEAST_TOKENS = 16
TITLE_CHARS = 60
_ROLES = Literal["system", "developer", "user", "assistant", "tool", "function"]
_TASK, _HISTORY = "### Task:", "<chat_history>"
"""How begins what Open WebUI asks in the background about a conversation, and where that stands in it."""
_WANTED = re.compile(r'"(title|tags|follow_ups|queries|text)":')
_SAID = re.compile(r"^user:[ \t]*+(.+)$", re.MULTILINE | re.IGNORECASE)


class _Lenient(BaseModel):
    """Fields that are not named here are ignored, as clients of the protocol expect; the others have their types."""

    model_config = ConfigDict(strict=True, extra="ignore")


class TextPart(_Lenient):
    """A part of a message."""

    type: str
    text: str | None = None


class Message(_Lenient):
    """One message."""

    role: _ROLES
    content: str | Annotated[list[TextPart], Field(max_length=PARTS)] | None = None

    @property
    def text(self) -> str:
        """Its text.

        Raises:
            ConfigError: It holds something else than text.
        """
        if isinstance(self.content, list):
            for part in self.content:
                if part.type != "text" or part.text is None:
                    raise ConfigError(f"a message holds a part of the type {shorten(part.type)}; send text alone")
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class StreamOptions(_Lenient):
    """What a stream tells besides."""

    include_usage: bool | None = None


class ResponseFormat(_Lenient):
    """Only `text` can be had."""

    type: Literal["text"]


class ChatForm(_Lenient):
    """A request; `k` and `where` are ours, as in `/api/v1/ask`. Sampling parameters are taken and change nothing."""

    model: Annotated[str, StringConstraints(max_length=200)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[Literal[1], Field(description="One answer.")] | None = 1
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[Literal[False], Field(description="There are none.")] | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    functions: list[dict[str, Any]] | None = None
    function_call: Any = None
    k: Annotated[int, Field(ge=1, le=ASK_K)] | None = None
    where: Where = []


class ModelModel(Base):
    """A model, as OpenAI's protocol has it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsModel(Base):
    """The list of the one model."""

    object: Literal["list"]
    data: list[ModelModel]


class UsageModel(Base):
    """Tokens that the endpoint read and wrote."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyModel(Base):
    """The one message."""

    role: Literal["assistant"]
    content: str


class ChoiceModel(Base):
    """The one choice."""

    index: int
    message: ReplyModel
    finish_reason: Literal["stop", "length"]
    logprobs: None


class CompletionModel(Base):
    """A chat completion, with the Answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChoiceModel]
    usage: UsageModel
    answer: AnswerModel | None  # type: ignore[valid-type]


def routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router, assistant, began = APIRouter(prefix="/v1", tags=["openai"]), service.assistant, int(time.time())
    model = {"id": MODEL, "object": "model", "created": began, "owned_by": MODEL}

    @router.post(
        "/chat/completions",
        summary="Answer in OpenAI's form",
        description=(
            "The Answer rides along as `answer`: at the top level of a completion, in the last chunk of a stream. Below"
            " the text stands a list of its sources."
        ),
        responses={
            200: {
                "model": CompletionModel,
                "description": "The completion; with `stream` its chunks as events, then `[DONE]`.",
                "content": {"text/event-stream": {"schema": EVENT}},
            },
            **errors(404, 413, 415, 422),
        },
    )
    async def complete(request: Request, form: ChatForm) -> Response:
        caller = access.require(request.scope, "ask").name
        _check_model(form.model)
        _check_tools(form)
        parse_where(form.where)
        question, history, style = _read(form.messages)
        frame = _Frame(with_usage=bool(form.stream_options and form.stream_options.include_usage))
        task = _small_task(question)
        if task is not None:
            return await begin(_said(task), frame.write) if form.stream else Reply(frame.whole(task, None))
        config = _shortened(assistant.config, form.max_completion_tokens or form.max_tokens)
        start = lambda: assistant.stream(  # noqa: E731
            question, history=history, k=form.k, where=form.where, config=config, style=style
        )
        if form.stream:
            return await begin(service.line.stream("openai", start, caller), frame.write)
        answer = await service.line.ask("openai", start, caller)
        return Reply(frame.whole(_shown(answer), answer))

    @router.get(
        "/models",
        summary="The one model",
        responses={200: {"model": ModelsModel, "description": "A list."}, **errors()},
    )
    async def models(request: Request) -> Response:
        access.require(request.scope, "ask")
        return Reply({"object": "list", "data": [model]})

    @router.get(
        "/models/{name:path}",
        summary="A model by its name",
        responses={200: {"model": ModelModel, "description": "The model."}, **errors(404, 422)},
    )
    async def one_model(request: Request, name: str) -> Response:
        access.require(request.scope, "ask")
        _check_model(name)
        return Reply(model)

    return router


# --- What is asked ----------------------------------------------------------------------------------------------------


def _check_model(name: str) -> None:
    if name != MODEL:
        told = f"there is no model {shorten(name)}; the one here is {MODEL!r}"
        raise NotFound(told, param="model", code="model_not_found")


def _check_tools(form: ChatForm) -> None:
    """Refuse a call that is demanded; tools that are only offered need not be called."""
    for name, wanted in (("tool_choice", form.tool_choice), ("function_call", form.function_call)):
        if wanted not in {None, "auto", "none"} if isinstance(wanted, (str, type(None))) else True:
            raise ConfigError(f"{name} demands {shorten(wanted)}, and no tools are called here; leave it out")


def _read(messages: Sequence[Message]) -> tuple[str, list[dict[str, str]], str]:
    """Return the question, its history, and the wish for style."""
    said = [(each.role, each.text) for each in messages]
    asked = [i for i, (role, _) in enumerate(said) if role == "user"]
    if not asked:
        raise ConfigError("no message has the role 'user'; the last one that has is the question")
    history = [
        {"role": role, "content": without_sources(text)[:TURN_CHARS]}
        for role, text in said[: asked[-1]]
        if role in {"user", "assistant"} and text
    ]
    style = "\n".join(text for role, text in said if role in {"system", "developer"})
    return said[asked[-1]][1], history, style


def _shortened(config: Config, tokens: int | None) -> Config:
    """Return settings for an answer of at most so many tokens; a caller may shorten answers, not lengthen them."""
    if tokens is None or tokens >= config.answer_tokens:
        return config
    return config.changed(answer_tokens=max(LEAST_TOKENS, tokens))


def _small_task(question: str) -> str | None:
    """Return the reply to what a front end asks about a conversation, in the form it wants; None for a question.

    No model is asked: the title is the first thing that was asked, and there are no tags or further questions.
    """
    order, _, conversation = question.partition(_HISTORY)
    wanted = _WANTED.search(order) if question.lstrip().startswith(_TASK) and conversation else None
    if wanted is None:
        return None
    first = _SAID.search(conversation)
    title = " ".join((first[1] if first else "Papers").split())[:TITLE_CHARS]
    said: Mapping[str, str | list[str]] = {"title": title, "text": ""}
    return json.dumps({wanted[1]: said.get(wanted[1], [])}, ensure_ascii=False)


async def _said(text: str) -> Parts:
    yield text


# --- What is replied --------------------------------------------------------------------------------------------------


def _shown(answer: Answer) -> str:
    """Return the text with its sources below."""
    return "\n\n".join(filter(None, [answer.text, sources_markdown(answer)]))


class _Frame:
    """What stands around a text in OpenAI's form."""

    def __init__(self, *, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": MODEL}

    def whole(self, text: str, answer: Answer | None) -> dict[str, Any]:
        """Return a completion."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _ending(answer)}
        return {
            **self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(answer),
            "answer": answer.as_dict() if answer else None,
        }  # fmt: skip

    async def write(self, parts: Parts) -> AsyncGenerator[str, None]:
        """Yield the events of a stream."""
        answer: Answer | None = None
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async for part in parts:
                if isinstance(part, str):
                    yield self._chunk({"content": part})
                else:
                    answer = part
        except Exception as error:  # noqa: BLE001 - a border: the response has begun, so that no status can tell it
            yield event(broken_off(error))
            return
        sources = sources_markdown(answer) if answer else ""
        if sources:
            yield self._chunk({"content": f"\n\n{sources}"})
        carried = {"answer": answer.as_dict()} if answer else {}
        if self._with_usage:
            yield self._chunk({}, _ending(answer))
            yield event({**self._chunk_head, "choices": [], "usage": _usage(answer), **carried})
        else:
            yield self._chunk({}, _ending(answer), **carried)
        yield event("[DONE]")

    @property
    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"}

    def _chunk(self, delta: Mapping[str, str], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._with_usage else {}
        return event({**self._chunk_head, "choices": [choice], **usage, **more})


def _ending(answer: Answer | None) -> str:
    return "stop" if answer is None or answer.complete or answer.fallback else "length"


def _usage(answer: Answer | None) -> dict[str, int]:
    used = (answer.usage.prompt_tokens, answer.usage.completion_tokens) if answer else (0, 0)
    return {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
