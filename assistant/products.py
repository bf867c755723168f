"""Products of many vectors with one, by all cores where that is worth it.

`python -m assistant` lets the library under NumPy use one thread, for with several a product of a millisecond waits for
each of them: on a machine that has something else to do a search takes three times as long so. What is large is cut
into a piece for each core here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SPLIT_BYTES = 16 << 20
"""From this size on a matrix is read by several threads: it takes 1 ms and more."""

BLOCK = 4_096
"""Runs whose greatest products are looked for at once: so few that the products stay in the cache."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def scan(rows: Floats, queries: Floats) -> Floats:
    """Return (queries, n) the products of (n, dim) rows with (queries, dim) vectors; all cores read a large matrix.

    For one query row by row: with 384 columns that is twice as quick as OpenBLAS' product of matrix and vector.
    """
    out = np.empty((len(queries), len(rows)), dtype=np.float32)
    _in_pieces(_cuts(rows), lambda piece: _scan(rows[piece], queries, out[:, piece]))
    return out


def best(rows: Floats, starts: Ints, queries: Floats) -> Floats:
    """Return (queries, runs) the greatest product in each run of rows.

    Args:
        rows: (n, dim)
        starts: (runs + 1,) where each run begins, and the end of the last; every run has at least one row.
        queries: (queries, dim)
    """
    out = np.empty((len(queries), len(starts) - 1), dtype=np.float32)

    def find(runs: slice) -> None:
        for begin in range(runs.start, runs.stop, BLOCK):
            end = min(begin + BLOCK, runs.stop)
            block = slice(int(starts[begin]), int(starts[end]))
            products = np.empty((len(queries), block.stop - block.start), dtype=np.float32)
            _scan(rows[block], queries, products)
            np.maximum.reduceat(products, starts[begin:end] - block.start, axis=1, out=out[:, begin:end])

    _in_pieces(np.searchsorted(starts, _cuts(rows)), find)
    return out


def _cuts(rows: Floats) -> Ints:
    """Return where a matrix is cut: into a piece for each core if it is large, else not at all."""
    return np.linspace(0, len(rows), (cores() if rows.nbytes >= SPLIT_BYTES else 1) + 1, dtype=np.int64)


def _in_pieces(cuts: Ints, deed: Callable[[slice], None]) -> None:
    pieces = [slice(*cut) for cut in pairwise(cuts.tolist())]
    if len(pieces) == 1:
        deed(pieces[0])
    else:
        list(_pool().map(deed, pieces))


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
