"""A conversation -> the messages of the chat: answers with markers that lead to their cards, flags in place, notes.

Each answer is two messages: its text, and the notes on it, which its text cannot reach. Texts are escaped markdown;
around them stand a few elements of our own, whose ids carry the exchange's number and the citation's place in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from assistant import shown
from assistant.conversations import Exchange
from assistant.types import Answer

_FIGURE = "This number is not in the abstracts that the sentence cites: check it before you use it."
_NAME = "This name is not in the abstracts that the sentence cites: check it before you use it."
_CITATION = "The cited abstract may not say this: compare it with the quote."
_PHASES = {"searching": "searched", "reading": "read {}", "writing": "wrote"}


def messages(exchanges: Sequence[Exchange], suggestions: Sequence[str] = (), *, place: int = 0) -> list[dict[str, Any]]:
    """Return a conversation for the chat.

    Args:
        exchanges: In order.
        suggestions: Questions that go on from the last answer.
        place: Of the last question in the line of those that wait.
    """
    made: list[dict[str, Any]] = []
    for each in exchanges:
        made.append({"role": "user", "content": shown.markdown(each.question)})
        text = answer_text(each)
        if text:
            made.append({"role": "assistant", "content": text})
        made.append({"role": "assistant", "content": _notes(each, place)})
    if made and suggestions:
        made[-1]["options"] = [{"value": each} for each in suggestions]
    return made


# --- The text ---------------------------------------------------------------------------------------------------------


def answer_text(each: Exchange) -> str:
    """Return the answer's text as markdown: each marker a link to its card, what is flagged in a span that says why."""
    answer = each.answer
    formatted = answer is None or answer.answerer == "llm" or not answer.complete
    out, end = "", 0
    for start, stop, before, after in _insertions(each):
        if start >= end:
            out += shown.markdown(each.text[end:start], formatted=formatted)
            out += before + shown.markdown(each.text[start:stop], formatted=formatted) * bool(before) + after
            end = stop
    return shown.widen_tables(out + shown.markdown(each.text[end:], formatted=formatted))


def _insertions(each: Exchange) -> list[tuple[int, int, str, str]]:
    """Return what is put around which part of the text, in order; a marker is replaced whole."""
    found = []
    doubtful = {(mark.start, mark.end) for mark in each.answer.checks.citations_unsupported} if each.answer else set()
    for place, marker in enumerate(each.citations, 1):
        span = (marker.text_start, marker.text_end)
        kind, title = ("mark doubt", f' title="{_CITATION}"') if span in doubtful else ("mark", "")
        link = f'<a class="{kind}" id="at-{each.number}-{place}" href="#src-{each.number}-{marker.number}"{title}>'
        found.append((*span, "", f"{link}[{marker.number}]</a>"))
    kept = shown.kept(each.text)
    for start, end, title in _flags(each.answer):
        if not any(first < end and start < last for first, last in kept):
            found.append((start, end, f'<span class="flag" title="{title}">', "</span>"))
    return sorted(found)


def _flags(answer: Answer | None) -> Iterator[tuple[int, int, str]]:
    if answer:
        yield from ((each.start, each.end, _FIGURE) for each in answer.checks.figures_unsupported)
        yield from ((each.start, each.end, _NAME) for each in answer.checks.names_unsupported)


# --- The notes --------------------------------------------------------------------------------------------------------


def _notes(each: Exchange, place: int) -> str:
    """Return what is to be said of an answer, and what can be done with it, as one block of HTML."""
    parts = [f'<p class="{kind}">{_line(text)}</p>' for kind, text in _remarks(each, place)]
    if each.over:
        parts.append(f'<p class="acts">{"".join(_acts(each))}</p>')
    state = "over" if each.over else "busy"
    return f'<div class="notes {state}" id="notes-{each.number}">{"".join(parts)}</div>'


def _line(text: str) -> str:
    return shown.markdown(" ".join(text.split()))


def _remarks(each: Exchange, place: int) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each remark."""
    if not each.over:
        yield "stage", _stage(each, place)
    elif each.state == "stopped":
        yield "warn", "Stopped before its end. What stands above keeps its sources."
    elif each.state == "failed":
        yield "warn", f"This question could not be answered: {each.fault}"
    if each.answer:
        yield from (("warn", text) for text in _warnings(each.answer))
        yield from (("note", text) for text in _provenance(each.answer))
    if each.over and each.phases:
        yield "time", _timing(each)


def _stage(each: Exchange, place: int) -> str:
    if each.state == "waiting":
        return f"Waiting for its turn: number {place} in line…" if place else "Waiting for its turn…"
    words = {"searching": "Searching the library…", "reading": f"Reading {_abstracts(each)}…", "writing": "Writing…"}
    return words[each.state]


def _abstracts(each: Exchange) -> str:
    return f"{len(each.evidence)} {'abstract' if len(each.evidence) == 1 else 'abstracts'}"


def _timing(each: Exchange) -> str:
    """Return what took how long."""
    said = [(_PHASES[phase.name].format(_abstracts(each)), phase.seconds) for phase in each.phases]
    line = " · ".join(f"{what} {'<' * (s < 0.01)}{max(s, 0.01):.{2 if s < 1 else 1}f} s" for what, s in said)
    return line[:1].upper() + line[1:]


def _warnings(answer: Answer) -> Iterator[str]:
    """Yield what a reader has to know before relying on the answer."""
    if answer.fallback:
        what = "did not answer" if answer.complete else "did not finish"
        yield f"The language model {what}: {answer.fallback.message.rstrip('.')}."
    elif not answer.complete:
        yield "The model's answer was cut at its length limit."
    checks = answer.checks
    if checks.figures_unsupported:
        figures = ", ".join(dict.fromkeys(each.figure for each in checks.figures_unsupported))
        yield f"Figures not found in the cited abstracts: {figures}."
    if checks.names_unsupported:
        names = ", ".join(dict.fromkeys(each.name for each in checks.names_unsupported))
        yield f"Names not found in the cited abstracts: {names}."
    if checks.citations_unsupported:
        numbers = ", ".join(f"[{number}]" for number in dict.fromkeys(c.number for c in checks.citations_unsupported))
        yield f"Citations whose abstract may not say so: {numbers}."
    if checks.markers_dropped:
        yield f"Citations that named no source and were left out: {checks.markers_dropped}."
    yield from answer.warnings


def _provenance(answer: Answer) -> Iterator[str]:
    if not answer.abstained and answer.answerer == "extractive" and answer.complete:
        why = "" if answer.fallback else ": no language model was asked"
        yield f"Sentences of the abstracts, word for word{why}."
    elif answer.answerer == "llm" and answer.model and not answer.abstained:
        yield f"Written by {answer.model} from the abstracts beside."
    if answer.library == "sample":
        yield "From the built-in sample library."


def _acts(each: Exchange) -> Iterator[str]:
    """Yield the buttons of an answer; their ids say what is done with which exchange."""
    n, verdict = each.number, each.feedback.verdict if each.feedback else ""
    if each.answer and (each.answer.citations or each.answer.closest):
        label = "Closest papers" if each.answer.abstained else "Sources"
        yield f'<a class="act" href="#sources-{n}">{label}</a>'
    buttons = [("copy", "Copy", bool(each.text)), ("retry", "Retry", True), ("edit", "Edit question", True)]
    yield from (f'<button class="act" id="{act}-{n}">{label}</button>' for act, label, wanted in buttons if wanted)
    if each.answer:
        for act, label in (("like", "Helpful"), ("dislike", "Not helpful")):
            yield f'<button class="act{" on" if verdict == act else ""}" id="{act}-{n}">{label}</button>'
