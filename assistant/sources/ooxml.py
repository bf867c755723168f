"""A zip of XML parts, as Office programs write them -> their elements, streamed, with limits on what is hostile.

The limits: the sizes in the zip's directory, the length of a tag, the depth. No part may declare a document type, so
there are no entities to unfold or to fetch.
"""

from __future__ import annotations

import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from xml.parsers import expat

from assistant.sources.content import LINE_BYTES

MAX_BYTES = 4_000_000_000
"""What unfolds to more is refused; a full sheet of a million abstracts has 1.6 GB."""
BOMB_BYTES, MAX_RATIO = 64_000_000, 200
"""A part larger than the first that unfolds to more than `MAX_RATIO` times its size is refused; sheets of text
unfold 3 to 10 times, of numbers 20 times."""
TAG_BYTES = 1_000_000
"""A tag, comment or declaration that is longer is refused before expat has to keep it."""
MAX_DEPTH = 100
SMALL_BYTES = 16_000_000
"""Of the parts that are kept in memory: names, styles."""

UNREADABLE = (
    zipfile.BadZipFile, expat.ExpatError, zlib.error, struct.error, EOFError, KeyError, RuntimeError, ValueError,
)  # fmt: skip
"""What reading a damaged or hostile part raises; RuntimeError where it is locked by a password."""


class Refused(ValueError):
    """A part that is built to do harm, or that no spreadsheet program writes."""


def check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that unfolds to too much in all; its directory binds what is read of each part."""
    n_bytes = sum(info.file_size for info in archive.infolist())
    if n_bytes > MAX_BYTES:
        raise Refused(f"it unfolds to {n_bytes:,} bytes; the limit is {MAX_BYTES:,}")


class Part:
    """One part of the workbook, streamed through expat; each kind of part takes what it needs from its elements."""

    def __init__(self) -> None:
        self._depth = 0
        self.texts: list[str] | None = None
        """Where text goes while an element is open whose text is wanted."""
        self.n_chars = 0
        """Of the texts so far; whoever takes them sets it back."""

    def feed(self, archive: zipfile.ZipFile, name: str) -> Iterator[None]:
        """Read the part, and pause after each piece."""
        info = archive.getinfo(name)
        if info.file_size > max(BOMB_BYTES, MAX_RATIO * info.compress_size):
            raise Refused(f"{name} unfolds from {info.compress_size:,} bytes to {info.file_size:,}")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise Refused(f"{name} is packed in a way that no workbook is")
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._enter
        parser.EndElementHandler = self._leave
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = _refuse_doctype
        n_bytes = 0
        with archive.open(info) as stream:
            while piece := stream.read(65_536):
                parser.Parse(piece, False)
                n_bytes += len(piece)
                if n_bytes - parser.CurrentByteIndex > TAG_BYTES:
                    raise Refused(f"{name} has a tag of more than {TAG_BYTES:,} bytes")
                yield
            parser.Parse(b"", True)
        yield

    def _enter(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refused(f"its elements lie more than {MAX_DEPTH} deep in each other")
        self.start(tag.rpartition(":")[2], attributes)

    def _leave(self, tag: str) -> None:
        self._depth -= 1
        self.end(tag.rpartition(":")[2])

    def _text(self, text: str) -> None:
        if self.texts is not None and self.n_chars <= LINE_BYTES:
            self.texts.append(text)
            self.n_chars += len(text)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take the beginning of an element."""

    def end(self, tag: str) -> None:
        """Take the end of an element."""


def _refuse_doctype(name: str, *_: object) -> None:
    raise Refused(f"it declares a document type ({name[:40]!r}), which no workbook does")


class Elements(Part):
    """The elements of a small part, in order."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        if archive.getinfo(name).file_size > SMALL_BYTES:
            raise Refused(f"{name} has {archive.getinfo(name).file_size:,} bytes")
        for _ in self.feed(archive, name):
            pass

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Keep the element."""
        self.found.append((tag, attributes))


def relations(archive: zipfile.ZipFile, part: str) -> list[tuple[str, str, str]]:
    """Return (key, kind, part) of the parts that one refers to; those of the whole package for no name."""
    folder, name = posixpath.split(part)
    path = posixpath.join(folder, "_rels", f"{name}.rels")
    if path not in archive.namelist():
        return []
    return [
        (
            one.get("Id", ""),
            one.get("Type", "").rpartition("/")[2],
            posixpath.normpath(posixpath.join("/", folder, one.get("Target", ""))).lstrip("/"),
        )
        for tag, one in Elements(archive, path).found
        if tag == "Relationship"
    ]
