from __future__ import annotations

import numpy as np
import pytest

from assistant import products
from assistant.products import scan


@pytest.mark.parametrize("split_bytes", [1, 1 << 40])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_scan_is_the_plain_product_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, split_bytes: int, n: int
) -> None:
    monkeypatch.setattr(products, "SPLIT_BYTES", split_bytes)
    rows = np.random.default_rng(n).standard_normal((n, 5), dtype=np.float32)
    query = np.arange(5, dtype=np.float32)
    assert scan(rows, query).shape == (n,)
    assert np.allclose(scan(rows, query), rows @ query, atol=1e-5)
