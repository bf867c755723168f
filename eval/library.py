"""Libraries for the evaluation: built once by the product's own parts, kept in the cache folder under a digest."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from assistant import index
from assistant.config import cache_folder
from assistant.embed import Encoder
from assistant.identity import merge
from assistant.ingest import encode_papers, identity, ingest
from assistant.sources.find import find_sources
from assistant.store import Store
from assistant.write import writing
from eval.data import Collection, digest

_BATCH = 128


def open_papers(sources: Sequence[str], encoder: Encoder) -> Store:
    """Return a library of these sources, ingested as users ingest them."""
    files = find_sources(sources)
    key = ["papers", identity(encoder), *(digest(file) for file in files)]
    folder = _folder(key)
    if not folder.exists():
        with _draft(folder) as store, tqdm(desc="encoding", unit=" papers") as bar:
            ingest(store, encoder, files, progress=bar.update)
            _keep(store, folder)
    return Store(folder)


def open_collection(collection: Collection, encoder: Encoder) -> Store:
    """Return a library of a collection's documents as they are: nothing is merged, the ids are the collection's own."""
    content = hashlib.sha256(
        "\0".join(f"{i}\0{d.title}\0{d.abstract}" for i, d in collection.documents.items()).encode()
    )
    folder = _folder(["collection", identity(encoder), content.hexdigest()])
    if not folder.exists():
        documents = list(collection.documents.items())
        with _draft(folder) as store, tqdm(desc="encoding", unit=" documents", total=len(documents)) as bar:
            with writing(store, "eval") as writer:
                for start in range(0, len(documents), _BATCH):
                    part = documents[start : start + _BATCH]
                    units = encode_papers([(record.title, record.abstract) for _, record in part], encoder)
                    with writer.transaction():
                        writer.set_encoder(identity(encoder), encoder.dim)
                        for (own_id, record), unit in zip(part, units, strict=True):
                            writer.put_units(writer.add_paper(own_id, merge([record])), unit)
                    bar.update(len(part))
                index.seal(store)
            _keep(store, folder)
    return Store(folder)


def _folder(key: list[str]) -> Path:
    return cache_folder() / "eval" / hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]


def _draft(folder: Path) -> Store:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Store(Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent)), create=True)


def _keep(store: Store, folder: Path) -> None:
    """Give a finished library its name, so that an interrupted one is never taken for it."""
    store.close()
    try:
        store.folder.rename(folder)
    except OSError:
        shutil.rmtree(store.folder, ignore_errors=True)
