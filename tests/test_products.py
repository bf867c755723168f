from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from assistant import products
from assistant.products import one_thread, scan


def threads() -> set[int]:
    """Return how many threads NumPy's own library has; scipy brings another one."""
    return {each["num_threads"] for each in threadpool_info() if "numpy" in each.get("filepath", "")}


def test_products_have_one_thread_until_the_last_who_asked_has_left() -> None:
    before = threads()
    if not before:
        pytest.skip("NumPy has another library for products here")
    inside, first_may_go, first_gone = threading.Barrier(2), threading.Event(), threading.Event()

    def first() -> None:
        with one_thread():
            inside.wait(30)
            assert first_may_go.wait(30)
        first_gone.set()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first)
        with one_thread():
            inside.wait(30)
            assert threads() == {1}
            first_may_go.set()
            assert first_gone.wait(30)
            assert threads() == {1}
        running.result(30)
    assert threads() == before


def test_the_threads_come_back_after_a_fault() -> None:
    before = threads()
    with pytest.raises(ValueError, match="no"), one_thread():
        raise ValueError("no")
    assert threads() == before


@pytest.mark.parametrize("split_bytes", [1, 1 << 40])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_scan_is_the_plain_product_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, split_bytes: int, n: int
) -> None:
    monkeypatch.setattr(products, "SPLIT_BYTES", split_bytes)
    rows = np.random.default_rng(n).standard_normal((n, 5), dtype=np.float32)
    query = np.arange(5, dtype=np.float32)
    assert np.allclose(scan(rows, query), rows @ query, atol=1e-5)
    assert scan(rows, query).shape == (n,)
