"""Replies on disk: a body under the name of its request, good for a time; what is damaged or old is not there."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import time
import zlib
from pathlib import Path

from assistant.whole import write_whole

DAY_S, HOUR_S = 86_400.0, 3_600.0
"""How long the reply about a record, and a page of a query, stands for what the service would say now."""

_log = logging.getLogger(__name__)


class Kept:
    """A folder of replies, each in a file that is whole or not there."""

    def __init__(self, folder: Path | None, most_bytes: int) -> None:
        """Take the folder, which need not exist; None keeps nothing."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._is_swept = False

    def get(self, address: str, lasting_s: float) -> bytes | None:
        """Return what is kept under an address, if it is young enough and undamaged."""
        with contextlib.suppress(OSError, EOFError, zlib.error):
            if self._folder and 0 <= time.time() - self._place(address).stat().st_mtime < lasting_s:
                with gzip.open(self._place(address)) as stream:
                    return stream.read(self._most_bytes)
        return None

    def put(self, address: str, body: bytes) -> None:
        """Keep a reply; where that fails it is said once, and nothing more is kept."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_swept:
                self._is_swept = True
                self._sweep(self._folder)
            write_whole(self._place(address), [gzip.compress(body, 1, mtime=0)])
        except OSError as error:
            _log.warning("cannot keep replies in %s: %s", self._folder, error.strerror or error)
            self._folder = None

    def since_asked(self, service: str) -> float:
        """Return the seconds since a service was last asked, by any process that keeps its replies here."""
        with contextlib.suppress(OSError):
            if self._folder:
                return time.time() - (self._folder / f"{service}.asked").stat().st_mtime
        return float("inf")

    def mark_asked(self, service: str) -> None:
        """Note that a service is asked now."""
        with contextlib.suppress(OSError):
            if self._folder:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self._folder / f"{service}.asked").touch()

    def _place(self, address: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(address.encode()).hexdigest()}.gz"

    def _sweep(self, folder: Path) -> None:
        """Remove replies that no request takes any more."""
        for each in folder.glob("*.gz"):
            with contextlib.suppress(OSError):
                if not 0 <= time.time() - each.stat().st_mtime < DAY_S:
                    each.unlink()
