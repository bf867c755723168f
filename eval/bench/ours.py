"""The product as it is measured: `python -m eval.bench.ours JOB` -> one JSON object on stdout.

A job is a JSON object: what to `do`, and its arguments. Each runs in a process of its own, so that its start, its
memory and its caches are its own. Nothing heavy is imported before a job needs it: the start is measured, too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assistant.embed import Encoder
    from assistant.index import Index
    from assistant.store import Store

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""As the command has it."""
LAYERS, WIDTH, INNER = 6, 384, 1536
"""Of all-MiniLM-L6-v2."""
DEEP = 10
"""Recall is measured among so many."""
SHORT, LONG = 20, 420
"""Tokens of an answer."""
_MESSAGES = [{"role": "user", "content": "word " * 3_000}]
"""As long as one with its evidence."""
STRAY = 0.5
"""Length of the step from a vector to a query that is made of it."""


def texts(papers: Sequence[str], out: str) -> dict[str, Any]:
    """Write each text that an ingest of these papers encodes, as JSON lines; count their tokens and their work."""
    import tempfile

    from assistant.config import Config
    from assistant.embed import open_encoder
    from assistant.ingest import identity
    from assistant.store import Store

    encoder = _Watched(open_encoder(Config()), encode=False)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "library", create=True) as store:
        _ingest(store, encoder, papers)
        counts = store.counts()
    with Path(out).open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text}) + "\n" for text in encoder.texts)
    lengths = _lengths(encoder, encoder.texts)
    work = {"texts": len(lengths), "tokens": sum(lengths), "flops": sum(map(_flops, lengths))}
    return {"papers": counts[0], "chunks": counts[1], **work, "encoder": identity(encoder)}


def ingest(papers: Sequence[str], folder: str) -> dict[str, Any]:
    """Ingest papers, and again unchanged; the time begins when the encoder is loaded and warm."""
    from assistant.config import Config
    from assistant.embed import document_encoder, open_encoder
    from assistant.store import Store

    config = Config()
    encoder = _Watched(document_encoder(config, open_encoder(config)))
    encoder.encode_documents(["Is the encoder warm?"])
    encoder.seconds, taken = 0.0, []
    for _ in range(2):
        begun = time.perf_counter()
        with Store(Path(folder), create=True) as store:
            _ingest(store, encoder, papers)
        taken.append(time.perf_counter() - begun)
    return {"seconds": taken[0], "again": taken[1], "encoding": encoder.seconds}


def fill(n_chunks: int, folder: str, *, for_peers: bool) -> dict[str, Any]:
    """Make a library of made-up papers."""
    from assistant.config import Config
    from assistant.embed import open_encoder
    from eval.bench import made

    begun = time.perf_counter()
    made.fill(n_chunks, Path(folder), open_encoder(Config()), for_peers=for_peers)
    return {"seconds": time.perf_counter() - begun}


def search(folder: str, questions: Sequence[str], k: int) -> dict[str, Any]:
    """Search each question; tell when the first was ranked, how long each other took, and the peak of the memory."""
    from assistant import Assistant, Config

    with Assistant(Config(library=folder)) as assistant:
        found = [assistant.search(questions[0], k=k).hits]
        first_at = time.time()
        taken = []
        for question in questions[1:]:
            begun = time.perf_counter()
            found.append(assistant.search(question, k=k).hits)
            taken.append(1000 * (time.perf_counter() - begun))
    return {"first_at": first_at, "ms": taken, "found": sum(map(len, found)), "peak_bytes": _peak_bytes()}


