from __future__ import annotations

import numpy as np
import pytest

from assistant import products
from assistant.products import best, scan


@pytest.mark.parametrize("split_bytes", [1, 1 << 40])
@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("n_queries", [1, 3])
def test_a_scan_is_the_plain_product_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, split_bytes: int, n: int, n_queries: int
) -> None:
    monkeypatch.setattr(products, "SPLIT_BYTES", split_bytes)
    rng = np.random.default_rng(n)
    rows, queries = (rng.standard_normal((m, 5), dtype=np.float32) for m in (n, n_queries))
    assert scan(rows, queries).shape == (n_queries, n)
    assert np.allclose(scan(rows, queries), queries @ rows.T, atol=1e-5)


@pytest.mark.parametrize("split_bytes", [1, 1 << 40])
@pytest.mark.parametrize("block", [1, 2, 100])
@pytest.mark.parametrize("lengths", [[], [3], [1, 4, 2, 1], [9, 1]])
@pytest.mark.parametrize("n_queries", [1, 3])
def test_the_best_of_each_run_is_that_of_the_plain_products_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, split_bytes: int, block: int, lengths: list[int], n_queries: int
) -> None:
    monkeypatch.setattr(products, "SPLIT_BYTES", split_bytes)
    monkeypatch.setattr(products, "BLOCK", block)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rng = np.random.default_rng(len(lengths))
    rows, queries = (rng.standard_normal((m, 5), dtype=np.float32) for m in (int(starts[-1]), n_queries))
    found, plain = best(rows, starts, queries), queries @ rows.T
    assert found.shape == (n_queries, len(lengths))
    for i in range(len(lengths)):
        assert np.allclose(found[:, i], plain[:, starts[i] : starts[i + 1]].max(axis=1), atol=1e-5)
