"""Arrays that grow row by row, in memory or in a file of NumPy's form, and are opened again without being read.

A file holds as many rows as were added; what is kept in memory of it meanwhile does not grow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

MAPPED_BYTES = 1 << 29
"""Files from this size on are mapped, not read: whoever cuts one then stops all that have it open."""
BUFFER_BYTES = 1 << 20

Array = NDArray[Any]


class Growing:
    """An array of rows of one width."""

    def __init__(self, file: Path | None, dtype: DTypeLike, width: int | None = None) -> None:
        """Begin an empty one.

        Args:
            file: Where it is kept; None: in memory.
            dtype: Of its values.
            width: Values in a row; None: a row is a single value.
        """
        self._file, self._dtype, self._width = file, np.dtype(dtype), width
        self._rows = 0
        self._blocks: list[Array] = []
        self._out: BinaryIO | None = None
        if file is not None:
            self._out = file.open("wb", buffering=BUFFER_BYTES)
            self._put_header()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._rows

    def add(self, rows: Array) -> None:
        """Append rows."""
        block = np.ascontiguousarray(rows, dtype=self._dtype)
        self._rows += len(block)
        if self._out is None:
            self._blocks.append(block)
        else:
            self._out.write(block.data)

    def close(self) -> Array:
        """End it, and return all of it."""
        if self._out is None:
            return np.concatenate([np.zeros(self._shape(0), self._dtype), *self._blocks])
        assert self._file
        self._out.seek(0)
        self._put_header()
        self._out.close()
        return load(self._file)

    def _shape(self, rows: int) -> tuple[int, ...]:
        return (rows,) if self._width is None else (rows, self._width)

    def _put_header(self) -> None:
        """Write the header; NumPy leaves room in it for any number of rows."""
        assert self._out
        about = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": self._shape(self._rows)}
        npy.write_array_header_1_0(self._out, about)


def empty(file: Path | None, length: int, dtype: DTypeLike) -> Array:
    """Return an array to be filled in any order, in memory or in a file."""
    if file is None or not length:
        made = np.zeros(length, dtype)
        if file is not None:
            np.save(file, made)
        return made
    return cast("Array", npy.open_memmap(file, "w+", dtype, (length,)))


def load(file: Path) -> Array:
    """Open an array of a file: a small one is read, a large one mapped."""
    is_large = file.stat().st_size >= MAPPED_BYTES
    return cast("Array", np.load(file, mmap_mode="r" if is_large else None, allow_pickle=False))
