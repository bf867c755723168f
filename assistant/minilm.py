"""The built-in encoder: all-MiniLM-L6-v2 on ONNX Runtime and, for documents, in bf16 on OpenVINO where that is quicker.

In: the graph that `export` made and its tokenizer. Out: float32 rows of length 1. Refused: a processor without bf16
arithmetic, and vectors in bf16 that stray from those in fp32. Questions are always encoded in fp32, so a library can be
searched wherever it is opened, whatever the precision of its vectors; only vectors of one precision are put together.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assistant.errors import ConfigError
from assistant.export import BUILT_IN_DIM, BUILT_IN_IDENTITY, BUILT_IN_MAX_TOKENS, MIN_COSINE, SENTENCES
from assistant.products import cores
from assistant.sharing import remembered

if TYPE_CHECKING:
    import openvino

BF16 = "/bf16"
"""Ends the identity of an encoder whose documents are in bf16."""
BATCH_TOKENS = 1024
"""Padded tokens per run: 4 whole abstracts. 512 to 2,048 serve alike; in bf16 4,096 takes 12 % longer."""
WINDOW = 1024
"""Texts tokenized at once: bounds the memory, and leaves enough texts to find some of equal length."""
LENGTHS = 8
"""In bf16 texts are padded to a multiple of this: OpenVINO keeps something for each shape that it has seen. It
costs less than 1 %."""
MOST_STREAMS = 8
"""Batches under way at once in bf16; beyond so many cores each gets several."""
SPIN_US = 2000
"""How long threads wait awake: a question takes 4 ms, 7.5 if they sleep; by default they burn 40 ms of CPU after it."""

_INSTEAD = "set encoder_backend to 'onnx': documents are encoded in fp32 then, those of a library in bf16 anew"

Vectors = NDArray[np.float32]
Progress = Callable[[int], None]
Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""(texts, tokens) token ids, and the mask that tells them from padding."""


class OnnxEncoder:
    """The built-in all-MiniLM-L6-v2 on ONNX Runtime; it has no prompts: queries and documents are encoded alike."""

    identity, dim, max_tokens = BUILT_IN_IDENTITY, BUILT_IN_DIM, BUILT_IN_MAX_TOKENS

    def __init__(self, graph: Path, tokenizer: Path) -> None:
        """Read an exported graph and a `tokenizer.json`."""
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # Threads run side by side: 8 questions in one batch take 9.6 ms of a core each, alone they take 8.9.
        self._questions = remembered(self._encode_question)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder`."""
        return self._questions(texts)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """See `Encoder`."""
        return self.encode_by(lambda batches: map(self._run, batches), texts, progress)

    def _encode_question(self, texts: Sequence[str]) -> Vectors:
        """Encode a lone question on the shortest way."""
        if len(texts) != 1:
            return self.encode_documents(texts)
        ids = np.array([self._cut(self._tokenizer.encode(texts[0]).ids)], dtype=np.int64)
        return unit(self._run((ids, np.ones_like(ids))), self.identity)

    def encode_by(
        self,
        run: Callable[[Iterable[Batch]], Iterable[Vectors]],
        texts: Sequence[str],
        progress: Progress | None = None,
    ) -> Vectors:
        """Return the rows of `texts`, of which `run` makes batches of like length into rows, in their order."""
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), WINDOW):
            window = self._tokenizer.encode_batch_fast(texts[start : start + WINDOW])
            token_ids = [self._cut(each.ids) for each in window]
            places = list(_batches([len(ids) for ids in token_ids]))
            batches = (_padded([token_ids[i] for i in batch]) for batch in places)
            for batch, rows in zip(places, run(batches), strict=True):
                vectors[[start + i for i in batch]] = rows
                if progress:
                    progress(len(batch))
        return unit(vectors, self.identity)

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `Encoder`."""
        return [each.offsets for each in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _cut(self, ids: list[int]) -> list[int]:
        """Cut to `max_tokens` as sentence-transformers does: the last token stays, it is [SEP]."""
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def _run(self, batch: Batch) -> Vectors:
        ids, mask = batch
        vectors: Vectors = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors


class OpenVinoEncoder:
    """The built-in encoder with documents in bf16 on OpenVINO, which runs a batch on each core; questions as ever."""

    identity, dim, max_tokens = BUILT_IN_IDENTITY + BF16, BUILT_IN_DIM, BUILT_IN_MAX_TOKENS
    _turn = threading.Lock()
    """Where two threads come first to OpenVINO's binding at once, they can block each other for ever."""

    def __init__(
        self, plain: OnnxEncoder, graph: Callable[[], AbstractContextManager[Path]], streams: int | None = None
    ) -> None:
        """Take what is needed once there are documents to encode; see `compile`.

        Args:
            plain: Encodes the questions, and tells what the vectors have to be.
            graph: Gives the exported graph that `plain` was read from.
            streams: Batches under way at once; default: as many as there are cores, at most `MOST_STREAMS`.
        """
        self._plain, self._graph = plain, graph
        self.streams = streams or min(cores(), MOST_STREAMS)
        self._model: openvino.CompiledModel | None = None

    def compile(self) -> float:
        """Compile the graph, unless that is done; return the mean cosine with fp32 over `SENTENCES`.

        Raises:
            ConfigError: OpenVINO is missing or fails, the processor has no bf16, or the vectors are not right.
        """
        with self._turn:
            return self._compiled()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder`."""
        return self._plain.encode_queries(texts)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """See `Encoder`."""
        with self._turn:
            self._compiled()
            return self._plain.encode_by(self._run_all, texts, progress)

    def token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `Encoder`."""
        return self._plain.token_spans(texts)

    def _run_all(self, batches: Iterable[Batch]) -> Iterator[Vectors]:
        """Run batches, from one thread, with one more waiting than are under way."""
        assert self._model
        free = [self._model.create_infer_request() for _ in range(self.streams + 1)]
        begun: deque[openvino.InferRequest] = deque()
        try:
            for batch in batches:
                if not free:
                    yield _finished(begun[0])
                    free.append(begun.popleft())
                begun.append(free.pop())
                begun[-1].start_async(tuple(np.pad(each, _to_multiple(each)) for each in batch))
            yield from map(_finished, begun)
        except RuntimeError as error:
            raise _failed("OpenVINO failed", error) from error

    def _compiled(self) -> float:
        if self._model is None:
            with self._graph() as graph:
                self._model = _compiled(graph, self.streams)
            expected, found = self._plain.encode_documents(SENTENCES), self._plain.encode_by(self._run_all, SENTENCES)
            self._cosine = float((expected * found).sum(axis=1).mean())
        if not self._cosine >= MIN_COSINE:
            found_words = f"a mean cosine of {self._cosine:.6f} with those in fp32, below {MIN_COSINE}"
            raise ConfigError(f"vectors in bf16 have {found_words}; {_INSTEAD}")
        return self._cosine


