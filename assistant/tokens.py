"""Count tokens as an LLM would; say so when the exact vocabulary is missing and an estimate is used.

tiktoken downloads a missing vocabulary, with no time limit. So it is asked only when the vocabulary's file already
lies in its cache; otherwise the count is an estimate with a margin.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
"""tiktoken names a cached file by the sha1 of its address; nothing is fetched from here."""

_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""Digests of the vocabulary files as tiktoken states them; a damaged file would be downloaded anew, so it is not
used."""

MARGIN = 1.1
"""An estimate is taken times this, so that the budget holds even where the estimate is low."""

_PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|[^\sA-Za-z\d]")
_LONG = re.compile(r"[A-Za-z]{9,}")


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A number of tokens, and whether it is the exact one."""

    n: int
    exact: bool


def count_tokens(text: str, model: str | None = None) -> TokenCount:
    """Count the tokens of `text` for `model`.

    Without the vocabulary the estimate is the larger of bytes / 3.5 and word pieces (a word of up to 8 letters is one,
    longer ones one per 5 letters; each group of three digits and each sign is one), times `MARGIN`.
    """
    encoding = _encoding(_vocabulary_of(model))
    if encoding is not None:
        return TokenCount(len(encoding.encode(text, disallowed_special=())), exact=True)
    pieces = len(_PIECE.findall(text)) + sum(-(-len(word) // 5) - 1 for word in _LONG.findall(text))
    return TokenCount(int(MARGIN * max(pieces, len(text.encode("utf-8", "replace")) / 3.5)) + 1, exact=False)


def _vocabulary_of(model: str | None) -> str:
    old = model is not None and re.match(r"gpt-(4(?!o|\.|-o)|3\.5)|text-embedding", model)
    return "cl100k_base" if old else "o200k_base"


@cache
def _encoding(name: str) -> tiktoken.Encoding | None:
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = folder or str(Path(tempfile.gettempdir()) / "data-gym-cache")
    file = Path(folder) / hashlib.sha1(_ADDRESS.format(name).encode(), usedforsecurity=False).hexdigest()
    try:
        if hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256[name]:
            return None
    except OSError:
        return None
    import tiktoken

    return tiktoken.get_encoding(name)
