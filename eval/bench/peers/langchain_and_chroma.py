"""LangChain + Chroma, as its users write it: `python langchain_and_chroma.py JOB` -> one JSON object on stdout.

Runs in an environment of its own and imports nothing of ours. A job is a JSON object: what to `do`, and its arguments.
Its settings favour it: cosine space, one call for all texts so that the model can sort them by length, no network.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COLLECTION = "texts"
BATCH = 5_000
"""Records in one request to Chroma; it takes at most 5,461."""
COSINE = {"hnsw": {"space": "cosine"}}


def ingest(weights: str, texts: str, folder: str) -> dict[str, Any]:
    """Encode and index the texts of a file of JSON lines; the time begins when the model is loaded and warm."""
    from langchain_chroma import Chroma  # type: ignore[import-not-found]

    model = _open_model(weights)
    lines = [json.loads(line) for line in Path(texts).read_text(encoding="utf-8").splitlines()]
    model.embed_query("Is the model warm?")
    begun = time.perf_counter()
    Chroma.from_texts(
        [line["text"] for line in lines],
        model,
        metadatas=[{"row": row} for row in range(len(lines))],
        collection_name=COLLECTION,
        persist_directory=folder,
        collection_configuration=COSINE,
    )
    return {"seconds": time.perf_counter() - begun}


def fill(vectors: str, texts: str, folder: str) -> dict[str, Any]:
    """Index texts whose vectors are given, so that only searching them is measured."""
    import chromadb
    import numpy as np

    rows = np.load(vectors)
    lines = [json.loads(line)["text"] for line in Path(texts).read_text(encoding="utf-8").splitlines()]
    begun = time.perf_counter()
    client = chromadb.PersistentClient(folder)
    collection = client.create_collection(COLLECTION, embedding_function=None, configuration=COSINE)  # type: ignore[arg-type]
    for start in range(0, len(rows), BATCH):
        part = range(start, min(start + BATCH, len(rows)))
        collection.add(
            ids=[str(row) for row in part],
            embeddings=rows[part.start : part.stop],
            documents=lines[part.start : part.stop],
            metadatas=[{"row": row} for row in part],
        )
    return {"seconds": time.perf_counter() - begun}


def search(weights: str, folder: str, questions: Sequence[str], k: int) -> dict[str, Any]:
    """Search each question; tell when the first was ranked, how long each other took, and the peak of the memory."""
    from langchain_chroma import Chroma

    store = Chroma(COLLECTION, _open_model(weights), persist_directory=folder)
    found = [store.similarity_search_with_score(questions[0], k=k)]
    first_at = time.time()
    taken = []
    for question in questions[1:]:
        begun = time.perf_counter()
        found.append(store.similarity_search_with_score(question, k=k))
        taken.append(1000 * (time.perf_counter() - begun))
    return {"first_at": first_at, "ms": taken, "found": sum(map(len, found)), "peak_bytes": _peak_bytes()}


def _open_model(weights: str) -> Any:
    from langchain_huggingface import HuggingFaceEmbeddings  # type: ignore[import-not-found]

    return HuggingFaceEmbeddings(model_name=weights)


def _peak_bytes() -> int:
    """Return the most memory this process has held; `ru_maxrss` would count what the process before it held, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    deeds: dict[str, Callable[..., dict[str, Any]]] = {"ingest": ingest, "fill": fill, "search": search}
    print(json.dumps(deeds[job.pop("do")](**job)))  # noqa: T201 - its result
