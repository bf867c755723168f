"""Texts -> vectors: the `Encoder` protocol, an ONNX version for the built-in model and a torch version for any other.

In: cleaned texts (no lone surrogates). Out: float32 rows of length 1, in the order of the texts. Refused: a model that
is not there, weights that are not what they claim to be (`export` checks them), vectors that are not finite. Nothing
here contacts a network unless the user named a model of the Hugging Face hub that is not in the hub's own cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assistant.config import BUILT_IN_ENCODER, Config, nearest
from assistant.errors import ConfigError
from assistant.export import (
    BUILT_IN_DIM,
    BUILT_IN_IDENTITY,
    BUILT_IN_MAX_TOKENS,
    built_in_folder,
    built_in_graph,
    built_in_model,
    foreign_code,
    load_model,
    sha256_of,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUILT_IN_NAMES = (BUILT_IN_ENCODER, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
"""The last two are its names on the hub: the same weights, so there is nothing to ask there."""
BATCH_TOKENS = 1024
"""Padded tokens per run: 4 whole abstracts. On 2 cores 512 to 2,048 give 27-28 abstracts/s, 8,192 give 24."""
WINDOW = 1024
"""Texts tokenized at once: bounds the memory, and leaves enough texts to find some of equal length."""
TORCH_WINDOW = 256
"""Texts given to sentence-transformers at once, between two reports of progress."""
SPIN_US = 2000
"""How long threads wait awake: a question takes 4 ms, 7.5 if they sleep; by default they burn 40 ms of CPU after it."""

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_HASHED = {".json", ".txt", ".model", ".safetensors", ".bin"}

Vectors = NDArray[np.float32]
Progress = Callable[[int], None]


class Encoder(Protocol):
    """Turns texts into vectors whose dot product is their similarity; may be called from several threads."""

    identity: str
    """Names the weights, whatever the backend: only vectors of one identity may be compared."""
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
    """Open the encoder that `config` names.

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
    if backend == "onnx":
        raise ConfigError(f"encoder_backend 'onnx' serves the built-in encoder alone, not {name!r}; set 'auto'")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return SentenceTransformerEncoder(load_model(folder), f"{folder.resolve().name}@{_fingerprint(folder)}")
    if folder.exists() or not _HUB_NAME.fullmatch(name) or nearest(name, [BUILT_IN_ENCODER]):
        raise ConfigError(f"encoder is {name!r}, which is no folder; give a model's folder or {BUILT_IN_ENCODER!r}")
    return _open_from_hub(name if "/" in name else f"sentence-transformers/{name}")


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


class OnnxEncoder:
    """The built-in all-MiniLM-L6-v2 on ONNX Runtime; it has no prompts: queries and documents are encoded alike."""

    identity, dim, max_tokens = BUILT_IN_IDENTITY, BUILT_IN_DIM, BUILT_IN_MAX_TOKENS

    def __init__(self, graph: Path, tokenizer: Path) -> None:
        """Read an exported graph and a `tokenizer.json`."""
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        options.intra_op_num_threads = cores or 1
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder`."""
        return self.encode_documents(texts)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """See `Encoder`."""
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), WINDOW):
            window = self._tokenizer.encode_batch_fast(texts[start : start + WINDOW])
            token_ids = [self._cut(each.ids) for each in window]
            for batch in _batches([len(ids) for ids in token_ids]):
                vectors[[start + i for i in batch]] = self._run([token_ids[i] for i in batch])
                if progress:
                    progress(len(batch))
        return _unit(vectors, self.identity)

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `Encoder`."""
        return [each.offsets for each in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _cut(self, ids: list[int]) -> list[int]:
        """Cut to `max_tokens` as sentence-transformers does: the last token stays, it is [SEP]."""
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def _run(self, batch: Sequence[Sequence[int]]) -> Vectors:
        ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, each in enumerate(batch):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        vectors: Vectors = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors


class SentenceTransformerEncoder:
    """Any model that sentence-transformers can load, with the model's own prompts for queries and documents."""

    def __init__(self, model: SentenceTransformer, identity: str) -> None:
        """Take a loaded model; one whose tokenizer gives no offsets is a ConfigError."""
        if not getattr(model.tokenizer, "is_fast", False):
            raise ConfigError(f"encoder {identity!r} has a tokenizer without offsets; choose one with a tokenizer.json")
        self._model = model
        self._lock = threading.Lock()  # the tokenizer changes its state in each call
        self.identity = identity
        self.dim = int(model.encode(["width"], show_progress_bar=False).shape[1])
        self.max_tokens = int(model.max_seq_length or 512)  # 512 is BERT's, for a model that states none

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder`."""
        return self._encode(self._model.encode_query, texts, None)

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
        return _unit(vectors, self.identity)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of texts of like length, longest first, at most `BATCH_TOKENS` padded tokens together."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    while order:
        size = max(1, BATCH_TOKENS // lengths[order[0]])
        yield order[:size]
        order = order[size:]


def _unit(vectors: Vectors, identity: str) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        found = f"a vector of length {norms[bad[0], 0]} for text {bad[0] + 1} of {len(vectors)}"
        raise ConfigError(f"encoder {identity!r} gave {found}; choose another encoder or backend")
    vectors /= norms
    return vectors
