"""What the command line prints: results to stdout, what is to be known about them to stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from assistant.clean import drop_unseen

if TYPE_CHECKING:
    from assistant.answer import Assistant
    from assistant.asking import AnswerStream
    from assistant.types import Answer


def plain(text: str) -> str:
    """Return text that cannot drive a terminal."""
    return drop_unseen(text).replace("\r", "")


def say(text: str) -> None:
    """Print a line of the result."""
    print(plain(text))


def warn(lines: Sequence[str]) -> None:
    """Print lines beside the result."""
    for line in lines:
        print(f"assistant: {plain(line)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print the one JSON document."""
    print(json.dumps(value, ensure_ascii=False))


def name_of(assistant: Assistant) -> str:
    """Return what to call the library that answers."""
    return "the built-in sample library" if assistant.library == "sample" else assistant.library


def mention_sample(library: str) -> None:
    """Say so when the built-in sample answers."""
    if library == "sample":
        warn(["this is the built-in sample library; `assistant ingest FILE` starts your own"])


def cite(paper: dict[str, Any]) -> str:
    """Return a paper as one line."""
    authors = paper["authors"]
    who = f"{authors[0]} et al." if len(authors) > 1 else "".join(authors)
    details = ", ".join(str(each) for each in (who, paper["venue"], paper["year"], paper["url"]) if each)
    return f"{paper['title'] or '(no title)'}{f' ({details})' if details else ''}"


def print_stream(stream: AnswerStream, *, as_json: bool, is_chat: bool = False) -> None:
    """Print an answer as it comes, or as JSON."""
    logging.getLogger("assistant.asking").setLevel(logging.ERROR)  # An endpoint's fault is told in the notes.
    print_answer(stream, lambda: stream.answer, as_json=as_json, is_chat=is_chat)


def print_answer(pieces: Iterable[str], whole: Callable[[], Answer], *, as_json: bool, is_chat: bool = False) -> None:
    """Print an answer piece by piece, or as JSON when it is whole; what is to be known about it goes to stderr."""
    if as_json:
        print_json(whole().as_dict())
    else:
        for piece in pieces:
            sys.stdout.write(plain(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
        _print_sources(whole())
    sys.stdout.flush()
    warn(_notes(whole()))
    if not as_json and not is_chat:
        mention_sample(whole().library)


def _print_sources(answer: Answer) -> None:
    if answer.abstained and answer.closest:
        say("\nClosest papers:")
        for paper in answer.closest:
            say(f"  - {cite(paper.as_dict())}")
    cited = dict.fromkeys(citation.number for citation in answer.citations)
    if cited:
        say("\nSources:")
    for number in sorted(cited):
        say(f"  [{number}] {cite(answer.evidence[number - 1].paper.as_dict())}")
        for citation in answer.citations:
            if citation.number == number and answer.answerer == "llm":
                say(f"      “{citation.quote}”")


def _notes(answer: Answer) -> list[str]:
    """Return what is to be known about an answer beside it."""
    notes, checks = list(answer.warnings), answer.checks
    if answer.fallback:
        notes.append(f"answered with verbatim sentences, because {answer.fallback.error}: {answer.fallback.message}")
    if not answer.complete and not answer.fallback:
        notes.append("the endpoint cut this answer at its length limit")
    unheld = [*(each.figure for each in checks.figures_unsupported), *(each.name for each in checks.names_unsupported)]
    if unheld:
        notes.append(f"not found in the cited abstracts: {', '.join(dict.fromkeys(unheld))}")
    doubtful = dict.fromkeys(f"[{each.number}]" for each in checks.citations_unsupported)
    if doubtful:
        notes.append(f"cited for what the abstract may not say: {', '.join(doubtful)}")
    return notes
