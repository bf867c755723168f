"""Settings -> does the LLM endpoint answer, and if not, what is wrong and what to do: the test of a connection.

In: a Config and a deadline. Out: always a Probe, whatever the endpoint does. At most 3 requests: the list of models,
whose failure alone is no fault, as some servers have none; one tiny chat, streamed as every answer is, a second time
without a field that the endpoint refuses; and where OpenAI's protocol is not spoken, the list of models at the address
that was probably meant. What is sent, read, redacted and called a fault is the business of `llm` and `completion`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import urlsplit

from assistant.completion import Completion, Fault
from assistant.config import Config
from assistant.errors import LLMError, LLMRejected, LLMUnparsable
from assistant.llm import LLM, Reply, list_models

Kind = Literal[
    "ok", "no_streaming", "no_model", "bad_address", "refused", "unknown_host", "tls", "timeout", "key",
    "unknown_model", "not_openai", "rejected", "busy", "broken", "unparsable", "empty",
]  # fmt: skip

MAX_REQUESTS = 3
LISTING_SHARE = 0.5
"""Of the time, what the list of models may take before a chat."""
ANSWER_TOKENS = 16
"""Length limit of the chat: little even for a slow machine; a model that is cut there works."""
PROMPT = "Reply with the word ready."
NAMES, NEAR = 3, 70.0
"""Models that a message names; how alike a name is that may have been meant, of 100."""

_ABSENT = {404, 405, 501}
"""How a server says that it does not have what is asked for, or not in this way."""
_UNREACHED = {"bad_address", "refused", "unknown_host", "tls"}
"""Faults that every other request would meet, too."""
_NAMES_MODEL = re.compile(
    r"model_?(id_?)?(not_?found|not_?exist)|\b(unknown|invalid|no such|unable to access|not a valid) model\b"
    r"|not have access to model\b|\bmodel\b.{0,200}\bnot (found|exist|available|loaded|deployed)\b",
    re.IGNORECASE | re.DOTALL,
)
"""What an endpoint says that does not have the model; nothing about what a model cannot do."""
_NAMES_KEY = re.compile(r"\bapi[ _-]?key\b", re.IGNORECASE)
_NAMES_LIMIT = re.compile(r"output limit was reached", re.IGNORECASE)
"""What OpenAI says, with status 400, where a model has spent all its tokens on thoughts."""
_VERSION, _DOOR = re.compile(r"/v\d+\w*(/|$)"), re.compile(r"/(chat/completions|completions|models)$")
"""In the path of an address: what it should have, and what it should leave off."""
_TEXTS = {
    "ok": "The model {model} at {address} answers; its first words came after {first} s.",
    "ok, cut": "The model {model} at {address} answers; it spent the tokens of this test on its thoughts, which is no"
    " fault.",
    "no_streaming": "The model {model} at {address} answers, but all at once: stream=true is ignored, so nothing is"
    " shown before an answer is complete. Turn streaming on at the server, or at a proxy before it.",
    "no_model": "No model is named, so no LLM is asked. Set llm_model, and llm_base_url unless OpenAI itself is meant.",
    "no_model, listed": "No model is named. Set llm_model to one that {address} lists: {names}.",
    "no_model, unlisted": "No model is named, and {address} lists none. Set llm_model to the name that is used there.",
    "bad_address": "{address} is no address that a request can be sent to: {said}. Correct llm_base_url; it looks like"
    " http://127.0.0.1:8080/v1.",
    "refused": "Nothing can be reached at {address}: {said}. Start the server there, or correct llm_base_url.",
    "unknown_host": "The host in {address} is not known: {said}. Check the spelling of llm_base_url, and the network.",
    "tls": "There is no secure connection to {address}: {said}. If only plain HTTP is spoken there, write http:// in"
    " llm_base_url; else SSL_CERT_FILE can name the certificates to trust.",
    "timeout": "{address} has not answered within {deadline} s. Check llm_base_url, and that the server is not stuck.",
    "timeout, listed": "{address} lists its models, but {model} has not answered within {deadline} s. If it is still"
    " being loaded, try again in a minute; else see the server's log.",
    "timeout, begun": "The model {model} at {address} began to answer after {first} s, but was not done within"
    " {deadline} s. Try again, or take a faster model.",
    "key": "{address} does not accept the key: {said}. Check llm_api_key.",
    "key, missing": "{address} wants a key, and none is set: {said}. Set llm_api_key.",
    "key, kept": "{address} wants a key: {said}. The one in the environment is not sent to an address from a file: set"
    " both in the same place.",
    "key, odd": "The key for {address} holds characters that cannot be sent. Check llm_api_key.",
    "unknown_model": "{address} does not have the model {model}: {said}. Set llm_model to the name that is used there.",
    "unknown_model, listed": "{address} does not have the model {model}: {said}. It lists {names}: set llm_model.",
    "unknown_model, near": "{address} does not have the model {model}: {said}. Did you mean {names}?",
    "not_openai, meant": "OpenAI's protocol is not spoken at {address}. Did you mean {meant}? It is spoken there.",
    "not_openai, absent": "{address} has no chat completions: {said}. Check llm_base_url, which mostly ends in /v1, and"
    " that OpenAI's protocol is spoken there.",
    "other": "{error}.",
}
"""What is told of each kind, in each of its cases; of all others, what `llm` says in its error."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a test of the connection found."""

    ok: bool
    """Questions can be answered with these settings."""
    kind: Kind
    """`ok` or `no_streaming` where they can; else the fault."""
    message: str
    """What was found and what to do next: plain text, in which the endpoint has a say."""
    model: str | None
    """The model that is configured."""
    models: tuple[str, ...]
    """Those that the endpoint lists: names given by a stranger."""
    first_token_s: float | None
    """From the question to the first text; None if there was none."""
    total_s: float
    streams: bool | None
    """Whether the answer came as a stream of events; None: there was no answer."""
    requests: int
    """Those that were sent."""


