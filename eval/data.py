"""Questions, judgements, runs and collections: files in, checked records out; what cannot be read is refused by line.

Formats: question files (JSON lines, see `eval/README.md`), BEIR folders (`corpus.jsonl[.gz]`, `queries.jsonl`,
`qrels.tsv`), TREC qrels (four columns) and TREC runs (six columns).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.clean import clean, repair_latex
from assistant.errors import CorpusError
from assistant.identity import normalised_title
from assistant.papers import Record, Rejected
from assistant.sources import open_source
from assistant.types import Paper, Turn

Qrels = dict[str, dict[str, int]]
"""Grade of each judged document, by query: 0 is judged and not relevant."""
Run = dict[str, dict[str, float]]
"""Score of each document found, by query; higher is better."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a question file, or one query of a collection."""

    id: str
    kind: str
    question: str
    history: tuple[Turn, ...] = ()
    gold: Mapping[str, int] | None = None
    """Grade by exact title; None in a collection, whose judgements are a file of their own."""
    fact_strings: tuple[tuple[str, ...], ...] = ()
    """Per fact, alternatives of which a right answer contains one."""
    answerable: bool = True
    where: str = ""
    """File and line, for messages."""


def read_questions(path: Path) -> list[Question]:
    """Read a question file.

    Raises:
        CorpusError: The file is missing or empty, or a line is no question; names the line.
    """
    questions = []
    for where, raw in _json_lines(path):
        try:
            questions.append(
                Question(
                    id=str(raw["id"]),
                    kind=str(raw.get("kind", "all")),
                    question=str(raw["question"]),
                    history=tuple(raw.get("history") or ()),
                    gold={str(each["title"]): int(each["grade"]) for each in raw.get("gold", ())},
                    fact_strings=tuple(tuple(map(str, group)) for group in raw.get("fact_strings", ())),
                    answerable=bool(raw.get("answerable", True)),
                    where=where,
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f"{where} is no question ({type(error).__name__}: {error}); see eval/README.md"
            ) from error
    return _unique(questions, path)


def judge(questions: list[Question], papers: list[Paper]) -> Qrels:
    """Return judgements by paper id, from the gold titles of the answerable questions.

    Raises:
        CorpusError: A gold title is not in the library; names question, line and title.
    """
    ids = {normalised_title(paper.title): paper.id for paper in papers}
    qrels: Qrels = {}
    for question in questions:
        for title, grade in (question.gold or {}).items():
            paper_id = ids.get(normalised_title(repair_latex(clean(title))))
            if paper_id is None:
                raise CorpusError(
                    f"{question.where}: the gold title {title!r} of question {question.id} is not in the library;"
                    " give the papers that the questions are about"
                )
            if question.answerable:
                qrels.setdefault(question.id, {})[paper_id] = grade
    return qrels


@dataclass(frozen=True, slots=True)
class Collection:
    """A BEIR-layout collection; documents keep their `_id` and are not de-duplicated."""

    documents: dict[str, Record]
    queries: list[Question]
    """Those with judgements."""
    qrels: Qrels
    skipped: int
    """Queries without judgements."""


def read_collection(folder: Path, qrels_file: Path | None = None) -> Collection:
    """Read a collection in BEIR's layout.

    Raises:
        CorpusError: A file is missing, empty or damaged, or no query has judgements; names file and line.
    """
    corpus = next((folder / name for name in ("corpus.jsonl", "corpus.jsonl.gz") if (folder / name).exists()), None)
    if corpus is None:
        raise CorpusError(f"{folder} holds no corpus.jsonl or corpus.jsonl.gz; give a folder in BEIR's layout")
    documents: dict[str, Record] = {}
    for item in (item for opened in open_source(corpus, "jsonl") for item in opened.items):
        if isinstance(item, Rejected):
            raise CorpusError(f"{corpus}, {item.where}: {item.reason}; mend the line")
        if item.own_id is None or item.own_id in documents:
            raise CorpusError(f"{corpus}, {item.where}: the _id {item.own_id!r} is missing or occurs twice; mend it")
        documents[item.own_id] = item
    if not documents:
        raise CorpusError(f"{corpus} is empty; give a corpus with documents")
    qrels = read_qrels(qrels_file or folder / "qrels.tsv")
    queries = []
    for where, raw in _json_lines(folder / "queries.jsonl"):
        if not isinstance(raw.get("text"), str) or "_id" not in raw:
            raise CorpusError(f"{where} has no _id or no text; mend the line")
        queries.append(Question(str(raw["_id"]), "all", raw["text"], where=where))
    judged = [query for query in _unique(queries, folder / "queries.jsonl") if query.id in qrels]
    if not judged:
        raise CorpusError(f"no query of {folder} has judgements; give the right qrels with --qrels")
    return Collection(documents, judged, qrels, len(queries) - len(judged))


def read_qrels(path: Path) -> Qrels:
    """Read judgements: BEIR's three columns under a header line, or TREC's four without one.

    Raises:
        CorpusError: A line has another number of columns, or a grade that is no whole number; names the line.
    """
    qrels: Qrels = {}
    columns, names = 4, "query, iteration, document, grade"
    for number, line in enumerate(_lines(path), 1):
        parts = line.split()
        if number == 1 and parts[:2] == ["query-id", "corpus-id"]:
            columns, names = 3, "query-id, corpus-id, score"
            continue
        if len(parts) != columns or not parts[-1].lstrip("-").isdigit():
            raise CorpusError(f"{path}, line {number}: {line[:80]!r} is not {columns} columns ({names}); mend the line")
        qrels.setdefault(parts[0], {})[parts[-2]] = int(parts[-1])
    if not qrels:
        raise CorpusError(f"{path} holds no judgements; give a qrels file")
    return qrels


def read_run(path: Path) -> Run:
    """Read a TREC run: query, Q0, document, rank, score, tag.

    Raises:
        CorpusError: A line has another number of columns or a score that is no number; names the line.
    """
    run: Run = {}
    for number, line in enumerate(_lines(path), 1):
        parts = line.split()
        try:
            query, _, document, _, score, _ = parts
            run.setdefault(query, {})[document] = float(score)
        except ValueError as error:
            raise CorpusError(
                f"{path}, line {number}: {line[:80]!r} is not six columns (query Q0 document rank score tag); mend it"
            ) from error
    return run


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a TREC run, best first within each query."""
    with path.open("w", encoding="utf-8") as out:
        for query, found in run.items():
            for rank, (document, score) in enumerate(sorted(found.items(), key=lambda each: -each[1]), 1):
                out.write(f"{query} Q0 {document} {rank} {score:.6f} {tag}\n")


def read_texts(path: Path) -> list[str]:
    """Read the `text` of each JSON line."""
    return [str(raw.get("text", "")) for _, raw in _json_lines(path)]


def digest(path: Path) -> str:
    """Return the first 16 hex digits of a file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                if line.strip():
                    yield line.rstrip("\n")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise CorpusError(f"cannot read {path}: {error}; check the name") from error


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}, line {number}"
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: invalid JSON ({error}); mend the line") from error
        if not isinstance(raw, dict):
            raise CorpusError(f"{where} is no JSON object; mend the line")
        yield where, raw
    if not number:
        raise CorpusError(f"{path} is empty; give a file with lines")


def _unique(questions: list[Question], path: Path) -> list[Question]:
    seen: dict[str, str] = {}
    for question in questions:
        if question.id in seen:
            raise CorpusError(
                f"{question.where}: the id {question.id!r} occurred before, in {seen[question.id]}; mend it"
            )
        seen[question.id] = question.where
    if not questions:
        raise CorpusError(f"{path} holds no questions; give a file with lines")
    return questions
