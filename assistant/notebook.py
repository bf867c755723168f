"""What a notebook shows: an `Answer` with links to the list of its sources, `Hits` as a table, progress as a bar.

In: records, whose texts are strangers'. Out: HTML and markdown that hold those texts word for word and run, fetch and
link nothing that they ask for: links lead to papers by http and https, or within the answer.
"""

from __future__ import annotations

import html
import re
import secrets
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from assistant import shown
from assistant.readable import byline, cited, notes
from assistant.types import Answer, Hits, Paper

_FAINT = "opacity:.75;font-size:.9em"
"""No colour is set: the notebook's own are readable, light or dark."""
_CELL = "text-align:left;vertical-align:top"
_QUOTE = f"margin:.2em 0 .2em 1em;padding-left:.6em;border-left:2px solid rgba(128,128,128,.5);{_FAINT}"

# --- An answer --------------------------------------------------------------------------------------------------------


def answer_html(answer: Answer) -> str:
    """Return an answer as HTML: its text, notes, sources with their quotes; its ids are of this one showing."""
    ident = _ident()
    text = _linked(answer, _lines, lambda number: f'<a href="#{ident}-{number}">[{number}]</a>')
    parts = [f'<div style="white-space:pre-wrap;max-width:60em">{text}</div>']
    parts += [f'<p style="{_FAINT}">Note: {shown.html(each)}</p>' for each in notes(answer)]
    parts += [
        f'<div id="{ident}-{number}" style="margin-top:.6em">[{number}] {_paper(paper)}'
        + "".join(f'<div style="{_QUOTE}">“{shown.html(quote)}”</div>' for quote in quotes)
        + "</div>"
        for number, paper, quotes in cited(answer)
    ]
    if answer.abstained and answer.closest:
        papers = "".join(f"<li>{_paper(paper)}</li>" for paper in answer.closest)
        parts.append(f"<div>Closest papers:<ul>{papers}</ul></div>")
    return f'<div id="{ident}">{"".join(parts)}</div>'


def answer_markdown(answer: Answer) -> str:
    """Return an answer as markdown, for readers that know no HTML of ours but its anchors."""
    ident, is_formatted = _ident(), answer.answerer == "llm" and not answer.abstained
    text = _linked(
        answer,
        lambda prose: shown.markdown(prose, formatted=is_formatted),
        lambda number: f"[\\[{number}\\]](#{ident}-{number})",
    )
    parts = [shown.widen_tables(text), *(f"*Note:* {_flat(each)}" for each in notes(answer))]
    for number, paper, quotes in cited(answer):
        parts.append(f'<a id="{ident}-{number}"></a>\\[{number}\\] {_paper_markdown(paper)}')
        parts += [f"> “{_flat(quote)}”" for quote in quotes]
    if answer.abstained and answer.closest:
        parts += ["Closest papers:", "\n".join(f"- {_paper_markdown(paper)}" for paper in answer.closest)]
    return "\n\n".join(parts)


def _linked(answer: Answer, escape: Callable[[str], str], link: Callable[[int], str]) -> str:
    """Return the text of an answer, escaped, each marker a link."""
    out, end = "", 0
    for each in answer.citations:
        out += escape(answer.text[end : each.text_start]) + link(each.number)
        end = each.text_end
    return out + escape(answer.text[end:])


def _lines(text: str) -> str:
    """Return text as HTML with its white space as it is."""
    return "".join(part if part.isspace() else shown.html(part) for part in re.split(r"(\s*\n\s*|^\s+|\s+$)", text))


def _flat(text: str) -> str:
    return shown.markdown(" ".join(text.split()))


def _ident() -> str:
    return f"answer-{secrets.token_hex(6)}"


# --- Papers -----------------------------------------------------------------------------------------------------------


def hits_html(hits: Hits) -> str:
    """Return what was found as a table, or why nothing was."""
    rows = "".join(
        f'<tr><td style="{_CELL}">{hit.rank}</td><td style="{_CELL}">{_paper(hit.paper)}</td>'
        f'<td style="{_CELL}">{shown.html(hit.passage)}</td></tr>'
        for hit in hits
    )
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in ("", "Paper", "Passage"))
    said = [*([hits.reason] if hits.reason else []), *hits.warnings]
    told = "".join(f'<p style="{_FAINT}">{shown.html(each)}</p>' for each in said)
    return f"<div>{f'<table><tr>{head}</tr>{rows}</table>' if hits else ''}{told}</div>"


def _paper(paper: Paper) -> str:
    """Return a paper as a line of HTML, with where it can be read."""
    links = "".join(
        f' · <a href="{html.escape(address)}" target="_blank" rel="noopener noreferrer">{name}</a>'
        for name, address in shown.links(paper)
    )
    who = byline(paper)
    return f"<b>{shown.html(paper.title or '(no title)')}</b>{f', {shown.html(who)}' if who else ''}{links}"


def _paper_markdown(paper: Paper) -> str:
    links = "".join(f" · [{name}](<{_address(address)}>)" for name, address in shown.links(paper))
    who = byline(paper)
    return f"{_flat(paper.title or '(no title)')}{f', {_flat(who)}' if who else ''}{links}"


def _address(address: str) -> str:
    """Return an address that cannot end the link it stands in, nor be changed by a reader of markdown."""
    return re.sub(r"[^\w:/.?#=%+~-]", lambda found: f"&#{ord(found[0])};", address)


# --- Progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def progress(doing: str, tell: Callable[[int], Any] | None) -> Iterator[Callable[[int], Any] | None]:
    """Give what is told of progress: `tell` if there is one, else a bar in a notebook, else None."""
    if tell is not None or not _is_notebook():
        yield tell
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no widgets: it is a line of text then
        from tqdm.auto import tqdm

        bar = tqdm(desc=doing, unit=" papers", leave=False)
    with bar:
        yield bar.update


def _is_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
