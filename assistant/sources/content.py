"""Bytes of a file, a member of an archive or a reply -> lines, blocks of text or bytes for the readers.

Everything is bounded in memory, whatever the file holds. A content ends where it cannot be read on; why is told once,
as a CorpusError, after what came before it has been read.
"""

from __future__ import annotations

import codecs
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

from assistant.clean import MAX_CHARS
from assistant.errors import CorpusError
from assistant.papers import Raw, Rejected

HEAD_BYTES = 65_536
"""What a format is told by; also the size of a block."""
LINE_BYTES = 8 * MAX_CHARS
"""A longer line is refused without being kept in memory."""
COPY_BYTES = 20 * 2**30
"""Greatest temporary copy of what is no file; the largest dumps of papers have some gigabytes."""
SPARE_BYTES = 256 * 2**20
"""Room on the disk that a temporary copy leaves to others."""

_log = logging.getLogger(__name__)

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHER_ENCODINGS = ["cp1252", "gb18030", "big5", "cp932", "euc_jp", "cp949", "koi8_r", "cp1251"]
"""What databases of papers still export besides Unicode; of the others none is met often enough to be guessed."""
_TOLD_BY_BYTES = 16_384
"""As much of the beginning goes to the detector, which takes .1 s for it."""


_WESTERN = [bytes([n]).decode("cp1252", "ignore") or chr(n) for n in range(256)]
"""The page has five gaps; what stands there is kept as it is, so that a later repair can tell what it was."""


def _as_western(error: UnicodeError) -> tuple[str, int]:
    """Read what is no UTF-8 in a file of UTF-8 as the Windows code page 1252, of which Latin-1 is the greater part."""
    assert isinstance(error, UnicodeDecodeError)
    if error.encoding not in {"utf-8", "charmap"}:
        return "\ufffd", error.end
    return "".join(_WESTERN[byte] for byte in error.object[error.start : error.end]), error.end


_AS_WESTERN = "assistant.content"
codecs.register_error(_AS_WESTERN, _as_western)


class Flow(io.RawIOBase):
    """Pieces of bytes as a stream that ends where they end or cannot be had any more; why is kept in `failure`.

    No error passes through whatever parser reads the stream: some of them lose what they hold when one does.
    """

    def __init__(self, name: str, pieces: Iterator[bytes]) -> None:
        """Take pieces of any size, none of them empty; `name` is for the message."""
        self.failure: CorpusError | None = None
        self._name, self._pieces, self._rest = name, pieces, memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; less only at the end."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and (self._rest or self._next()):
            n = min(len(self._rest), len(view) - filled)
            view[filled : filled + n] = self._rest[:n]
            self._rest = self._rest[n:]
            filled += n
        return filled

    def _next(self) -> bool:
        try:
            self._rest = memoryview(next(self._pieces, b""))
        except CorpusError as error:
            self.failure = error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            self.failure = CorpusError(f"cannot read {self._name} to its end: {reason}; run the ingest again")
            self.failure.__cause__ = error
        return len(self._rest) > 0


