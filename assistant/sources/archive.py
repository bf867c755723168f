"""Archives -> their members, each as a stream of bytes: zip and tar.

Nothing is ever written where an archive says. A damaged archive gives the members that can be found, and one error.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from assistant.errors import CorpusError
from assistant.sources.content import HEAD_BYTES, Content
from assistant.sources.find import shown
from assistant.sources.unpack import PACKED_BYTES, Meter, broken, take, unpacked

MAX_MEMBERS = 100_000
"""Members read of one archive; all the others together are one refusal."""
DIRECTORY_BYTES = 16 * 2**20
"""Greatest list of members of a zip, which is read as a whole."""
NAME_BYTES = 2**16
"""As much is read of what a tar says of the member that follows."""

_BLOCK = 512
"""Of a tar."""
_PAX = re.compile(rb"\d+ (path|size)=([^\n]*)\n")
_PAX_TYPES = {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}
_SILENT = {tarfile.DIRTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK}
_PLAIN = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_MARK = b"PK\x03\x04"
_MARKS = (_MARK, b"PK\x05\x06", b"PK\x07\x08")
"""Of a zip with members, of an empty one, and of a part of one."""
_LOCAL = struct.Struct("<6xHH4xIIIHH")
"""The header of a member of a zip: flags, method, check sum, packed and unpacked size, length of name and extras."""
_METHODS = {0: "stored", 8: "deflate", 12: "bz2", 93: "zstd", 95: "xz"}
"""Of the members of a zip; others are rare."""
_UNTOLD = 0xFFFFFFFF
"""A size that stands in a longer form elsewhere."""


def archive(head: bytes) -> str | None:
    """Tell by its first bytes what archive a content is, if any."""
    if head.startswith(_MARKS):
        return "zip"
    return "tar" if _tar_header(head[:_BLOCK]) else None


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    """As it stands there: it may lead anywhere, and is for telling alone."""
    pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))
    """Its bytes, as they stand in the archive, to be read before the next member is asked for."""
    problem: str = ""
    """Why it cannot be read at all, and what to do."""


def tar_members(content: Content) -> Iterator[Member]:
    """Yield the files of a tar, read as a stream; after a damaged place, what follows from the next header on.

    Raises:
        CorpusError: The stream cannot be read to its end, and no member has told.
    """
    name, size, was_good = "", 0, True
    while block := content.stream.read(_BLOCK):
        header = _tar_header(block)
        if header is None:
            if was_good and any(block):
                content.check()
                yield Member("", problem="it is damaged between its members; get the archive again")
                was_good = False
            continue
        was_good = True
        data = _Data(content, size or header.size)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            name = _text(data.read(NAME_BYTES).split(b"\0")[0])
        elif header.type in _PAX_TYPES:
            said = dict(_PAX.findall(data.read(NAME_BYTES)))
            name = _text(said.get(b"path", b"")) or name
            size = int(said[b"size"][:18]) if said.get(b"size", b"").isdigit() else 0
        elif header.type not in _SILENT:
            problem = "" if header.type in _PLAIN else "it is a link, a device or sparse; unpack it and give the file"
            yield Member(name or header.name, data.pieces(name or header.name), problem)
            name, size = "", 0
        if not data.skip():
            return
    content.check()


def _tar_header(block: bytes) -> tarfile.TarInfo | None:
    if block[257:262] != b"ustar":
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return header if header.size >= 0 else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class _Data:
    """The bytes of a member of a tar, as far as they have not been read."""

    def __init__(self, content: Content, size: int) -> None:
        self._content, self._left, self._size, self._has_told = content, size, size, False

    def read(self, n: int) -> bytes:
        data = self._content.stream.read(min(n, self._left))
        self._left -= len(data)
        return data

    def pieces(self, name: str) -> Iterator[bytes]:
        while data := self.read(HEAD_BYTES):
            yield data
        if self._left:
            self._has_told = True
            self._content.check()
            raise CorpusError(
                f"cannot read {self._content.name}/{shown(name)} to its end: the archive is cut short {self._left:,}"
                " bytes before; get it again (what came before is kept)"
            )

    def skip(self) -> bool:
        """Go to the end of the member's last block; False when the archive ends before, and the member has told."""
        for _ in () if self._has_told else self.pieces(""):
            pass
        self._content.stream.read(-self._size % _BLOCK)
        return not self._left


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member of a zip."""

    name: str
    at: int
    """Where its own header begins."""
    method: int
    packed: int | None
    """Bytes; None: not told."""
    crc: int | None
    is_encrypted: bool
    is_link: bool = False


class Zip:
    """The members of a zip file: by the list of them at its end, or else by their own headers."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path, self._problem = name, path, ""
        try:
            with _Bounded(path) as bounded, zipfile.ZipFile(bounded) as listed:
                self._entries = [_entry(info) for info in listed.infolist()]
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, struct.error, OverflowError) as error:
            self._problem = str(error)
            with path.open("rb") as file:
                self._entries = list(islice(_search(file), MAX_MEMBERS + 1))

    @property
    def is_document(self) -> bool:
        """True for a spreadsheet or another office document, which is a zip by its form alone."""
        return any(each.name in {"[Content_Types].xml", "mimetype", "xl/workbook.xml"} for each in self._entries)

    def members(self, meter: Meter) -> Iterator[Member]:
        """Yield the files; `meter` weighs the whole source.

        Raises:
            CorpusError: The list of members cannot be read; those that could be found have been yielded.
        """
        with self._path.open("rb") as file:
            for entry in self._entries:
                if not entry.name.endswith("/"):
                    part = meter.part(f"{self._name}/{shown(entry.name)}")
                    yield Member(entry.name, _zip_data(file, entry, part), _zip_problem(entry))
        if self._problem:
            raise CorpusError(
                f"cannot read {self._name} as a whole: the list of its members is missing or damaged"
                f" ({self._problem}); get the archive again (the members that were found are kept)"
            )


