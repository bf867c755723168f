"""What an answerer says -> Answer, and the Record it rests on: the one way, for an answer live and for one replayed.

In goes what is known before anything is said, then each attempt of an answerer, in pieces or whole; out come pieces of
final text, and at the end an Answer that is a pure function of its Record. No library, endpoint, encoder or clock is
asked here. What an answerer says is refused by the gate alone; an answer left without a citation becomes an abstention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from assistant.abstain import ABSTENTIONS
from assistant.followup import read_rewriting, searched_text
from assistant.gate import Gate
from assistant.types import Answer, Citation, Digest, Evidence, Fallback, Paper, Prompt, Reason, Seconds, Turn, Usage

Answerer = Literal["llm", "extractive"]

_FAULTS = {
    "llm_timeout": "The endpoint did not finish in time, so its answer breaks off here.",
    "llm_unavailable": "The connection to the endpoint was lost, so its answer breaks off here.",
    "llm_rejected": "The endpoint refused to go on, so its answer breaks off here.",
    "llm_unparsable": "The rest of the endpoint's answer could not be read.",
}


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What a model made of a follow-up so that it stands by itself."""

    messages: tuple[Turn, ...]
    text: str
    """As it came from the endpoint."""
    fault: Fallback | None = None

    @property
    def question(self) -> str | None:
        """The rewritten question; None where the rules have to do."""
        return None if self.fault else read_rewriting(self.text)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what was found for it, before anything is said."""

    question: str
    history: tuple[Turn, ...]
    k: int
    where: tuple[str, ...]
    searched: str
    """The text that is searched: as the model rewrote the question, else by the rules."""
    rewriting: Rewriting | None
    """None when the question stands by itself, or no model was asked to rewrite it."""
    closest: tuple[Paper, ...]
    """The best papers, offered with an abstention."""
    declined: Reason | None = None
    """Why no answerer is asked; None when one is."""
    nothing: str | None = None
    """Why the search found nothing, in words."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one answerer said, as it came, before the gate."""

    answerer: Answerer
    prompt: int
    """Number of the prompt it was given, from 1."""
    text: str
    complete: bool
    """False when a fault or the length limit cut it."""
    fault: Fallback | None = None
    """The fault that ended it, after `text`."""


@dataclass(frozen=True, slots=True)
class Made:
    """The circumstances of an answer, which do not follow from what was said."""

    library: str
    encoder: str | None
    model: str | None
    """The model that is configured, whether or not it was asked."""
    endpoint: str | None
    """Its address, without user and password; None without a model."""
    settings: Mapping[str, Any]
    """Those that shape an answer."""
    digest: Digest
    usage: Usage
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Record:
    """All that an answer rests on: the same Record always gives the same Answer."""

    asked: Asked
    prompts: tuple[Prompt, ...]
    """The second one is shorter, for a model that the first was too long for."""
    attempts: tuple[Attempt, ...]
    """In order; the last one that was made is the answer, with what the one before it had shown."""
    made: Made


