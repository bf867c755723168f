"""A file that `pack` wrote -> the papers of a library, each checked.

Nothing in it is believed, and nothing is unpacked to the disk. What is not as `pack` writes it is refused as
`CorpusError`, which names it; a record that is not clean is cleaned, or left out, as one of any other source is. Memory
is bounded by one paper.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from assistant.clean import MAX_CHARS, drop_unseen
from assistant.errors import CorpusError
from assistant.identity import merge
from assistant.pack import (
    FORM,
    LINE_BYTES,
    MANIFEST,
    PAPERS,
    UNITS,
    VECTORS,
    VERSION,
    array_header,
    text_digest,
)
from assistant.papers import MAX_AUTHORS, TITLE_CHARS, Raw, Record, Rejected, to_record
from assistant.rebuild import UnfitError, rebuild, shorten
from assistant.store import Units, digest_of
from assistant.types import Chunk

MANIFEST_BYTES = 64 << 10
VECTOR_BYTES = 256 << 20
"""Most that the vectors of one paper take: an abstract of the greatest length has a tenth of it."""
MAX_RATIO, FREE_BYTES = 200, 64 << 20
"""Greatest ratio of a packed member, once it unpacks to so many bytes; papers are packed to a thirtieth at best."""
MAX_DIM = 1 << 16
MAX_TOKENS = 16
"""Most tokens of one character."""
LENGTH_SLACK = 0.02
"""Vectors have length 1; half precision rounds that by less than a thousandth."""
NAME_CHARS = 10_000
"""Longest source or alias."""
_READ_BYTES = 1 << 18
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,199}")
_ALIAS = re.compile(r"(?:doi|arxiv|pmid|own|title|abstract):.+", re.DOTALL)
_DIGEST = re.compile(r"[0-9a-f]{32}")
_SAID = {each.name for each in fields(Record)} - {"where", "warning"}
_FOREIGN = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, KeyError, IndexError, OverflowError,
    NotImplementedError, RuntimeError, RecursionError, UnfitError,
)  # fmt: skip
"""What reading a damaged zip, JSON text or array can raise."""

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Said:
    """What a source says of a paper."""

    source: str
    record: Record
    payload: str
    digest: str


@dataclass(frozen=True, slots=True)
class Packed:
    """A paper as it stands in the file."""

    where: str
    """Its place, such as `paper 12`."""
    id: str
    aliases: tuple[str, ...]
    """Names that do not follow from the records; one without a colon is the id of a paper that this one took in."""
    apart: tuple[str, ...]
    """Digests of records that are not of this paper."""
    said: tuple[Said, ...]
    """Empty when none of its records can be let in."""
    notes: tuple[str, ...]
    """What was not let in as it stands, in words."""
    units: Units | None
    """What is encoded of the text that the records give; None when that has to be encoded."""
    merged: Mapping[str, Any]
    """The paper's fields."""


@dataclass(frozen=True, slots=True)
class Member:
    """What the manifest says of a member."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the file says of itself."""

    format: str
    version: int
    program: str
    encoder: str | None
    """Identity of the encoder of the vectors."""
    dim: int
    papers: int
    encoded: int
    """Papers that have vectors here."""
    rows: int
    members: Mapping[str, Member]


@dataclass(frozen=True, slots=True)
class _SaidLine:
    source: str
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _PaperLine:
    id: str
    aliases: tuple[str, ...]
    apart: tuple[str, ...]
    records: tuple[_SaidLine, ...]


@dataclass(frozen=True, slots=True)
class _UnitLine:
    id: str
    text: str
    chunks: Any
    sentences: Any


