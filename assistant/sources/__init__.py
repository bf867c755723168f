"""Where papers come from: files, archives, folders, standard input -> records and refusals, each with its place.

Names become files and queries by `find`, and each is opened by `open_source`; each thing in it that holds records (the
file itself, a member of an archive) is an `Opened` with its format, told by the content. Everything is streamed: memory
does not grow with the size. Every record is either read or refused with a reason; nothing is skipped in silence, and
one bad record, member or file costs no good one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from assistant.errors import CorpusError
from assistant.papers import Raw, Record, Rejected, to_record
from assistant.sources import bibtex, csv_text, excel, markup, page, parquet, records, tagged, web
from assistant.sources.archive import MAX_MEMBERS, Member, Zip, archive, tar_members
from assistant.sources.content import HEAD_BYTES, Content, Form
from assistant.sources.find import find_sources, is_left_out, open_bytes, shown
from assistant.sources.live import Fetcher, Query, open_live, parse
from assistant.sources.unpack import Meter, packing, unpack

__all__ = ["FORMATS", "Opened", "Source", "detect", "find", "open_content", "open_source"]

Source = Path | Query
"""A file, or a question to a live source."""

_TABLES = {**parquet.FORMS, **excel.FORMS, **csv_text.FORMS}
"""Those whose readers look for a header, and are told where the user says the fields are."""
FORMATS: Mapping[str, Form] = {
    **parquet.FORMS, **excel.FORMS, **markup.FORMS, **web.FORMS, **tagged.FORMS, **bibtex.FORMS, **records.FORMS,
    **csv_text.FORMS, **page.FORMS,
}  # fmt: skip
"""The formats by name, the most particular first: a content has the first one that it fits."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Something that holds records, opened."""

    name: str
    """What the ledger calls it."""
    key: str
    """What it is known by from run to run."""
    form: str
    items: Iterator[Record | Rejected]
    """Read as it is iterated; raises CorpusError where it cannot be read on, and at once where it cannot be read."""


MAX_LAYERS = 4
"""A compressed tar in a zip, with compressed members, has as many; what is packed in itself without end has more."""
_UNREADABLE = {
    b"%PDF-": "a PDF; give the records of the papers, not the papers",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it and give the files",
    b"Rar!\x1a\x07": "a RAR archive; unpack it and give the files",
    b"\x1f\x9d": "packed by compress (.Z); unpack it and give the file",
    b"\x04\x22\x4d\x18": "packed by lz4; unpack it and give the file",
    b"SQLite format 3\0": "an SQLite database; export its records as CSV or JSON",
    b"\xd0\xcf\x11\xe0": "an Office file of before 2007; save it as .xlsx or CSV",
}
"""What is met by its first bytes and cannot be read, and what to do."""