def parts(folder: str, questions: Sequence[str], k: int, turn: int, where: str | None) -> dict[str, Any]:
    """Time search and what it is made of, in turns; and compare its nearest papers with an exact scan of our own.

    Each question is put to one thing alone, another in each `turn`: what remembers earlier questions gains nothing.
    """
    from assistant.config import Config
    from assistant.embed import open_encoder
    from assistant.index import Index
    from assistant.retrieve import Query, search
    from assistant.store import Store

    config = Config()
    encoder = open_encoder(config)
    with Store(Path(folder)) as store:
        index = Index.open(store)
        scan = _Scan(store)

        def by_search(text: str, where: Sequence[str] = ()) -> object:
            return search(store, index, encoder, text, k=k, where=where, how=config.search)

        things: dict[str, Callable[[str], object]] = {
            "search": by_search,
            "dense": lambda text: _dense(store, index, Query.of(text, encoder), k, config.search),
            "encode": lambda text: encoder.encode_queries([text]),
        }
        if where:
            things["filtered"] = lambda text: by_search(text, [where])
        ms: dict[str, list[float]] = {name: [] for name in (*things, "scan")}
        for each in things.values():
            each("Is everything warm?")
        scan.best(scan.queries[0], k)
        for i, question in enumerate(questions):
            name = list(things)[(i + turn) % len(things)]
            ms[name].append(_ms(things[name], question))
            ms["scan"].append(_ms(lambda query: scan.best(query, k), scan.queries[i % len(scan.queries)]))
        recall = _recall(index, scan, config.search)
        lengths = _lengths(encoder, questions)
        return {
            "ms": ms, "recall": recall, "chunks": len(scan.vectors), "scan_bytes": _scan_bytes(index),
            "flops": sum(map(_flops, lengths)) / len(lengths), "config": config.digest,
        }  # fmt: skip


def answers(folder: str, questions: Sequence[str]) -> dict[str, Any]:
    """Time answers of a scripted endpoint, short and long, the same requests without us, and encoding by itself."""
    from assistant import Assistant, Config
    from assistant.embed import open_encoder
    from eval.endpoint import apart

    ms: dict[str, list[float]] = {f"{what} {n}": [] for what in ("answer", "request") for n in (SHORT, LONG)}
    ms |= {"encode": [], "extractive": []}
    with apart() as url, Assistant(Config(library=folder, llm_base_url=url, llm_model="scripted")) as assistant:
        encoder = open_encoder(assistant.config)
        plain = assistant.config.changed(llm_model=None)
        settings = {n: assistant.config.changed(answer_tokens=n) for n in (SHORT, LONG)}
        request = _Request(url)
        for n, config in settings.items():
            _read(assistant.stream("Is everything warm?", config=config))
            request.send(n)
        encoder.encode_queries(["Is everything warm?"])

        def by_us(config: Config) -> Callable[[str], object]:
            return lambda text: _read(assistant.stream(text, config=config))

        for i, question in enumerate(questions):
            ms["encode"].append(_ms(lambda text: encoder.encode_queries([text]), question))
            if i % 3 == 2:
                ms["extractive"].append(_ms(by_us(plain), question))
                continue
            n = (SHORT, LONG)[i % 3]
            ms[f"request {n}"].append(_ms(request.send, n))
            ms[f"answer {n}"].append(_ms(by_us(settings[n]), question))
        request.close()
    return {"ms": ms, "tokens": [SHORT, LONG]}


# --- What is measured -------------------------------------------------------------------------------------------------


def _read(stream: Any) -> None:
    """Read an answer as whoever shows it does."""
    for _ in stream:
        pass
    assert stream.answer.complete


class _Request:
    """What an answer asks of the endpoint, asked by nobody but a client: the least that it can take."""

    def __init__(self, url: str) -> None:
        import httpx2

        self._client, self._url = httpx2.Client(), f"{url}/chat/completions"

    def send(self, n: int) -> None:
        """Ask for so many tokens and read them."""
        body = {
            "model": "scripted",
            "stream": True,
            "max_tokens": n,
            "messages": _MESSAGES,
        }
        with self._client.stream("POST", self._url, json=body) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    json.loads(line[6:])

    def close(self) -> None:
        self._client.close()


class _Watched:
    """An encoder that is timed, and asked which texts it was given; all else is the encoder's own."""

    def __init__(self, encoder: Encoder, *, encode: bool = True) -> None:
        self._encoder, self._encode = encoder, encode
        self.seconds = 0.0
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """See `Encoder`; where nothing is to be encoded, all texts have the same vector."""
        import numpy as np

        self.texts += texts
        if not self._encode:
            return np.full((len(texts), self._encoder.dim), self._encoder.dim**-0.5, dtype=np.float32)
        begun = time.perf_counter()
        vectors = self._encoder.encode_documents(texts, progress)
        self.seconds += time.perf_counter() - begun
        return vectors


