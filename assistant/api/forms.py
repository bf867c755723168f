"""What the API is asked: forms with strict types and limits, which know no other fields than these."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from assistant.answer import QUESTION_CHARS, TURN_CHARS, TURNS

CONDITIONS, CONDITION_CHARS = 20, 500
"""Most conditions of a question, and the longest one."""
ASK_K, SEARCH_K = 100, 1_000
PAGE, OFFSET = 1_000, 10_000_000
"""Most papers of one page, and how far on one may begin."""
PAPERS_AT_ONCE = 10_000
"""Most records of one ingest that come as JSON; more come as a file."""

Question = Annotated[str, StringConstraints(min_length=1, max_length=QUESTION_CHARS)]
Where = Annotated[
    list[Annotated[str, StringConstraints(max_length=CONDITION_CHARS)]],
    Field(
        max_length=CONDITIONS,
        description="Conditions that all must hold, such as `year>=2022`, `venue=CVPR` or `author~Dosovitskiy`.",
    ),
]


class Form(BaseModel):
    """What all forms share."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TurnForm(Form):
    """One earlier turn of the conversation."""

    role: Literal["user", "assistant"]
    content: Annotated[str, StringConstraints(max_length=TURN_CHARS)]


History = Annotated[list[TurnForm], Field(max_length=TURNS, description="Earlier turns, oldest first.")]


class AskForm(Form):
    """A question."""

    turn: ClassVar = TurnForm
    question: Question
    history: History = []
    k: Annotated[int, Field(ge=1, le=ASK_K, description="Papers put before the answerer.")] | None = None
    where: Where = []
    stream: Annotated[bool, Field(description="Reply by server-sent events: `piece`, then `answer`.")] = False


class SearchForm(Form):
    """A query."""

    turn: ClassVar = TurnForm
    query: Question
    history: History = []
    k: Annotated[int, Field(ge=1, le=SEARCH_K, description="Most papers.")] = 10
    where: Where = []


class PapersForm(BaseModel):
    """Which papers are listed; as a query string has no types, numbers are read from it."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=QUESTION_CHARS, description="Words that all must be in a paper.")] = ""
    where: Where = []
    limit: Annotated[int, Field(ge=1, le=PAGE)] = 50
    offset: Annotated[int, Field(ge=0, le=OFFSET)] = 0


class IngestForm(Form):
    """Records of papers: objects with `title`, `abstract` and what else is known, under the usual names."""

    papers: Annotated[list[dict[str, object]], Field(min_length=1, max_length=PAPERS_AT_ONCE)]
