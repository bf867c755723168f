"""Packed bytes -> what they hold, as a stream: gzip, bz2, xz and zstd, told by their first bytes.

What is damaged or cut short is read as far as it goes; what unpacks to far more than papers do is stopped. Either ends
in one CorpusError that names it.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from assistant.errors import CorpusError
from assistant.sources.content import Content

PACKED_BYTES = 16_384
"""Read at a time."""
PIECE_BYTES = 4_096
"""Unpacked at a time: as much may be lost before a place that is damaged."""
MAX_RATIO = 200
"""Papers are packed to a third, and to a thirtieth at best; bombs to a thousandth (deflate) or far less."""
FREE_BYTES = 64 * 2**20
"""What one member may unpack to before its ratio counts; it takes less than a second."""
FREE_BYTES_IN_ALL = 2**30
"""What a whole source may unpack to, in all its members and layers, before its ratio counts."""
WINDOW_BYTES = 2**27
"""Greatest window of zstd, as of its own command; with `--long=31` it would need 2 GB of memory."""
XZ_BYTES = 160 * 2**20
"""Greatest memory of xz; its highest preset needs 65 MB."""

_MARKS = {
    "gzip": (b"\x1f\x8b\x08",),
    "bz2": tuple(b"BZh%d%s" % (n, block) for n in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")),
    "xz": (b"\xfd7zXZ\0",),
    "zstd": (b"\x28\xb5\x2f\xfd", *(bytes([n]) + b"\x2a\x4d\x18" for n in range(0x50, 0x60))),
}


def packing(head: bytes) -> str | None:
    """Tell by its first bytes how a content is packed; None: not at all, or as an archive."""
    return next((kind for kind, marks in _MARKS.items() if head.startswith(marks)), None)


@dataclass(slots=True)
class Meter:
    """Weighs what comes out of something packed against what went in."""

    name: str
    free: int = FREE_BYTES_IN_ALL
    packed: int = 0
    """Bytes that went in."""
    unpacked: int = 0
    """Bytes that came out."""
    whole: Meter | None = None
    """The meter of the source that this is a part of."""

    def part(self, name: str) -> Meter:
        """Return a meter for a member or a layer."""
        return Meter(name, FREE_BYTES, whole=self)

    @property
    def is_spent(self) -> bool:
        """True when more came out than papers would give."""
        return self.unpacked > self.free and self.unpacked > MAX_RATIO * self.packed

    def count(self, n: int) -> None:
        """Count bytes that came out.

        Raises:
            CorpusError: They are too many for what went in.
        """
        self.unpacked += n
        if self.is_spent:
            raise CorpusError(
                f"cannot read {self.name} on: it unpacks to more than {MAX_RATIO} times its size (more than"
                f" {self.free >> 20:,} MB), as no papers do; unpack it yourself if you trust it"
            )
        if self.whole:
            self.whole.count(n)


def unpack(content: Content, kind: str, meter: Meter) -> Iterator[bytes]:
    """Yield the bytes of a compressed content.

    Raises:
        CorpusError: It is damaged, cut short or a bomb; what came before has been yielded.
    """

    def read() -> bytes:
        data = content.stream.read(PACKED_BYTES)
        if not data:
            content.check()
        return data

    return unpacked(read, kind, meter)


def unpacked(read: Callable[[], bytes], kind: str, meter: Meter) -> Iterator[bytes]:
    """Yield the bytes of a compressed stream; streams that follow one another are one.

    Args:
        read: Gives the next packed bytes, nothing at their end.
        kind: A kind of `packing`, or `deflate`: one stream without a header, as it stands in a zip.
        meter: Weighs it.
    """
    data = take(read, meter)
    if kind == "deflate":
        yield from _unpack_one(data, read, kind, meter)
        return
    while data:
        data = yield from _unpack_one(data, read, kind, meter)
        while len(data) < 16 and (more := take(read, meter)):
            data += more
        while data and not data.strip(b"\0"):  # some writers fill up a block
            data = take(read, meter)
        if data and not data.startswith(_MARKS[kind]):
            raise broken(kind, meter, "is followed by something else")


def _unpack_one(data: bytes, read: Callable[[], bytes], kind: str, meter: Meter) -> Generator[bytes, None, bytes]:
    """Yield the bytes of one stream that begins with `data`; return the beginning of what follows it."""
    codec = _new_codec(kind)
    while True:
        try:
            piece = codec.decompress(data, PIECE_BYTES)
        except (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError) as error:
            raise broken(kind, meter, f"is damaged ({error})") from error
        if piece:
            meter.count(len(piece))
            yield piece
        if codec.eof:
            return bytes(codec.unused_data)
        data = getattr(codec, "unconsumed_tail", b"")
        if not data and len(piece) < PIECE_BYTES:
            data = take(read, meter)
            if not data:
                raise broken(kind, meter, "is cut short")


def take(read: Callable[[], bytes], meter: Meter) -> bytes:
    """Read packed bytes, counted."""
    data = read()
    meter.packed += len(data)
    return data


def broken(kind: str, meter: Meter, what: str) -> CorpusError:
    """Return the error of packed data that cannot be read on."""
    return CorpusError(
        f"cannot read {meter.name} to its end: its {kind} data {what} after {meter.unpacked:,} unpacked bytes; get the"
        " file again (what came before is kept)"
    )


def _new_codec(kind: str) -> Any:
    if kind == "zstd":
        return _Zstd()
    if kind == "bz2":
        return bz2.BZ2Decompressor()
    if kind == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_BYTES)
    return zlib.decompressobj(31 if kind == "gzip" else -15)


class _Zstd:
    """One frame of zstd, unpacked in the manner of zlib."""

    _FED = 1_024
    """A run of one byte takes 4 bytes for 128 KB: so much gives 32 MB at most."""

    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._frame = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()
        self.unconsumed_tail = b""

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self.unconsumed_tail

    def decompress(self, data: bytes, _limit: int) -> bytes:
        self.unconsumed_tail = data[self._FED :]
        try:
            return self._frame.decompress(data[: self._FED])
        except self._error as error:
            raise ValueError(str(error)) from error