class Parcel:
    """The file that holds a library, opened; use as a context manager. Only `check` tells that all of it is sound."""

    def __init__(self, file: Path) -> None:
        """Open it, and read what it says of itself.

        Raises:
            CorpusError: It is not there, or no file that `pack` wrote, or of a newer program.
        """
        self.file = file
        with self._told(), ExitStack() as stack:
            if not stat.S_ISREG(file.stat().st_mode):
                raise ValueError("it is no ordinary file")
            stream = stack.enter_context(_Wary(file))
            self._zip = stack.enter_context(zipfile.ZipFile(stream))
            self.manifest = self._read_manifest(stream.seek(0, io.SEEK_END))
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def check(self) -> None:
        """Read it to its end.

        Raises:
            CorpusError: Something in it is not as it should be.
        """
        for _ in self.papers():
            pass

    def papers(self) -> Iterator[Packed]:
        """Yield the papers in the order they entered, each checked; that all are there is known after the last.

        Raises:
            CorpusError: What follows is not as it should be.
        """
        with self._told(), ExitStack() as stack:
            members = {name: stack.enter_context(self._member(name)) for name in (PAPERS, UNITS, VECTORS)}
            units = _Vectors(members[UNITS], members[VECTORS], self.manifest)
            n = 0
            for n, value in enumerate(_values(_PaperLine, members[PAPERS]), 1):
                yield _packed(f"paper {n}", value, units)
            if n != self.manifest.papers:
                raise ValueError(f"{PAPERS} holds {n} papers where {self.manifest.papers} are announced")
            units.check_end()
            for member in members.values():
                member.check()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Name what is wrong with the file."""
        try:
            yield
        except OSError as error:
            raise CorpusError(
                f"cannot import {self.file}: {error.strerror or error}; check its name and its permissions"
            ) from error
        except _FOREIGN as error:
            what = f"{type(error).__name__} " if not str(error) or isinstance(error, KeyError) else ""
            raise CorpusError(
                f"cannot import {self.file}: {what}{drop_unseen(str(error))[:300]}; it has to be whole, as `assistant"
                " export --format library` wrote it: get it again (lists of papers are read by `assistant ingest`)"
            ) from error

    def _read_manifest(self, n_bytes: int) -> Manifest:
        infos = {each.filename: each for each in self._zip.infolist()}
        if MANIFEST not in infos:
            raise ValueError(f"there is no {MANIFEST} in it")
        if infos[MANIFEST].file_size > MANIFEST_BYTES:
            raise ValueError(f"its {MANIFEST} is too large")
        with self._zip.open(MANIFEST) as stream:
            value = _parse(stream.read(MANIFEST_BYTES + 1))
        if not isinstance(value, dict) or value.get("format") != FORM:
            raise ValueError(f"its {MANIFEST} is not that of a library")
        if value.get("version") != VERSION:
            raise ValueError(f"it has version {shorten(value.get('version'))} of the format, this program reads 1")
        manifest = rebuild(Manifest, value)
        wanted = {MANIFEST, PAPERS, UNITS, VECTORS}
        if len(self._zip.infolist()) != len(wanted) or infos.keys() != wanted:
            raise ValueError(f"it holds {', '.join(map(shorten, sorted(infos)))[:200]} and not just what a library has")
        if manifest.members.keys() != wanted - {MANIFEST}:
            raise ValueError(f"its {MANIFEST} does not name the other members")
        if not (0 <= manifest.dim <= MAX_DIM and min(manifest.papers, manifest.encoded, manifest.rows) >= 0):
            raise ValueError(f"its {MANIFEST} holds impossible numbers")
        for name, member in manifest.members.items():
            _check_size(infos[name], member, n_bytes)
        return manifest

    def _member(self, name: str) -> _Member:
        return _Member(name, self._zip.open(name), self.manifest.members[name])


class _Wary(io.FileIO):
    """A file of which no more is read at once than a sound zip needs: its list of members is read as a whole."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = _READ_BYTES + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, _READ_BYTES + 1)) or b""
        if len(data) > _READ_BYTES:
            raise zipfile.BadZipFile("its list of members is too long")
        return data


def _check_size(info: zipfile.ZipInfo, member: Member, n_bytes: int) -> None:
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} or info.flag_bits & 1:
        raise ValueError(f"{info.filename} is packed in another way")
    if info.file_size != member.bytes or info.compress_size > n_bytes:
        raise ValueError(f"{info.filename} has {info.file_size:,} bytes where {member.bytes:,} are announced")
    if info.filename == VECTORS and info.file_size != info.compress_size:
        raise ValueError(f"{info.filename} is packed")
    if info.file_size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
        raise ValueError(f"{info.filename} unpacks to {info.file_size:,} bytes, more than {MAX_RATIO} times its size")


