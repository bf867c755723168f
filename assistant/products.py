"""Products of many vectors with one, by all cores where that is worth it.

`python -m assistant` lets the library under NumPy use one thread, for with several a product of a millisecond waits for
each of them: on a machine that has something else to do a search takes three times as long so. What is large is cut
into a piece for each core here.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SPLIT_BYTES = 16 << 20
"""From this size on a matrix is read by several threads: it takes 1 ms and more."""

Floats = NDArray[np.float32]


def scan(rows: Floats, queries: Floats) -> Floats:
    """Return (queries, n) the products of (n, dim) rows with (queries, dim) vectors; all cores read a large matrix.

    For one query row by row: with 384 columns that is twice as quick as OpenBLAS' product of matrix and vector.
    """
    out = np.empty((len(queries), len(rows)), dtype=np.float32)
    if rows.nbytes < SPLIT_BYTES:
        _scan(rows, queries, out)
        return out
    cuts = np.linspace(0, len(rows), cores() + 1, dtype=int).tolist()
    pieces = [slice(*cut) for cut in pairwise(cuts)]
    list(_pool().map(lambda piece: _scan(rows[piece], queries, out[:, piece]), pieces))
    return out


def _scan(rows: Floats, queries: Floats, out: Floats) -> None:
    if len(queries) == 1:
        np.vecdot(rows, queries[0], out=out[0])
    else:
        np.matmul(queries, rows.T, out=out)


@cache
def cores() -> int:
    """Return how many cores this process may use."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), "scan")
