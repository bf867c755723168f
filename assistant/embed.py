"""Texts -> vectors: the `Encoder` protocol, an ONNX version for the built-in model and a torch version for any other.

In: cleaned texts (no lone surrogates). Out: float32 rows of length 1, in the order of the texts. Refused: a model that
is not there, weights that are not what they claim to be (`export` checks them), vectors that are not finite. Nothing
here contacts a network unless the user named a model of the Hugging Face hub that is not in the hub's own cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike

from assistant.config import BUILT_IN_ENCODER, Config, nearest
from assistant.errors import ConfigError
from assistant.export import (
    BUILT_IN_IDENTITY,
    built_in_folder,
    built_in_graph,
    built_in_model,
    foreign_code,
    load_model,
)
from assistant.minilm import BF16, OnnxEncoder, OpenVinoEncoder, Progress, Vectors, unit
from assistant.seen import sha256_of
from assistant.sharing import Shared, remembered

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUILT_IN_NAMES = (BUILT_IN_ENCODER, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
"""The last two are its names on the hub: the same weights, so there is nothing to ask there."""
TORCH_WINDOW = 256
"""Texts given to sentence-transformers at once, between two reports of progress."""

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_HASHED = {".json", ".txt", ".model", ".safetensors", ".bin"}
_logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """Turns texts into vectors whose dot product is their similarity; may be called from several threads."""

    identity: str
    """Names the weights, whatever the backend, and the precision of documents: only vectors of one identity are put
    together; see `same_space` for which may be compared."""
    dim: int
    max_tokens: int
    """Longest text that is read to its end, in tokens, special tokens included."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return one row per query, (n, dim) float32, rows of length 1; (0, dim) for no query."""

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return rows as `encode_queries` does; `progress` is called with the number of texts just done."""

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return for each text the (start, end) of its tokens in code points: none special, none cut off."""


def open_encoder(config: Config) -> Encoder:
    """Open the encoder that `config` names: the one that questions are encoded by, and nothing heavier.

    The built-in encoder is exported to ONNX at its first use (about 15 s) and kept in the user's cache folder.

    Raises:
        ConfigError: The model is missing, unreadable or not what it claims to be, or the backend does not fit it.
    """
    name, backend = config.encoder, config.encoder_backend
    if name in BUILT_IN_NAMES and (name == BUILT_IN_ENCODER or not Path(name).exists()):
        if backend == "torch":
            return SentenceTransformerEncoder(built_in_model(), BUILT_IN_IDENTITY)
        with built_in_graph() as graph:
            return OnnxEncoder(graph, built_in_folder() / "tokenizer.json")
    if backend in {"onnx", "openvino"}:
        raise ConfigError(f"encoder_backend {backend!r} serves the built-in encoder alone, not {name!r}; set 'auto'")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return SentenceTransformerEncoder(load_model(folder), f"{folder.resolve().name}@{_fingerprint(folder)}")
    if folder.exists() or not _HUB_NAME.fullmatch(name) or nearest(name, [BUILT_IN_ENCODER]):
        raise ConfigError(f"encoder is {name!r}, which is no folder; give a model's folder or {BUILT_IN_ENCODER!r}")
    return _open_from_hub(name if "/" in name else f"sentence-transformers/{name}")


def document_encoder(config: Config, encoder: Encoder, made_by: str | None = None) -> Encoder:
    """Return what encodes documents for a library: `encoder`, or where that can be the same model in bf16.

    By itself (`auto`) a library keeps to the precision it was begun in, for vectors of two are never put together: a
    new one is in bf16 where that can be, and one that cannot be kept in bf16 is to be encoded anew, in fp32.

    Args:
        config: Names the backend.
        encoder: What `open_encoder` returned for it.
        made_by: Identity of the encoder that made the vectors that are there; None: there are none.

    Raises:
        ConfigError: `encoder_backend` is `openvino`, and that cannot be.
    """
    is_asked_for, in_bf16 = config.encoder_backend == "openvino", is_bf16(made_by or "")
    in_fp32 = f"{made_by}/".startswith(f"{encoder.identity}/") and not in_bf16
    may_choose = config.encoder_backend == "auto" and not in_fp32 and importlib.util.find_spec("openvino")
    if not isinstance(encoder, OnnxEncoder) or not (is_asked_for or may_choose):
        return encoder
    quick = OpenVinoEncoder(encoder, built_in_graph)
    if in_bf16 and not is_asked_for:
        return quick  # Compiled only when there is something to encode.
    try:
        quick.compile()
    except ConfigError as error:
        if is_asked_for:
            raise
        _logger.warning("documents are encoded in fp32: %s", error)
        return encoder
    return quick


