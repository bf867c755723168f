"""Products of vectors, by as many threads as they are worth.

The library under NumPy sets all cores to work on any product, and for one of a millisecond they wait for each other: on
a machine that has something else to do a search takes 24 ms so, and 7 with one thread. Here a small product has one
thread, and a large one is cut into a piece for each core.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLIT_BYTES = 16 << 20
"""From this size on a matrix is read by several threads: it takes 1 ms and more."""

Floats = NDArray[np.float32]

_lock = threading.Lock()
_users = 0
_before: list[int] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's products have one thread each, until all who asked for that have left."""
    global _before, _users  # noqa: PLW0603 - the setting is the process's own
    with _lock:
        _users += 1
        if _users == 1:
            _before = [each.num_threads for each in _libraries()]
            for each in _libraries():
                each.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for each, n in zip(_libraries(), _before, strict=True):
                    each.set_num_threads(n)


@cache
def _libraries() -> list[Any]:
    """Return what sets the threads of the linear algebra under NumPy; looked for once, which takes some milliseconds.

    That of torch is another one.
    """
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(internal_api="openblas").lib_controllers)


def scan(rows: Floats, query: Floats) -> Floats:
    """Return (n,) the products of (n, dim) rows with one vector; all cores read a large matrix at once."""
    if rows.nbytes < SPLIT_BYTES:
        return rows @ query
    out = np.empty(len(rows), dtype=np.float32)
    cuts = np.linspace(0, len(rows), _cores() + 1, dtype=int).tolist()

    def piece(begin: int, end: int) -> None:
        np.dot(rows[begin:end], query, out=out[begin:end])

    list(_pool().map(piece, cuts[:-1], cuts[1:]))
    return out


@cache
def _cores() -> int:
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), "scan")
