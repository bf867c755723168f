"""Query + passages -> an order by a cross-encoder, which reads both together: slower and finer than any vector.

None ships: a model is an optional setting. In: name or folder of a sentence-transformers cross-encoder with one output.
Out: one score a passage, higher is better. Refused: a model that is not there, or that gives several numbers a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from assistant.errors import ConfigError
from assistant.export import foreign_code

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_BATCH = 16
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""What is fetched of a hub model: weights without pickle, and what reads them."""


class Reranker(Protocol):
    """Scores passages for a query; may be called from several threads."""

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Return (passages,) scores, higher is better."""


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers."""

    def __init__(self, model: CrossEncoder, name: str) -> None:
        self._model, self._name = model, name

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """See `Reranker`.

        Raises:
            ConfigError: The model gives several numbers a pair, or none that is finite.
        """
        with foreign_code(f"rerank with {self._name!r}", "name another reranker or unset ASSISTANT_RERANKER"):
            pairs = [(query, passage) for passage in passages]
            scores = np.asarray(self._model.predict(pairs, batch_size=_BATCH, show_progress_bar=False), np.float32)
        if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
            raise ConfigError(
                f"the reranker {self._name!r} gives numbers of shape {scores.shape} for {len(pairs)} passages;"
                " name a cross-encoder with one output"
            )
        return scores


def open_reranker(name: str) -> CrossEncoderReranker:
    """Open a cross-encoder by folder, or by its name on the hub; only the latter contacts a network.

    Raises:
        ConfigError: The model is missing or cannot be loaded.
    """
    folder = Path(name).expanduser()
    with foreign_code(f"load the reranker {name!r}", "give the folder of a cross-encoder, or check name and network"):
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(name, allow_patterns=_WANTED))
        from sentence_transformers import CrossEncoder

        return CrossEncoderReranker(CrossEncoder(str(folder), local_files_only=True), name)