_ODD = re.compile("[\ufffd\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
"""What no text has: undecodable characters, and controls but for tabs and ends of lines and pages."""

_log = logging.getLogger(__name__)


def find(names: Sequence[str]) -> list[Source]:
    """Return what names stand for, in order, each once: files, and where there is no such file, live sources.

    Raises:
        ConfigError: A name that looks like a live one and is not understood.
        CorpusError: A folder or a glob without any file.
    """
    found: dict[object, Source] = {}
    for name in names:
        query = None if _is_file(name) else parse(name)
        if query:
            found.setdefault(query.name, query)
        else:
            found.update({path: path for path in find_sources([name]) if path not in found})
    return list(found.values())


def _is_file(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def open_live_source(query: Query, fetcher: Fetcher) -> Iterator[Opened]:
    """Open a live source; the items are asked for as they are read."""

    def read(form: str, content: Content) -> Iterator[Raw | Rejected]:
        return iter(FORMATS[form].read(content))

    def items() -> Iterator[Record | Rejected]:
        for item in open_live(query, fetcher, read):
            yield to_record(item) if isinstance(item, Raw) else item

    yield Opened(query.name, query.name, query.service, items())


def open_source(path: Path, form: str | None = None, mapping: Mapping[str, str] | None = None) -> Iterator[Opened]:
    """Open a file and yield what it holds: itself, or the members of an archive, one after the other.

    Read each before asking for the next one. What cannot be opened is yielded too: its items raise at their first step,
    and its form is "unknown" where none was given.

    Args:
        path: The file; `-` is standard input. A pipe is waited for, other devices and sockets are not read.
        form: One of `FORMATS`; None: told by the content.
        mapping: For fields of `papers.FIELDS` the name under which this source keeps them.
    """
    name, key = shown(path), shown(path)
    try:
        with open_bytes(path) as (stream, file):
            if file:
                key = shown(file.resolve())
            way = _Way(form, mapping or {}, Meter(name))
            yield from way.open(Content(name, way.weighed(stream), file), key, layer=0)
    except CorpusError as error:
        yield _refused(name, key, form, error)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        yield _refused(
            name, key, form, CorpusError(f"cannot read {name}: {reason}; check the name and its permissions")
        )


def open_content(
    content: Content, key: str, form: str | None = None, mapping: Mapping[str, str] | None = None
) -> Opened:
    """Tell the format of a content, where it is not given, and begin to read it; errors come with its items."""
    try:
        _check_not_empty(content)
        name = form or (csv_text.mapped(content, mapping) if mapping else None) or detect(content)
    except CorpusError as error:
        return _refused(content.name, key, form, error)
    return Opened(content.name, key, name, _records(content, name, mapping or {}))


def detect(content: Content) -> str:
    """Return the format that a content has.

    Raises:
        CorpusError: It is empty, or of no known format.
    """
    _check_not_empty(content)
    for name, form in FORMATS.items():
        if name != "page" and form.fits(content):
            return name
    for mark, what in _UNREADABLE.items():
        if content.head.startswith(mark):
            raise CorpusError(f"cannot read {content.name}: it is {what}")
    odd = len(_ODD.findall(content.text_head))
    if odd > max(4, len(content.text_head) // 50):
        raise CorpusError(
            f"cannot read {content.name}: it is no text ({odd} undecodable characters in the first {len(content.head)}"
            f" bytes); give one of {', '.join(FORMATS)}"
        )
    return "page"


@dataclass(frozen=True, slots=True)
class _Way:
    """How everything in one source is opened."""

    form: str | None
    mapping: Mapping[str, str]
    meter: Meter
    """Weighs the source as a whole."""

    def weighed(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield the bytes of the source, counted."""
        while data := stream.read(HEAD_BYTES):
            self.meter.packed += len(data)
            yield data

    def open(self, content: Content, key: str, layer: int) -> Iterator[Opened]:
        """Yield a content, or what is packed in it."""
        kind = packing(content.head) or archive(content.head)
        try:
            if kind is None:
                yield open_content(content, key, self.form, self.mapping)
            elif layer == MAX_LAYERS:
                raise CorpusError(
                    f"cannot read {content.name}: it is packed more than {MAX_LAYERS} times over; unpack it and give"
                    " the files"
                )
            elif kind == "zip":
                yield from self._open_zip(content, key, layer)
            elif kind == "tar":
                yield from self._open_members(tar_members(content), content.name, key, layer)
            else:
                unpacked = unpack(content, kind, self.meter.part(content.name))
                yield from self.open(Content(content.name, unpacked), key, layer + 1)
        except CorpusError as error:
            yield _refused(content.name, key, self.form, error)
        except OSError as error:
            reason = f"cannot read {content.name}: {error.strerror or error}; run the ingest again"
            yield _refused(content.name, key, self.form, CorpusError(reason))

    def _open_zip(self, content: Content, key: str, layer: int) -> Iterator[Opened]:
        with content.file() as path:
            if layer == 0:  # the list of its members is at its end: it is not read as it comes
                self.meter.packed = path.stat().st_size
            found = Zip(content.name, path)
            if found.is_document:
                with path.open("rb") as stream:
                    yield open_content(Content(content.name, stream, path), key, self.form, self.mapping)
            else:
                yield from self._open_members(found.members(self.meter), content.name, key, layer)

    def _open_members(self, members: Iterable[Member], name: str, key: str, layer: int) -> Iterator[Opened]:
        keys: set[str] = set()
        for member in members:
            path = member.name.replace("\\", "/")  # as some writers have it
            if is_left_out(path):
                continue
            own_name, own_key = _inside(name, key, path, keys)
            if len(keys) > MAX_MEMBERS or self.meter.is_spent:
                limit = "unpack to too much" if self.meter.is_spent else f"are more than {MAX_MEMBERS:,}"
                raise CorpusError(f"cannot read {name} on: its members {limit}; unpack it and give the folder")
            if member.problem:
                error = CorpusError(f"cannot read {own_name}: {member.problem}")
                yield _refused(own_name, own_key, self.form, error)
            else:
                yield from self.open(Content(own_name, member.pieces), own_key, layer + 1)
        if not keys:
            raise CorpusError(f"cannot read {name}: no file is in it; give an archive with records")


def _inside(name: str, key: str, member: str, keys: set[str]) -> tuple[str, str]:
    """Return the name and the key of a member; the name leads nowhere, and no two members share a key."""
    parts = [part for part in PurePosixPath(member).parts if part not in {"/", "//", ".."}]
    own_name = shown("/".join([name, *parts]))[:1_000]
    own_key = f"{key}/{shown(member)}"[:1_000]
    if own_key in keys:
        own_name, own_key = f"{own_name} #{len(keys) + 1}", f"{own_key} #{len(keys) + 1}"
    keys.add(own_key)
    return own_name, own_key


def _check_not_empty(content: Content) -> None:
    if not content.head.strip():
        content.check()
        if len(content.head) < HEAD_BYTES:
            raise CorpusError(f"cannot read {content.name}: the file is empty; give a file with records")


def _refused(name: str, key: str, form: str | None, error: CorpusError) -> Opened:
    def items() -> Iterator[Record | Rejected]:
        raise error
        yield

    return Opened(name, key, form or "unknown", items())


def _records(content: Content, form: str, mapping: Mapping[str, str]) -> Iterator[Record | Rejected]:
    read = FORMATS[form].read
    try:
        for item in read(content, mapping) if form in _TABLES else read(content):
            yield to_record(item, mapping) if isinstance(item, Raw) else item
    except CorpusError:
        content.check()  # why it ends there tells more than how it ends
        raise
    except Exception as error:  # a border: whatever a parser does about a stranger's file is said of the file
        content.check()
        _log.info("reading %s failed", content.name, exc_info=True)
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {str(error)[:200]}"
        raise CorpusError(
            f"cannot read {content.name} to its end: {reason}; mend the file, or give its format by --format"
        ) from error
    content.check()
