"""Ask questions of research-paper abstracts; each claim of an answer cites its source, word for word.

>>> from assistant import ask
>>> answer = ask("Which papers replace attention by Fourier mixing?")
>>> answer.citations[0].quote in answer.citations[0].paper.abstract
True

Names are imported at first use, so that `import assistant` stays instant.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# onnxruntime reports home as soon as it is imported, unless it is told not to before that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from assistant.answer import Assistant, ask
    from assistant.config import Config
    from assistant.errors import (
        AssistantError,
        ConfigError,
        CorpusError,
        EncoderMismatch,
        LibraryBusy,
        LibraryDamaged,
        LLMError,
        LLMRejected,
        LLMTimeout,
        LLMUnavailable,
        LLMUnparsable,
        PromptError,
        StoreError,
    )
    from assistant.types import Answer, Citation, Hit, Paper

__all__ = [
    "Answer",
    "Assistant",
    "AssistantError",
    "Citation",
    "Config",
    "ConfigError",
    "CorpusError",
    "EncoderMismatch",
    "Hit",
    "LLMError",
    "LLMRejected",
    "LLMTimeout",
    "LLMUnavailable",
    "LLMUnparsable",
    "LibraryBusy",
    "LibraryDamaged",
    "Paper",
    "PromptError",
    "StoreError",
    "ask",
]

_HOMES = {"Assistant": "answer", "ask": "answer", "Config": "config"} | dict.fromkeys(
    ("Answer", "Citation", "Hit", "Paper"), "types"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'assistant' has no attribute {name!r}")
    return getattr(import_module(f"assistant.{_HOMES.get(name, 'errors')}"), name)
