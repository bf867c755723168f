"""Question + hits -> a prompt within the token budget; the words come from the files of `prompts/`.

Corpus text stands between two lines of a fence that no abstract can contain, because it is a digest of them all.
Nothing in an abstract is ever read as a template, and nothing in it ends a message: the marks by which servers part the
turns of a conversation are broken up.
"""

from __future__ import annotations

import hashlib
import re
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from assistant.errors import PromptError
from assistant.tokens import count_tokens
from assistant.types import Evidence, Hit, Prompt, Turn

REFUSAL = "NOT_IN_SOURCES"
"""The agreed form in which a model says that the abstracts do not hold the answer."""
STYLE_CHARS = 2_000
"""Of what a reader wishes for the manner of an answer, the beginning that the model is told."""
HISTORY_TURNS, HISTORY_CHARS = 6, 4_000
"""Of a conversation the model sees the last turns, up to so many characters."""

_OLD_MARKER = re.compile(r"\s?\[\d{1,3}\]")
"""An earlier answer's markers count other evidence than this question's."""

_TURN_MARK = re.compile(
    r"<(?=[|｜]|<?/?(?:s|bos|eos|sys|system|user|assistant|model|think|tool_call|tool_response|(?:start|end)_of_turn)>)"
    r"|\[(?=/?(?:inst|system_prompt|available_tools|tool_calls|tool_results)\])",
    re.IGNORECASE,
)
"""Where a mark begins that servers read as the start or end of a turn even inside a message: ChatML's `<|im_end|>`,
Llama's `[/INST]`, Gemma's `<end_of_turn>` and their kin."""

_VARIABLES = {
    "answer.toml": {
        "system": {"language", "fence"},
        "user": {"fence", "evidence", "question"},
        "passage": {"number", "title", "details", "text"},
    },
    "rewrite.toml": {"system": {"fence"}, "user": {"fence", "conversation", "question"}},
    "style.toml": {"user": {"style"}},
}
"""The texts of each prompt file, and the variables of each text."""


Texts = Mapping[str, string.Template]


@dataclass(frozen=True, slots=True)
class Templates:
    """The texts of the prompt files by name, checked."""

    answer: Texts
    """system, user, passage"""
    rewrite: Texts
    """system, user"""
    style: Texts
    """user"""
    digest: str
    """sha256 of the files, first 16 hex digits."""


def load_templates(folder: Path | None = None) -> Templates:
    """Read and check the prompt files: from `folder`, and what it lacks from those that ship.

    Raises:
        PromptError: The folder holds no prompt file, or one is unreadable or has missing or unknown texts or variables.
    """
    here = Path(__file__).parent
    shipped = next(place for place in (here / "prompts", here.parent / "prompts") if place.is_dir())
    own = {name for name in _VARIABLES if folder and (folder / name).is_file()}
    if folder and not own:
        raise PromptError(
            f"no prompt file {' or '.join(_VARIABLES)} in {folder}; put one there or unset ASSISTANT_PROMPTS"
        )
    files = [(folder if folder and name in own else shipped) / name for name in _VARIABLES]
    return _templates(tuple((file, *_state(file)) for file in files))


@lru_cache(8)
def _templates(files: tuple[tuple[Path, int, int], ...]) -> Templates:
    """Read the files, which are as they were: each question asks for them."""
    texts = {file.name: _read(file) for file, *_ in files}
    content = hashlib.sha256(b"".join(file.read_bytes() for file, *_ in files))
    return Templates(texts["answer.toml"], texts["rewrite.toml"], texts["style.toml"], content.hexdigest()[:16])


def _state(file: Path) -> tuple[int, int]:
    """Return what changes when a file is written: when, and its size."""
    try:
        found = file.stat()
    except OSError as error:
        raise PromptError(f"cannot read {file}: {error}; mend it") from error
    return found.st_mtime_ns, found.st_size


def _read(file: Path) -> Texts:
    wanted = _VARIABLES[file.name]
    try:
        texts = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PromptError(f"cannot read {file}: {error}; mend it") from error
    checked = {name: _check(file, name, texts, variables) for name, variables in wanted.items()}
    unknown = sorted(set(texts) - set(wanted))
    if unknown:
        raise PromptError(f"{file} has an unknown text {unknown[0]!r}; the texts are {', '.join(wanted)}")
    return checked


