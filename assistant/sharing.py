"""Questions are encoded once: what several threads ask goes together, and what was asked just now is remembered.

The first is for an encoder that serves one at a time. The second is for all: search and extractive answers both need
the vector of a question.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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


class Shared:
    """Gathers what is asked while one is being served, and encodes it in one go; a lone question never waits."""

    def __init__(self, encode: Callable[[list[str]], Rows]) -> None:
        """Take what gives a row for each of a list of texts, in their order."""
        self._encode, self._lock = encode, threading.Lock()
        self._waiting: list[_Asked] = []
        self._is_led = False

    def encode(self, texts: Sequence[str]) -> Rows:
        """Return the rows of `texts`; an error that is raised is that of these texts alone."""
        asked = _Asked(list(texts))
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
class _Asked:
    """What one thread asks."""

    texts: list[str]
    called: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    """It is this thread's turn to serve all that wait."""
    rows: Rows | None = None
    """The answer; None too when it has to encode alone, because together with others it failed."""