class Draft:
    """An answer while it is said: for each attempt `begin`, `hear` as often as need be, then `end` or `fail`."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        nothing = Prompt(asked.question, asked.searched, (), (), 0, 0, tokens_estimated=False, digest="")
        self.prompt, self._gate = nothing, Gate(nothing)
        self._prompts: list[Prompt] = []
        self._attempts: list[Attempt] = []
        self._answerer: Answerer = "extractive"
        self._heard: list[str] = []
        self._broke_off = False
        """A fault came after text had been shown."""

    @property
    def started(self) -> bool:
        """True once something was shown: it stays, and so do its numbers."""
        return self._gate.started

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What may be cited, as far as it is known by now."""
        return self._gate.evidence

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The markers in the text that is final by now."""
        return tuple(self._gate.citations)

    def read(self, prompt: Prompt) -> None:
        """Take the prompt that the first attempt will be given: its evidence is known from now on."""
        self.prompt, self._gate = prompt, Gate(prompt)

    def begin(self, answerer: Answerer, prompt: Prompt) -> list[str]:
        """Begin an attempt: anew, or after what was shown, under the same numbers; return what is said in between."""
        self._answerer, self._heard = answerer, []
        if self._gate.started:
            self._broke_off = True
            self._gate.cut()
            fault = self._fault
            return self._gate.feed(f"\n\n{_FAULTS.get(fault.error, '')} From the abstracts:\n\n") if fault else []
        self.prompt, self._gate = prompt, Gate(prompt)
        if prompt not in self._prompts:
            self._prompts.append(prompt)
        return []

    def hear(self, piece: str) -> list[str]:
        """Take in raw text; return what became final."""
        self._heard.append(piece)
        return self._gate.feed(piece)

    def end(self, *, complete: bool = True) -> list[str]:
        """End an attempt; return what became final."""
        self._keep(None, complete=complete)
        return self._gate.close()

    def fail(self, fault: Fallback) -> None:
        """End an attempt that a fault cut off."""
        self._keep(fault, complete=False)

    def _keep(self, fault: Fallback | None, *, complete: bool) -> None:
        number = self._prompts.index(self.prompt) + 1
        self._attempts.append(Attempt(self._answerer, number, "".join(self._heard), complete, fault))

    @property
    def reason(self) -> Reason | None:
        """Why the answer abstains; None when it does not."""
        if self.asked.declined or self._gate.citations:
            return self.asked.declined
        return "not_in_sources" if self._gate.refused or self._answerer == "extractive" else "all_citations_invalid"

    @property
    def text(self) -> str:
        """The text of the answer: what was shown, or the words of an abstention."""
        reason, (_, _, excluded) = self.reason, (self.asked.nothing or "").partition(": ")
        if reason is None:
            return self._gate.text
        return f"{ABSTENTIONS[reason]} ({excluded})" if reason == "filter_excluded_all" else ABSTENTIONS[reason]

    @property
    def _fault(self) -> Fallback | None:
        """The last fault."""
        return next((each.fault for each in reversed(self._attempts) if each.fault), None)

    def record(self, made: Made) -> Record:
        """Return what the answer rests on."""
        return Record(self.asked, tuple(self._prompts), tuple(self._attempts), made)

    def answer(self, made: Made) -> Answer:
        """Return the answer, after its last attempt."""
        reason, checks = self.reason, self._gate.checks
        if reason:  # Nothing is shown that a flag could point at.
            flags: dict[str, Any] = {
                each.name: () for each in dataclasses.fields(checks) if isinstance(getattr(checks, each.name), tuple)
            }
            checks = dataclasses.replace(checks, **flags)
        fallback = self._fault if self._answerer == "extractive" else None
        return Answer(
            question=self.asked.question,
            searched=self.asked.searched,
            text=self.text,
            answerer=self._answerer,
            model=made.model if self._answerer == "llm" or fallback else None,
            abstained=reason is not None,
            reason=reason,
            citations=() if reason else tuple(self._gate.citations),
            evidence=self._gate.evidence,
            closest=self.asked.closest if reason else (),
            checks=checks,
            fallback=fallback,
            usage=made.usage,
            seconds=made.seconds,
            digest=made.digest,
            library=made.library,
            complete=not self._broke_off and all(each.complete for each in self._attempts[-1:]),
            warnings=self.asked.warnings,
        )


def answer_again(record: Record) -> Answer:
    """Return the answer that follows from a record, by the way that a live answer goes.

    Raises:
        IndexError: An attempt names a prompt that the record does not hold.
    """
    asked = record.asked
    rewritten = asked.rewriting.question if asked.rewriting else None
    draft = Draft(dataclasses.replace(asked, searched=rewritten or searched_text(asked.question, asked.history)))
    for attempt in record.attempts:
        draft.begin(attempt.answerer, record.prompts[attempt.prompt - 1])
        draft.hear(attempt.text)
        if attempt.fault:
            draft.fail(attempt.fault)
        else:
            draft.end(complete=attempt.complete)
    return draft.answer(record.made)