class _Member:
    """A member, read from its beginning and weighed against what the manifest says of it."""

    def __init__(self, name: str, stream: IO[bytes], said: Member) -> None:
        self.name, self._stream, self._said = name, stream, said
        self._digest, self._n_bytes = hashlib.sha256(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def lines(self) -> Iterator[bytes]:
        rest, start = bytearray(), 0
        while piece := self._piece():
            rest += piece
            while (end := rest.find(b"\n", start)) >= 0:
                yield bytes(rest[:end])
                del rest[: end + 1]
                start = 0
            start = len(rest)
            if start > LINE_BYTES:
                raise ValueError(f"a line of {self.name} is longer than {LINE_BYTES:,} bytes")
        if rest:
            raise ValueError(f"the last line of {self.name} has no end")

    def read(self, n: int) -> bytes:
        """Return the next `n` bytes."""
        data = bytearray()
        while len(data) < n and (piece := self._piece(n - len(data))):
            data += piece
        if len(data) < n:
            raise ValueError(f"{self.name} is cut short")
        return bytes(data)

    def check(self) -> None:
        """Compare all that was read with what was announced."""
        if self._piece():
            raise ValueError(f"{self.name} goes on behind its end")
        if (self._n_bytes, self._digest.hexdigest()) != (self._said.bytes, self._said.sha256):
            raise ValueError(f"{self.name} is not what was exported: its sha256 is another one")

    def _piece(self, n: int = _READ_BYTES) -> bytes:
        data = self._stream.read(min(n, _READ_BYTES))
        self._digest.update(data)
        self._n_bytes += len(data)
        return data


def _values(kind: type[Kind], member: _Member) -> Iterator[Kind]:
    for n, line in enumerate(member.lines(), 1):
        try:
            yield rebuild(kind, _parse(line))
        except (ValueError, RecursionError, UnfitError) as error:
            raise ValueError(f"line {n} of {member.name} cannot be read ({str(error)[:200]})") from error


def _parse(text: bytes) -> Any:
    return json.loads(text.decode(), parse_constant=_refuse_constant)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _packed(where: str, value: _PaperLine, units: _Vectors) -> Packed:
    try:
        _check_names(value)
        said, notes = _said(value, where)
    except (ValueError, UnfitError) as error:
        raise ValueError(f"{where} in {PAPERS}: {error}") from error
    merged = merge(each.record for each in said) if said else {"title": "", "abstract": ""}
    made = units.of(value.id, merged["title"], merged["abstract"])
    return Packed(where, value.id, value.aliases, value.apart, tuple(said), tuple(notes), made, merged)


def _check_names(value: _PaperLine) -> None:
    if not _ID.fullmatch(value.id):
        raise ValueError(f"its id is {shorten(value.id)}")
    for alias in value.aliases:
        pattern = _ALIAS if ":" in alias else _ID
        if len(alias) > NAME_CHARS or not pattern.fullmatch(alias) or not _can_be_kept(alias):
            raise ValueError(f"an alias is {shorten(alias)}")
    for digest in value.apart:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"a digest is {shorten(digest)}")


def _said(value: _PaperLine, where: str) -> tuple[list[Said], list[str]]:
    """Return what is said of a paper, and what was not let in as it stands."""
    said, notes = [], []
    for line in value.records:
        if not 0 < len(line.source) <= NAME_CHARS or not _can_be_kept(line.source):
            raise ValueError(f"a source is {shorten(line.source)}")
        if line.record.keys() - _SAID or not line.record.keys() >= {"title", "abstract", "authors"}:
            raise ValueError(f"a record has the fields {', '.join(sorted(line.record))[:200]}")
        record, note = _let_in(rebuild(Record, {"where": where, **line.record}), where)
        if record:
            payload = record.payload() if note else json.dumps(line.record, ensure_ascii=False, sort_keys=True)
            said.append(Said(line.source, record, payload, digest_of(payload)))
        notes += [note] if note else []
    if not value.records:
        raise ValueError("it has no record")
    return said, notes


def _can_be_kept(text: str) -> bool:
    return not re.search("[\x00\ud800-\udfff]", text)


def _let_in(record: Record, where: str) -> tuple[Record | None, str | None]:
    """Return a record, and what was done to it: one that is not clean goes in as one of any other source would."""
    if _is_clean(record):
        return record, None
    values = {name: getattr(record, name) for name in _SAID}
    cleaned = to_record(Raw(where, values))
    if isinstance(cleaned, Rejected):
        return None, cleaned.reason
    return cleaned, "a record was not clean, and was cleaned anew"


