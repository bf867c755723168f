"""Which documents hold which term how often, and BM25 over that.

The postings lie sorted by term in plain arrays, which are mapped where they are large; they are made run by run, so
that memory does not grow with the number of documents, only with that of different terms.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assistant.arrays import Array, Growing, empty, load

K1, B = 1.5, 0.75
"""BM25's saturation and length normalisation (Robertson and Zaragoza, FnTIR 2009, section 3.5)."""
TYPOS = {5: 1, 8: 2}
"""So many slips are forgiven in an unknown term of at least so many letters."""
RUN = 1_000_000
"""Postings sorted at once: 10 MB."""
REMEMBERED = 10_000
"""So many terms are found again without a search."""
MOST = np.iinfo(np.uint16).max
"""A term is counted up to so often."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Postings:
    """The terms of a list of documents, which are named by their place in it."""

    terms: NDArray[np.uint8]
    """UTF-8 of all terms, ascending, each followed by a line's end."""
    term_ends: NDArray[np.int64]
    """(terms,) where each ends in `terms`, its line's end included."""
    ends: NDArray[np.int64]
    """(terms,) where the postings of each term end; those of one lie together, by document."""
    documents: NDArray[np.int32]
    """(postings,) which document it is."""
    counts: NDArray[np.uint16]
    """(postings,) how often the term occurs there."""
    weights: NDArray[np.float32]
    """(postings,) what each adds to a score by the statistics of these documents, but for its term's idf."""
    lengths: NDArray[np.int32]
    """(documents,) terms of each, repeats included."""
    _spans: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    @classmethod
    def opened(cls, folder: Path) -> Postings:
        """Open what was made in a folder."""
        arrays: dict[str, Any] = {name: load(folder / f"{name}.npy") for name in _ARRAYS}
        return cls(**arrays)

    def find(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Return the documents that hold a term, and how often."""
        begin, end = self._span(term)
        return self.documents[begin:end], self.counts[begin:end]

    def weighed(self, term: str) -> tuple[NDArray[np.int32], Floats]:
        """Return the documents that hold a term, and its weights in them."""
        begin, end = self._span(term)
        return self.documents[begin:end], self.weights[begin:end]

    def frequency(self, term: str) -> int:
        """Return how many documents hold a term."""
        begin, end = self._span(term)
        return end - begin

    def beginning_with(self, letter: str) -> list[str]:
        """Return the terms that begin with a letter, ascending."""
        first, last = (bisect_left(self._vocabulary, key.encode()) for key in (letter, letter + "\U0010ffff"))
        begin, end = (int(self.term_ends[i - 1]) if i else 0 for i in (first, last))
        return self.terms[begin:end].tobytes().decode().split("\n")[:-1]

    def _span(self, term: str) -> tuple[int, int]:
        """Return where the postings of a term begin and end."""
        span = self._spans.get(term)
        if span is None:
            key = term.encode("utf-8", "replace")
            i = bisect_left(self._vocabulary, key)
            is_known = i < len(self.term_ends) and self._vocabulary[i] == key
            span = (int(self.ends[i - 1]) if i else 0, int(self.ends[i])) if is_known else (0, 0)
            if len(self._spans) >= REMEMBERED:
                self._spans.clear()
            self._spans[term] = span
        return span

    @cached_property
    def _vocabulary(self) -> _Vocabulary:
        return _Vocabulary(self.terms, self.term_ends)


_ARRAYS = tuple(each.name for each in fields(Postings) if each.init and each.name[0] != "_")


class _Vocabulary(Sequence[bytes]):
    """The terms as a list that can be searched without being made."""

    def __init__(self, terms: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._terms, self._ends = terms, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> bytes:  # type: ignore[override]  # no slices
        begin = self._ends[i - 1] if i else 0
        return self._terms[begin : self._ends[i] - 1].tobytes()


class PostingsBuilder:
    """Makes postings of documents as they come; what is between them and the end is kept in the folder."""

    def __init__(self, folder: Path | None) -> None:
        """Begin; without a folder everything is kept in memory."""
        self._folder = folder
        if folder is not None:
            folder.mkdir()
        self._ids: dict[str, int] = {}
        self._lengths = Growing(self._file("lengths"), np.int32)
        self._run: list[tuple[list[int], list[int]]] = []
        self._waiting = self._n = 0
        self._runs: list[Array] = []
        self._frequencies = np.zeros(0, dtype=np.int64)

    def _file(self, name: str) -> Path | None:
        return self._folder / f"{name}.npy" if self._folder else None

    def add(self, documents: Iterable[Mapping[str, int]]) -> None:
        """Append documents, given as how often each term occurs."""
        for document in documents:
            ids = [self._ids.setdefault(term, len(self._ids)) for term in document]
            self._run.append((ids, list(document.values())))
            self._waiting += len(ids)
            if self._waiting >= RUN:
                self._end_run()

    def _end_run(self) -> None:
        """Sort what has come by term, and put it away."""
        ids = np.array([i for each, _ in self._run for i in each], dtype=np.int64)
        counts = np.array([min(n, MOST) for _, each in self._run for n in each], dtype=np.int64)
        rows = np.arange(self._n, self._n + len(self._run))
        documents = np.repeat(rows, [len(each) for each, _ in self._run])
        self._lengths.add(np.array([sum(each) for _, each in self._run]))
        self._n += len(self._run)
        order = np.argsort(ids, kind="stable")
        run = np.array([ids[order], documents[order], counts[order]], dtype=np.int32)
        self._frequencies = np.bincount(ids, minlength=len(self._ids)) + np.pad(
            self._frequencies, (0, len(self._ids) - len(self._frequencies))
        )
        if self._folder:
            file = self._folder / f"run-{len(self._runs)}.npy"
            np.save(file, run)
            run = np.load(file, mmap_mode="r")
        self._runs.append(run)
        self._run, self._waiting = [], 0

    def close(self) -> Postings:
        """Put the runs together."""
        self._end_run()
        known = sorted(self._ids, key=str.encode)
        text = Growing(self._file("terms"), np.uint8)
        sizes = np.zeros(len(known), dtype=np.int64)
        for start in range(0, len(known), 1 << 16):
            lines = [f"{term}\n".encode() for term in known[start : start + (1 << 16)]]
            text.add(np.frombuffer(b"".join(lines), dtype=np.uint8))
            sizes[start : start + len(lines)] = [len(line) for line in lines]
        order = np.array([self._ids[term] for term in known], dtype=np.int64)
        ends = np.cumsum(self._frequencies[order])
        free = np.zeros(len(known), dtype=np.int64)
        free[order] = ends - self._frequencies[order]
        total = int(ends[-1]) if len(ends) else 0
        documents = empty(self._file("documents"), total, np.int32)
        counts = empty(self._file("counts"), total, np.uint16)
        for run in self._runs:
            # Of each term the run has so many, side by side: they go behind those of the runs before.
            terms, begins, lengths = np.unique(run[0], return_index=True, return_counts=True)
            places = np.arange(run.shape[1]) + np.repeat(free[terms] - begins, lengths)
            documents[places], counts[places] = run[1], run[2]
            free[terms] += lengths
        term_ends, total_lengths = np.cumsum(sizes), self._lengths.close()
        norms = _norms(total_lengths, _average(total_lengths))
        weights = empty(self._file("weights"), total, np.float32)
        for start in range(0, total, RUN):
            part = slice(start, start + RUN)
            weights[part] = _weights(counts[part], norms[documents[part]])
        if self._folder:
            for name, values in (("term_ends", term_ends), ("ends", ends)):
                np.save(self._folder / f"{name}.npy", values)
            for array in (documents, counts, weights):
                if isinstance(array, np.memmap):
                    array.flush()
            del documents, counts, weights, run
            self._runs.clear()
            for file in self._folder.glob("run-*.npy"):
                file.unlink()
            text.close()
            return Postings.opened(self._folder)
        return Postings(text.close(), term_ends, ends, documents, counts, weights, total_lengths)


class Lexicon:
    """BM25 (Lucene's idf) by the statistics of one list of documents, for them and for others.

    score = sum over query terms of ln(1 + (N - df + .5) / (df + .5)) * tf / (tf + k1 (1 - b + b * length / average)).
    """

    def __init__(self, postings: Postings) -> None:
        self._postings = postings
        self.n = len(postings.lengths)
        self._average = _average(postings.lengths)

    @classmethod
    def of(cls, documents: Iterable[Sequence[str]]) -> Lexicon:
        """Make one, in memory, of documents given as lists of terms."""
        builder = PostingsBuilder(None)
        builder.add(Counter(each) for each in documents)
        return cls(builder.close())

    def scores(self, query: Sequence[str], postings: Postings | None = None) -> Floats:
        """Return (documents,) the score of each document, of these or of other postings; 0 where no term occurs."""
        found, added = [], []
        norms = _norms(postings.lengths, self._average) if postings else None
        for term, times in Counter(query).items():
            if postings is None or norms is None:
                documents, weights = self._postings.weighed(term)
            else:
                documents, counts = postings.find(term)
                weights = _weights(counts, norms[documents])
            found.append(documents)
            added.append(np.float32(times * self.idf(term)) * weights)
        n = len((postings or self._postings).lengths)
        if not found:
            return np.zeros(n, dtype=np.float32)
        return np.bincount(np.concatenate(found), np.concatenate(added), n).astype(np.float32)

    def idf(self, term: str) -> float:
        """Return the weight of a term; an unknown one has the greatest."""
        df = self._postings.frequency(term)
        return math.log1p((self.n - df + 0.5) / (df + 0.5))

    def knows(self, term: str) -> bool:
        """Tell whether any document holds the term."""
        return self._postings.frequency(term) > 0

    def respell(self, term: str) -> str:
        """Return the known term with the same first letter that is nearest to an unknown one, if one is near enough.

        Distance = insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
        """
        if self.knows(term) or len(term) < min(TYPOS):
            return term
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        near = max(most for length, most in TYPOS.items() if len(term) >= length)
        known = self._postings.beginning_with(term[0])
        found = process.extractOne(term, known, scorer=OSA.distance, score_cutoff=near)
        return found[0] if found else term


def _average(lengths: NDArray[np.int32]) -> float:
    return float(lengths.mean(dtype=np.float64)) if len(lengths) else 1.0


def _norms(lengths: NDArray[np.int32], average: float) -> Floats:
    """Return (documents,) what their counts are weighed against."""
    shares = lengths.astype(np.float32) / np.float32(max(1.0, average))
    return np.float32(K1) * (np.float32(1 - B) + np.float32(B) * shares)


def _weights(counts: NDArray[np.uint16], norms: Floats) -> Floats:
    found = counts.astype(np.float32)
    return found / (found + norms)
