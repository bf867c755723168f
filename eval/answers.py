"""Answers: facts held, citations that support, quotes, figures, refusals and cost; deterministic, no judge model.

Definitions:

- **fact recall**: share of a question's facts of which the text holds one of the listed strings, case ignored.
- **citation recall**: share of the statements (units of the text that say something) that the abstracts they cite
  support, taken together. **Citation precision**: share of the citations whose abstract supports the statement alone,
  or without which the others would not (Gao et al., EMNLP 2023, section 4.2, "Enabling Large Language Models to
  Generate Text with Citations"; there an NLI model decides on support).
- **supports**, here: the abstracts hold at least `SUPPORT` of the statement's distinct content terms, and its figures.
- **gold precision**: share of the citations that cite a paper judged relevant. **gold recall**: share of the papers of
  grade 2 that are cited.
- **abstention**: precision, recall and F1 of refusing, over all questions; an unanswerable one should be refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from assistant.answer import Assistant
from assistant.asking import Answerer, Search
from assistant.chunk import split_sentences
from assistant.config import Config
from assistant.library import Library
from assistant.llm import LLM
from assistant.text import terms
from assistant.types import Answer, Usage
from eval.data import Qrels, Question
from eval.measures import estimate

SUPPORT = 0.6
"""Least share of a statement's content terms that its sources must hold."""
ANSWERED = (
    "fact recall", "citation recall", "citation precision", "gold recall", "gold precision", "verbatim quotes",
    "figures supported", "refused",
)  # fmt: skip
"""Measures of a question's answer, each 0 to 1; those that do not apply to it are left out."""


@dataclass(frozen=True, slots=True)
class _Statement:
    text: str
    cited: tuple[str, ...]
    """Abstracts with titles, one a citation."""


def measure(question: Question, answer: Answer, gold: Mapping[str, int]) -> dict[str, float]:
    """Return the measures that apply to one answer."""
    found: dict[str, float] = {"refused": float(answer.abstained)}
    if not question.answerable:
        return found
    if question.fact_strings:
        text = answer.text.casefold()
        held = [
            not answer.abstained and any(each.casefold() in text for each in group) for group in question.fact_strings
        ]
        found["fact recall"] = float(np.mean(held))
    best = {paper for paper, grade in gold.items() if grade >= 2}
    cited = {citation.paper.id for citation in answer.citations}
    if best:
        found["gold recall"] = len(best & cited) / len(best)
    if answer.abstained:
        return found
    found["gold precision"] = float(np.mean([citation.paper.id in gold for citation in answer.citations]))
    quotes = [each.paper.abstract[each.start : each.end] == each.quote for each in answer.citations]
    found["verbatim quotes"] = float(np.mean(quotes))
    statements = list(_statements(answer))
    supported = [bool(each.cited) and _supports(each.text, each.cited) for each in statements]
    found["citation recall"] = float(np.mean(supported))
    precise = [ok for each in statements for ok in _precise(each)]
    found["citation precision"] = float(np.mean(precise)) if precise else 0.0
    shown = sum(len(figures(each.text)) for each in statements)
    # The product's check also reads number words, which are not counted here.
    found["figures supported"] = max(0.0, 1 - len(answer.checks.figures_unsupported) / shown) if shown else 1.0
    return found


def _statements(answer: Answer) -> Iterator[_Statement]:
    """Cut a text into lines and sentences, each with what it cites: markers in it or right behind it."""
    for line_start, line in _lines(answer.text):
        spans = split_sentences(line) or []
        for i, (start, end) in enumerate(spans):
            low = line_start + start
            high = line_start + (spans[i + 1][0] if i + 1 < len(spans) else len(line))
            inside = [each for each in answer.citations if low <= each.text_start < high]
            text = answer.text[low : line_start + end]
            for each in sorted(inside, key=lambda each: -each.text_start):
                if each.text_end <= line_start + end:
                    text = text[: each.text_start - low] + text[each.text_end - low :]
            if len(terms(text)) >= 3:
                yield _Statement(text, tuple(f"{each.paper.title} {each.paper.abstract}" for each in inside))


def figures(text: str) -> set[str]:
    """Return the numbers of a text, thousands separators and trailing zeros dropped.

    Written anew here, so that the product's own check of figures is not what it is graded by.
    """
    plain = (re.sub(r",(?=\d{3}\b)", "", each).rstrip(".,") for each in re.findall(r"\d[\d.,]*", text))
    return {each.rstrip("0").rstrip(".") if "." in each else each for each in plain}


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, line
        start += len(line)


def _supports(statement: str, sources: Sequence[str]) -> bool:
    held = set(terms(" ".join(sources)))
    wanted = set(terms(statement))
    known = figures(" ".join(sources))
    return len(wanted & held) >= SUPPORT * len(wanted) and figures(statement) <= known


