"""The records that travel. Each is frozen: a stage takes earlier records and returns later ones.

`file -> Paper -> Chunk -> vectors -> store -> index` and `question -> Hit -> Prompt -> text -> Answer with Citations`.
Offsets are in code points of the abstract they belong to; `start` is included, `end` is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Literal, overload

Turn = Mapping[str, str]
"""One earlier turn of a conversation: `{"role": "user" | "assistant", "content": text}`."""

Reason = Literal[
    "no_match", "weak_match", "filter_excluded_all", "not_in_sources", "all_citations_invalid", "empty_library"
]
"""Why an answer abstains or a search is empty."""

Stage = Literal["searching", "reading", "writing"]
"""What is done for a question: papers are looked for, the answerer has them before it, its first word has come."""


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper of the library, its fields merged from all records of it."""

    id: str
    """Given when the paper first enters the library; never changes."""
    title: str
    """May be empty."""
    abstract: str
    """Cleaned text; all offsets point into it."""
    url: str | None = None
    authors: tuple[str, ...] = ()
    year: int | None = None
    venue: str | None = None
    doi: str | None = None
    arxiv_id: str | None = None
    aliases: tuple[str, ...] = ()
    """Every key that resolves to this paper: `doi:...`, `arxiv:...`, `pmid:...`, `title:...`."""
    sources: tuple[str, ...] = ()
    """The files or addresses whose records it was merged from."""

    def as_dict(self, *, full: bool = False) -> dict[str, Any]:
        """Return the JSON form; `full` adds abstract, aliases and sources."""
        brief = ("id", "title", "url", "authors", "year", "venue", "doi", "arxiv_id")
        names = (*brief, "abstract", "aliases", "sources") if full else brief
        values = {name: getattr(self, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of whole sentences of an abstract, within the encoder's budget: `abstract[start:end] == text`."""

    text: str
    start: int
    end: int
    n_tokens: int
    """Tokens of `text` alone, by the encoder's own tokenizer, special tokens not counted."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One paper found for a query, with its best passage."""

    rank: int
    """From 1."""
    score: float
    """Higher is better; mean cosine of three granularities plus weighted lexical match, about 0 to 2.5."""
    paper: Paper
    passage: str
    start: int
    end: int
    retrievers: Mapping[str, int]
    """Rank of the paper in each retriever's own list: `{"dense": 1, "bm25": 3}`; absent where it was not found."""
    cosine: float = 0.0
    """Best cosine of the query with any granularity of the paper, -1 to 1."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "rank": self.rank,
            "score": round(self.score, 6),
            "paper": self.paper.as_dict(),
            "passage": self.passage,
            "start": self.start,
            "end": self.end,
            "retrievers": dict(self.retrievers),
        }


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """What a search returns: a sequence of `Hit`, best first, and how it came about."""

    query: str
    searched: str
    """The text really searched: the question, with what a follow-up takes from its conversation."""
    hits: tuple[Hit, ...] = ()
    reason: str | None = None
    """Why there is nothing, in words that start with a `Reason`; None when there are hits."""
    warnings: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        """Return the hit of that place, from 0."""
        return self.hits[index]

    def __len__(self) -> int:
        """Return the number of hits."""
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        """Iterate the hits, best first."""
        return iter(self.hits)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of a search."""
        return {
            "query": self.query,
            "searched": self.searched,
            "reason": self.reason,
            "hits": [hit.as_dict() for hit in self.hits],
            "warnings": list(self.warnings),
        }

    def _repr_html_(self) -> str:
        return str(_notebook().hits_html(self))


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage that was put before the answerer under a number: marker `[n]` means evidence number n."""

    number: int
    paper: Paper
    passage: str
    start: int
    end: int
    score: float
    retrievers: Mapping[str, int] = field(default_factory=dict)
    """As of a `Hit`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "number": self.number,
            "paper": self.paper.as_dict(),
            "passage": self.passage,
            "start": self.start,
            "end": self.end,
            "score": round(self.score, 6),
            "retrievers": dict(self.retrievers),
        }


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question with its evidence, rendered for an LLM within the token budget."""

    question: str
    searched: str
    """The question with what it takes from its conversation."""
    messages: tuple[Mapping[str, str], ...]
    """In OpenAI's form: system, then user."""
    evidence: tuple[Evidence, ...]
    """`[n]` in an answer means `evidence[n - 1]`."""
    n_tokens: int
    evidence_tokens: int
    """Of these, those of the evidence."""
    tokens_estimated: bool
    """True when no exact vocabulary was at hand."""
    digest: str
    """sha256 of the prompt file, first 16 hex digits."""


@dataclass(frozen=True, slots=True)
class Citation:
    """One marker of an answer, resolved to a sentence of the paper it cites."""

    number: int
    paper: Paper
    quote: str
    """`paper.abstract[start:end]`, letter by letter."""
    start: int
    end: int
    text_start: int
    """Place of the marker in the answer's text, in code points."""
    text_end: int
    support: float
    """Share of the citing sentence's content words and figures that the quote holds, 0 to 1."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "paper": self.paper.as_dict()}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the answer that no cited abstract holds, with its place in the text."""

    figure: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Name:
    """A name in the answer that neither a cited paper nor the question holds, with its place in the text."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Marker:
    """A citation whose paper does not say what it is cited for, with the marker's place in the text."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Checks:
    """What the gate did and saw; flags live here, never in the text."""

    markers_repaired: int = 0
    markers_dropped: int = 0
    sentences_uncited: int = 0
    figures_unsupported: tuple[Figure, ...] = ()
    references_dropped: int = 0
    """Author-year citations, DOIs, links and reference lists that the evidence does not hold."""
    names_unsupported: tuple[Name, ...] = ()
    citations_unsupported: tuple[Marker, ...] = ()


@dataclass(frozen=True, slots=True)
class Fallback:
    """The fault that made the extractive answerer take over."""

    error: str
    """llm_timeout, llm_unavailable, llm_rejected or llm_unparsable."""
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What the endpoint was asked for and gave."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    llm_calls: int = 0
    tokens_estimated: bool = False
    """True when the endpoint did not report its own counts."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall-clock time of the stages."""

    retrieve: float = 0.0
    generate: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Digest:
    """What an answer rests on, as first 16 hex digits of sha256."""

    library: str
    config: str
    prompts: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A cited answer, or an abstention with its reason. No marker without its Citation."""

    question: str
    searched: str
    text: str
    answerer: Literal["llm", "extractive"]
    model: str | None
    abstained: bool
    reason: Reason | None
    citations: tuple[Citation, ...]
    evidence: tuple[Evidence, ...]
    closest: tuple[Paper, ...]
    """Papers offered when abstained."""
    checks: Checks
    fallback: Fallback | None
    usage: Usage
    seconds: Seconds
    digest: Digest
    library: str
    """Folder of the library, or "sample" for the built-in one."""
    complete: bool = True
    """False when the endpoint's answer was cut."""
    warnings: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, the same in Python, on the command line and over HTTP."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("checks", "usage", "seconds", "digest"):
            values[name] = asdict(values[name])
        values["fallback"] = asdict(self.fallback) if self.fallback else None
        for name in ("citations", "evidence", "closest"):
            values[name] = [each.as_dict() for each in values[name]]
        for name in ("figures_unsupported", "names_unsupported", "citations_unsupported"):
            values["checks"][name] = list(values["checks"][name])
        return {**values, "warnings": list(self.warnings)}

    def _repr_html_(self) -> str:
        return str(_notebook().answer_html(self))

    def _repr_markdown_(self) -> str:
        return str(_notebook().answer_markdown(self))


def _notebook() -> Any:
    """Return what shows records in a notebook, by its name: they know nothing of who shows them."""
    return import_module("assistant.notebook")
