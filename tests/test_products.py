from __future__ import annotations

import numpy as np
import pytest

from assistant import products
from assistant.products import scan


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
