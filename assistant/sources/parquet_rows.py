"""A program of its own that reads a Parquet file and prints its rows, for `parquet.py` alone.

Some damage makes pyarrow end its process, some makes it take all memory. Here that costs one group of rows: the limits
are the process's, and whoever started it goes on behind that group. It imports nothing of ours, so that it can be run
by its path.

It prints one JSON list on each line:

- `["columns", names]`, upon which it reads a JSON list of the names that are wanted;
- for each group `["group", number, rows]`;
- `["row", fields]`, or `["bad", reason]` for a row that cannot be taken;
- `["rest", reason]` when a group cannot be read on;
- `["end"]`, or only `["broken", reason]` where the file cannot be opened.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile, RowGroupMetaData

MEMORY_BYTES = 1_000_000_000
"""What the process may take; a file of usual pages takes a tenth."""
BATCH_SECONDS = 60
"""Of computing; more for `BATCH_ROWS` is a loop."""
BATCH_ROWS = 200
LINE_BYTES = 4_000_000
"""A longer row is refused."""
COLUMN_BYTES, MAX_RATIO = 128_000_000, 200
"""A column larger than the first that unfolds to more than `MAX_RATIO` times its size is refused; text shrinks 3 to 10
times, long repetitions 50 times."""
FEW_ROWS = 10_000
"""A group of more has at least one byte for each row."""

FAILURES = (pa.ArrowException, OSError, ValueError)


def main(path: str, first: int) -> None:
    """Print the groups of a file from the given one."""
    _limit()
    try:
        file = ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
        _print("columns", file.schema_arrow.names)
    except (*FAILURES, MemoryError) as error:
        _print("broken", str(error)[:200])
        return
    wanted = json.loads(sys.stdin.readline())
    for number in range(first, file.num_row_groups):
        group = file.metadata.row_group(number)
        _print("group", number, group.num_rows)
        try:
            _check(group, wanted)
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[number], columns=wanted, use_threads=False):
                _print_rows(batch)
                _rearm()
        except MemoryError:
            _print("rest", f"it takes more than {MEMORY_BYTES:,} bytes of memory")
        except FAILURES as error:
            _print("rest", " ".join(str(error).split())[:200] or type(error).__name__)
    _print("end")


def _limit() -> None:
    """Bound the memory and the time of the process, where the system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _rearm()


def _rearm() -> None:
    """Have the process ended unless it comes here again in time."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, BATCH_SECONDS)


def _check(group: RowGroupMetaData, wanted: list[str]) -> None:
    """Refuse a group that would unfold beyond reason."""
    n_bytes = 0
    for column in map(group.column, range(group.num_columns)):
        name = column.path_in_schema
        if any(name == one or name.startswith(f"{one}.") for one in wanted):
            packed, unfolded = column.total_compressed_size, column.total_uncompressed_size
            if unfolded > max(COLUMN_BYTES, MAX_RATIO * packed):
                raise ValueError(f"the column {name!r} unfolds from {packed:,} bytes to {unfolded:,}")
            n_bytes += packed
    if group.num_rows > max(FEW_ROWS, n_bytes):
        raise ValueError(f"{group.num_rows:,} rows unfold from {n_bytes:,} bytes")


def _print_rows(batch: pa.RecordBatch) -> None:
    names = batch.schema.names
    columns = [_values(column) for column in batch.columns]
    for values in zip(*columns, strict=True):
        bad = [name for name, value in zip(names, values, strict=True) if isinstance(value, ValueError)]
        row = "" if bad else json.dumps(["row", dict(zip(names, values, strict=True))], default=str)
        if bad:
            _print("bad", f"the column {bad[0]!r} is no text")
        elif len(row) > LINE_BYTES:
            _print("bad", f"the row has more than {LINE_BYTES:,} bytes")
        else:
            sys.stdout.write(row + "\n")


def _values(array: pa.Array) -> list[Any]:
    """Return a column's values as texts, numbers or lists of them; a ValueError in place of what cannot be read."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp(array.type.unit))  # without a time zone, which needs a database of them
    if pa.types.is_temporal(array.type) or pa.types.is_decimal(array.type):
        array = array.cast(pa.string())
    try:
        return [_plain(value) for value in array.to_pylist()]
    except ValueError:
        return [_one(value) for value in array]


def _one(value: pa.Scalar) -> Any:
    try:
        return _plain(value.as_py())
    except ValueError as error:
        return error


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _print(*words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
