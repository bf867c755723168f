"""What the tests share: a world without network or settings from outside, real parts, and a small quick encoder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, sample_page, tab  # noqa: F401 - fixtures for every module
from hypothesis import settings

from assistant.config import Config
from assistant.embed import Encoder, open_encoder

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# How long an example takes is the machine's affair, and what fails is found again from what is printed.
settings.register_profile("ours", deadline=None, print_blob=True)
settings.load_profile("ours")

TEST_DATA = Path(os.environ.get("ASSISTANT_TEST_DATA", Path(__file__).parent.parent.parent / "shared"))
"""Further corpora and judged collections; tests that need them skip where there are none."""


def _refuse_outside(event: str, arguments: tuple[object, ...]) -> None:
    """Fail loudly when anything in this process tries to reach another machine; .invalid names resolve nowhere."""
    host = None
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    elif event == "socket.getaddrinfo":
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
    if host and host not in {"127.0.0.1", "localhost", "::1", "0.0.0.0", "None"} and not host.endswith(".invalid"):
        raise AssertionError(f"a test tried to reach {host}")


sys.addaudithook(_refuse_outside)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has its own data folder and working folder, and no settings from outside."""
    for name in list(os.environ):
        if name.startswith(("ASSISTANT_", "OPENAI_")) and name != "ASSISTANT_TEST_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


class HashingEncoder:
    """A quick encoder for tests of everything but quality: a text is the sum of its words' random directions."""

    max_tokens = 64
    dim = 32

    def __init__(self, name: str = "hashing") -> None:
        self.identity = name
        self.encoded = 0

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        rows = [
            sum((self._word(word) for word in re.findall(r"\w+", text.lower())), np.full(self.dim, 1e-3))
            for text in texts
        ]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32).reshape(len(texts), self.dim)

    def encode_documents(self, texts: Sequence[str], progress: object = None) -> np.ndarray:
        self.encoded += len(texts)
        return self.encode_queries(texts)

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[match.span() for match in re.finditer(r"\w+|[^\w\s]", text)] for text in texts]

    def _word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dim)


@pytest.fixture
def hashing() -> HashingEncoder:
    return HashingEncoder()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The real built-in encoder."""
    return open_encoder(Config(encoder="built-in"))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of five saved search pages."""
    folder = TEST_DATA / "corpus"
    if not folder.is_dir():
        pytest.skip(f"no search pages in {folder}; name their parent folder with ASSISTANT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def page_library(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the five pages, encoded by the real encoder, once for all tests."""
    from assistant.answer import Assistant

    folder = tmp_path_factory.mktemp("pages") / "library"
    with Assistant(Config(library=folder)) as assistant:
        assistant.ingest(sorted(corpus.glob("*.txt")))
    return folder


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library of papers that give orders, encoded by the real encoder, once for all tests."""
    from injections import CASES, write_papers

    from assistant.answer import Assistant

    folder = tmp_path_factory.mktemp("hostile")
    with Assistant(Config(library=folder / "library")) as assistant:
        ledger = assistant.ingest([write_papers(folder)])
    assert ledger.as_dict()["totals"]["new"] == len(CASES)
    return folder


def write_jsonl(path: Path, records: Sequence[object]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def make_records(n: int, *, offset: int = 0) -> list[dict[str, object]]:
    """Make different papers with three sentences each."""
    topics = ["graphs", "speech", "proteins", "glaciers", "prices", "poems", "robots"]
    return [
        {
            "title": f"Study {i} of {topics[i % 7]} under condition {i * i}",
            "abstract": (
                f"We look at {topics[i % 7]} in setting number {i}. Our method m{i} uses device d{i * 3} and reaches "
                f"{50 + i % 50}.{i % 10} percent on set s{i}. Compared with earlier work w{i}, it needs {i + 2} times"
                " less."
            ),
            "year": 2000 + i % 25,
        }
        for i in range(offset, offset + n)
    ]
