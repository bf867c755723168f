from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from assistant import Assistant, Config
from assistant.errors import ConfigError
from assistant.rerank import open_reranker

QUERY = "Which paper is about long sequences?"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small random cross-encoders: `one` gives a score a pair, `two` gives two."""
    folder = tmp_path_factory.mktemp("rerankers")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), "long", "paper"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    with warnings.catch_warnings(action="ignore"):
        import torch
        from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

        torch.manual_seed(7)
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        for name, labels in (("one", 1), ("two", 2)):
            config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=256, num_labels=labels, **sizes)
            config.initializer_range = 0.5  # scores far enough apart
            BertForSequenceClassification(config).save_pretrained(folder / name)
            tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=256)
            tokenizer.save_pretrained(folder / name)
    return folder


def test_the_best_papers_come_in_the_rerankers_order_with_the_scores_of_their_places(models: Path) -> None:
    with Assistant(Config()) as plain, Assistant(Config(reranker=str(models / "one"))) as reranked:
        before, after = plain.search(QUERY, k=50), reranked.search(QUERY, k=50)
    assert {hit.paper.id for hit in after} == {hit.paper.id for hit in before}
    assert [hit.paper.id for hit in after] != [hit.paper.id for hit in before]
    assert [hit.score for hit in after] == [hit.score for hit in before]
    assert [hit.rank for hit in after] == [hit.retrievers["reranker"] for hit in after] == list(range(1, 51))
    scores = open_reranker(str(models / "one")).score(QUERY, [f"{hit.paper.title}. {hit.passage}" for hit in after])
    assert (np.diff(scores) <= 1e-5).all()


def test_fewer_hits_are_the_first_of_more(models: Path) -> None:
    with Assistant(Config(reranker=str(models / "one"))) as reranked:
        assert [hit.paper.id for hit in reranked.search(QUERY, k=3)] == [
            hit.paper.id for hit in reranked.search(QUERY, k=50)[:3]
        ]


def test_a_model_with_two_outputs_is_refused(models: Path) -> None:
    with pytest.raises(ConfigError, match="one output"):
        open_reranker(str(models / "two")).score("a", ["b", "c"])


def test_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot load the reranker .*nothing"):
        open_reranker(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"cannot load the reranker"):
        open_reranker(str(tmp_path / "empty"))
