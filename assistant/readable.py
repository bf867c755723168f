"""Records -> plain text that a person or a model reads: an answer with the list of its sources, hits, a paper."""

from __future__ import annotations

from collections.abc import Iterator

from assistant.types import Answer, Hits, Paper


def byline(paper: Paper) -> str:
    """Return who wrote a paper, where and when, as far as it is known."""
    who = f"{paper.authors[0]} et al." if len(paper.authors) > 3 else ", ".join(paper.authors)
    return ", ".join(str(each) for each in (who, paper.venue, paper.year) if each)


def paper_text(paper: Paper) -> str:
    """Return a paper with its abstract."""
    facts = [", ".join(paper.authors), ", ".join(str(each) for each in (paper.venue, paper.year) if each), paper.url]
    return "\n".join([paper.title or "(no title)", *filter(None, facts), "", paper.abstract])


def hits_text(hits: Hits) -> str:
    """Return what was found, each paper with the passage that matched, or why nothing was."""
    found = [f"{hit.rank}. {_line(hit.paper)}\n   {hit.passage}" for hit in hits]
    return "\n".join([*found, *([hits.reason] if hits.reason else []), *hits.warnings])


def answer_text(answer: Answer) -> str:
    """Return an answer with the list of its sources, their quotes, and what is to be known about it."""
    parts = [answer.text]
    if answer.citations:
        sources = [
            "\n".join([f"[{number}] {_line(paper)}", *(f"    “{quote}”" for quote in quotes)])
            for number, paper, quotes in cited(answer)
        ]
        parts.append("\n".join(["Sources:", *sources]))
    if answer.abstained and answer.closest:
        parts.append("\n".join(["Closest papers:", *(f"- {_line(paper)}" for paper in answer.closest)]))
    return "\n\n".join([*parts, *(f"Note: {each}" for each in notes(answer))])


def cited(answer: Answer) -> list[tuple[int, Paper, list[str]]]:
    """Return the number, the paper and the quotes of each source that an answer cites, by number."""
    quotes: dict[int, dict[str, None]] = {}
    for each in answer.citations:
        quotes.setdefault(each.number, {})[each.quote] = None
    return [(number, answer.evidence[number - 1].paper, list(quotes[number])) for number in sorted(quotes)]


def notes(answer: Answer) -> Iterator[str]:
    """Yield what a reader has to know about an answer."""
    if answer.fallback:
        yield f"these are sentences of the abstracts, word for word, because {answer.fallback.message}"
    elif not answer.complete:
        yield "the model's answer was cut at its length limit"
    checks = answer.checks
    unheld = [*(each.figure for each in checks.figures_unsupported), *(each.name for each in checks.names_unsupported)]
    if unheld:
        yield f"not found in the cited abstracts: {', '.join(dict.fromkeys(unheld))}"
    if checks.citations_unsupported:
        doubtful = dict.fromkeys(f"[{each.number}]" for each in checks.citations_unsupported)
        yield f"cited for what the abstract may not say: {', '.join(doubtful)}"
    yield from answer.warnings
    if answer.library == "sample":
        yield "from the built-in sample library"


def _line(paper: Paper) -> str:
    details = ", ".join(filter(None, (byline(paper), paper.url)))
    return f"{paper.title or '(no title)'}{f' ({details})' if details else ''}; id {paper.id}"