def same_space(made_by: str, other: str) -> bool:
    """Tell whether vectors of these two identities may be compared: they differ in precision at most.

    Identities may be followed by how texts were cut (`ingest.identity`). The bf16 vectors of the built-in encoder have
    a cosine of .99997 with those in fp32, at the least.
    """
    return _plain(made_by) == _plain(other)


def is_bf16(made_by: str) -> bool:
    """Tell whether an identity is that of vectors in bf16."""
    return f"{BF16}/" in f"{made_by}/"


def _plain(made_by: str) -> str:
    return f"{made_by}/".replace(f"{BF16}/", "/")


def _open_from_hub(repo: str) -> SentenceTransformerEncoder:
    """Open a hub model, from the hub's cache without asking the hub if it is there."""
    from huggingface_hub import snapshot_download

    wanted = ["config.json", "modules.json"]
    with contextlib.suppress(OSError, ConfigError):  # not cached, or in part
        folder = Path(snapshot_download(repo, allow_patterns=wanted, local_files_only=True))
        return SentenceTransformerEncoder(load_model(folder), f"{repo}@{folder.name[:16]}")
    with foreign_code(f"download the encoder {repo!r}", "give the folder of a model, or check name and network"):
        # Fails at once where the hub is out of reach; loading the model would try for over a minute.
        commit = Path(snapshot_download(repo, allow_patterns=wanted)).name
    return SentenceTransformerEncoder(load_model(repo, revision=commit), f"{repo}@{commit[:16]}")


def _fingerprint(folder: Path) -> str:
    """Return 16 hex digits of sha256 over all settings, vocabularies and weights in `folder`, wherever it lies."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _HASHED and path.is_file())
    lines = "".join(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


class SentenceTransformerEncoder:
    """Any model that sentence-transformers can load, with the model's own prompts for queries and documents."""

    def __init__(self, model: SentenceTransformer, identity: str) -> None:
        """Take a loaded model; one whose tokenizer gives no offsets is a ConfigError."""
        if not getattr(model.tokenizer, "is_fast", False):
            raise ConfigError(f"encoder {identity!r} has a tokenizer without offsets; choose one with a tokenizer.json")
        self._model = model
        self._lock = threading.Lock()  # the tokenizer changes its state in each call
        shared = Shared[str](lambda texts: self._encode(model.encode_query, texts, None))
        self._questions = remembered(shared.encode)
        self.identity = identity
        self.dim = int(model.encode(["width"], show_progress_bar=False).shape[1])
        self.max_tokens = int(model.max_seq_length or 512)  # 512 is BERT's, for a model that states none

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder`."""
        return self._questions(texts)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """See `Encoder`."""
        return self._encode(self._model.encode_document, texts, progress)

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `Encoder`."""
        wanted = {"add_special_tokens": False, "truncation": False, "return_offsets_mapping": True, "verbose": False}
        with self._lock:
            found = self._model.tokenizer(list(texts), **wanted)["offset_mapping"] if texts else []
        return [[(start, end) for start, end in spans if end > start] for spans in found]

    def _encode(self, encode: Callable[..., ArrayLike], texts: Sequence[str], progress: Progress | None) -> Vectors:
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), TORCH_WINDOW):
            window = texts[start : start + TORCH_WINDOW]
            with self._lock:
                vectors[start : start + TORCH_WINDOW] = encode(list(window), show_progress_bar=False)
            if progress:
                progress(len(window))
        return unit(vectors, self.identity)