def _check(file: Path, name: str, texts: Mapping[str, object], variables: set[str]) -> string.Template:
    text = texts.get(name)
    if not isinstance(text, str):
        raise PromptError(f"{file} has no text {name!r}; add it")
    template = string.Template(text.strip())
    if not template.is_valid():
        raise PromptError(f"{name!r} in {file} has a stray $; write $$ for a dollar sign")
    found = set(template.get_identifiers())
    for missing in sorted(variables - found):
        raise PromptError(f"{name!r} in {file} lacks the variable ${missing}; add it")
    for unknown in sorted(found - variables):
        raise PromptError(
            f"{name!r} in {file} has an unknown variable ${unknown}; the variables are {', '.join(sorted(variables))}"
        )
    return template


def build_prompt(  # noqa: PLR0913 - settings by name
    question: str,
    hits: Sequence[Hit],
    templates: Templates,
    *,
    budget: int,
    searched: str | None = None,
    history: Sequence[Turn] = (),
    language: str | None = None,
    model: str | None = None,
    style: str = "",
) -> Prompt:
    """Render a question with as much evidence as fits.

    Each hit gives its whole abstract while the budget lasts, then its best passage alone; the hit that no longer fits
    ends the list. The first hit is always there, cut to its passage if need be.

    Args:
        question: Cleaned text.
        hits: Best first.
        templates: From `load_templates`.
        budget: Most tokens of evidence.
        searched: The question with what it takes from its conversation; None: the question.
        history: Earlier turns, cleaned.
        language: To answer in; None: that of the question.
        model: Whose vocabulary counts the tokens, where it is at hand.
        style: What the reader wishes for the manner of the answer, cleaned; it stands beside the question, below the
            rules.
    """
    evidence: list[Evidence] = []
    rendered: list[str] = []
    used, estimated = 0, False
    for hit in hits:
        for start, end in dict.fromkeys([(0, len(hit.paper.abstract)), (hit.start, hit.end)]):
            passage = hit.paper.abstract[start:end]
            piece = Evidence(len(evidence) + 1, hit.paper, passage, start, end, hit.score, hit.retrievers)
            text = _render(piece, templates)
            count = count_tokens(text, model)
            if used + count.n <= budget or (not evidence and (start, end) == (hit.start, hit.end)):
                break
        else:
            break
        evidence.append(piece)
        rendered.append(text)
        used, estimated = used + count.n, estimated or not count.exact
    body = break_turn_marks("\n\n".join(rendered))
    asked = break_turn_marks(question)
    fence = make_fence(asked, body)
    wish = templates.style["user"].substitute(style=break_turn_marks(style[:STYLE_CHARS])) if style else ""
    wanted = language or "the language of the question"
    posed = templates.answer["user"].substitute(fence=fence, evidence=body, question=asked)
    messages = (
        {"role": "system", "content": templates.answer["system"].substitute(language=wanted, fence=fence)},
        *_turns(history),
        {"role": "user", "content": "\n\n".join(filter(None, [posed, wish]))},
    )
    total = count_tokens("\n".join(message["content"] for message in messages), model)
    return Prompt(
        question,
        searched or question,
        messages,
        tuple(evidence),
        total.n,
        used,
        estimated or not total.exact,
        templates.digest,
    )


def make_fence(question: str, quoted: str) -> str:
    """Return a line that begins and ends quoted text: a digest of it, which it cannot contain itself."""
    return "===" + hashlib.sha256(f"{question}\0{quoted}".encode("utf-8", "replace")).hexdigest()[:16]


def break_turn_marks(text: str) -> str:
    """Return `text` with a space inside each mark that could end its message, so that it is read as text."""
    return _TURN_MARK.sub(r"\g<0> ", text)


def _render(piece: Evidence, templates: Templates) -> str:
    paper = piece.paper
    details = ", ".join(
        str(each) for each in (paper.authors[0] if paper.authors else None, paper.venue, paper.year) if each
    )
    return templates.answer["passage"].substitute(
        number=piece.number,
        title=paper.title or "(no title)",
        details=f"({details})" if details else "",
        text=piece.passage,
    )


def _turns(history: Sequence[Turn]) -> list[dict[str, str]]:
    """Return the last turns, oldest first, that fit."""
    kept: list[dict[str, str]] = []
    left = HISTORY_CHARS
    for turn in reversed(history[-HISTORY_TURNS:]):
        left -= len(turn["content"])
        if left < 0:
            break
        kept.insert(0, {"role": turn["role"], "content": break_turn_marks(_OLD_MARKER.sub("", turn["content"]))})
    return kept
