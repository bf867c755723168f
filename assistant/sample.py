"""The built-in sample library: 451 digests of papers with their vectors, so that a fresh install answers at once.

`python -m assistant.sample PAPERS.jsonl` makes the shipped files; `open_sample` opens them as a library in the cache
folder. The vectors are stamped with what made them: under another encoder the texts are encoded anew.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant import index
from assistant.config import Config, cache_folder
from assistant.embed import Encoder, open_encoder
from assistant.errors import StoreError
from assistant.ingest import encode_papers, identity, ingest
from assistant.papers import Record
from assistant.recover import open_library
from assistant.sources import open_source
from assistant.store import SCHEMA, Store

_DATA = Path(__file__).parent / "data"
PAPERS, VECTORS = _DATA / "sample.jsonl", _DATA / "sample.npz"


def open_sample(encoder: Encoder) -> Store:
    """Return the sample library, opened in the cache folder; made there at first, in about two seconds.

    Where the cache folder cannot be written, a temporary one serves.
    """
    made_by = f"{identity(encoder)} {SCHEMA} {index.FORMAT}"
    stamp = hashlib.sha256(PAPERS.read_bytes() + made_by.encode()).hexdigest()[:16]
    kept = cache_folder() / "sample" / stamp
    if kept.is_dir():
        try:
            return open_library(kept)[0]
        except StoreError:  # It can be made again.
            shutil.rmtree(kept, ignore_errors=True)
    try:
        home = cache_folder() / "sample"
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=home))
    except OSError:
        home = Path(tempfile.mkdtemp(prefix="assistant-sample-"))
        draft = home / "draft"
    with Store(draft, create=True) as store:
        ingest(store, _Shipped(encoder), [PAPERS])
    try:
        draft.rename(home / stamp)
    except OSError:
        if not (home / stamp).exists():  # Another process was quicker, or the folder cannot be made.
            raise
        shutil.rmtree(draft, ignore_errors=True)
    return Store(home / stamp)


def make_sample(papers: Path, encoder: Encoder) -> int:
    """Write the shipped files from JSON lines of `{title, abstract}`; return the number of papers."""
    if papers.resolve() != PAPERS:
        shutil.copyfile(papers, PAPERS)
    records = [each for opened in open_source(PAPERS) for each in opened.items if isinstance(each, Record)]
    seen = _Recorder(encoder)
    encode_papers([(each.title, each.abstract) for each in records], seen)
    keys = np.array([_key(text) for text in seen.vectors], dtype="S16")
    vectors = np.stack(list(seen.vectors.values())).astype(np.float16)
    np.savez(VECTORS, keys=keys, vectors=vectors, identity=np.array(identity(encoder)))
    return len(records)


class _Wrapped:
    """An encoder in front of another one."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.identity, self.dim, self.max_tokens = encoder.identity, encoder.dim, encoder.max_tokens

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoder.encode_queries(texts)

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return self._encoder.token_spans(texts)


class _Recorder(_Wrapped):
    """Keeps what it encodes."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.vectors: dict[str, NDArray[np.float32]] = {}

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        vectors = self._encoder.encode_documents(texts, progress)
        self.vectors.update(zip(texts, vectors, strict=True))
        return vectors


class _Shipped(_Wrapped):
    """Looks texts up among the shipped vectors and encodes those that are not there."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        with np.load(VECTORS, allow_pickle=False) as data:
            same = str(data["identity"]) == identity(encoder)
            self._rows = {bytes(key): row for row, key in enumerate(data["keys"])} if same else {}
            self._vectors = data["vectors"].astype(np.float32)

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        rows = [self._rows.get(_key(text)) for text in texts]
        missing = [text for text, row in zip(texts, rows, strict=True) if row is None]
        fresh = iter(self._encoder.encode_documents(missing, progress))
        return np.stack([next(fresh) if row is None else self._vectors[row] for row in rows])


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).hexdigest()[:16].encode()


if __name__ == "__main__":
    print(make_sample(Path(sys.argv[1]), open_encoder(Config(encoder="built-in"))), "papers")  # noqa: T201 - a command
