"""Files that are handed in, on the page or over HTTP -> files of the library: the sources of its papers stay."""

from __future__ import annotations

import hashlib
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from assistant.clean import drop_unseen
from assistant.errors import StoreError
from assistant.ingest import SourceLedger
from assistant.papers import Rejected

FOLDER = "added"
"""Within the library: what was handed in, each under the digest of its content."""
NAME_BYTES = 120
"""Of a file's name, its end, what is kept."""
PIECE_BYTES = 1 << 20


def safe_name(name: str) -> str:
    """Return the last part of the name that a file was handed in under, as one that any folder can hold."""
    last_part = re.split(r"[\\/]", drop_unseen(name))[-1].strip()
    fitting = last_part.encode("utf-8", "replace")[-NAME_BYTES:].decode("utf-8", "ignore")
    return fitting if fitting.strip(".") else "file"


def keep(folder: Path, name: str, content: BinaryIO) -> Path:
    """Write a file into the library, under its name and the digest of its content.

    Raises:
        StoreError: It cannot be kept.
    """
    digest = hashlib.sha256()
    try:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="draft-", dir=folder / FOLDER) as draft:
            with (Path(draft) / name).open("wb") as file:
                while piece := content.read(PIECE_BYTES):
                    digest.update(piece)
                    file.write(piece)
            home = folder / FOLDER / digest.hexdigest()[:12]
            home.mkdir(exist_ok=True)
            return (Path(draft) / name).replace(home / name)
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"cannot keep {name} in the library in {folder}: {why}; free space or check permissions, then add it again"
        ) from error


def rename(source: SourceLedger) -> None:
    """Call a source as it was handed in; one that gave nothing is not kept."""
    kept = Path(source.source)
    source.source = kept.name
    source.rejected = [Rejected(each.where, each.reason.replace(str(kept), kept.name)) for each in source.rejected]
    if not source.good:
        kept.unlink(missing_ok=True)
        with suppress(OSError):  # another of the same content lies there
            kept.parent.rmdir()
