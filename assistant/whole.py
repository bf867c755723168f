"""Bytes -> a file that is whole or not there: what stood in its place stays until the new one is on the disk."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write_whole(target: Path, pieces: Iterable[bytes]) -> None:
    """Write a file beside its place, synced, and put it there; an older one gives it its permissions.

    Args:
        target: Where it goes; its folder has to exist.
        pieces: Taken one by one; an error among them leaves nothing behind.

    Raises:
        OSError: It cannot be written.
    """
    draft = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        with draft.open("xb") as out:
            out.writelines(pieces)
            out.flush()
            os.fsync(out.fileno())
        if target.exists():
            draft.chmod(stat.S_IMODE(target.stat().st_mode))
        draft.replace(target)
    finally:
        with suppress(OSError):
            draft.unlink()
