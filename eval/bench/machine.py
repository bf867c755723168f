"""What this machine can do at best: `python -m eval.bench.machine` -> one JSON object on stdout.

The matrix peaks are those of square products in torch (oneDNN underneath), which is what any encoder is made of; the
bandwidth is that of reading an array that no cache holds, which is what an exact scan does. Each is the best of several
tries: a limit is what can be reached, and other programs only ever take from it.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = (1024, 2048)
"""Sides of the square matrices: 2 and 17 GFLOP a product."""
READ_BYTES = 512 << 20
"""An array that no cache holds."""
TRIES = 8


def limits() -> dict[str, float]:
    """Measure the matrix peaks in FLOP/s and the read bandwidth in bytes/s."""
    import torch

    found = {}
    for name, dtype in (("fp32_flops", torch.float32), ("bf16_flops", torch.bfloat16)):
        rates = []
        for side in SIDES:
            a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
            rates.append(2 * side**3 / _best(lambda a=a, b=b: a @ b))  # type: ignore[misc]
        found[name] = max(rates)
    numbers = torch.ones(READ_BYTES // 4)
    rows, row = numbers.view(-1, 1024), torch.ones(1024)
    found["read_bytes_s"] = READ_BYTES / min(_best(numbers.sum), _best(lambda: rows @ row))
    return found


def about() -> dict[str, Any]:
    """Return what the machine is, and how busy it is."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"cpus": os.cpu_count(), "model": model, "python": platform.python_version(), "load": load}


def _best(deed: Callable[[], object]) -> float:
    deed()
    taken = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        deed()
        taken.append(time.perf_counter() - begun)
    return min(taken)


if __name__ == "__main__":
    print(json.dumps(limits()))  # noqa: T201 - its result
