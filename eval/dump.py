"""A made-up dump in the form of arXiv's metadata snapshot, and what storing it costs: records per second, peak memory.

Nothing is encoded and nothing indexed: this is the way from a file to the store, which has to take any size. Each size
is stored by a process of its own, so that its peak memory is its own; memory that does not grow with the size is the
point. The records are drawn by a seeded generator: of a hundred, five say again what an earlier one said (a later
version), and one is damaged.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from assistant.ingest import ingest
from assistant.store import Store

DUPLICATES, DAMAGED = 0.05, 0.01
"""Shares of the records that are a later version of an earlier one, and that are cut in the middle."""
_WORDS = """
kettle tides lattice quark ribosome galaxy graph theorem polymer enzyme neutrino operator market protein plasma magnet
river orbit neuron crystal laser sensor tensor kernel membrane photon circuit glacier signal manifold
"""
_VERBS = "measure prove simulate bound estimate compare classify predict explain optimise sample derive"
_WAYS = """
with a method that needs no labels; under weak assumptions on the noise; on three public collections; by a sum over all
paths; at a tenth of the cost; in two and three dimensions; with error bars below 2 %; and give code; in polynomial
time; for every $\\epsilon > 0$; by hand and by machine; up to a constant factor
"""


def write_dump(file: Path, n: int, seed: int = 1) -> dict[str, int]:
    """Write a dump of `n` records; return how many of each kind it holds."""
    made = {"new": 0, "again": 0, "damaged": 0}
    draw = random.Random(seed)  # noqa: S311 - nothing is secret
    with file.open("w", encoding="utf-8") as out:
        for line, kind in _lines(n, draw):
            made[kind] += 1
            out.write(line + "\n")
    return made


def _lines(n: int, draw: random.Random) -> Iterator[tuple[str, str]]:
    earlier: list[int] = []
    for i in range(n):
        chance = draw.random()
        if chance < DUPLICATES and earlier:
            yield json.dumps(_record(draw.choice(earlier), version=2)), "again"
        elif chance > 1 - DAMAGED:
            text = json.dumps(_record(i, version=1))
            yield text[: len(text) // 2], "damaged"
        else:
            if len(earlier) < 10_000:
                earlier.append(i)
            yield json.dumps(_record(i, version=1)), "new"


def _record(i: int, *, version: int) -> dict[str, Any]:
    draw = random.Random(i)  # noqa: S311 - nothing is secret
    words, verbs, ways = _WORDS.split(), _VERBS.split(), " ".join(_WAYS.split()).split("; ")
    a, b, c = (draw.choice(words) for _ in range(3))
    sentences = [
        f"We {draw.choice(verbs)} the {draw.choice(words)} of each {draw.choice(words)}\n"
        f"{draw.choice(ways)} ({draw.randint(2, 999)} of {draw.randint(1000, 9999)})."
        for _ in range(draw.randint(5, 14))
    ]
    authors = [[f"Author{draw.randint(1, 90_000)}", chr(65 + draw.randrange(26)) + ".", ""] for _ in range(3)]
    later = [{"version": "v2", "created": "Tue, 3 Mar 2020 08:00:00 GMT"}] if version == 2 else []
    return {
        "id": f"{10 + i // 1_200_000:02}{1 + i // 100_000 % 12:02}.{i % 100_000:05}",
        "submitter": authors[0][0], "authors": ", ".join(f"{first} {last}" for last, first, _ in authors),
        "title": f"On the {a} of a {b}\n  {c} number {i}", "comments": "12 pages", "journal-ref": None, "doi": None,
        "report-no": None, "categories": "math.AP", "license": None, "abstract": "  " + "\n".join(sentences) + "\n",
        "versions": [{"version": "v1", "created": "Mon, 2 Apr 2018 19:18:42 GMT"}, *later],
        "update_date": "2020-03-04", "authors_parsed": authors,
    }  # fmt: skip


def measure(sizes: tuple[int, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """Store a dump of each size in a process of its own; return rates, counts and peak memory."""
    rows = []
    for n in sizes:
        with tempfile.TemporaryDirectory(prefix="assistant-dump-") as folder:
            file = Path(folder) / "arxiv.jsonl"
            say(f"making {n:,} records")
            made = write_dump(file, n)
            say(f"storing {file.stat().st_size / 1e6:,.0f} MB")
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            process = context.Process(target=_store, args=(file, Path(folder) / "library", queue))
            process.start()
            row = queue.get()
            process.join()
            rows.append({"records": n, "bytes": file.stat().st_size, "made": made, **row})
    return {"dump": rows}


def _store(file: Path, folder: Path, queue: Any) -> None:
    begun = time.perf_counter()
    with Store(folder, create=True) as store:
        ledger = ingest(store, None, [file])
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = sum(each.stat().st_size for each in folder.iterdir() if each.is_file())
    queue.put({"seconds": round(seconds, 2), "peak_bytes": peak, "library_bytes": size, "totals": ledger.totals})
