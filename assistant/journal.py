"""A second copy of what must not be lost: each change of a library, appended to a file before it is committed.

`journal.gz` is a row of gzip members, one for each commit, each holding JSON lines (`zcat` shows them). A member has a
checksum of its own: one that is torn or damaged costs itself alone, and is told. The entries, in the words of `write`:

    {"commit": EPOCH, "library": UUID}    the first line: which commit of which library
    {"put": ID, "source": S, "record": R} source S says R of paper ID, which enters with its first record
    {"drop": ID, "source": S, "digest": D} it says so no more
    {"unite": ID, "with": ID}             the second paper is the first, its records and keys go there
    {"apart": ID, "digest": D}            a record with this digest is not of this paper
    {"remove": ID}                        the paper is deleted

A paper's fields follow from its records, its keys too: so the papers can be made again from this file alone. Each
commit leaves a **mark** in the store, the journal's length and the checksum at that place, which tells at once whether
the two still belong together.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from assistant.whole import write_whole

FILE_NAME = "journal.gz"
MAX_MEMBER_BYTES = 1 << 30
"""No commit is nearly as large: what expands beyond this is damaged."""
_MAGIC = b"\x1f\x8b\x08"
_TAIL = 8
"""Bytes of checksum and length at the end of a gzip member."""
_READ_BYTES = 1 << 20

Entry = Mapping[str, Any]
Standing = Literal["same", "ahead", "other"]
"""How the journal stands to a mark: it ends there; it goes on behind it; it is not what the mark was made of."""


def append(folder: Path, entries: Iterable[Entry]) -> str:
    """Add one commit's entries, synced to the disk; return the mark of the journal's end.

    Raises:
        OSError: It cannot be written; what was written of it is taken back.
    """
    with (folder / FILE_NAME).open("ab", buffering=0) as file:
        before, rest = file.tell(), memoryview(_pack(entries))
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise
        return mark(folder, file.tell())


def size(folder: Path) -> int:
    """Return the journal's length in bytes; 0 while there is none."""
    try:
        return (folder / FILE_NAME).stat().st_size
    except OSError:
        return 0


def mark(folder: Path, n_bytes: int) -> str:
    """Return what the journal's first `n_bytes` are known by."""
    with (folder / FILE_NAME).open("rb") as file:
        file.seek(max(0, n_bytes - _TAIL))
        return f"{n_bytes} {file.read(min(n_bytes, _TAIL)).hex()}"


def length(wanted: str | None) -> int:
    """Return the length in bytes that a mark stands for; 0 without one."""
    digits = (wanted or "").partition(" ")[0]
    return int(digits) if digits.isdecimal() else 0


def compare(folder: Path, wanted: str | None) -> Standing:
    """Tell how the journal stands to a mark."""
    there, n_bytes = size(folder), length(wanted)
    try:
        if there < n_bytes or (n_bytes and mark(folder, n_bytes) != wanted):
            return "other"
    except OSError:
        return "other"
    return "ahead" if there > n_bytes else "same"


def cut(folder: Path, n_bytes: int) -> None:
    """Cut what stands behind the first `n_bytes`: the torn end of a commit that never was."""
    with (folder / FILE_NAME).open("rb+") as file:
        file.truncate(n_bytes)
        os.fsync(file.fileno())


def rewrite(folder: Path, commits: Iterable[Iterable[Entry]]) -> str:
    """Write the journal anew, whole or not at all; return the mark of its end."""
    write_whole(folder / FILE_NAME, (_pack(entries) for entries in commits))
    return mark(folder, size(folder))


def read(folder: Path, start: int = 0) -> Iterator[tuple[int, list[Entry] | None]]:
    """Yield (end in bytes, entries) for each commit from `start` on; None for a stretch that cannot be read.

    A stretch that ends where the file does may be the torn end of a commit that never was.
    """
    for end, text in _members(folder, start):
        yield end, None if text is None else _entries(text)


def is_torn(folder: Path, start: int) -> bool:
    """Tell whether what stands behind the first `start` bytes is the beginning of a commit, and nothing else."""
    unpacker = zlib.decompressobj(31)
    with (folder / FILE_NAME).open("rb") as stream:
        stream.seek(start)
        while piece := stream.read(_READ_BYTES):
            try:
                while piece:
                    unpacker.decompress(piece, _READ_BYTES)
                    piece = unpacker.unconsumed_tail
            except zlib.error:
                return False
            if unpacker.eof:
                return False
    return True


def is_whole(folder: Path) -> bool:
    """Tell whether every commit in the journal agrees with its checksum."""
    return all(text is not None for _, text in _members(folder, 0))


def _members(folder: Path, start: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield (end in bytes, text) for each gzip member; None for a stretch between them."""
    try:
        stream = (folder / FILE_NAME).open("rb")
    except OSError:
        return
    with stream:
        stream.seek(start)
        buffer, at, is_damaged = b"", start, False
        while True:
            if len(buffer) < _READ_BYTES:
                buffer += stream.read(_READ_BYTES)
            if not buffer:
                break
            found = _member(buffer, stream)
            if found is None:
                skip = buffer.find(_MAGIC, 1)
                skip = skip if skip > 0 else max(1, len(buffer) - len(_MAGIC) + 1)
                is_damaged, at, buffer = True, at + skip, buffer[skip:]
                continue
            text, used, buffer = found
            if is_damaged:
                yield at, None
                is_damaged = False
            at += used
            yield at, text
        if is_damaged:
            yield at, None


def _pack(entries: Iterable[Entry]) -> bytes:
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(lines.encode("utf-8", "replace")) + packer.flush()


def _entries(text: bytes) -> list[Entry] | None:
    """Return the entries of a commit; None when they are no JSON objects."""
    try:
        found = [json.loads(line) for line in text.decode().split("\n") if line]
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(each, dict) for each in found) else None


def _member(buffer: bytes, stream: BinaryIO) -> tuple[bytes, int, bytes] | None:
    """Unpack the member at the start of a buffer, reading on as needed; None when there is no whole one.

    Returns:
        Its text, its length in bytes, and what was read behind it. When it is no member, what was read on is lost
        from the stream, so the stream goes back.
    """
    place = stream.tell()
    unpacker, text, used, piece = zlib.decompressobj(31), bytearray(), 0, buffer
    try:
        while not unpacker.eof:
            text += unpacker.decompress(piece, MAX_MEMBER_BYTES + 1 - len(text))
            used += len(piece)
            if len(text) > MAX_MEMBER_BYTES:
                raise ValueError
            if not unpacker.eof:
                piece = stream.read(_READ_BYTES)
                if not piece:
                    raise ValueError
    except (zlib.error, ValueError):
        stream.seek(place)
        return None
    rest = unpacker.unused_data
    return bytes(text), used - len(rest), rest