class _Scan:
    """The plainest exact search: all chunks of a library in float32, one product, the best of it."""

    def __init__(self, store: Store) -> None:
        import numpy as np

        self.numbers: list[int] = []
        self.vectors: NDArray[np.float32] = np.empty((store.counts()[1], store.dim), dtype=np.float32)
        at = 0
        for stored, units in store.scan():
            n = len(units.chunks)
            self.vectors[at : at + n] = units.vectors[1 : 1 + n]
            self.numbers += [stored.n] * n
            at += n
        rng = np.random.default_rng(1)
        near = self.vectors[rng.integers(at, size=100)]
        steps = rng.standard_normal(near.shape, dtype=np.float32) * np.float32(STRAY * near.shape[1] ** -0.5)
        queries = near + steps
        self.queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)

    def best(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the rows of the `k` nearest chunks."""
        import numpy as np

        scores = self.vectors @ query
        return np.argpartition(-scores, min(k, len(scores)) - 1)[:k]


def _dense(store: Store, index: Index, query: Any, k: int, how: str) -> object:
    """Search by vectors alone and show as much of what is found as the product's search does."""
    from assistant.retrieve import Dense

    rows = Dense(index, how).rank(query, index.alive, k).rows
    numbers = index.numbers[rows].tolist()
    papers, spans = index.papers(store, numbers), index.passages(query.vector, rows)
    return [
        (papers[n].paper, papers[n].paper.abstract[start:end]) for n, (start, end) in zip(numbers, spans, strict=True)
    ]


def _recall(index: Index, scan: _Scan, how: str) -> float:
    """Return which share of the true nearest papers, by best chunk, the product finds; ties count as found."""
    import numpy as np

    from assistant.retrieve import Dense, Query

    numbers = np.array(scan.numbers)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    row_of = {int(n): row for row, n in enumerate(numbers[starts])}
    shares = []
    for vector in scan.queries:
        true = np.maximum.reduceat(scan.vectors @ vector, starts)
        deep = min(DEEP, len(true))
        least = np.partition(true, len(true) - deep)[len(true) - deep] - 1e-6
        found = Dense(index, how).rank(Query("", vector, (), frozenset()), index.alive, deep).rows
        shares.append(sum(true[row_of[int(index.numbers[row])]] >= least for row in found) / deep)
    return float(np.mean(shares))


def _scan_bytes(index: Index) -> int:
    """Return how many bytes an exact scan of the index reads."""
    return int(index.generation.part.chunks.nbytes)


def _ingest(store: Store, encoder: Any, papers: Sequence[str]) -> None:
    from assistant.ingest import ingest
    from assistant.sources.find import find_sources

    ingest(store, encoder, find_sources(papers))


def _lengths(encoder: Any, texts: Sequence[str]) -> list[int]:
    """Return how many tokens of each text are encoded, special ones included."""
    return [min(len(spans) + 2, encoder.max_tokens) for spans in encoder.token_spans(texts)]


def _flops(tokens: int) -> int:
    """Return the matrix work of encoding a text; a multiplication and an addition count two.

    Per token and layer: four products of width x width and two of width x inner, its likeness to each other token, and
    their sum weighted by it (Vaswani et al. 2017, sections 3.2 and 3.3).
    """
    per_token = 2 * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + 4 * tokens * WIDTH
    return LAYERS * tokens * per_token


def _ms(deed: Callable[[Any], object], argument: Any) -> float:
    begun = time.perf_counter()
    deed(argument)
    return 1000 * (time.perf_counter() - begun)


def _peak_bytes() -> int:
    """Return the most memory this process has held; `ru_maxrss` would count what the process before it held, too."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    deeds: dict[str, Callable[..., dict[str, Any]]] = {
        "texts": texts,
        "ingest": ingest,
        "fill": fill,
        "search": search,
        "parts": parts,
        "answers": answers,
    }
    print(json.dumps(deeds[job.pop("do")](**job)))  # noqa: T201 - its result
