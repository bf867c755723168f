from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant import arrays
from assistant.arrays import Growing, Rows, empty, load

BLOCKS = st.lists(st.integers(0, 5), max_size=6)


@given(BLOCKS)
def test_an_array_in_a_file_is_the_one_in_memory(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    file = tmp_path_factory.mktemp("arrays") / "a.npy"
    kept, written = Growing(None, np.float16, 3), Growing(file, np.float16, 3)
    for i, size in enumerate(sizes):
        for each in (kept, written):
            each.add(np.full((size, 3), i / 4, dtype=np.float64))
    assert len(kept) == len(written) == sum(sizes)
    one, other = kept.close(), written.close()
    assert one.dtype == other.dtype == np.float16 and one.shape == (sum(sizes), 3)
    assert np.array_equal(one, other) and np.array_equal(np.load(file), one)


def test_rows_of_single_values_make_a_plain_array(tmp_path: Path) -> None:
    rows = Growing(tmp_path / "a.npy", np.int64)
    rows.add(np.array([3, 1]))
    rows.add(np.array([2]))
    assert rows.close().tolist() == [3, 1, 2]


def test_a_large_file_is_mapped_and_a_small_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.arange(10))
    assert not isinstance(load(tmp_path / "a.npy"), np.memmap)
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 1)
    mapped = load(tmp_path / "a.npy")
    assert isinstance(mapped, np.memmap) and mapped.tolist() == list(range(10))


@pytest.mark.parametrize("n", [0, 4])
def test_an_array_to_be_filled_is_kept_in_its_file(tmp_path: Path, n: int) -> None:
    made = empty(tmp_path / "a.npy", n, np.int32)
    made[:] = 7
    if isinstance(made, np.memmap):
        made.flush()
    assert np.load(tmp_path / "a.npy").tolist() == [7] * n


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_runs_of_rows_are_the_same_from_memory_and_from_a_file(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]]
) -> None:
    rows = np.arange(42, dtype=np.float16).reshape(14, 3)
    file = tmp_path_factory.mktemp("rows") / "a.npy"
    np.save(file, rows)
    begins, lengths = (np.array([run[i] for run in runs], dtype=np.int64) for i in (0, 1))
    wanted = np.concatenate([rows[:0], *(rows[begin : begin + n] for begin, n in runs)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "MAPPED_BYTES", 1)
        mapped = Rows.opened(file)
    assert mapped.file is not None and Rows.opened(file).file is None
    for each in (Rows(rows), Rows.opened(file), mapped):
        assert np.array_equal(each.runs(begins, lengths), wanted)