class Content:
    """What is to be read, from its beginning to its end, once; already unpacked."""

    def __init__(self, name: str, source: BinaryIO | Iterator[bytes], path: Path | None = None) -> None:
        """Take a stream, or pieces, of bytes; `path` is the file that holds exactly these bytes, where there is one."""
        self.name = name
        pieces = iter(partial(source.read, HEAD_BYTES), b"") if hasattr(source, "read") else source
        self._flow = Flow(name, pieces)
        self.stream: BinaryIO = io.BufferedReader(self._flow, HEAD_BYTES)
        self._path = path
        self.head: bytes = self.stream.peek(HEAD_BYTES)[:HEAD_BYTES]

    def check(self) -> None:
        """Raise what kept the stream from being read to its end, if anything has."""
        if self._flow.failure:
            raise self._flow.failure

    @cached_property
    def encoding(self) -> str:
        """The encoding of its text: by its mark, else UTF-8, else told by the beginning."""
        for mark, encoding in _MARKS:
            if self.head.startswith(mark):
                return encoding
        return _without_mark(self.head)

    @cached_property
    def text_head(self) -> str:
        """The beginning, decoded; for telling formats apart."""
        decoder = codecs.getincrementaldecoder(self.encoding)(_AS_WESTERN)
        return decoder.decode(self.head, final=False).replace("\ufeff", "")

    def blocks(self) -> Iterator[str]:
        r"""Yield the text in pieces of about 64 KB, cut anywhere.

        Each line end is `\n`. What is no UTF-8 in a file of UTF-8 is read as code page 1252. Byte-order marks are
        dropped wherever they stand: files are joined with theirs.

        Raises:
            CorpusError: The stream cannot be read to its end; what came before has been yielded.
        """
        decoder = codecs.getincrementaldecoder(self.encoding)(_AS_WESTERN)
        ends = io.IncrementalNewlineDecoder(decoder, translate=True)
        while data := self.stream.read(HEAD_BYTES):
            if text := ends.decode(data).replace("\ufeff", ""):
                yield text
        if text := ends.decode(b"", final=True).replace("\ufeff", ""):
            yield text
        self.check()

    def lines(self) -> Iterator[tuple[int, str | None]]:
        r"""Yield (line number, text with its `\n`) for each line; None for a line longer than `LINE_BYTES`.

        Raises:
            CorpusError: The stream cannot be read to its end; the whole lines before have been yielded, the one it
                broke off in has not, for a cut abstract looks like a good one.
        """
        number, begun, size = 1, list[str](), 0
        for text in self.blocks():
            first = text.find("\n") + 1
            size += first or len(text)
            if size <= LINE_BYTES:
                begun.append(text[:first] if first else text)
            else:
                begun = []
            if not first:
                continue
            yield number, "".join(begun) if size <= LINE_BYTES else None
            number += 1
            last = text.rfind("\n") + 1
            for line in io.StringIO(text[first:last]):
                yield number, line
                number += 1
            begun, size = [text[last:]], len(text) - last
        if size:
            yield number, "".join(begun) if size <= LINE_BYTES else None

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Give a file that can be read at any place: the file itself, or a temporary copy of the stream.

        Raises:
            CorpusError: The stream cannot be read to its end, or there is no room for a copy.
        """
        if self._path is not None:
            yield self._path
            return
        with tempfile.NamedTemporaryFile(prefix="assistant-") as copy:
            self._copy(copy, Path(copy.name))
            yield Path(copy.name)

    def _copy(self, copy: Any, path: Path) -> None:
        room = min(COPY_BYTES, shutil.disk_usage(path).free - SPARE_BYTES)
        while data := self.stream.read(HEAD_BYTES):
            room -= len(data)
            if room < 0:
                raise CorpusError(
                    f"cannot read {self.name}: it needs a temporary copy, and {path.parent} has no room for it (at most"
                    f" {COPY_BYTES >> 30} GB are taken); unpack it and give the file"
                )
            copy.write(data)
        self.check()
        copy.flush()


def _without_mark(head: bytes) -> str:
    """Tell the encoding of text that does not begin with a mark."""
    zeros = head.count(0)
    if zeros > len(head) // 4 and min(head[::2].count(0), head[1::2].count(0)) * 20 < zeros:
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    high = len(head) - len(head.translate(None, bytes(range(128, 256))))
    invalid = head.decode("utf-8", "replace").count("\ufffd")
    if invalid <= max(1, high // 3):
        return "utf-8"
    if high * 10 < len(head):  # of western languages not one letter in ten has an accent
        return "cp1252"
    from charset_normalizer import from_bytes

    told = from_bytes(head[:_TOLD_BY_BYTES], cp_isolation=_OTHER_ENCODINGS, threshold=0.1).best()
    _log.info("told the encoding %s", told and told.encoding)
    return told.encoding if told else "cp1252"


@dataclass(frozen=True, slots=True)
class Form:
    """A format: how it is told by its content, and its reader."""

    fits: Callable[[Content], bool]
    read: Callable[..., Iterable[Raw | Rejected]]
    """Takes the content; the reader of a table also where its fields are, `{field: column}`."""
