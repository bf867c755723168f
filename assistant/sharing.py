"""What several threads ask at once is done together, and what was asked just now is remembered.

The first is for an encoder that serves one at a time, and for the scan of a large library, which costs for several
questions hardly more than for one. The second is for every encoder: search and extractive answers need the same vector.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Rows = NDArray[np.float32]


LAST = 64
"""So many questions are remembered."""


def remembered(encode: Callable[[list[str]], Rows]) -> Callable[[Sequence[str]], Rows]:
    """Return what encodes texts and remembers single ones; the rows cannot be written to."""

    @lru_cache(LAST)
    def one(text: str) -> Rows:
        rows = encode([text])
        rows.flags.writeable = False
        return rows

    return lambda texts: one(texts[0]) if len(texts) == 1 else encode(list(texts))


class Shared(Generic[T]):
    """Gathers what is asked while one is being served, and does it in one go; a lone question never waits."""

    def __init__(self, encode: Callable[[list[T]], Rows]) -> None:
        """Take what gives a row for each of a list of things, in their order."""
        self._encode, self._lock = encode, threading.Lock()
        self._waiting: list[_Asked[T]] = []
        self._is_led = False

    def encode(self, things: Sequence[T]) -> Rows:
        """Return the rows of these; an error that is raised is theirs alone."""
        asked = _Asked(list(things))
        with self._lock:
            self._waiting.append(asked)
            asked.leads, self._is_led = not self._is_led, True
        if not asked.leads:
            asked.called.wait()
        if asked.leads:
            self._serve()
        return self._encode(asked.texts) if asked.rows is None else asked.rows

    def _serve(self) -> None:
        """Encode all that waits; then call those who asked, and the first who has come meanwhile to serve the next."""
        with self._lock:
            served, self._waiting = self._waiting, []
        try:
            rows = self._encode([text for each in served for text in each.texts])
            for each in served:
                each.rows, rows = rows[: len(each.texts)], rows[len(each.texts) :]
        except Exception:
            if len(served) == 1:
                raise
            # Whose fault it is shows when each encodes its own.
        finally:
            with self._lock:
                self._is_led = bool(self._waiting)
                for each in self._waiting[:1]:
                    each.leads = True
                    each.called.set()
            for each in served:
                each.called.set()


@dataclass(eq=False, slots=True)
class _Asked(Generic[T]):
    """What one thread asks."""

    texts: list[T]
    called: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    """It is this thread's turn to serve all that wait."""
    rows: Rows | None = None
    """The answer; None too when it has to encode alone, because together with others it failed."""
