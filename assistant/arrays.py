"""Arrays that grow row by row, in memory or in a file of NumPy's form, and are opened again without being read.

A file holds as many rows as were added; what is kept in memory of it meanwhile does not grow.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

MAPPED_BYTES = 1 << 27
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


@dataclass(frozen=True)
class Rows:
    """An array of which a few rows are read at a time, here and there.

    Of a large one they are read from its file: of a mapped file the system keeps 16 pages in memory for each that is
    looked at, and so in the end all of it.
    """

    array: Array
    """All rows, mapped where they are many."""
    file: int | None = None
    """Descriptor of the file that large ones are read from."""

    @classmethod
    def opened(cls, file: Path) -> Rows:
        """Open what a file holds."""
        array = load(file)
        if not isinstance(array, np.memmap) or not hasattr(os, "pread"):
            return cls(array)
        descriptor = os.open(file, os.O_RDONLY)
        rows = cls(array, descriptor)
        weakref.finalize(rows, os.close, descriptor)
        return rows

    def take(self, rows: NDArray[np.int64]) -> Array:
        """Return these rows."""
        return self.array[rows] if self.file is None else self.runs(rows, np.ones_like(rows))

    def runs(self, begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> Array:
        """Return runs of rows, one behind the other: so many from each of these rows on."""
        if self.file is None:
            ends = np.cumsum(lengths)
            return cast("Array", self.array[np.arange(lengths.sum()) + np.repeat(begins - (ends - lengths), lengths)])
        width = self.array.strides[0]
        start = self.array.offset  # type: ignore[attr-defined]  # a memmap
        read = [os.pread(self.file, n * width, start + begin * width)
                for begin, n in zip(begins.tolist(), lengths.tolist(), strict=True)]  # fmt: skip
        return np.frombuffer(b"".join(read), self.array.dtype).reshape(-1, *self.array.shape[1:])


def empty(file: Path | None, length: int, dtype: DTypeLike) -> Array:
    """Return an array to be filled in any order, in memory or in a file."""
    if file is None or not length:
        made = np.zeros(length, dtype)
        if file is not None:
            np.save(file, made)
        return made
    return cast("Array", npy.open_memmap(file, "w+", dtype, (length,)))


def load(file: Path, *, mapped_from: int | None = None) -> Array:
    """Open an array of a file: a small one is read, one of so many bytes (`MAPPED_BYTES`) mapped."""
    is_large = file.stat().st_size >= (MAPPED_BYTES if mapped_from is None else mapped_from)
    return cast("Array", np.load(file, mmap_mode="r" if is_large else None, allow_pickle=False))