def _precise(statement: _Statement) -> Iterator[bool]:
    for i, source in enumerate(statement.cited):
        others = statement.cited[:i] + statement.cited[i + 1 :]
        needed = _supports(statement.text, statement.cited) and not (others and _supports(statement.text, others))
        yield _supports(statement.text, [source]) or needed


def run(
    config: Config, questions: Sequence[Question], qrels: Qrels, cache: Path | None, off_topic: Sequence[str] = ()
) -> dict[str, Any]:
    """Ask every question, and claims of another field; return the tables and each question's values."""
    per_question: dict[str, dict[str, Any]] = {}
    with _Cached(config, cache) as assistant:
        for question in tqdm(questions, desc="asking", unit=" questions"):
            answer = assistant.ask(question.question, history=question.history)
            per_question[question.id] = {
                "kind": question.kind,
                "answerable": question.answerable,
                **measure(question, answer, qrels.get(question.id, {})),
                "reason": answer.reason,
                "fallback": answer.fallback.error if answer.fallback else None,
                "calls": answer.usage.llm_calls,
                "tokens": answer.usage.prompt_tokens + answer.usage.completion_tokens,
                "seconds": answer.seconds.total,
            }
        refused = [float(assistant.ask(claim).abstained) for claim in tqdm(off_topic, desc="asking", unit=" claims")]
    abstention = _abstention(per_question) | ({"off-topic refused": estimate(refused).as_dict()} if refused else {})
    return {"tables": _tables(per_question), "abstention": abstention, "per_query": per_question}


def _tables(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    groups: dict[str, list[Mapping[str, Any]]] = {"all": [each for each in found.values() if each["answerable"]]}
    for each in found.values():
        groups.setdefault(each["kind"], []).append(each)
    return {
        group: {name: estimate([each[name] for each in members if name in each]).as_dict() for name in ANSWERED}
        | {name: float(np.mean([each[name] for each in members])) for name in ("calls", "tokens")}
        for group, members in groups.items()
        if members
    }


def _abstention(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    refused = {name for name, each in found.items() if each["refused"]}
    right = {name for name, each in found.items() if not each["answerable"]}
    precision = len(refused & right) / len(refused) if refused else 0.0
    recall = len(refused & right) / len(right) if right else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "F1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "unanswerable refused": estimate([float(name in refused) for name in sorted(right)]).as_dict(),
        "answerable refused": estimate([float(name in refused) for name in found if name not in right]).as_dict(),
    }


class _Cached(Assistant):
    """An assistant whose endpoint is asked once for each prompt; what it said is kept in a folder."""

    def __init__(self, config: Config, folder: Path | None) -> None:
        super().__init__(config)
        self._folder = folder

    def _open_answerer(self) -> Answerer:
        answerer = super()._open_answerer()
        if self._folder and not isinstance(answerer, _CachedAnswerer):
            answerer = self._answerer = _CachedAnswerer(self._library, self._search, self._folder)
        return answerer


class _CachedAnswerer(Answerer):
    def __init__(self, library: Library, search: Search, folder: Path) -> None:
        super().__init__(library, search)
        self._folder = folder

    def _open_llm(self, config: Config) -> Any:
        return _CachedLLM(super()._open_llm(config), config, self._folder)


class _CachedLLM:
    def __init__(self, llm: LLM, config: Config, folder: Path) -> None:
        self._llm, self._config, self._folder = llm, config, folder

    def prepare(self) -> None:
        """Do nothing: what is kept needs no client."""

    def stream(self, messages: Sequence[Mapping[str, str]], *, deadline: float, max_requests: int = 3) -> Any:
        """Return what was said before to the same messages, or ask and keep it."""
        asked = json.dumps([self._config.llm_model, self._config.answer_tokens, list(messages)], sort_keys=True)
        file = self._folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
        if file.exists():
            return _Replayed(**json.loads(file.read_text(encoding="utf-8")))
        stream = self._llm.stream(messages, deadline=deadline, max_requests=max_requests)
        text = "".join(stream)
        usage = stream.usage
        kept: dict[str, Any] = {
            "text": text,
            "complete": stream.complete,
            "prompt": usage.prompt_tokens,
            "answer": usage.completion_tokens,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept | {"calls": usage.llm_calls}, ensure_ascii=False), encoding="utf-8")
        return _Replayed(**kept, calls=usage.llm_calls)


class _Replayed(Iterator[str]):
    """A kept reply, in one piece."""

    def __init__(self, text: str, prompt: int, answer: int, calls: int, *, complete: bool) -> None:
        self._pieces = iter([text])
        self.complete = complete
        self.usage = Usage(prompt, answer, calls)

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Nothing is open."""