def _to_multiple(ids: NDArray[np.int64]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, 0), (0, -ids.shape[1] % LENGTHS)


def _finished(request: openvino.InferRequest) -> Vectors:
    request.wait()
    vectors: Vectors = request.get_output_tensor(0).data.copy()  # the next run writes over it
    return vectors


def _compiled(graph: Path, streams: int) -> openvino.CompiledModel:
    """Compile a graph for bf16."""
    # OpenVINO reports to www.google-analytics.com as soon as it is imported, unless its reporter is not to be had.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so says the import system
    try:
        import openvino
    except ImportError as error:
        raise ConfigError("OpenVINO is not installed; run: pip install 'paper-assistant[fast]'") from error
    try:
        core = openvino.Core()
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            name = core.get_property("CPU", "FULL_DEVICE_NAME")
            raise ConfigError(f"the processor ({name}) has no bf16 arithmetic; {_INSTEAD}")
        # Compiled anew by each process that encodes documents: .4 s of a core. To keep it compiled would save .2 s,
        # take 90 MB more, and need a check: a damaged copy loads, and gives wrong vectors.
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": str(streams), "INFERENCE_NUM_THREADS": cores(),
            "ENABLE_CPU_PINNING": False,  # other processes have these cores too
        }  # fmt: skip
        return core.compile_model(graph, "CPU", settings)
    except RuntimeError as error:
        raise _failed("OpenVINO cannot load the encoder", error) from error


def _failed(what: str, error: RuntimeError) -> ConfigError:
    return ConfigError(f"{what}: {' '.join(str(error).split())[:300]}; {_INSTEAD}")


def unit(vectors: Vectors, identity: str) -> Vectors:
    """Bring rows to length 1, in place; one that has no length is a ConfigError that names the encoder."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        found = f"a vector of length {norms[bad[0], 0]} for text {bad[0] + 1} of {len(vectors)}"
        raise ConfigError(f"encoder {identity!r} gave {found}; choose another encoder or backend")
    vectors /= norms
    return vectors


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of texts of like length, longest first, at most `BATCH_TOKENS` padded tokens together."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    while order:
        size = max(1, BATCH_TOKENS // lengths[order[0]])
        yield order[:size]
        order = order[size:]


def _padded(token_ids: Sequence[Sequence[int]]) -> Batch:
    ids = np.zeros((len(token_ids), max(map(len, token_ids))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, each in enumerate(token_ids):
        ids[row, : len(each)] = each
        mask[row, : len(each)] = 1
    return ids, mask
