"""A whole library -> one zip file: the papers with all that is said of them, and their vectors as plain arrays.

    manifest.json  what made the file, its counts, and length and sha256 of each of the other members
    papers.jsonl   a line a paper, in the order they entered: {"id", "aliases", "apart", "records"}
    units.jsonl    a line a paper that is encoded, in the same order: {"id", "text", "chunks", "sentences"}
    vectors.npy    float16, a row a unit: for each line of `units.jsonl` the whole, its chunks, its sentences

A record is {"source", "record"}; `aliases` are the names that do not follow from the records; `text` is the digest of
the text that was encoded, and spans are [start, end, tokens] and [start, end]. The same library gives the same bytes.
`parcel` reads the file. The file is made as it is taken, a block of papers at a time.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import IO, Any, cast

from assistant.errors import StoreError
from assistant.identity import strong_keys, title_key
from assistant.papers import Record
from assistant.store import Store, StoredPaper, checked_payload, digest_of

SUFFIX = ".assistant.zip"
"""What a name of such a file may end with."""
FORM, VERSION = "assistant-library", 1
MANIFEST, PAPERS, UNITS, VECTORS = "manifest.json", "papers.jsonl", "units.jsonl", "vectors.npy"
LINE_BYTES = 32 << 20
"""Longest line: thousands of records of one paper."""
_BLOCK = 500
"""Papers read at once."""


def pack(store: Store) -> Iterator[bytes]:
    """Yield the file that holds this library, as it is at the first piece: what comes later does not show.

    Raises:
        LibraryDamaged: A checksum does not agree with what is read.
        StoreError: It cannot be read.
    """
    with store.snapshot() as view:
        sink, members = _Sink(), {}
        dim, count = view.dim, view.select("SELECT coalesce(sum(length(vectors)), 0), count(*) FROM units")
        n_rows = count[0][0] // (2 * dim) if dim else 0
        with zipfile.ZipFile(cast("IO[bytes]", sink), "w") as out:  # it asks for no more than a sink has
            for name, pieces, method in (
                (PAPERS, _paper_lines(view), zipfile.ZIP_DEFLATED),
                (UNITS, _unit_lines(view), zipfile.ZIP_DEFLATED),
                (VECTORS, _vector_pieces(view, n_rows, dim), zipfile.ZIP_STORED),
            ):
                members[name] = yield from _add(out, sink, name, pieces, method)
            manifest = {
                "format": FORM, "version": VERSION, "program": _program(), "encoder": view.encoder,
                "dim": dim, "papers": view.counts()[0], "encoded": count[0][1], "rows": n_rows, "members": members,
            }  # fmt: skip
            text = (json.dumps(manifest, indent=1) + "\n").encode()
            yield from _add(out, sink, MANIFEST, [text], zipfile.ZIP_STORED)
        yield sink.take()


def _program() -> str:
    try:
        return version("paper-assistant")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


class _Sink:
    """What a zip is written to: it is taken from here piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: whoever takes the pieces writes them."""

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _add(
    out: zipfile.ZipFile, sink: _Sink, name: str, pieces: Iterable[bytes], method: int
) -> Generator[bytes, None, dict[str, Any]]:
    info, digest, n_bytes = zipfile.ZipInfo(name), hashlib.sha256(), 0  # the date is 1980 in each: the same bytes
    info.compress_type, info.external_attr = method, 0o644 << 16
    with out.open(info, "w", force_zip64=True) as member:
        for piece in pieces:
            member.write(piece)
            digest.update(piece)
            n_bytes += len(piece)
            yield sink.take()
    return {"bytes": n_bytes, "sha256": digest.hexdigest()}


def _paper_lines(view: Store) -> Iterator[bytes]:
    papers = view.papers_in_turn()
    while block := list(islice(papers, _BLOCK)):
        span = (block[0].n, block[-1].n)
        records = _by_paper(view, "source, payload, digest FROM records", "source, digest", span)
        aliases = _by_paper(view, "alias FROM aliases", "alias", span)
        apart = _by_paper(view, "digest FROM apart", "digest", span)
        for each in block:
            names, digests = ([row[0] for row in rows.get(each.n, ())] for rows in (aliases, apart))
            yield _paper_line(each, records.get(each.n, []), names, digests)


def _by_paper(view: Store, wanted: str, order: str, span: tuple[int, int]) -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = {}
    columns, _, table = wanted.partition(" FROM ")
    for n, *row in view.select(f"SELECT n, {columns} FROM {table} WHERE n BETWEEN ? AND ? ORDER BY n, {order}", span):
        found.setdefault(n, []).append(tuple(row))
    return found


def _paper_line(
    stored: StoredPaper, records: Sequence[tuple[Any, ...]], names: Sequence[str], apart: Sequence[str]
) -> bytes:
    said, keys = [], set()
    for source, payload, digest in records:
        values = json.loads(checked_payload(payload, digest))
        said.append({"source": source, "record": values})
        record = Record("", **{**values, "authors": tuple(values["authors"])})
        keys |= {*strong_keys(record, source), title_key(record)}
    names = [name for name in names if name not in keys]
    line = _line({"id": stored.paper.id, "aliases": names, "apart": list(apart), "records": said})
    if len(line) > LINE_BYTES:
        raise StoreError(
            f"cannot export paper {stored.paper.id!r}: {len(records)} records are said of it, {len(line):,} bytes;"
            " remove it, or split it by `assistant split`"
        )
    return line


def _unit_lines(view: Store) -> Iterator[bytes]:
    for stored, units in view.scan():
        paper = stored.paper
        chunks = [(each.start, each.end, each.n_tokens) for each in units.chunks]
        text = text_digest(paper.title, paper.abstract)
        yield _line({"id": paper.id, "text": text, "chunks": chunks, "sentences": units.sentences})


def _vector_pieces(view: Store, n_rows: int, dim: int) -> Iterator[bytes]:
    yield array_header(n_rows, dim)
    for _, units in view.scan():
        yield units.vectors.astype("<f2").tobytes()


def array_header(n_rows: int, dim: int) -> bytes:
    """Return the one header that the array has (numpy.lib.format, version 1.0), whatever the version of NumPy."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({n_rows}, {dim}), }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _line(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def text_digest(title: str, abstract: str) -> str:
    """Return the digest by which a text is known that vectors were made of."""
    return digest_of(f"{title}\0{abstract}")
