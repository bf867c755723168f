"""Encodes without end, as ingests do, while questions are asked: does OpenVINO stay quick, exact, small and alive?

The texts are those of the sample library, in batches that are the same each round and in batches drawn anew. Each row
is compared with the first one of its text. Where nothing is done for ten minutes, all stacks are printed and the
process ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assistant.chunk import split_sentences
from assistant.config import Config
from assistant.embed import Encoder, document_encoder, open_encoder
from assistant.errors import AssistantError
from assistant.minilm import Vectors
from assistant.sample import PAPERS

PAPERS_AT_ONCE = 64
STUCK_S = 600.0
PAUSE_S = 0.1
"""Between two questions."""
REPORT_S = 60.0


def soak(minutes: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Encode for so many minutes; return what was seen, of which `failed` lists what may not be.

    Args:
        minutes: At least one round is done.
        say: Called with a line each minute.
    """
    asking = open_encoder(Config(encoder="built-in", encoder_backend="openvino"))
    encoder = document_encoder(Config(encoder_backend="openvino"), asking)
    begun, rng, seen = time.monotonic(), np.random.default_rng(1), _Seen()
    batches = _batches()
    over = threading.Event()
    asker = threading.Thread(target=_ask, args=(asking, over, seen), daemon=True)
    asker.start()
    told = begun
    while not seen.rounds or time.monotonic() - begun < 60 * minutes:
        for drawn in [False, True]:
            texts = [text for batch in batches for text in batch]
            texts = [texts[i] for i in rng.permutation(len(texts))]
            sizes = [len(batch) for batch in batches]
            starts = [sum(sizes[:i]) for i in range(len(sizes))]
            shuffled = [texts[start : start + size] for start, size in zip(starts, sizes, strict=True)]
            for texts in shuffled if drawn else batches:
                faulthandler.dump_traceback_later(STUCK_S, exit=True)
                seen.encode(encoder, texts, drawn=drawn)
                if time.monotonic() - told > REPORT_S:
                    told = time.monotonic()
                    say(f"{(told - begun) / 60:.0f} min: {json.dumps(seen.as_dict())}")
        seen.end_round()
    faulthandler.cancel_dump_traceback_later()
    over.set()
    asker.join()
    return {"what": "soak", "minutes": round((time.monotonic() - begun) / 60, 1), **seen.as_dict()}


class _Seen:
    """What was seen so far."""

    def __init__(self) -> None:
        self._first: dict[str, Vectors] = {}
        self.rounds = self.texts = self.questions = 0
        self._cpu_s: list[float] = [time.process_time()]
        self._megabytes: list[int] = []
        self._same, self._cosine = 0.0, 1.0
        self.faults: list[str] = []

    def encode(self, encoder: Encoder, texts: list[str], *, drawn: bool) -> None:
        try:
            rows = encoder.encode_documents(texts)
        except AssistantError as error:
            self.faults.append(str(error))
            return
        first = np.stack([self._first.setdefault(text, row) for text, row in zip(texts, rows, strict=True)])
        if not drawn:
            self._same = max(self._same, float(np.abs(rows - first).max()))
        self._cosine = min(self._cosine, float((rows * first).sum(axis=1).min()))
        self.texts += len(texts)

    def end_round(self) -> None:
        self.rounds += 1
        self._cpu_s.append(time.process_time())
        self._megabytes.append(_resident_megabytes())

    def as_dict(self) -> dict[str, Any]:
        cpu = np.diff(self._cpu_s)
        failed = [f"a fault: {fault}" for fault in self.faults[:5]]
        if self._cosine < 0.9999:
            failed.append(f"a text was encoded otherwise than at first, with a cosine of {self._cosine:.6f}")
        if len(self._megabytes) > 3 and self._megabytes[-1] > 1.2 * self._megabytes[2]:
            failed.append(f"memory grew from {self._megabytes[2]} to {self._megabytes[-1]} MB")
        return {
            "rounds": self.rounds, "texts": self.texts, "questions": self.questions,
            "greatest deviation in the same batch": self._same, "least cosine in another batch": self._cosine,
            "megabytes after rounds": self._megabytes[:3] + self._megabytes[3:][-3:],
            "cpu seconds of rounds": [round(float(each), 1) for each in (*cpu[:2], *cpu[2:][-2:])],
            "faults": len(self.faults), "failed": failed,
        }  # fmt: skip


def _ask(encoder: Encoder, over: threading.Event, seen: _Seen) -> None:
    """Ask, as somebody does while papers are added."""
    first = encoder.encode_documents(["What is attention?"])  # a question would be remembered
    while not over.wait(PAUSE_S):
        if np.abs(encoder.encode_documents(["What is attention?"]) - first).max() > 1e-5:  # fp32 gives the same again
            seen.faults.append("a question was encoded otherwise than at first")
        seen.questions += 1


def _batches() -> list[list[str]]:
    """Return the whole abstracts and the sentences of the sample, some papers at a time."""
    papers = [json.loads(line) for line in Path(PAPERS).read_text(encoding="utf-8").splitlines()]
    found = []
    for start in range(0, len(papers), PAPERS_AT_ONCE):
        texts: dict[str, None] = {}
        for each in papers[start : start + PAPERS_AT_ONCE]:
            abstract = each["abstract"]
            texts[f"{each['title']}. {abstract}"] = None
            texts |= {abstract[a:b]: None for a, b in split_sentences(abstract)}
        found.append(list(texts))
    return found


def _resident_megabytes() -> int:
    """Return the memory that this process holds now; Linux tells."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000