class _Bounded(io.FileIO):
    """A file of which no more is read at once than a list of members may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"it would have {size:,} bytes")
        return super().read(-1 if size is None else size)


def _entry(info: zipfile.ZipInfo) -> _Entry:
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")  # as many writers have it, without saying so
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    is_encrypted = bool(info.flag_bits & 1)
    return _Entry(name, info.header_offset, info.compress_type, info.compress_size, info.CRC, is_encrypted, is_link)


def _search(file: BinaryIO) -> Iterator[_Entry]:
    """Find the members of a zip by their own headers."""
    at = _find(file, 0)
    while at is not None:
        file.seek(at)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size:
            return
        flags, method, crc, packed, size, n_name, n_extra = _LOCAL.unpack(header)
        name = _text(file.read(n_name))
        is_told = not flags & 8 and _UNTOLD not in {packed, size}
        yield _Entry(name, at, method, packed if is_told else None, crc if is_told else None, bool(flags & 1))
        at = _find(file, at + _LOCAL.size + n_name + n_extra + (packed if is_told else 0))


def _find(file: BinaryIO, at: int) -> int | None:
    """Return the place of the next header of a member."""
    while True:
        file.seek(at)
        data = file.read(HEAD_BYTES)
        found = data.find(_MARK)
        if found >= 0:
            return at + found
        if len(data) < HEAD_BYTES:
            return None
        at += len(data) - len(_MARK) + 1


def _zip_problem(entry: _Entry) -> str:
    if entry.is_encrypted:
        return "it is encrypted; unpack it and give the file"
    if entry.is_link:
        return "it is a link; give the file that it leads to"
    if entry.method not in _METHODS or (entry.packed is None and entry.method == 0):
        return f"it is packed by method {entry.method}, which cannot be read; unpack it and give the file"
    return ""


def _zip_data(file: BinaryIO, entry: _Entry, meter: Meter) -> Iterator[bytes]:
    kind, left = _METHODS[entry.method], entry.packed
    file.seek(entry.at)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(_MARK):
        raise broken(kind, meter, "is not where the archive says")
    *_, n_name, n_extra = _LOCAL.unpack(header)
    at = entry.at + _LOCAL.size + n_name + n_extra

    def read() -> bytes:
        nonlocal at, left
        file.seek(at)
        data = file.read(PACKED_BYTES if left is None else min(left, PACKED_BYTES))
        at += len(data)
        left = left and left - len(data)
        return data

    crc = 0
    for piece in _stored(read, meter) if kind == "stored" else unpacked(read, kind, meter):
        crc = zlib.crc32(piece, crc)
        yield piece
    if left and kind == "stored":
        raise broken(kind, meter, "is cut short")
    if entry.crc not in {None, crc}:
        raise broken(kind, meter, "does not fit its check sum")


def _stored(read: Callable[[], bytes], meter: Meter) -> Iterator[bytes]:
    while data := take(read, meter):
        meter.count(len(data))
        yield data
