from __future__ import annotations

from pathlib import Path

import pytest

from assistant.tokens import count_tokens


def test_without_a_vocabulary_the_count_is_an_estimate_that_does_not_fall_short() -> None:
    # 10 words and a full stop are at least 11 tokens in any vocabulary of OpenAI's.
    count = count_tokens("The quick brown fox jumps over the lazy sleeping dog.")
    assert not count.exact
    assert 11 <= count.n <= 25


@pytest.mark.parametrize("text", ["", "<|endoftext|>", "名词" * 50, "x" * 100_000, "🧪" * 20])
def test_any_text_can_be_counted(text: str) -> None:
    assert count_tokens(text).n >= len(text.encode()) // 8


def test_a_damaged_vocabulary_is_not_used_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assistant import tokens

    tokens._encoding.cache_clear()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for name in ("fb374d419588a4632f3f557e76b4b70aebbca790", "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"):
        (tmp_path / name).write_bytes(b"noise")
    assert not count_tokens("a b").exact
    assert (tmp_path / "fb374d419588a4632f3f557e76b4b70aebbca790").read_bytes() == b"noise"
    tokens._encoding.cache_clear()