def _is_clean(record: Record) -> bool:
    """Tell whether a record is one that `to_record` can have made.

    Texts are not cleaned again and compared: mending what looks like a mishap once more may change what it rightly is.
    """
    short = [text for text in (*record.authors, record.venue, record.own_id) if text is not None]
    keys = {name: getattr(record, name) for name in ("url", "year", "doi", "arxiv_id", "pmid")}
    other = to_record(Raw("", {**keys, "abstract": "any"}))
    return (
        all(_is_plain(text) for text in (record.title, record.abstract, *short))
        and len(record.title) <= 2 * TITLE_CHARS  # mending LaTeX can make a text longer
        and len(record.abstract) <= 2 * MAX_CHARS
        and any(character.isalnum() for character in record.abstract)
        and len(record.authors) <= MAX_AUTHORS
        and all(0 < len(text) <= TITLE_CHARS for text in short)
        and isinstance(other, Record)
        and all(getattr(other, name) == value for name, value in keys.items())
    )


def _is_plain(text: str) -> bool:
    return drop_unseen(text) == text and not re.search(r"[^\S ]", text)


class _Vectors:
    """The units of papers, read along with them."""

    def __init__(self, lines: _Member, vectors: _Member, manifest: Manifest) -> None:
        self._lines, self._vectors, self._manifest = _values(_UnitLine, lines), vectors, manifest
        self._next = next(self._lines, None)
        self._rows_left, self._n = manifest.rows, 0
        header = array_header(manifest.rows, manifest.dim)
        if vectors.read(len(header)) != header:
            raise ValueError(f"{VECTORS} is no array of {manifest.rows} rows and {manifest.dim} columns in <f2")

    def of(self, paper_id: str, title: str, abstract: str) -> Units | None:
        """Return the units of the paper that comes next, where they are of this text."""
        line = self._next
        if line is None or line.id != paper_id:
            return None
        chunks, sentences = _spans(line, line.chunks, 3), _spans(line, line.sentences, 2)
        rows = self._read_rows(line, 1 + len(chunks) + len(sentences))
        self._next = next(self._lines, None)
        self._n += 1
        if line.text != text_digest(title, abstract):
            return None
        for spans in (chunks, sentences):
            _check_spans(line, spans, len(abstract))
        cut = tuple(Chunk(abstract[start:end], start, end, n) for start, end, n in chunks.tolist())
        return Units(cut, tuple((start, end) for start, end in sentences.tolist()), rows)

    def _read_rows(self, line: _UnitLine, n: int) -> NDArray[np.float16]:
        dim = self._manifest.dim
        if n > self._rows_left or not dim or 2 * n * dim > VECTOR_BYTES:
            raise ValueError(f"paper {line.id[:80]!r} has {n} vectors where {self._rows_left} are left")
        self._rows_left -= n
        rows = np.frombuffer(self._vectors.read(2 * n * dim), dtype="<f2").reshape(n, dim)
        lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= LENGTH_SLACK))  # NaN included
        if wrong.size:
            raise ValueError(f"a vector of paper {line.id[:80]!r} has the length {lengths[wrong[0]]}, not 1")
        return rows

    def check_end(self) -> None:
        """Hold that nothing is left over."""
        if self._next is not None:
            raise ValueError(f"{UNITS} tells of {self._next.id[:80]!r}, which is no paper that comes there")
        if self._rows_left or self._n != self._manifest.encoded:
            raise ValueError(f"{self._rows_left} vectors are of no paper")


def _spans(line: _UnitLine, value: Any, width: int) -> NDArray[np.int64]:
    if not isinstance(value, list) or not value or not all(_is_span(span, width) for span in value):
        raise ValueError(f"the units of paper {line.id[:80]!r} are no lists of {width} whole numbers")
    return np.array(value, dtype=np.int64)


def _is_span(span: Any, width: int) -> bool:
    return isinstance(span, list) and len(span) == width and all(type(n) is int and 0 <= n < 1 << 31 for n in span)


def _check_spans(line: _UnitLine, spans: NDArray[np.int64], length: int) -> None:
    """Refuse chunks or sentences that are not runs of the abstract, one after the other."""
    start, end, n_tokens = spans[:, 0], spans[:, 1], spans[:, 2:]
    is_run = (start < end).all() and (end[:-1] <= start[1:]).all() and end[-1] <= length
    if not is_run or (n_tokens > MAX_TOKENS * length).any():
        raise ValueError(f"the units of paper {line.id[:80]!r} are no runs of its abstract")
