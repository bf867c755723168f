"""Remembers how large files looked when their checksums were last compared, so that no start reads them through again.

The note is a file of its own in their folder; a file whose inode, size, or times are others than noted is compared
again, and where no note can be kept every time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

NOTE = "seen.json"
NOTE_BYTES = 1 << 20
"""No note is nearly as large."""
TRUSTED_BYTES = 1 << 26
"""Smaller files are always compared."""


def differing(folder: Path, files: Mapping[str, str]) -> str | None:
    """Return the first of these files whose sha256 is not the one given, or None.

    Raises:
        OSError: One cannot be read.
    """
    noted = _noted(folder)
    for name, wanted in files.items():
        look = _look(folder / name)
        is_known = look is not None and noted.get(name) == look
        if not is_known and sha256_of(folder / name) != wanted:
            return name
    note(folder, files)
    return None


def note(folder: Path, names: Iterable[str]) -> None:
    """Note how these files look, which are what they should be."""
    noted = _noted(folder)
    looks = {**noted, **{name: look for name in names if (look := _look(folder / name))}}
    if looks != noted:
        with suppress(OSError):  # It only saves time.
            (folder / NOTE).write_text(json.dumps(looks), encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hex digits; 90 MB take 60 ms."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _look(file: Path) -> list[int] | None:
    """Return what changes with every write to a large file; None for another one."""
    found = file.stat()
    is_large = found.st_size >= TRUSTED_BYTES
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns] if is_large else None


def _noted(folder: Path) -> Mapping[str, Any]:
    try:
        with (folder / NOTE).open(encoding="utf-8") as file:
            noted = json.loads(file.read(NOTE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) else {}
