"""Made-up papers with made-up vectors, of any number: what a large library costs to search, without encoding one.

Vectors lie in clusters, as those of papers do: a paper is near one of many centres, its chunks and sentences are near
the paper. Words are drawn as in real texts, a few of them often and most of them seldom. The same number of chunks
always gives the same library.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assistant.papers import Record
from assistant.store import Units
from assistant.types import Chunk

if TYPE_CHECKING:
    from assistant.embed import Encoder

SEED = 7
"""Of everything that is drawn; counted up when something is drawn in another way."""
CHUNKS, SENTENCES, WORDS = 4, 8, 20
"""Chunks and sentences of a paper, words of a sentence; 451 real papers have 3, 8 and 24."""
CLUSTER_CHUNKS = 300
"""Chunks in a cluster, on average."""
FROM_CENTRE, FROM_PAPER = 0.8, 0.6
"""Lengths of the steps, in a random direction, from a centre of length 1 to a paper, and from that to its parts."""
VOCABULARY = 30_000
BLOCK = 1_000
"""Papers drawn together."""
QUESTIONS, QUESTION_WORDS = 160, 8
FIRST_YEAR, YEARS = 2000, 25
LATER_HALF = "year>=2013"
"""A condition that about half of the papers meet."""

_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "or", "is")]


@dataclass(frozen=True, slots=True)
class Block:
    """Some papers with what is encoded of each."""

    records: list[Record]
    units: list[Units]

    def chunk_texts(self) -> Iterator[str]:
        """Yield the text of each chunk."""
        return (chunk.text for each in self.units for chunk in each.chunks)


def draw(n_chunks: int, dim: int) -> Iterator[Block]:
    """Yield papers with `n_chunks` chunks in all, rounded up to whole papers."""
    n = -(-n_chunks // CHUNKS)
    centres = _unit(np.random.default_rng([SEED, n_chunks]).standard_normal((max(1, n_chunks // CLUSTER_CHUNKS), dim)))
    words = _vocabulary()
    for start in range(0, n, BLOCK):
        rng = np.random.default_rng([SEED, n_chunks, start])
        size = min(BLOCK, n - start)
        # A word of rank r is drawn about 1/r as often as the first (Zipf's law).
        ranks = (
            np.minimum(np.exp(rng.random((size, SENTENCES, WORDS)) * np.log(VOCABULARY)), VOCABULARY).astype(int) - 1
        )
        papers = _unit(centres[rng.integers(len(centres), size=size)] + FROM_CENTRE * _steps(rng, (size, dim)))
        parts = papers[:, None] + FROM_PAPER * _steps(rng, (size, 1 + CHUNKS + SENTENCES, dim))
        vectors = _unit(parts).astype(np.float16)
        records, units = [], []
        for i in range(size):
            record, chunks, sentences = _paper(start + i, words[ranks[i]])
            records.append(record)
            units.append(Units(chunks, sentences, vectors[i]))
        yield Block(records, units)


def questions(n_chunks: int) -> list[str]:
    """Return questions, each of words from anywhere in the vocabulary: the frequent and the seldom alike."""
    rng, words = np.random.default_rng([SEED, n_chunks, VOCABULARY]), _vocabulary()
    ranks = np.exp(rng.random((QUESTIONS, QUESTION_WORDS)) * np.log(VOCABULARY)).astype(int) - 1
    return [f"Which of them tell of {' '.join(words[row])}?" for row in ranks]


def fill(n_chunks: int, folder: Path, encoder: Encoder, *, for_peers: bool) -> None:
    """Write a library into `folder/library`, and for peers its chunks' texts and vectors beside it."""
    from assistant import index
    from assistant.identity import merge
    from assistant.ingest import identity
    from assistant.store import Store
    from assistant.write import writing

    library, kept = folder / "library", []
    library.mkdir()
    with Store(library, create=True) as store, writing(store, "eval") as writer:
        with writer.transaction():
            writer.set_encoder(identity(encoder), encoder.dim)
        with (folder / "texts.jsonl").open("w", encoding="utf-8") as texts:
            for block in draw(n_chunks, encoder.dim):
                with writer.transaction():
                    for record, units in zip(block.records, block.units, strict=True):
                        writer.put_units(writer.add_paper(f"made-{record.own_id}", merge([record])), units)
                if for_peers:
                    texts.writelines(json.dumps({"text": text}) + "\n" for text in block.chunk_texts())
                    kept += [units.vectors[1 : 1 + CHUNKS].astype(np.float32) for units in block.units]
        if for_peers:
            np.save(folder / "vectors.npy", np.concatenate(kept))
        del kept
        index.seal(store)


def _paper(number: int, words: NDArray[np.str_]) -> tuple[Record, tuple[Chunk, ...], tuple[tuple[int, int], ...]]:
    lines = [" ".join(sentence).capitalize() + "." for sentence in words]
    ends = list(itertools.accumulate(len(line) + 1 for line in lines))
    spans = tuple((end - len(line) - 1, end - 1) for line, end in zip(lines, ends, strict=True))
    abstract = " ".join(lines)
    step = SENTENCES // CHUNKS
    bounds = [(spans[i][0], spans[i + step - 1][1]) for i in range(0, SENTENCES, step)]
    title = f"{' '.join(words[0][:6]).capitalize()} {number}"
    record = Record("", title, abstract, year=FIRST_YEAR + number % YEARS, own_id=str(number))
    return record, tuple(Chunk(abstract[a:b], a, b, step * WORDS) for a, b in bounds), spans


def _vocabulary() -> NDArray[np.str_]:
    picked = itertools.islice(itertools.product(_SYLLABLES, repeat=3), 0, None, len(_SYLLABLES) ** 3 // VOCABULARY)
    words = np.array(["".join(each) for each in itertools.islice(picked, VOCABULARY)])
    return np.random.default_rng(SEED).permutation(words)


def _steps(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return random directions, of a length near 1."""
    return rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)