def probe(config: Config, *, deadline_s: float = 10) -> Probe:
    """Test the connection to the endpoint of these settings; nothing is raised, and nothing runs on afterwards.

    Args:
        config: Names the endpoint, the key and the model. While neither model nor address are set, nothing is sent.
        deadline_s: How long it may take in all, in seconds.
    """
    return _Test(config, deadline_s).run()


class _Test:
    """One test, while it runs."""

    def __init__(self, config: Config, deadline_s: float) -> None:
        self._config, self._address, self._model = config, config.endpoint, config.llm_model or ""
        self._begun, self._deadline_s = time.monotonic(), deadline_s
        self._models: tuple[str, ...] = ()
        self._first_s: float | None = None
        self._streams: bool | None = None
        self._requests = 0
        self._error: LLMError | None = None
        self._fault = Fault("other")
        """What ended the last reply, if anything did, and what is behind that."""
        self._meant = ""
        """The address that was probably meant."""

    def run(self) -> Probe:
        """Ask, and tell what was found."""
        kind = self._find()
        return Probe(
            ok=kind in {"ok", "no_streaming"},
            kind=kind,
            message=self._tell(kind),
            model=self._config.llm_model,
            models=self._models,
            first_token_s=self._first_s,
            total_s=time.monotonic() - self._begun,
            streams=self._streams,
            requests=self._requests,
        )

    # --- Asking -------------------------------------------------------------------------------------------------------

    def _find(self) -> Kind:
        if not self._model and self._config.origins["llm_base_url"] == "default":
            return "no_model"
        self._list(self._config, LISTING_SHARE if self._model else 1.0)
        if self._error and self._fault.kind in _UNREACHED:
            return cast("Kind", self._fault.kind)
        kind = self._chat() if self._model else self._without_model()
        if kind == "not_openai" and self._requests < MAX_REQUESTS:
            self._meant = self._look_elsewhere()
        return kind if self._model or kind != "not_openai" or self._meant else "no_model"

    def _list(self, config: Config, share: float = 1.0) -> None:
        """Ask for the names of the models, until that share of the time is over."""
        names = tuple(self._hear(list_models(config, deadline=self._begun + share * self._deadline_s)))
        self._models = () if self._error else names

    def _chat(self) -> Kind:
        """Have a word with the model."""
        llm, deadline = LLM(self._config.changed(answer_tokens=ANSWER_TOKENS)), self._begun + self._deadline_s
        messages = [{"role": "user", "content": PROMPT}]
        asked, left = time.monotonic(), MAX_REQUESTS - self._requests
        stream = llm.stream(messages, deadline=deadline, max_requests=left)
        for _ in self._hear(stream):
            self._first_s = self._first_s or time.monotonic() - asked
        return self._judge(stream.completion)

    def _look_elsewhere(self) -> str:
        """Return the address that was probably meant, if models are listed there, or would be for the right key."""
        url = urlsplit(self._config.llm_base_url)
        path = _DOOR.sub("", url.path.rstrip("/"))
        path = path if _VERSION.search(path) else f"{path}/v1"
        if path == url.path.rstrip("/"):
            return ""
        address = url._replace(path=path).geturl()
        meant = self._config.changed(llm_base_url=address, llm_api_key=self._config.api_key)
        before = self._models, self._error, self._fault
        self._list(meant)
        is_there = not self._error or self._fault.code in {401, 403}
        models, self._error, self._fault = before
        self._models = self._models or models
        return meant.endpoint if is_there else ""

    def _hear(self, reply: Reply) -> Iterator[str]:
        """Iterate the pieces of a reply; note what ended it, if that was not its end."""
        self._error = None
        try:
            yield from reply
        except LLMError as error:
            self._error, self._fault = error, reply.fault or Fault("other")
        finally:
            reply.close()
            self._requests += reply.requests

    # --- Judging ------------------------------------------------------------------------------------------------------

    def _without_model(self) -> Kind:
        if self._error is None:
            return "no_model"
        if self._fault.kind == "timeout":
            return "timeout"
        return "key" if self._fault.code in {401, 403} else "not_openai"

    def _judge(self, completion: Completion) -> Kind:
        """Name what came of the chat."""
        if completion.n_chunks:
            self._streams = not completion.is_json
        error, fault = self._error, self._fault
        if error is None or (completion.is_empty and completion.is_cut):
            return "no_streaming" if completion.is_json else "ok"
        if fault.kind == "status":
            return self._judge_status(error, fault)
        if completion.is_empty or fault.kind != "other":
            return "empty" if completion.is_empty else cast("Kind", fault.kind)
        kinds: dict[type[LLMError], tuple[Kind, Kind]] = {
            LLMUnparsable: ("unparsable", "not_openai"),
            LLMRejected: ("rejected", "key"),  # a content filter; or a key that was not sent
        }
        late, early = kinds.get(type(error), ("broken", "broken"))
        return late if completion.n_chunks else early

    def _judge_status(self, error: LLMError, fault: Fault) -> Kind:
        """Name what a status means, or an error in place of an answer, whose status is 200."""
        code, said = fault.code, fault.said
        is_named = re.search(rf"(?<!\w){re.escape(self._model)}(?!\w)", said)
        is_unknown = code == 404 and (is_named or (self._models and self._model not in self._models))
        if code not in {401, 429} and (is_unknown or _NAMES_MODEL.search(said)):
            return "unknown_model"
        if code == 400 and _NAMES_LIMIT.search(said):
            return "ok"
        if code in {401, 403} or (code == 400 and _NAMES_KEY.search(said)):
            return "key"
        if 300 <= code < 400 or code in _ABSENT:
            return "not_openai"
        if isinstance(error, LLMUnparsable):
            return "unparsable"
        is_refused = isinstance(error, LLMRejected)
        return "busy" if code == 429 else "rejected" if is_refused else "broken"

    # --- Telling ------------------------------------------------------------------------------------------------------

    def _tell(self, kind: Kind) -> str:
        others = [name for name in self._models if name != self._model]
        near = self._nearest(others) if kind == "unknown_model" else []
        names, fault, error = near or others, self._fault, str(self._error or "")
        status = f"status {fault.code}" if fault.kind == "status" and fault.code != 200 else ""
        text = _TEXTS.get(self._case(kind, others, near), _TEXTS["other"]).format(
            address=self._address,
            model=repr(self._model),
            names=", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else ""),
            said=", ".join(filter(None, (status, fault.said.rstrip(".")))),
            first=f"{self._first_s or 0:.1f}",
            deadline=f"{self._deadline_s:g}",
            error=error[:1].upper() + error[1:],
            meant=self._meant,
        )
        return "".join(each for each in text if each.isprintable())

    def _case(self, kind: Kind, others: Sequence[str], near: Sequence[str]) -> str:
        """Return the name of the text that fits."""
        key, is_sent, has_begun = self._config.api_key, self._fault.kind == "status", self._first_s is not None
        cases: dict[str, dict[str, object]] = {
            "ok": {"cut": not has_begun},
            "no_model": {"listed": others, "unlisted": self._requests},
            "timeout": {"begun": has_begun, "listed": self._models},
            "key": {"kept": not key and self._config.llm_api_key, "missing": not key, "odd": not is_sent},
            "unknown_model": {"near": near, "listed": others},
            "not_openai": {"meant": self._meant, "absent": self._fault.code in _ABSENT},
        }
        return next((f"{kind}, {name}" for name, is_it in cases.get(kind, {}).items() if is_it), kind)

    def _nearest(self, names: Sequence[str]) -> list[str]:
        """Return the names that are most like that of the configured model, best first."""
        from rapidfuzz import fuzz, process, utils

        alike, plain = fuzz.WRatio, utils.default_process
        found = process.extract(self._model, names, scorer=alike, processor=plain, score_cutoff=NEAR, limit=NAMES)
        return [name for name, *_ in found]
